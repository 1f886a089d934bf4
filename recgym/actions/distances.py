"""Distances from one vector to all items, to look at: environments choose items with `recgym.actions`."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.options import check_choice

METRICS = (
    "euclidean",
    "cosine",
    "correlation",
    "canberra",
    "minkowski",
    "chebyshev",
    "braycurtis",
    "cityblock",
)


def distances(catalog: Catalog, vector: Any, metric: str = "euclidean", k: int = 10) -> list[tuple[str, float]]:
    """Returns the titles of the k items nearest to a vector and their distances, nearest first.

    Args:
        catalog: The items.
        vector: (d,) float, in the scale of `catalog.embeddings`.
        metric: One of `METRICS`, as SciPy defines them (`"minkowski"` with p = 2 is `"euclidean"`). A distance that is
            not defined, such as the cosine to a zero vector, counts as infinite.
        k: How many, at most n_items.

    Raises:
        DataError: if the metric is unknown, the vector has another width or is not finite, or k is out of range.

    Example:
        >>> catalog = Catalog(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), np.array(["a", "b", "c"]))
        >>> distances(catalog, [0.0, 0.9], "cityblock", k=2)
        [('b', 0.1), ('c', 0.7)]
    """
    from scipy.spatial.distance import cdist

    check_choice("metric", metric, METRICS)
    point = np.asarray(vector, dtype=np.float64)
    if point.shape != (catalog.dim,) or not np.isfinite(point).all():
        raise DataError(f"vector must be {catalog.dim} finite numbers, got shape {point.shape}; give one item vector")
    if not 1 <= k <= catalog.n_items:
        raise DataError(f"k must lie in 1..{catalog.n_items}, got {k}; ask for fewer items")
    kind: Any = metric
    found = cdist(point[None], catalog.embeddings.astype(np.float64), kind)[0]  # (n_items,)
    found = np.where(np.isnan(found), np.inf, found)
    nearest = np.argsort(found, kind="stable")[:k]
    return [(catalog.title(int(item)), round(float(found[item]), 6)) for item in nearest]
