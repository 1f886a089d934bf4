"""TD3+BC over item vectors, learned from logs.

Paper: Fujimoto and Gu (2021), A minimalist approach to offline reinforcement learning, NeurIPS, equations 3 and 5: TD3
whose actor's loss is -lambda * Q + the distance to the logged action, with lambda = alpha / mean |Q|.
Where we differ:
- The logged item's vector is the logged action. The distance to it is the cross-entropy of the logged item under
  softmax(temperature * scores), as only the ranking of items matters; `bc="vector"` is the paper's squared distance.
- The critics judge the *expected item* of the actor's vector, as in our TD3; `critic_action="vector"` shows them the
  vector itself. Dropout, shortened gradients, gamma and step sizes are ours too; `preset="paper"` is the
  paper's update with its numbers, see the class for what it sets.
- The paper standardises each number of a state. Here all numbers of item vectors are multiplied by one factor that
  makes their mean square 1 (`input_scale`), which keeps what their sizes say. Rewards are seen divided by their
  largest (`reward_scale`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch.nn import functional

from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.configs import EmbeddingConfig
from agents.networks.hyperparameters import at_least_one, not_negative
from agents.networks.layers import descend, frozen
from agents.networks.losses import detached, imitation_loss, scale_of, seen_by_critic, squared_errors, within_range
from agents.networks.twin_critics import Networks, Optimizers, make_networks, make_optimizers, move_targets, smoothed
from agents.training.train import Run, command, train_agent
from recgym.frames import Batch


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of TD3+BC, with those of `EmbeddingConfig`."""

    policy_delay: int = at_least_one(2)  # the actor and all targets move at every such update
    target_noise: float = not_negative(0.2)  # standard deviation of the noise on the target actor's action
    noise_clip: float = not_negative(0.5)  # that noise stays within plus or minus this
    alpha: float = 2.5  # weight of the value term, which is divided by the mean |Q|
    bc: Literal["items", "vector"] = "items"  # imitation by cross-entropy over items, or by squared distance
    noise: float = not_negative(0.1)  # standard deviation of exploration


PAPER: dict[str, Any] = {
    "gamma": 0.99,
    "critic_action": "vector",
    "input_scale": 1.0,
    "reward_scale": 1.0,
    "dropout": 0.0,
    "max_norm": None,
    "actor_init": None,
    "critic_init": None,
    "bc": "vector",
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
}


def td3_bc_update(
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
    """Makes one step of TD3+BC, or only measures its losses; see `agents.embedding_agent.Update`.

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
    if config.bc == "items":
        bc_loss = imitation_loss(action, batch.action, items, config, generator).mean()
    else:
        bc_loss = functional.mse_loss(action, items[batch.action])
    actor_loss = bc_loss - config.alpha * actor_value.mean() / scale_of(actor_value)
    losses |= {"actor_value": actor_value.mean(), "bc_loss": bc_loss}
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
        move_targets(nets, config.tau)
    return detached(losses | {"actor_loss": actor_loss})


class TD3BC(EmbeddingAgent):
    """TD3 with behaviour cloning over item vectors; see `EmbeddingAgent` for what it is made from."""

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(td3_bc_update)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1."""
        return self.nets.actor(*state)

    def step(self, batch: Batch, learn: bool, **more: Any) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; it knows whose turn it is."""
        with_actor = not learn or (self.updates + 1) % self.config.policy_delay == 0
        return super().step(batch, learn, with_actor=with_actor, **more)


def main(run: Run, config: Config) -> None:
    """Trains TD3+BC on a log and prints how it ranks for held-out users."""
    train_agent(TD3BC, run, config)


if __name__ == "__main__":
    command(main)
