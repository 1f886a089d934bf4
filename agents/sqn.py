"""A next-item model of whole histories with a critic beside it: self-supervised Q-learning and advantage actor-critic.

Papers: Xin et al. (2020), Self-supervised reinforcement learning for recommender systems, SIGIR, sections 3.1 and 3.2
(SQN); Xin et al. (2022), Supervised advantage actor-critic for recommender systems, WSDM, sections 3.2 and 3.3 (SNQN
and SA2C). One core reads a history, as in `agents.sequence`; from its hidden vector s at every event follow the policy,
a softmax over the inner products with item vectors, and two values of every item, Q1 and Q2. For the item a that was
taken next, with reward r, and the state s' after it, we lower
    policy:  - mean( w(s, a) * log pi(a|s) )
    critic:  q_weight * mean( (Q1(s, a) - r - gamma * Q2(s', a1))**2 ), and the same with 1 and 2 exchanged
             + negative_weight * mean( (Q1(s, b) - gamma * Q2(s, a1))**2 ) over drawn items b other than a, which earn
               0 and teach that nothing happened; both halves likewise
where a1 is the item of largest Q1 in that state. No gradient passes through targets and weights; both terms move the
core. Weights are w = exp(advantage_weight * A), over their batch's mean, with A = Q(s, a) less the mean of Q(s, .) over
a and the drawn items, brought to mean 0 and deviation 1 and cut off at 2 deviations; Q is the mean of the two. Scores
are what the softmax is of, plus `value_weight` * Q: the policy that gains most value for its distance from pi.
With `critic_only` the policy stays as it is, e.g. as imitation left it, and only the values learn.
`advantage_weight=0, value_weight=0` is SNQN, `n_negatives=0` too is SQN, without a maximum that looks at all items.
Where we differ:
- It learns at every event of a history, not at the last of ten.
- The maximum is over the drawn items and the one that was taken next, not over all items. Where the log ends there is
  no next state and nothing to learn for the critic, unless the session was terminated.
- Both values learn at every step, each with the other's judgement of its own choice; the papers draw which of the two.
- SA2C multiplies the loss by A itself; we take an exponential weight, which is never negative (Peng et al. 2019,
  Advantage-weighted regression, equation 5). It begins after `advantage_after` updates, as in the paper.
- The bonus `value_weight` on scores is ours (ibid., equation 4, with pi as the sampling policy).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.base import to_tensor
from agents.item_agent import ItemAgent
from agents.networks.hyperparameters import at_least_two, count, not_negative, share
from agents.networks.layers import descend
from agents.networks.scaling import reward_scale
from agents.networks.sequence_network import (
    SequenceConfig,
    Steps,
    make_network,
    make_optimizer,
    newest_hidden,
    steps_of,
)
from agents.networks.softmax_loss import catalog_loss
from agents.networks.whole_batch import mean_of, shares_of
from agents.training.train import Run, command, train_agent
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.frames import Batch, History
from recgym.log import InteractionLog

_CUT = 2.0  # deviations at which advantages are cut off


@dataclass(frozen=True)
class Config(SequenceConfig):
    """Hyperparameters of the sequence actor-critic, with those of `SequenceConfig`."""

    max_length: int = at_least_two(200)  # newest events that are looked at; what came of one is seen at the next
    gamma: float = share(0.5)  # discount per event
    q_weight: float = not_negative(0.5)  # weight of the critic's loss beside the policy's
    n_negatives: int = count(64)  # items drawn per batch that were not taken, for the critic
    # Items drawn per batch for the policy's softmax, as `n_negatives` of others.
    policy_negatives: int | None = count(None)
    negative_weight: float = 1.0  # weight of what the critic learns from them
    advantage_weight: float = 0.5  # how much more the policy learns from what is better than expected; 0 not at all
    advantage_after: int = count(500)  # updates before advantages count
    value_weight: float = 0.0  # of the critic's values in the scores
    critic_only: bool = False  # whether the policy stays as it is, e.g. as imitation left it, and only values learn


PAPER: dict[str, Any] = {
    "n_negatives": 0,
    "policy_negatives": 0,
    "advantage_weight": 0.0,
    "q_weight": 1.0,
    "max_norm": None,
    "reward_scale": 1.0,
}


class TwinValues(nn.Module):
    """Two values of every item in a state: inner products with free item weights, and a free number per item."""

    def __init__(self, width: int, n_items: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(2, n_items, width))
        self.bias = nn.Parameter(torch.zeros(2, n_items))

    def forward(self, states: torch.Tensor, items: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Returns both values (2, N, 1 + n) of an item (N,) per state (N, width), and of n items they share."""
        own = (self.weight[:, items] * states).sum(dim=2) + self.bias[:, items]  # (2, N)
        others = states @ self.weight[:, drawn].transpose(1, 2) + self.bias[:, None, drawn]  # (2, N, n)
        return torch.cat([own[..., None], others], dim=2)

    def of_all(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the mean of both values for all items (B, n_items)."""
        return states @ self.weight.mean(dim=0).T + self.bias.mean(dim=0)


class Networks(NamedTuple):
    """The network of the policy, and the values that stand on its hidden vectors."""

    network: Any
    critic: Any


class Optimizers(NamedTuple):
    """One optimizer for each; core and item vectors learn from the two losses together."""

    network: torch.optim.Optimizer
    critic: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last; they are not used."""
    n_items = len(table) - 1
    return Networks(make_network(n_items, config), TwinValues(config.width, n_items))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for each network."""
    return Optimizers(*(make_optimizer(network, config) for network in nets))


class SQN(ItemAgent):
    """A sequence actor-critic; see the head of this file, and `ItemAgent` for its arguments.

    It learns from sequences, at all their events, or from frames, where the action is what follows the last event. It
    looks at the newest `max_length` events of a history, whatever the frame size; an empty one gets the popular items.
    """

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def ranked(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32 of what comes after the newest event."""
        network, critic = self.nets
        table = network.table()  # (n_items, width)
        state = newest_hidden(network, table, history, self.config.max_length, self.device)  # (B, width)
        scores: torch.Tensor = state @ table.T
        if self.config.value_weight != 0.0:
            known = to_tensor(history.length, self.device)[:, None] > 0
            scores = scores + self.config.value_weight * known * critic.of_all(state)
        return scores

    @torch.no_grad()
    def values_of(self, batch: Batch) -> torch.Tensor:
        """Returns the mean of both values (B,) of logged decisions."""
        history = History(batch.items, batch.rewards, (batch.items != self.catalog.n_items).sum(axis=1))
        table = self.nets.network.table()
        state = newest_hidden(self.nets.network, table, history, self.config.max_length, self.device)
        action = to_tensor(batch.action, self.device).long()[:, None]
        values: torch.Tensor = self.nets.critic.of_all(state).gather(1, action).squeeze(1)
        return values

    def step(self, batch: Batch | SequenceBatch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses."""
        size, scale = self.config.max_length, reward_scale(self)
        steps = steps_of(batch, self.catalog.n_items, size, self.device, scale)
        weighs = self.updates >= self.config.advantage_after
        return sqn_update(
            steps, self.nets, self.optimizers, self.config, weighs=weighs, generator=self.generator, learn=learn
        )

    def batches(self, log: InteractionLog, batch_size: int, seed: int = 0, later: float = 0.0) -> SequenceBatches:
        """Returns what this agent learns best from: whole users, `batch_size` at a time; `later` is for frames."""
        return SequenceBatches(log, batch_size, self.config.max_length, seed, device=self.device)


def sqn_update(
    batch: Steps,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    weighs: bool = True,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of policy and critic, or only measures their losses; returns them as 0-d tensors.

    Args:
        batch: What was done at each event of some sequences.
        nets: Networks to change.
        optimizers: One for each.
        config: Hyperparameters.
        weighs: Whether advantages weigh the policy's loss by now.
        generator: Random stream that items which were not taken are drawn from.
        learn: Whether to change anything.
    """
    moves = learn and not config.critic_only
    nets.network.train(moves)
    with torch.set_grad_enabled(moves):
        table = nets.network.table()  # (n_items, width)
        hidden = nets.network(batch.items, table).float()  # (B, L, width)
    nets.network.eval()
    taken = batch.targets < len(table)  # (B, L)
    states, items, rewards = hidden[taken], batch.targets[taken], batch.rewards[taken]  # (N, width), (N,), (N,)
    drawn = torch.randint(len(table), (config.n_negatives,), generator=generator, device=table.device)  # (n,)

    values = nets.critic(states, items, drawn)  # (2, N, 1 + n)
    with torch.no_grad():
        following = batch.targets.roll(-1, dims=1)[taken]  # (N,) what was taken after that
        next_values = nets.critic(hidden.roll(-1, dims=1)[taken], following.clamp(max=len(table) - 1), drawn)
        next_values[:, following == len(table), 0] = -torch.inf  # none is known
        over, goes_on = batch.terminated[taken], batch.goes_on[taken]  # (N,)
        if config.n_negatives == 0:  # there is then nothing to choose from either
            goes_on = goes_on & (following < len(table))
        target = rewards + config.gamma * torch.where(goes_on, judged(next_values), 0.0)  # (2, N)
        stay = config.gamma * judged(values)  # (2, N)
        advantage = values.mean(dim=0)[:, 0]  # (N,)
        if config.n_negatives > 0:  # over what else there was to do
            advantage = advantage - values.mean(dim=(0, 2))
        advantage = advantage - mean_of(advantage)
        advantage = advantage / mean_of(advantage.square()).sqrt().clamp(min=1e-6)
        advantage = config.advantage_weight * weighs * advantage.clamp(-_CUT, _CUT)
        weight = shares_of(advantage)  # (N,): exp(...) over its sum
    known = (goes_on | over).float()  # (N,)
    q_loss = mean_of((values[:, :, 0] - target).square(), known)
    losses = {"q_loss": q_loss}
    if config.n_negatives > 0:
        other = (drawn != items[:, None]).float()  # (N, n): an item drawn that was taken is no negative
        errors = (values[:, :, 1:] - stay[..., None]).square()  # (2, N, n)
        losses["negative_loss"] = mean_of(errors, other)
        q_loss = q_loss + config.negative_weight * losses["negative_loss"]
    loss = config.q_weight * q_loss
    if not config.critic_only:
        asked = config.policy_negatives
        losses["policy_loss"] = catalog_loss(states, table.float(), items, weight, asked, generator)
        loss = loss + losses["policy_loss"]
    if learn and config.critic_only:
        descend(loss, nets.critic, optimizers.critic, config.max_norm)
    elif learn:
        optimizers.network.zero_grad()  # one backward pass makes the gradients of both
        descend(loss, nets, optimizers.critic, config.max_norm)
        optimizers.network.step()
    return {name: loss.detach() for name, loss in (losses | {"value": mean_of(values[:, :, 0])}).items()}


def judged(values: torch.Tensor) -> torch.Tensor:
    """Returns for each of both values (2, N, m) what the other says of the item it would choose (2, N)."""
    return values.flip(0).gather(2, values.argmax(dim=2, keepdim=True)).squeeze(2)


def main(run: Run, config: Config) -> None:
    """Trains the sequence actor-critic on a log and prints how it ranks for held-out users."""
    train_agent(SQN, run, config)


if __name__ == "__main__":
    command(main)
