"""Any table of events with named columns: a CSV or Parquet file, or a table in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from recgym.datasets.tables.columns import Blocks
from recgym.datasets.tables.gather import Block, Growing, gather
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.table_files import blocks_of
from recgym.log import InteractionLog, events
from recgym.log.arrange import arrange, renumber

if TYPE_CHECKING:
    import pandas as pd


def read_table(
    source: str | Path | pd.DataFrame | pa.Table, options: TableOptions, name: str = "table"
) -> InteractionLog:
    """Returns the log of a table.

    Args:
        source: Path of a CSV file (also .gz, .bz2, .zst, or .zip of one), a Parquet file (.parquet, .pq) or a folder of
            Parquet files, which are read in the order of their names; or a DataFrame, or a table of polars or Arrow.
        options: Which columns hold what, and the choices made.
        name: What the log is called.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if the source is none of these, or a column is missing or holds what it must not; the message names
            file, column and line.
    """
    events.check_duplicates_choice(options.duplicates)
    loaded = load_events(blocks_of(source, options), options)
    arranged = loaded.arranged(options.duplicates)
    log = InteractionLog(**arranged, reward=loaded.about["transform"], name=name, source=loaded.about)
    if options.top_items is not None:
        log = log.top_items(options.top_items)
    return log.filter_users(options.min_events) if options.min_events > 1 else log


class Loaded(NamedTuple):
    """The events of a table in the order of its rows, which nobody else holds."""

    users: np.ndarray  # (n,) int32, indices
    items: np.ndarray  # (n,) int32, indices
    ticks: np.ndarray | None  # (n,) int64, what each user's events are sorted by
    columns: dict[str, np.ndarray]  # rewards, and times and propensities where there are any, each (n,)
    extra: dict[str, np.ndarray]  # each (n,)
    user_ids: np.ndarray  # (n_users,)
    item_ids: np.ndarray  # (n_items,)
    about: dict[str, Any]  # how the table was read
    keys: np.ndarray | None = None  # (n,) uint64, what events of one user and tick are ordered by

    def arranged(self, duplicates: str) -> dict[str, Any]:
        """Returns the columns of an `InteractionLog`; the columns here are used up."""
        counts = len(self.user_ids), len(self.item_ids)
        given = self.users, self.items, self.ticks, self.columns, self.extra, counts, duplicates
        found = arrange(*given, owned=True, keys=self.keys)
        return found | {"user_ids": self.user_ids, "item_ids": self.item_ids}


def load_events(blocks: Blocks, options: TableOptions) -> Loaded:
    """Returns the events of a table that comes in blocks.

    Raises:
        DataError: as `read_table`.
    """
    found, memory = gather(blocks, options, _Memory)
    users, items, ids = memory.users.finish(), memory.items.finish(), []
    for coder, codes in ((found.users, users), (found.items, items)):
        place, own_ids = coder.finish()
        renumber(codes, place)
        ids.append(own_ids)
    ticks = None if options.time is None else memory.ticks.finish()
    columns = {"rewards": memory.rewards.finish()}
    if ticks is not None:
        columns["times"] = ticks if found.per_second == 1 else ticks // found.per_second
    keys = None if options.time is None or options.ties == "file" else memory.keys.finish()
    if options.propensity is not None:
        columns["propensities"] = memory.propensities.finish()
    about = found.about(options)
    extra = {
        column: pa.chunked_array(parts, found.taken.extra[column][0]).to_pandas().to_numpy()
        for column, parts in memory.extra.items()
    }
    extra = {name: column.copy() for name, column in extra.items()}
    return Loaded(users, items, ticks, columns, extra, ids[0], ids[1], about, keys)


class _Memory:
    """Takes blocks into memory."""

    def __init__(self) -> None:
        self.users, self.items, self.rewards = Growing(np.int32), Growing(np.int32), Growing(np.float32)
        self.ticks, self.propensities, self.keys = Growing(np.int64), Growing(np.float32), Growing(np.uint64)
        self.extra: dict[str, list[pa.Array]] = {}

    def append(self, block: Block) -> None:
        self.users.append(block.users)
        self.items.append(block.items)
        self.rewards.append(block.rewards)
        if block.ticks is not None:
            self.ticks.append(block.ticks)
        if block.keys is not None:
            self.keys.append(block.keys)
        if block.propensities is not None:
            self.propensities.append(block.propensities)
        for name, column in block.extra.items():
            self.extra.setdefault(name, []).extend(column.chunks)
