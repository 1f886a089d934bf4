"""State encoders, shared by all agents: from B histories, as vectors and rewards, to states (B, out_dim).

Every encoder is a plain module called `encoder(vectors (B, L, d), rewards (B, L), length (B,), user (B,) or None)`.
Histories are padded on the left, `length` says how many of the last events are real, and nothing else of a history is
looked at: more padding changes no state. `out_dim` is the width of a state.

Inside, cores that read events in order (GRU, LSTM, transformer, convolution) get them moved to the front. As none of
them looks ahead, padding that stands behind the events needs no mask, and event t always has position t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agents.networks.sequence_cores import make_core, to_front
from recgym.errors import DataError

ENCODERS = ("flat", "drr", "attention", "self_attention", "gru", "lstm", "transformer", "convolution")


def make_encoder(
    name: str,
    dim: int,
    frame_size: int = 10,
    *,
    width: int = 64,
    n_layers: int = 1,
    n_heads: int = 1,
    dropout: float = 0.0,
    n_users: int = 0,
) -> nn.Module:
    """Returns a fresh encoder.

    Args:
        name: One of `ENCODERS`.
        dim: Width d of item vectors.
        frame_size: F, the newest events that are looked at.
        width: Width of hidden vectors; `flat` and `drr` have none.
        n_layers: Layers of `gru`, `lstm` and `transformer`; `convolution` has as many as see the whole frame.
        n_heads: Heads of `transformer`.
        dropout: Share of hidden units dropped while training, in `transformer` and `convolution`.
        n_users: Users that `drr` and `attention` learn a vector for; 0 learns one for all.

    Raises:
        DataError: if the name is unknown.

    Example:
        >>> encoder = make_encoder("gru", dim=3, frame_size=5, width=8)
        >>> encoder(torch.ones(2, 5, 3), torch.ones(2, 5), torch.tensor([5, 1])).shape, encoder.out_dim
        (torch.Size([2, 8]), 8)
    """
    if name not in ENCODERS:
        raise DataError(f"encoder must be one of {', '.join(ENCODERS)}, got {name!r}; choose one of them")
    if name == "flat":
        return FlatFrame(dim, frame_size)
    if name == "drr":
        return DrrAverage(dim, frame_size, n_users)
    if name == "attention":
        return UserAttention(dim, frame_size, width, n_users)
    if name == "self_attention":
        return SelfAttention(dim, frame_size, width)
    return LastEvent(dim, frame_size, make_core(name, width, frame_size, n_layers, n_heads, dropout), width)


# -- encoders ----------------------------------------------------------------------------------------------------------


class FlatFrame(nn.Module):
    """The frame itself: F vectors oldest first, then F rewards; RecNN's state, `recgym.frames.encode_frame`."""

    def __init__(self, dim: int, frame_size: int) -> None:
        super().__init__()
        self.frame_size = frame_size
        self.out_dim = frame_size * (dim + 1)

    def forward(
        self, vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns states (B, F * (d + 1))."""
        vectors, rewards, real = newest(vectors, rewards, length, self.frame_size)
        return torch.cat([(vectors * real[..., None]).flatten(1), rewards * real], dim=1)


class DrrAverage(nn.Module):
    """The state module DRR-ave: the user's vector u, its product with the frame's weighted average g, and g.

    g is the sum over places of w_f times the item's vector, plus a bias, with one learned weight per place. As in the
    paper only items the user liked count, those with a reward above 0.

    Source: Liu et al. (2018), Deep reinforcement learning based recommendation with explicit user-item interactions
    modeling, arXiv:1810.12027, section 4.2; there the state is (u, u * g, g) too.

    Args:
        dim: Width d of item vectors, and so of user vectors.
        frame_size: F.
        n_users: Users that have a vector; whoever is not named (`user=None`) has one more in common.
    """

    def __init__(self, dim: int, frame_size: int, n_users: int = 0) -> None:
        super().__init__()
        self.frame_size, self.out_dim = frame_size, 3 * dim
        self.users = nn.Embedding(n_users + 1, dim)  # the last row is whoever is not named
        self.weight = nn.Parameter(torch.rand(frame_size))
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.users.weight, std=0.01)

    def forward(
        self, vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns states (B, 3 d)."""
        vectors, rewards, real = newest(vectors, rewards, length, self.frame_size)
        liked = real & (rewards > 0)  # (B, F)
        average = ((self.weight * liked)[..., None] * vectors).sum(dim=1) + self.bias  # (B, d)
        own = user_vectors(self.users, user, vectors.shape[0])  # (B, d)
        return torch.cat([own, own * average, average], dim=1)


class UserAttention(nn.Module):
    """The user's vector, and what it finds in the frame: softmax attention with the user as the query.

    Source: Vaswani et al. (2017), Attention is all you need, equation 1, with one head.
    """

    def __init__(self, dim: int, frame_size: int, width: int = 64, n_users: int = 0) -> None:
        super().__init__()
        self.frame_size, self.out_dim = frame_size, 2 * width
        self.users = nn.Embedding(n_users + 1, width)
        self.key, self.value = nn.Linear(dim + 1, width), nn.Linear(dim + 1, width)

    def forward(
        self, vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns states (B, 2 width)."""
        vectors, rewards, real = newest(vectors, rewards, length, self.frame_size)
        events = torch.cat([vectors, rewards[..., None]], dim=2)  # (B, F, d + 1)
        own = user_vectors(self.users, user, vectors.shape[0])  # (B, width)
        found = _attend(own[:, None], self.key(events), self.value(events), real)[:, 0]
        return torch.cat([own, found], dim=1)


class SelfAttention(nn.Module):
    """The mean over the frame's events of what each finds among the others by attention; it knows no order."""

    def __init__(self, dim: int, frame_size: int, width: int = 64) -> None:
        super().__init__()
        self.frame_size, self.out_dim = frame_size, width
        self.query, self.key = nn.Linear(dim + 1, width), nn.Linear(dim + 1, width)
        self.value = nn.Linear(dim + 1, width)

    def forward(
        self, vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns states (B, width)."""
        vectors, rewards, real = newest(vectors, rewards, length, self.frame_size)
        events = torch.cat([vectors, rewards[..., None]], dim=2)  # (B, F, d + 1)
        found = _attend(self.query(events), self.key(events), self.value(events), real)  # (B, F, width)
        return (found * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)


class LastEvent(nn.Module):
    """What a causal core says at the newest event; zero where there is none."""

    def __init__(self, dim: int, frame_size: int, core: nn.Module, width: int = 64) -> None:
        super().__init__()
        self.frame_size, self.out_dim = frame_size, width
        self.enter = nn.Linear(dim + 1, width)
        self.core = core

    def forward(
        self, vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns states (B, width)."""
        vectors, rewards, real = newest(vectors, rewards, length, self.frame_size)
        length = real.sum(dim=1)
        events = to_front(torch.cat([vectors, rewards[..., None]], dim=2), length)  # (B, F, d + 1)
        hidden = self.core(self.enter(events))  # (B, F, width)
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, (length - 1).clamp(min=0)] * (length > 0)[:, None]


# -- parts -------------------------------------------------------------------------------------------------------------


def newest(
    vectors: torch.Tensor, rewards: torch.Tensor, length: torch.Tensor, frame_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the last F events, padded with zeros if there are fewer: vectors, rewards and which are real (B, F)."""
    vectors, rewards = vectors[:, -frame_size:], rewards[:, -frame_size:]
    missing = frame_size - vectors.shape[1]
    if missing:
        vectors, rewards = functional.pad(vectors, (0, 0, missing, 0)), functional.pad(rewards, (missing, 0))
    places = torch.arange(frame_size, 0, -1, device=length.device)  # F..1: the newest is the first from the end
    return vectors, rewards, places <= length[:, None]


def user_vectors(users: nn.Embedding, user: torch.Tensor | None, n_rows: int) -> torch.Tensor:
    """Returns the vectors (B, width) of users, or of whoever is not named: the last row."""
    return users.weight[-1].expand(n_rows, -1) if user is None else users(user)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Returns what queries (B, Q, width) find among the real ones of L events (B, Q, width); zero if none is real."""
    some = real.any(dim=1)[:, None, None]  # (B, 1, 1)
    found: Any = functional.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None] | ~some)
    return found * some
