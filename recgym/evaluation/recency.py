"""Rankers that know time alone: one's own items again, and what came into the catalog last.

Where people come back to what they had (shops, music) or want what is new, these are what an agent must beat: they
learn nothing of taste.
"""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.log.shares import first_times


class Recency:
    """Scores the items of the history by how lately they were taken, newest first, and all others by popularity.

    Attributes:
        popularity: What other items score (n_items,) float32 in [0, 1): their share of the most popular one's events.
    """

    def __init__(self, item_ids: np.ndarray, counts: np.ndarray, reward: str = "scaled") -> None:
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self.popularity = (np.asarray(counts) / (np.max(counts, initial=0) + 1.0)).astype(np.float32)

    @classmethod
    def fit(cls, log: InteractionLog) -> Recency:
        """Returns the ranker, with the popularity of the items of `log`."""
        return cls(log.item_ids, np.bincount(log.items, minlength=log.n_items), log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        items = np.asarray(history.items)  # (B, L)
        place = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.float32), items.shape)
        return self._with_popularity(_of_own(items, place, len(self.item_ids), np.maximum))

    def _with_popularity(self, own: np.ndarray) -> np.ndarray:
        return np.where(own > 0, 1.0 + own, self.popularity)


class RepeatPopularity(Recency):
    """Scores the items of the history by how often they were taken, an event counting half after `half_life` others.

    All other items follow, by popularity.

    Attributes:
        half_life: Events of the user after which one of his counts half; infinite counts all alike.
    """

    def __init__(
        self, item_ids: np.ndarray, counts: np.ndarray, half_life: float = 20.0, reward: str = "scaled"
    ) -> None:
        if not half_life > 0:
            raise DataError(f"half_life must be above 0 events, got {half_life}; give e.g. 20")
        super().__init__(item_ids, counts, reward)
        self.half_life = half_life

    @classmethod
    def fit(cls, log: InteractionLog, half_life: float = 20.0) -> RepeatPopularity:
        """Returns the ranker, with the popularity of the items of `log`."""
        return cls(log.item_ids, np.bincount(log.items, minlength=log.n_items), half_life, log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float32."""
        items = np.asarray(history.items)  # (B, L)
        age = np.arange(items.shape[1])[::-1]
        weight = np.maximum(0.5 ** (age / self.half_life), np.finfo(np.float32).tiny).astype(np.float32)
        return self._with_popularity(_of_own(items, np.broadcast_to(weight, items.shape), len(self.item_ids), np.add))


class NewestItems:
    """Scores items by when they came into the catalog, the newest first, whoever asks.

    An item comes with its first event in the training log (`by="time"`), or in the order of ids (`by="id"`), which
    tells the age even of items that nobody has taken yet. By time, what comes after the moment of the recommendation is
    not there yet and ranks last, as do items without an event.

    Attributes:
        born: When each item came (n_items,) float64: seconds since 1970, or its index.
    """

    def __init__(self, item_ids: np.ndarray, born: np.ndarray, by: str = "time", reward: str = "scaled") -> None:
        if by not in ("time", "id"):
            raise DataError(f"by must be 'time' or 'id', got {by!r}; choose one of them")
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self.by = by
        self.born = np.asarray(born, dtype=np.float64)

    @classmethod
    def fit(cls, log: InteractionLog, by: str = "time") -> NewestItems:
        """Returns the ranker of the items of `log`.

        Raises:
            DataError: if `by` is unknown, or the log has no times to go by.
        """
        if by == "time" and log.times is None:
            raise DataError(f"newest items by time need times, got {log.name!r} without; load them, or pass by='id'")
        born = np.arange(log.n_items, dtype=np.float64)
        if by == "time":
            items, first = first_times(log)
            born = np.full(log.n_items, -np.inf)
            born[items] = first
        return cls(log.item_ids, born, by, log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns scores (B, n_items) float64."""
        shape = len(history.items), len(self.born)
        if self.by == "id" or history.time is None:
            return np.broadcast_to(self.born, shape)
        return np.where(self.born < np.asarray(history.time)[:, None], self.born, -np.inf)


def _of_own(items: np.ndarray, values: np.ndarray, n_items: int, gather: np.ufunc) -> np.ndarray:
    """Returns for each item of a history what `gather` makes of the values at its places (B, n_items); 0 elsewhere."""
    own = np.zeros((len(items), n_items + 1), dtype=np.float32)
    gather.at(own, (np.arange(len(items))[:, None], items), values)
    return own[:, :n_items]
