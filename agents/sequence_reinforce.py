"""REINFORCE over whole histories: a next-item model that learns at every event by what came of it.

Paper: Chen et al. (2019), Top-K off-policy correction for a REINFORCE recommender system, WSDM, sections 4.2 to 4.5;
its recommender is such a model. One core reads a history, as in `agents.sequence`; at every event the policy pi is the
softmax over the inner products of its hidden vector with item vectors. For the item a that came next, with return R,
and the behaviour policy beta, we lower, over all events of a batch,
    - mean( gain * log pi(a|s) )  -  bc_weight * mean( log pi(a|s) )
where the gain is that of `agents.training.off_policy`. Beta is a second softmax on the same hidden vectors, learned by
cross-entropy without a gradient into them, as in the paper's section 4.3. It differs from the paper where
`agents.reinforce` does, and for the same reasons; `preset="paper"` is the paper's, see the class for what it sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.item_agent import ItemAgent
from agents.networks.hyperparameters import at_least_one, count, not_negative, positive, share
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
from agents.networks.softmax_loss import catalog_loss, log_softmax_of
from agents.networks.whole_batch import even_weights, mean_of
from agents.training.off_policy import check_correction, gains
from agents.training.replay import ReplayBuffer
from agents.training.session_replay import returns_buffer
from agents.training.train import Run, command, train_agent
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.log import InteractionLog


@dataclass(frozen=True)
class Config(SequenceConfig):
    """Hyperparameters of REINFORCE over sequences, with those of `SequenceConfig`; `lr` is the policy's."""

    correction: Literal["none", "off_policy", "top_k"] = "top_k"  # which of the three forms
    k: int = at_least_one(10)  # K, items of a list
    weight_cap: float = positive(2.0)  # importance weights are cut off here
    # Subtracted from every return: a number, "lowest" for the lower of -1 and the batch's lowest, None for its mean.
    baseline: float | Literal["lowest"] | None = "lowest"
    normalise: bool = True  # whether gains are divided by their batch's mean magnitude
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    gamma: float = share(0.0)  # discount of the returns; 0 learns from the reward alone
    beta_lr: float = not_negative(1e-3)  # Adam's step size for the behaviour policy
    # Items drawn per batch for the softmax; 0: all, None: all but of large catalogs.
    n_negatives: int | None = count(None)

    def __post_init__(self) -> None:
        check_correction(self.correction, self.baseline)


PAPER: dict[str, Any] = {
    "baseline": 0.0,
    "normalise": False,
    "bc_weight": 0.0,
    "weight_cap": math.exp(3.0),
    "k": 16,
    "gamma": 0.99,
    "n_negatives": 0,
    "dropout": 0.0,
    "max_norm": None,
    "reward_scale": 1.0,
}


class Behaviour(nn.Module):
    """The behaviour policy: a softmax over inner products with item weights of its own, and a number per item."""

    def __init__(self, width: int, n_items: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_items, width + 1))  # the last column is the bias


class Networks(NamedTuple):
    """The network of the policy, and the behaviour policy that stands on its hidden vectors."""

    network: Any
    beta: Any


class Optimizers(NamedTuple):
    """One optimizer for each."""

    network: torch.optim.Optimizer
    beta: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last; they are not used."""
    n_items = len(table) - 1
    return Networks(make_network(n_items, config), Behaviour(config.width, n_items))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for each network."""
    beta = torch.optim.Adam(nets.beta.parameters(), lr=config.beta_lr, fused=True)
    return Optimizers(make_optimizer(nets.network, config), beta)


class SequenceREINFORCE(ItemAgent):
    """REINFORCE over whole histories; see the head of this file, and `ItemAgent` for its arguments.

    It learns from sequences, at all their events, or from frames, where the action is what follows the last event. It
    looks at the newest `max_length` events of a history, whatever the frame size; an empty one gets the popular items.
    """

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def ranked(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32 of what comes after the newest event."""
        return next_scores(self.nets.network, history, self.config.max_length, self.device)

    def step(self, batch: Batch | SequenceBatch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses."""
        asked = self.ask(batch)
        return sequence_reinforce_update(
            asked, self.nets, self.optimizers, self.config, generator=self.generator, learn=learn
        )

    def ask(self, batch: Batch | SequenceBatch) -> Questions:
        """Returns what came next at each event of a batch; in place of its reward its return, with a `gamma`.

        Raises:
            DataError: if `config.gamma` is above 0 and the batch has no returns.
        """
        config, returns = self.config, self.config.gamma > 0.0
        if returns and batch.returns is None:
            raise DataError(f"with gamma={config.gamma} a batch must have returns, got none; make it with gamma=...")
        return questions(batch, self.catalog.n_items, config.max_length, self.device, returns, scale=reward_scale(self))

    def make_buffer(self, capacity: int, frame_size: int, seed: int = 0) -> ReplayBuffer:
        """Returns the buffer this agent learns from in an environment: with returns, if it has a `gamma`."""
        return returns_buffer(self.config.gamma, capacity, frame_size, seed)

    def batches(self, log: InteractionLog, batch_size: int, seed: int = 0, later: float = 0.0) -> SequenceBatches:
        """Returns what this agent learns best from: whole users, `batch_size` at a time; `later` is for frames."""
        gamma = self.config.gamma if self.config.gamma > 0 else None
        return SequenceBatches(log, batch_size, self.config.max_length, seed, gamma=gamma, device=self.device)


def sequence_reinforce_update(
    batch: Questions,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of policy and behaviour policy, or only measures their losses; returns them as 0-d tensors.

    Args:
        batch: Sequences, what follows their events, and what came of it.
        nets: Networks to change.
        optimizers: One for each.
        config: Hyperparameters.
        generator: Random stream that items are drawn from, see `config.n_negatives`.
        learn: Whether to change anything.
    """
    nets.network.train(learn)
    table = nets.network.table()  # (n_items, width)
    asked = batch.targets < len(table)  # (B, L)
    hidden = nets.network(batch.items, table)[asked].float()  # (N, width)
    nets.network.eval()
    items, returns, even = batch.targets[asked], batch.rewards[asked], even_weights(hidden)  # (N,) each
    state = functional.pad(hidden.detach(), (0, 1), value=1.0)  # (N, width + 1)
    settled = hidden.detach()
    if learn and config.dropout > 0.0:  # what a decision counts is the policy's, not that of one draw of its units
        with torch.no_grad():
            settled = nets.network(batch.items, table)[asked].float()
    n = config.n_negatives
    log_pi = log_softmax_of(settled, table.detach(), items, n, generator)  # (N,)
    log_beta = log_softmax_of(state, nets.beta.weight.detach(), items, n, generator)  # (N,)

    gain, weight, top_k = gains(log_pi, log_beta, returns, config)  # (N,)
    actor_loss = catalog_loss(hidden, table.float(), items, even * (gain + config.bc_weight), n, generator)
    beta_loss = catalog_loss(state, nets.beta.weight, items, even, n, generator)
    if learn:
        descend(actor_loss, nets.network, optimizers.network, config.max_norm)
        descend(beta_loss, nets.beta, optimizers.beta, config.max_norm)
    losses = {"actor_loss": actor_loss, "beta_loss": beta_loss, "bc_loss": -mean_of(log_pi)}
    losses |= {"weight": mean_of(weight), "top_k": mean_of(top_k)}
    return {name: loss.detach() for name, loss in losses.items()}


def main(run: Run, config: Config) -> None:
    """Trains REINFORCE over whole histories on a log and prints how it ranks for held-out users."""
    train_agent(SequenceREINFORCE, run, config)


if __name__ == "__main__":
    command(main)
