"""JSON lines: one event a line, as Amazon and many services write their logs."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import json as arrow_json

from recgym.datasets.tables.complaints import require_columns
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.text import NoEvents, TooNarrow
from recgym.errors import DataError
from recgym.rewards import takes_labels

ENDINGS = (".jsonl", ".ndjson", ".json")
_BLOCK = 4 << 20  # bytes read at a time
_PACKED = (".gz", ".bz2", ".zst", ".xz")
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
        raise _unreadable(path, error) from error
    if n_rows == 0:
        raise NoEvents(f"{path} must hold at least one event, got none; check how it was made")


def _types(path: Path, opened: _Opener, options: TableOptions, given: Container[str]) -> dict[str, pa.DataType]:
    """Returns the type of every needed column, as the first lines tell it."""
    try:
        with opened() as file:
            schema = arrow_json.open_json(file, arrow_json.ReadOptions(block_size=_BLOCK)).schema
            names = schema.names
    except (pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from error
    needed = [name for name in options.needed if name not in given]
    if not options.transforms:
        require_columns(str(path), needed, names)
    types = {name: schema.field(name).type for name in needed if name in names}
    for name in {options.user, options.item} & set(types):  # an id that looks like a date is text
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


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} must hold one JSON object a line, its values of one kind for each key, got {error}; mend that line"
    )
