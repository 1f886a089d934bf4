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
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch

from agents.item_agent import ItemAgent
from agents.networks.hyperparameters import at_least_one, count
from agents.networks.layers import descend
from agents.networks.scaling import reward_scale
from agents.networks.sequence_network import (
    Questions,
    SequenceConfig,
    make_network,
    make_optimizer,
    next_scores,
    questions,
)
from agents.networks.softmax_loss import catalog_loss
from agents.networks.whole_batch import shares_of
from agents.training.train import Run, command, fit, train_agent
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History
from recgym.log import InteractionLog


@dataclass(frozen=True)
class Config(SequenceConfig):
    """Hyperparameters of sequence models, with those of `SequenceConfig`."""

    core: Literal["transformer", "gated", "gru", "lstm", "convolution"] = "transformer"  # what reads the events
    n_layers: int = at_least_one(2)  # of the core
    item_vectors: Literal["learned", "catalog"] = "learned"  # free ones, or a linear map of the catalog's
    # Items drawn per batch for the softmax; 0: all, None: all but of large catalogs.
    n_negatives: int | None = count(None)
    bc_reward: float = 0.0  # a next item counts exp(bc_reward * its reward), over the batch's sum of it


class Networks(NamedTuple):
    """The network of a sequence model."""

    network: Any


class Optimizers(NamedTuple):
    """Its optimizer."""

    network: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns a fresh network for items with the given vectors (n_items + 1, d), padding last."""
    return Networks(make_network(len(table) - 1, config, table if config.item_vectors == "catalog" else None))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the network."""
    return Optimizers(make_optimizer(nets.network, config))


class SequenceModel(ItemAgent):
    """A next-item model of whole histories; see the head of this file, and `ItemAgent` for its arguments.

    It learns from sequences, at all their events, or from frames, where the action is what follows the last event. It
    looks at the newest `max_length` events of a history, whatever the frame size; an empty one gets the popular items.
    """

    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    @classmethod
    def fit(cls, log: InteractionLog, *, seed: int = 0, device: str | torch.device = "auto", **config: Any) -> Self:
        """Returns a model trained on a log for as long as a tenth of its users, held out, are ranked better by it.

        Args:
            log: What is learned from.
            seed: Of the model and its batches.
            device: Where it lives.
            **config: Fields of `Config`; free item vectors and a GRU unless told otherwise.
        """
        train, held = log.split_users(test_size=0.1, seed=seed)
        catalog = Catalog(np.ones((log.n_items, 1), dtype=np.float32), log.item_ids, log.reward)
        model = cls(catalog, seed=seed, device=device, **{"core": "gru", "n_layers": 1, **config})
        batches: Any = model.batches(train, batch_size=min(128, train.n_users), seed=seed)
        fit(model, batches, "auto", validation=held)
        return model

    def ranked(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32 of what comes after the newest event."""
        return next_scores(self.nets.network, history, self.config.max_length, self.device)

    def step(self, batch: Batch | SequenceBatch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its loss."""
        questions = self.ask(batch)
        return sequence_update(
            questions, self.nets, self.optimizers, self.config, generator=self.generator, learn=learn
        )

    def ask(self, batch: Batch | SequenceBatch) -> Questions:
        """Returns what a batch asks: of sequences what comes next at each step, of frames the action."""
        size, scale = self.config.max_length, reward_scale(self)
        return questions(batch, self.catalog.n_items, size, self.device, scale=scale)

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
        generator: Random stream that negatives are drawn from; see `config.n_negatives`.
        learn: Whether to change anything.
    """
    nets.network.train(learn)
    table = nets.network.table()  # (n_items, width)
    asked = batch.targets < len(table)  # (B, L)
    hidden = nets.network(batch.items, table)[asked].float()  # (N, width)
    nets.network.eval()
    targets = batch.targets[asked]  # (N,)
    weights = shares_of(config.bc_reward * batch.rewards[asked])  # (N,): exp(...) over its sum
    loss = catalog_loss(hidden, table.float(), targets, weights, config.n_negatives, generator)
    if learn:
        descend(loss, nets.network, optimizers.network, config.max_norm)
    return {"loss": loss.detach()}


def main(run: Run, config: Config) -> None:
    """Trains a sequence model on a log and prints how it ranks for held-out users."""
    train_agent(SequenceModel, run, config)


if __name__ == "__main__":
    command(main)
