"""Encoders before networks that take frames in two parts, item vectors (B, F*d) and rewards (B, F)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


class Framed(nn.Module):
    """An encoder that takes a frame in the two parts (vectors (B, F*d), rewards (B, F)), and users if they are known.

    A frame's events begin at its first vector that is not zero, as padding is.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, vectors: torch.Tensor, rewards: torch.Tensor, user: torch.Tensor | None = None) -> torch.Tensor:
        """Returns states (B, out_dim)."""
        state: torch.Tensor = self.encoder(*in_events(vectors, rewards), user)
        return state


class Encoded(nn.Module):
    """A network behind an encoder: takes a frame in two parts as `Framed` does, and what follows."""

    def __init__(self, encoder: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, vectors: torch.Tensor, rewards: torch.Tensor, *rest: torch.Tensor) -> Any:
        """Returns what the network makes of the state and the rest, such as an action (B, d)."""
        state = self.encoder(*in_events(vectors, rewards))
        return self.network(state, *rest)


class EncodedGenerator(Encoded):
    """A generator of actions behind an encoder, see `agents.networks.actors.Generator`."""

    network: Any

    @property
    def latent_dim(self) -> int:
        """Width of a latent point."""
        return int(self.network.latent_dim)

    def decode(self, vectors: torch.Tensor, rewards: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Returns actions (B, d) for a latent point (B, latent_dim) of each state, (B, n, d) for n points."""
        actions: torch.Tensor = self.network.decode(self.encoder(*in_events(vectors, rewards)), points)
        return actions


class EncodedTwins(Encoded):
    """Twin critics behind one encoder, see `agents.networks.twin_critics`."""

    network: Any

    def first_value(self, vectors: torch.Tensor, rewards: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """Returns the first critic's values alone, (B,) or (B, n)."""
        value: torch.Tensor = self.network.first_value(self.encoder(*in_events(vectors, rewards)), *rest)
        return value


LEARNING = ("actor", "critic", "critics", "generator", "perturbator")


def with_encoders(nets: Any, make: Callable[[], nn.Module], names: Sequence[str] = LEARNING) -> Any:
    """Returns a tuple of networks, some behind an encoder of their own; `NAME_target` becomes a copy of `NAME`.

    So agents that take frames in two parts, whose networks may be one's own, have any encoder, and no critic's state is
    moved by an actor's loss. Twin critics share one.

    Args:
        nets: A NamedTuple of networks whose states are as wide as what the encoder makes.
        make: Makes a fresh encoder.
        names: Which of them; names that the tuple has not are passed over.

    Example:
        >>> import numpy as np
        >>> from agents import TD3, td3
        >>> from agents.networks.state_encoders import make_encoder
        >>> from recgym.catalog import Catalog
        >>> catalog = Catalog(np.eye(6), np.arange(6))
        >>> nets = td3.make_networks(16, catalog.dim, td3.Config(hidden=8))  # states of 16 numbers
        >>> nets = with_encoders(nets, lambda: make_encoder("gru", catalog.dim, frame_size=5, width=16))
        >>> agent = TD3(catalog, frame_size=5, device="cpu", nets=nets)
    """

    def encoded(net: nn.Module) -> Encoded:
        if hasattr(net, "decode"):
            return EncodedGenerator(make(), net)
        return (EncodedTwins if hasattr(net, "first_value") else Encoded)(make(), net)

    behind = {name: encoded(net) for name, net in nets._asdict().items() if name in names}
    copies = {f"{name}_target": copy.deepcopy(net) for name, net in behind.items() if hasattr(nets, f"{name}_target")}
    return nets._replace(**behind, **copies)


def in_events(vectors: torch.Tensor, rewards: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns a frame's vectors (B, F, d), rewards (B, F) and lengths (B,), given its vectors (B, F*d) and rewards."""
    events = vectors.view(vectors.shape[0], rewards.shape[1], -1).float()
    padding = (events != 0).any(dim=2).long().cumsum(dim=1) == 0  # (B, F): up to the first event
    return events, rewards, rewards.shape[1] - padding.sum(dim=1)
