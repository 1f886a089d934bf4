"""Actors beyond the deterministic one: a squashed Gaussian, and the generator and perturbator of BCQ."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from agents.networks.layers import Dropout, PartsLinear, init_uniform


class GaussianActor(nn.Module):
    """A stochastic policy: state -> hidden -> hidden -> mean and log of the standard deviation of a normal; ReLU.

    Actions are `tanh` of what is drawn (see `squashed`).

    Args:
        state_dim: Width of a state.
        action_dim: Width d of an action.
        hidden: Width of both hidden layers.
        last_init: Weights and biases of the mean begin uniform in plus or minus this; None keeps torch's own.
        dropout: Share of hidden units dropped while training.
        log_std: Bounds of the logarithm.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden: int = 256,
        last_init: float | None = None,
        dropout: float = 0.0,
        log_std: tuple[float, float] = (-20.0, 2.0),
    ) -> None:
        super().__init__()
        self.first = PartsLinear(state_dim, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.mean = nn.Linear(hidden, action_dim)
        self.log_std = nn.Linear(hidden, action_dim)
        self.dropout = Dropout(dropout)
        self.bounds = log_std
        init_uniform(self.mean, last_init)

    def forward(self, *state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and log of the standard deviation (B, action_dim) for states, given whole or in parts."""
        hidden = self.dropout(functional.relu(self.first(*state), inplace=True))  # (B, hidden)
        hidden = self.dropout(functional.relu(self.second(hidden), inplace=True))  # (B, hidden)
        return self.mean(hidden).float(), self.log_std(hidden).float().clamp(*self.bounds)


def squashed(
    mean: torch.Tensor, log_std: torch.Tensor, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws actions tanh(u), u normal, and returns them (B, d) with the logarithm of their density (B,).

    Source: Haarnoja et al. (2018), Soft actor-critic, appendix C, with log(1 - tanh(u)^2) as
    2 * (log 2 - u - softplus(-2u)), which does not run out of digits.
    """
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)  # (B, d)
    before = mean + log_std.exp() * noise
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    squash = 2.0 * (math.log(2.0) - before - functional.softplus(-2.0 * before))
    return torch.tanh(before), (normal - squash).sum(dim=-1)


class Generator(nn.Module):
    """A conditional variational autoencoder of actions: (state, action) -> latent point -> action, given the state.

    Args:
        state_dim: Width of a state.
        action_dim: Width d of an action.
        latent_dim: Width of a latent point.
        hidden: Width of the two hidden layers of encoder and of decoder.
        dropout: Share of the decoder's hidden units dropped while training.
        log_std: Bounds of the logarithm of the encoder's standard deviation.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        latent_dim: int,
        hidden: int = 750,
        dropout: float = 0.0,
        log_std: tuple[float, float] = (-4.0, 15.0),
    ) -> None:
        super().__init__()
        self.encoder = PartsLinear(state_dim + action_dim, hidden)
        self.encoder_second = nn.Linear(hidden, hidden)
        self.mean = nn.Linear(hidden, latent_dim)
        self.log_std = nn.Linear(hidden, latent_dim)
        self.decoder = PartsLinear(state_dim + latent_dim, hidden)
        self.decoder_second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, action_dim)
        self.dropout = Dropout(dropout)
        self.bounds = log_std
        self.latent_dim = latent_dim

    def encode(self, *state_and_action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and log of the standard deviation (B, latent_dim) of the latent point of an action."""
        hidden = functional.relu(self.encoder(*state_and_action), inplace=True)
        hidden = functional.relu(self.encoder_second(hidden), inplace=True)
        return self.mean(hidden).float(), self.log_std(hidden).float().clamp(*self.bounds)

    def decode(self, *state_and_latent: torch.Tensor) -> torch.Tensor:
        """Returns actions in -1..1, (B, d) for a latent point (B, latent_dim) of each state, (B, n, d) for n points."""
        hidden = self.dropout(functional.relu(self.decoder(*state_and_latent), inplace=True))
        hidden = self.dropout(functional.relu(self.decoder_second(hidden), inplace=True))
        return torch.tanh(self.last(hidden).float())

    def forward(self, *state_action_and_noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns reconstructed actions (B, d), mean and log_std; the last argument is noise (B, latent_dim)."""
        *state, action, noise = state_action_and_noise
        mean, log_std = self.encode(*state, action)
        return self.decode(*state, mean + log_std.exp() * noise), mean, log_std


class Perturbator(nn.Module):
    """Moves each number of an action by at most `phi`, within -1..1: (state, action) -> hidden -> hidden -> action.

    Args:
        state_dim: Width of a state.
        action_dim: Width d of an action.
        phi: How far.
        hidden: Width of both hidden layers.
        last_init: The last layer's weights and biases begin uniform in plus or minus this; None keeps torch's own.
    """

    def __init__(
        self, state_dim: int, action_dim: int, phi: float = 0.05, hidden: int = 256, last_init: float | None = None
    ) -> None:
        super().__init__()
        self.first = PartsLinear(state_dim + action_dim, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, action_dim)
        self.phi = phi
        init_uniform(self.last, last_init)

    def forward(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns actions of the shape of the last argument, (B, d) or (B, n, d)."""
        hidden = functional.relu(self.first(*state_and_action), inplace=True)
        hidden = functional.relu(self.second(hidden), inplace=True)
        return (state_and_action[-1] + self.phi * torch.tanh(self.last(hidden).float())).clamp(-1.0, 1.0)
