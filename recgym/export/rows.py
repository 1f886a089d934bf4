"""The decisions of a log as rows: what every format writes, a block at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recgym.batches import FrameBatches
from recgym.batches.windows import events_until, locate_windows, signposts, window_starts
from recgym.errors import DataError
from recgym.log import InteractionLog

Columns = dict[str, np.ndarray]
_STRUCTURE = ("step", "position", "enters")  # extra columns of a collected log that say what its events are


class Rows:
    """Every decision of a log, user by user, oldest first; row numbers are the same however large the blocks are.

    An event is a decision if `min_history` others of the user come before it. In a log that `recgym.collect` made, a
    decision is a slate, its frame what had entered the user's history, and its user a session.

    | column | of one row | |
    |---|---|---|
    | `user` | int32 | index in the log; in a collected log the environment's user |
    | `session` | int32 | collected logs only: index in the log |
    | `step` | int32 | 0, 1, ...: which of the user's decisions |
    | `items`, `rewards` | (F,) int32, float32 | the frame before it, oldest first; padding is n_items and 0 |
    | `action` | int32, or (k,) | the item; the slate, if k > 1 |
    | `reward` | float32 | what it earned |
    | `terminated`, `truncated` | bool | the user's story, or the log, ended with it |
    | `next_items`, `next_rewards` | (F,) | collected logs only; otherwise `next_frame` makes them of the above |
    | `item_rewards` | float32, or (k,) | collected logs only: what each place earned |
    | `propensity` | float32, or (k,) | with which it was shown, where logged |
    | `time` | int64 | seconds since 1970, where logged |
    | `extra/NAME` | of any type, or (k,) | the log's further columns |

    Args:
        log: Where the decisions come from.
        frame_size: F.
        min_history: As in `FrameBatches`; collected logs ignore it.
        end_of_log: As in `FrameBatches`; collected logs know which sessions terminated.

    Raises:
        DataError: as `FrameBatches` does; if a collected log has lost part of a slate; if an extra column is neither
            numbers nor text.
    """

    def __init__(
        self, log: InteractionLog, frame_size: int = 10, min_history: int | None = None, end_of_log: str = "truncate"
    ) -> None:
        for name, column in log.extra.items():
            if column.dtype.kind not in "biufU":
                raise DataError(
                    f"extra columns must hold numbers or text to be exported, got {name!r} of type {column.dtype}; "
                    "convert or drop it"
                )
        self.log, self.frame_size = log, frame_size
        self.min_history = frame_size if min_history is None else min_history
        self.options = {"frame_size": frame_size, "min_history": self.min_history, "end_of_log": end_of_log}
        self.collected = "step" in log.extra
        self._slates = _slates(log) if self.collected else None
        checked = FrameBatches(
            log, frame_size, 1, min_history=0 if self.collected else min_history, end_of_log=end_of_log
        )
        self._n_windows = checked.n_windows
        self._starts = window_starts(log.lengths, self.min_history)
        self._posts = signposts(self._starts)
        self.k = 1 if self._slates is None else self._slates.events.shape[1]

    def __len__(self) -> int:
        return self._n_windows if self._slates is None else len(self._slates.events)

    def episodes(self) -> np.ndarray:
        """Returns where the rows of each user or session begin, and at the end how many there are (n + 1,) int64."""
        if self._slates is None:
            return self._starts
        return np.searchsorted(self._slates.session, np.arange(self.log.n_users + 1)).astype(np.int64)

    def block(self, first: int, end: int) -> Columns:
        """Returns rows `first` to `end`, excluding it, as columns (B, ...)."""
        return self.take(np.arange(first, end))

    def take(self, numbers: np.ndarray) -> Columns:
        """Returns the rows of these numbers (B,) as columns (B, ...)."""
        return self._logged(numbers) if self._slates is None else self._collected(self._slates, numbers)

    def events(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which events of the log these rows are (B,), or (B, k) if k > 1."""
        if self._slates is None:
            users, positions = self._located(numbers)
            return np.asarray(self.log.offsets[users] + positions)
        events = self._slates.events[numbers]
        return events if self.k > 1 else events[:, 0]

    def _logged(self, numbers: np.ndarray) -> Columns:
        log, (users, positions) = self.log, self._located(numbers)
        events = log.offsets[users] + positions
        items, rewards = self._frame(log, users, positions)
        last, terminal = positions == log.lengths[users] - 1, self.options["end_of_log"] == "terminal"
        columns = {
            "user": users,
            "step": positions - self.min_history,
            "items": items,
            "rewards": rewards,
            "action": log.items[events],
            "reward": log.rewards[events],
            "terminated": last & terminal,
            "truncated": last & (not terminal),
        }
        return _narrow(columns) | self._further(events)

    def _collected(self, slates: _Slates, numbers: np.ndarray) -> Columns:
        log, events, sessions = self.log, self.events(numbers), slates.session[numbers]
        items, rewards = self._frame(slates.past, sessions, slates.before[numbers])
        next_items, next_rewards = self._frame(slates.past, sessions, slates.after[numbers])
        last, left = slates.last[numbers], np.asarray(log.users["terminated"], dtype=bool)[sessions]
        item_rewards = log.rewards[events]
        columns = {
            "user": np.asarray(log.users["user"])[sessions],
            "session": sessions,
            "step": log.extra["step"][slates.events[numbers, 0]],
            "items": items,
            "rewards": rewards,
            "action": log.items[events],
            "reward": item_rewards if self.k == 1 else item_rewards.sum(axis=1),
            "terminated": last & left,
            "truncated": last & ~left,
            "next_items": next_items,
            "next_rewards": next_rewards,
            "item_rewards": item_rewards,
        }
        return _narrow(columns) | self._further(events)

    def _frame(self, past: InteractionLog, users: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the last F of each user's first `counts` events, items and rewards (B, F)."""
        newest, real = past.offsets[users] + counts - 1, np.minimum(counts, self.frame_size)
        items = events_until(past.items, newest, self.frame_size, real, past.n_items)
        return items, events_until(past.rewards, newest, self.frame_size, real)

    def _located(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns whose rows these are (B,), and which of their events the decisions (B,)."""
        return locate_windows(self._starts, numbers, self.min_history, self._posts)

    def _further(self, events: np.ndarray) -> Columns:
        """Returns the columns that only some logs have, of events (B,) or (B, k)."""
        columns = {}
        if self.log.propensities is not None:
            columns["propensity"] = self.log.propensities[events]
        if self.log.times is not None:
            columns["time"] = self.log.times[events]
        names = [name for name in self.log.extra if not (self.collected and name in _STRUCTURE)]
        return columns | {f"extra/{name}": self.log.extra[name][events] for name in names}


class _Slates(NamedTuple):
    """The decisions of a collected log."""

    events: Any  # (n, k) events of the log
    session: Any  # (n,)
    before: Any  # (n,) events of the session that had entered its history before the decision
    after: Any  # (n,) and after it
    last: Any  # (n,) bool: it is the session's last
    past: InteractionLog  # what entered


def _slates(log: InteractionLog) -> _Slates:
    position, enters = np.asarray(log.extra["position"]), np.asarray(log.extra["enters"], dtype=bool)
    k = int(position.max(initial=0)) + 1
    heads = np.flatnonzero(position == 0)
    events = heads[:, None] + np.arange(k)  # (n, k)
    whole = len(heads) and events[-1, -1] < log.n_events
    if not whole or np.count_nonzero(position >= 0) != events.size or (position[events] != np.arange(k)).any():
        raise DataError(
            f"every slate of a collected log must be whole, got {np.count_nonzero(position >= 0)} shown items for "
            f"{len(heads)} slates of {k}; export the log as recgym.collect returned it"
        )
    session = log.event_users()[heads]
    entered = np.concatenate([[0], np.cumsum(enters)])  # (n_events + 1,)
    before = entered[heads] - entered[log.offsets[session]]
    last = np.append(session[1:] != session[:-1], True)
    whole_session = entered[log.offsets[session + 1]] - entered[log.offsets[session]]
    after = np.where(last, whole_session, np.append(before[1:], 0))
    return _Slates(events, session, before, after, last, log.select_events(enters, drop_empty=False))


def next_frame(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Returns the frames after the decisions, items and rewards (B, F)."""
    if "next_items" in columns:
        return columns["next_items"], columns["next_rewards"]
    items = np.concatenate([columns["items"][:, 1:], columns["action"][:, None]], axis=1)
    return items, np.concatenate([columns["rewards"][:, 1:], columns["reward"][:, None]], axis=1)


def _narrow(columns: Columns) -> Columns:
    """Returns indices as int32 and rewards as float32."""
    kinds = {"i": np.int32, "f": np.float32, "b": np.bool_}
    return {name: np.ascontiguousarray(column, dtype=kinds[column.dtype.kind]) for name, column in columns.items()}
