"""Delimited text read into columns, with every complaint naming file, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv

from recgym.datasets.tables import fast_csv as plain
from recgym.datasets.tables.complaints import CONVERSION, require_columns, require_different, unreadable, wrong_encoding
from recgym.datasets.tables.streams import Unsplit
from recgym.datasets.tables.text_file import Text as Text
from recgym.errors import DataError

_BLOCK = 4 << 20  # bytes read at a time; larger ones are no faster and many are in flight at once
_LADDER = (  # the types a column may be guessed to have, each looser than the one before
    *(pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns")),
    *(pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.float64(), pa.string()),
)


class NoEvents(DataError):
    """A file without an event; one among others in a folder says nothing."""


class TooNarrow(Exception):
    """A column of unknown type holds, further on, what the type guessed from its beginning cannot."""

    def __init__(self, column: str, wider: pa.DataType) -> None:
        super().__init__(column)
        self.column, self.wider = column, wider


def header(text: Text) -> list[str]:
    """Returns the column names in the first line of a file.

    Raises:
        DataError: if the file is empty, its header cannot be decoded, or a name stands twice.
    """
    if text.names is not None:
        return list(text.names)
    line, names = _first_row(text)
    if line == 0:
        raise NoEvents(f"{text.where} must hold a header line and events, got an empty file; check how it was made")
    if any(character in name for name in names for character in "\0\ufffd"):
        raise wrong_encoding(text, "the header line")
    require_different(text.where, names)
    return names


def _first_row(text: Text) -> tuple[int, list[str]]:
    """Returns the number of the line in which the first row ends, 0 if there is none, and its fields."""
    limits = text.limits
    try:
        with text.lines() as file:
            begin = file.read(limits.header)
        if len(begin) >= limits.header and b"\n" not in begin and b"\r" not in begin:
            raise DataError(
                f"the first line of {text.where} must end within {limits.header:,} bytes, got a longer one; name what "
                'is no text another way, or pass limits={"header": BYTES} if it is meant'
            )
        line, fields = next(text.rows(limits.header), (0, []))
    except UnicodeError as error:
        raise wrong_encoding(text, f"the first line ({error})") from error
    except csv.Error as error:
        raise DataError(f"{text.where} must be text in columns, got {error}; check the file") from error
    if len(fields) > limits.columns:
        raise DataError(
            f"{text.where} must have at most {limits.columns:,} columns, got {len(fields):,}; a table of events "
            f'has one line per event: melt a matrix of ratings, or pass limits={{"columns": {len(fields)}}}'
        )
    return line, fields


def numbered(text: Text) -> tuple[str, ...]:
    """Returns names for the columns of a file that has none: "0", "1" and so on."""
    return tuple(map(str, range(len(_first_row(text)[1]))))


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
    with text.lines() as file:
        rest: BinaryIO | io.RawIOBase | None = None
        is_usual = plain_first and text.decimal == "."
        if is_usual and plain.may_be(known, text.delimiter, text.line_encoding, null_values):
            lines = plain.Lines(file, names, known, text.delimiter, has_header=text.skips_header)
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
        raise NoEvents(f"{text.where} must hold at least one event, got none after the header; check how it was made")


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
        decimal_point=text.decimal,
    )
    try:
        for block in _stream(text, convert, True, rest):
            yield pa.Table.from_batches([block])
    except UnicodeError as error:
        where = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else f"it ({error})"
        raise wrong_encoding(text, where) from error
    except pa.ArrowException as error:
        _raise_too_narrow(text, str(error), types)
        try:
            for _ in _stream(text, convert, False):  # only the serial reader says in which row it stopped
                pass
        except pa.ArrowException as exact:
            raise unreadable(text, str(exact), convert.column_types, text.names or header(text)) from exact
        raise unreadable(text, str(error), convert.column_types, text.names or header(text)) from error


def _stream(
    text: Text, convert: arrow_csv.ConvertOptions, use_threads: bool, rest: BinaryIO | io.RawIOBase | None = None
) -> Iterator[pa.RecordBatch]:
    names = text.names if rest is None else text.names or header(text)
    parse = arrow_csv.ParseOptions(
        delimiter=text.delimiter,
        quote_char=text.quote or False,
        escape_char=text.escape or False,
        newlines_in_values=text.quote is not None or text.escape is not None,
    )
    options = arrow_csv.ReadOptions(
        use_threads=use_threads,
        encoding=text.line_encoding,
        column_names=names,
        block_size=_BLOCK,
        skip_rows=_first_row(text)[0] if rest is None and text.names and text.skips_header else 0,
    )
    with text.lines() if rest is None else nullcontext(rest) as file:
        whole = Unsplit(file) if text.quote or text.escape else file
        with arrow_csv.open_csv(whole, options, parse, convert) as reader:
            yield from reader


def _raise_too_narrow(text: Text, message: str, types: Mapping[str, pa.DataType | None]) -> None:
    """Raises TooNarrow where a complaint is about a column whose type was guessed."""
    found = CONVERSION.search(message)
    if found is None:
        return
    name = (text.names or tuple(header(text)))[int(found[1])]
    if name in types and types[name] is None:
        names = [str(kind) for kind in _LADDER]
        place = names.index(found[3]) if found[3] in names else len(names) - 2
        if place + 1 < len(names):
            raise TooNarrow(name, _LADDER[place + 1])
