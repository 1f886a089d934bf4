"""From a heap of events to columns grouped by user in time order, and the checks every log passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.ids import as_ids, factorise, look_up
from recgym.log.arrange import arrange
from recgym.log.columns import LogColumns

_DUPLICATES = ("keep", "first", "last", "error")


def group(
    users: Any,
    items: Any,
    columns: Mapping[str, Any],
    extra: Mapping[str, Any],
    item_ids: Any,
    duplicates: str,
) -> dict[str, Any]:
    """Returns the columns of an `InteractionLog` for events given in any order; see `InteractionLog.from_events`."""
    check_duplicates_choice(duplicates)
    user_index, user_ids = factorise(users, "user")
    if item_ids is None:
        item_index, item_ids = factorise(items, "item")
    else:
        item_ids = as_ids(item_ids)
        item_index = look_up(items, item_ids, "item")
    n_events = len(user_index)
    if n_events == 0:
        raise DataError("a log must hold at least one event, got 0; check what was loaded")
    ready = {name: checked(name, column, n_events) for name, column in columns.items()}
    if len(item_index) != n_events:
        raise DataError(f"items must have {n_events} rows, one per user given, got {len(item_index)}; align them")
    extra = {name: _column(name, column, n_events) for name, column in extra.items()}
    found = arrange(
        user_index, item_index, ready.get("times"), ready, extra, (len(user_ids), len(item_ids)), duplicates
    )
    return found | {"user_ids": user_ids, "item_ids": item_ids}


def check_duplicates_choice(duplicates: str) -> None:
    """Raises a DataError if there is no such choice."""
    if duplicates not in _DUPLICATES:
        raise DataError(f"duplicates must be one of {', '.join(_DUPLICATES)}, got {duplicates!r}; choose one of them")


def titles_of(item_ids: np.ndarray, titles: Mapping[Any, str]) -> np.ndarray:
    """Returns the title of each item (n_items,), its id where it has none."""
    return np.array([str(titles.get(item_id, item_id)) for item_id in item_ids.tolist()], dtype=object)


def check_some_user(lengths: np.ndarray, min_events: int) -> None:
    """Raises a DataError if no user has `min_events` events."""
    if not (lengths >= min_events).any():
        longest = int(lengths.max(initial=0))
        raise DataError(f"some user must have min_events={min_events} events, got {longest} at most; ask for fewer")


def check_sizes(log: LogColumns) -> None:
    """Raises a DataError if the columns of a log do not have the lengths they must have; reads offsets only."""
    n_events, n_users, n_items = len(log.items), len(log.user_ids), len(log.item_ids)
    offsets = log.offsets
    if offsets.shape != (n_users + 1,) or offsets[0] != 0 or offsets[-1] != n_events or (np.diff(offsets) < 0).any():
        raise DataError(
            f"offsets must have shape ({n_users + 1},) and rise from 0 to {n_events}, got shape {offsets.shape} "
            f"ending at {offsets[-1] if len(offsets) else None}; give one offset per user and the end"
        )
    _check_lengths(log.event_columns(), n_events, "event")
    _check_lengths(log.users, n_users, "user")
    _check_lengths(dict(log.item_features) | ({} if log.titles is None else {"titles": log.titles}), n_items, "item")


def check_columns(log: LogColumns) -> None:
    """Raises a DataError if the columns of a log do not fit together."""
    check_sizes(log)
    n_events, n_items, offsets = len(log.items), len(log.item_ids), log.offsets
    if n_events == 0:
        return
    low, high = int(log.items.min()), int(log.items.max())
    if low < 0 or high >= n_items:
        raise DataError(
            f"items must be indices from 0 to {n_items - 1}, got {low} to {high}; make the log with from_events"
        )
    if not np.isfinite(log.rewards).all():
        bad = np.flatnonzero(~np.isfinite(log.rewards))
        raise DataError(f"rewards must be finite, got {len(bad)} of {n_events} that are not; drop those events")
    if log.times is not None:
        falls = np.flatnonzero(log.times[1:] < log.times[:-1]) + 1  # rows earlier than the row before
        unsorted = np.setdiff1d(falls, offsets, assume_unique=False)
        if len(unsorted):
            raise DataError(
                f"each user's events must be in time order, got {len(unsorted)} that are earlier than the one before, "
                f"e.g. rows {unsorted[:3].tolist()}; make the log with from_events, which sorts"
            )


def tied_share(log: LogColumns) -> float:
    """Returns the share of neighbouring events of a user that have one time; 0 where there are no times."""
    same_user, tied = _neighbours(log)
    return int(np.count_nonzero(tied)) / max(int(np.count_nonzero(same_user)), 1)


def summary(log: LogColumns) -> dict[str, Any]:
    """Returns what a log holds and how it was read; see `InteractionLog.summary`."""
    _, tied = _neighbours(log)
    ascends = np.count_nonzero(log.items[1:][tied] > log.items[:-1][tied])
    pairs = log.event_users().astype(np.int64) * log.n_items + log.items
    times = None if log.times is None or not log.n_events else log.times
    spans = [None, None] if times is None else [_moment(int(times.min())), _moment(int(times.max()))]
    return {
        "events": log.n_events,
        "users": log.n_users,
        "items": log.n_items,
        "first": spans[0],
        "last": spans[1],
        "tied": tied_share(log),
        "tied_ascending": int(ascends) / max(int(np.count_nonzero(tied)), 1),
        "repeats": 1.0 - len(np.unique(pairs)) / max(log.n_events, 1),
        "reward_range": log.reward_range,
        **log.source,
    }


def _neighbours(log: LogColumns) -> tuple[np.ndarray, np.ndarray]:
    """Returns which events but the last have one of their user after them, and which of these the same time."""
    same_user = np.ones(max(log.n_events - 1, 0), dtype=bool)
    borders = log.offsets[1:-1]
    same_user[borders[(borders > 0) & (borders < log.n_events)] - 1] = False
    if log.times is None:
        return same_user, np.zeros_like(same_user)
    return same_user, same_user & (log.times[1:] == log.times[:-1])


def _moment(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))


def checked_mask(keep: Any, n_events: int) -> np.ndarray:
    """Returns a mask over events (n_events,) bool, or raises a DataError if it is none."""
    keep = np.asarray(keep)
    if keep.dtype != bool or keep.shape != (n_events,):
        raise DataError(
            f"keep must be bool of shape ({n_events},), got {keep.dtype} of shape {keep.shape}; "
            "give a mask over the events"
        )
    return keep


def _check_lengths(columns: Mapping[str, np.ndarray], n: int, what: str) -> None:
    for name, column in columns.items():
        if len(column) != n:
            raise DataError(f"column {name!r} must have {n} rows, one per {what}, got {len(column)}; align it")


def _column(name: str, column: Any, n_events: int) -> np.ndarray:
    array = np.asarray(column)
    if array.ndim == 0 or len(array) != n_events:
        raise DataError(f"column {name!r} must have {n_events} rows, one per event, got {array.shape}; align it")
    return array


def checked(name: str, column: Any, n_events: int) -> np.ndarray:
    """Returns a column of numbers (n_events,) as a log holds it, after checking its values."""
    array = _column(name, column, n_events)
    if array.shape != (n_events,):
        raise DataError(f"column {name!r} must have shape ({n_events},), got {array.shape}; give one number per event")
    try:
        numbers = array.astype(np.float64) if array.dtype == object or array.dtype.kind in "US" else array
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} must hold numbers, got {error}; convert it first") from None
    if numbers.dtype.kind not in "biuf":
        raise DataError(f"column {name!r} must hold numbers, got {array.dtype}; convert it first")
    if name != "times":
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float32, copy=False)  # what is checked is what will be held
    bad = np.flatnonzero(~np.isfinite(numbers))
    if name == "times" and not len(bad):
        bad = np.flatnonzero(numbers < 0)
    if name == "propensities" and not len(bad):
        bad = np.flatnonzero((numbers <= 0) | (numbers > 1))
    if len(bad):
        must = {"times": "seconds since 1970 and at least 0", "propensities": "above 0 and at most 1"}
        raise DataError(
            f"{name} must be {must.get(name, 'finite')}, got {array[bad[0]]} ({len(bad)} of {n_events} events, "
            f"e.g. rows {bad[:3].tolist()}); mend or drop them"
        )
    return numbers.astype(np.int64 if name == "times" else np.float32, copy=False)


def read_only(column: np.ndarray | None) -> np.ndarray | None:
    """Returns a view of a column that cannot be written to, so that nobody who is lent a log can change it."""
    if column is None or not column.flags.writeable:
        return column
    view = column.view()
    view.setflags(write=False)
    return view
