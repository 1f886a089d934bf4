"""Delimited text read into columns, with every complaint naming file, line and column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recgym.errors import DataError


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
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the columns of {text.where} must have different names, got {twice} more than once; rename them"
        )
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
    if text.names is None:
        require_columns(text.where, types, header(text))
    known = {name: kind for name, kind in types.items() if kind is not None}
    convert = arrow_csv.ConvertOptions(
        column_types=known,
        include_columns=list(types),
        null_values=list(null_values),
        strings_can_be_null=bool(null_values),
    )
    parse = arrow_csv.ParseOptions(delimiter=text.separator, newlines_in_values=True)

    def read(use_threads: bool) -> pa.Table:
        options = arrow_csv.ReadOptions(use_threads=use_threads, encoding=text.encoding, column_names=text.names)
        with text.open() as file:
            return arrow_csv.read_csv(file, options, parse, convert)

    try:
        table = read(use_threads=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise _wrong_encoding(text, f"byte {error.start}") from error
        try:
            read(use_threads=False)  # once more: only the serial reader says in which row it stopped
        except pa.ArrowException as exact:
            raise _unreadable(text, str(exact), known) from exact
        raise _unreadable(text, str(error), known) from error
    if table.num_rows == 0:
        raise DataError(f"{text.where} must hold at least one event, got none after the header; check how it was made")
    return table


def require_columns(where: str, wanted: Any, present: Sequence[str]) -> None:
    """Raises a DataError if a wanted column is not among those present."""
    lacking = [name for name in wanted if name not in present]
    if lacking:
        raise DataError(
            f"{where} must have the column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking))}, "
            f"got {', '.join(map(repr, present))}; name the columns as they stand in the file"
        )


def refuse(where: str, column: str, must: str, bad: np.ndarray, values: Any, place: Callable[[int], str]) -> None:
    """Raises a DataError if any row is bad, naming the first.

    Args:
        where: What messages call the source.
        column: Name of the column.
        must: What the values must be.
        bad: Which rows are bad (n,) bool.
        values: The column (n,), to show the first bad value.
        place: Where a row stands, e.g. `Text.place`.
    """
    rows = np.flatnonzero(bad)
    if len(rows):
        raise DataError(
            f"column {column!r} of {where} must {must}, got {values[rows[0]]} in {place(int(rows[0]))} "
            f"({len(rows)} of {len(bad)} rows); mend or remove them"
        )


def _wrong_encoding(text: Text, what: str) -> DataError:
    return DataError(
        f"{text.where} must be text in {text.encoding}, got bytes that are not in {what}; "
        'pass the encoding it was written in, e.g. encoding="latin-1"'
    )


_CONVERSION = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to (\S+?): (.*)", re.DOTALL)
_FIELDS = re.compile(r"Row #(\d+): Expected (\d+) columns?, got (\d+)")
_KINDS = {"double": "numbers", "int64": "whole numbers", "null": "nothing"}


def _unreadable(text: Text, message: str, types: Mapping[str, pa.DataType]) -> DataError:
    first = 1 if text.names else 2  # Arrow counts rows from 1 and the header as one
    if found := _CONVERSION.search(message):
        column, row, kind, problem = int(found[1]), int(found[2]) - first, found[3], found[4]
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
