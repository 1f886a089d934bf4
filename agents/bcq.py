"""BCQ over item vectors, learned from logs.

Paper: Fujimoto, Meger and Precup (2019), Off-policy deep reinforcement learning without exploration, ICML, algorithm 1:
a variational autoencoder makes actions like the logged ones, a perturbation moves them a little, and of n such actions
the one is taken that the critics value most; a target weighs the smaller of two critics against the larger.
Where we differ:
- The logged item's vector is the logged action; an action's vector ranks all items by inner product or cosine.
- The autoencoder learns to rebuild the *item*: cross-entropy under softmax(temperature * scores), weighted by how good
  the reward was, against the whole divergence of its latent points: with a mean over them it would learn to look the
  item up there, and forget the state. On a small log little of the item is left in them then, and the n actions are
  much alike; a lower `kl_weight` sets them apart. The decoder's hidden units drop out while it learns.
  `reconstruction="vector"` is the paper's squared distance with a mean divergence.
- The critics judge the *expected item* of a vector: the mean item vector under the same softmax. They have learned from
  item vectors only, and this keeps it among them. `critic_action="vector"` shows them the vector itself.
- Gradients are shortened, and gamma is another. `preset="paper"` is the paper's update with its numbers; see the class
  for what it sets.
- Recommending tries the same n latent points for everyone, drawn when the agent is made: the same history gets the same
  ranking, always. Exploring draws new ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.embedding_agent import Decisions, EmbeddingAgent
from agents.networks.actors import Generator, Perturbator
from agents.networks.configs import EmbeddingConfig
from agents.networks.hyperparameters import at_least_one, not_negative, positive, share
from agents.networks.layers import descend, follow, frozen
from agents.networks.losses import detached, imitation_of_good, seen_by_critic, squared_errors, within_range
from agents.networks.twin_critics import make_critics
from agents.training.train import Run, command, train_agent
from recgym.catalog import Catalog
from recgym.frames import History


@dataclass(frozen=True)
class Config(EmbeddingConfig):
    """Hyperparameters of BCQ, with those of `EmbeddingConfig`; the perturbation is its actor."""

    n_samples: int = at_least_one(10)  # actions tried for a state
    phi: float = not_negative(0.05)  # how far a number of an action may be moved
    smaller: float = share(0.75)  # weight of the smaller of both critics' values in a target; the larger has the rest
    generator_lr: float = not_negative(1e-3)  # Adam's step size for the autoencoder
    generator_hidden: int = at_least_one(750)  # width of its hidden layers
    latent_dim: int | None = at_least_one(None)  # width of a latent point; None is twice the width of actions
    # The numbers of latent points that actions are made from stay within plus or minus this.
    latent_clip: float = positive(0.5)
    kl_weight: float = not_negative(
        0.5
    )  # weight of latent points' divergence from a standard normal; summed for "items", else mean
    reconstruction: Literal["items", "vector"] = "items"  # by cross-entropy over items, or by squared distance
    bc_reward: float = 2.0  # rebuilding a decision counts exp(bc_reward * reward), over the batch's sum of it; "items"


PAPER: dict[str, Any] = {
    "gamma": 0.99,
    "critic_action": "vector",
    "input_scale": 1.0,
    "reward_scale": 1.0,
    "dropout": 0.0,
    "max_norm": None,
    "actor_init": None,
    "critic_init": None,
    "reconstruction": "vector",
}


class Networks(NamedTuple):
    """The networks of BCQ, and the slow copies of all but the generator."""

    generator: Generator
    perturbator: nn.Module
    critics: Any  # `TwinCritic`, `Pair` or the like
    perturbator_target: nn.Module
    critics_target: Any


class Optimizers(NamedTuple):
    """One optimizer for the generator, one for the perturbator, one for both critics."""

    generator: torch.optim.Optimizer
    perturbator: torch.optim.Optimizer
    critics: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: Config) -> Networks:
    """Returns fresh networks."""
    latent = 2 * action_dim if config.latent_dim is None else config.latent_dim
    generator = Generator(state_dim, action_dim, latent, config.generator_hidden, config.dropout)
    perturbator = Perturbator(state_dim, action_dim, config.phi, config.hidden, config.actor_init)
    learning = perturbator, make_critics(state_dim, action_dim, config)
    return Networks(generator, *learning, *map(copy.deepcopy, learning))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the generator, for the perturbator, and for both critics together."""
    generator, perturbator = nets.generator.parameters(), nets.perturbator.parameters()
    return Optimizers(
        generator=torch.optim.AdamW(generator, lr=config.generator_lr, weight_decay=config.weight_decay, fused=True),
        perturbator=torch.optim.Adam(perturbator, lr=config.actor_lr, fused=True),
        critics=torch.optim.Adam(nets.critics.parameters(), lr=config.critic_lr, fused=True),
    )


def bcq_update(
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
    """Makes one step of BCQ, or only measures its losses; see `agents.embedding_agent.Update`."""
    shown = items if shown is None else shown
    generator_loss, rebuilding = generator_losses(batch, nets.generator, items, config, generator, learn)
    if learn:
        descend(generator_loss, nets.generator, optimizers.generator, config.max_norm)

    target = best_target(batch, nets, items, shown, config, generator)  # (B,)
    nets.critics.train(learn)
    values = nets.critics(*batch.state, batch.vector)  # (2, B)
    nets.critics.eval()
    critic_loss = squared_errors(values, target)
    if learn:
        descend(critic_loss, nets.critics, optimizers.critics, config.max_norm)

    with torch.no_grad():
        points = drawn_points((len(batch.action), nets.generator.latent_dim), config, generator, items.device)
        generated = nets.generator.decode(*batch.state, points)  # (B, d)
    nets.perturbator.train(learn)
    action = nets.perturbator(*batch.state, generated)  # (B, d)
    nets.perturbator.eval()
    with frozen(nets.critics):
        actor_value = nets.critics.first_value(
            *batch.state, seen_by_critic(action, items, shown, config, generator)
        )  # (B,)
    actor_loss = -actor_value.mean()
    if learn:
        descend(actor_loss, nets.perturbator, optimizers.perturbator, config.max_norm)
        follow(nets[1:3], nets[3:], config.tau)
    losses = {"critic_loss": critic_loss, "value": values[0].mean(), "actor_value": actor_value.mean()}
    return detached(losses | {"generator_loss": generator_loss, "reconstruction": rebuilding})


def generator_losses(
    batch: Decisions,
    network: Generator,
    items: torch.Tensor,
    config: Config,
    generator: torch.Generator | None,
    learn: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the autoencoder's loss, and its part for rebuilding the logged action."""
    network.train(learn)
    noise = torch.randn(len(batch.action), network.latent_dim, generator=generator, device=items.device)
    rebuilt, mean, log_std = network(*batch.state, batch.vector, noise)
    network.eval()
    divergence = -0.5 * (1.0 + 2.0 * log_std - mean.square() - (2.0 * log_std).exp())  # (B, latent_dim)
    if config.reconstruction == "items":  # both in nats of a decision
        rebuilding = imitation_of_good(rebuilt, batch, items, config, config.bc_reward, generator)
        return rebuilding + config.kl_weight * divergence.sum(dim=1).mean(), rebuilding
    rebuilding = functional.mse_loss(rebuilt, items[batch.action])
    return rebuilding + config.kl_weight * divergence.mean(), rebuilding


@torch.no_grad()
def best_target(
    batch: Decisions,
    nets: Networks,
    items: torch.Tensor,
    shown: torch.Tensor,
    config: Config,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Returns what the critics learn (B,): reward and discounted value of the best of n actions of the next state."""
    shape = (len(batch.action), config.n_samples, nets.generator.latent_dim)
    generated = nets.generator.decode(*batch.next_state, drawn_points(shape, config, generator, items.device))
    next_action = nets.perturbator_target(*batch.next_state, generated)  # (B, n, d)
    next_seen = seen_by_critic(next_action, items, shown, config, generator)
    low, high = nets.critics_target(*batch.next_state, next_seen).aminmax(dim=0)  # (B, n)
    next_value = (config.smaller * low + (1.0 - config.smaller) * high).amax(dim=1)  # (B,)
    goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
    return within_range(batch.reward + config.gamma * goes_on * next_value, config)


def drawn_points(
    shape: tuple[int, ...], config: Config, generator: torch.Generator | None, device: torch.device
) -> torch.Tensor:
    """Returns standard normal latent points, clipped."""
    return torch.randn(shape, generator=generator, device=device).clamp(-config.latent_clip, config.latent_clip)


class BCQ(EmbeddingAgent):
    """Batch-constrained Q-learning over item vectors; see `EmbeddingAgent` for what it is made from.

    Attributes:
        points: Latent points that recommending tries (n_samples, latent_dim).
    """

    presets = MappingProxyType({"paper": PAPER})
    make_config = Config
    make_networks = staticmethod(make_networks)
    make_optimizers = staticmethod(make_optimizers)
    update_function = staticmethod(bcq_update)

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        super().__init__(catalog, **options)
        shape, clip = (self.config.n_samples, self.nets.generator.latent_dim), self.config.latent_clip
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))
        self.points = drawn.clamp(-clip, clip).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Returns what every such agent has, and the latent points: other processors draw others from the same seed."""
        return super().state_dict() | {"points": self.points}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        super().load_state_dict(state)
        if "points" in state:  # states of 0.1 have none
            self.points = state["points"].to(self.device)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns vector actions (B, d) in -1..1: the best made from the agent's latent points."""
        return self.best(state, self.points.expand(state[0].shape[0], *self.points.shape))

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32 in -1..1; `explore` draws new latent points."""
        if not explore:
            return super().act(history)
        state = self.state_of(history)
        shape = (state[0].shape[0], *self.points.shape)
        return self.best(state, drawn_points(shape, self.config, self.generator, self.device))

    def best(self, state: tuple[torch.Tensor, ...], points: torch.Tensor) -> torch.Tensor:
        """Returns, of the actions made from n latent points (B, n, latent_dim), those the first critic values most."""
        actions = self.nets.perturbator(*state, self.nets.generator.decode(*state, points))  # (B, n, d)
        n = self.sizes[0]  # critics know what an item is from those they were trained with
        seen = seen_by_critic(actions, self.vectors[:n], self.shown[:n], self.config, sampled=False)
        choice = self.nets.critics.first_value(*state, seen).argmax(dim=1)  # (B,)
        return actions[torch.arange(actions.shape[0], device=self.device), choice]


def main(run: Run, config: Config) -> None:
    """Trains BCQ on a log and prints how it ranks for held-out users."""
    train_agent(BCQ, run, config)


if __name__ == "__main__":
    command(main)
