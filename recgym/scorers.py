"""What can be asked for a recommendation, and the floors every table carries: uniform and popularity."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog

SECONDS_PER_DAY = 86_400


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores every item for a batch of histories; larger is better. Evaluation asks nothing else."""

    item_ids: np.ndarray  # (n_items,) outside ids, in index order
    reward: str  # name of the reward transform of the log it was made from (see `transform_rewards`)

    def scores(self, history: History) -> Any:
        """Returns scores (B, n_items) float, NumPy or torch; NaN is refused by whoever asks."""
        ...


def check_has(given: Any, names: tuple[str, ...], what: str, advice: str) -> None:
    """Refuses what lacks one of `names`, or whose `item_ids` are no array (n_items,); says what it lacks."""
    lacking = [name for name in names if not hasattr(given, name)]
    if lacking or isinstance(given, type):
        without = f" (without {', '.join(lacking)})" if lacking else ""
        raise DataError(f"{what}, got {kind_of(given)}{without}; {advice}")
    check_item_ids(given.item_ids)


def kind_of(given: Any) -> str:
    """Returns what was given, for a message."""
    return f"the class {given.__name__} itself" if isinstance(given, type) else type(given).__name__


def check_item_ids(item_ids: Any) -> None:
    """Refuses what is no array of ids (n_items,)."""
    if np.ndim(item_ids) != 1:
        raise DataError(
            f"item_ids must be one id per item, of shape (n_items,), got {type(item_ids).__name__} of shape "
            f"{np.shape(item_ids)}; give those of the log, log.item_ids"
        )


def check_scorer(given: Any) -> None:
    """Refuses what is no `Scorer`, and says what it lacks."""
    what = "a scorer must have item_ids, reward and scores(history)"
    check_has(given, ("item_ids", "reward", "scores"), what, "give a fitted one, such as Popularity.fit(log)")


class Uniform:
    """Scores every item at random: the floor of chance.

    The stream is fixed by `seed`: the n-th call of two equal scorers gives equal scores.

    Args:
        item_ids: Outside ids (n_items,), in index order.
        seed: Seed of the stream.
        reward: Name of the reward transform of the histories it will be asked about.

    Raises:
        DataError: if `item_ids` is no sequence of ids.
    """

    in_order = True  # several processes would draw the same numbers

    def __init__(self, item_ids: np.ndarray, seed: int = 0, reward: str = "scaled") -> None:
        check_item_ids(item_ids)
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self._random = np.random.default_rng(seed)

    def scores(self, history: History) -> np.ndarray:
        """Returns fresh uniform numbers (B, n_items) float32 in [0, 1)."""
        return self._random.random((len(history.items), len(self.item_ids)), dtype=np.float32)


class Popularity:
    """Scores an item by how many training events it has, whoever asks.

    Attributes:
        counts: Events of each item (n_items,) float32.
    """

    def __init__(self, item_ids: np.ndarray, counts: np.ndarray, reward: str = "scaled") -> None:
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self.counts = np.asarray(counts, dtype=np.float32)

    @property
    def popularity(self) -> np.ndarray:
        """The counts, by the name under which `recommend` asks any scorer for them."""
        return self.counts

    @classmethod
    def fit(cls, log: InteractionLog) -> Popularity:
        """Returns the popularity of the items of `log`."""
        return cls(log.item_ids, np.bincount(log.items, minlength=log.n_items), log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns the counts, once per history (B, n_items) float32, as a read-only view."""
        return np.broadcast_to(self.counts, (len(history.items), len(self.counts)))


class RecentPopularity:
    """Scores an item by its training events in the days before the recommendation is made.

    The window ends at `history.time` (exclusive), or at the end of the training log where the history has no time.
    Events of the whole training log break ties, so that an empty window ranks by overall popularity.

    Attributes:
        days: Length of the window.
        end: Time just after the last training event, in seconds since 1970.
    """

    def __init__(
        self, item_ids: np.ndarray, items: np.ndarray, times: np.ndarray, days: float = 7.0, reward: str = "scaled"
    ) -> None:
        if not days > 0:
            raise DataError(f"days must be above 0, got {days}; give the length of the window")
        order = np.argsort(times, kind="stable")
        self.item_ids = np.asarray(item_ids)
        self.reward = reward
        self.days = days
        self._items = np.asarray(items)[order]  # (n_events,), oldest first
        self._times = np.asarray(times)[order]
        self.end = int(self._times[-1]) + 1 if len(order) else 0
        counts = np.bincount(self._items, minlength=len(self.item_ids))
        self._tie_break = counts / (counts.max(initial=0) + 1.0)  # (n_items,) in [0, 1): never outweighs one event

    @classmethod
    def fit(cls, log: InteractionLog, days: float = 7.0) -> RecentPopularity:
        """Returns the recent popularity of the items of `log`.

        Raises:
            DataError: if the log has no times, or `days` is not above 0.
        """
        if log.times is None:
            raise DataError(
                f"recent popularity needs the time of every event, got the log {log.name!r} without times; "
                f"load it with a time column or use Popularity"
            )
        return cls(log.item_ids, log.items, log.times, days, log.reward)

    def scores(self, history: History) -> np.ndarray:
        """Returns the counts within each history's window (B, n_items) float32, ties broken by all-time counts."""
        n_rows = len(history.items)
        until = np.full(1, self.end) if history.time is None else np.asarray(history.time)
        windows, row_of = np.unique(until, return_inverse=True)  # sessions of one moment share their counts
        stop = np.searchsorted(self._times, windows, side="left")
        start = np.searchsorted(self._times, windows - self.days * SECONDS_PER_DAY, side="left")
        counts = np.empty((len(windows), len(self.item_ids)), dtype=np.float32)
        for row, (first, last) in enumerate(zip(start, stop, strict=True)):
            counts[row] = np.bincount(self._items[first:last], minlength=len(self.item_ids)) + self._tie_break
        return np.broadcast_to(counts[row_of.ravel()], (n_rows, len(self.item_ids)))
