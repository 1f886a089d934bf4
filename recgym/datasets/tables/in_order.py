"""A table whose rows come user by user, as most files do, becomes the columns of a log in one pass.

Each user's events are sorted by time when the next user begins, and written; so nothing but some blocks is in memory,
and reading, sorting and writing go on at the same time.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from recgym.datasets.tables.columns import Blocks
from recgym.datasets.tables.columns_on_disk import Columns
from recgym.datasets.tables.gather import Block, gather
from recgym.datasets.tables.options import TableOptions
from recgym.log.arrange import repeated, small_order, with_ties_by, without_duplicates

_AHEAD = 2  # blocks that may wait to be written
_CODES = 1 << 32  # more than there are codes of items


class _OutOfOrder(Exception):
    """The rows do not come user by user."""


def columns_in_order(
    blocks: Blocks, options: TableOptions, folder: Path
) -> tuple[Columns, dict[str, np.ndarray], dict[str, Any]] | None:
    """Returns the event columns of a table on disk, its ids, and how it was read.

    None if its rows are not in the order of the user ids.

    Args:
        blocks: What yields the table.
        options: As for `read_table`; further event columns (`extra`) are not taken.
        folder: Where the columns go.

    Raises:
        DataError: as `read_table`.
    """
    if options.extra:
        return None
    try:
        with ExitStack() as stack:
            found, sink = gather(blocks, options, lambda: stack.enter_context(_Sink(options, folder)))
            sink.finish()
    except _OutOfOrder:
        return None
    (user_place, user_ids), (item_place, item_ids) = found.users.finish(), found.items.finish()
    users = np.flatnonzero(sink.columns.lengths)
    if not np.array_equal(user_place[users], np.arange(len(users))):
        return None  # ids of rows left out make text of all of them, which sorts otherwise
    if found.items.has_merged and options.duplicates != "keep":
        return None  # repeats that are written in two ways were not seen
    if sink.repeats and options.duplicates == "error":
        raise repeated(sink.repeats, found.n_events)
    sink.columns.lengths = sink.columns.lengths[users]
    sink.columns.renumber("items", item_place)
    return sink.columns, {"user_ids": user_ids, "item_ids": item_ids}, found.about(options)


class _Sink:
    """Takes blocks, and writes the events of users who are complete."""

    def __init__(self, options: TableOptions, folder: Path) -> None:
        types: dict[str, np.dtype] = {"items": np.dtype(np.int32), "rewards": np.dtype(np.float32)}
        types |= {"times": np.dtype(np.int64)} if options.time is not None else {}
        types |= {"propensities": np.dtype(np.float32)} if options.propensity is not None else {}
        self.columns = Columns(folder, types, 0)
        self.repeats = 0
        self._duplicates = options.duplicates
        self._begun: list[Block] = []  # events of the last user so far
        self._last = 0
        self._writer = ThreadPoolExecutor(1)
        self._writing: list[Future[None]] = []

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(cancel_futures=True)

    def append(self, block: Block) -> None:
        """Takes the next block."""
        users = block.users
        if len(users) == 0:
            return
        if users[0] < self._last or (users[1:] < users[:-1]).any():  # codes of ids that are no numbers are negative
            raise _OutOfOrder
        begin = int(np.searchsorted(users, users[-1]))  # where the last user, who may go on, begins
        if begin or users[-1] != self._last:
            self._hand_over([*self._begun, _part(block, slice(0, begin))])
            self._begun = []
        self._begun.append(_part(block, slice(begin, None)))
        self._last = int(users[-1])

    def finish(self) -> None:
        """Writes what is left."""
        self._hand_over(self._begun)
        for one in self._writing:
            one.result()

    def _hand_over(self, parts: list[Block]) -> None:
        self._writing.append(self._writer.submit(self._write, parts))
        if len(self._writing) > _AHEAD:
            self._writing.pop(0).result()

    def _write(self, parts: list[Block]) -> None:
        """Writes the events of some whole users, sorted by time."""
        parts = [part for part in parts if len(part.users)]
        if not parts:
            return
        users, ticks = _joined([part.users for part in parts]), None
        columns = {
            "items": _joined([part.items for part in parts]),
            "rewards": _joined([part.rewards for part in parts]),
        }
        if parts[0].propensities is not None:
            columns["propensities"] = _joined([part.propensities for part in parts])
        columns["items"] = columns["items"].astype(np.int32)
        rows = None
        if parts[0].ticks is not None:
            ticks = _joined([part.ticks for part in parts])
            columns["times"] = ticks if parts[0].per_second == 1 else ticks // parts[0].per_second
            rows = small_order(users, ticks)
            if parts[0].keys is not None:
                rows = with_ties_by(_joined([part.keys for part in parts]), users, ticks, rows)
        if self._duplicates != "keep":
            rows = np.arange(len(users)) if rows is None else rows
            choice = "first" if self._duplicates == "error" else self._duplicates
            kept = without_duplicates(rows, users, columns["items"], _CODES, choice)
            self.repeats += len(rows) - len(kept)
            rows = kept
        if rows is not None:
            columns = {name: column[rows] for name, column in columns.items()}
            users = users[rows]
        self.columns.append(users, columns)


def _part(block: Block, rows: slice) -> Block:
    """Returns some rows of a block."""
    return block._replace(
        users=block.users[rows],
        items=block.items[rows],
        rewards=block.rewards[rows],
        ticks=None if block.ticks is None else block.ticks[rows],
        keys=None if block.keys is None else block.keys[rows],
        propensities=None if block.propensities is None else block.propensities[rows],
    )


def _joined(parts: list[Any]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
