"""A log as a sparse matrix of users by items, and the catalog made of fitted item vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.options import is_whole

if TYPE_CHECKING:
    from scipy import sparse


_WIDTH = 128  # of vectors, where the log has so many users and items


def interactions(log: InteractionLog) -> sparse.csr_array:
    """Returns the user-item matrix (n_users, n_items) float64: 1 + log(number of events), 0 where there is none."""
    from scipy import sparse

    ones = np.ones(log.n_events)
    shape = (log.n_users, log.n_items)
    by_item = sparse.csr_array(
        (ones, log.items, log.offsets), shape=shape
    ).tocsc()  # counts, where rows would be sorted
    by_item.sum_duplicates()
    by_item.data = 1.0 + np.log(by_item.data)
    return by_item.tocsr()


def width_of(dim: int | None, log: InteractionLog) -> int:
    """Returns the width of the vectors fitted to a log; None is 128, or all there can be of a smaller log.

    Raises:
        DataError: if vectors of that width cannot be fitted to it.
    """
    most = min(log.n_users, log.n_items)
    if dim is None:
        return min(_WIDTH, most)
    if not is_whole(dim) or not 1 <= dim <= most:
        raise DataError(
            f"dim must lie between 1 and {most}, the smaller of {log.n_users} users and {log.n_items} items, "
            f"got {dim!r}; pass dim={most} or less"
        )
    return int(dim)


def fitted_catalog(vectors: np.ndarray, log: InteractionLog, normalise: bool) -> Catalog:
    """Returns the catalog of the items of a log with these vectors (n_items, d), each of length 1 where asked.

    An item without events gets a zero vector: nothing is known of it.
    """
    known = np.bincount(log.items, minlength=log.n_items) > 0
    vectors = np.where(known[:, None], vectors, 0.0)
    if normalise:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms > 0, norms, 1.0)
    return Catalog(vectors, log.item_ids, reward=log.reward, titles=log.titles, features=log.item_features)
