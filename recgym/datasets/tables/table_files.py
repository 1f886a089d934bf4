"""The columns of a table, from a CSV or Parquet file or a DataFrame, before anything is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recgym.datasets.tables.columns import Blocks, Columns
from recgym.datasets.tables.complaints import NotNumber, require_columns, require_different
from recgym.datasets.tables.id_codes import encode
from recgym.datasets.tables.json_lines import is_json_lines
from recgym.datasets.tables.json_lines import read_blocks as read_blocks_of_json
from recgym.datasets.tables.kinds import widest
from recgym.datasets.tables.object_columns import to_arrow
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.parts import Part, parts_of
from recgym.datasets.tables.streams import check_expansion, make_limits
from recgym.datasets.tables.text import NoEvents, Text, TooNarrow, header, numbered, read_blocks
from recgym.datasets.tables.unpacking import kind_of, opened, opened_json
from recgym.errors import DataError, MissingDataError
from recgym.rewards import takes_labels

if TYPE_CHECKING:
    import pandas as pd


_PARQUET = (".parquet", ".pq")
_EVENT = 20  # bytes an event takes in memory, about
_BATCH = 1 << 17  # rows of a block of Parquet
_CODED = pa.dictionary(pa.int32(), pa.string())


def blocks_of(source: str | Path | pd.DataFrame | pa.Table, options: TableOptions) -> Blocks:
    """Returns what yields the needed columns of a source block by block, as often as it is asked.

    What is in memory, and a file that functions of the user's own must see whole, comes as one block.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if it is no table, cannot be read as what its name says, or a column is missing; also while blocks
            are drawn.
    """
    if not isinstance(source, (str, Path)):
        held = _in_memory(source)
        make = _from_arrow if isinstance(held, pa.Table) else from_frame
        return lambda guessed: iter([make(held, options)])
    path = Path(source)
    check_there(path)
    if options.transforms:
        return lambda guessed: iter([_transformed(path, options)])
    return partial(_file_blocks, path, options)


def check_there(path: Path) -> None:
    """Raises MissingDataError unless there is a file or folder at `path`."""
    if not path.exists():
        raise MissingDataError(
            f"a table must be a file, got no such file at {path}; name a CSV or Parquet file, or use the data set "
            "'synthetic', which needs no file"
        )


def _in_memory(source: Any) -> pd.DataFrame | pa.Table:
    """Returns a DataFrame of pandas as it is, and any other table that can give itself to Arrow (polars) as Arrow's."""
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    if hasattr(source, "__arrow_c_stream__"):
        with suppress(pa.ArrowException):  # one column is no table
            return pa.table(source)
    raise DataError(
        "a table must be the path of a CSV or Parquet file, or a table of pandas, polars or Arrow, got "
        f"{type(source).__name__}; pass one of them as path="
    )


def _file_blocks(path: Path, options: TableOptions, guessed: Mapping[str, pa.DataType]) -> Iterator[Columns]:
    from tqdm import tqdm

    parts, limits, n_rows = parts_of(path), make_limits(options.limits), 0
    size, nothing = sum(part.path.stat().st_size for part in parts), None
    with tqdm(desc=f"reading {path.name}", unit="row", unit_scale=True, disable=None, leave=False) as bar:
        for part in parts:
            file = part.path
            try:
                for columns in _blocks_in(part, options, guessed):
                    n_rows += columns.table.num_rows
                    check_expansion(file, size, _EVENT * n_rows, limits.expansion)
                    yield columns if not part.given else replace(columns, table=_with_given(columns.table, part))
                    bar.update(columns.table.num_rows)
            except MissingDataError:
                raise
            except NoEvents as error:  # of one part: the others may hold some
                nothing = error
            except (OSError, pa.ArrowException, UnicodeError, OverflowError) as error:
                raise DataError(
                    f"{file} must be readable, got {type(error).__name__}: {error}; check the file"
                ) from error
    if n_rows == 0 and nothing is not None:
        raise nothing


def _with_given(table: pa.Table, part: Part) -> pa.Table:
    """Returns a table with the columns that the folders of a part give, which stand for its own of that name."""
    table = table.drop_columns([name for name in part.given if name in table.column_names])
    for name, value in part.given.items():
        table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def _blocks_in(part: Part, options: TableOptions, guessed: Mapping[str, pa.DataType]) -> Iterator[Columns]:
    file, kind = part.path, kind_of(part.path)
    if kind == "Parquet" or (kind is None and file.suffix.lower() in _PARQUET):
        return _parquet_blocks(file, options, part.given)
    if is_json_lines(file):
        return _json_blocks(file, options, guessed, part.given)
    return _csv_blocks(file, options, guessed, part.given)


def _json_blocks(
    path: Path, options: TableOptions, guessed: Mapping[str, pa.DataType], given: Mapping[str, pa.Scalar]
) -> Iterator[Columns]:
    before, limits = 0, make_limits(options.limits)
    for table in read_blocks_of_json(path, partial(opened_json, path, limits), options, guessed, given):
        yield Columns(table, str(path), partial(_json_line, before))
        before += table.num_rows


def _transformed(path: Path, options: TableOptions) -> Columns:
    """Returns a file as one block, after the user's functions, which see ids as numbers where they are numbers."""
    guessed: dict[str, pa.DataType] = {}
    while True:
        try:
            parts = list(_file_blocks(path, options, guessed))
            break
        except TooNarrow as found:
            guessed[found.column] = found.wider
    columns = replace(parts[0], table=_joined([part.table for part in parts], str(path)))
    frame = columns.table.to_pandas()
    if columns.is_text:
        for name in {options.user, options.item} & set(frame.columns):
            code, ids = encode(columns, name)
            frame[name] = np.array([*ids.tolist(), None], dtype=object)[code] if (code < 0).any() else ids[code]
    return from_frame(frame, options, str(path))


def _joined(tables: list[pa.Table], where: str) -> pa.Table:
    """Returns tables one after the other, each column of the widest kind it has in them."""
    kinds: dict[str, pa.DataType] = {}
    for table in tables:
        for field_ in table.schema:
            wide = widest(kinds.get(field_.name, field_.type), field_.type)
            if wide is None:
                raise DataError(
                    f"column {field_.name!r} of {where} must hold values of one kind in all parts, got "
                    f"{kinds[field_.name]} and {field_.type}; convert one of them"
                )
            kinds[field_.name] = wide
    same = [table for table in tables if table.schema.equals(tables[0].schema)]
    if len(same) == len(tables):
        return pa.concat_tables(tables)
    lacking = [name for name in kinds for table in tables if name not in table.column_names]
    if lacking:
        raise DataError(f"every part of {where} must have the same columns, got one without {lacking[0]!r}; add it")
    schema = pa.schema(list(kinds.items()))
    return pa.concat_tables([table.select(list(kinds)).cast(schema) for table in tables])


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
    _check_names(where, options, [str(name) for name in frame.columns])
    own = {str(name): name for name in frame.columns}  # columns may be called by numbers
    if len(frame) == 0:
        raise DataError(f"{where} must hold at least one event, got no row; check how it was made")
    arrays, objects = {}, {}
    for name in options.needed:
        is_id = name in (options.user, options.item)
        array, values = to_arrow(frame[own[name]], name, where, is_id)
        arrays[name] = pa.chunked_array([array])
        if values is not None:
            objects[name] = values
    return Columns(pa.table(arrays), where, partial(_row, 0), objects=objects)


def _from_arrow(table: pa.Table, options: TableOptions) -> Columns:
    """Returns the needed columns of a table in memory that is not pandas', after the user's functions."""
    where = "the table"
    if options.transforms:
        return from_frame(table.to_pandas(), options, where)
    _check_names(where, options, table.column_names)
    if table.num_rows == 0:
        raise DataError(f"{where} must hold at least one event, got no row; check how it was made")
    return Columns(table.select(options.needed), where, partial(_row, 0))


def _text_of(path: Path, options: TableOptions) -> Text:
    """Returns a file as delimited text, as the options say."""
    limits = make_limits(options.limits)
    text = Text(
        str(path),
        partial(opened, path, limits),
        options.separator,
        options.encoding,
        names=tuple(options.names) or None,
        has_header=options.header is not None,
        quote=options.quote,
        escape=options.escape,
        comment=options.comment,
        decimal=options.decimal,
        limits=limits,
    )
    names = numbered(text) if text.names is None and not text.skips_header else text.names
    if options.names and len(names or ()) != len(numbered(text)):
        raise DataError(
            f"names must be one per column of {path}, got {len(options.names)} for {len(numbered(text))}; mend them"
        )
    return replace(text, names=names)


def _csv_blocks(
    path: Path, options: TableOptions, guessed: Mapping[str, pa.DataType], given: Mapping[str, pa.Scalar]
) -> Iterator[Columns]:
    text = _text_of(path, options)
    needed = [name for name in options.needed if name not in given]
    types: dict[str, pa.DataType | None] = dict.fromkeys(header(text) if options.transforms else needed)
    wanted = {options.user: _CODED, options.item: _CODED}
    if options.reward is not None:
        own = pa.string() if takes_labels(options.transform) else pa.float64()
        wanted[options.reward] = guessed.get(options.reward, own)
    if options.propensity is not None:
        wanted[options.propensity] = pa.float64()
    if options.time is not None and options.time_format is not None:
        wanted[options.time] = pa.string()
    if options.transforms:  # what the functions turn into numbers may be text before
        wanted = {name: kind for name, kind in wanted.items() if kind == _CODED}
    wanted = {name: kind for name, kind in wanted.items() if name in types}
    before = 0
    plain_first = not options.transforms  # the functions want all blocks of one type
    try:
        for table in read_blocks(text, types | wanted, options.missing_words, guessed, plain_first):
            yield Columns(table, str(path), partial(_line, text, before), is_text=True)
            before += table.num_rows
    except NotNumber as error:
        if error.column == options.reward and error.value.strip("' ").lower() in ("true", "false"):
            raise TooNarrow(error.column, pa.string()) from None
        raise


def _parquet_blocks(path: Path, options: TableOptions, given: Mapping[str, pa.Scalar]) -> Iterator[Columns]:
    from pyarrow import parquet

    before = 0
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:  # where the writer left checksums
        names: Sequence[str] = file.schema_arrow.names
        if not options.transforms:
            _check_names(str(path), options, [*names, *given])
        needed = [name for name in options.needed if name not in given]
        most = make_limits(options.limits).expansion
        check_expansion(path, path.stat().st_size, _EVENT * file.metadata.num_rows, most)
        for batch in file.iter_batches(_BATCH, columns=None if options.transforms else needed):
            yield Columns(pa.Table.from_batches([batch]), str(path), partial(_row, before))
            before += batch.num_rows
    if before == 0:
        raise NoEvents(f"{path} must hold at least one event, got no row; check how it was made")


def _check_names(where: str, options: TableOptions, names: Sequence[str]) -> None:
    """Raises a DataError unless each needed column is there once."""
    require_columns(where, options.needed, names)
    require_different(where, [name for name in names if name in options.needed])


def _line(text: Text, before: int, row: int) -> str:
    return text.place(before + row)


def _json_line(before: int, row: int) -> str:
    return f"line {before + row + 1}"


def _row(before: int, row: int) -> str:
    return f"row {before + row} counted from 0"


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
