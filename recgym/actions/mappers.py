"""Action mappers: from what an agent says (an item, a slate, a vector) to the items that are shown."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from recgym.actions.search import ExactSearch, Found, Search, top_k
from recgym.catalog import Catalog
from recgym.errors import ActionError
from recgym.options import check_choice

MAPPERS = ("inner", "cosine", "l2", "box")
_LARGEST = 1e30  # magnitude of an action's number up to which no score overflows


class ActionMapper(Protocol):
    """Turns a batch of actions into slates. It knows nothing of rewards.

    Attributes:
        single_space: Space of one row's action.
        masks: Whether `to_items` heeds `blocked`; if not, it need not be made.
    """

    single_space: spaces.Space
    masks: bool

    def to_items(self, actions: Any, blocked: Any = None, candidates: Any = None) -> np.ndarray:
        """Returns the items to show (B, k) int64.

        Args:
            actions: Actions of B rows, stacked.
            blocked: Items that must not be chosen (B, n_items) bool, or None.
            candidates: Items that may be chosen (B, C) int, padded with n_items, or None for all.

        Raises:
            ActionError: if an action has a wrong shape, type or value.
        """
        ...


class ItemActions:
    """The action is the item, or the k items of a slate in order. What is asked for is shown, blocked or not.

    Args:
        n_items: Number of items.
        k: Items shown together.

    Example:
        >>> ItemActions(5, k=2).to_items(np.array([[4, 0]])).tolist()
        [[4, 0]]
    """

    masks = False

    def __init__(self, n_items: int, k: int = 1) -> None:
        self.n_items = n_items
        self.k = k
        self.single_space: spaces.Space = spaces.Discrete(n_items) if k == 1 else spaces.MultiDiscrete([n_items] * k)

    def to_items(self, actions: Any, blocked: Any = None, candidates: Any = None) -> np.ndarray:
        """Returns the items asked for (B, k) int64; see `ActionMapper`."""
        items = np.asarray(actions)
        shape = "(B,)" if self.k == 1 else f"(B, {self.k})"
        if items.ndim != (1 if self.k == 1 else 2) or (self.k > 1 and items.shape[1] != self.k):
            raise ActionError(f"item actions must have shape {shape}, got {items.shape}; give {self.k} item(s) per row")
        if items.dtype.kind not in "iu":
            raise ActionError(f"item actions must be integers, got dtype {items.dtype}; give item indices")
        items = items.astype(np.int64).reshape(-1, self.k)  # (B, k)
        if (items.view(np.uint64) >= self.n_items).any():  # as such, negative ones are large
            bad = items[(items < 0) | (items >= self.n_items)]
            raise ActionError(
                f"item actions must lie in 0..{self.n_items - 1}, got {bad[:3].tolist()} "
                f"({len(bad)} of {items.size} do not); give item indices, not ids"
            )
        return items


class EmbeddingActions:
    """The action is a vector in item space; the k items nearest to it that are not blocked are shown, nearest first.

    | mapper | an item e is nearer to the action a the larger is |
    |---|---|
    | `"inner"` | `a . e` |
    | `"cosine"` | `a . e / abs(e)` (0 for a zero vector) |
    | `"l2"` | `-abs(a - e)`, computed as `a . e - abs(e)**2 / 2` |
    | `"box"` | `-max_j abs(a_j - e_j)`: half the width of the smallest box around a that holds e |

    `"box"` is a search in a box that is relaxed until an item fits; it passes over the items once for each of the d
    numbers, so it is for vectors of a few features.

    Equal scores go to the lower index. The search is exact, and what a row gets depends neither on other rows nor on
    the processor (`recgym.actions.search.ExactSearch`). Above `approximate_above` items the search, with
    `"cosine"` or `"l2"`, is `recgym.actions.nearest.ApproximateSearch`: now and then it misses one of the k.

    Args:
        catalog: The items.
        k: Items shown together.
        mapper: `"inner"`, `"cosine"`, `"l2"` or `"box"`.
        approximate_above: Items above which the search is approximate, for `"cosine"` and `"l2"`; None: never.

    Raises:
        DataError: if the mapper is unknown, or cannot be approximate.

    Example:
        >>> mapper = EmbeddingActions(Catalog(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array(["a", "b"])))
        >>> mapper.to_items(np.array([[0.2, 0.9]])).tolist()
        [[1]]
    """

    masks = True

    def __init__(
        self, catalog: Catalog, k: int = 1, mapper: str = "inner", approximate_above: int | None = None
    ) -> None:
        check_choice("mapper", mapper, MAPPERS)
        if approximate_above is not None:
            check_choice("mapper of an approximate search", mapper, ("cosine", "l2"))
        self.k = k
        self.dim = catalog.dim
        self.single_space: spaces.Space = spaces.Box(-1.0, 1.0, (catalog.dim,), np.float32)
        vectors = catalog.embeddings
        norms = np.linalg.norm(vectors, axis=1)  # (n_items,)
        if mapper == "cosine":
            vectors = vectors / np.where(norms > 0, norms, 1)[:, None]
        if mapper == "l2":  # a . e - abs(e)**2 / 2, as a product with one number more
            vectors = np.concatenate([vectors, -0.5 * norms[:, None] ** 2], axis=1)
        items = np.ascontiguousarray(vectors, dtype=np.float32)  # (n_items, d), or (n_items, d + 1)
        self._more = items.shape[1] - self.dim
        self.search: Search = (
            ExactSearch(items)
            if approximate_above is None or catalog.n_items <= approximate_above
            else _approximate(items, catalog.dim)
        )
        self._exact = self.search if isinstance(self.search, ExactSearch) else ExactSearch(items)
        self._sides = items.T.copy() if mapper == "box" else None  # (d, n_items)

    def to_items(self, actions: Any, blocked: Any = None, candidates: Any = None) -> np.ndarray:
        """Returns the k nearest allowed items (B, k) int64, nearest first; see `ActionMapper`."""
        if self._sides is not None:
            found = _chosen(self.scores(actions), self.k, blocked, candidates)
        elif candidates is not None:
            found = _among(self._exact, self._queries(actions), self.k, blocked, candidates)
        else:
            found = self.search.largest(self._queries(actions), self.k, blocked)
        short = int(np.count_nonzero(found.scores[:, -1] == -np.inf))
        if short:
            raise ActionError(
                f"every row must have {self.k} items left to show, got fewer in {short} of {len(found.items)} rows; "
                "end the session earlier, lower k or pass repeats='zero'"
            )
        return np.asarray(found.items)

    def scores(self, actions: Any) -> np.ndarray:
        """Returns how near every item is to each action (B, n_items) float32; larger is nearer."""
        queries = self._queries(actions)
        return self._exact.scores(queries) if self._sides is None else _minus_half_widths(queries, self._sides)

    def _queries(self, actions: Any) -> np.ndarray:
        """Returns the actions as the search takes them (B, d) float32, after checking them."""
        vectors = np.asarray(actions)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ActionError(
                f"embedding actions must have shape (B, {self.dim}), got {vectors.shape}; give one vector per row"
            )
        if vectors.dtype.kind != "f":
            raise ActionError(f"embedding actions must be floats, got dtype {vectors.dtype}; give a float32 vector")
        fine = np.abs(vectors) <= _LARGEST  # false for NaN too
        if not fine.all():
            bad = np.flatnonzero(~fine.all(axis=1))
            raise ActionError(
                f"embedding actions must be finite, got NaN, infinity or numbers beyond {_LARGEST:g} in {len(bad)} of "
                f"{len(vectors)} rows, e.g. rows {bad[:3].tolist()}; mend the policy"
            )
        queries = vectors.astype(np.float32, copy=False)
        return np.pad(queries, ((0, 0), (0, self._more)), constant_values=1.0) if self._more else queries


def _approximate(items: np.ndarray, dim: int) -> Search:
    from recgym.actions.nearest import ApproximateSearch  # needs an extra

    return ApproximateSearch(items, dim)


def _chosen(scores: np.ndarray, k: int, blocked: Any, candidates: Any) -> Found:
    """Returns the k largest of scores (B, n_items) that may be chosen, ties to the lower item."""
    n = scores.shape[1]
    if candidates is None:
        if blocked is not None:
            np.putmask(scores, blocked, -np.inf)
        items = top_k(scores, k)
        return Found(items, np.take_along_axis(scores, items, axis=1))
    listed = np.sort(candidates, axis=1)  # (B, C)
    return _listed(np.take_along_axis(scores, np.minimum(listed, n - 1), axis=1), listed, n, k, blocked)


def _among(exact: ExactSearch, queries: np.ndarray, k: int, blocked: Any, candidates: Any) -> Found:
    """Returns the k candidates of largest product that may be chosen; no other item is looked at."""
    n = len(exact.items)
    listed = np.sort(candidates, axis=1)  # (B, C)
    return _listed(exact.listed(queries, np.minimum(listed, n - 1)), listed, n, k, blocked)


def _listed(scores: np.ndarray, listed: np.ndarray, n: int, k: int, blocked: Any) -> Found:
    """Returns the k largest of the scores (B, C) of sorted candidates (B, C), with padding `n` and repeats."""
    items = np.minimum(listed, n - 1)
    scores[(listed == n) | (np.diff(listed, axis=1, prepend=-1) == 0)] = -np.inf  # padding, and what stands twice
    if blocked is not None:
        scores[np.take_along_axis(blocked, items, axis=1)] = -np.inf
    if listed.shape[1] < k:
        return Found(items, np.full(items.shape, -np.inf))
    columns = top_k(scores, k)
    return Found(np.take_along_axis(items, columns, axis=1), np.take_along_axis(scores, columns, axis=1))


def _minus_half_widths(actions: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns `-max_j abs(a_j - e_j)` (B, n_items) of actions (B, d) and items (d, n_items)."""
    widest = np.zeros((len(actions), sides.shape[1]), dtype=np.float32)
    for action, side in zip(actions.T, sides, strict=True):
        np.maximum(widest, np.abs(action[:, None] - side), out=widest)
    return -widest
