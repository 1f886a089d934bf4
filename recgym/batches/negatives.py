"""Items a user has not consumed, drawn evenly: what pretraining and ranking take for negatives."""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog


class Unconsumed:
    """Draws items that users have nowhere in a log, each as likely as the other, without drawing twice.

    The r-th item a user lacks is r plus the number of consumed items before it; with the user's consumed items sorted,
    c_0 < c_1 < ..., that is the number of j with c_j - j <= r. One binary search per draw finds it.

    Args:
        log: Who consumed what.

    Attributes:
        left: How many items each user lacks (n_users,) int64.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 2], ["a", "c", "b"], [1.0, 1.0, 1.0], item_ids=list("abcd"))
        >>> Unconsumed(log).items(np.array([0, 0, 1, 1, 1]), np.array([0.0, 0.9, 0.0, 0.5, 0.9])).tolist()
        [1, 3, 0, 2, 3]
    """

    def __init__(self, log: InteractionLog) -> None:
        n_items = log.n_items
        pairs = np.unique(log.event_users().astype(np.int64) * n_items + log.items)  # by user, then by item
        users, items = np.divmod(pairs, n_items)
        counts = np.bincount(users, minlength=log.n_users)
        self._starts = np.concatenate([[0], np.cumsum(counts)])  # (n_users + 1,)
        before = items - (np.arange(len(pairs)) - self._starts[users])  # c_j - j: lacking items before each
        self._stride = n_items + 1
        self._keys = users * self._stride + before  # ascending
        self.left = n_items - counts

    def items(self, users: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns an item (...) int64 that each user lacks.

        Args:
            users: User indices (...).
            uniforms: Numbers in [0, 1) (...) float64: equal steps are equally many items.

        Raises:
            DataError: if a user lacks no item.
        """
        left = self.left[users]
        if not left.all():
            raise DataError(
                f"every user must lack some item, got {np.unique(users[left == 0])[:3].tolist()} with all "
                f"{self._stride - 1} consumed; leave such users out"
            )
        place = (uniforms * left).astype(np.int64)  # r
        found = np.searchsorted(self._keys, users * self._stride + place, side="right")
        return place + found - self._starts[users]
