"""Search for the items of largest score: exact, and tile by tile, so that scores are looked at in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

_TILE = 1 << 20  # scores of one tile
_NARROWEST = 4096  # columns of a tile at least, if there are as many
_FEW = 16  # rows up to which it is quicker to have the items in the rows of the product
_BLOCK = 16  # columns whose largest score is looked at first
_PAIRS = 1 << 14  # rows of vectors that are multiplied again at a time


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

    What is found does not depend on which other queries are asked, nor on the processor: products of whole matrices are
    rounded by BLAS in an order that depends on the shape, on a row's place in it and on the kernel, so they only say
    which items come near. Where scores lie closer than such rounding can move them, the order is that of products in
    double precision, row by row; equal ones go to the lower index. `scores` themselves are right up to rounding.

    Source of the bound: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, equation 3.5: the error of an
    inner product of d numbers is at most about d u sum |a_j e_j|, in any order of summation.

    Args:
        items: (n_items, d) float32.
    """

    def __init__(self, items: np.ndarray) -> None:
        self.items = items
        self._buffer = np.empty(0, dtype=np.float32)
        longest = float(np.sqrt(np.einsum("ij,ij->i", items, items, dtype=np.float64).max(initial=0.0)))
        self._doubt = (2 * items.shape[1] + 4) * 2.0**-24 * longest  # of two scores, for a query of length 1

    def largest(self, queries: np.ndarray, k: int, blocked: Any = None) -> Found:
        """Returns the k items of largest score that are not blocked; see `Search`."""
        if len(queries) == k == 1:
            return self._nearest(queries, blocked)
        n = len(self.items)
        n_tiles = -(-n // max(_NARROWEST, _TILE // len(queries)))
        edges = np.linspace(0, n, n_tiles + 1).astype(np.int64)
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))  # (B,)
        best = _Best(len(queries), k, self._doubt * lengths)
        for start, end in pairwise(edges):
            scores = self._products(queries, self.items[start:end])  # (B, w)
            best.add(scores, int(start), None if blocked is None else blocked[:, start:end])
        return best.found(lambda rows, items: self._precise(queries, rows, items))

    def _nearest(self, query: np.ndarray, blocked: Any) -> Found:
        """Returns the item of largest score for one query (1, d): little more than the product with the table."""
        scores = self.items @ query[0]  # (n_items,)
        best = scores.argmax()
        if blocked is not None and blocked[0, best]:
            scores[blocked[0]] = -np.inf
            best = scores.argmax()
        doubt = self._doubt * math.sqrt(float(query[0].astype(np.float64) @ query[0]))
        near = (scores >= scores[best] - np.float32(doubt)).nonzero()[0]  # ascending
        if blocked is not None:
            near = near[~blocked[0, near]]
        if len(near) > 1:  # too close to call: as everywhere, by double precision and then by index
            best = near[self._precise(query, np.zeros(len(near), dtype=np.int64), near).argmax()]
        return Found(np.array([[best]]), scores[best].reshape(1, 1))

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Returns the score of every item (B, n_items) float32, right up to rounding."""
        return self._products(queries, self.items).copy()

    def listed(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the scores (B, C) float64 of the items (B, C) of each query, each worked out by itself."""
        rows = np.repeat(np.arange(len(items)), items.shape[1])
        return self._precise(queries, rows, items.reshape(-1)).reshape(items.shape)

    def _products(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the products (B, w) with some of the items, in memory that the next call writes into."""
        if len(queries) < _FEW:
            return np.ascontiguousarray((items @ queries.T).T)
        if self._buffer.size < len(queries) * len(items):
            self._buffer = np.empty(len(queries) * len(items), dtype=np.float32)
        products = self._buffer[: len(queries) * len(items)].reshape(len(queries), -1)
        return np.matmul(queries, items.T, out=products)

    def _precise(self, queries: np.ndarray, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns products (m,) float64 of queries[rows] and items; the products of single numbers are exact in it."""
        products = np.empty(len(rows))
        for start in range(0, len(rows), _PAIRS):
            some = slice(start, start + _PAIRS)
            wide = queries[rows[some]].astype(np.float64)
            products[some] = np.einsum("ij,ij->i", wide, self.items[items[some]].astype(np.float64))
        return products


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest scores of each row (B, k) int64, largest first, ties to the lower column.

    Args:
        scores: (B, n) float without NaN. Where fewer than k are above minus infinity, the rest of the row is arbitrary.
        k: How many, at most n.

    Example:
        >>> top_k(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist()
        [[1, 2, 3]]
    """
    best = _Best(len(scores), k, np.zeros(len(scores)))
    best.add(scores, 0)
    return np.asarray(best.found().items)


class _Best:
    """The k largest scores of every row among the columns seen so far, and all that may be as large.

    Args:
        n_rows: B.
        k: How many.
        doubt: How far two scores of a row may lie apart and yet be equal or the other way round (B,); 0: not at all.
    """

    def __init__(self, n_rows: int, k: int, doubt: np.ndarray) -> None:
        self.k = k
        self.doubt = doubt
        self.top = np.full((n_rows, k), -np.inf)  # k scores of different columns, not always the largest k
        self.parts: list[tuple[np.ndarray, ...]] = []  # rows, columns and scores that may be among the k largest

    def add(self, scores: np.ndarray, start: int, blocked: np.ndarray | None = None) -> None:
        """Looks at scores (B, w) of the columns from `start` on, but for blocked ones (B, w) bool."""
        if self.k == 1:
            rows, columns = self._largest(scores, blocked)
        else:
            if blocked is not None:
                scores[np.divmod(np.flatnonzero(blocked), scores.shape[1])] = -np.inf
            rows, columns = self._reaching(scores)
        self.parts.append((rows, columns + start, scores[rows, columns]))

    def _largest(self, scores: np.ndarray, blocked: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and columns (m,) of the scores that may be the largest of those seen so far."""
        everyone = np.arange(len(scores))
        column = scores.argmax(axis=1)
        score = scores[everyone, column]
        if blocked is not None:  # the largest of a row is seldom blocked; only such rows are looked at again
            again = np.flatnonzero(blocked[everyone, column])
            others = np.where(blocked[again], -np.inf, scores[again])
            column[again] = others.argmax(axis=1)
            score[again] = others[np.arange(len(again)), column[again]]
        top = self.top[:, 0] = np.maximum(self.top[:, 0], score)
        reaches = (score > -np.inf) & (score >= top - self.doubt)
        sure = np.flatnonzero(reaches & (self.doubt == 0))  # without doubt the first is it
        least = np.where(reaches & (self.doubt > 0), top - self.doubt, np.inf).astype(scores.dtype)
        rows, columns = np.divmod(np.flatnonzero(scores >= least[:, None]), scores.shape[1])
        if blocked is not None:
            free = ~blocked[rows, columns]
            rows, columns = rows[free], columns[free]
        return (rows, columns) if not len(sure) else (np.append(rows, sure), np.append(columns, column[sure]))

    def _reaching(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows and columns (m,) of the scores that may be among the k largest of those seen so far.

        The largest of each block of columns come first: the k-th largest of these is a bound that the k largest scores
        reach, and only blocks that reach it are looked into. Block b is columns b, b + n_blocks, and so on, whose
        largest is found in one pass over contiguous memory.
        """
        n_blocks = scores.shape[1] // _BLOCK
        whole = n_blocks * _BLOCK
        blocks = scores[:, :whole].reshape(len(scores), _BLOCK, n_blocks).max(axis=1, initial=-np.inf)
        highest = np.concatenate([blocks, scores[:, whole:]], axis=1)  # (B, n_blocks + rest)
        least = (self._raised_bound(highest) - self.doubt[:, None]).astype(scores.dtype)
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

    def found(self, precise: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> Found:
        """Returns the k largest.

        Args:
            precise: Function from rows and columns (m,) to scores (m,) without doubt, for those too close to call.
        """
        rows, columns, scores = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        n_rows = len(self.top)
        if self.k == 1 and len(self.parts) == 1 and len(rows) == n_rows and (rows[1:] > rows[:-1]).all():
            return Found(columns[:, None], scores[:, None])
        order = np.lexsort((columns, -scores, rows))
        if precise is not None:
            order = self._settled(order, rows, columns, scores, precise)
        ends = np.cumsum(np.bincount(rows, minlength=n_rows))  # (B,)
        place = np.concatenate([[0], ends[:-1]])[:, None] + np.arange(self.k)  # (B, k) in `order`
        real = place < ends[:, None]
        items, kept = np.zeros(place.shape, dtype=np.int64), np.full(place.shape, -np.inf)
        chosen = order[place[real]]
        items[real], kept[real] = columns[chosen], scores[chosen]
        return Found(items, kept)

    def _settled(
        self,
        order: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        scores: np.ndarray,
        precise: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Returns the order with scores that follow each other too closely put in order by precise ones."""
        row, score = rows[order], scores[order].astype(np.float64)
        close = (row[1:] == row[:-1]) & (score[:-1] - score[1:] <= self.doubt[row[1:]])  # to the one before
        if not close.any():
            return order
        run = np.cumsum(np.concatenate([[True], ~close]))  # runs of scores too close to call
        within = np.zeros(len(order), dtype=bool)
        within[1:] = close
        within[:-1] |= close
        exact = np.zeros(len(order))
        exact[within] = precise(row[within], columns[order][within])
        return order[np.lexsort((columns[order], -exact, run))]
