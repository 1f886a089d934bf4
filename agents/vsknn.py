"""Session neighbours (VSKNN): what people took in the sessions most like the present one."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from agents.baselines import consumed
from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog


class VSKNN:
    """Scores an item by the likeness of the neighbour sessions that have it.

    The present session is a vector over items whose entries fall linearly with age: the event at place p of n weighs
    p / n, an item as its latest event. A session of the training log is like it by the sum of the weights of the items
    that both have. Of the `n_recent` latest sessions that share an item, the `k` most alike are neighbours, the later
    one where two are equally alike.

    Source: Ludewig and Jannach (2018), Evaluation of session-based recommendation algorithms, User Modeling and
    User-Adapted Interaction 28, section 3.3 (V-SKNN), after Jannach and Ludewig (2017), RecSys.

    Attributes:
        sessions: Which items each training session has (n_sessions, n_items), sparse, earliest first.
        k: Neighbours.
        n_recent: Sessions that neighbours are chosen from.
    """

    def __init__(
        self, item_ids: np.ndarray, sessions: sparse.csr_matrix, k: int, n_recent: int, reward: str = "scaled"
    ) -> None:
        if k < 1 or n_recent < 1:
            raise DataError(f"k and n_recent must be at least 1, got k={k}, n_recent={n_recent}; mend them")
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self.sessions, self.k, self.n_recent = sessions, k, n_recent
        self._with_item = sparse.csr_matrix(sessions.T)  # (n_items, n_sessions)

    @classmethod
    def fit(cls, log: InteractionLog, k: int = 100, n_recent: int = 1000) -> VSKNN:
        """Returns the sessions of `log`: its users, as `split_sessions` makes them, or people with all their events.

        Args:
            log: Training events; rewards are not looked at.
            k: Neighbours.
            n_recent: Sessions that they are chosen from: the latest by their last event, or by their order in the log
                where it has no times.

        Raises:
            DataError: if `k` or `n_recent` is below 1.
        """
        matrix = consumed(log)
        if log.times is not None:
            ends = np.where(log.lengths > 0, np.append(log.times, 0)[log.offsets[1:] - 1], np.iinfo(np.int64).min)
            matrix = matrix[np.argsort(ends, kind="stable")]
        return cls(log.item_ids, matrix, k, n_recent, log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        alike = sparse.csr_matrix(self._weights(history) @ self._with_item)  # (B, n_sessions)
        alike.sort_indices()
        rows, columns, data = [], [], []
        for row in range(alike.shape[0]):
            part = slice(max(alike.indptr[row], alike.indptr[row + 1] - self.n_recent), alike.indptr[row + 1])
            likeness, session = alike.data[part][::-1], alike.indices[part][::-1]  # latest first
            nearest = np.argsort(-likeness, kind="stable")[: self.k]
            rows.append(np.full(len(nearest), row))
            columns.append(session[nearest])
            data.append(likeness[nearest])
        places = np.concatenate(rows), np.concatenate(columns)
        neighbours = sparse.csr_matrix((np.concatenate(data), places), shape=alike.shape, dtype=np.float32)
        return np.asarray((neighbours @ self.sessions).todense())

    def _weights(self, history: History) -> sparse.csr_matrix:
        """Returns the present sessions as weights of items (B, n_items)."""
        items = np.asarray(history.items)  # (B, L)
        real = items < len(self.item_ids)
        length = real.sum(axis=1, keepdims=True)
        place = np.maximum(np.arange(1, items.shape[1] + 1) - (items.shape[1] - length), 0) / np.maximum(length, 1)
        weights = np.zeros((len(items), len(self.item_ids) + 1), dtype=np.float32)
        np.maximum.at(weights, (np.arange(len(items))[:, None], items), place.astype(np.float32))
        return sparse.csr_matrix(weights[:, :-1])
