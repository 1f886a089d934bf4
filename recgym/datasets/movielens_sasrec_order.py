"""The exact order of MovieLens-1M's events, from the file that sequential recommenders are compared on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recgym.datasets.sources import Files
from recgym.datasets.tables.text import read_columns
from recgym.errors import DataError

ORDER_FILES = ("sasrec/ml-1m.txt", "sasrec/user_map.csv", "sasrec/item_map.csv")


def exact_order(files: Files, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows in the order of `sasrec/ml-1m.txt`, user by user, and their times made to agree with it.

    `sasrec/ml-1m.txt` has a line `user item` per event, each user's oldest first, both renumbered; `user_map.csv` and
    `item_map.csv` (new number, original id) lie beside it. An event that the file lacks (it leaves out items with fewer
    than five) stands after those events of its user whose time is not later than its own. A time that is earlier than
    one before it in this order is raised to that one, so that the log stays sorted.

    Args:
        files: Where ml-1m lies.
        users: User ids (n_events,) int64.
        items: Item ids (n_events,) int64.
        times: Seconds (n_events,) int64.

    Returns:
        Rows (n_events,) int64, and times (n_events,) int64 of the events in that order.

    Raises:
        DataError: if the file names an event that is not in the log, or names one twice.
        MissingDataError: if one of the three files is missing.
    """
    step = int(max(users.max(), items.max())) + 1
    listed = _listed_pairs(files, step)  # (m,) in exact order
    pairs = users * step + items  # (n_events,)
    by_pair = np.argsort(pairs, kind="stable")
    place = np.searchsorted(pairs, listed, sorter=by_pair)
    rows = by_pair[np.minimum(place, len(pairs) - 1)]  # (m,)
    rank = np.full(len(pairs), -1.0)
    rank[rows] = np.arange(len(rows))
    if (pairs[rows] != listed).any() or (rank >= 0).sum() != len(listed):
        wrong = int((pairs[rows] != listed).sum()) or len(listed) - int((rank >= 0).sum())
        raise DataError(
            f"sasrec/ml-1m.txt must name events of ratings.dat, each once, got {wrong} of {len(listed)} that are not; "
            "get both from one source"
        )
    known, lost = np.flatnonzero(rank >= 0), np.flatnonzero(rank < 0)
    known = known[np.argsort(rank[known])]
    position = np.zeros(len(pairs))  # within the user
    position[known] = _position_in_group(users[known])
    position[lost] = _events_until(users, times, known, lost) - 0.5  # after that many events of its user
    order = np.lexsort((times, position, users))
    return order, _running_maximum(users[order], times[order])


def _listed_pairs(files: Files, step: int) -> np.ndarray:
    pair = read_columns(
        files.text(ORDER_FILES[0], " ", names=("user", "item")), {"user": pa.int64(), "item": pa.int64()}
    )
    ids = []
    for column, file, names in (
        ("user", ORDER_FILES[1], ("sasrec_user", "user_id")),
        ("item", ORDER_FILES[2], ("sasrec_item", "movie_id")),
    ):
        table = read_columns(files.text(file), {name: pa.int64() for name in names})
        number, original = (table.column(name).to_numpy() for name in names)
        wanted = pair.column(column).to_numpy()
        by_number = np.argsort(number)
        found = by_number[np.minimum(np.searchsorted(number, wanted, sorter=by_number), len(number) - 1)]
        if (number[found] != wanted).any():
            raise DataError(
                f"{file} must map every {column} of {ORDER_FILES[0]}, got "
                f"{len(np.unique(wanted[number[found] != wanted]))} that it lacks; get both from one source"
            )
        ids.append(original[found])
    return ids[0] * step + ids[1]


def _position_in_group(groups: np.ndarray) -> np.ndarray:
    """Returns 0, 1, 2, ... within each value of `groups` (n,), in the order given."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], groups[order], side="left")
    position = np.empty(len(groups), dtype=np.int64)
    position[order] = np.arange(len(groups)) - starts
    return position


def _events_until(users: np.ndarray, times: np.ndarray, known: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Returns for each lost row how many known events of its user are not later than it."""
    step = int(times.max()) + 1
    keys = np.sort(users[known] * step + times[known])
    until = np.searchsorted(keys, users[lost] * step + times[lost], side="right")
    return until - np.searchsorted(keys, users[lost] * step, side="left")


def _running_maximum(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns times (n,), each raised to the highest before it of the same user; `users` are sorted."""
    step = int(times.max()) + 1
    first = np.concatenate([[True], users[1:] != users[:-1]]).cumsum() - 1  # (n,) 0, 0, 1, 1, 1, ...
    return np.maximum.accumulate(first * step + times) - first * step
