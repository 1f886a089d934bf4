"""Next-item models of whole histories, learned by cross-entropy over all items: SASRec's, GRU4Rec's and their kin.

Papers: Kang and McAuley (2018), Self-attentive sequential recommendation, ICDM (`core="transformer"`); Hidasi et al.
(2016), Session-based recommendations with recurrent neural networks, ICLR (`core="gru"`). At every event of a history
the core's hidden vector h asks for the next item; with item vectors E, the same that come in, we lower
    mean over events of  - log softmax(h E^T)[next item]
Where we differ:
- The softmax is over all items, where SASRec has one negative and GRU4Rec those of the batch: Klenitskiy and Vasilev
  (2023), Turning dross into gold loss, RecSys, find this worth more than any architecture. `n_negatives` draws some.
- Position counts from the oldest event kept, so that a long history's newest event stands where it stood in training.
- `item_vectors="catalog"` makes E from the catalog's vectors by a learned linear map, instead of free ones.
- With `bc_reward` the next items with good rewards count more, as in `agents.ddpg`; by default rewards do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.base import to_tensor
from agents.cores import make_core, to_front
from agents.item_agent import ItemAgent
from agents.networks import Dropout, descend
from agents.softmax import softmax_loss
from agents.train import Run, train_agent
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.log import InteractionLog


@dataclass(frozen=True)
class Config:
    """Hyperparameters of sequence models."""

    core: Literal["transformer", "gru", "lstm", "convolution"] = "transformer"  # what reads the events
    max_length: int = 200  # newest events that are looked at
    width: int = 64  # of item vectors and hidden vectors
    n_layers: int = 2  # of the core
    n_heads: int = 1  # of the transformer
    item_vectors: Literal["learned", "catalog"] = "learned"  # free ones, or a linear map of the catalog's
    n_negatives: int = 0  # items drawn per batch for the softmax; 0 takes all, for catalogs that allow it
    bc_reward: float = 0.0  # a next item counts exp(bc_reward * its reward), over the batch's sum of it
    lr: float = 1e-3  # Adam's step size
    dropout: float = 0.2  # share of hidden units dropped while learning
    weight_decay: float = 0.0  # decoupled weight decay
    max_norm: float | None = 10.0  # gradients longer than this are shortened to it; None never
    mask_seen: bool = True  # whether items of the history are left out of what is shown
    temperature: float = 1.0  # exploring draws an item from softmax(scores / temperature)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise DataError(f"max_length must be at least 1, got {self.max_length}; give the events looked at")


class Questions(NamedTuple):
    """Sequences whose events stand at the front, and which item follows each; padding is item n_items."""

    items: torch.Tensor  # (B, L) int64
    targets: torch.Tensor  # (B, L) int64 the item after each event, n_items where none is asked for
    rewards: torch.Tensor  # (B, L) its reward


class SequenceNetwork(nn.Module):
    """Item vectors and a causal core: histories to hidden vectors, which score items by their inner product.

    Args:
        n_items: Number of items.
        core: (B, L, width) to (B, L, width), see `agents.cores`.
        width: Width of item vectors.
        dropout: Share of the vectors' numbers dropped while training.
        vectors: Item vectors (n_items + 1, d), last row zero, to make the network's from; None learns free ones.
    """

    vectors: torch.Tensor

    def __init__(
        self, n_items: int, core: nn.Module, width: int, dropout: float = 0.0, vectors: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.core, self.dropout, self.scale = core, Dropout(dropout), width**0.5
        self.free = vectors is None
        size = n_items + 1 if vectors is None else vectors.shape[1]
        self.weight = nn.Parameter(torch.randn(size, width) * (0.02 if vectors is None else 0.02 / size**0.5))
        if vectors is not None:
            self.register_buffer("vectors", vectors, persistent=False)

    def table(self) -> torch.Tensor:
        """Returns item vectors (n_items, width); they score, and `scale` times as long they come in."""
        return self.weight[:-1] if self.free else self.vectors[:-1] @ self.weight

    def forward(self, items: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Returns the hidden vectors (B, L, width) of sequences (B, L) with their events at the front."""
        vectors = functional.pad(table, (0, 0, 0, 1))  # (n_items + 1, width), padding zero
        hidden: torch.Tensor = self.core(self.dropout(functional.embedding(items, vectors) * self.scale))
        return hidden


class Networks(NamedTuple):
    """The network of a sequence model."""

    network: Any


class Optimizers(NamedTuple):
    """Its optimizer."""

    network: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns a fresh network for items with the given vectors (n_items + 1, d), padding last."""
    c = config
    core = make_core(c.core, c.width, c.max_length, c.n_layers, c.n_heads, c.dropout)
    known = table if c.item_vectors == "catalog" else None
    return Networks(SequenceNetwork(len(table) - 1, core, c.width, c.dropout, known))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the network."""
    parameters = nets.network.parameters()
    return Optimizers(torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True))


class SequenceModel(ItemAgent):
    """A next-item model of whole histories; see the head of this file, and `ItemAgent` for its arguments.

    It learns from sequences, at all their events, or from frames, where the action is what follows the last event. It
    looks at the newest `max_length` events of a history, whatever the frame size; an empty one scores all items alike.
    """

    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32 of what comes after the newest event."""
        items = to_tensor(history.items[:, -self.config.max_length :], self.device).long()
        length = to_tensor(history.length, self.device).long().clamp(max=items.shape[1])
        table = self.nets.network.table()  # (n_items, width)
        hidden = self.nets.network(to_front(items, length), table)  # (B, L, width)
        newest = hidden[torch.arange(len(items), device=self.device), (length - 1).clamp(min=0)]
        scores: torch.Tensor = (newest * (length > 0)[:, None]) @ table.T
        return scores

    def step(self, batch: Batch | SequenceBatch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its loss."""
        questions = self.ask(batch)
        return sequence_update(
            questions, self.nets, self.optimizers, self.config, generator=self.generator, learn=learn
        )

    def ask(self, batch: Batch | SequenceBatch) -> Questions:
        """Returns what a batch asks: of sequences what comes next at each step, of frames the action."""
        if isinstance(batch, SequenceBatch):
            columns = batch.items, batch.length, batch.targets, batch.target_rewards
            items, length, targets, rewards = (to_tensor(column, self.device) for column in columns)
            length = length.long()
            return Questions(*(to_front(part, length) for part in (items.long(), targets.long(), rewards)))
        items, n_items = to_tensor(batch.items, self.device).long(), self.catalog.n_items
        length = (items != n_items).sum(dim=1)
        last = torch.arange(items.shape[1], device=self.device) == length[:, None] - 1  # (B, F)
        action, reward = (to_tensor(part, self.device)[:, None] for part in (batch.action, batch.reward))
        return Questions(to_front(items, length), torch.where(last, action.long(), n_items), reward.expand(last.shape))

    def batches(self, log: InteractionLog, batch_size: int, seed: int = 0, later: float = 0.0) -> SequenceBatches:
        """Returns what this agent learns best from: whole users, `batch_size` at a time; `later` is for frames."""
        return SequenceBatches(log, batch_size, self.config.max_length, seed, device=self.device)


def sequence_update(
    batch: Questions,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of a sequence model, or only measures its loss; returns it as a 0-d tensor.

    Args:
        batch: Sequences, and what follows their events.
        nets: The network to change.
        optimizers: Its optimizer.
        config: Hyperparameters.
        generator: Random stream that negatives are drawn from; used only if `config.n_negatives` is set.
        learn: Whether to change anything.
    """
    nets.network.train(learn)
    table = nets.network.table()  # (n_items, width)
    asked = batch.targets < len(table)  # (B, L)
    hidden = nets.network(batch.items, table)[asked].float()  # (N, width)
    nets.network.eval()
    targets = batch.targets[asked]  # (N,)
    weights = torch.softmax(config.bc_reward * batch.rewards[asked], dim=0)  # (N,): exp(...) over its sum
    if config.n_negatives == 0:
        loss = softmax_loss(hidden, table.float(), targets, weights)
    else:
        drawn = torch.randint(len(table), (config.n_negatives,), generator=generator, device=table.device)  # (n,)
        own = (hidden * table[targets]).sum(dim=1, keepdim=True)  # (N, 1)
        others = (hidden @ table[drawn].T).masked_fill(drawn == targets[:, None], -torch.inf)  # (N, n)
        scores = torch.cat([own, others], dim=1)
        loss = (weights * functional.cross_entropy(scores, torch.zeros_like(targets), reduction="none")).sum()
    if learn:
        descend(loss, nets.network, optimizers.network, config.max_norm)
    return {"loss": loss.detach()}


def main(run: Run, config: Config) -> None:
    """Trains a sequence model on a log and prints how it ranks for held-out users."""
    train_agent(SequenceModel, run, config)


if __name__ == "__main__":
    import tyro

    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
