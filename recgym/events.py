"""From a heap of events to columns grouped by user in time order, and the checks every log passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym.errors import DataError
from recgym.ids import as_ids, factorise, look_up

if TYPE_CHECKING:
    from recgym.log import InteractionLog

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
    if duplicates not in _DUPLICATES:
        raise DataError(f"duplicates must be one of {', '.join(_DUPLICATES)}, got {duplicates!r}; choose one of them")
    user_index, user_ids = factorise(users, "user")
    if item_ids is None:
        item_index, item_ids = factorise(items, "item")
    else:
        item_ids = as_ids(item_ids)
        item_index = look_up(items, item_ids, "item")
    n_events = len(user_index)
    if n_events == 0:
        raise DataError("a log must hold at least one event, got 0; check what was loaded")
    ready = {"items": item_index, **{name: _checked(name, column, n_events) for name, column in columns.items()}}
    ready |= {f"extra {name}": _column(name, column, n_events) for name, column in extra.items()}
    if len(item_index) != n_events:
        raise DataError(f"items must have {n_events} rows, one per user given, got {len(item_index)}; align them")
    order = _order(user_index, ready.get("times"))
    if duplicates != "keep":
        order = _without_duplicates(order, user_index, item_index, len(item_ids), duplicates)
    ready = {name: column[order] for name, column in ready.items()}
    counts = np.bincount(user_index[order], minlength=len(user_ids))
    named = {name: ready.pop(f"extra {name}") for name in extra}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ready | {"extra": named, "offsets": offsets, "user_ids": user_ids, "item_ids": item_ids}


def titles_of(item_ids: np.ndarray, titles: Mapping[Any, str]) -> np.ndarray:
    """Returns the title of each item (n_items,), its id where it has none."""
    return np.array([str(titles.get(item_id, item_id)) for item_id in item_ids.tolist()], dtype=object)


def check_columns(log: InteractionLog) -> None:
    """Raises a DataError if the columns of a log do not fit together."""
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


def _check_lengths(columns: Mapping[str, np.ndarray], n: int, what: str) -> None:
    for name, column in columns.items():
        if len(column) != n:
            raise DataError(f"column {name!r} must have {n} rows, one per {what}, got {len(column)}; align it")


def _column(name: str, column: Any, n_events: int) -> np.ndarray:
    array = np.asarray(column)
    if array.ndim == 0 or len(array) != n_events:
        raise DataError(f"column {name!r} must have {n_events} rows, one per event, got {array.shape}; align it")
    return array


def _checked(name: str, column: Any, n_events: int) -> np.ndarray:
    array = _column(name, column, n_events)
    if array.shape != (n_events,):
        raise DataError(f"column {name!r} must have shape ({n_events},), got {array.shape}; give one number per event")
    try:
        numbers = array.astype(np.float64) if array.dtype == object or array.dtype.kind in "fUS" else array
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} must hold numbers, got {error}; convert it first") from None
    if numbers.dtype.kind not in "biuf":
        raise DataError(f"column {name!r} must hold numbers, got {array.dtype}; convert it first")
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
    return numbers.astype(np.int64 if name == "times" else np.float32)


def _order(user_index: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """Returns the rows sorted by user, then time; rows that tie keep their order."""
    if times is None:
        return np.argsort(user_index, kind="stable")
    step = np.diff(user_index)
    if (step >= 0).all() and (times[1:][step == 0] >= times[:-1][step == 0]).all():
        return np.arange(len(user_index))
    first, span = int(times.min()), int(times.max()) - int(times.min()) + 1
    if span * (int(user_index.max()) + 1) >= 2**63:
        return np.lexsort((times, user_index))
    return np.argsort(
        user_index * np.int64(span) + (times - first), kind="stable"
    )  # one sort of one key: 4 times faster


def _without_duplicates(
    order: np.ndarray, user_index: np.ndarray, item_index: np.ndarray, n_items: int, keep: str
) -> np.ndarray:
    pairs = user_index[order].astype(np.int64) * n_items + item_index[order]
    if keep == "last":
        pairs = pairs[::-1]
    _, first = np.unique(pairs, return_index=True)
    if keep == "error" and len(first) < len(order):
        raise DataError(
            f"each user may meet an item once, got {len(order) - len(first)} of {len(order)} events that repeat one; "
            'pass duplicates="first", "last" or "keep"'
        )
    return order[np.sort(first if keep != "last" else len(order) - 1 - first)]
