"""DDPG over item vectors, learned from logs or in an environment.

Paper: Lillicrap et al. (2016), Continuous control with deep reinforcement learning, ICLR, algorithm 1.
Where we differ:
- The logged item's vector is the logged action; the actor's vector ranks all items by inner product or cosine.
- The critic judges the *expected item* of the actor's vector: the mean item vector under softmax(temperature *
  scores). It has learned from item vectors only, and this keeps it among them. `critic_action="vector"` shows it the
  vector itself.
- The actor also imitates the logged item: cross-entropy under the same softmax, weighted by how good the reward was.
  Its value term is divided by the mean |Q|, as in TD3+BC (Fujimoto and Gu 2021, equation 5), so that weights mean the
  same on any scale of rewards. With `bc_weight=0, normalise_q=False, critic_action="vector"` it is the paper's update.
- The actor's hidden units drop out while it learns, and only then: a log is small, and its users' tastes are quickly
  learned by heart. Targets, values and recommendations never see dropout.
- Gaussian noise explores instead of Ornstein-Uhlenbeck; no batch normalisation, no weight decay by default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.base import Decisions, EmbeddingAgent
from agents.networks import Actor, Critic, descend, polyak_update, seeded
from agents.train import Run, train_agent
from recgym.catalog import Catalog
from recgym.frames import Batch


@dataclass(frozen=True)
class Config:
    """Hyperparameters of DDPG."""

    gamma: float = 0.5  # discount per step
    tau: float = 0.005  # share that targets move towards their networks at every update
    actor_lr: float = 1e-3  # Adam's step size for the actor
    critic_lr: float = 1e-3  # Adam's step size for the critic
    hidden: int = 256  # width of the hidden layers
    actor_init: float | None = 3e-3  # last layer starts uniform in plus or minus this; None keeps torch's own
    critic_init: float | None = 3e-3  # the same for the critic
    weight_decay: float = 0.0  # decoupled weight decay of the actor
    dropout: float = 0.5  # share of the actor's hidden units dropped while it learns
    input_scale: float | None = (
        None  # what item vectors are multiplied by for the networks; None makes their numbers unit
    )
    max_norm: float | None = 10.0  # gradients longer than this are shortened to it; None never
    mapper: Literal["inner", "cosine"] = "inner"  # how an action scores items
    temperature: float = 6.0  # sharpness of the softmax over scores
    critic_action: Literal["expected_item", "vector"] = "expected_item"  # what the critic sees of an action
    q_weight: float = 1.0  # weight of the value term in the actor's loss
    normalise_q: bool = True  # whether the value term is divided by the mean |Q|
    bc_weight: float = 1.0  # weight of imitating the logged item
    bc_reward: float = 2.0  # imitation of a decision counts exp(bc_reward * reward), over the batch's mean of it
    n_negatives: int = 0  # items drawn per batch for imitation's softmax; 0 takes all, for catalogs that allow it
    reward_range: tuple[float, float] | None = None  # known bounds of a reward: value targets are kept within their sum
    noise: float = 0.1  # standard deviation of exploration


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


class DDPG(EmbeddingAgent):
    """Deep deterministic policy gradient over item vectors; see the head of this file.

    Args:
        catalog: The items and their vectors.
        frame_size: F, the events of a history that are looked at.
        seed: Seed of the networks and of the agent's randomness.
        device: `"auto"`, `"cpu"`, `"cuda"` ...
        **config: Fields of `Config`.

    Attributes:
        nets: Actor, critic and their slow copies.
        optimizers: Adam for each of the two that learn.

    Raises:
        DataError: if an option is unknown or out of range.
        TypeError: if a name is no field of `Config`.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        frame_size: int = 10,
        seed: int = 0,
        device: str | torch.device = "auto",
        **config: Any,
    ) -> None:
        self.config = Config(**config)
        super().__init__(catalog, frame_size, seed, device, self.config.mapper, self.config.input_scale)
        if self.config.critic_action == "vector":
            self.shown = self.vectors
        self.noise = self.config.noise
        with seeded(seed):  # on the CPU, so that weights do not depend on the device
            c, dims = self.config, (self.state_dim, catalog.dim)
            actor = Actor(*dims, c.hidden, c.actor_init, c.dropout).to(self.device)
            critic = Critic(*dims, c.hidden, c.critic_init).to(self.device)
        self.nets = Networks(actor, critic, copy.deepcopy(actor).eval(), copy.deepcopy(critic).eval())
        actor.eval().dropout.generator = self.generator
        self.optimizers = Optimizers(
            actor=torch.optim.AdamW(actor.parameters(), lr=c.actor_lr, weight_decay=c.weight_decay, fused=True),
            critic=torch.optim.Adam(critic.parameters(), lr=c.critic_lr, fused=True),
        )

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1."""
        return self.nets.actor(*state)

    def update(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Learns from one batch; returns the losses as tensors on the device."""
        return ddpg_update(
            self.look_up(batch),
            self.nets,
            self.optimizers,
            self.vectors[:-1],
            self.config,
            shown=self.shown[:-1],
            generator=self.generator,
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
    """Makes one step of DDPG, or only measures its losses; returns them as 0-d tensors, with no host sync.

    Args:
        batch: Decisions with their vectors.
        nets: Networks to change.
        optimizers: One for the actor, one for the critic.
        items: Item vectors that actions are compared with (n_items, d).
        config: Hyperparameters.
        shown: Item vectors as the critic knows them (n_items, d); by default `items`.
        generator: Random stream that negatives are drawn from; used only if `config.n_negatives` is set.
        learn: Whether to change anything.
    """
    shown = items if shown is None else shown
    with torch.no_grad():
        next_action = seen_by_critic(nets.actor_target(*batch.next_state), items, shown, config)  # (B, d)
        next_value = nets.critic_target(*batch.next_state, next_action)  # (B,)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = batch.reward + config.gamma * goes_on * next_value  # (B,)
        if config.reward_range is not None:
            low, high = (bound / (1.0 - config.gamma) for bound in config.reward_range)
            target = target.clamp(min(low, config.reward_range[0]), max(high, config.reward_range[1]))
    value = nets.critic(*batch.state, batch.vector)  # (B,)
    critic_loss = functional.mse_loss(value, target)
    if learn:
        descend(critic_loss, nets.critic, optimizers.critic, config.max_norm)

    nets.actor.train(learn)
    action = nets.actor(*batch.state)  # (B, d)
    nets.actor.eval()
    actor_value = nets.critic(*batch.state, seen_by_critic(action, items, shown, config))  # (B,)
    scale = actor_value.detach().abs().mean().clamp(min=1e-6) if config.normalise_q else 1.0
    actor_loss = -config.q_weight * actor_value.mean() / scale
    losses = {"critic_loss": critic_loss, "value": value.mean(), "actor_value": actor_value.mean()}
    if config.bc_weight > 0:
        weight = torch.softmax(config.bc_reward * batch.reward, dim=0)  # (B,): exp(...) over its sum
        bc_loss = (weight * imitation_loss(action, batch.action, items, config, generator)).sum()
        actor_loss = actor_loss + config.bc_weight * bc_loss
        losses["bc_loss"] = bc_loss
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
        polyak_update(nets.actor.parameters(), nets.actor_target.parameters(), config.tau)
        polyak_update(nets.critic.parameters(), nets.critic_target.parameters(), config.tau)
    return {name: loss.detach() for name, loss in (losses | {"actor_loss": actor_loss}).items()}


def seen_by_critic(action: torch.Tensor, items: torch.Tensor, shown: torch.Tensor, config: Config) -> torch.Tensor:
    """Returns what the critic is shown of vector actions (B, d): themselves, or the mean item they stand for."""
    if config.critic_action == "vector":
        return action
    return torch.softmax(config.temperature * (action @ items.T), dim=1) @ shown  # (B, d)


def imitation_loss(
    action: torch.Tensor, logged: torch.Tensor, items: torch.Tensor, config: Config, generator: torch.Generator | None
) -> torch.Tensor:
    """Returns minus the log probability (B,) of the logged items (B,) under softmax(temperature * scores).

    With `config.n_negatives` the softmax is over the logged item and that many items drawn uniformly, the same for the
    whole batch; an item drawn that is the logged one does not count.
    """
    if config.n_negatives == 0:
        scores = config.temperature * (action @ items.T)  # (B, n_items)
        return functional.cross_entropy(scores, logged, reduction="none")
    drawn = torch.randint(len(items), (config.n_negatives,), generator=generator, device=items.device)  # (n,)
    own = (action * items[logged]).sum(dim=1, keepdim=True)  # (B, 1)
    others = (action @ items[drawn].T).masked_fill(drawn == logged[:, None], -torch.inf)  # (B, n)
    scores = config.temperature * torch.cat([own, others], dim=1)
    return functional.cross_entropy(scores, torch.zeros_like(logged), reduction="none")


def main(run: Run, config: Config) -> None:
    """Trains DDPG on a log and prints how it ranks for held-out users."""
    train_agent(DDPG, run, config)


if __name__ == "__main__":
    import tyro

    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
