"""One actor and twin critics with their slow copies: the networks that TD3 and TD3+BC have in common."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from agents.embedding_agent import ItemConfig
from agents.networks import Actor, Critic, parameters_of, polyak_update


class Networks(NamedTuple):
    """An actor, twin critics, and their slow copies."""

    actor: nn.Module
    critic1: nn.Module
    critic2: nn.Module
    actor_target: nn.Module
    critic1_target: nn.Module
    critic2_target: nn.Module

    @property
    def critics(self) -> tuple[nn.Module, nn.Module]:
        """Both critics."""
        return self.critic1, self.critic2

    @property
    def critic_targets(self) -> tuple[nn.Module, nn.Module]:
        """The slow copies of both critics."""
        return self.critic1_target, self.critic2_target


class Optimizers(NamedTuple):
    """One optimizer for the actor, one for both critics."""

    actor: torch.optim.Optimizer
    critics: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: ItemConfig) -> Networks:
    """Returns fresh networks."""
    actor = Actor(state_dim, action_dim, config.hidden, config.actor_init, config.dropout)
    critic1, critic2 = (Critic(state_dim, action_dim, config.hidden, config.critic_init) for _ in range(2))
    return Networks(actor, critic1, critic2, *map(copy.deepcopy, (actor, critic1, critic2)))


def make_optimizers(nets: Networks, config: ItemConfig) -> Optimizers:
    """Returns Adam for the actor, and for both critics together."""
    return Optimizers(
        actor=torch.optim.AdamW(
            nets.actor.parameters(), lr=config.actor_lr, weight_decay=config.weight_decay, fused=True
        ),
        critics=torch.optim.Adam(parameters_of(nets.critics), lr=config.critic_lr, fused=True),
    )


def move_targets(nets: Networks, tau: float) -> None:
    """Moves all three slow copies a share of the way to their networks."""
    polyak_update(parameters_of(nets[:3]), parameters_of(nets[3:]), tau)


def smoothed(action: torch.Tensor, noise: float, noise_clip: float, generator: torch.Generator | None) -> torch.Tensor:
    """Returns actions (B, d) with clipped Gaussian noise, kept within -1..1 (Fujimoto et al. 2018, equation 14)."""
    drawn = noise * torch.randn(action.shape, generator=generator, device=action.device)  # (B, d)
    return (action + drawn.clamp(-noise_clip, noise_clip)).clamp(-1.0, 1.0)
