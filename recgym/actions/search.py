"""Search for the items of largest score: exact, and tile by tile, so that scores are looked at in the cache."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

_TILE = 1 << 20  # scores of one tile
_NARROWEST = 4096  # columns of a tile at least, if there are as many
_SMALL = 1_010_000  # multiplications up to which OpenBLAS takes another way, which rounds differently
_FEW = 16  # rows up to which it is quicker to have the items in the rows of the product
_BLOCK = 16  # columns whose largest score is looked at first


class Found(NamedTuple):
    """The k items of largest score for B queries, largest first, ties to the lower index."""

    items: Any  # (B, k) int64; where fewer than k are allowed, what stands last is arbitrary
    scores: Any  # (B, k) float; minus infinity there


class Search(Protocol):
    """Finds the items whose inner product with a query is largest."""

    def largest(self, queries: np.ndarray, k: int, blocked: Any = None) -> Found:
        """Returns the k items of largest score that are not blocked.

        Args:
            queries: (B, d) float32.
            k: How many, at most n_items.
            blocked: Items that do not count (B, n_items) bool, or None.
        """
        ...


class ExactSearch:
    """Looks at every item.

    A score does not depend on which other queries are asked, to the bit: OpenBLAS adds up the products of a row in the
    same order whatever the size, but for small matrices, which are made larger here.

    Args:
        items: (n_items, d) float32.
    """

    def __init__(self, items: np.ndarray) -> None:
        self.items = items
        self._buffer = np.empty(0, dtype=np.float32)

    def largest(self, queries: np.ndarray, k: int, blocked: Any = None) -> Found:
        """Returns the k items of largest score that are not blocked; see `Search`."""
        n = len(self.items)
        n_tiles = -(-n // max(_NARROWEST, _TILE // len(queries)))
        edges = np.linspace(0, n, n_tiles + 1).astype(np.int64)
        best = _Best(len(queries), k)
        for start, end in pairwise(edges):
            scores = self._products(queries, self.items[start:end])  # (B, w)
            best.add(scores, int(start), None if blocked is None else blocked[:, start:end])
        return best.found()

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Returns the score of every item (B, n_items) float32."""
        return self._products(queries, self.items).copy()

    def _products(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the products (B, w) with some of the items, in memory that the next call writes into."""
        least = -(-_SMALL // items.size)
        rows = queries if len(queries) >= least else np.resize(queries, (least, queries.shape[1]))
        if len(rows) < _FEW:
            return np.ascontiguousarray((items @ rows.T).T[: len(queries)])
        if self._buffer.size < len(rows) * len(items):
            self._buffer = np.empty(len(rows) * len(items), dtype=np.float32)
        products = self._buffer[: len(rows) * len(items)].reshape(len(rows), -1)
        return np.matmul(rows, items.T, out=products)[: len(queries)]


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest scores of each row (B, k) int64, largest first, ties to the lower column.

    Args:
        scores: (B, n) float without NaN. Where fewer than k are above minus infinity, the rest of the row is arbitrary.
        k: How many, at most n.

    Example:
        >>> top_k(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist()
        [[1, 2, 3]]
    """
    best = _Best(len(scores), k)
    best.add(scores, 0)
    return np.asarray(best.found().items)


class _Best:
    """The k largest scores of every row among the columns seen so far."""

    def __init__(self, n_rows: int, k: int) -> None:
        self.k = k
        self.top = np.full((n_rows, k), -np.inf)  # k scores of different columns, not always the largest k
        self.column = np.zeros(n_rows, dtype=np.int64)  # that of `top`, for k = 1
        self.parts: list[tuple[np.ndarray, ...]] = []  # rows, columns and scores that may be among the k largest

    def add(self, scores: np.ndarray, start: int, blocked: np.ndarray | None = None) -> None:
        """Looks at scores (B, w) of the columns from `start` on, but for blocked ones (B, w) bool."""
        if self.k > 1:
            if blocked is not None:
                scores[np.divmod(np.flatnonzero(blocked), scores.shape[1])] = -np.inf
            rows, columns = self._reaching(scores)
            self.parts.append((rows, columns + start, scores[rows, columns]))
            return
        everyone = np.arange(len(scores))
        column = scores.argmax(axis=1)
        score = scores[everyone, column]
        if blocked is not None:  # the largest of a row is seldom blocked; only such rows are looked at again
            again = np.flatnonzero(blocked[everyone, column])
            others = np.where(blocked[again], -np.inf, scores[again])
            column[again] = others.argmax(axis=1)
            score[again] = others[np.arange(len(again)), column[again]]
        better = score > self.top[:, 0]
        self.column[better] = column[better] + start
        self.top[better, 0] = score[better]

    def _reaching(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and columns (m,) of the scores that are not below k others seen so far.

        The largest of each block of columns come first: the k-th largest of these is a bound that the k largest scores
        reach, and only blocks that reach it are looked into. Block b is columns b, b + n_blocks, and so on, whose
        largest is found in one pass over contiguous memory.
        """
        n_blocks = scores.shape[1] // _BLOCK
        whole = n_blocks * _BLOCK
        blocks = scores[:, :whole].reshape(len(scores), _BLOCK, n_blocks).max(axis=1, initial=-np.inf)
        highest = np.concatenate([blocks, scores[:, whole:]], axis=1)  # (B, n_blocks + rest)
        least = self._raised_bound(highest)
        row, place = np.divmod(np.flatnonzero((highest >= least) & (highest > -np.inf)), highest.shape[1])
        block = place < n_blocks
        rows, columns = row[block, None], place[block, None] + np.arange(0, whole, max(n_blocks, 1))  # (m, 16)
        found = scores[rows, columns]
        reaches = np.nonzero((found >= least[rows[:, 0]]) & (found > -np.inf))
        rest = row[~block], place[~block] - n_blocks + whole
        return np.concatenate([rows[reaches[0], 0], rest[0]]), np.concatenate([columns[reaches], rest[1]])

    def _raised_bound(self, highest: np.ndarray) -> np.ndarray:
        """Returns a score (B, 1) that at least k columns seen so far reach; `highest` (B, m) is of m new columns."""
        both = np.concatenate([self.top.astype(highest.dtype), highest], axis=1)
        self.top = np.partition(both, both.shape[1] - self.k, axis=1)[:, -self.k :]
        return self.top[:, :1]

    def found(self) -> Found:
        """Returns the k largest."""
        if self.k == 1:
            return Found(self.column[:, None], self.top)
        rows, columns, scores = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        order = np.lexsort((columns, -scores, rows))
        ends = np.cumsum(np.bincount(rows, minlength=len(self.top)))  # (B,)
        place = np.concatenate([[0], ends[:-1]])[:, None] + np.arange(self.k)  # (B, k) in `order`
        real = place < ends[:, None]
        items, kept = np.zeros(place.shape, dtype=np.int64), np.full(place.shape, -np.inf)
        chosen = order[place[real]]
        items[real], kept[real] = columns[chosen], scores[chosen]
        return Found(items, kept)
