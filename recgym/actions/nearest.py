"""Approximate search for the nearest items, with faiss (`pip install recgym[ann]`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgym.actions.search import ExactSearch, Found
from recgym.errors import RecgymError
from recgym.rng import uniforms

_SPARE = 16  # items asked for beyond k, so that k are left when blocked ones are taken out
_AGAIN = 4  # of those left, how many beyond k are scored again
_TRIALS = 1024  # queries that recall is measured with


class ApproximateSearch:
    """Looks at the items in the cells whose centres are nearest to the query, and no others.

    The items are parted into cells by k-means. How many cells are looked at is found by trial: as few as give the
    wanted recall of the ten nearest, on queries drawn uniformly from the action box (what an agent asks before it has
    learnt) and on queries in the middle of two items, on each kind by itself. What is found is scored again as
    `ExactSearch` does, so order and ties are the same; blocked items are never returned, and a row for which too few
    others are found is searched exactly.

    The gain depends on the vectors: parted well they are found several times as fast, while vectors without clusters
    need nearly all cells. Small catalogs gain nothing.

    Source: Jegou et al., "Product quantization for nearest neighbor search", 2011, section IV (inverted file), with
    vectors in half precision in place of product quantization; the library is faiss.

    Args:
        items: As for `ExactSearch` (n_items, d or d + 1); items of largest product must be those nearest to the query.
        dim: d, the part of it that distances are measured in.
        recall: Share of the ten nearest that must be found, on average over either kind of queries.

    Attributes:
        recall: Share that was found, of the kind where it is less.
        recalls: Of either kind: of the box, of the middles.
        n_probes: Cells looked at.
        n_cells: Cells there are.

    Raises:
        RecgymError: if faiss is not installed.
    """

    def __init__(self, items: np.ndarray, dim: int, recall: float = 0.95) -> None:
        try:
            import faiss
        except ImportError:
            raise RecgymError(
                "an approximate search must have faiss installed, got none; pip install recgym[ann], or pass "
                "approximate_above=None"
            ) from None
        self.dim = dim
        self._exact = ExactSearch(items)
        vectors = np.ascontiguousarray(items[:, :dim])
        self.n_cells = max(1, 2 ** round(np.log2(3.0 * np.sqrt(len(items)))))
        half = faiss.ScalarQuantizer.QT_fp16  # a fifth faster than single precision; what is found is scored again
        self._index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(dim), dim, self.n_cells, half)
        self._index.cp.min_points_per_centroid = 1  # fewer than it likes in small catalogs; no warning
        self._index.train(vectors)
        self._index.add(vectors)
        self._find_n_probes(recall)

    def _find_n_probes(self, recall: float) -> None:
        items, half = self._exact.items, _TRIALS // 2
        queries = np.ones((_TRIALS, items.shape[1]), dtype=np.float32)
        queries[:half, : self.dim] = uniforms(0, half * self.dim).reshape(half, self.dim) * 2.0 - 1.0
        pairs = (uniforms(0, 2 * half, stream=1) * len(items)).astype(np.int64).reshape(2, half)
        queries[half:, : self.dim] = items[pairs, : self.dim].mean(axis=0)
        k = min(10, len(items))
        truth = self._exact.largest(queries, k).items
        few, enough = 0, self.n_cells  # recall grows with the cells looked at
        while enough - few > 1:
            self._look_at((few + enough) // 2)
            recalls = self._recalls(queries, truth)
            few, enough = (few, self.n_probes) if min(recalls) >= recall else (self.n_probes, enough)
        self._look_at(enough)
        self.recalls = self._recalls(queries, truth)
        self.recall = min(self.recalls)

    def _look_at(self, n_probes: int) -> None:
        self.n_probes = self._index.nprobe = n_probes

    def _recalls(self, queries: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        found, half = self.largest(queries, truth.shape[1]).items, _TRIALS // 2
        return recall_of(found[:half], truth[:half]), recall_of(found[half:], truth[half:])

    def largest(self, queries: np.ndarray, k: int, blocked: Any = None) -> Found:
        """Returns k of the items of largest score that are not blocked; see `recgym.actions.search.Search`."""
        n = len(self._exact.items)
        asked = min(n, k + (_AGAIN if blocked is None else _SPARE))
        _, items = self._index.search(np.ascontiguousarray(queries[:, : self.dim]), asked)  # (B, asked), -1 for none
        open_ = items >= 0
        if blocked is not None:
            open_ &= ~np.take_along_axis(blocked, items, axis=1)
        short = np.flatnonzero(np.count_nonzero(open_, axis=1) < k)
        best = np.argsort(~open_, axis=1, kind="stable")[:, : k + _AGAIN]  # the nearest open ones
        items, open_ = np.take_along_axis(items, best, axis=1), np.take_along_axis(open_, best, axis=1)
        scores = np.matmul(self._exact.items[items], queries[:, :, None])[:, :, 0]  # (B, k + 4)
        scores[~open_] = -np.inf
        order = np.lexsort((items, -scores), axis=1)[:, :k]
        found = Found(np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1))
        if len(short):
            exact = self._exact.largest(queries[short], k, None if blocked is None else blocked[short])
            found.items[short], found.scores[short] = exact
        return found


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Returns which share of the true items (B, k) is among those found (B, k), on average."""
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())
