"""Which events or users are held out: functions of offsets, times and a seed, applied by `InteractionLog.split_*`.

The random ones draw the raw integers of NumPy's PCG64, a stream NumPy promises to keep: today's split is next year's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from recgym.errors import DataError


def held_out_users(n_users: int, test_size: float, seed: int) -> np.ndarray:
    """Returns which users are test users (n_users,) bool: a random `test_size` of them."""
    return _random_part(n_users, test_size, seed, "users")


def held_out_events(n_events: int, test_size: float, seed: int) -> np.ndarray:
    """Returns which events are test events (n_events,) bool: a random `test_size` of them."""
    return _random_part(n_events, test_size, seed, "events")


def last_events_of_users(offsets: np.ndarray, n: int) -> np.ndarray:
    """Returns which events are the last `n` of a user who has more than `n` (n_events,) bool.

    A user with `n` events or fewer has nothing held out: the rest of him would be empty.
    """
    if not _is_whole(n) or n < 1:
        raise DataError(f"n must be a whole number of at least 1, got {n!r}; give how many events to hold out per user")
    lengths = np.diff(offsets)
    return _tails(offsets, np.where(lengths > n, n, 0))


def last_share_of_users(offsets: np.ndarray, test_size: float) -> np.ndarray:
    """Returns which events are the last `test_size` of their user's, rounded (n_events,) bool; one always stays."""
    if not _is_share(test_size):
        raise DataError(f"test_size must lie between 0 and 1, got {test_size!r}; give the share held out per user")
    lengths = np.diff(offsets)
    held = np.minimum(np.rint(lengths * test_size).astype(np.int64), np.maximum(lengths - 1, 0))
    return _tails(offsets, held)


def time_boundary(times: np.ndarray | None, test_size: float | None, when: Any) -> int:
    """Returns the first second (since 1970) of the test part.

    Args:
        times: Seconds since 1970 (n_events,).
        test_size: Share of events at or after the boundary; events of one second stay together, in the test part.
        when: The boundary itself: seconds, a date string read as UTC, or a datetime. Give this or `test_size`.
    """
    if times is None:
        raise DataError("a split by time needs times, got a log without them; load the log with its time column")
    if (test_size is None) == (when is None):
        raise DataError(f"give test_size or when, got test_size={test_size!r} and when={when!r}; give exactly one")
    if when is not None:
        return _seconds(when)
    if not _is_share(test_size):
        raise DataError(f"test_size must lie between 0 and 1, got {test_size!r}; give the share of the newest events")
    n_test = n_held_out(len(times), float(test_size or 0.0), "events")
    return int(np.partition(times, len(times) - n_test)[len(times) - n_test])


def check_parts(n_train: int, n_test: int, how: str) -> None:
    """Raises a DataError if a split left one part without events."""
    if n_train == 0 or n_test == 0:
        raise DataError(
            f"both parts of a split must hold events, got {n_train} for training and {n_test} for testing ({how}); "
            f"hold out {'less' if n_train == 0 else 'more'}"
        )


def _random_part(n: int, test_size: float, seed: int, what: str) -> np.ndarray:
    if not _is_whole(seed) or seed < 0:
        raise DataError(f"seed must be a whole number of at least 0, got {seed!r}; give e.g. seed=0")
    n_test = n_held_out(n, test_size, what)
    drawn = np.random.PCG64(int(seed)).random_raw(n)  # (n,) uint64
    return np.asarray(drawn <= np.partition(drawn, n_test - 1)[n_test - 1])


def n_held_out(n: int, test_size: float, what: str) -> int:
    """Returns how many of `n` are held out: a share (between 0 and 1, rounded) or a count (1 to n - 1).

    Raises:
        DataError: if it is neither, or `n` is below 2; `what` says in the message of what there are `n`.
    """
    if n < 2:
        raise DataError(f"a split needs at least 2 {what}, got {n}; load more data")
    if _is_whole(test_size) and 1 <= test_size < n:
        return int(test_size)
    if _is_share(test_size):
        return min(max(int(np.rint(n * test_size)), 1), n - 1)
    raise DataError(
        f"test_size must be a share between 0 and 1 or a count from 1 to {n - 1}, got {test_size!r} for {n} {what}; "
        "give e.g. test_size=0.05"
    )


def _tails(offsets: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Returns which events are the last `held` (n_users,) of their user."""
    step = np.zeros(offsets[-1] + 1, dtype=np.int8)  # +1 where a tail begins, -1 where it ends
    has_tail = held > 0
    step[(offsets[1:] - held)[has_tail]] += 1
    step[offsets[1:][has_tail]] -= 1
    return np.cumsum(step[:-1], dtype=np.int8).astype(bool)


def _seconds(when: Any) -> int:
    if _is_whole(when):
        return int(when)
    try:
        moment = datetime.fromisoformat(str(when))
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        message = f"when must be seconds since 1970, a date or a date string, got {when!r}; write e.g. '2001-05-31'"
        raise DataError(message) from None


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and 0.0 < float(value) < 1.0
