"""The networks agents share: plain modules anyone can take and use, and the slow copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

PRECISIONS = ("fp32", "tf32", "bf16")


class PartsLinear(nn.Linear):
    """A linear layer whose input may come in parts; equals `nn.Linear` on their concatenation, which is never made.

    The last part may have an axis more than the others, (B, n, k): n inputs that share those before it, such as n
    actions of one state. What the others contribute is then worked out once, not n times.

    Example:
        >>> layer = PartsLinear(3, 4)
        >>> left, right = torch.ones(2, 1), torch.ones(2, 2)
        >>> torch.allclose(layer(left, right), layer(torch.ones(2, 3)))
        True
        >>> layer(left, torch.ones(2, 5, 2)).shape
        torch.Size([2, 5, 4])
    """

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Returns the outputs (B, out_features), or (B, n, out_features), for parts whose widths add up."""
        return parts_linear(self.weight, self.bias, *parts)


def parts_linear(weight: torch.Tensor, bias: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
    """Returns what a `PartsLinear` of this weight (out, in) and bias (out,) makes of the parts."""
    inputs, kind = (weight, bias, *parts), weight.device.type
    if torch.is_autocast_enabled(kind):  # it does not reach into functions of one's own
        lower = torch.get_autocast_dtype(kind)
        return _PartsProduct.apply(*(tensor.to(lower) for tensor in inputs))
    if not torch.is_grad_enabled():  # plain operations, which can be traced and exported
        return _parts_product(*inputs)
    return _PartsProduct.apply(*inputs)


def _parts_product(weight: torch.Tensor, bias: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
    weights = weight.split([part.shape[-1] for part in parts], dim=1)  # each (out, n_i)
    total = functional.linear(parts[0], weights[0], bias)
    for part, own in zip(parts[1:], weights[1:], strict=True):
        if part.ndim == total.ndim:
            total.addmm_(part, own.t())
        else:
            total = functional.linear(part, own).add_(total[:, None])  # (B, n, out)
    return total


class _PartsProduct(torch.autograd.Function):
    """What `parts_linear` computes; the gradient of the weights is written into one matrix, not made in parts."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, bias: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, *parts)
        return _parts_product(weight, bias, *parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *parts = ctx.saved_tensors
        widths = [part.shape[-1] for part in parts]
        summed = grad.sum(1) if grad.ndim > parts[0].ndim else grad  # (B, out) of the parts that n inputs share
        grads = [grad if part.ndim == grad.ndim else summed for part in parts]
        by_weight = None
        if ctx.needs_input_grad[0]:
            by_weight = torch.empty_like(weight)  # (out, in)
            for part, own, place in zip(parts, grads, by_weight.split(widths, dim=1), strict=True):
                torch.mm(own.flatten(0, -2).t(), part.flatten(0, -2), out=place)
        by_bias = summed.sum(0) if ctx.needs_input_grad[1] else None
        wanted = zip(grads, weight.split(widths, dim=1), ctx.needs_input_grad[2:], strict=True)
        return by_weight, by_bias, *(own @ columns if needed else None for own, columns, needed in wanted)


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
        hidden = self.dropout(functional.relu(self.first(*state), inplace=True))  # (B, hidden)
        hidden = self.dropout(functional.relu(self.second(hidden), inplace=True))  # (B, hidden)
        action = self.last(hidden).float()  # (B, action_dim)
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
        """Returns values (B,) for a state, whole or in parts, followed by the action (B, action_dim).

        Of n actions of each state, (B, n, action_dim), it returns the values (B, n).
        """
        hidden = self.dropout(functional.relu(self.first(*state_and_action), inplace=True))  # (B, hidden)
        hidden = self.dropout(functional.relu(self.second(hidden), inplace=True))  # (B, hidden)
        return self.last(hidden).squeeze(-1).float()  # (B,)


class Scalar(nn.Module):
    """One number that is learned, called as `scalar()`."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self) -> torch.Tensor:
        """Returns the number, a 0-d tensor."""
        return self.value


def parameters_of(networks: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Returns the parameters of all the networks, one after the other."""
    return [parameter for network in networks for parameter in network.parameters()]


def trainable(networks: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Returns those of the networks' parameters that learn; layers somebody froze have none."""
    return [parameter for parameter in parameters_of(networks) if parameter.requires_grad]


def init_uniform(layer: nn.Linear, bound: float | None) -> None:
    """Sets the layer's weights and biases uniform in plus or minus `bound`; None leaves them as they are."""
    if bound is not None:
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(layer.bias, -bound, bound)


@torch.no_grad()
def polyak_update(source: Iterable[torch.Tensor], target: Iterable[torch.Tensor], tau: float) -> None:
    """Moves every target parameter a share of the way to its source: target <- (1 - tau) * target + tau * source."""
    torch._foreach_lerp_(list(target), list(source), tau)


@torch.no_grad()
def follow(networks: Iterable[nn.Module], targets: Iterable[nn.Module], tau: float) -> None:
    """Moves slow copies a share of the way to their networks; saved buffers, as batch normalisation has, are copied.

    Args:
        networks: What learns.
        targets: The slow copy of each.
        tau: The share.
    """
    pairs = list(zip(networks, targets, strict=True))
    polyak_update(parameters_of(net for net, _ in pairs), parameters_of(copy for _, copy in pairs), tau)
    for network, target in pairs:
        for buffer, own in zip(saved_buffers(network), saved_buffers(target), strict=True):
            own.copy_(buffer)


def saved_buffers(network: nn.Module) -> list[torch.Tensor]:
    """Returns what a network counts while it learns, such as running means: its buffers that are part of its state."""
    return [
        buffer
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]


def descend(
    loss: torch.Tensor,
    network: nn.Module | Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    max_norm: float | None = None,
) -> None:
    """Makes one optimizer step on the loss; only the network's own parameters get gradients.

    Args:
        loss: What to lower, a 0-d tensor.
        network: The module, or modules, whose parameters the optimizer holds.
        optimizer: Makes the step.
        max_norm: Gradients whose common L2 norm is larger are shortened to it; None leaves them.
    """
    parameters = trainable([network] if isinstance(network, nn.Module) else network)
    if not parameters:  # all of it is frozen
        return
    optimizer.zero_grad()
    loss.backward(inputs=parameters)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Runs its body with the networks' weights taken for constants: gradients pass through, none are made for them."""
    parameters = trainable(networks)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Runs its body with matrix products in `"fp32"`, `"tf32"` (CUDA only; fp32 elsewhere) or `"bf16"`.

    Weights, losses and optimizers stay in fp32. Casts are not cached: networks change while the body runs.
    """
    if precision == "bf16":
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            yield
    elif precision == "tf32" and device.type == "cuda":
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
    else:
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs its body with torch's CPU random stream at `seed`, and puts the stream back after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
