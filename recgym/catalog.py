"""Which items exist and what vector describes each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recgym.errors import DataError


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items one can recommend, each with a vector; it knows nothing of users.

    The vectors are kept with one global scale: the longest has norm 1, and `scale` is what they were divided by, so
    that `embeddings * scale` gives the vectors back. Per-item normalisation is never done here (it destroys what inner
    products know of popularity). Index `n_items` is padding: a zero row of `table`, never an action or recommended.

    Attributes:
        embeddings: Item vectors (n_items, d) float32, norms at most 1. Vectors given on any scale are divided by it.
        item_ids: Outside ids (n_items,), unique, any hashable.
        reward: Name of the reward transform of the log the vectors were made from (see `transform_rewards`).
        titles: What to call the items (n_items,), or None.
        features: Named item features, each (n_items,) or (n_items, m).
        scale: Norm of the longest vector as given.

    Raises:
        DataError: if the shapes disagree, a vector is not finite, all vectors are zero, or an item id stands twice.

    Example:
        >>> catalog = Catalog(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array(["a", "b"]))
        >>> catalog.n_items, catalog.dim, catalog.scale
        (2, 2, 5.0)
        >>> catalog.table.shape  # one more row: the padding
        (3, 2)
    """

    embeddings: np.ndarray
    item_ids: np.ndarray
    reward: str = "scaled"
    titles: np.ndarray | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    scale: float = field(init=False)
    table: np.ndarray = field(init=False, repr=False)  # (n_items + 1, d) float32, last row zero

    def __post_init__(self) -> None:
        vectors = np.asarray(self.embeddings)
        item_ids = np.asarray(self.item_ids)
        if vectors.ndim != 2 or len(vectors) == 0 or vectors.shape[1] == 0:
            raise DataError(f"embeddings must have shape (n_items, d), got {vectors.shape}; give one row per item")
        if item_ids.shape != (len(vectors),):
            raise DataError(
                f"item_ids must have shape ({len(vectors)},), one per vector, got {item_ids.shape}; align them"
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise DataError(
                f"every item vector must be finite, got NaN or infinity in {len(bad)} of {len(vectors)}, "
                f"e.g. items {item_ids[bad[:3]].tolist()}; mend or drop them"
            )
        twice = [item_id for item_id, count in Counter(item_ids.tolist()).items() if count > 1]
        if twice:
            raise DataError(
                f"item ids must be unique, got {len(twice)} that stand twice, e.g. {twice[:3]}; keep one vector each"
            )
        scale = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
        if scale == 0.0:
            raise DataError(f"some item vector must be non-zero, got {len(vectors)} zero vectors; give real vectors")
        table = np.zeros((len(vectors) + 1, vectors.shape[1]), dtype=np.float32)
        np.divide(vectors, scale, out=table[:-1], casting="unsafe")
        table.setflags(write=False)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "embeddings", table[:-1])
        object.__setattr__(self, "item_ids", item_ids)
        object.__setattr__(self, "scale", scale)

    @property
    def n_items(self) -> int:
        """Number of items; also the index of the padding row of `table`."""
        return len(self.item_ids)

    @property
    def dim(self) -> int:
        """Width d of an item vector."""
        return self.table.shape[1]

    @cached_property
    def index_of(self) -> dict[object, int]:
        """Item index by outside id."""
        return {item_id: index for index, item_id in enumerate(self.item_ids.tolist())}

    def title(self, item: int) -> str:
        """Returns what to call an item: its title, or its id where it has none."""
        return str(self.item_ids[item] if self.titles is None else self.titles[item])
