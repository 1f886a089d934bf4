"""The columns of a log, and what follows from them at once: what files, checks and summaries are written against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class UserEvents(NamedTuple):
    """One user's events, oldest first; every array is a view into the log."""

    items: np.ndarray  # (n,) int32
    rewards: np.ndarray  # (n,) float32
    times: np.ndarray | None  # (n,) int64, seconds


@dataclass(frozen=True, eq=False)
class LogColumns:
    """Columns of events grouped by user, each user's oldest first; see `InteractionLog` for what each of them is."""

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
    item_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    reward: str = "raw"
    reward_range: tuple[float, float] | None = None
    name: str = "log"
    is_tail: bool = False
    past: LogColumns | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

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
