"""TD3 over item vectors, learned from logs or in an environment.

Paper: Fujimoto, van Hoof and Meger (2018), Addressing function approximation error in actor-critic methods, ICML,
algorithm 1: the smaller of two critics, noise on the target's action, and an actor that learns at every second update.
Where we differ:
- The logged item's vector is the logged action; the actor's vector ranks all items by inner product or cosine.
- The critics judge the *expected item* of the actor's vector: the mean item vector under softmax(temperature *
  scores). They have learned from item vectors only, and this keeps it among them. `critic_action="vector"` shows them
  the vector itself.
- The actor also imitates the logged item: cross-entropy under the same softmax, weighted by how good the reward was;
  its value term is divided by the mean |Q|. Gamma and step sizes are others, and gradients are shortened.
  `preset="paper"` is the paper's update with its numbers; see the class for what it sets.
- Targets move at every `policy_delay`-th update, with the actor, all three of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.configs import EmbeddingConfig
from agents.networks.hyperparameters import at_least_one, not_negative
from agents.networks.layers import descend, frozen
from agents.networks.losses import detached, imitation_of_good, scale_of, seen_by_critic, squared_errors, within_range
from agents.networks.twin_critics import Networks, Optimizers, make_networks, make_optimizers, move_targets, smoothed
from agents.training.train import Run, command, train_agent
from recgym.frames import Batch


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of TD3, with those of `EmbeddingConfig`."""

    policy_delay: int = at_least_one(2)  # the actor and all targets move at every such update
    target_noise: float = not_negative(0.2)  # standard deviation of the noise on the target actor's action
    noise_clip: float = not_negative(0.5)  # that noise stays within plus or minus this
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
    "actor_init": None,
    "critic_init": None,
}


def td3_update(
    batch: Decisions,
    nets: Networks,
    optimizers: Optimizers,
    items: torch.Tensor,
    config: Config,
    *,
    with_actor: bool = True,
    shown: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of TD3, or only measures its losses; see `agents.embedding_agent.Update`.

    The actor and all targets learn too if `with_actor`: at every `config.policy_delay`-th update.
    """
    shown = items if shown is None else shown
    with torch.no_grad():
        next_action = smoothed(nets.actor_target(*batch.next_state), config.target_noise, config.noise_clip, generator)
        next_seen = seen_by_critic(next_action, items, shown, config, generator)  # (B, d)
        next_value = nets.critics_target(*batch.next_state, next_seen).amin(dim=0)  # (B,)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = within_range(batch.reward + config.gamma * goes_on * next_value, config)  # (B,)
    nets.critics.train(learn)
    values = nets.critics(*batch.state, batch.vector)  # (2, B)
    nets.critics.eval()
    critic_loss = squared_errors(values, target)
    losses = {"critic_loss": critic_loss, "value": values[0].mean()}
    if learn:
        descend(critic_loss, nets.critics, optimizers.critics, config.max_norm)
    if not with_actor:
        return detached(losses)
    nets.actor.train(learn)
    action = nets.actor(*batch.state)  # (B, d)
    nets.actor.eval()
    with frozen(nets.critics):
        actor_value = nets.critics.first_value(
            *batch.state, seen_by_critic(action, items, shown, config, generator)
        )  # (B,)
    scale = scale_of(actor_value) if config.normalise_q else 1.0
    actor_loss = -config.q_weight * actor_value.mean() / scale
    losses["actor_value"] = actor_value.mean()
    if config.bc_weight > 0:
        losses["bc_loss"] = imitation_of_good(action, batch, items, config, config.bc_reward, generator)
        actor_loss = actor_loss + config.bc_weight * losses["bc_loss"]
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
        move_targets(nets, config.tau)
    return detached(losses | {"actor_loss": actor_loss})


class TD3(EmbeddingAgent):
    """Twin delayed DDPG over item vectors; see `EmbeddingAgent` for what it is made from."""

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(td3_update)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1."""
        return self.nets.actor(*state)

    def step(self, batch: Batch, learn: bool, **more: Any) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; it knows whose turn it is."""
        with_actor = not learn or (self.updates + 1) % self.config.policy_delay == 0
        return super().step(batch, learn, with_actor=with_actor, **more)


def main(run: Run, config: Config) -> None:
    """Trains TD3 on a log and prints how it ranks for held-out users."""
    train_agent(TD3, run, config)


if __name__ == "__main__":
    command(main)
