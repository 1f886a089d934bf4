"""One pass over a table in blocks: ids as numbers, rewards transformed, times as ticks, faulty rows refused."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.datasets.tables.columns import Blocks, Columns
from recgym.datasets.tables.complaints import refuse
from recgym.datasets.tables.id_codes import Coder, mixed
from recgym.datasets.tables.kinds import called, is_text, plain_kind, widest
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.text import TooNarrow
from recgym.datasets.tables.timestamps import Clock, Reading, ReadOtherwise
from recgym.errors import DataError
from recgym.log import events
from recgym.rewards import Look, takes_labels, transform_rewards

_LOG = logging.getLogger(__name__)
S = TypeVar("S", bound="Sink")
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)


class Block(NamedTuple):
    """The events of one block that lack nothing, in the order of the file."""

    users: np.ndarray  # (n,) whole numbers, codes as `Coder` gives them
    items: np.ndarray  # (n,) the same
    rewards: np.ndarray  # (n,) float32
    ticks: np.ndarray | None  # (n,) int64
    propensities: np.ndarray | None  # (n,) float32
    extra: dict[str, pa.ChunkedArray]  # each (n,), of one kind in all blocks
    per_second: int  # ticks of a second, the same in all blocks
    keys: np.ndarray | None  # (n,) uint64, what events of one user and tick are ordered by; None: by their rows


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


class Taken(NamedTuple):
    """What the columns of a table are taken to hold: the widest that any of its blocks shows."""

    reading: Reading = Reading()  # of times
    extra: Mapping[str, tuple[pa.DataType, str]] = {}  # kind of each further column, and where it was met
    transform: str | None = None  # what the rewards look like; None: their first block says it


class _TakeOtherwise(Exception):
    """A block needs a column to be taken for more than earlier blocks did."""

    def __init__(self, taken: Taken) -> None:
        super().__init__(taken)
        self.taken = taken


class Gathered:
    """What one pass found out beside the events."""

    def __init__(self, options: TableOptions, taken: Taken) -> None:
        self.users, self.items = Coder(options.user), Coder(options.item)
        self.clock = Clock(options.time_unit, options.time_format, taken.reading)
        self.taken = taken
        self.transform = taken.transform if options.transform == "auto" else options.transform  # of rewards
        self.rewards = Look()  # which only "auto" asks
        self.n_rows = 0
        self.n_events = 0  # rows that lack nothing
        self.lacking: Counter[str] = Counter()  # rows left out, by the column that lacks something

    @property
    def per_second(self) -> int:
        """Ticks of a second."""
        return self.clock.reading.per_second

    def about(self, options: TableOptions) -> dict[str, Any]:
        """Returns how the table was read, as plain values: what was taken for granted, and what was left out."""
        return {
            "rows": self.n_rows,
            "dropped": {name: count for name, count in self.lacking.items() if count},
            "time_unit": self.clock.unit,
            "time_unit_is_guessed": options.time_unit is None and self.clock.has_numbers,
            "ties": options.ties if options.time is not None else None,
            "transform": self.transform,
            "transform_is_guessed": options.transform == "auto" and options.reward is not None,
        }


def gather(blocks: Blocks, options: TableOptions, new_sink: Callable[[], S]) -> tuple[Gathered, S]:
    """Returns what is known of a table and the sink that took its events.

    What a column holds is taken from its first block. Where a later one, or a later file of a folder, shows that to be
    too narrow (whole numbers, then dates; seconds, then nanoseconds), the pass begins again with a new sink; so all
    blocks are read alike, and the result does not depend on where they end.

    Raises:
        DataError: if a column holds what it must not; the message names file, column and line.
    """
    guessed: dict[str, pa.DataType] = {}
    taken = Taken()
    while True:
        sink = new_sink()
        try:
            return _pass(blocks(guessed), options, sink, taken), sink
        except TooNarrow as found:
            is_time = found.column == options.time  # which is never true or false, though 0 and 1 could be read so
            guessed[found.column] = pa.date32() if is_time and pa.types.is_boolean(found.wider) else found.wider
            taken = taken._replace(extra={name: own for name, own in taken.extra.items() if name != found.column})
        except ReadOtherwise as found:
            taken = taken._replace(reading=found.reading)
        except _TakeOtherwise as found:
            taken = found.taken._replace(reading=taken.reading)


def _pass(blocks: Iterable[Columns], options: TableOptions, sink: Sink, taken: Taken) -> Gathered:
    found = Gathered(options, taken)
    where = ""
    for columns in blocks:
        where = columns.where
        try:
            block = _block(columns, options, found)
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise DataError(
                f"columns of {where} must be numbers, text or times, got {type(error).__name__}: {error}; convert them"
            ) from error
        found.n_rows += columns.table.num_rows
        found.n_events += len(block.users)
        sink.append(block)
    if found.n_events == 0:
        raise DataError(
            f"{where} must hold at least one whole event, got {found.n_rows} rows that each lack something; check it"
        )
    found.clock.finish(f"column {options.time!r} of {where}")
    if options.transform == "auto" and (look := found.rewards.transform()) != found.transform:
        raise _TakeOtherwise(found.taken._replace(transform=look))
    for coder in (found.users, found.items):
        if options.quote is not None and (count := coder.swallowed(options.separator)):
            warnings.warn(
                f"{count} ids of column {coder.name!r} hold separators and line ends, as rows between stray quotes do: "
                "pass quote=None if quotes are ordinary letters there",
                UserWarning,
                stacklevel=2,
            )
    _LOG.info("read %s: %s", where, found.about(options))
    return found


def _block(columns: Columns, options: TableOptions, found: Gathered) -> Block:
    users, items = found.users.add(columns), found.items.add(columns)
    _refuse_header(columns, users, items, found)
    numbers = _worth(columns, options)
    propensities = None if options.propensity is None else _numbers(columns, options.propensity)
    ticks = _times(columns, options, found.clock)
    kept = _present(columns, options, users, items, found)
    found.users.keep(users[kept])
    found.items.keep(items[kept])
    return Block(
        users[kept],
        items[kept],
        _rewards(numbers, columns, options, found, kept),
        None if ticks is None else ticks[kept],
        None if propensities is None else events.checked("propensities", propensities[kept], len(users[kept])),
        _extra(columns, options, found, kept),
        found.per_second,
        None if ticks is None or options.ties == "file" else _keys(users[kept], items[kept], ticks[kept], found),
    )


def _refuse_header(columns: Columns, users: np.ndarray, items: np.ndarray, found: Gathered) -> None:
    """Raises a DataError if a line of a text file holds the names again, as files put one after the other do."""
    named = (found.users.code_of_name(), found.items.code_of_name()) if columns.is_text else (None, None)
    if None not in named:
        again = (users == named[0]) & (items == named[1])
        must, remedy = "hold ids", "that is the header again: remove that line"
        refuse(columns.where, found.users.name, must, again, [found.users.name] * len(again), columns.place, remedy)


def _keys(users: np.ndarray, items: np.ndarray, ticks: np.ndarray, found: Gathered) -> np.ndarray:
    """Returns a number (n,) uint64 made of user, item and second, that no order of ids or rows shows in."""
    seconds = (ticks // found.per_second).view(np.uint64)
    return mixed(mixed(found.users.hashes(users) ^ mixed(seconds)) ^ found.items.hashes(items))


def _extra(
    columns: Columns, options: TableOptions, found: Gathered, kept: slice | np.ndarray
) -> dict[str, pa.ChunkedArray]:
    """Returns the further columns of the rows kept, each of the kind that it is taken for in all blocks."""
    extra, known = {}, dict(found.taken.extra)
    for name in options.extra:
        column = columns.table.column(name)
        kind = plain_kind(column.type)
        if column.null_count == len(column):
            kind = pa.null()  # a block without any says nothing
        before, where = known.get(name, (pa.null(), columns.where))
        wide = widest(before, kind)
        if columns.is_text and (wide is None or is_text(wide)) and not all(map(_is_text_or_nothing, (before, kind))):
            raise TooNarrow(name, pa.string())  # words as they are written, not as numbers would be
        if wide is None:
            raise DataError(
                f"column {name!r} must hold values of one kind in all parts, got {before} in {where} and {kind} in "
                f"{columns.where}; convert one of them, or leave it out of extra"
            )
        known[name] = (wide, where if wide == before else columns.where)
        try:
            column = column.cast(wide) if column.type != wide and not pa.types.is_null(wide) else column
        except pa.ArrowException as error:
            raise DataError(
                f"column {name!r} of {columns.where} must fit into {wide}, as other parts of it ask for, got {error}; "
                "convert it, or leave it out of extra"
            ) from error
        extra[name] = column.take(pa.array(_rows(kept)))
    taken = found.taken._replace(extra=known)
    has_changed = any(known[name][0] != kind for name, (kind, _) in found.taken.extra.items())
    found.taken = taken
    if has_changed:
        raise _TakeOtherwise(taken)
    return extra


def _is_text_or_nothing(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_null(kind)


def _rows(kept: slice | np.ndarray) -> np.ndarray:
    return np.arange(kept.stop) if isinstance(kept, slice) else kept


def _present(
    columns: Columns, options: TableOptions, users: np.ndarray, items: np.ndarray, found: Gathered
) -> slice | np.ndarray:
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
    for name, empty in lacks.items():
        found.lacking[name] += int(np.count_nonzero(empty))
    return np.flatnonzero(~np.logical_or.reduce(list(lacks.values())))


def _has_nan(column: pa.ChunkedArray) -> bool:
    """Returns whether a column without nulls may hold NaN."""
    if not pa.types.is_floating(column.type):
        return False
    return bool(np.isnan(column.to_numpy().min(initial=0)))


def _worth(columns: Columns, options: TableOptions) -> np.ndarray:
    """Returns what the file holds as rewards (n,): numbers, or of labels their worth."""
    if options.reward is None:
        return np.ones(columns.table.num_rows)
    if not takes_labels(options.transform):
        return _numbers(columns, options.reward)
    labels = columns.table.column(options.reward).cast(pa.string()).dictionary_encode().unify_dictionaries()
    encoded = labels.combine_chunks()
    worth = transform_rewards(encoded.dictionary.to_numpy(zero_copy_only=False), options.transform)
    return np.append(worth, np.float32(0))[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def _rewards(
    numbers: np.ndarray, columns: Columns, options: TableOptions, found: Gathered, kept: slice | np.ndarray
) -> np.ndarray:
    """Returns the rewards (n_kept,) float32 of the rows kept."""
    numbers = numbers[kept]
    if takes_labels(options.transform):
        return numbers
    if options.transform == "auto":
        found.rewards.add(numbers)
        if found.transform is None and len(numbers):
            found.transform = found.rewards.transform()
    with np.errstate(over="ignore"):
        rewards = transform_rewards(numbers, found.transform or "raw")
    bad = ~np.isfinite(rewards) | (np.abs(numbers) > np.finfo(np.float32).max)
    if bad.any():
        rows = _rows(kept)
        refuse(
            columns.where, str(options.reward), "fit into 32 bits", bad, numbers, lambda row: columns.place(rows[row])
        )
    return rewards


def _numbers(columns: Columns, name: str) -> np.ndarray:
    """Returns a column as numbers (n,) float64, with 0 where it is missing."""
    column = columns.table.column(name)
    column = column.cast(plain_kind(column.type))
    if not any(is_kind(column.type) for is_kind in _NUMERIC):
        column = _parsed(columns, name)
    column = column.cast(pa.float64(), safe=False)
    values = (pc.fill_null(column, 0.0) if column.null_count else column).to_numpy()
    if np.isfinite(values).all():
        return values
    refuse(columns.where, name, "be finite", np.isinf(values), values, columns.place)
    return np.nan_to_num(values, nan=0.0)


def _parsed(columns: Columns, name: str) -> pa.ChunkedArray:
    """Returns a column of a DataFrame or Parquet file that holds text as numbers."""
    import pandas as pd

    column = columns.table.column(name)
    if not is_text(plain_kind(column.type)):
        raise DataError(
            f"column {name!r} of {columns.where} must hold numbers, got {called(column.type)}; convert it first"
        )
    words = column.cast(pa.string()).to_numpy()
    series = pd.Series(words, dtype=object)
    numbers = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        truth = series.str.strip().str.lower().map({"true": 1.0, "false": 0.0}).to_numpy(dtype=np.float64)
        numbers = np.where(np.isnan(numbers), truth, numbers)
    bad = np.isnan(numbers) & ~column.is_null().to_numpy()
    refuse(
        columns.where, name, "hold numbers", bad, [repr(word) for word in words[bad][:1]] * len(words), columns.place
    )
    return pa.chunked_array([pa.array(numbers, from_pandas=True)])


def _times(columns: Columns, options: TableOptions, clock: Clock) -> np.ndarray | None:
    """Returns the times as ticks (n,) int64, or None where there are none."""
    if options.time is None:
        return None
    column, what = columns.table.column(options.time), f"column {options.time!r} of {columns.where}"
    times, wild = clock.read(column, what, columns.place)
    has_negative = clock.read_numbers and options.time_unit is None and (times < 0).any()
    if has_negative or wild.any():
        shown = column.to_pandas().astype(str).to_numpy()
        must = 'hold seconds since 1970 or dates like 2024-05-01T12:30 (others with time_format="%d/%m/%Y")'
        refuse(columns.where, options.time, must, wild, shown, columns.place)
        bad, remedy = (
            has_negative & (times < 0),
            'mend or remove them, or name their unit (time_unit="s") if they are meant',
        )
        refuse(columns.where, options.time, "not be before 1970 (negative)", bad, shown, columns.place, remedy)
    return times
