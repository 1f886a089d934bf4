"""The columns of a table, from a CSV or Parquet file or a DataFrame, before anything is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from recgym.datasets.codes import encode
from recgym.datasets.text import Text, header, read_columns, require_columns
from recgym.errors import DataError, MissingDataError
from recgym.rewards import takes_labels

if TYPE_CHECKING:
    import pandas as pd

    from recgym.datasets.table import TableOptions

_PARQUET = (".parquet", ".pq")
_CODED = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Columns:
    """Columns as read, and how to speak of them."""

    table: pa.Table
    where: str  # what messages call the source
    place: Callable[[int], str]  # where a row stands: "line 7" of a CSV file, else "row 7 counted from 0"
    is_text: bool = False  # whether numbers among the ids were written as text
    objects: dict[str, np.ndarray] = field(default_factory=dict)  # id columns of mixed kinds, (n,) object


def read_file(path: Path, options: TableOptions) -> Columns:
    """Returns the needed columns of a CSV or Parquet file, after the user's functions.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if it cannot be read as what its name says, or a column is missing.
    """
    if not path.is_file():
        raise MissingDataError(
            f"a table must be a file, got no such file at {path}; name a CSV or Parquet file, or use the data set "
            "'synthetic', which needs no file"
        )
    try:
        if path.suffix.lower() in _PARQUET:
            columns = _read_parquet(path, options)
        else:
            columns = _read_csv(path, options)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, MissingDataError):
            raise
        raise DataError(f"{path} must be readable, got {type(error).__name__}: {error}; check the file") from error
    if not options.transforms:
        return columns
    frame = columns.table.to_pandas()
    if columns.is_text:  # functions see ids as numbers where they are numbers
        for name in {options.user, options.item} & set(frame.columns):
            code, ids = encode(columns, name)
            frame[name] = np.array([*ids.tolist(), None], dtype=object)[code] if (code < 0).any() else ids[code]
    return from_frame(frame, options, str(path))


def from_frame(frame: pd.DataFrame, options: TableOptions, where: str = "the DataFrame") -> Columns:
    """Returns the needed columns of a DataFrame, after the user's functions; the frame is not changed.

    Raises:
        DataError: if a function does not return a DataFrame, a column is missing or cannot be read, or there is no row.
    """
    for function in options.transforms:
        called, function = _resolved(function)
        frame = function(frame.copy(deep=False))
        if not hasattr(frame, "columns"):
            raise DataError(
                f"a table transform must return a DataFrame, got {type(frame).__name__} from {called}; mend it"
            )
        where = f"what {called} returned"
    require_columns(where, options.needed, [str(name) for name in frame.columns])
    if len(frame) == 0:
        raise DataError(f"{where} must hold at least one event, got no row; check how it was made")
    arrays, objects = {}, {}
    for name in options.needed:
        is_id = name in (options.user, options.item)
        try:
            array = pa.Array.from_pandas(frame[name].reset_index(drop=True))
            if is_id and pa.types.is_nested(array.type):
                raise pa.ArrowTypeError("tuples")
            arrays[name] = pa.chunked_array([array])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            if not is_id:
                raise DataError(
                    f"column {name!r} of {where} must hold values of one kind, got {error}; convert it"
                ) from error
            objects[name] = frame[name].to_numpy(dtype=object)
            arrays[name] = pa.chunked_array([pa.nulls(len(frame))])
    return Columns(pa.table(arrays), where, "row {} counted from 0".format, objects=objects)


def _read_csv(path: Path, options: TableOptions) -> Columns:
    text = Text(str(path), partial(_open, path), options.separator, options.encoding)
    types: dict[str, pa.DataType | None] = dict.fromkeys(header(text) if options.transforms else options.needed)
    wanted = {options.user: _CODED, options.item: _CODED}
    if options.reward is not None:
        wanted[options.reward] = pa.string() if takes_labels(options.transform) else pa.float64()
    if options.propensity is not None:
        wanted[options.propensity] = pa.float64()
    if options.time is not None and options.time_format is not None:
        wanted[options.time] = pa.string()
    if options.transforms:  # what the functions turn into numbers may be text before
        wanted = {name: kind for name, kind in wanted.items() if kind == _CODED and name in types}
    table = read_columns(text, types | wanted, options.missing_words)
    return Columns(table, str(path), text.place, is_text=True)


def _read_parquet(path: Path, options: TableOptions) -> Columns:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names: Sequence[str] = file.schema_arrow.names
        if not options.transforms:
            require_columns(str(path), options.needed, names)
        table = file.read(columns=None if options.transforms else options.needed)
    if table.num_rows == 0:
        raise DataError(f"{path} must hold at least one event, got no row; check how it was made")
    return Columns(table, str(path), "row {} counted from 0".format)


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    return pa.input_stream(str(path), compression="detect")


def code_of(transforms: Sequence[str]) -> list[Path]:
    """Returns the source files of functions named "module:function"; after an edit there a log is made again."""
    files = [inspect.getsourcefile(_resolved(name)[1]) for name in transforms]
    return [Path(file) for file in files if file is not None]


def _resolved(function: Any) -> tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]:
    """Returns a table transform and its name, importing it where it was given as "module:function"."""
    if not isinstance(function, str):
        return getattr(function, "__name__", type(function).__name__), function
    module, _, name = function.partition(":")
    try:
        return function, getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"a table transform must be named 'module:function', got {function!r}: {error}; mend it"
        ) from error
