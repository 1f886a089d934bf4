"""DDPG over item vectors, learned from logs or in an environment.

Paper: Lillicrap et al. (2016), Continuous control with deep reinforcement learning, ICLR, algorithm 1.
Where we differ:
- The logged item's vector is the logged action; the actor's vector ranks all items by inner product or cosine.
- The critic judges the *expected item* of the actor's vector: the mean item vector under softmax(temperature *
  scores). It has learned from item vectors only, and this keeps it among them. `critic_action="vector"` shows it the
  vector itself.
- The actor also imitates the logged item: cross-entropy under the same softmax, weighted by how good the reward was.
  Its value term is divided by the mean |Q|, as in TD3+BC (Fujimoto and Gu 2021, equation 5), so that its weight
  means the same on any scale of values.
- Our gamma, tau and step sizes are others, and gradients are shortened. `preset="paper"` is the paper's update with its
  numbers; see the class for what it sets. Two hidden layers of one width, and no weight decay of the critic, are left.
- The actor's hidden units drop out while it learns, and only then: a log is small, and its users' tastes are quickly
  learned by heart. Targets, values and recommendations never see dropout.
- Gaussian noise explores instead of Ornstein-Uhlenbeck; no batch normalisation, no weight decay by default.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.configs import EmbeddingConfig
from agents.networks.hyperparameters import not_negative
from agents.networks.layers import Actor, Critic, descend, follow, frozen
from agents.networks.losses import detached, imitation_of_good, scale_of, seen_by_critic, within_range
from agents.training.train import Run, command, train_agent


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of DDPG, with those of `EmbeddingConfig`."""

    q_weight: float = not_negative(1.0)  # weight of the value term in the actor's loss
    normalise_q: bool = True  # whether the value term is divided by the mean |Q|
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    bc_reward: float = 2.0  # imitation of a decision counts exp(bc_reward * reward), over the batch's sum of it
    noise: float = not_negative(0.1)  # standard deviation of exploration


PAPER: dict[str, Any] = {
    "gamma": 0.99,
    "critic_action": "vector",
    "input_scale": 1.0,
    "reward_scale": 1.0,
    "dropout": 0.0,
    "max_norm": None,
    "bc_weight": 0.0,
    "normalise_q": False,
    "tau": 0.001,
    "actor_lr": 1e-4,
}


class Networks(NamedTuple):
    """The networks of DDPG and their slow copies."""

    actor: nn.Module
    critic: nn.Module
    actor_target: nn.Module
    critic_target: nn.Module


class Optimizers(NamedTuple):
    """One optimizer for each network that learns."""

    actor: torch.optim.Optimizer
    critic: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: Config) -> Networks:
    """Returns fresh networks."""
    actor = Actor(state_dim, action_dim, config.hidden, config.actor_init, config.dropout)
    critic = Critic(state_dim, action_dim, config.hidden, config.critic_init)
    return Networks(actor, critic, copy.deepcopy(actor), copy.deepcopy(critic))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the actor and for the critic."""
    return Optimizers(
        actor=torch.optim.AdamW(
            nets.actor.parameters(), lr=config.actor_lr, weight_decay=config.weight_decay, fused=True
        ),
        critic=torch.optim.Adam(nets.critic.parameters(), lr=config.critic_lr, fused=True),
    )


def ddpg_update(
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
    """Makes one step of DDPG, or only measures its losses; see `agents.embedding_agent.Update`."""
    shown = items if shown is None else shown
    with torch.no_grad():
        next_action = seen_by_critic(nets.actor_target(*batch.next_state), items, shown, config, generator)  # (B, d)
        next_value = nets.critic_target(*batch.next_state, next_action)  # (B,)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = within_range(batch.reward + config.gamma * goes_on * next_value, config)  # (B,)
    nets.critic.train(learn)
    value = nets.critic(*batch.state, batch.vector)  # (B,)
    nets.critic.eval()
    critic_loss = functional.mse_loss(value, target)
    if learn:
        descend(critic_loss, nets.critic, optimizers.critic, config.max_norm)

    nets.actor.train(learn)
    action = nets.actor(*batch.state)  # (B, d)
    nets.actor.eval()
    with frozen(nets.critic):
        actor_value = nets.critic(*batch.state, seen_by_critic(action, items, shown, config, generator))  # (B,)
    scale = scale_of(actor_value) if config.normalise_q else 1.0
    actor_loss = -config.q_weight * actor_value.mean() / scale
    losses = {"critic_loss": critic_loss, "value": value.mean(), "actor_value": actor_value.mean()}
    if config.bc_weight > 0:
        losses["bc_loss"] = imitation_of_good(action, batch, items, config, config.bc_reward, generator)
        actor_loss = actor_loss + config.bc_weight * losses["bc_loss"]
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
        follow(nets[:2], nets[2:], config.tau)
    return detached(losses | {"actor_loss": actor_loss})


class DDPG(EmbeddingAgent):
    """Deep deterministic policy gradient over item vectors; see `EmbeddingAgent` for what it is made from."""

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(ddpg_update)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1."""
        return self.nets.actor(*state)


def main(run: Run, config: Config) -> None:
    """Trains DDPG on a log and prints how it ranks for held-out users."""
    train_agent(DDPG, run, config)


if __name__ == "__main__":
    command(main)
