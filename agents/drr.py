"""DRR over item vectors: a state module that knows users, an actor, a critic, and replay by priority.

Paper: Liu et al. (2018), Deep reinforcement learning based recommendation with explicit user-item interactions
modeling, arXiv:1810.12027, algorithm 1, with the state module DRR-ave of section 4.2
(`agents.networks.state_encoders.DrrAverage`). Its replay is that of Schaul et al. (2016), see
`agents.training.prioritized`; it comes with `fit_online`, or filled from a log.
Where we differ:
- The vector of the item that was shown is the action that is kept and valued, as the reward is that item's; the paper
  keeps the actor's. The critic judges the *expected item* of the actor's vector, as in our DDPG.
- The state module has a slow copy, as actor and critic have: targets are made by the three together. It learns from
  the critic's error and, as a part of the policy, through the actor's action. The critic takes the state for a constant
  while it judges the actor: no state is moved to look better than it is.
- Only the critic's loss is weighted by importance. Batches that were not drawn by priority weigh the same throughout.
- The actor also imitates the logged item, by the same loss as our DDPG, which is what works on logs; its value term is
  divided by the mean |Q|. With `preset="paper"` only the points above are left; see the class for what it sets. By
  default nobody has a vector (`n_users=0`): the number of users is the log's to say.
- The first `n_users` users of the log have vectors. All others have one in common, which learns from a share of the
  decisions whose user is not told. Users held out whole are scored with `user=None`: their indices mean somebody else.
- No weight decay by default; exploration's Ornstein-Uhlenbeck noise goes on from one session of a row to the next.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.base import known_users, to_tensor
from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.configs import EmbeddingConfig
from agents.networks.encoded import Framed
from agents.networks.hyperparameters import at_least_one, count, not_negative, share
from agents.networks.layers import Actor, Critic, arithmetic, follow, frozen, trainable
from agents.networks.losses import detached, imitation_of_good, scale_of, seen_by_critic, within_range
from agents.networks.state_encoders import make_encoder
from agents.training.prioritized import Drawn, PrioritizedReplay
from agents.training.train import Run, command, train_agent
from recgym.frames import Batch, History


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of DRR, with those of `EmbeddingConfig`."""

    encoder: str = "drr"  # the state module, see agents.networks.state_encoders; "drr" and "attention" know users
    n_users: int = count(0)  # users that have a vector, by their index in the training log
    unnamed: float = share(0.1)  # share of decisions that are learned from as those of a user without one
    encoder_lr: float = not_negative(1e-3)  # Adam's step size for the state module
    q_weight: float = not_negative(1.0)  # weight of the value term in the actor's loss
    normalise_q: bool = True  # whether the value term is divided by the mean |Q|
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    bc_reward: float = 2.0  # imitation of a decision counts exp(bc_reward * reward), over the batch's sum of it
    noise: float = not_negative(0.1)  # standard deviation of what exploration adds to its noise at every step
    # Share of the noise that is forgotten at every step; 1 makes it Gaussian and independent.
    theta: float = share(0.15)
    priority_alpha: float = not_negative(0.6)  # how much priorities say, see agents.training.prioritized
    priority_beta: float = share(0.4)  # how much importance weights make up for it in the beginning
    beta_steps: int = at_least_one(100_000)  # batches until they make up for all of it


PAPER: dict[str, Any] = {
    "gamma": 0.9,
    "critic_action": "vector",
    "input_scale": 1.0,
    "reward_scale": 1.0,
    "dropout": 0.0,
    "max_norm": None,
    "bc_weight": 0.0,
    "normalise_q": False,
}


class Networks(NamedTuple):
    """The networks of DRR and their slow copies; states are what `encoder(vectors, rewards, user)` makes."""

    encoder: nn.Module
    actor: nn.Module
    critic: nn.Module
    encoder_target: nn.Module
    actor_target: nn.Module
    critic_target: nn.Module


class Optimizers(NamedTuple):
    """One optimizer for each network that learns."""

    encoder: torch.optim.Optimizer
    actor: torch.optim.Optimizer
    critic: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: Config) -> Networks:
    """Returns fresh networks for frames of `state_dim` numbers, F * (d + 1)."""
    frame_size = state_dim // (action_dim + 1)
    made: Any = make_encoder(config.encoder, action_dim, frame_size, width=config.width, n_users=config.n_users)
    actor = Actor(made.out_dim, action_dim, config.hidden, config.actor_init, config.dropout)
    critic = Critic(made.out_dim, action_dim, config.hidden, config.critic_init)
    learning = Framed(made), actor, critic
    return Networks(*learning, *map(copy.deepcopy, learning))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the state module, for the actor and for the critic."""
    actor, encoder = nets.actor.parameters(), {"params": list(nets.encoder.parameters())}  # "flat" has none
    return Optimizers(
        encoder=torch.optim.Adam([encoder], lr=config.encoder_lr, fused=True),
        actor=torch.optim.AdamW(actor, lr=config.actor_lr, weight_decay=config.weight_decay, fused=True),
        critic=torch.optim.Adam(nets.critic.parameters(), lr=config.critic_lr, fused=True),
    )


def drr_update(
    batch: Decisions,
    nets: Networks,
    optimizers: Optimizers,
    items: torch.Tensor,
    config: Config,
    *,
    user: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    shown: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of DRR, or only measures its losses; see `agents.embedding_agent.Update`.

    `user` (B,) says whose decisions they are, n_users for whoever has no vector, and `weight` (B,) what each counts in
    the critic's loss. Beside the losses it returns the TD errors, `errors` (B,).
    """
    shown = items if shown is None else shown
    with torch.no_grad():
        next_state = nets.encoder_target(*batch.next_state, user)  # (B, s)
        next_seen = seen_by_critic(nets.actor_target(next_state), items, shown, config, generator)  # (B, d)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        next_value = nets.critic_target(next_state, next_seen)  # (B,)
        target = within_range(batch.reward + config.gamma * goes_on * next_value, config)  # (B,)
    nets.encoder.train(learn)
    nets.critic.train(learn)
    state = nets.encoder(*batch.state, user)  # (B, s)
    value = nets.critic(state, batch.vector)  # (B,)
    nets.encoder.eval()
    nets.critic.eval()
    errors = target - value
    critic_loss = (errors.square() if weight is None else weight * errors.square()).mean()

    nets.actor.train(learn)
    action = nets.actor(state)  # (B, d)
    nets.actor.eval()
    with frozen(nets.critic):
        actor_value = nets.critic(state.detach(), seen_by_critic(action, items, shown, config, generator))  # (B,)
    scale = scale_of(actor_value) if config.normalise_q else 1.0
    actor_loss = -config.q_weight * actor_value.mean() / scale
    losses = {"critic_loss": critic_loss, "value": value.mean(), "actor_value": actor_value.mean()}
    if config.bc_weight > 0:
        losses["bc_loss"] = imitation_of_good(action, batch, items, config, config.bc_reward, generator)
        actor_loss = actor_loss + config.bc_weight * losses["bc_loss"]
    if learn:
        descend_all(critic_loss + actor_loss, nets[:3], optimizers, config.max_norm)
        follow(nets[:3], nets[3:], config.tau)
    return detached(losses | {"actor_loss": actor_loss, "errors": errors})


def descend_all(
    loss: torch.Tensor,
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    max_norm: float | None,
) -> None:
    """Makes a step of each network by its own optimizer, all from one backward pass; see `layers.descend`."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    if parameters := trainable(networks):
        loss.backward(inputs=parameters)
    for network, optimizer in zip(networks, optimizers, strict=True):
        if max_norm is not None and (own := trainable([network])):
            nn.utils.clip_grad_norm_(own, max_norm)
        optimizer.step()


class DRR(EmbeddingAgent):
    """Deep reinforcement recommendation over item vectors; see `EmbeddingAgent` for what it is made from.

    Attributes:
        wander: Exploration's noise as it stands (B, d); None before there was any.
    """

    wander: torch.Tensor | None = None

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(drr_update)

    def fresh_networks(self) -> Networks:
        """Returns fresh networks; one state module serves them all."""
        return make_networks(self.state_dim, self.catalog.dim, self.config)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1 for vectors, rewards and, if they are known, users."""
        return self.nets.actor(self.nets.encoder(*state))

    def make_buffer(self, capacity: int, frame_size: int, seed: int = 0) -> PrioritizedReplay:
        """Returns the buffer this agent learns from in an environment."""
        config = self.config
        betas = {"beta": config.priority_beta, "beta_steps": config.beta_steps}
        return PrioritizedReplay(capacity, frame_size, seed, alpha=config.priority_alpha, **betas)

    def step(self, batch: Batch, learn: bool, **more: Any) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; tells TD errors to the buffer a batch was drawn from."""
        losses = dict(super().step(batch, learn, **self._beside(batch, learn), **more))
        errors = losses.pop("errors")
        if learn and isinstance(batch, Drawn):
            batch.tell(errors.cpu().numpy())
        return losses

    @torch.no_grad()
    def values_of(self, batch: Batch) -> torch.Tensor:
        """Returns the critic's values (B,) of logged decisions."""
        decisions = self.look_up(batch)
        with arithmetic(self.config.precision, self.device):
            values: torch.Tensor = self.nets.critic(
                self.nets.encoder(*decisions.state, self._known(batch.user)), decisions.vector
            )
        return values

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32 in -1..1; with `explore`, Ornstein-Uhlenbeck noise is added.

        Noise goes on from what the same rows were given before, if there were as many.
        """
        state, user = self.state_of(history), self._known(history.user)
        action = self.policy(*state) if user is None else self.policy(*state, user)
        if not explore:
            return action
        noise = self.config.noise * torch.randn(action.shape, generator=self.generator, device=self.device)  # (B, d)
        if self.wander is not None and self.wander.shape == action.shape:
            noise += (1.0 - self.config.theta) * self.wander
        self.wander = noise
        return (action + noise).clamp(-1.0, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Returns what every such agent has, and exploration's noise as it stands."""
        return super().state_dict() | {"wander": self.wander}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        super().load_state_dict(state)
        self.wander = None if state["wander"] is None else state["wander"].to(self.device)

    def _known(self, user: Any) -> torch.Tensor | None:
        return known_users(user, self.config.n_users, self.device)

    def _beside(self, batch: Batch, learn: bool) -> dict[str, torch.Tensor | None]:
        """Returns what the update is told beside the decisions: whose they are, and what they count."""
        user = self._known(batch.user)
        if user is not None and learn:
            hidden = torch.rand(len(user), generator=self.generator, device=self.device) < self.config.unnamed
            user = user.masked_fill(hidden, self.config.n_users)
        return {"user": user, "weight": to_tensor(batch.weight, self.device) if isinstance(batch, Drawn) else None}


def main(run: Run, config: Config) -> None:
    """Trains DRR on a log and prints how it ranks for held-out users."""
    train_agent(DRR, run, config)


if __name__ == "__main__":
    command(main)
