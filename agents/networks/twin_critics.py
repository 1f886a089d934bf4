"""Twin critics, worked out side by side; and the networks that TD3 and TD3+BC have in common."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.networks.configs import EmbeddingConfig
from agents.networks.layers import Actor, Critic, follow, parts_linear


class TwinCritic(nn.Module):
    """Two critics of one shape: what each would compute alone, in half as many matrix products of twice the size.

    Args:
        first: The critic whose weights the first one begins with; it must have no dropout.
        second: Likewise.

    Example:
        >>> first, second = Critic(3, 2, hidden=4), Critic(3, 2, hidden=4)
        >>> twins, state, action = TwinCritic(first, second), torch.ones(5, 3), torch.ones(5, 2)
        >>> torch.allclose(twins(state, action), torch.stack((first(state, action), second(state, action))))
        True
    """

    def __init__(self, first: Critic, second: Critic) -> None:
        super().__init__()

        def both(layer: str, name: str) -> torch.Tensor:
            return torch.stack([getattr(getattr(critic, layer), name).detach() for critic in (first, second)])

        self.weight1 = nn.Parameter(both("first", "weight").flatten(0, 1))  # (2 * hidden, in)
        self.bias1 = nn.Parameter(both("first", "bias").flatten())  # (2 * hidden,)
        self.weight2 = nn.Parameter(both("second", "weight").mT.contiguous())  # (2, hidden in, hidden out)
        self.bias2 = nn.Parameter(both("second", "bias")[:, None])  # (2, 1, hidden)
        self.weight3 = nn.Parameter(both("last", "weight").mT.contiguous())  # (2, hidden, 1)
        self.bias3 = nn.Parameter(both("last", "bias")[:, None])  # (2, 1, 1)

    def forward(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns both values (2, B) of an action (B, action_dim) in a state, given whole or in parts.

        Of n actions of each state, (B, n, action_dim), it returns the values (2, B, n).
        """
        hidden = functional.relu(parts_linear(self.weight1, self.bias1, *state_and_action), inplace=True)
        shape = hidden.shape[:-1]  # (B,) or (B, n)
        hidden = hidden.view(-1, 2, self.weight2.shape[1]).transpose(0, 1)  # (2, N, hidden)
        hidden = functional.relu(torch.baddbmm(self.bias2, hidden, self.weight2), inplace=True)
        values = torch.baddbmm(self.bias3, hidden, self.weight3)  # (2, N, 1)
        return values.view(2, *shape).float()

    def first_value(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns the first critic's values alone, (B,) or (B, n)."""
        n_hidden = self.weight2.shape[1]
        hidden = parts_linear(self.weight1[:n_hidden], self.bias1[:n_hidden], *state_and_action)
        hidden = functional.relu(hidden, inplace=True) @ self.weight2[0] + self.bias2[0]
        value = functional.relu(hidden, inplace=True) @ self.weight3[0] + self.bias3[0]
        return value.squeeze(-1).float()

    def split(self) -> tuple[Critic, Critic]:
        """Returns both as networks of their own, with copies of the weights."""
        n_hidden, width = self.weight1.shape[0] // 2, self.weight1.shape[1]
        first, second = (Critic(width, 0, n_hidden).to(self.weight1.device) for _ in range(2))
        for i, critic in enumerate((first, second)):
            rows = slice(i * n_hidden, (i + 1) * n_hidden)
            layers = self.weight1[rows], self.bias1[rows], *(part[i].mT for part in list(self.parameters())[2:])
            for parameter, own in zip(critic.parameters(), layers, strict=True):
                parameter.data.copy_(own.detach().reshape(parameter.shape))
        return first, second


class Pair(nn.Module):
    """Any two networks as twin critics, for those that are not both a `Critic`.

    Args:
        first: Called with state and action, returns values (B,), or (B, n) of n actions.
        second: Likewise.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns the values of both, (2, B) or (2, B, n)."""
        return torch.stack((self.first(*state_and_action), self.second(*state_and_action)))

    def first_value(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns the first one's values alone."""
        value: torch.Tensor = self.first(*state_and_action)
        return value


class Networks(NamedTuple):
    """An actor, twin critics, and their slow copies."""

    actor: nn.Module
    critics: Any  # `TwinCritic`, `Pair` or the like
    actor_target: nn.Module
    critics_target: Any


class Optimizers(NamedTuple):
    """One optimizer for the actor, one for both critics."""

    actor: torch.optim.Optimizer
    critics: torch.optim.Optimizer


def make_networks(state_dim: int, action_dim: int, config: EmbeddingConfig) -> Networks:
    """Returns fresh networks."""
    actor = Actor(state_dim, action_dim, config.hidden, config.actor_init, config.dropout)
    learning = actor, make_critics(state_dim, action_dim, config)
    return Networks(*learning, *map(copy.deepcopy, learning))


def make_critics(state_dim: int, action_dim: int, config: EmbeddingConfig) -> TwinCritic:
    """Returns fresh twin critics."""
    return TwinCritic(*(Critic(state_dim, action_dim, config.hidden, config.critic_init) for _ in range(2)))


def make_optimizers(nets: Networks, config: EmbeddingConfig) -> Optimizers:
    """Returns Adam for the actor, and for both critics together."""
    return Optimizers(
        actor=torch.optim.AdamW(
            nets.actor.parameters(), lr=config.actor_lr, weight_decay=config.weight_decay, fused=True
        ),
        critics=torch.optim.Adam(nets.critics.parameters(), lr=config.critic_lr, fused=True),
    )


def move_targets(nets: Networks, tau: float) -> None:
    """Moves all slow copies a share of the way to their networks."""
    follow(nets[:2], nets[2:], tau)


def smoothed(action: torch.Tensor, noise: float, noise_clip: float, generator: torch.Generator | None) -> torch.Tensor:
    """Returns actions (B, d) with clipped Gaussian noise, kept within -1..1 (Fujimoto et al. 2018, equation 14)."""
    return (action + clipped_noise(action, noise, noise_clip, generator)).clamp(-1.0, 1.0)


def clipped_noise(like: torch.Tensor, size: float, clip: float, generator: torch.Generator | None) -> torch.Tensor:
    """Returns Gaussian noise in the shape of a tensor, of standard deviation `size`, within plus or minus `clip`."""
    drawn = size * torch.randn(like.shape, generator=generator, device=like.device)
    return drawn.clamp(-clip, clip)
