"""One pass over a table in blocks: ids as numbers, rewards transformed, times as ticks, faulty rows refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.datasets.clock import Reading, read_ticks
from recgym.datasets.codes import Coder
from recgym.datasets.text import TooNarrow, refuse
from recgym.errors import DataError
from recgym.log import events
from recgym.rewards import takes_labels, transform_rewards

if TYPE_CHECKING:
    from recgym.datasets.table import TableOptions
    from recgym.datasets.table_files import Columns

S = TypeVar("S", bound="Sink")
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
Blocks = Callable[[Mapping[str, pa.DataType]], Iterator["Columns"]]  # from what columns are taken for to the blocks


class Block(NamedTuple):
    """The events of one block that lack nothing, in the order of the file."""

    users: np.ndarray  # (n,) whole numbers, codes as `Coder` gives them
    items: np.ndarray  # (n,) the same
    rewards: np.ndarray  # (n,) float32
    ticks: np.ndarray | None  # (n,) int64
    propensities: np.ndarray | None  # (n,) float32
    extra: dict[str, pa.ChunkedArray]  # each (n,)
    per_second: int  # ticks of a second


class Sink(Protocol):
    """Where blocks go."""

    def append(self, block: Block) -> None:
        """Takes the next block."""


class Growing:
    """An array that grows in place: `realloc` moves pages, not bytes, so nothing is held twice."""

    def __init__(self, dtype: type) -> None:
        self._array: np.ndarray = np.empty(1024, dtype=dtype)
        self._length = 0

    def append(self, values: np.ndarray) -> None:
        """Adds values (m,) at the end."""
        end = self._length + len(values)
        if end > len(self._array):
            self._array.resize(max(end, len(self._array) * 5 // 4), refcheck=False)
        self._array[self._length : end] = values
        self._length = end

    def finish(self) -> np.ndarray:
        """Returns all values (n,); nothing can be added any more."""
        self._array.resize(self._length, refcheck=False)
        return self._array


@dataclass
class Gathered:
    """What one pass found out beside the events."""

    users: Coder
    items: Coder
    per_second: int = 1  # ticks of a second
    n_rows: int = 0
    n_events: int = 0  # rows that lack nothing
    guessed: dict[str, pa.DataType] = field(default_factory=dict)


class _ReadOtherwise(Exception):
    """Times further on need another reading than those before."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.reading = reading


def gather(blocks: Blocks, options: TableOptions, new_sink: Callable[[], S]) -> tuple[Gathered, S]:
    """Returns what is known of a table and the sink that took its events.

    What a column holds is guessed from its first block. Where a later one shows the guess to be too narrow (whole
    numbers, then dates), the pass begins again with a new sink; so the result does not depend on where blocks end.

    Raises:
        DataError: if a column holds what it must not; the message names file, column and line.
    """
    guessed: dict[str, pa.DataType] = {}
    reading: Reading | None = None
    while True:
        sink = new_sink()
        try:
            return _pass(blocks(guessed), options, sink, reading), sink
        except TooNarrow as found:
            is_time = found.column == options.time  # which is never true or false, though 0 and 1 could be read so
            guessed[found.column] = pa.date32() if is_time and pa.types.is_boolean(found.wider) else found.wider
        except _ReadOtherwise as found:
            reading = found.reading


def _pass(blocks: Iterable[Columns], options: TableOptions, sink: Sink, reading: Reading | None) -> Gathered:
    found = Gathered(Coder(options.user), Coder(options.item))
    where = ""
    for columns in blocks:
        where = columns.where
        block, reading = _block(columns, options, found, reading)
        found.n_rows += columns.table.num_rows
        found.n_events += len(block.users)
        sink.append(block)
    if found.n_events == 0:
        raise DataError(
            f"{where} must hold at least one whole event, got {found.n_rows} rows that each lack something; check it"
        )
    return found


def _block(
    columns: Columns, options: TableOptions, found: Gathered, known: Reading | None
) -> tuple[Block, Reading | None]:
    users, items = found.users.add(columns), found.items.add(columns)
    rewards = _rewards(columns, options)
    propensities = None if options.propensity is None else _numbers(columns, options.propensity)
    ticks, per_second, reading = _times(columns, options, known)
    if known is not None and reading != known:
        raise _ReadOtherwise(reading or known)
    kept = _present(columns, options, users, items)
    found.per_second = per_second
    found.users.keep(users[kept])
    found.items.keep(items[kept])
    block = Block(
        users[kept],
        items[kept],
        rewards[kept],
        None if ticks is None else ticks[kept],
        None if propensities is None else events.checked("propensities", propensities[kept], len(users[kept])),
        {name: columns.table.column(name).take(pa.array(_rows(kept))) for name in options.extra},
        per_second,
    )
    return block, reading


def _rows(kept: slice | np.ndarray) -> np.ndarray:
    return np.arange(kept.stop) if isinstance(kept, slice) else kept


def _present(columns: Columns, options: TableOptions, users: np.ndarray, items: np.ndarray) -> slice | np.ndarray:
    """Returns the rows that lack nothing; with missing="error" a row that does is an error."""
    n_rows = columns.table.num_rows
    lacks = {}
    for name, codes in ((options.user, users), (options.item, items)):
        column = columns.table.column(name)
        if name in columns.objects or column.null_count or not pa.types.is_integer(column.type):  # NaN is no null
            lacks[name] = codes == -1
    for other in (options.reward, options.time, options.propensity):
        if other is not None:
            column = columns.table.column(other)
            if column.null_count or _has_nan(column):
                lacks[other] = pc.is_null(column, nan_is_null=True).to_numpy()
    if not any(empty.any() for empty in lacks.values()):
        return slice(0, n_rows)
    if options.missing == "error":
        for name, empty in lacks.items():
            must = 'be filled in (or pass missing="drop", or say in missing_words which words mean missing)'
            refuse(columns.where, name, must, empty, np.full(n_rows, "nothing"), columns.place)
    return np.flatnonzero(~np.logical_or.reduce(list(lacks.values())))


def _has_nan(column: pa.ChunkedArray) -> bool:
    """Returns whether a column without nulls may hold NaN."""
    if not pa.types.is_floating(column.type):
        return False
    return bool(np.isnan(column.to_numpy().min(initial=0)))


def _rewards(columns: Columns, options: TableOptions) -> np.ndarray:
    if options.reward is None:
        return transform_rewards(np.ones(columns.table.num_rows), options.transform)
    if not takes_labels(options.transform):
        numbers = _numbers(columns, options.reward)
        with np.errstate(over="ignore"):
            rewards = transform_rewards(numbers, options.transform)
        refuse(columns.where, options.reward, "fit into 32 bits", ~np.isfinite(rewards), numbers, columns.place)
        return rewards
    labels = columns.table.column(options.reward).cast(pa.string()).dictionary_encode().unify_dictionaries()
    encoded = labels.combine_chunks()
    worth = transform_rewards(encoded.dictionary.to_numpy(zero_copy_only=False), options.transform)
    return np.append(worth, np.float32(0))[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def _numbers(columns: Columns, name: str) -> np.ndarray:
    """Returns a column as numbers (n,) float64, with 0 where it is missing."""
    column = columns.table.column(name)
    if not any(is_kind(column.type) for is_kind in _NUMERIC):
        column = _parsed(columns, name)
    column = column.cast(pa.float64())
    values = (pc.fill_null(column, 0.0) if column.null_count else column).to_numpy()
    if np.isfinite(values).all():
        return values
    refuse(columns.where, name, "be finite", np.isinf(values), values, columns.place)
    return np.nan_to_num(values, nan=0.0)


def _parsed(columns: Columns, name: str) -> pa.ChunkedArray:
    """Returns a column of a DataFrame or Parquet file that holds text as numbers."""
    import pandas as pd

    column = columns.table.column(name)
    if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
        raise DataError(f"column {name!r} of {columns.where} must hold numbers, got {column.type}; convert it first")
    words = column.cast(pa.string()).to_numpy()
    numbers = pd.to_numeric(pd.Series(words, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.isnan(numbers) & ~column.is_null().to_numpy()
    refuse(
        columns.where, name, "hold numbers", bad, [repr(word) for word in words[bad][:1]] * len(words), columns.place
    )
    return pa.chunked_array([pa.array(numbers, from_pandas=True)])


def _times(
    columns: Columns, options: TableOptions, known: Reading | None
) -> tuple[np.ndarray | None, int, Reading | None]:
    if options.time is None:
        return None, 1, known
    column, what = columns.table.column(options.time), f"column {options.time!r} of {columns.where}"
    times, per_second, wild, reading = read_ticks(column, options.time_unit, options.time_format, what, known)
    shown = column.to_pandas().astype(str).to_numpy() if wild.any() or (times < 0).any() else times
    must = 'hold seconds since 1970 or dates like 2024-05-01T12:30 (others with time_format="%d/%m/%Y")'
    refuse(columns.where, options.time, must, wild, shown, columns.place)
    refuse(columns.where, options.time, "not be before 1970 (negative)", times < 0, shown, columns.place)
    return times, per_second, reading
