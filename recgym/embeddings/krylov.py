"""Truncated singular value decomposition of a log of any size, by a randomised block Krylov method."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from recgym.log import InteractionLog
from recgym.log.arrange import on_all_cores
from recgym.rng import normals

if TYPE_CHECKING:
    from scipy import sparse

_GROUPS = 16  # of users, each of which sums by itself: sums do not depend on how many cores there are
_CHUNK = 1 << 18  # events whose users' sums are kept at a time, about: they stay in a core's cache
_STEPS = 20  # blocks of the space that is searched
SPARE = 5  # it has as many directions as this times those asked for


class Damped:
    """The matrix `A = B D` of a log: `B` is 1 + log(events) by users and items, `D` is (users of the item)**-damping.

    It is never made: users' rows are read from the log as they stand there, so that it takes memory only where users
    meet items more than once. Sums within a group of users are of single precision, those of groups of double
    precision, in an order that neither cores nor BLAS decide.

    Args:
        log: Who consumed what.
        damping: How far popularity is taken out.
    """

    def __init__(self, log: InteractionLog, damping: float) -> None:
        self.n_items = log.n_items
        bounds = _bounds(log)
        self._ones = np.ones(max(int(np.diff(log.offsets[bounds]).max()), 1), dtype=np.float32)
        chunks = on_all_cores(lambda first, last: self._rows(log, first, last), pairwise(bounds))
        self._groups = [chunks[place::_GROUPS] for place in range(min(_GROUPS, len(chunks)))]
        counts = np.zeros(log.n_items, dtype=np.int64)
        for chunk in chunks:
            counts += np.bincount(chunk.indices, minlength=log.n_items)
        self._weights = (np.maximum(counts, 1.0) ** -damping).astype(np.float32)[:, None]  # (n_items, 1)

    def _rows(self, log: InteractionLog, first: int, last: int) -> sparse.csr_array:
        """Returns the rows of B of the users `first` to `last`; counting sort finds what stands in one twice."""
        from scipy import sparse

        offsets = log.offsets[first : last + 1]
        items = np.asarray(log.items[offsets[0] : offsets[-1]])
        shape = (last - first, log.n_items)
        rows = sparse.csr_array((self._ones[: len(items)], items, (offsets - offsets[0]).astype(np.int32)), shape=shape)
        by_item = rows.tocsc()
        if not (by_item.indices[1:] == by_item.indices[:-1])[_inner(by_item.indptr)].any():
            return rows
        by_item.sum_duplicates()
        by_item.data = 1.0 + np.log(by_item.data)
        return by_item.tocsr()

    def gram(self, x: np.ndarray) -> np.ndarray:
        """Returns `A' A x` (n_items, b) float32, of x (n_items, b) float32: both products in one pass over the log."""
        weighted = self._weights * x

        def summed(place: int, _: int) -> np.ndarray:
            total = np.zeros(x.shape, dtype=np.float32)
            for rows in self._groups[place]:
                total += rows.T @ (rows @ weighted)
            return total

        total = np.zeros(x.shape, dtype=np.float64)
        for part in on_all_cores(summed, ((place, 0) for place in range(len(self._groups)))):
            total += part
        return (self._weights * total).astype(np.float32)


def largest(matrix: Damped, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `dim` largest singular values, largest first, and the right singular vectors (n_items, dim).

    A space of 5 `dim` directions is built of 20 blocks, each the last one's image less its share in all before, from a
    random start. The number of steps is fixed, so that no rounding decides when to stop. Where the values have gaps, as
    those of people's tastes do, the directions are those of ARPACK up to single precision; where neighbours in value
    are as good as equal, as in noise, the directions mix, and the values found are at most 1 % too small.

    Args:
        matrix: Of a log.
        dim: At most a fifth of users and of items.

    Source: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4; with all
        powers kept as in Musco and Musco, "Randomized block Krylov methods", NeurIPS 2015, algorithm 2.
    """
    width = -(-SPARE * dim // _STEPS)
    block = _orthonormal(normals(0, matrix.n_items * width).reshape(matrix.n_items, width))
    space = np.zeros((matrix.n_items, _STEPS * width), dtype=np.float32)
    projected = np.zeros((_STEPS * width, _STEPS * width))
    for step in tqdm(range(_STEPS), desc="item vectors", unit="pass", delay=1.0, disable=None, leave=False):
        own = slice(step * width, (step + 1) * width)
        space[:, own] = block
        known = space[:, : own.stop]
        image = matrix.gram(block)
        projected[: own.stop, own] = shares = known.T @ image
        image -= known @ shares
        image -= known @ (known.T @ image)  # once more: the first time leaves what rounding made
        block = _orthonormal(image)
    squares, weights = np.linalg.eigh(projected, UPLO="U")
    chosen = slice(None, -dim - 1, -1)
    return np.sqrt(np.maximum(squares[chosen], 0.0)), space @ weights[:, chosen].astype(np.float32)


def _orthonormal(block: np.ndarray) -> np.ndarray:
    """Returns an orthonormal basis (n, b) float32 of the columns of a block (n, b), by Cholesky of its inner products.

    Columns that are rounding errors of the others become zero, which a Rayleigh quotient gives the value 0.
    """
    wide = block.astype(np.float64)
    for _ in range(2):
        inner = wide.T @ wide
        try:
            wide = wide @ np.linalg.inv(np.linalg.cholesky(inner)).T
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(inner)
            kept = values > 1e-10 * max(values[-1], 1e-300)
            wide = (wide @ vectors) * np.where(kept, np.where(kept, values, 1.0) ** -0.5, 0.0)
    return wide.astype(np.float32)


def _bounds(log: InteractionLog) -> np.ndarray:
    """Returns the users at which chunks begin, and the end: whole users, with about as many events each."""
    n_chunks = max(-(-log.n_events // _CHUNK), 1)
    events = np.linspace(0, log.n_events, n_chunks + 1).astype(np.int64)
    return np.unique(np.append(np.searchsorted(log.offsets, events[:-1]), log.n_users))


def _inner(indptr: np.ndarray) -> np.ndarray:
    """Returns which neighbours among the entries stand in one column (n_entries - 1,) bool."""
    inner = np.ones(max(int(indptr[-1]) - 1, 0), dtype=bool)
    borders = indptr[1:-1]
    inner[borders[(borders > 0) & (borders < indptr[-1])] - 1] = False
    return inner
