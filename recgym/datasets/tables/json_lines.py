"""JSON lines: one event a line, as Amazon and many services write their logs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import json as arrow_json

from recgym.datasets.tables.complaints import brief, require_columns
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.text import NoEvents, TooNarrow
from recgym.errors import DataError
from recgym.rewards import takes_labels

ENDINGS = (".jsonl", ".ndjson", ".json")
_BLOCK = 4 << 20  # bytes read at a time
_PACKED = (".gz", ".bz2", ".zst", ".xz")
_LINES = 1 << 15  # read at a time where values are looked at one by one
_CHANGED = re.compile(r"Column\(/(.+)\) changed from (\w+) to (\w+)")
_WORDS = pa.large_string()  # of ids that are numbers here and text there; no other column is taken for it
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number"}
_Opener = Callable[[], AbstractContextManager[BinaryIO]]


def is_json_lines(path: Path) -> bool:
    """Returns whether a file's name says that it holds JSON lines, packed or not."""
    name = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return name.suffix.lower() in ENDINGS


def read_blocks(
    path: Path, opened: _Opener, options: TableOptions, guessed: Mapping[str, pa.DataType], given: Container[str] = ()
) -> Iterator[pa.Table]:
    """Yields the needed columns of a file of JSON lines a few megabytes at a time; other keys are not read.

    Args:
        path: What messages call the file.
        opened: Opens it, unpacked.
        options: Which columns are needed.
        guessed: What to take a column for, from earlier `TooNarrow`.
        given: Columns that the file's folders give; keys of these names are not read.

    Raises:
        TooNarrow: if a column holds, further on, what its beginning does not tell; start again with the wider type.
        DataError: if the file is no JSON lines, a key is in none of the first lines, or a value is of another kind.
    """
    if worded := {name for name in (options.user, options.item) if guessed.get(name) == _WORDS}:
        yield from _worded_blocks(path, opened, options, given, worded)
        return
    types = _types(path, opened, options, given) | dict(guessed)
    others = "infer" if options.transforms else "ignore"  # functions of the user's own see every key
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior=others)
    n_rows = 0
    try:
        with opened() as file:
            for batch in arrow_json.open_json(file, arrow_json.ReadOptions(block_size=_BLOCK), parse):
                n_rows += batch.num_rows
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeError) as error:
        _raise_wider(str(error), types)
        raise _unreadable(path, opened, options, error) from error
    if n_rows == 0:
        raise NoEvents(f"{path} must hold at least one event, got none; check how it was made")


def _worded_blocks(
    path: Path, opened: _Opener, options: TableOptions, given: Container[str], worded: Container[str]
) -> Iterator[pa.Table]:
    """Yields what `read_blocks` does of a file where some ids are numbers in some lines and text in others: text."""
    names = [name for name in options.needed if name not in given]
    with opened() as file:
        lines = enumerate(file, start=1)
        while block := list(islice(lines, _LINES)):
            rows = [(number, _event(path, number, line)) for number, line in block if line.strip()]
            columns = {}
            every = chain(names, *(row for _, row in rows)) if options.transforms else names
            for name in dict.fromkeys(every):
                try:
                    columns[name] = pa.array(
                        [
                            _word(path, name, row.get(name), line) if name in worded else row.get(name)
                            for line, row in rows
                        ]
                    )
                except pa.ArrowException as error:
                    if name in (options.user, options.item):
                        raise TooNarrow(name, _WORDS) from error
                    raise _changed(path, opened, name) from error
            if rows:
                yield pa.table(columns)


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} must hold one JSON object a line, got {error} in line {number}; mend it") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold one JSON object a line, got {brief(found)} in line {number}; mend it")
    return found


def _word(path: Path, name: str, value: Any, line: int) -> str | None:
    """Returns an id as text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        raise DataError(
            f"key {name!r} of {path} must hold whole numbers or text as ids, got {brief(value)} in line {line}; mend it"
        )
    return str(int(value))


def _changed(path: Path, opened: _Opener, name: str) -> DataError:
    """Returns the error that values of a key are of several kinds, which names the first two lines that say so."""
    first: tuple[str, int] | None = None
    with opened() as file:
        for number, line in enumerate(file, start=1):
            value = _event(path, number, line).get(name) if line.strip() else None
            kind = _KINDS.get(type(value), "a list or object")
            if value is None or first is None:
                first = first or (None if value is None else (kind, number))
            elif kind != first[0]:
                return DataError(
                    f"key {name!r} of {path} must hold values of one kind, got {first[0]} in line {first[1]} and "
                    f"{kind} in line {number}; mend one of them"
                )
    return DataError(f"key {name!r} of {path} must hold values of one kind, got several; mend them")


def _types(path: Path, opened: _Opener, options: TableOptions, given: Container[str]) -> dict[str, pa.DataType]:
    """Returns the type of every needed column, as the first lines tell it."""
    try:
        with opened() as file:
            schema = arrow_json.open_json(file, arrow_json.ReadOptions(block_size=_BLOCK)).schema
            names = schema.names
    except (pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, opened, options, error) from error
    needed = [name for name in options.needed if name not in given]
    if not options.transforms:
        require_columns(str(path), needed, names)
    types = {name: schema.field(name).type for name in needed if name in names}
    for name in types.keys() & {options.user, options.item, options.time}:  # an id is text, a date may have a zone
        types[name] = pa.string() if pa.types.is_temporal(types[name]) else types[name]
    for column in {options.reward, options.propensity} & set(types):
        if column is not None and (pa.types.is_integer(types[column]) or pa.types.is_null(types[column])):
            types[column] = pa.float64()
    if options.reward in types and takes_labels(options.transform):
        types[options.reward] = pa.string()
    return {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types.items()}


def _raise_wider(message: str, types: Mapping[str, pa.DataType]) -> None:
    """Raises TooNarrow where whole numbers turn out to have fractions, or dates to be no dates, further on."""
    for name, kind in types.items():
        if f"convert JSON to {kind}," in message and (pa.types.is_integer(kind) or pa.types.is_temporal(kind)):
            raise TooNarrow(name, pa.float64() if pa.types.is_integer(kind) else pa.string())


def _unreadable(path: Path, opened: _Opener, options: TableOptions, error: Exception) -> DataError:
    """Returns the error for what pyarrow says of a file.

    Raises:
        TooNarrow: if ids turn out to be numbers here and text there.
    """
    if found := _CHANGED.search(str(error)):
        name = found[1]
        if name in (options.user, options.item) and {found[2], found[3]} == {"number", "string"}:
            raise TooNarrow(name, _WORDS)
        return _changed(path, opened, name)
    try:
        with opened() as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    _event(path, number, line)
    except DataError as bad:  # which names the line
        return bad
    return DataError(f"{path} must hold one JSON object a line, got {error}; mend that line")
