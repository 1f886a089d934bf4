"""Sums, means and softmaxes over a whole batch, by however many processes it is shared.

Where processes train together (`agents.training.parallel`) each has some rows of every batch, and gradients are
averaged over processes afterwards. A mean over rows of which each process has as many needs nothing else. One over rows
that are counted first, or a weight that is a share of the batch's, does: these functions return what, so averaged, is
the gradient of the whole batch. In one process they are the plain formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

_n_sharing = 1  # processes that make the present update together


@contextmanager
def shared_by(n: int) -> Iterator[None]:
    """Runs its body, an update, as that of n processes that all make it; outside nothing waits for the others."""
    global _n_sharing
    before, _n_sharing = _n_sharing, n
    try:
        yield
    finally:
        _n_sharing = before


def mean_of(values: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    """Returns the mean of a batch's numbers; 0 where there is none, as in a batch with nothing to learn.

    Args:
        values: The numbers this process has, of any shape.
        real: Which of them count, 1 or 0, in a shape that broadcasts to theirs; None is all.
    """
    if real is None:
        total, count = values.sum(), values.numel()
        if _n_sharing == 1:
            return total / max(count, 1)
        n = total.new_tensor(float(count))
    else:
        total, n = (real * values).sum(), real.expand_as(values).sum()
        if _n_sharing == 1:
            return total / n.clamp(min=1.0)
    sums = torch.stack([total.detach(), n])
    distributed.all_reduce(sums)
    count_of_all = sums[1].clamp(min=1.0)
    own = _n_sharing * total / count_of_all
    return own + (sums[0] / count_of_all - own).detach()  # of the batch by its value, of this part by its gradient


def shares_of(exponents: torch.Tensor) -> torch.Tensor:
    """Returns exp(exponents) (N,) over their sum in the batch, for weights of a sum; no gradient goes there.

    Where several processes share the batch they are as many times as large, since what is summed is averaged over them.
    """
    if _n_sharing == 1:
        return torch.softmax(exponents.detach(), dim=0)
    top = exponents.detach().new_full((1,), -torch.inf)
    top = torch.cat([exponents.detach(), top]).amax()
    distributed.all_reduce(top, distributed.ReduceOp.MAX)
    parts = (exponents.detach() - top).exp()
    total = parts.sum()
    distributed.all_reduce(total)
    return _n_sharing * parts / total


def even_weights(rows: torch.Tensor) -> torch.Tensor:
    """Returns 1 over the number of rows of the batch, for each (N,) of this process's (N, ...): weights of a mean."""
    n = rows.new_tensor(float(len(rows)))
    if _n_sharing > 1:
        distributed.all_reduce(n)
    return rows.new_full((len(rows),), 1.0) * (_n_sharing / n.clamp(min=1.0))


def lowest_of(values: torch.Tensor, at_most: float) -> torch.Tensor:
    """Returns the smallest number of the batch, or `at_most` if that is smaller; no gradient goes there."""
    lowest = torch.cat([values.detach(), values.new_full((1,), at_most)]).amin()
    if _n_sharing > 1:
        distributed.all_reduce(lowest, distributed.ReduceOp.MIN)
    return lowest
