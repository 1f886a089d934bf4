"""Item vectors from a truncated singular value decomposition of who consumed what."""

from __future__ import annotations

import numpy as np

from recgym.catalog import Catalog
from recgym.embeddings import krylov
from recgym.embeddings.krylov import Damped
from recgym.embeddings.matrix import fitted_catalog, interactions, width_of
from recgym.log import InteractionLog

_LARGE = 2_000_000  # events from which on ARPACK takes long


def svd(
    log: InteractionLog, dim: int | None = None, *, damping: float = 0.3, power: float = 0.25, normalise: bool = False
) -> Catalog:
    """Returns the catalog whose vectors are `V * S**power` of the damped user-item matrix `U S V'`.

    The matrix holds 1 + log(events) of each user with each item, each column divided by (users of the item)**damping.
    Without damping the first directions say little but popularity. With `power=1` they drown the others in an inner
    product; with `power=0` the last ones, mostly noise, weigh as much as the first. The defaults let a linear predictor
    of the next vector rank well by inner product and by cosine alike. As long as `dim` is far below the number of
    items, popular items have the longer vectors.

    The result is the same on every call: fixed start, and signs such that each direction's largest entry is positive.
    Machines differ by rounding (about 1e-6). From 2 million events on the decomposition is a randomised one
    (`recgym.embeddings.krylov`), in single precision on all cores; below, ARPACK's.

    Args:
        log: Training events.
        dim: Width d of the vectors, at most the smaller of users and items; None: 128, or that if it is less.
        damping: How far popularity is taken out of the matrix; 0 leaves it, 0.5 makes it correlations.
        power: How the directions weigh by their singular value.
        normalise: Whether every vector is brought to length 1, which takes popularity out of inner products.

    Raises:
        DataError: if `dim` is out of range.

    Source: damping after Nikolakopoulos et al., "EigenRec", Knowledge and Information Systems 2019, equation 1.

    Example:
        >>> from recgym.datasets.synthetic import synthetic
        >>> svd(synthetic(n_users=200, n_items=100), dim=16).table.shape
        (101, 16)
    """
    dim = width_of(dim, log)
    values, vectors = (
        krylov.largest(Damped(log, damping), dim) if is_large(log, dim) else _decomposed(log, dim, damping)
    )
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(dim)] < 0, -1.0, 1.0)
    weights = np.where(values > 1e-6 * values[0], values, 0.0) / values[0]  # directions that are rounding errors: none
    return fitted_catalog(vectors * signs * np.where(weights > 0, weights**power, 0.0), log, normalise)


def is_large(log: InteractionLog, dim: int) -> bool:
    """Returns whether a log is decomposed by `recgym.embeddings.krylov`."""
    return log.n_events >= _LARGE and krylov.SPARE * dim <= min(log.n_users, log.n_items)


def _decomposed(log: InteractionLog, dim: int, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `dim` largest singular values, largest first, and the right singular vectors (n_items, dim)."""
    from scipy import sparse
    from scipy.sparse.linalg import svds

    matrix = interactions(log)
    counts = np.bincount(matrix.indices, minlength=log.n_items)  # users of each item
    matrix = sparse.csr_array(matrix.multiply(np.maximum(counts, 1.0)[None, :] ** -damping))
    n_users, n_items = matrix.shape
    small = min(n_users, n_items)
    if dim <= small // 2:
        start = 1.0 + 0.5 * np.cos(np.arange(small, dtype=np.float64) ** 2)  # any fixed vector without symmetries
        _, values, right = svds(matrix, k=dim, v0=start)
        order = np.argsort(-values, kind="stable")
        return values[order], right[order].T
    gram = (matrix @ matrix.T if n_users < n_items else matrix.T @ matrix).toarray()  # (small, small)
    squares, vectors = np.linalg.eigh(gram)
    values = np.sqrt(np.maximum(squares[::-1][:dim], 0.0))
    vectors = vectors[:, ::-1][:, :dim]
    if n_users < n_items:
        vectors = (matrix.T @ vectors) / np.where(values > 0, values, 1.0)
    return values, vectors
