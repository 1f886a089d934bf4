"""Item vectors for the models of off-policy evaluation, where none are given."""

from __future__ import annotations

import numpy as np

from recgym.catalog import Catalog
from recgym.log import InteractionLog


def vectors_of(log: InteractionLog, dim: int = 8) -> Catalog:
    """Returns vectors of at most `dim` numbers from which items go together in a log; all alike if nothing says so."""
    from recgym.embeddings import svd

    dim = min(dim, log.n_users - 1, log.n_items - 1)
    if dim < 1 or log.lengths.max() < 2:
        return Catalog(np.ones((log.n_items, 1)), log.item_ids, log.reward)
    return svd(log, dim=dim)
