"""TD3+BC over whole histories: a next-item model that also follows what twin critics say of its vectors.

Papers: Fujimoto and Gu (2021), A minimalist approach to offline reinforcement learning, NeurIPS, equations 3 and 5;
Fujimoto et al. (2018), Addressing function approximation error in actor-critic methods, ICML, algorithm 1. One core
reads a history, as in `agents.sequence`; its hidden vector at every event is the action mu(s), which scores items by
inner products. For the item a that came next, with vector v(a) and reward r, and the state s' after it, we lower
    critics:  mean( (Q1(s, v(a)) - y)**2 + (Q2(s, v(a)) - y)**2 )
              with y = r + gamma * min(Q1', Q2')(s', v(mu'(s') + noise))
    actor:    - mean( log softmax(mu(s) E^T)[a] ) - alpha * mean( Q1(s, v(mu(s))) ) / mean |Q1|
where the primes mark slow copies and v of an action is the vector of the *expected item*, the mean of item vectors
under softmax(mu E^T), as in `agents.td3_bc`. What critics read, hidden vectors and item vectors, they do not move.
Where we differ: in what `agents.td3_bc` says, and
- The actor imitates alone for `value_after` updates, in which the critics begin to know what they speak of.
- Noise is not cut off at a box, as hidden vectors have none.
- Where the log ends there is no next state and nothing to learn for critics, unless the session was terminated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from agents.base import to_tensor
from agents.item_agent import ItemAgent
from agents.networks.hyperparameters import at_least_one, at_least_two, count, not_negative, share
from agents.networks.layers import Critic, descend, follow, frozen
from agents.networks.losses import scale_of
from agents.networks.scaling import reward_scale
from agents.networks.sequence_network import (
    SequenceConfig,
    Steps,
    make_network,
    make_optimizer,
    newest_hidden,
    next_scores,
    steps_of,
)
from agents.networks.softmax_loss import catalog_loss, drawn_items, expected_vectors
from agents.networks.twin_critics import TwinCritic, clipped_noise
from agents.networks.whole_batch import even_weights, mean_of
from agents.training.train import Run, command, train_agent
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.frames import Batch, History
from recgym.log import InteractionLog


@dataclass(frozen=True)
class Config(SequenceConfig):
    """Hyperparameters of TD3+BC over sequences, with those of `SequenceConfig`; `lr` is the actor's."""

    max_length: int = at_least_two(200)  # newest events that are looked at; what came of one is seen at the next
    gamma: float = share(0.5)  # discount per event; 0 learns from the reward alone
    tau: float = share(0.005)  # share that targets move towards their networks whenever the actor learns
    critic_lr: float = not_negative(1e-3)  # Adam's step size for the critics
    hidden: int = at_least_one(256)  # width of the critics' hidden layers
    policy_delay: int = at_least_one(2)  # the actor and all targets move at every such update
    target_noise: float = not_negative(0.2)  # standard deviation of the noise on the target actor's action
    noise_clip: float = not_negative(0.5)  # that noise stays within plus or minus this
    alpha: float = 0.3  # weight of the value term, which is divided by the mean |Q|
    value_after: int = count(100)  # updates before the value term counts
    # Items drawn per batch for the softmax; 0: all, None: all but of large catalogs.
    n_negatives: int | None = count(None)


PAPER: dict[str, Any] = {
    "gamma": 0.99,
    "alpha": 2.5,
    "n_negatives": 0,
    "value_after": 0,
    "lr": 3e-4,
    "critic_lr": 3e-4,
    "dropout": 0.0,
    "max_norm": None,
    "reward_scale": 1.0,
}


class Networks(NamedTuple):
    """The network of the actor, twin critics on its hidden vectors, and their slow copies."""

    network: Any
    critics: Any
    network_target: Any
    critics_target: Any


class Optimizers(NamedTuple):
    """One optimizer for the actor, one for both critics."""

    network: torch.optim.Optimizer
    critics: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last; they are not used."""
    critics = TwinCritic(*(Critic(config.width, config.width, config.hidden) for _ in range(2)))
    learning = make_network(len(table) - 1, config), critics
    return Networks(*learning, *map(copy.deepcopy, learning))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the actor, and for both critics together."""
    critics = torch.optim.Adam(nets.critics.parameters(), lr=config.critic_lr, fused=True)
    return Optimizers(make_optimizer(nets.network, config), critics)


class SequenceTD3BC(ItemAgent):
    """TD3+BC over whole histories; see the head of this file, and `ItemAgent` for its arguments.

    It learns from sequences, at all their events, or from frames, where the action is what follows the last event. It
    looks at the newest `max_length` events of a history, whatever the frame size; an empty one gets the popular items.
    """

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def ranked(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32 of what comes after the newest event."""
        return next_scores(self.nets.network, history, self.config.max_length, self.device)

    @torch.no_grad()
    def values_of(self, batch: Batch) -> torch.Tensor:
        """Returns the mean of both critics' values (B,) of logged decisions."""
        history = History(batch.items, batch.rewards, (batch.items != self.catalog.n_items).sum(axis=1))
        network = self.nets.network
        state = newest_hidden(network, network.table(), history, self.config.max_length, self.device)
        shown = vectors_shown(network)[to_tensor(batch.action, self.device).long()]
        values: torch.Tensor = self.nets.critics(state, shown).mean(dim=0)
        return values

    def step(self, batch: Batch | SequenceBatch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; it knows whose turn it is."""
        size, scale = self.config.max_length, reward_scale(self)
        steps = steps_of(batch, self.catalog.n_items, size, self.device, scale)
        return sequence_td3_bc_update(
            steps,
            self.nets,
            self.optimizers,
            self.config,
            with_actor=not learn or (self.updates + 1) % self.config.policy_delay == 0,
            with_value=self.updates >= self.config.value_after,
            generator=self.generator,
            learn=learn,
        )

    def batches(self, log: InteractionLog, batch_size: int, seed: int = 0, later: float = 0.0) -> SequenceBatches:
        """Returns what this agent learns best from: whole users, `batch_size` at a time; `later` is for frames."""
        return SequenceBatches(log, batch_size, self.config.max_length, seed, device=self.device)


def vectors_shown(network: Any) -> torch.Tensor:
    """Returns item vectors (n_items, width) as critics see them: as long as they come into the core, no gradient."""
    shown: torch.Tensor = network.scale * network.table().detach().float()
    return shown


def sequence_td3_bc_update(
    batch: Steps,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    with_actor: bool = True,
    with_value: bool = True,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of critics and actor, or only measures their losses; returns them as 0-d tensors.

    Args:
        batch: What was done at each event of some sequences.
        nets: Networks to change.
        optimizers: What changes them.
        config: Hyperparameters.
        with_actor: Whether the actor and all targets learn too: at every `config.policy_delay`-th update.
        with_value: Whether the value term counts by now.
        generator: Random stream of the noise.
        learn: Whether to change anything.
    """
    shown = vectors_shown(nets.network)  # (n_items, width)
    taken = batch.targets < len(shown)  # (B, L)
    items = batch.targets[taken]  # (N,)
    with torch.no_grad():
        hidden = nets.network(batch.items, nets.network.table()).float()  # (B, L, width)
        target, known = _targets(batch, hidden, taken, shown, nets, config, generator)
    state = hidden[taken]  # (N, width)
    nets.critics.train(learn)
    values = nets.critics(state, shown[items])  # (2, N)
    nets.critics.eval()
    critic_loss = len(values) * mean_of((values - target).square(), known)
    losses = {"critic_loss": critic_loss, "value": mean_of(values)}
    if learn:
        descend(critic_loss, nets.critics, optimizers.critics, config.max_norm)
    if with_actor:
        losses |= _actor_losses(batch, state, taken, shown, nets, config, with_value, generator, learn)
        if learn:
            descend(losses["actor_loss"], nets.network, optimizers.network, config.max_norm)
            follow(nets[:2], nets[2:], config.tau)
    return {name: loss.detach() for name, loss in losses.items()}


def _actor_losses(
    batch: Steps,
    state: torch.Tensor,
    taken: torch.Tensor,
    shown: torch.Tensor,
    nets: Networks,
    config: Config,
    with_value: bool,
    generator: torch.Generator | None,
    learn: bool,
) -> dict[str, torch.Tensor]:
    """Returns what the actor lowers as "actor_loss", and its parts; `state` (N, width) is what the critics see."""
    nets.network.train(learn)
    table = nets.network.table()
    action = nets.network(batch.items, table)[taken].float()  # (N, width)
    nets.network.eval()
    even = even_weights(action)
    bc_loss = catalog_loss(action, table.float(), batch.targets[taken], even, config.n_negatives, generator)
    if not with_value:
        return {"bc_loss": bc_loss, "actor_loss": bc_loss}
    with frozen(nets.critics):
        items, vectors = drawn_items(table.float(), shown, config.n_negatives, generator)
        value = nets.critics.first_value(state, expected_vectors(action, items, vectors))  # (N,)
    actor_loss = bc_loss - config.alpha * mean_of(value) / scale_of(value)
    return {"bc_loss": bc_loss, "actor_value": mean_of(value), "actor_loss": actor_loss}


def _targets(
    batch: Steps,
    hidden: torch.Tensor,
    taken: torch.Tensor,
    shown: torch.Tensor,
    nets: Networks,
    config: Config,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what the values of N decisions should be (N,), and whether that is known (N,) float."""
    rewards, goes_on, over = batch.rewards[taken], batch.goes_on[taken], batch.terminated[taken]  # (N,)
    known = (goes_on | over).float()
    if config.gamma == 0.0:
        return rewards, torch.ones_like(known)
    table = nets.network_target.table()
    action = nets.network_target(batch.items, table).float().roll(-1, dims=1)[taken]  # (N, width)
    action = action + clipped_noise(action, config.target_noise, config.noise_clip, generator)
    expected = expected_vectors(action, *drawn_items(table.float(), shown, config.n_negatives, generator))
    next_value = nets.critics_target(hidden.roll(-1, dims=1)[taken], expected).amin(dim=0)  # (N,)
    return rewards + config.gamma * torch.where(goes_on, next_value, 0.0), known


def main(run: Run, config: Config) -> None:
    """Trains TD3+BC over whole histories on a log and prints how it ranks for held-out users."""
    train_agent(SequenceTD3BC, run, config)


if __name__ == "__main__":
    command(main)
