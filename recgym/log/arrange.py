"""Events brought into the order of a log: by user, each user's by time, those that tie as they came; on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from recgym.errors import DataError

T = TypeVar("T")
_PIECE = 1 << 17  # rows sorted by time at once: what fits into a core's cache


def arrange(
    user_index: np.ndarray,
    item_index: np.ndarray,
    times: np.ndarray | None,
    columns: Mapping[str, np.ndarray],
    extra: Mapping[str, np.ndarray],
    counts: tuple[int, int],
    duplicates: str,
    *,
    owned: bool = False,
    keys: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns event columns grouped by user, each user's sorted by time, and the offsets.

    Args:
        user_index: User of each event (n,) int32.
        item_index: Item of each event (n,) int32.
        times: What events of one user are sorted by (n,) int64; those that tie keep their order. None: all keep it.
        columns: Further columns of the log by name, each (n,).
        extra: Named event columns, each (n,).
        counts: How many users and items there are.
        duplicates: As for `InteractionLog.from_events`.
        keys: What events of one user that tie are ordered by (n,); None: they keep their order.
        owned: Whether the columns may be sorted in place, where the users come in order.
    """
    n_users, n_items = counts
    lengths = _counted(user_index, n_users)
    is_grouped = bool((user_index[1:] >= user_index[:-1]).all())
    by_user = None if is_grouped else _by_user(user_index)
    pieces = whole_users(np.cumsum(lengths))
    sources = [item_index, *columns.values(), *extra.values()]

    def rows_of(first: int, last: int) -> np.ndarray | None:
        """Returns the rows of a piece in order, counted from `first` where users come in order; None: as they are."""
        own = slice(first, last) if by_user is None else by_user[first:last]
        places = None if times is None else small_order(user_index[own], times[own])
        if times is not None and keys is not None:
            places = with_ties_by(keys[own], user_index[own], times[own], places)
        return places if isinstance(own, slice) else own if places is None else own[places]

    if duplicates == "keep":
        targets = sources if owned and is_grouped else [np.empty_like(column) for column in sources]

        def fill(first: int, last: int) -> None:
            rows = rows_of(first, last)
            for source, target in zip(sources, targets, strict=True):
                part = source[first:last] if is_grouped else source
                if rows is not None and target is source:
                    target[first:last] = part[rows]
                elif rows is not None:  # unlike "raise", "clip" writes without a copy between
                    np.take(part, rows, axis=0, out=target[first:last], mode="clip")
                elif target is not source:
                    target[first:last] = part

        on_all_cores(fill, pieces)
    else:

        def global_rows(first: int, last: int) -> np.ndarray:
            rows = rows_of(first, last)
            return np.arange(first, last) if rows is None else rows + first if is_grouped else rows

        order = np.concatenate(on_all_cores(global_rows, pieces))
        order = without_duplicates(order, user_index, item_index, n_items, duplicates)
        targets = [column[order] for column in sources]
        lengths = _counted(user_index[order], n_users)
    arranged = dict(zip(["items", *columns], targets, strict=False))
    named = dict(zip(extra, targets[len(arranged) :], strict=True))
    return arranged | {"extra": named, "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)}


def renumber(codes: np.ndarray, place: np.ndarray) -> None:
    """Replaces each of the codes (n,) int32 by `place[code]`."""

    def fill(first: int, last: int) -> None:
        codes[first:last] = place[codes[first:last]]

    on_all_cores(fill, [(first, min(first + _PIECE, len(codes))) for first in range(0, len(codes), _PIECE)])


def without_duplicates(
    order: np.ndarray, user_index: np.ndarray, item_index: np.ndarray, n_items: int, keep: str
) -> np.ndarray:
    """Returns those of the sorted rows `order` that stay where a user met an item more than once."""
    pairs = user_index[order].astype(np.int64) * n_items + item_index[order]
    if keep == "last":
        pairs = pairs[::-1]
    _, first = np.unique(pairs, return_index=True)
    if keep == "error" and len(first) < len(order):
        raise repeated(len(order) - len(first), len(order))
    return order[np.sort(first if keep != "last" else len(order) - 1 - first)]


def repeated(n_repeats: int, n_events: int) -> DataError:
    """Returns the error that some users met an item more than once."""
    return DataError(
        f"each user may meet an item once, got {n_repeats} of {n_events} events that repeat one; "
        'pass duplicates="first", "last" or "keep"'
    )


def with_ties_by(keys: np.ndarray, users: np.ndarray, times: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Returns the order of events by user and time, in which those of one user and time are ordered by their keys.

    Args:
        keys: Any numbers (n,).
        users: Users (n,), those of one together in the order.
        times: Times (n,).
        order: Rows by user and time (n,); None: as they are.
    """
    order = np.arange(len(users)) if order is None else order
    own, when = users[order], times[order]
    tied = (own[1:] == own[:-1]) & (when[1:] == when[:-1])
    inside = np.zeros(len(order), dtype=bool)
    inside[1:] |= tied
    inside[:-1] |= tied
    places = np.flatnonzero(inside)
    run = np.cumsum(np.concatenate([[True], ~tied]))[places] if len(places) else places
    rows = order[places]
    order[places] = rows[np.lexsort((keys[rows], run))]
    return order


def on_all_cores(work: Callable[[int, int], T], pieces: Iterable[tuple[int, int]]) -> list[T]:
    """Returns what the work on each piece returns; NumPy lets other threads run while it sorts and gathers."""
    pieces = list(pieces)
    if len(pieces) < 2:
        return [work(*piece) for piece in pieces]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda piece: work(*piece), pieces))


def _counted(user_index: np.ndarray, n_users: int) -> np.ndarray:
    """Returns the events of each user (n_users,) int64; piece by piece, since NumPy counts a copy in 64 bits."""
    step = max(8 * _PIECE, n_users)
    counts = np.zeros(n_users, dtype=np.int64)
    for first in range(0, len(user_index), step):
        counts += np.bincount(user_index[first : first + step], minlength=n_users)
    return counts


def _by_user(user_index: np.ndarray) -> np.ndarray:
    """Returns the rows sorted by user; two radix sorts of 16 bits, as NumPy has them, are 3 times faster than one."""
    order = np.argsort((user_index & 0xFFFF).astype(np.uint16), kind="stable")
    if len(user_index) and int(user_index.max()) > 0xFFFF:
        order = order[np.argsort((user_index >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def whole_users(ends: np.ndarray) -> list[tuple[int, int]]:
    """Returns (first, last) of runs of whole users, with about as many rows each where no user has more."""
    pieces, first = [], 0
    while first < ends[-1]:
        last = int(ends[np.searchsorted(ends, min(first + _PIECE, ends[-1]))])
        pieces.append((first, last))
        first = last
    return pieces


def small_order(users: np.ndarray, times: np.ndarray) -> np.ndarray | None:
    """Returns the rows of a piece, grouped by user, sorted by time; None where they are.

    They are sorted as one number of user, time and row, where that fits into 63 bits.
    """
    same_user = users[1:] == users[:-1]
    if not (same_user & (times[1:] < times[:-1])).any():
        return None
    first = times.min()
    user_bits, time_bits, row_bits = (
        int(high).bit_length() for high in (users[-1] - users[0], int(times.max()) - int(first), len(users))
    )
    if user_bits + time_bits + row_bits > 63:
        return np.lexsort((times, users))
    key = np.subtract(users, users[0], dtype=np.int64)
    key <<= time_bits
    key += times
    key -= first
    key <<= row_bits
    key |= np.arange(len(users))
    key.sort()
    key &= (1 << row_bits) - 1
    return key
