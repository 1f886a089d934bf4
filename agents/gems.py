"""GeMS: slates as points of a space that a variational autoencoder learned from a log, and soft actor-critic in it.

Paper: Deffayet, Thonet, Renders, de Rijke (2023), Generative slate recommendation with reinforcement learning, WSDM,
sections 4.1 (the autoencoder, whose evidence bound has the slate's items, its clicks weighed by `click_weight`, and a
divergence weighed by `kl_weight`) and 4.2; Haarnoja et al. (2018), arXiv:1812.05905, for the learner.
First `pretrain` on logged slates and clicks, then `fit_online`: the actor chooses a latent point, the frozen decoder
makes a slate of it, place by place the likeliest item that may be shown and is not in it yet. Critics judge the points.
Where we differ:
- Item embeddings of the autoencoder begin with the items' vectors, not at random: that takes a hundredth of the log.
- States are the last slates, each as the mean vector of its clicked items, that of all its items and its share of
  clicks, in a row; the paper's come from a GRU over learned item embeddings. Frames must hold whole slates, misses
  with reward 0, as in `recgym/SlateBoredom-v0`.
- Latent actions lie in plus or minus `latent_clip`, by tanh. Twin critics, where the paper's has one.
- A slate shows an item once. Gradients are shortened and rewards brought to a size of 1; `preset="paper"` does neither.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from agents.base import to_tensor
from agents.item_agent import FrameConfig, Frames, ItemAgent
from agents.networks.actors import GaussianActor, squashed
from agents.networks.hyperparameters import at_least_one, below_one, not_negative, positive, share
from agents.networks.layers import Critic, Scalar, descend, follow, frozen
from agents.networks.twin_critics import TwinCritic
from agents.training.slates import SlateBatch, SlateBuffer
from agents.training.train import command
from agents.training.worlds import WorldRun, train_in_world
from recgym.errors import DataError
from recgym.frames import History


@dataclass(frozen=True)
class Config(FrameConfig):
    """Hyperparameters of GeMS, with those of `FrameConfig`."""

    k: int = at_least_one(10)  # items of a slate
    gamma: float = share(0.8)  # discount per step
    tau: float = share(0.005)  # share that targets move towards their networks at every update
    actor_lr: float = not_negative(3e-4)  # Adam's step size for the actor
    critic_lr: float = not_negative(1e-3)  # and for the critics
    alpha_lr: float = not_negative(1e-3)  # and for the logarithm of alpha
    alpha_init: float = positive(0.2)  # weight of entropy in the beginning
    latent_dim: int = at_least_one(32)  # width of the latent space
    latent_clip: float = positive(2.0)  # how far latent actions reach
    kl_weight: float = not_negative(0.5)  # of the divergence in the autoencoder's loss
    click_weight: float = not_negative(0.2)  # of the clicks in it
    lr: float = positive(1e-3)  # Adam's step size for the autoencoder
    dropout: float = below_one(0.0)
    mask_seen: bool = False


PAPER: dict[str, Any] = {"gamma": 0.8, "max_norm": None, "reward_scale": 1.0}


class SlateVAE(nn.Module):
    """An autoencoder of slates and clicks, over item embeddings that begin with the items' vectors.

    Args:
        table: Item vectors, padding last (n_items + 1, d).
        k: Places.
        latent_dim: Width of a latent point.
        hidden: Width of the first hidden layer; the second has half.
    """

    def __init__(self, table: torch.Tensor, k: int, latent_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.items, width, half = nn.Embedding.from_pretrained(table.clone(), freeze=False), table.shape[1], hidden // 2
        into, out = [k * (width + 1), hidden, half], [latent_dim, half, hidden, k * (width + 1)]
        self.encoder = nn.Sequential(*_layers(into), nn.ReLU(), nn.Linear(half, 2 * latent_dim))
        self.decoder = nn.Sequential(*_layers(out))
        self.k, self.width = k, width

    def encode(self, slate: torch.Tensor, clicks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and log variance (B, latent_dim) of slates (B, k) with clicks (B, k)."""
        seen = torch.cat([self.items(slate), clicks[..., None]], dim=2).flatten(1)
        mean, log_variance = self.encoder(seen).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)

    def decode(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits of items (B, k, n_items) and of clicks (B, k) at every place."""
        places = self.decoder(latent).unflatten(1, (self.k, self.width + 1))
        return places[..., :-1] @ self.items.weight[:-1].T, places[..., -1]


def vae_loss(vae: Any, slate: torch.Tensor, clicks: torch.Tensor, config: Config, noise: torch.Tensor) -> torch.Tensor:
    """Returns the negative evidence bound per slate, a 0-d tensor; `noise` (B, latent_dim) is standard normal."""
    mean, log_variance = vae.encode(slate, clicks)
    logits, click_logits = vae.decode(mean + (0.5 * log_variance).exp() * noise)
    items = functional.cross_entropy(logits.flatten(0, 1), slate.flatten(), reduction="sum")
    clicked = functional.binary_cross_entropy_with_logits(click_logits, clicks, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum()
    return (items + config.click_weight * clicked + config.kl_weight * divergence) / len(slate)


class Networks(NamedTuple):
    """The autoencoder; the actor, the critics and their slow copy, and the logarithm of alpha."""

    vae: nn.Module
    actor: nn.Module
    critics: nn.Module
    critics_target: nn.Module
    log_alpha: nn.Module


class Optimizers(NamedTuple):
    """One optimizer for each network that learns."""

    vae: torch.optim.Optimizer
    actor: torch.optim.Optimizer
    critics: torch.optim.Optimizer
    log_alpha: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last.

    Raises:
        DataError: if frames do not hold whole slates.
    """
    if frame_size % config.k:
        raise DataError(f"frames must hold whole slates of k={config.k}, got frame_size={frame_size}; give a multiple")
    state_dim = frame_size // config.k * (2 * table.shape[1] + 1)
    critics = TwinCritic(*(Critic(state_dim, config.latent_dim, config.hidden) for _ in range(2)))
    return Networks(
        SlateVAE(table, config.k, config.latent_dim),
        GaussianActor(state_dim, config.latent_dim, config.hidden),
        critics,
        copy.deepcopy(critics),
        Scalar(math.log(config.alpha_init)),
    )


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for every network that learns."""
    rates = (config.lr, config.actor_lr, config.critic_lr, config.alpha_lr)
    learning = (nets.vae, nets.actor, nets.critics, nets.log_alpha)
    return Optimizers(*(torch.optim.Adam(net.parameters(), lr=lr) for net, lr in zip(learning, rates, strict=True)))


class GeMS(ItemAgent):
    """GeMS over items; see the head of this file, and `ItemAgent` for its arguments. It acts in slates of `k`.

    Attributes:
        latent: The latent points (B, latent_dim) of the slates it acted with last, which its buffer keeps.
    """

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)
    make_buffer = SlateBuffer
    latent: np.ndarray | None = None

    @property
    def k(self) -> int:
        """Items of a slate."""
        return int(self.config.k)

    def pretrain(self, slates: np.ndarray, clicks: np.ndarray, n_steps: int, batch_size: int = 256) -> float:
        """Makes updates of the autoencoder on logged slates (N, k) and clicks (N, k); returns their last mean loss.

        Raises:
            DataError: if the slates are of another k, or hold empty places.
        """
        if slates.ndim != 2 or slates.shape[1] != self.k or slates.max() >= self.catalog.n_items:
            raise DataError(
                f"slates must be full and of k={self.k} items, got shape {slates.shape} and items up to "
                f"{slates.max()}; leave others out"
            )
        vae: Any = self.nets.vae
        recent: list[torch.Tensor] = []
        for _ in range(n_steps):
            rows = torch.randint(len(slates), (batch_size,), generator=self.generator, device=self.device).cpu().numpy()
            slate, clicked = to_tensor(slates[rows], self.device).long(), to_tensor(clicks[rows], self.device).float()
            noise = torch.randn(batch_size, self.config.latent_dim, generator=self.generator, device=self.device)
            loss = vae_loss(vae, slate, clicked, self.config, noise)
            descend(loss, vae, self.optimizers.vae, self.config.max_norm)
            recent = [*recent[-99:], loss.detach()]
        return float(torch.stack(recent).mean())

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns (B, n_items) how likely each item stands at the first place of the slate."""
        logits: torch.Tensor = self.nets.vae.decode(self.points(frames))[0]
        return logits[:, 0]

    def points(self, frames: Frames, explore: bool = False) -> torch.Tensor:
        """Returns latent actions (B, latent_dim): the middle of the policy, or drawn from it to explore."""
        mean, log_std = self.nets.actor(self.state(frames))
        point = squashed(mean, log_std, self.generator)[0] if explore else torch.tanh(mean)
        return self.config.latent_clip * point

    def state(self, frames: Frames) -> torch.Tensor:
        """Returns states (B, F / k * (2 d + 1)): of each slate clicked vectors, shown vectors and share of clicks."""
        vectors = frames.vectors.unflatten(1, (-1, self.k))  # (B, F / k, k, d)
        clicked = (frames.rewards > 0).float().unflatten(1, (-1, self.k))  # (B, F / k, k)
        n = clicked.sum(dim=2, keepdim=True)  # (B, F / k, 1)
        liked = (vectors * clicked[..., None]).sum(dim=2) / n.clamp(min=1)
        return torch.cat([liked, vectors.mean(dim=2), n / self.k], dim=2).flatten(1)

    @torch.no_grad()
    def slates(self, history: History, allowed: Any = None, *, explore: bool = False) -> torch.Tensor:
        """Returns the slates to show (B, k) int64, of items that may be: `allowed` (B, n_items) bool, None for all."""
        point = self.points(self.frames_of(history), explore)
        self.latent = (point / self.config.latent_clip).cpu().numpy()
        places = self.nets.vae.decode(point)[0]  # (B, k, n_items)
        taken = torch.zeros_like(places[:, 0], dtype=torch.bool)
        if allowed is not None:
            taken = ~to_tensor(allowed, self.device)
        slate = []
        for logits in places.unbind(dim=1):
            slate.append(logits.masked_fill(taken, -torch.inf).argmax(dim=1, keepdim=True))
            taken.scatter_(1, slate[-1], True)
        return torch.cat(slate, dim=1)

    def act(  # type: ignore[override]  # its slates have the k it was made with
        self, history: History, *, explore: bool = False, allowed: Any = None
    ) -> torch.Tensor:
        """Returns slates (B, k) int64; with `explore`, of latent points drawn from the policy."""
        return self.slates(history, allowed, explore=explore)

    def step(self, batch: Any, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update on a `SlateBatch` with latent points, or only measures its losses."""
        return gems_update(self, batch, learn=learn)


def gems_update(agent: GeMS, batch: SlateBatch, *, learn: bool = True) -> dict[str, torch.Tensor]:
    """Makes one step of soft actor-critic in the latent space; returns losses as 0-d tensors, with no host sync.

    Raises:
        DataError: if the batch has no latent points: it must be of slates that the agent itself showed.
    """
    if batch.latent is None:
        raise DataError("decisions must hold the latent points of their slates, got none; let GeMS live through them")
    nets, optimizers, c, generator = agent.nets, agent.optimizers, agent.config, agent.generator
    items, later = (to_tensor(part, agent.device).long() for part in (batch.items, batch.next_items))
    n_items, user = agent.catalog.n_items, batch.user
    state, next_state = (
        agent.state(agent.look_at(part, rewards, (part != n_items).sum(dim=1), user))
        for part, rewards in ((items, batch.rewards), (later, batch.next_rewards))
    )
    latent, alpha = to_tensor(batch.latent, agent.device).float(), nets.log_alpha().detach().exp()
    with torch.no_grad():
        mean, log_std = nets.actor(next_state)
        point, log_density = squashed(mean, log_std, generator)
        value = nets.critics_target(next_state, point).amin(dim=0) - alpha * log_density  # (B,)
        goes_on = (~to_tensor(batch.terminated, agent.device).bool()).float()
        target = agent._reward(batch.reward) + c.gamma * goes_on * value
    critic_loss = (nets.critics(state, latent) - target).square().mean()
    if learn:
        descend(critic_loss, nets.critics, optimizers.critics, c.max_norm)
    mean, log_std = nets.actor(state)
    point, log_density = squashed(mean, log_std, generator)
    with frozen(nets.critics):
        actor_value = nets.critics(state, point).amin(dim=0).mean()
    actor_loss = alpha * log_density.mean() - actor_value
    alpha_loss = -nets.log_alpha() * (log_density.detach() - c.latent_dim).mean()
    if learn:
        descend(actor_loss, nets.actor, optimizers.actor, c.max_norm)
        descend(alpha_loss, nets.log_alpha, optimizers.log_alpha)
        follow([nets.critics], [nets.critics_target], c.tau)
    losses = {"critic_loss": critic_loss, "actor_loss": actor_loss, "alpha": alpha, "actor_value": actor_value}
    return {name: loss.detach() for name, loss in losses.items()}


def _layers(widths: list[int]) -> list[nn.Module]:
    made: list[nn.Module] = []
    for into, out in pairwise(widths):
        made += [*([nn.ReLU()] if made else []), nn.Linear(into, out)]
    return made


def pretrained_on_random_slates(agent: GeMS, env: Any, n_slates: int = 20_000, n_steps: int = 2_000) -> None:
    """Teaches the autoencoder `n_slates` random slates and what was clicked in them, in `n_steps` updates."""
    random, slates, clicks = np.random.default_rng(agent.seed), [], []
    env.reset(seed=agent.seed)
    for _ in range(-(-n_slates // env.num_envs)):
        drawn = np.argsort(-random.random((env.num_envs, agent.catalog.n_items)) * env.action_masks(), axis=1)
        infos = env.step(drawn[:, : agent.k])[4]
        full = (infos["items"] < agent.catalog.n_items).all(axis=1)  # sessions that have just begun show none
        slates.append(infos["items"][full])
        clicks.append(infos["answered"][full])
    agent.pretrain(np.concatenate(slates), np.concatenate(clicks), n_steps)


def main(run: WorldRun, config: Config) -> None:
    """Trains GeMS in an environment of slates and prints what held-out people's sessions earn."""
    train_in_world(GeMS, run, config, prepare=pretrained_on_random_slates)


if __name__ == "__main__":
    command(main)
