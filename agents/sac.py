"""Soft actor-critic over item vectors, learned from logs or in an environment.

Paper: Haarnoja et al. (2018), Soft actor-critic algorithms and applications, arXiv:1812.05905, algorithm 1: a squashed
Gaussian policy, twin critics, and a weight of entropy (alpha) that is learned.
Where we differ:
- The logged item's vector is the logged action; an action's vector ranks all items by inner product or cosine.
  Recommending takes tanh of the mean; exploring draws.
- The critics judge the *expected item* of a drawn vector: the mean item vector under softmax(temperature * scores).
  They have learned from item vectors only, and this keeps it among them. `critic_action="vector"` shows them the
  vector itself.
- The drawn vector also imitates the logged item: cross-entropy under the same softmax, weighted by how good the reward
  was; the value term is divided by the mean |Q|. Gamma and step sizes are others, and gradients are shortened.
  `preset="paper"` is the paper's update with its numbers; see the class for what it sets.
- Alpha begins at 0.01, not 1: the entropy of a vector of d numbers grows with d, and rewards do not.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.actors import GaussianActor, squashed
from agents.networks.configs import EmbeddingConfig
from agents.networks.hyperparameters import not_negative, positive
from agents.networks.layers import Scalar, descend, follow, frozen
from agents.networks.losses import detached, imitation_of_good, scale_of, seen_by_critic, squared_errors, within_range
from agents.networks.twin_critics import make_critics
from agents.training.train import Run, command, train_agent
from recgym.frames import History


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of SAC, with those of `EmbeddingConfig`."""

    alpha_lr: float = not_negative(1e-3)  # Adam's step size for the logarithm of alpha
    alpha_init: float = positive(0.01)  # weight of entropy in the beginning
    target_entropy: float | None = (
        None  # alpha keeps the policy's entropy near this; None is minus the width of actions
    )
    q_weight: float = not_negative(1.0)  # weight of the value term in the actor's loss
    normalise_q: bool = True  # whether the value term is divided by the mean |Q|
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    bc_reward: float = 2.0  # imitation of a decision counts exp(bc_reward * reward), over the batch's sum of it


PAPER: dict[str, Any] = {
    "gamma": 0.99,
    "critic_action": "vector",
    "input_scale": 1.0,
    "reward_scale": 1.0,
    "dropout": 0.0,
    "max_norm": None,
    "bc_weight": 0.0,
    "normalise_q": False,
    "actor_init": None,
    "critic_init": None,
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
    "alpha_lr": 3e-4,
    "alpha_init": 1.0,
}


class Networks(NamedTuple):
    """The networks of SAC, the critics' slow copies, and the logarithm of alpha."""

    actor: nn.Module
    critics: nn.Module  # `TwinCritic`, `Pair` or the like
    critics_target: nn.Module
    log_alpha: nn.Module


class Optimizers(NamedTuple):
    """One optimizer for the actor, one for both critics, one for alpha."""

    actor: torch.optim.Optimizer
    critics: torch.optim.Optimizer
    alpha: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: Config) -> Networks:
    """Returns fresh networks."""
    actor = GaussianActor(state_dim, action_dim, config.hidden, config.actor_init, config.dropout)
    critics = make_critics(state_dim, action_dim, config)
    return Networks(actor, critics, copy.deepcopy(critics), Scalar(math.log(config.alpha_init)))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the actor, for both critics together, and for alpha."""
    actor, alpha = nets.actor.parameters(), nets.log_alpha.parameters()
    return Optimizers(
        actor=torch.optim.AdamW(actor, lr=config.actor_lr, weight_decay=config.weight_decay, fused=True),
        critics=torch.optim.Adam(nets.critics.parameters(), lr=config.critic_lr, fused=True),
        alpha=torch.optim.Adam(alpha, lr=config.alpha_lr, fused=True),
    )


def sac_update(
    batch: Decisions,
    nets: Networks,
    optimizers: Optimizers,
    items: torch.Tensor,
    config: Config,
    *,
    shown: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of SAC, or only measures its losses; see `agents.embedding_agent.Update`."""
    shown = items if shown is None else shown
    nets.actor.train(learn)
    mean, log_std = nets.actor(*batch.state)  # (B, d)
    nets.actor.eval()
    action, log_density = squashed(mean, log_std, generator)  # (B, d), (B,)
    log_alpha = nets.log_alpha()
    alpha = log_alpha.detach().exp()
    wanted = -float(action.shape[1]) if config.target_entropy is None else config.target_entropy
    alpha_loss = -(log_alpha * (log_density.detach() + wanted)).mean()  # entropy below the wanted: alpha grows
    if learn:
        descend(alpha_loss, nets.log_alpha, optimizers.alpha)

    target = soft_target(batch, nets, alpha, items, shown, config, generator)  # (B,)
    nets.critics.train(learn)
    values = nets.critics(*batch.state, batch.vector)  # (2, B)
    nets.critics.eval()
    critic_loss = 0.5 * squared_errors(values, target)
    if learn:
        descend(critic_loss, nets.critics, optimizers.critics, config.max_norm)

    with frozen(nets.critics):
        seen = seen_by_critic(action, items, shown, config, generator)
        actor_value = nets.critics(*batch.state, seen).amin(dim=0)  # (B,)
    scale = scale_of(actor_value) if config.normalise_q else 1.0
    actor_loss = (alpha * log_density).mean() - config.q_weight * actor_value.mean() / scale
    losses = {"critic_loss": critic_loss, "value": values[0].mean(), "actor_value": actor_value.mean()}
    losses |= {"alpha": alpha, "alpha_loss": alpha_loss, "entropy": -log_density.mean()}
    if config.bc_weight > 0:
        losses["bc_loss"] = imitation_of_good(action, batch, items, config, config.bc_reward, generator)
        actor_loss = actor_loss + config.bc_weight * losses["bc_loss"]
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
        follow([nets.critics], [nets.critics_target], config.tau)
    return detached(losses | {"actor_loss": actor_loss})


@torch.no_grad()
def soft_target(
    batch: Decisions,
    nets: Networks,
    alpha: torch.Tensor,
    items: torch.Tensor,
    shown: torch.Tensor,
    config: Config,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Returns what the critics learn (B,): reward and discounted soft value of an action drawn for the next state."""
    mean, log_std = nets.actor(*batch.next_state)
    next_action, next_log_density = squashed(mean, log_std, generator)
    next_seen = seen_by_critic(next_action, items, shown, config, generator)  # (B, d)
    next_value = nets.critics_target(*batch.next_state, next_seen).amin(dim=0) - alpha * next_log_density  # (B,)
    goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
    return within_range(batch.reward + config.gamma * goes_on * next_value, config)


class SAC(EmbeddingAgent):
    """Soft actor-critic over item vectors; see `EmbeddingAgent` for what it is made from."""

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(sac_update)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1: the middle of the policy."""
        return torch.tanh(self.nets.actor(*state)[0])

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32 in -1..1: the middle of the policy, or drawn from it to explore."""
        if not explore:
            return super().act(history)
        mean, log_std = self.nets.actor(*self.state_of(history))
        return squashed(mean, log_std, self.generator)[0]


def main(run: Run, config: Config) -> None:
    """Trains SAC on a log and prints how it ranks for held-out users."""
    train_agent(SAC, run, config)


if __name__ == "__main__":
    command(main)
