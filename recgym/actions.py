"""Action mappers: from what an agent says (an item, a slate, a vector) to the items that are shown."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from recgym.catalog import Catalog
from recgym.errors import ActionError
from recgym.options import check_choice

MAPPERS = ("inner", "cosine", "l2")
_LARGEST = 1e30  # magnitude of an action's number up to which no score overflows
_BLOCK = 64  # items whose best is looked at first in a top-k
_ROUNDS = 32  # k up to which k rounds of argmax are quicker than sorting


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
        if items.size and not 0 <= items.min() <= items.max() < self.n_items:
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

    The search is exact. Equal scores go to the lower index. A library may round a matrix product differently for
    different numbers of rows (by some 1e-7); then items closer to a tie than that are chosen differently by batches of
    different size. The product is laid out so that OpenBLAS does not.

    Args:
        catalog: The items.
        k: Items shown together.
        mapper: `"inner"`, `"cosine"` or `"l2"`.

    Raises:
        DataError: if the mapper is unknown.

    Example:
        >>> mapper = EmbeddingActions(Catalog(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array(["a", "b"])))
        >>> mapper.to_items(np.array([[0.2, 0.9]])).tolist()
        [[1]]
    """

    masks = True

    def __init__(self, catalog: Catalog, k: int = 1, mapper: str = "inner") -> None:
        check_choice("mapper", mapper, MAPPERS)
        self.k = k
        self.dim = catalog.dim
        self.single_space: spaces.Space = spaces.Box(-1.0, 1.0, (catalog.dim,), np.float32)
        vectors = catalog.embeddings
        norms = np.linalg.norm(vectors, axis=1)  # (n_items,)
        if mapper == "cosine":
            vectors = vectors / np.where(norms > 0, norms, 1)[:, None]
        self._items = np.ascontiguousarray(vectors, dtype=np.float32)  # (n_items, d)
        self._offset = -0.5 * norms**2 if mapper == "l2" else None  # (n_items,)

    def to_items(self, actions: Any, blocked: Any = None, candidates: Any = None) -> np.ndarray:
        """Returns the k nearest allowed items (B, k) int64, nearest first; see `ActionMapper`."""
        scores = self.scores(actions)
        if candidates is not None:
            unlisted = np.ones((len(scores), scores.shape[1] + 1), dtype=bool)
            unlisted[np.arange(len(scores))[:, None], candidates] = False
            np.putmask(scores, unlisted[:, :-1], -np.inf)
        if blocked is not None:
            np.putmask(scores, blocked, -np.inf)
        items = top_k(scores, self.k)
        last = np.take_along_axis(scores, items, axis=1)[:, -1] if blocked is not None or candidates is not None else 0
        short = int(np.count_nonzero(last == -np.inf))
        if short:
            raise ActionError(
                f"every row must have {self.k} items left to show, got fewer in {short} of {len(scores)} rows; "
                "end the session earlier, lower k or pass repeats='zero'"
            )
        return items

    def scores(self, actions: Any) -> np.ndarray:
        """Returns how near every item is to each action (B, n_items) float32; larger is nearer."""
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
        rows = vectors if len(vectors) > 1 else np.repeat(vectors, 2, axis=0)  # one row alone is rounded differently
        scores = (rows.astype(np.float32, copy=False) @ self._items.T)[: len(vectors)]  # (B, n_items)
        if self._offset is not None:
            scores += self._offset
        return scores


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest scores of each row (B, k) int64, largest first, ties to the lower column.

    Exact and without a full sort: the k blocks of columns with the largest maxima hold the k largest scores, ties
    included when blocks tie to the lower one as well.

    Args:
        scores: (B, n) float without NaN. Where fewer than k are above minus infinity, the rest of the row is arbitrary.
        k: How many, at most n.

    Example:
        >>> top_k(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist()
        [[1, 2, 3]]
    """
    n_rows, n = scores.shape
    if k == 1:
        return scores.argmax(axis=1)[:, None]
    n_blocks = n // _BLOCK
    if n_blocks < 4 * k:
        return _largest(scores, k)
    whole = n_blocks * _BLOCK
    best = scores[:, :whole].reshape(n_rows, n_blocks, _BLOCK).max(axis=2)  # (B, n_blocks)
    blocks = np.sort(_largest(best, k), axis=1)  # (B, k): ascending, so that ties keep going to the lower column
    tail = np.broadcast_to(np.arange(whole, n), (n_rows, n - whole))
    columns = (blocks[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(n_rows, -1)  # (B, k * 64)
    columns = np.concatenate([columns, tail], axis=1)
    chosen = _largest(np.take_along_axis(scores, columns, axis=1), k)
    return np.take_along_axis(columns, chosen, axis=1)


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest (B, k), ties to the lower column."""
    if k > _ROUNDS:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rest = scores.copy()
    columns = np.empty((len(scores), k), dtype=np.int64)
    rows = np.arange(len(scores))
    for place in range(k):
        columns[:, place] = rest.argmax(axis=1)
        rest[rows, columns[:, place]] = -np.inf
    return columns
