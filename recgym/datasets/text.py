"""Delimited text read into columns, with every complaint naming file, line and column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recgym.datasets import plain
from recgym.errors import DataError

_BLOCK = 4 << 20  # bytes read at a time; larger ones are no faster and many are in flight at once
_LADDER = (  # the types a column may be guessed to have, each looser than the one before
    *(pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns")),
    *(pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.float64(), pa.string()),
)


class TooNarrow(Exception):
    """A column of unknown type holds, further on, what the type guessed from its beginning cannot."""

    def __init__(self, column: str, wider: pa.DataType) -> None:
        super().__init__(column)
        self.column, self.wider = column, wider


@dataclass(frozen=True)
class Text:
    """A delimited text file that can be opened any number of times, wherever it lies."""

    where: str  # what messages call it: a path, or ARCHIVE:MEMBER
    open: Callable[[], AbstractContextManager[BinaryIO]]
    separator: str = ","
    encoding: str = "utf-8"
    names: tuple[str, ...] | None = None  # column names of a file without a header line

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields (line number, fields) of every line that is not blank, header included; slow, for messages."""
        encoding = "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding
        with self.open() as file, io.TextIOWrapper(file, encoding, errors="replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=self.separator)
            yield from ((reader.line_num, fields) for fields in reader if fields)

    def place(self, row: int) -> str:
        """Returns where data row `row` (0 is the first) stands, as "line N"."""
        wanted = row if self.names else row + 1
        for seen, (line, _) in enumerate(self.rows()):
            if seen == wanted:
                return f"line {line}"
        return f"row {row + 1}"


def header(text: Text) -> list[str]:
    """Returns the column names in the first line of a file.

    Raises:
        DataError: if the file is empty, its header cannot be decoded, or a name stands twice.
    """
    try:
        names = next((fields for _, fields in text.rows()), None)
    except csv.Error as error:
        raise DataError(f"{text.where} must be text in columns, got {error}; check the file") from error
    if names is None:
        raise DataError(f"{text.where} must hold a header line and events, got an empty file; check how it was made")
    if any(character in name for name in names for character in "\0\ufffd"):
        raise _wrong_encoding(text, "the header line")
    require_different(text.where, names)
    return names


def read_columns(text: Text, types: Mapping[str, pa.DataType | None], null_values: Sequence[str] = ()) -> pa.Table:
    """Returns the columns named in `types`, in that order, one row per line that is not blank.

    Args:
        text: The file.
        types: Arrow type by column name; None leaves the type to be inferred.
        null_values: Fields that count as missing; with none, an empty number is unparsable.

    Raises:
        DataError: if a column is missing, a field cannot be read as its type, a line has too few or too many fields,
            the encoding is wrong, or there is no event.
    """
    guessed: dict[str, pa.DataType] = {}
    while True:
        try:
            return pa.concat_tables(read_blocks(text, types, null_values, guessed))
        except TooNarrow as found:
            guessed[found.column] = found.wider


def read_blocks(
    text: Text,
    types: Mapping[str, pa.DataType | None],
    null_values: Sequence[str] = (),
    guessed: Mapping[str, pa.DataType] | None = None,
    plain_first: bool = True,
) -> Iterator[pa.Table]:
    """Yields the columns of `read_columns` a few megabytes at a time; only the blocks in flight are in memory.

    Args:
        text: The file.
        types: As for `read_columns`; a type that is None is guessed from the first block.
        null_values: As for `read_columns`.
        guessed: What to take a column of unknown type for, from earlier `TooNarrow`.
        plain_first: Whether a column of whole numbers or words, asked for as a dictionary, may come as int64 as long as
            it holds whole numbers written as one would write them.

    Raises:
        TooNarrow: if a guessed type does not fit a later block; start again with the wider one.
        DataError: as `read_columns`.
    """
    names = text.names or tuple(header(text))
    require_columns(text.where, types, names)
    known = {name: kind or (guessed or {}).get(name) for name, kind in types.items()}
    n_rows = 0
    with text.open() as file:
        rest: BinaryIO | io.RawIOBase | None = None
        if plain_first and plain.may_be(known, text.separator, text.encoding, null_values):
            lines = plain.Lines(file, names, known, text.separator, has_header=text.names is None)
            for table in lines.tables(_BLOCK):
                n_rows += table.num_rows
                known = {name: kind or table.schema.field(name).type for name, kind in known.items()}
                yield table
            rest = lines.rest
        if n_rows == 0 or rest is not None:  # of a file without one plain line, rest may begin after its header
            for table in _any_blocks(text, known, types, null_values, rest if n_rows else None):
                n_rows += table.num_rows
                yield table
    if n_rows == 0:
        raise DataError(f"{text.where} must hold at least one event, got none after the header; check how it was made")


def _any_blocks(
    text: Text,
    known: Mapping[str, pa.DataType | None],
    types: Mapping[str, pa.DataType | None],
    null_values: Sequence[str],
    rest: BinaryIO | io.RawIOBase | None,
) -> Iterator[pa.Table]:
    """Yields the blocks of a file, plain or not; or of the rest of it, where the lines before have been read."""
    convert = arrow_csv.ConvertOptions(
        column_types={name: kind for name, kind in known.items() if kind is not None},
        include_columns=list(types),
        null_values=list(null_values),
        strings_can_be_null=bool(null_values),
    )
    try:
        for block in _stream(text, convert, True, rest):
            yield pa.Table.from_batches([block])
    except UnicodeDecodeError as error:
        raise _wrong_encoding(text, f"byte {error.start}") from error
    except pa.ArrowException as error:
        _raise_too_narrow(text, str(error), types)
        try:
            for _ in _stream(text, convert, False):  # only the serial reader says in which row it stopped
                pass
        except pa.ArrowException as exact:
            raise _unreadable(text, str(exact), convert.column_types) from exact
        raise _unreadable(text, str(error), convert.column_types) from error


def _stream(
    text: Text, convert: arrow_csv.ConvertOptions, use_threads: bool, rest: BinaryIO | io.RawIOBase | None = None
) -> Iterator[pa.RecordBatch]:
    names = text.names if rest is None else text.names or header(text)
    parse = arrow_csv.ParseOptions(delimiter=text.separator, newlines_in_values=True)
    options = arrow_csv.ReadOptions(
        use_threads=use_threads, encoding=text.encoding, column_names=names, block_size=_BLOCK
    )
    with (
        text.open() if rest is None else nullcontext(rest) as file,
        arrow_csv.open_csv(file, options, parse, convert) as reader,
    ):
        yield from reader


def _raise_too_narrow(text: Text, message: str, types: Mapping[str, pa.DataType | None]) -> None:
    """Raises TooNarrow where a complaint is about a column whose type was guessed."""
    found = _CONVERSION.search(message)
    if found is None:
        return
    name = (text.names or tuple(header(text)))[int(found[1])]
    if name in types and types[name] is None:
        names = [str(kind) for kind in _LADDER]
        place = names.index(found[3]) if found[3] in names else len(names) - 2
        if place + 1 < len(names):
            raise TooNarrow(name, _LADDER[place + 1])


def require_columns(where: str, wanted: Any, present: Sequence[str]) -> None:
    """Raises a DataError if a wanted column is not among those present."""
    lacking = [name for name in wanted if name not in present]
    if lacking:
        raise DataError(
            f"{where} must have the column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking))}, "
            f"got {', '.join(map(repr, present))}; name the columns as they stand in the file"
        )


def require_different(where: str, names: Sequence[str]) -> None:
    """Raises a DataError if two columns have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the columns of {where} must have different names, got {twice} more than once; rename them")


def refuse(
    where: str,
    column: str,
    must: str,
    bad: np.ndarray,
    values: Any,
    place: Callable[[int], str],
    remedy: str = "mend or remove them",
) -> None:
    """Raises a DataError if any row is bad, naming the first.

    Args:
        where: What messages call the source.
        column: Name of the column.
        must: What the values must be.
        bad: Which rows are bad (n,) bool.
        values: The column (n,), to show the first bad value.
        place: Where a row stands, e.g. `Text.place`.
        remedy: What to do.
    """
    rows = np.flatnonzero(bad)
    if len(rows):
        raise DataError(
            f"column {column!r} of {where} must {must}, got {values[rows[0]]} in {place(int(rows[0]))} "
            f"({len(rows)} of {len(bad)} rows); {remedy}"
        )


def _wrong_encoding(text: Text, what: str) -> DataError:
    return DataError(
        f"{text.where} must be text in {text.encoding}, got bytes that are not in {what}; "
        'pass the encoding it was written in, e.g. encoding="latin-1"'
    )


_CONVERSION = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (.+?): (.*)", re.DOTALL)
_FIELDS = re.compile(r"Row #(\d+): Expected (\d+) columns?, got (\d+)")
_KINDS = {"double": "numbers", "int64": "whole numbers", "null": "nothing"}


def _unreadable(text: Text, message: str, types: Mapping[str, pa.DataType]) -> DataError:
    first = 1 if text.names else 2  # Arrow counts rows from 1 and the header as one
    if found := _CONVERSION.search(message):
        column, row, kind, problem = int(found[1]), int(found[2] or first) - first, found[3], found[4]
        place, name = text.place(row), (text.names or tuple(header(text)))[column]
        if "UTF8" in problem:
            return _wrong_encoding(text, f"{place}, column {name!r}")
        value = problem.removeprefix("invalid value ").split("\n")[0]
        if kind == "null":
            return DataError(f"{text.where} must keep its published layout, got {value} in {place}; get the file again")
        return DataError(
            f"column {name!r} of {text.where} must hold {_KINDS.get(kind, kind)}, got {value} in {place}; "
            "mend or remove that line"
        )
    if found := _FIELDS.search(message):
        place = text.place(int(found[1]) - first)
        return DataError(
            f"every line of {text.where} must have {found[2]} fields, got {found[3]} in {place}; "
            "mend that line, name the right separator, or get the file again if it was cut short"
        )
    return DataError(f"{text.where} must be text in columns, got {message}; check the file")
