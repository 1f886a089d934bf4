"""A table of any size becomes a saved log in bounded memory: DuckDB sorts what does not fit, on disk.

A file whose rows come user by user needs no such sort (`in_order`). Of any other:

1. The file is read in blocks, exactly as `read_table` reads it; ids become codes; events go to a spool file.
2. DuckDB sorts the spool by user, time and row, within its share of the memory limit.
3. Sorted events are appended to the columns of the log, whole users at a time.

The result equals `read_table(...).save(folder)` to the bit, since 1 is the same code and 3 sorts by the same key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from recgym.datasets.tables.columns_on_disk import Columns, filtered
from recgym.datasets.tables.gather import Block, Gathered, gather
from recgym.datasets.tables.in_order import columns_in_order
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.table import read_table
from recgym.datasets.tables.table_files import blocks_of
from recgym.errors import DataError
from recgym.log import events
from recgym.log import files as logfiles
from recgym.log.arrange import repeated, without_duplicates

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SHARE = 0.5  # of the limit, for DuckDB's sort; ids, blocks in flight and Python itself need the rest
_LEAST = 32 * 10**6  # bytes DuckDB cannot do without
_ROWS = 1 << 17  # rows handed over at a time


def write_table(
    source: Path, options: TableOptions, name: str, folder: Path, memory_limit: str | int | None = None
) -> None:
    """Writes the log of a table as `InteractionLog.save` does, holding no more than some blocks and all ids in memory.

    Without a limit, a table whose rows do not come user by user is sorted in memory instead.

    Args:
        source: A CSV or Parquet file, or a folder of Parquet files.
        options: As for `read_table`; functions in `transforms` need the whole table and are refused.
        name: What the log is called.
        folder: What to write. Beside it, temporary files take about twice the room of the log.
        memory_limit: Bytes, or a text such as `"2GB"`; None: as much as it takes.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if the limit is too small or DuckDB is not installed, or as `read_table`.
    """
    limit = None if memory_limit is None else bytes_of(memory_limit)
    events.check_duplicates_choice(options.duplicates)
    if options.transforms and limit is not None:
        raise DataError("functions in transforms need the whole table in memory, got memory_limit too; drop one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".spool-", ignore_cleanup_errors=True) as temporary:
        found = None if options.transforms else columns_in_order(blocks_of(source, options), options, Path(temporary))
        if found is None and limit is None:
            read_table(source, options, name).save(folder)
            return
        columns, ids, how = found or _sorted_on_disk(source, options, limit or 0, Path(temporary))
        about = {"name": name, "reward": how["transform"], "reward_range": columns.reward_range, "source": how}
        if options.top_items is not None or options.min_events > 1:
            columns, ids = filtered(columns, ids, options.top_items, options.min_events)
        logfiles.save_columns({**columns.finish(), **ids}, about, folder)


def _sorted_on_disk(
    source: Path, options: TableOptions, limit: int, folder: Path
) -> tuple[Columns, dict[str, np.ndarray], dict[str, Any]]:
    """Returns the event columns on disk, the ids and how they were read, of a table whose rows come in any order."""
    spool = _Spool(folder)
    found, _ = gather(blocks_of(source, options), options, spool.begin)
    spool.close()
    return *_sorted_columns(spool, found, options, limit), found.about(options)


def bytes_of(limit: str | int) -> int:
    """Returns a memory limit in bytes.

    Example:
        >>> bytes_of("2GB"), bytes_of("1.5 MB"), bytes_of(300)
        (2000000000, 1500000, 300)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?b)?", str(limit).strip().lower())
    if found is None or float(found[1]) <= 0:
        raise DataError(f"memory_limit must be bytes or a text like '2GB', got {limit!r}; give one of them")
    return int(float(found[1]) * _UNITS[found[2] or "b"])


class _Spool:
    """Events in the order of the file, in one Arrow stream on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self.lacking: set[str] = set()  # extra columns with a missing value somewhere

    def begin(self) -> _Spool:
        """Forgets what was appended."""
        self.close()
        self._writer, self.lacking = None, set()
        return self

    def append(self, block: Block) -> None:
        """Takes the next block."""
        named = {"user": block.users.astype(np.int32), "item": block.items.astype(np.int32), "reward": block.rewards}
        named |= {"tick": block.ticks} if block.ticks is not None else {}
        named |= {"key": block.keys} if block.keys is not None else {}
        named |= {"propensity": block.propensities} if block.propensities is not None else {}
        arrays = {name: pa.array(values) for name, values in named.items()}
        for number, (name, column) in enumerate(block.extra.items()):
            arrays[f"x{number}"] = _plain(name, column)
            if column.null_count:
                self.lacking.add(name)
        batch = pa.RecordBatch.from_pydict(arrays)
        if self._writer is None:
            self._writer = pa.ipc.new_stream(str(self.folder / "events.arrow"), batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields what was appended."""
        with pa.OSFile(str(self.folder / "events.arrow")) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                for first in range(0, batch.num_rows, _ROWS):
                    yield batch.slice(first, _ROWS)


def _plain(name: str, column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or kind == pa.float16():
        raise DataError(
            f"extra columns of a table past memory must hold numbers, got {kind} in {name!r}; leave it out or number it"
        )
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) and combined.num_chunks else combined


def _sorted_columns(
    spool: _Spool, found: Gathered, options: TableOptions, limit: int
) -> tuple[Columns, dict[str, np.ndarray]]:
    """Returns the log's event columns on disk, and its ids."""
    user_place, user_ids = found.users.finish()
    item_place, item_ids = found.items.finish()
    types: dict[str, np.dtype] = {"items": np.dtype(np.int32), "rewards": np.dtype(np.float32)}
    types |= {"times": np.dtype(np.int64)} if options.time is not None else {}
    types |= {"propensities": np.dtype(np.float32)} if options.propensity is not None else {}
    columns = Columns(spool.folder, types, len(user_ids))

    def numbered() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in spool.batches():
            arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
            arrays["user"] = pa.array(user_place[arrays["user"].to_numpy()])
            arrays["item"] = pa.array(item_place[arrays["item"].to_numpy()])
            arrays["row"] = pa.array(np.arange(row, row + batch.num_rows))
            row += batch.num_rows
            yield pa.RecordBatch.from_pydict(arrays)

    key = ["user", *(["tick"] if options.time is not None else []), *(["key"] if options.ties != "file" else []), "row"]
    repeats = 0
    for batch in _whole_users(_sorted(numbered, key, limit, spool.folder)):
        values = {name: batch.column(name).to_numpy() for name in batch.column_names}
        rows = np.arange(batch.num_rows)
        if options.duplicates != "keep":
            choice = "first" if options.duplicates == "error" else options.duplicates
            rows = without_duplicates(rows, values["user"], values["item"], len(item_ids), choice)
            repeats += batch.num_rows - len(rows)
        named = {"items": values["item"], "rewards": values["reward"]}
        if options.time is not None:
            ticks = values["tick"]
            named["times"] = ticks if found.per_second == 1 else ticks // found.per_second
        if options.propensity is not None:
            named["propensities"] = values["propensity"]
        for number, name in enumerate(options.extra):
            column = values[f"x{number}"]
            named[f"extra/{name}"] = column.astype(np.float64) if name in spool.lacking else column
        columns.append(values["user"][rows], {name: column[rows] for name, column in named.items()})
    if repeats and options.duplicates == "error":
        raise repeated(repeats, found.n_events)
    return columns, {"user_ids": user_ids, "item_ids": item_ids}


def _sorted(
    batches: Callable[[], Iterator[pa.RecordBatch]], key: list[str], limit: int, folder: Path
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of the batches sorted by the columns in `key`."""
    try:
        import duckdb
    except ImportError:
        raise DataError(
            "memory_limit needs DuckDB, got none installed; run pip install 'recgym[large]' or drop memory_limit"
        ) from None
    stream = batches()
    first = next(stream)

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from stream

    reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
    share = max(int(limit * _SHARE), _LEAST)
    config: dict[str, Any] = {"memory_limit": f"{share}B", "temp_directory": str(folder / "sort")}
    names = ", ".join(f'"{name}"' for name in first.schema.names if name != "row")
    try:
        with duckdb.connect(config=config) as connection:
            connection.execute("SET enable_progress_bar = false")  # it would go to standard output
            connection.register("spool", reader)
            order = ", ".join(f'"{name}"' for name in key)
            yield from connection.sql(f"SELECT {names} FROM spool ORDER BY {order}").to_arrow_reader(_ROWS)
    except duckdb.Error as error:
        raise DataError(
            f"memory_limit must suffice to sort within it, got {limit:,} bytes and from DuckDB: {error}; give more"
        ) from error


def _whole_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yields the same rows, cut between users only."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        users = batch.column("user").to_numpy()
        begin = int(np.searchsorted(users, users[-1]))  # where the last user, who may go on, begins
        if begin == 0 and (not waiting or waiting[-1].column("user")[-1].as_py() == users[-1]):
            waiting.append(batch)
            continue
        yield pa.Table.from_batches([*waiting, batch.slice(0, begin)])
        waiting = [batch.slice(begin)]
    if waiting:
        yield pa.Table.from_batches(waiting)
