"""Any table of events with named columns: a CSV or Parquet file, or a DataFrame."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.datasets.clock import ticks
from recgym.datasets.codes import Codes, encode
from recgym.datasets.table_files import Columns, from_frame, read_file
from recgym.datasets.text import refuse
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rewards import takes_labels, transform_rewards

if TYPE_CHECKING:
    import pandas as pd

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
_Transform = Callable[["pd.DataFrame"], "pd.DataFrame"] | str


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table becomes a log. Everything but functions in `transforms` is plain JSON."""

    user: str  # column of user ids: whole numbers or text
    item: str  # column of item ids
    reward: str | None = None  # column of rewards; None: every event is worth 1
    time: str | None = None  # column of times; None: the order of the rows is the order of events
    propensity: str | None = None  # column of the probability with which each item was shown
    extra: Sequence[str] = ()  # further columns to keep with the events
    transform: str = "raw"  # what is made of the reward column, see `transform_rewards`
    transforms: Sequence[
        _Transform
    ] = ()  # functions DataFrame -> DataFrame applied first, or their names "module:function"
    duplicates: str = "keep"  # a user's several events with one item: "keep", "first", "last" or "error"
    missing: str = "error"  # rows without user, item, reward, time or propensity: "error" or "drop"
    missing_words: Sequence[str] = MISSING_WORDS  # what stands for a missing value in a CSV file
    min_events: int = 1  # users with fewer events are left out
    top_items: int | None = None  # only so many of the most frequent items are kept
    separator: str = ","  # of a CSV file
    encoding: str = "utf-8"  # of a CSV file
    time_unit: str | None = None  # of numeric times: "s", "ms", "us" or "ns"; None tells it from their size
    time_format: str | None = None  # of dates as text, in the letters of strptime; None reads ISO 8601

    @property
    def needed(self) -> list[str]:
        """Names of the columns that must be there."""
        named = [self.user, self.item, self.reward, self.time, self.propensity, *self.extra]
        return list(dict.fromkeys(name for name in named if name is not None))


def make_options(options: dict[str, Any]) -> TableOptions:
    """Returns the options after checking their names and choices.

    Raises:
        DataError: if a name is unknown or missing, or a choice is none of those there are.
    """
    known = [field.name for field in fields(TableOptions)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(f"options of a table must be among {', '.join(known)}, got {', '.join(unknown)}; drop those")
    lacking = [name for name in ("user", "item") if name not in options]
    if lacking:
        raise DataError(
            f"a table needs user= and item=, the names of its columns, got no {' and no '.join(lacking)}; name it"
        )
    made = TableOptions(**options)
    for name in ("extra", "transforms", "missing_words"):
        if isinstance(getattr(made, name), str):
            raise DataError(f"{name} must be a list, got {getattr(made, name)!r}; put it in brackets")
    if len(made.separator) != 1:
        raise DataError(f"separator must be one character, got {made.separator!r}; give e.g. a tab")
    try:
        codecs.lookup(made.encoding)
    except LookupError:
        raise DataError(f"encoding must be one Python knows, got {made.encoding!r}; use e.g. 'latin-1'") from None
    if made.missing not in ("error", "drop"):
        raise DataError(f"missing must be 'error' or 'drop', got {made.missing!r}; choose one of them")
    return made


def read_table(source: str | Path | pd.DataFrame, options: TableOptions, name: str = "table") -> InteractionLog:
    """Returns the log of a table.

    Args:
        source: Path of a CSV file (also .gz, .bz2, .zst) or a Parquet file (.parquet, .pq), or a DataFrame.
        options: Which columns hold what, and the choices made.
        name: What the log is called.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if a column is missing or holds what it must not; the message names file, column and line.
    """
    columns = read_file(Path(source), options) if isinstance(source, (str, Path)) else from_frame(source, options)
    users, items = encode(columns, options.user), encode(columns, options.item)
    rewards = _rewards(columns, options)
    numbers = {} if options.propensity is None else {options.propensity: _numbers(columns, options.propensity)}
    times, per_second = _times(columns, options)
    kept = _present(columns, options, users, items)
    order = kept if times is None else _by_fine_time(times, per_second, kept)
    log = InteractionLog.from_events(
        users.code[order],
        items.code[order],
        rewards[order],
        None if times is None else times[order] // per_second,
        propensities=None if options.propensity is None else numbers[options.propensity][order],
        extra={column: columns.table.column(column).to_pandas().to_numpy()[order] for column in options.extra},
        reward=options.transform,
        duplicates=options.duplicates,
        name=name,
    )
    log = replace(log, user_ids=users.ids[log.user_ids], item_ids=items.ids[log.item_ids])
    if options.top_items is not None:
        log = log.top_items(options.top_items)
    return log.filter_users(options.min_events) if options.min_events > 1 else log


def _present(columns: Columns, options: TableOptions, users: Codes, items: Codes) -> np.ndarray:
    """Returns the rows that lack nothing; with missing="error" a row that does is an error."""
    n_rows = columns.table.num_rows
    lacks = {options.user: users.code < 0, options.item: items.code < 0}
    for name in (options.reward, options.time, options.propensity):
        if name is not None:
            lacks[name] = pc.is_null(columns.table.column(name), nan_is_null=True).to_numpy()
    if options.missing == "error":
        for name, empty in lacks.items():
            must = 'be filled in (or pass missing="drop", or say in missing_words which words mean missing)'
            refuse(columns.where, name, must, empty, np.full(n_rows, "nothing"), columns.place)
    kept = np.flatnonzero(~np.logical_or.reduce(list(lacks.values())))
    if len(kept) == 0:
        raise DataError(
            f"{columns.where} must hold at least one whole event, got {n_rows} rows that each lack something; check it"
        )
    return kept


def _rewards(columns: Columns, options: TableOptions) -> np.ndarray:
    if options.reward is None:
        return transform_rewards(np.ones(columns.table.num_rows), options.transform)
    if not takes_labels(options.transform):
        return transform_rewards(_numbers(columns, options.reward), options.transform)
    labels = columns.table.column(options.reward).cast(pa.string()).dictionary_encode().unify_dictionaries()
    encoded = labels.combine_chunks()
    worth = transform_rewards(encoded.dictionary.to_numpy(zero_copy_only=False), options.transform)
    return np.append(worth, np.float32(0))[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]


def _numbers(columns: Columns, name: str) -> np.ndarray:
    """Returns a column as numbers (n,) float64, with 0 where it is missing."""
    column = columns.table.column(name)
    if not any(is_kind(column.type) for is_kind in _NUMERIC):
        column = _parsed(columns, name)
    values = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy()
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


def _times(columns: Columns, options: TableOptions) -> tuple[np.ndarray | None, int]:
    if options.time is None:
        return None, 1
    column, what = columns.table.column(options.time), f"column {options.time!r} of {columns.where}"
    times, per_second, wild = ticks(column, options.time_unit, options.time_format, what)
    shown = column.to_pandas().astype(str).to_numpy() if wild.any() or (times < 0).any() else times
    must = 'hold seconds since 1970 or dates like 2024-05-01T12:30 (others with time_format="%d/%m/%Y")'
    refuse(columns.where, options.time, must, wild, shown, columns.place)
    refuse(columns.where, options.time, "not be before 1970 (negative)", times < 0, shown, columns.place)
    return times, per_second


def _by_fine_time(times: np.ndarray, per_second: int, rows: np.ndarray) -> np.ndarray:
    """Returns `rows`, sorted by time where parts of a second matter: a log keeps whole seconds only."""
    if per_second == 1 or not (times[rows] % per_second).any():
        return rows
    return rows[np.argsort(times[rows], kind="stable")]
