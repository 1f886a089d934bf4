"""Implicit ALS of the library `implicit` as a ranker: the usual matrix factorisation, by someone else's code."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from agents.baselines import consumed
from recgym import History, InteractionLog


class IALS:
    """Scores an item by its factors' inner product with the user's, which are solved for from the history.

    Source: Hu, Koren and Volinsky (2008), Collaborative filtering for implicit feedback datasets, ICDM, as the library
    has it: every consumed item counts `alpha`, and the penalty is the same for all factors.
    """

    def __init__(self, item_ids: np.ndarray, model: Any, reward: str) -> None:
        self.item_ids, self.reward, self.model = item_ids, reward, model

    @classmethod
    def fit(
        cls,
        log: InteractionLog,
        factors: int = 192,
        regularization: float = 10.0,
        alpha: float = 4.0,
        iterations: int = 12,
    ) -> IALS:
        """Returns the factors of who consumed what in `log`; rewards are not looked at."""
        from implicit.cpu.als import AlternatingLeastSquares  # comes with recgym[bench]

        model = AlternatingLeastSquares(
            factors, regularization, alpha, iterations=iterations, random_state=0, num_threads=1, use_native=True
        )
        model.fit(consumed(log), show_progress=False)
        return cls(log.item_ids, model, log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        n_items = len(self.item_ids)
        items = np.asarray(history.items)  # (B, L)
        real = items < n_items
        rows = np.broadcast_to(np.arange(len(items))[:, None], items.shape)[real]
        ones = np.ones(len(rows), dtype=np.float32)
        taken = sparse.csr_matrix((ones, (rows, items[real])), shape=(len(items), n_items))
        taken.data[:] = 1.0  # however often
        users = np.asarray(self.model.recalculate_user(np.arange(len(items)), taken))
        return np.asarray(users.reshape(len(items), -1) @ self.model.item_factors.T)
