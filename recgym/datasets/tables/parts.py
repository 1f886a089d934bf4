"""The files of a table: one, or those of a folder, whose own folders may name further columns as Hive's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from recgym.datasets.tables.json_lines import is_json_lines
from recgym.errors import DataError, MissingDataError

_PARQUET = {".parquet", ".pq"}
_TEXT = {".csv", ".tsv", ".txt"}
_TABLES = {
    *_PARQUET,
    ".jsonl",
    ".ndjson",
    ".csv",
    ".tsv",
}  # what is a table by its name; README.txt may stand beside any
_NOTHING = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Part:
    """One file of a table, and the columns that the names of its folders (`day=2024-05-01`) give, one value each."""

    path: Path
    given: Mapping[str, pa.Scalar] = field(default_factory=dict)


def files_of(path: Path) -> list[Path]:
    """Returns the files a table is read from, in the order they are read."""
    return [part.path for part in parts_of(path)]


def parts_of(path: Path) -> list[Part]:
    """Returns the parts of a table in the order of their names: of a folder Parquet, or else JSON lines, or else text.

    What begins with a dot or an underscore is none, nor is anything in folders not named `COLUMN=VALUE`.

    Raises:
        MissingDataError: if a folder holds none.
        DataError: if tables of several kinds lie there, or not all lie in folders of the same columns.
    """
    if not path.is_dir():
        return [Part(path)]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and _counts(file.relative_to(path))]
    kinds = (
        lambda file: file.suffix.lower() in _PARQUET,
        is_json_lines,
        lambda file: bool(_TEXT & _endings(file)),
    )
    found = next((own for kind in kinds if (own := [file for file in files if kind(file)])), [])
    if not found:
        raise MissingDataError(
            f"a folder as table must hold .parquet files, or .jsonl or .csv ones, got none in {path}; name another"
        )
    chosen = set(found)
    others = [file for file in files if file not in chosen and _TABLES & _endings(file)]
    if others:
        raise DataError(
            f"all parts of {path} must be of one kind, got {found[0].name} and {others[0].name} ({len(found)} and "
            f"{len(others)}); read each kind from a folder of its own"
        )
    folders = [[one.partition("=") for one in file.relative_to(path).parts[:-1]] for file in found]
    names = [[name for name, _, _ in own] for own in folders]
    if names.count(names[0]) < len(names):
        other = next(own for own in names if own != names[0])
        raise DataError(f"all parts of {path} must lie in folders of the same columns, got {names[0]} and {other}")
    words = [[None if value == _NOTHING else unquote(value) for _, _, value in own] for own in folders]
    columns = [_typed([own[place] for own in words]) for place in range(len(names[0]))]
    return [
        Part(file, {name: column[row] for name, column in zip(names[0], columns, strict=True)})
        for row, file in enumerate(found)
    ]


def _endings(file: Path) -> set[str]:
    """Returns the last two endings of a name, the second of which may say how it is packed."""
    return {ending.lower() for ending in file.suffixes[-2:]}


def is_hidden(relative: str) -> bool:
    """Returns whether a name or a folder begins as those that readers of Parquet pass over, as Spark's `_temporary`."""
    return any(part.startswith((".", "_")) for part in Path(relative).parts)


def _counts(relative: Path) -> bool:
    return not is_hidden(str(relative)) and all("=" in folder and folder[0] != "=" for folder in relative.parts[:-1])


def _typed(words: list[str | None]) -> pa.Array:
    """Returns words as whole numbers where all are written as one would write those, else as text."""
    text = pa.array(words, pa.string())
    try:
        numbers = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return text
    return numbers if numbers.cast(pa.string()).equals(text) else text
