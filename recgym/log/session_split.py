"""Cutting a log into sessions: by a gap in time, or one per user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recgym.errors import DataError
from recgym.log.interaction_log import InteractionLog
from recgym.options import check_choice, is_number

MODES = ("interval", "one")


def split_sessions(
    log: InteractionLog, mode: str = "interval", gap_seconds: int = 3600, *, until: int | None = None
) -> InteractionLog:
    """Returns the same events as a log whose every user is one session; nothing is dropped or moved.

    A session ends with the last event before a gap: what comes after more than `gap_seconds` is the first event of the
    next session, and no reward of it is credited to this one. Sessions are numbered in the order of the log, so those
    of one person stand together, oldest first. Split persons before sessions, and no person is on both sides.

    Frames that `FrameBatches` makes of the result begin with the session, and its returns end with it. As no event
    moves, a column made of the sessions (`discounted_returns(log.rewards, sessions.offsets, gamma)`) is one of the log
    too, whose frames go back further.

    | `users` of the result | |
    |---|---|
    | `person` | outside id of the user whose session it is |
    | `over` | whether the session is known to be over: the log goes on for more than the gap after its last event |
    | the features of `log.users` | those of the person |

    Args:
        log: Users with all their events.
        mode: `"interval"`, or `"one"`: all that a user did is one session, of which no end is known.
        gap_seconds: Longest pause within a session.
        until: Last second that the log tells of; by default that of its latest event.

    Source: the sessions of DBRL (massquantity/DBRL, `dbrl/data/session.py`), whose ends lie one event too late.

    Raises:
        DataError: if the mode is unknown, the gap is negative, or there are no times to find gaps in.

    Example:
        >>> log = InteractionLog.from_events(["ann"] * 4, [5, 6, 7, 8], [1] * 4, [0, 60, 120, 9000])
        >>> sessions = split_sessions(log, gap_seconds=3600)
        >>> [sessions.user(number).items.tolist() for number in range(sessions.n_users)]
        [[0, 1, 2], [3]]
        >>> sessions.users["person"].tolist(), sessions.users["over"].tolist()
        (['ann', 'ann'], [True, False])
    """
    check_choice("mode", mode, MODES)
    check_gap(gap_seconds)
    begins = np.zeros(log.n_events, dtype=bool)
    begins[log.offsets[:-1][log.lengths > 0]] = True
    if mode == "interval":
        times = _times(log)
        begins[1:] |= np.diff(times) > gap_seconds
    first = np.flatnonzero(begins)  # (n_sessions,) event that opens each
    offsets = np.append(first, log.n_events).astype(np.int64)
    over = np.zeros(len(first), dtype=bool)
    if mode == "interval" and len(first):
        over = (int(times.max()) if until is None else until) - times[offsets[1:] - 1] > gap_seconds
    person = log.event_users()[first]
    users = {name: column[person] for name, column in log.users.items()}
    users |= {"person": log.user_ids[person], "over": over}
    return replace(log, offsets=offsets, user_ids=np.arange(len(first)), users=users)


def events_before(sessions: InteractionLog) -> np.ndarray:
    """Returns how many events of the same person stand right before each session (n_sessions,) int64.

    Args:
        sessions: What `split_sessions` returned, or some of its sessions in the same order.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 1, 2], [5, 6, 7, 5], [1] * 4, [0, 60, 9000, 0])
        >>> events_before(split_sessions(log)).tolist()
        [0, 2, 0]
    """
    person = sessions.users["person"]
    changes = np.ones(len(person), dtype=bool)
    changes[1:] = person[1:] != person[:-1]
    begin = sessions.offsets[:-1]
    return begin - begin[np.maximum.accumulate(np.where(changes, np.arange(len(person)), 0))]


def check_gap(gap_seconds: float) -> None:
    """Raises a DataError unless a gap is a number of seconds."""
    if not is_number(gap_seconds) or gap_seconds < 0:
        raise DataError(f"gap_seconds must be at least 0, got {gap_seconds!r}; give the longest pause within a session")


def _times(log: InteractionLog) -> np.ndarray:
    if log.times is None:
        raise DataError(
            'sessions by mode="interval" need times, got a log without them; load its time column or pass mode="one"'
        )
    return log.times
