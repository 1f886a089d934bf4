"""Who consumed what, in what order: the interaction log, its splits and its filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.log import events, files, parts, splits
from recgym.log.columns import LogColumns
from recgym.log.columns import UserEvents as UserEvents


@dataclass(frozen=True, eq=False)
class InteractionLog(LogColumns):
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
        item_features: Item features by name, each (n_items,) or (n_items, m).
        reward: Name of the transform that made `rewards` (see `transform_rewards`).
        reward_range: Lowest and highest reward of the whole source; splits keep it.
        name: What the log is called in messages and results.
        is_tail: Whether earlier events of these users were split off: rankings need them, see `evaluate_ranking`.
        past: Those events, where they are at hand: the other part of `split_last`, `split_ratio` or `split_time`, of
            the same items, its users found by their ids. It follows the parts one takes of this log, but is not saved.
        source: How a table was read, as plain values: rows, those dropped by what they lacked, unit of time, ties.

    Raises:
        DataError: if the columns do not fit together.
    """

    past: InteractionLog | None = None

    def __post_init__(self) -> None:
        events.check_columns(self)
        for name in ("items", "rewards", "offsets", "times", "propensities"):
            object.__setattr__(self, name, events.read_only(getattr(self, name)))
        if self.reward_range is None:
            low, high = (float(self.rewards.min()), float(self.rewards.max())) if self.n_events else (0.0, 0.0)
            object.__setattr__(self, "reward_range", (low, high))

    @classmethod
    def from_events(
        cls,
        users: Any,
        items: Any,
        rewards: Any,
        times: Any = None,
        *,
        propensities: Any = None,
        extra: Mapping[str, Any] | None = None,
        item_ids: Any = None,
        titles: Mapping[Any, str] | None = None,
        reward: str = "raw",
        reward_range: tuple[float, float] | None = None,
        duplicates: str = "keep",
        name: str = "log",
    ) -> InteractionLog:
        """Returns the log of events given in any order, one row per event; nothing given is changed.

        Each user's events are sorted by time; those of one second, and all where there are no times, keep their order.
        Users and items are numbered in the sorted order of their ids.

        Args:
            users: User ids (n_events,), any hashable.
            items: Item ids (n_events,), any hashable.
            rewards: Rewards (n_events,), already transformed (see `transform_rewards`).
            times: Whole seconds since 1970 (n_events,), or None.
            propensities: Probability with which each item was shown (n_events,), above 0 and at most 1, or None.
            extra: Further event columns by name, each (n_events,).
            item_ids: All item ids in index order, where some items may have no event; by default those of `items`.
            titles: What to call the items, by id; an item without a title is called by its id.
            reward: Name of the transform that made `rewards`; it is written down, not applied.
            reward_range: Lowest and highest reward possible; by default those given.
            duplicates: For events of a user with one item: `"keep"`, `"first"` (oldest stays), `"last"`, `"error"`.
            name: What the log is called.

        Raises:
            DataError: if there are no events, a column has another length, an id is missing, a reward is not finite, a
                time is missing or negative, a propensity is out of range, or a pair repeats under `"error"`.

        Example:
            >>> log = InteractionLog.from_events(["ann", "bob", "ann"], [7, 7, 5], [1.0, 0.5, -1.0], times=[20, 5, 10])
            >>> log
            InteractionLog('log': 3 events, 2 users, 2 items)
            >>> log.user(0).items.tolist(), log.item_ids.tolist()  # ann: item 5 at 10 s, item 7 at 20 s
            ([0, 1], [5, 7])
        """
        columns = {"rewards": rewards, "times": times, "propensities": propensities}
        given = {name: column for name, column in columns.items() if column is not None}
        grouped = events.group(users, items, given, dict(extra or {}), item_ids, duplicates)
        return cls(
            **grouped,
            titles=None if titles is None else events.titles_of(grouped["item_ids"], titles),
            reward=reward,
            reward_range=reward_range,
            name=name,
        )

    def save(self, folder: str | Path) -> None:
        """Writes the log as one folder: a `.npy` file per column and `manifest.json`; all or nothing."""
        files.save_log(self, Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> InteractionLog:
        """Returns the log that `save` wrote, its event columns memory-mapped and read-only.

        Raises:
            StoreError: if the folder holds no log, or one that is damaged.
        """
        log = cls.__new__(cls)
        log.__dict__.update(files.open_log(Path(folder)))
        events.check_sizes(log)  # values were checked before they were saved; reading them all takes time and memory
        return log

    def to_parquet(self, folder: str | Path, n_parts: int = 1) -> None:
        """Writes the log as `n_parts` Parquet files by ranges of users; `recgym.log.parts` has the format."""
        parts.write_parts(self, Path(folder), n_parts)

    @classmethod
    def from_parquet(cls, folder: str | Path, part: int | None = None) -> InteractionLog:
        """Returns the log that `to_parquet` wrote, or only its part `part`, where all items keep their indices."""
        return cls(**parts.read_parts(Path(folder), part))

    # -- what it holds ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return (
            f"InteractionLog({self.name!r}: {self.n_events:,} events, {self.n_users:,} users, {self.n_items:,} items)"
        )

    @property
    def tied(self) -> float:
        """Share of a user's neighbouring events that have one time, so that nothing but a rule tells which was first.

        0 where there are no times; `source["ties"]` says what the rule was.
        """
        return events.tied_share(self)

    def summary(self, frame_size: int = 10) -> dict[str, Any]:
        """Returns what the log holds and how it was read, as plain values.

        | name | |
        |---|---|
        | `events`, `users`, `items` | how many |
        | `first`, `last` | earliest and latest time, in UTC; None without times |
        | `tied` | share of a user's neighbouring events that have one time |
        | `tied_ascending` | share of those whose items ascend: near 1, the order tells the item ids |
        | `repeats` | share of events with an item that the same user met before |
        | `reward_range` | lowest and highest reward |
        | `unserved` | users with `frame_size` events or fewer, whom environments and passes of whole frames leave out |
        | `single` | users with one event: `min_history=1` serves all others |
        | those of `source` | `rows` read, `dropped` by what they lacked, `time_unit` and the `transform` that rewards
          went through, and whether they were guessed |
        """
        short = {"unserved": int((self.lengths <= frame_size).sum()), "single": int((self.lengths <= 1).sum())}
        return events.summary(self) | short

    # -- held-out parts --------------------------------------------------------------------------------------------

    def split_users(self, test_size: float = 0.05, seed: int = 0) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test): a random share (or count) of the users, with all their events, is held out."""
        held = splits.held_out_users(self.n_users, test_size, seed)
        parts = self.select_users(np.flatnonzero(~held)), self.select_users(np.flatnonzero(held))
        splits.check_parts(parts[0].n_events, parts[1].n_events, f"test_size={test_size}")
        return parts

    def split_last(self, n: int = 1) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test): the last `n` events of each user who has more than `n` are held out."""
        return self._split_off(splits.last_events_of_users(self.offsets, n), f"n={n}")

    def split_ratio(self, test_size: float = 0.2) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test): the last `test_size` of each user's events are held out, rounded; one always stays."""
        return self._split_off(splits.last_share_of_users(self.offsets, test_size), f"test_size={test_size}")

    def split_time(self, test_size: float | None = None, when: Any = None) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test): events at or after one moment are held out.

        Args:
            test_size: Share (or count) of the events that come after the moment; events of one second stay together.
            when: The moment: seconds since 1970, a datetime, or a date string such as `"2001-05-31"` (UTC).
        """
        boundary = splits.time_boundary(self.times, test_size, when)
        return self._split_off(np.asarray(self.times) >= boundary, f"when={boundary}")

    def split_random(self, test_size: float = 0.1, seed: int = 0) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test): a random share (or count) of all events is held out, whoever's they are."""
        return self._split(splits.held_out_events(self.n_events, test_size, seed), f"test_size={test_size}")

    def _split(self, held: np.ndarray, how: str) -> tuple[InteractionLog, InteractionLog]:
        n_test = int(np.count_nonzero(held))
        splits.check_parts(self.n_events - n_test, n_test, how)
        return self.select_events(~held), self.select_events(held)

    def _split_off(self, held: np.ndarray, how: str) -> tuple[InteractionLog, InteractionLog]:
        """Returns (train, test) of a split that holds out everyone's newest events: the test part keeps its past."""
        train, test = self._split(held, how)
        return train, replace(test, is_tail=True, past=None if self.is_tail else train)  # a tail's tail has two pasts

    # -- parts of it -----------------------------------------------------------------------------------------------

    def filter_users(self, min_events: int) -> InteractionLog:
        """Returns the log of the users with at least `min_events` events; it is an error if there is none."""
        events.check_some_user(self.lengths, min_events)
        return self.select_users(np.flatnonzero(self.lengths >= min_events))

    def top_items(self, n: int) -> InteractionLog:
        """Returns the log of the `n` items with most events (ties: the lower index), numbered anew in their order."""
        if not 1 <= n <= self.n_items:
            raise DataError(f"n must lie between 1 and {self.n_items}, the number of items, got {n}; ask for fewer")
        counts = np.bincount(self.items, minlength=self.n_items)
        return self.select_items(np.sort(np.argsort(-counts, kind="stable")[:n]))

    def select_items(self, items: np.ndarray) -> InteractionLog:
        """Returns the log of the item indices `items` (m,), which become 0..m-1; events of others are dropped.

        Users left without an event are dropped. Item ids, titles and features follow.
        """
        items = np.asarray(items, dtype=np.int64)
        place = np.full(self.n_items, -1, dtype=np.int32)
        place[items] = np.arange(len(items), dtype=np.int32)
        part = self.select_events(place[self.items] >= 0)
        return replace(
            part,
            items=place[part.items],
            item_ids=self.item_ids[items],
            titles=None if self.titles is None else self.titles[items],
            item_features={name: feature[items] for name, feature in self.item_features.items()},
            past=None if self.past is None else self.past.select_items(items),
        )

    def select_events(self, keep: np.ndarray, *, drop_empty: bool = True) -> InteractionLog:
        """Returns the log of the events where `keep` (n_events,) bool is true; items keep their indices.

        Args:
            keep: Which events stay.
            drop_empty: Whether users left without an event are dropped. If not, user indices stay as they are.
        """
        keep = events.checked_mask(keep, self.n_events)
        counts = np.bincount(self.event_users()[keep], minlength=self.n_users)
        users = np.flatnonzero(counts) if drop_empty else np.arange(self.n_users)
        return self._with_events(np.flatnonzero(keep), users, counts[users])

    def select_users(self, users: np.ndarray) -> InteractionLog:
        """Returns the log of the user indices `users` (m,), in that order, with all their events."""
        users = np.asarray(users, dtype=np.int64)
        lengths = self.lengths[users]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[users] - starts[:-1], lengths) + np.arange(starts[-1])
        return self._with_events(rows, users, lengths)

    def _with_events(self, rows: np.ndarray, users: np.ndarray, lengths: np.ndarray) -> InteractionLog:
        return replace(
            self,
            items=self.items[rows],
            rewards=self.rewards[rows],
            times=None if self.times is None else self.times[rows],
            propensities=None if self.propensities is None else self.propensities[rows],
            extra={name: column[rows] for name, column in self.extra.items()},
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            user_ids=self.user_ids[users],
            users={name: column[users] for name, column in self.users.items()},
        )
