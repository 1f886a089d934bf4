"""Item vectors from alternating least squares on implicit feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recgym.catalog import Catalog
from recgym.embeddings.matrix import fitted_catalog, interactions, width_of
from recgym.log import InteractionLog
from recgym.rng import normals

if TYPE_CHECKING:
    from scipy import sparse

_CHUNK = 1 << 16  # events whose inner products are made at a time
_STEPS = 3  # conjugate gradient steps per least squares problem


def als(
    log: InteractionLog,
    dim: int | None = None,
    *,
    n_rounds: int = 8,
    weight: float = 5.0,
    penalty: float = 5.0,
    seed: int = 0,
    normalise: bool = False,
) -> Catalog:
    """Returns the catalog of item factors of a weighted factorisation of who consumed what; fit on training events.

    Minimises `sum c_ui (p_ui - x_u @ y_i)**2 + penalty * (|X|**2 + |Y|**2)` over users' factors x and items' factors y,
    where p is 1 for what was consumed and 0 else, and `c = 1 + weight * m` with m = 1 + log(events), 0 where none.

    Args:
        log: Training events.
        dim: Width d of the vectors, at most the smaller of users and items; None: 128, or that if it is less.
        n_rounds: How often users and items take turns.
        weight: How much more a consumed item counts than one that was not.
        penalty: Pull of all factors towards 0.
        seed: Which start.
        normalise: Whether every vector is brought to length 1, which takes popularity out of inner products.

    Raises:
        DataError: if `dim` is out of range.

    Source: Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008, equation 3;
        solved by conjugate gradients as in Takács, Pilászy and Tikk, RecSys 2011.

    Example:
        >>> from recgym.datasets.synthetic import synthetic
        >>> als(synthetic(n_users=200, n_items=100), dim=8, n_rounds=2).dim
        8
    """
    from scipy import sparse

    dim = width_of(dim, log)
    by_user = (weight * interactions(log)).astype(np.float32)
    by_item = sparse.csr_array(by_user.T)
    users = np.zeros((log.n_users, dim), dtype=np.float32)
    items = (0.1 * normals(seed, log.n_items * dim)).astype(np.float32).reshape(log.n_items, dim)
    for _ in range(n_rounds):
        users = _solved(by_user, items, users, penalty)
        items = _solved(by_item, users, items, penalty)
    return fitted_catalog(items, log, normalise)


def _solved(extra: sparse.csr_array, other: np.ndarray, start: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the factors (n, d) that fit best, all rows at once, given the other side's (m, d).

    Row i solves `(other' other + other' diag(extra_i) other + penalty) x_i = other' (1 + extra_i) p_i`.
    """
    from scipy import sparse

    gram = other.T @ other + penalty * np.eye(other.shape[1], dtype=np.float32)
    ones = sparse.csr_array((1.0 + extra.data, extra.indices, extra.indptr), shape=extra.shape)
    x = start
    residual = ones @ other - _applied(extra, other, gram, x)  # (n, d)
    step = residual
    squared = (residual**2).sum(axis=1, keepdims=True)  # (n, 1)
    for _ in range(_STEPS):
        image = _applied(extra, other, gram, step)
        length = squared / np.maximum((step * image).sum(axis=1, keepdims=True), 1e-30)
        x = x + length * step
        residual = residual - length * image
        fresh = (residual**2).sum(axis=1, keepdims=True)
        step = residual + fresh / np.maximum(squared, 1e-30) * step
        squared = fresh
    return x


def _applied(extra: sparse.csr_array, other: np.ndarray, gram: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the left-hand side of the equation of `_solved` for every row of x (n, d)."""
    from scipy import sparse

    rows = np.repeat(np.arange(extra.shape[0]), np.diff(extra.indptr))
    products = np.empty(extra.nnz, dtype=np.float32)  # x_i @ other_j for every event
    for begin in range(0, extra.nnz, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        products[part] = np.einsum("nd,nd->n", x[rows[part]], other[extra.indices[part]])
    weighted = sparse.csr_array((extra.data * products, extra.indices, extra.indptr), shape=extra.shape)
    return x @ gram + weighted @ other
