"""Drawing different numbers, for many sessions at once, from their own random streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recgym.rng import RowRandom


def draw_in_turn(
    random: RowRandom,
    rows: Any,
    stream: int,
    high: Any,
    n: np.ndarray,
    width: int,
    *,
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
    again: bool = False,
) -> np.ndarray:
    """Returns the first `n` different allowed numbers that each row's stream gives (R, width) int64, then -1.

    What a row gets depends on its own stream only: more numbers are drawn for all rows until every row has enough,
    and the first numbers of a stream are always the same.

    Args:
        random: Streams of all rows.
        rows: The R rows that draw, an index array or slice.
        stream: Which stream.
        high: Numbers are drawn uniformly from 0..high-1; a number, or one per row (R, 1).
        n: How many each row needs (R,); at least so many must be allowed.
        width: Columns of the result, at least the largest `n`.
        allowed: Says of numbers (R, m) which may be taken (R, m) bool; None means all.
        again: Whether a number drawn again counts towards `n` (drawing with replacement); -1 stands in its place.
    """
    drawn_at_once = 2 * width + 8
    while True:
        numbers = random.integers(rows, drawn_at_once, stream, high)  # (R, m)
        fine = np.ones(numbers.shape, dtype=bool) if allowed is None else allowed(numbers)
        new = fine & _first_time(numbers)
        counts = fine if again else new
        if (counts.sum(axis=1) >= n).all():
            break
        drawn_at_once *= 2
    order = np.argsort(~counts, axis=1, kind="stable")[:, :width]  # those that count, in the order drawn
    taken = np.where(np.take_along_axis(new, order, axis=1), np.take_along_axis(numbers, order, axis=1), -1)
    return np.where(np.arange(width) < n[:, None], taken, -1)


def _first_time(numbers: np.ndarray) -> np.ndarray:
    """Returns which numbers of each row stand there for the first time (R, m) bool."""
    order = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, order, axis=1)
    changes = np.concatenate([np.ones((len(numbers), 1), dtype=bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    first = np.empty_like(changes)
    np.put_along_axis(first, order, changes, axis=1)
    return first
