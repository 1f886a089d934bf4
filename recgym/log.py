"""Who consumed what, in what order: the interaction log, its splits and its filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from recgym.errors import DataError


class UserEvents(NamedTuple):
    """One user's events, oldest first; every array is a view into the log."""

    items: np.ndarray  # (n,) int32
    rewards: np.ndarray  # (n,) float32
    times: np.ndarray | None  # (n,) int64, seconds


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Columns of events grouped by user, each user's oldest first. Index in `items`; look vectors up in a `Catalog`.

    User u's events are rows `offsets[u]` to `offsets[u + 1]` of every event column. The columns may be memory-mapped.
    Splits and filters return new logs; none changes this one.

    Attributes:
        items: Item indices (n_events,) int32 in 0..n_items-1.
        rewards: Rewards (n_events,) float32, already transformed.
        offsets: Where each user begins (n_users + 1,) int64.
        user_ids: Outside ids (n_users,).
        item_ids: Outside ids (n_items,), in index order.
        times: Seconds since 1970 (n_events,) int64, or None.
        propensities: Probability with which each event's item was shown (n_events,) float32, or None.
        extra: Further event columns by name, each (n_events,).
        users: User features by name, each (n_users,).
        titles: Item titles (n_items,), or None.
        reward: Name of the transform that made `rewards` (see `transform_rewards`).
        reward_range: Lowest and highest reward of the whole source; splits keep it.
        name: What the log is called in messages and results.

    Raises:
        DataError: if the columns do not fit together.
    """

    items: np.ndarray
    rewards: np.ndarray
    offsets: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    times: np.ndarray | None = None
    propensities: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    users: Mapping[str, np.ndarray] = field(default_factory=dict)
    titles: np.ndarray | None = None
    reward: str = "raw"
    reward_range: tuple[float, float] | None = None
    name: str = "log"

    def __post_init__(self) -> None:
        n_events, n_users = len(self.items), len(self.user_ids)
        if self.offsets.shape != (n_users + 1,) or self.offsets[0] != 0 or self.offsets[-1] != n_events:
            raise DataError(
                f"offsets must have shape ({n_users + 1},) and run from 0 to {n_events}, got shape {self.offsets.shape} "
                f"ending at {self.offsets[-1] if len(self.offsets) else None}; give one offset per user and the end"
            )
        for name, column in self.event_columns().items():
            if len(column) != n_events:
                raise DataError(
                    f"column {name!r} must have {n_events} rows, one per event, got {len(column)}; align it"
                )
        if self.reward_range is None:
            low, high = (float(self.rewards.min()), float(self.rewards.max())) if n_events else (0.0, 0.0)
            object.__setattr__(self, "reward_range", (low, high))

    # -- what it holds ---------------------------------------------------------------------------------------------

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items; as an item index it means padding."""
        return len(self.item_ids)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of each user (n_users,) int64."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.n_events

    def __repr__(self) -> str:
        return (
            f"InteractionLog({self.name!r}: {self.n_events:,} events, {self.n_users:,} users, {self.n_items:,} items)"
        )

    def event_columns(self) -> dict[str, np.ndarray]:
        """Returns every event column by name; those that are None are left out."""
        columns = {"items": self.items, "rewards": self.rewards, "times": self.times, "propensities": self.propensities}
        return {name: column for name, column in columns.items() if column is not None} | dict(self.extra)

    def user(self, user: int) -> UserEvents:
        """Returns the events of user index `user` as views, oldest first."""
        rows = slice(self.offsets[user], self.offsets[user + 1])
        return UserEvents(self.items[rows], self.rewards[rows], None if self.times is None else self.times[rows])

    def event_users(self) -> np.ndarray:
        """Returns the user index of every event (n_events,) int32."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.lengths)

    # -- parts of it -----------------------------------------------------------------------------------------------

    def select_events(self, keep: np.ndarray, *, drop_empty: bool = True) -> InteractionLog:
        """Returns the log of the events where `keep` (n_events,) bool is true; items keep their indices.

        Args:
            keep: Which events stay.
            drop_empty: Whether users left without an event are dropped. If not, user indices stay as they are.
        """
        counts = np.bincount(self.event_users()[keep], minlength=self.n_users)
        part = self._with_events(np.flatnonzero(keep), counts)
        return part.select_users(np.flatnonzero(counts)) if drop_empty and (counts == 0).any() else part

    def select_users(self, users: np.ndarray) -> InteractionLog:
        """Returns the log of the user indices `users` (m,), in that order, with all their events."""
        users = np.asarray(users, dtype=np.int64)
        lengths = self.lengths[users]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[users] - starts[:-1], lengths) + np.arange(starts[-1])
        part = self._with_events(rows, lengths, user_ids=self.user_ids[users])
        return replace(part, users={name: column[users] for name, column in self.users.items()})

    def _with_events(self, rows: np.ndarray, lengths: np.ndarray, user_ids: np.ndarray | None = None) -> InteractionLog:
        return replace(
            self,
            items=self.items[rows],
            rewards=self.rewards[rows],
            times=None if self.times is None else self.times[rows],
            propensities=None if self.propensities is None else self.propensities[rows],
            extra={name: column[rows] for name, column in self.extra.items()},
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            user_ids=self.user_ids if user_ids is None else user_ids,
        )
