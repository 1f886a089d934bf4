"""Whole histories: the network that reads them, and what a batch asks of it. Agents that learn at every event share it.

Inside, events stand at the front of a row and padding, item n_items, behind them: see `agents.networks.sequence_cores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.networks.hyperparameters import at_least_one, below_one, not_negative, positive
from agents.networks.layers import Dropout
from agents.networks.sequence_cores import make_core, to_front
from agents.networks.tensors import products, to_tensor
from recgym.batches.sequence_batches import SequenceBatch
from recgym.frames import Batch, History


@dataclass(frozen=True)
class SequenceConfig:
    """Hyperparameters that agents over whole histories share; each algorithm adds its own."""

    core: Literal["transformer", "gated", "gru", "lstm", "convolution"] = "gru"  # what reads the events
    max_length: int = at_least_one(200)  # newest events that are looked at
    width: int = at_least_one(64)  # of item vectors and hidden vectors
    n_layers: int = at_least_one(1)  # of the core
    n_heads: int = at_least_one(1)  # of the transformer
    lr: float = positive(1e-3)  # Adam's step size
    dropout: float = below_one(0.2)  # share of hidden units dropped while learning
    weight_decay: float = not_negative(0.0)  # decoupled weight decay
    max_norm: float | None = positive(10.0)  # gradients longer than this are shortened to it; None never
    mask_seen: bool = True  # whether items of the history are left out of what is shown
    # What is learned of rewards is of them times this; None: the largest becomes 1.
    reward_scale: float | None = positive(None)
    temperature: float = positive(1.0)  # exploring draws an item from softmax(scores / temperature)
    # Scores are inner products, or this many times cosines (20 is common); lengths then say nothing of popularity.
    cosine: float | None = positive(None)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32


class Questions(NamedTuple):
    """Sequences whose events stand at the front, and which item follows each; padding is item n_items."""

    items: torch.Tensor  # (B, L) int64
    targets: torch.Tensor  # (B, L) int64 the item after each event, n_items where none is asked for
    rewards: torch.Tensor  # (B, L) its reward


class Steps(NamedTuple):
    """Sequences with their events at the front, what was done at each event and whether anything came of it."""

    items: torch.Tensor  # (B, L) int64
    targets: torch.Tensor  # (B, L) int64 the item taken after each event, n_items where none is known
    rewards: torch.Tensor  # (B, L) its reward
    goes_on: torch.Tensor  # (B, L) bool: the state after it is that of the next column
    terminated: torch.Tensor  # (B, L) bool: the session ended with it


class SequenceNetwork(nn.Module):
    """Item vectors and a causal core: histories to hidden vectors, which score items by their inner product.

    Args:
        n_items: Number of items.
        core: (B, L, width) to (B, L, width), see `agents.networks.sequence_cores`.
        width: Width of item vectors.
        dropout: Share of the vectors' numbers dropped while training.
        vectors: Item vectors (n_items + 1, d), last row zero, to make the network's from; None learns free ones.
        cosine: Where given, scores are this many times cosines.
    """

    vectors: torch.Tensor

    def __init__(
        self,
        n_items: int,
        core: nn.Module,
        width: int,
        dropout: float = 0.0,
        vectors: torch.Tensor | None = None,
        cosine: float | None = None,
    ) -> None:
        super().__init__()
        self.core, self.dropout, self.scale, self.cosine = core, Dropout(dropout), width**0.5, cosine
        self.free = vectors is None
        self.sizes: list[int] | None = None  # of the parts of a catalog that grew, see `tensors.products`
        size = n_items + 1 if vectors is None else vectors.shape[1]
        self.weight = nn.Parameter(torch.randn(size, width) * (0.02 if vectors is None else 0.02 / size**0.5))
        if vectors is not None:
            self.register_buffer("vectors", vectors, persistent=False)

    def table(self) -> torch.Tensor:
        """Returns item vectors (n_items, width); they score, and `scale` times as long they come in."""
        table = self._table()
        return table if self.cosine is None else functional.normalize(table, dim=1)

    def _table(self) -> torch.Tensor:
        if self.free:
            return self.weight[:-1]
        if self.sizes is None:
            return self.vectors[:-1] @ self.weight
        return torch.cat([part @ self.weight for part in self.vectors[:-1].split(self.sizes)])

    def forward(self, items: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Returns the hidden vectors (B, L, width) of sequences (B, L) with their events at the front."""
        padding = items == len(table)
        vectors = functional.embedding(items.masked_fill(padding, 0), table)  # without a padded copy of the table
        vectors = vectors.masked_fill(padding[..., None], 0.0) * self.scale
        hidden: torch.Tensor = self.core(self.dropout(vectors))
        return hidden if self.cosine is None else functional.normalize(hidden, dim=2) * self.cosine


def make_network(n_items: int, config: SequenceConfig, vectors: torch.Tensor | None = None) -> SequenceNetwork:
    """Returns a fresh network; `vectors` as of `SequenceNetwork`."""
    c = config
    core = make_core(c.core, c.width, c.max_length, c.n_layers, c.n_heads, c.dropout)
    return SequenceNetwork(n_items, core, c.width, c.dropout, vectors, c.cosine)


def make_optimizer(network: nn.Module, config: SequenceConfig) -> torch.optim.Optimizer:
    """Returns Adam for a network."""
    return torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)


def next_scores(network: SequenceNetwork, history: History, max_length: int, device: torch.device) -> torch.Tensor:
    """Returns scores (B, n_items) float32 of what comes after the newest event; an empty history's are all 0."""
    table = network.table()  # (n_items, width)
    hidden = newest_hidden(network, table, history, max_length, device)
    return products(hidden, table, network.sizes or [len(table)])


def newest_hidden(
    network: SequenceNetwork, table: torch.Tensor, history: History, max_length: int, device: torch.device
) -> torch.Tensor:
    """Returns the hidden vectors (B, width) at the newest event of histories; zero where there is none."""
    items = to_tensor(history.items[:, -max_length:], device).long()
    length = to_tensor(history.length, device).long().clamp(max=items.shape[1])
    hidden = network(to_front(items, length), table)  # (B, L, width)
    newest = hidden[torch.arange(items.shape[0], device=device), (length - 1).clamp(min=0)]
    found: torch.Tensor = newest * (length > 0)[:, None]
    return found


def questions(
    batch: Batch | SequenceBatch,
    n_items: int,
    max_length: int,
    device: torch.device,
    returns: bool = False,
    scale: float = 1.0,
) -> Questions:
    """Returns what a batch asks: of sequences what comes next at each step, of frames the action.

    Args:
        batch: Sequences or frames; their newest `max_length` events are looked at.
        n_items: Number of items; also padding.
        max_length: See there.
        device: Where to.
        returns: Whether rewards are the batch's returns.
        scale: What rewards are multiplied by.
    """
    if isinstance(batch, SequenceBatch):
        given = batch.returns if returns else batch.target_rewards
        columns = (column[:, -max_length:] for column in (batch.items, batch.targets, given))
        items, targets, rewards = (to_tensor(column, device) for column in columns)
        length = to_tensor(batch.length, device).long().clamp(max=items.shape[1])
        return Questions(*(to_front(part, length) for part in (items.long(), targets.long(), rewards.float() * scale)))
    items = to_tensor(batch.items[:, -max_length:], device).long()
    length = (items != n_items).sum(dim=1)
    last = torch.arange(items.shape[1], device=device) == length[:, None] - 1  # (B, F)
    given = batch.returns if returns else batch.reward
    action, reward = (to_tensor(part, device)[:, None] for part in (batch.action, given))
    targets = torch.where(last, action.long(), n_items)
    return Questions(to_front(items, length), targets, (reward.float() * scale).expand(last.shape))


def steps_of(
    batch: Batch | SequenceBatch, n_items: int, max_length: int, device: torch.device, scale: float = 1.0
) -> Steps:
    """Returns the steps of a batch: of sequences each event's, of frames the action and the state after it.

    `max_length` and `scale` are as of `questions`.
    """
    if isinstance(batch, SequenceBatch):
        asked = questions(batch, n_items, max_length, device, scale=scale)
        goes_on = functional.pad(asked.targets[:, 1:] < n_items, (0, 1))
        over = (asked.targets < n_items) & ~goes_on  # the last step
        ended = over & to_tensor(batch.terminated, device)[:, None] if batch.terminated is not None else over & False
        return Steps(*asked, goes_on, ended)
    action = to_tensor(batch.action, device).long()
    items = to_tensor(batch.items[:, 1 - max_length :], device).long()  # (B, F)
    length = (items != n_items).sum(dim=1)  # (B,)
    taken = torch.arange(items.shape[1] + 1, device=device) == length[:, None] - 1  # (B, F+1)
    terminated = taken & to_tensor(batch.terminated, device).bool()[:, None]
    return Steps(
        items=to_front(torch.cat([items, action[:, None]], dim=1), length + 1),
        targets=torch.where(taken, action[:, None], n_items),
        rewards=(to_tensor(batch.reward, device).float() * scale)[:, None].expand(taken.shape),
        goes_on=taken & ~terminated,
        terminated=terminated,
    )
