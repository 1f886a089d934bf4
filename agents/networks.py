"""The networks agents share: plain modules anyone can take and use, and the slow copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional


class PartsLinear(nn.Linear):
    """A linear layer whose input may come in parts; equals `nn.Linear` on their concatenation, which is never made.

    Example:
        >>> layer = PartsLinear(3, 4)
        >>> left, right = torch.ones(2, 1), torch.ones(2, 2)
        >>> torch.allclose(layer(left, right), layer(torch.ones(2, 3)))
        True
    """

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Returns the outputs (B, out_features) for parts (B, n_i) whose widths add up to `in_features`."""
        weights = self.weight.split([part.shape[1] for part in parts], dim=1)  # each (out_features, n_i)
        total = functional.linear(parts[0], weights[0], self.bias)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total = torch.addmm(total, part, weight.t())
        return total  # (B, out_features)


class Dropout(nn.Module):
    """Dropout that draws from a random stream of its own, so that nothing outside decides which units are dropped.

    Args:
        share: Share of units dropped while training, the others being scaled up; in eval mode nothing happens.

    Attributes:
        generator: The stream; None is torch's global one.
    """

    generator: torch.Generator | None = None

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, units: torch.Tensor) -> torch.Tensor:
        """Returns the units, some of them zero."""
        if not self.training or self.share == 0.0:
            return units
        kept = torch.rand(units.shape, generator=self.generator, device=units.device) >= self.share
        return units * kept / (1.0 - self.share)


class Actor(nn.Module):
    """A deterministic policy: state -> hidden -> hidden -> action, ReLU between, then tanh unless `bounded` is off.

    Args:
        state_dim: Width of a state: F * (d + 1) for a frame of F events.
        action_dim: Width d of an action.
        hidden: Width of both hidden layers.
        last_init: The last layer's weights and biases begin uniform in plus or minus this; None keeps torch's own.
        dropout: Share of hidden units dropped while training; never in eval mode.
        bounded: Whether actions end in tanh, so that they lie in the box from -1 to 1.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden: int = 256,
        last_init: float | None = 3e-3,
        dropout: float = 0.0,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.first = PartsLinear(state_dim, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, action_dim)
        self.dropout = Dropout(dropout)
        self.bounded = bounded
        init_uniform(self.last, last_init)

    def forward(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns actions (B, action_dim) for states (B, state_dim), given whole or in parts."""
        hidden = self.dropout(functional.relu(self.first(*state)))  # (B, hidden)
        hidden = self.dropout(functional.relu(self.second(hidden)))  # (B, hidden)
        action = self.last(hidden)  # (B, action_dim)
        return torch.tanh(action) if self.bounded else action


class Critic(nn.Module):
    """The value of an action in a state: (state, action) -> hidden -> hidden -> number, ReLU between.

    Args:
        state_dim: Width of a state.
        action_dim: Width of an action.
        hidden: Width of both hidden layers.
        last_init: As in `Actor`.
        dropout: As in `Actor`.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        hidden: int = 256,
        last_init: float | None = 3e-3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = PartsLinear(state_dim + action_dim, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)
        self.dropout = Dropout(dropout)
        init_uniform(self.last, last_init)

    def forward(self, *state_and_action: torch.Tensor) -> torch.Tensor:
        """Returns values (B,) for a state, whole or in parts, followed by the action (B, action_dim)."""
        hidden = self.dropout(functional.relu(self.first(*state_and_action)))  # (B, hidden)
        hidden = self.dropout(functional.relu(self.second(hidden)))  # (B, hidden)
        return self.last(hidden).squeeze(1)  # (B,)


def init_uniform(layer: nn.Linear, bound: float | None) -> None:
    """Sets the layer's weights and biases uniform in plus or minus `bound`; None leaves them as they are."""
    if bound is not None:
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(layer.bias, -bound, bound)


@torch.no_grad()
def polyak_update(source: Iterable[torch.Tensor], target: Iterable[torch.Tensor], tau: float) -> None:
    """Moves every target parameter a share of the way to its source: target <- (1 - tau) * target + tau * source."""
    torch._foreach_lerp_(list(target), list(source), tau)


def descend(
    loss: torch.Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None = None
) -> None:
    """Makes one optimizer step on the loss; only the network's own parameters get gradients.

    Args:
        loss: What to lower, a 0-d tensor.
        network: The module whose parameters the optimizer holds.
        optimizer: Makes the step.
        max_norm: Gradients whose common L2 norm is larger are shortened to it; None leaves them.
    """
    parameters = list(network.parameters())
    optimizer.zero_grad()
    loss.backward(inputs=parameters)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs its body with torch's CPU random stream at `seed`, and puts the stream back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
