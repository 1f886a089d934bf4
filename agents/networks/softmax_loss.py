"""The softmax over a whole catalog, in parts that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

LARGE = 10_000  # items of a catalog up to which a softmax takes all by default: a few updates a second of two cores
DRAWN = 1_000  # items drawn of a larger one
_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 26}  # scores made at a time


def softmax_loss(
    hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Returns sum of weight * (log sum over items of exp(score) - score of the target), scores being hidden @ items.T.

    It is what `cross_entropy(hidden @ items.T, targets, reduction="none")` gives, weighted and summed. The N by n_items
    scores are made a few rows at a time and turned into gradients on the spot, so that they never stand in memory: on a
    processor that takes a third of the time, and no memory to speak of.

    Args:
        hidden: What asks (N, width).
        items: What is asked for (n_items, width).
        targets: Item indices (N,) int64.
        weights: Weight of each row (N,); no gradient goes there.
    """
    loss: torch.Tensor = _SoftmaxLoss.apply(hidden, items, targets, weights)
    return loss


def n_drawn(asked: int | None, n_items: int) -> int:
    """Returns how many items a softmax is estimated from, 0 for all: as asked, else all but of large catalogs.

    Example:
        >>> n_drawn(None, LARGE), n_drawn(None, LARGE + 1), n_drawn(0, 10 * LARGE)
        (0, 1000, 0)
    """
    if asked is not None:
        return asked
    return 0 if n_items <= LARGE else DRAWN


def catalog_loss(
    hidden: torch.Tensor,
    items: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    asked: int | None,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Returns `softmax_loss`, or its estimate by `sampled_softmax_loss` from `n_drawn(asked, n_items)` items."""
    n = n_drawn(asked, len(items))
    if n == 0:
        return softmax_loss(hidden, items, targets, weights)
    return (weights * sampled_softmax_loss(hidden, items, targets, n, generator)).sum()


def drawn_items(
    items: torch.Tensor, shown: torch.Tensor, asked: int | None, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns both tables (n_items, ...), or the same `n_drawn(asked, n_items)` rows of each, drawn uniformly."""
    n = n_drawn(asked, len(items))
    if n == 0:
        return items, shown
    drawn = torch.randint(len(items), (n,), generator=generator, device=items.device)  # (n,)
    return items[drawn], shown[drawn]


def sampled_softmax_loss(
    hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, n: int, generator: torch.Generator | None
) -> torch.Tensor:
    """Returns an estimate (N,) of - log softmax(hidden @ items.T)[target] from n items drawn uniformly.

    A drawn item stands for as many as it was drawn from: with n drawn that are not the target, each of them counts
    (n_items - 1) / n times beside the target (the logQ correction of a uniform draw). The sum that estimates the
    softmax's is right in expectation, and so, as n grows, is the gradient. The items are drawn once for all rows.

    Args:
        hidden: What asks (N, width).
        items: What is asked for (n_items, width).
        targets: Item indices (N,) int64.
        n: How many are drawn, with replacement.
        generator: Random stream of the draw.

    Source: Bengio and Senecal (2008), Adaptive importance sampling to accelerate training of a neural probabilistic
    language model, IEEE Transactions on Neural Networks 19(4).
    """
    drawn = torch.randint(len(items), (n,), generator=generator, device=items.device)  # (n,)
    own = (hidden * items[targets]).sum(dim=1, keepdim=True).float()  # (N, 1)
    scores = standing_for(own, (hidden @ items[drawn].T).float(), drawn == targets[:, None], len(items))
    return functional.cross_entropy(scores, torch.zeros_like(targets), reduction="none")


def standing_for(own: torch.Tensor, others: torch.Tensor, is_own: torch.Tensor, n_items: int) -> torch.Tensor:
    """Returns scores (N, 1 + n) of an item and of n drawn ones whose sum of exponentials is that of all in expectation.

    Args:
        own: Score of the item (N, 1).
        others: Scores of the items drawn uniformly, with replacement (N, n).
        is_own: Which of those are the item itself (N, n) bool; they count nothing.
        n_items: Items drawn from.
    """
    stands_for = (n_items - 1) / (is_own.shape[1] - is_own.sum(dim=1, keepdim=True)).clamp(min=1)  # (N, 1)
    return torch.cat([own, (others + stands_for.log()).masked_fill(is_own, -torch.inf)], dim=1)


def drawn_policy(scores: torch.Tensor, is_own: torch.Tensor, n_items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns estimates of log softmax (N,) of the first item, and of the softmax's entropy (N,).

    Args:
        scores: Scores of an item and of n drawn uniformly (N, 1 + n).
        is_own: Which of those are the item itself (N, n) bool.
        n_items: Items of the softmax.
    """
    counted = standing_for(scores[:, :1], scores[:, 1:], is_own, n_items).log_softmax(dim=1)  # (N, 1 + n) log shares
    log_mass = scores[:, 0] - counted[:, 0]  # (N,) log sum over items of exp(score)
    return counted[:, 0], log_mass - (counted.exp() * scores).sum(dim=1)


@torch.no_grad()
def log_softmax_of(
    hidden: torch.Tensor,
    items: torch.Tensor,
    targets: torch.Tensor,
    asked: int | None = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Returns the log probability (N,) of the targets under the softmax over items of hidden @ items.T; no gradient.

    Args:
        hidden: What asks (N, width).
        items: What is asked for (n_items, width).
        targets: Item indices (N,) int64.
        asked: How many items it is estimated from, as of `n_drawn`.
        generator: Random stream of the draw.
    """
    if n := n_drawn(asked, len(items)):
        return -sampled_softmax_loss(hidden, items, targets, n, generator)
    found = torch.empty(len(hidden), device=hidden.device)
    size = _rows_at_a_time(items)
    for first in range(0, len(hidden), size):
        rows = slice(first, first + size)
        scores = hidden[rows] @ items.T  # (R, n_items)
        found[rows] = scores.gather(1, targets[rows, None])[:, 0] - scores.logsumexp(dim=1)
    return found


def expected_vectors(hidden: torch.Tensor, items: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Returns the mean (N, d) of vectors under the softmax over items of hidden @ items.T.

    The scores are made a few rows at a time, and once more for the gradient, so that they never stand in memory.

    Args:
        hidden: What asks (N, width).
        items: What is asked for (n_items, width).
        shown: What is averaged (n_items, d); no gradient goes there.
    """
    mean: torch.Tensor = _ExpectedVectors.apply(hidden, items, shown)
    return mean


def _rows_at_a_time(items: torch.Tensor) -> int:
    return max(_NUMBERS.get(items.device.type, 1 << 19) // len(items), 1)


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        size = _rows_at_a_time(items)
        by_hidden, by_items = torch.empty_like(hidden), torch.zeros_like(items)
        total, buffer = hidden.new_zeros(()), hidden.new_empty(min(size, len(hidden)), len(items))
        for first in range(0, len(hidden), size):
            rows = slice(first, first + size)
            part, target, weight = hidden[rows], targets[rows, None], weights[rows, None]  # (R, width), (R, 1), (R, 1)
            scores = torch.mm(part, items.t(), out=buffer[: len(part)])  # (R, n_items)
            top = scores.amax(dim=1, keepdim=True)
            own = scores.gather(1, target) - top
            mass = scores.sub_(top).exp_().sum(dim=1, keepdim=True)
            total += (weight * (mass.log() - own)).sum()
            scores.mul_(weight / mass).scatter_add_(1, target, -weight)  # the gradient: softmax less the target
            torch.mm(scores, items, out=by_hidden[rows])
            by_items.addmm_(scores.t(), part)
        ctx.save_for_backward(by_hidden, by_items)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        by_hidden, by_items = ctx.saved_tensors
        return grad * by_hidden, grad * by_items, None, None


class _ExpectedVectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, items: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        mean = hidden.new_empty(len(hidden), shown.shape[1])
        for part, into in _parts(items, hidden, mean):
            torch.mm((part @ items.t()).float().softmax(dim=1), shown, out=into)
        ctx.save_for_backward(hidden, items, shown, mean)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        hidden, items, shown, mean = ctx.saved_tensors
        by_hidden, by_items = torch.empty_like(hidden), torch.zeros_like(items)
        for part, own, at, into in _parts(items, hidden, grad, mean, by_hidden):
            pull = (own @ shown.t()).float().sub_((own * at).sum(dim=1, keepdim=True))  # (R, n_items)
            pull.mul_((part @ items.t()).float().softmax(dim=1))  # the gradient of the scores
            torch.mm(pull, items, out=into)
            by_items.addmm_(pull.t(), part)
        return by_hidden, by_items, None


def _parts(items: torch.Tensor, *arrays: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields the same few rows of all arrays, as many as scores of the items may be made of at a time."""
    return zip(*(array.split(_rows_at_a_time(items)) for array in arrays), strict=True)
