"""Rankers one fits in a moment and must beat: item neighbours and EASE. Both read full histories and no rewards."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from recgym.errors import DataError
from recgym.evaluation.recency import NewestItems, Recency, RepeatPopularity
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.scorers import Popularity, RecentPopularity, Uniform

__all__ = [
    "EASE",
    "ItemKNN",
    "NewestItems",
    "Popularity",
    "Recency",
    "RecentPopularity",
    "RepeatPopularity",
    "Uniform",
]

_ROWS = 512  # of a square matrix at a time


class ItemKNN:
    """Scores an item by how alike it is to the items of the history: the sum of its similarities to them.

    Similarity of items i and j is `c_ij / (sqrt(c_i c_j) + shrinkage)`, where c_ij users consumed both and c_i consumed
    i. An item is scored by its own `k` nearest neighbours, as Sarwar et al. (2001), Item-based collaborative filtering
    recommendation algorithms, WWW, do; keeping those of the items consumed, as Deshpande and Karypis (2004) do, favours
    what is near to everything and ranks worse.

    Source: Deshpande and Karypis (2004), Item-based top-N recommendation algorithms, ACM TOIS 22(1), section 4, for the
    similarity and the sum, with the shrinkage of Bell and Koren (2007).

    Attributes:
        popularity: Events of each item (n_items,), or None; `recommend` orders equal scores by it.
        similarity: Sparse (n_items, n_items) float32; row i holds the neighbours of item i.
    """

    def __init__(
        self,
        item_ids: np.ndarray,
        similarity: sparse.csr_matrix,
        reward: str = "scaled",
        popularity: np.ndarray | None = None,
    ) -> None:
        self.item_ids = item_ids
        self.reward = reward
        self.popularity = popularity
        self.similarity = similarity
        self._of_consumed = sparse.csr_matrix(similarity.T)  # row j: what item j is a neighbour of

    @classmethod
    def fit(cls, log: InteractionLog, k: int = 100, shrinkage: float = 10.0) -> ItemKNN:
        """Returns the neighbours of the items of `log`.

        Args:
            log: Training events; rewards are not looked at.
            k: Neighbours kept of each item.
            shrinkage: How much is added to the denominator; more trusts rare items less.

        Raises:
            DataError: if `k` is below 1 or `shrinkage` below 0.
        """
        if k < 1 or shrinkage < 0:
            raise DataError(
                f"k must be at least 1 and shrinkage at least 0, got k={k}, shrinkage={shrinkage}; mend them"
            )
        users_by_items = consumed(log)
        together = sparse.csc_matrix(users_by_items.T @ users_by_items)  # (n_items, n_items): c_ij
        root = np.sqrt(together.diagonal())
        together.setdiag(0)
        together.eliminate_zeros()
        columns = np.repeat(np.arange(log.n_items), np.diff(together.indptr))
        together.data /= root[together.indices] * root[columns] + shrinkage
        nearest = _largest_of_columns(together, k).T  # as alike as j is to i, i is to j
        return cls(log.item_ids, sparse.csr_matrix(nearest), log.reward, Popularity.fit(log).counts)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        return np.asarray((_as_matrix(history, len(self.item_ids)) @ self._of_consumed).todense())


class EASE:
    """A linear autoencoder in closed form: scores are the history times a zero-diagonal item-item weight matrix.

    With P = (X'X + lambda I)^-1, weights are B_ij = -P_ij / P_jj and B_jj = 0. Memory grows with n_items squared
    (4 bytes each: 0.6 GB at 12,000 items), time with n_items cubed; what does not fit is refused before it begins.

    Source: Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, WWW, equation 8.

    Attributes:
        popularity: Events of each item (n_items,), or None; `recommend` orders equal scores by it.
        weights: (n_items, n_items) float32.
    """

    def __init__(
        self, item_ids: np.ndarray, weights: np.ndarray, reward: str = "scaled", popularity: np.ndarray | None = None
    ) -> None:
        self.item_ids = item_ids
        self.reward = reward
        self.popularity = popularity
        self.weights = weights

    @classmethod
    def fit(cls, log: InteractionLog, regularization: float = 500.0, memory_limit: str | int | None = None) -> EASE:
        """Returns the weights that reconstruct the users of `log` best.

        Args:
            log: Training events; rewards are not looked at.
            regularization: Lambda, the weight of the squared norm.
            memory_limit: Bytes that may be taken, or a text like `"4GB"`; by default what this machine, its container
                or `ulimit` allows.

        Raises:
            DataError: if `regularization` is not above 0 or too small to invert the matrix, or the weights need more
                memory than there may be.
        """
        if not regularization > 0:
            raise DataError(
                f"regularization must be above 0, got {regularization}; EASE inverts the regularised matrix"
            )
        check_square(log.n_items, memory_limit)
        users_by_items = consumed(log)
        items_by_users = sparse.csr_matrix(users_by_items.T)
        weights = np.empty((log.n_items, log.n_items), dtype=np.float32)  # X'X, then its inverse, then the weights
        for first in range(0, log.n_items, _ROWS):
            weights[first : first + _ROWS] = (items_by_users[first : first + _ROWS] @ users_by_items).toarray()
        weights[np.diag_indices_from(weights)] += regularization
        _invert(weights)
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0.0)
        return cls(log.item_ids, weights, log.reward, Popularity.fit(log).counts)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        return np.asarray(_as_matrix(history, len(self.item_ids)) @ self.weights)


def check_square(n_items: int, memory_limit: str | int | None) -> None:
    """Refuses a matrix of all pairs of items that needs more memory than there may be, with a DataError."""
    from recgym.datasets.tables.out_of_core import bytes_of  # brings readers of tables

    needed = 4 * n_items * (n_items + 2 * _ROWS)
    allowed = memory_of_process() if memory_limit is None else bytes_of(memory_limit)
    if needed > allowed:
        minutes = n_items**3 / 1e10 / 60  # at ten sums a nanosecond: one core
        raise DataError(
            f"EASE needs {needed / 1e9:.1f} GB and some {max(minutes, 1):.0f} minutes for all pairs of {n_items:,} "
            f"items, got a limit of {allowed / 1e9:.1f} GB; use ItemKNN, whose weights are sparse, or fewer items "
            f"(log.top_items)"
        )


def memory_of_process() -> int:
    """Returns the bytes this process may take: of machine, container and `ulimit -v`, the least."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # another kind of system, or "max"
            continue
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [] if limit == resource.RLIM_INFINITY else [limit]
    except ImportError:  # Windows
        pass
    return min(found, default=1 << 62)


def _invert(matrix: np.ndarray) -> None:
    """Puts the inverse of a positive definite C-ordered float32 matrix in its place, by Cholesky's factor."""
    factor, failed = lapack.spotrf(matrix.T, lower=1, overwrite_a=1)  # the other order of a symmetric matrix: no copy
    if not failed:
        factor, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise DataError(
            f"the regularised matrix must be positive definite in 32 bits, got one that is not at item {failed - 1}; "
            f"give a larger regularization"
        )
    if not np.shares_memory(factor, matrix):
        matrix[:] = factor.T
    for first in range(0, len(matrix), _ROWS):  # the other half, which LAPACK left as it was
        rows = slice(first, first + _ROWS)
        matrix[rows, :first] = matrix[:first, rows].T
        block = matrix[rows, rows]
        block[:] = np.triu(block) + np.triu(block, 1).T


def consumed(log: InteractionLog) -> sparse.csr_matrix:
    """Returns who consumed what (n_users, n_items) float32: 1 where a user has an event with an item, however many."""
    return _ones(log.items, log.offsets, log.n_items)


def _as_matrix(history: History, n_items: int) -> sparse.csr_matrix:
    items = np.asarray(history.items)  # (B, L)
    real = items < n_items
    offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    return _ones(items[real], offsets, n_items)


def _ones(items: np.ndarray, offsets: np.ndarray, n_items: int) -> sparse.csr_matrix:
    shape = (len(offsets) - 1, n_items)
    columns = (
        np.ones(len(items), dtype=np.float32),
        items.copy(),
        offsets.copy(),
    )  # the next line but one changes them
    matrix = sparse.csr_matrix(columns, shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _largest_of_columns(matrix: sparse.csc_matrix, k: int) -> sparse.csc_matrix:
    """Returns the matrix with only the k largest stored values of each column; equal values stay in row order."""
    columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, columns))  # by column, then largest first
    rank = np.arange(len(order)) - matrix.indptr[columns[order]]
    keep = order[rank < k]
    shape = matrix.shape
    return sparse.csc_matrix((matrix.data[keep], (matrix.indices[keep], columns[keep])), shape=shape)
