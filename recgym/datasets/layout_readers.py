"""Files of events that are no tables, and what describes users and items: read line by line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from recgym.datasets.tables.json_lines import is_json_lines
from recgym.errors import DataError

_ROWS = 1 << 18  # events of a block
_TYPED = re.compile(r"(.+):(token|float|token_seq|float_seq)")


@dataclass(frozen=True)
class Part:
    """A file of events."""

    pattern: str  # its name, with * where names differ; "{category}" is an option of the layout
    columns: Mapping[str, str]  # "user", "item", "reward", "time" and further event columns -> name in the file
    names: tuple[str, ...] = ()  # of all columns, where the file has no header line
    behaviour: str = ""  # of all its events, where only the file's name tells it
    read: Callable[[Path], Iterator[pa.Table]] | None = None  # of files that are no tables: yields our columns


@dataclass(frozen=True)
class Side:
    """A file that describes items or users, which may be absent."""

    pattern: str
    key: str  # column of ids
    title: str | None = None
    features: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # as of `Part`
    separator: str | None = None  # None: that of the events


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """Opens a file for reading, unpacked."""
    return pa.input_stream(str(path), compression="detect")


def item_lists(path: Path) -> Iterator[pa.Table]:
    """Yields the events of a file of lines `user item item ...` (LightGCN); a line without items has none.

    Raises:
        DataError: if a field is no whole number.
    """
    users: list[int] = []
    items: list[int] = []
    for number, line in _lines(path):
        fields = line.split()
        if not all(field.isdecimal() for field in fields):
            raise _unlike(path, number, line, "hold whole numbers, a user and the items of the user")
        users += [int(fields[0])] * (len(fields) - 1) if fields else []
        items += [int(field) for field in fields[1:]]
        if len(users) >= _ROWS:
            yield pa.table({"user": users, "item": items})
            users, items = [], []
    if users:
        yield pa.table({"user": users, "item": items})


def impressions(path: Path) -> Iterator[pa.Table]:
    """Yields what was shown in a `behaviors.tsv` of MIND, a row per item, in the order of the file.

    `reward` is 1 where it was clicked, else 0; `impression` says what was shown together. What a user had read before
    the log began, which has no times, is left out.

    Raises:
        DataError: if a line has not five fields, or a field is not as published; a test set has no clicks.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("user", "item", "reward", "time", "impression")}
    for number, line in _lines(path):
        fields = line.split("\t")
        shown = [item.rpartition("-") for item in fields[-1].split()]
        if len(fields) != 5 or not fields[0].isdecimal() or not all(click in ("0", "1") for _, _, click in shown):
            raise _unlike(path, number, line, "read impression, user, time, history, and news marked -0 or -1")
        try:
            time = int(datetime.strptime(fields[2], "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=UTC).timestamp())
        except ValueError:
            raise _unlike(path, number, line, "hold a time like 11/13/2019 8:36:57 AM") from None
        n = len(shown)
        columns["user"] += [fields[1]] * n
        columns["item"] += [item for item, _, _ in shown]
        columns["reward"] += [float(click) for _, _, click in shown]
        columns["time"] += [time] * n
        columns["impression"] += [int(fields[0])] * n
        if len(columns["user"]) >= _ROWS:
            yield pa.table(columns)
            columns = {name: [] for name in columns}
    if columns["user"]:
        yield pa.table(columns)


def described(path: Path, side: Side, separator: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the columns `title` and `features` of a side file for these ids (n,), in their order.

    A whole number or number column becomes one of numbers, unless an id lacks it; else what is lacking is "" or NaN.

    Raises:
        DataError: if the file lacks a column, or a line is not as long as the first.
    """
    wanted = [name for name in (side.title, *side.features) if name is not None]
    rows = _json_rows(path, side.key, wanted) if is_json_lines(path) else _rows(path, side, separator, wanted)
    place = {str(one): index for index, one in enumerate(ids.tolist())}
    found: dict[str, list[str]] = {name: [""] * len(ids) for name in wanted}
    for key, values in rows:
        index = place.get(key)
        if index is not None:
            for name, value in zip(wanted, values, strict=True):
                found[name][index] = value
    return {name: column if name == side.title else _numbers(column) for name, column in _arrays(found).items()}


def typed_header(path: Path) -> dict[str, tuple[str, str]]:
    """Returns the columns of a RecBole file: name -> (the column as it stands in the file, its type).

    Raises:
        DataError: if a column says no type.
    """
    number, line = next(_lines(path), (1, ""))
    typed = [_TYPED.fullmatch(name) for name in line.split("\t")]
    if not all(typed):
        raise _unlike(path, number, line, "name columns with their types, as user_id:token and rating:float")
    return {match[1]: (match[0], match[2]) for match in typed if match is not None}


def recbole_part(path: Path, part: Part, given: dict[str, Any]) -> dict[str, str]:
    """Returns which columns of an `.inter` file mean what.

    Users are `user_id`, or the first token; items `item_id`, or the next token; `user=`, `item=`, `reward=` and `time=`
    of `given` say otherwise. Rewards are `rating`, or else `weight` or `count` where there is one; times `timestamp`.
    """
    header = typed_header(path)
    tokens = [name for name, (_, kind) in header.items() if kind == "token"]
    user = given.get("user") or ("user_id" if "user_id" in header else next(iter(tokens), ""))
    item = given.get("item") or (
        "item_id" if "item_id" in header else next((name for name in tokens if name != user), "")
    )
    rewards = [name for name in ("rating", "weight", "count") if name in header]
    chosen = {"user": user, "item": item, "reward": given.get("column") or next(iter(rewards), None)}
    chosen["time"] = given.get("time") or ("timestamp" if "timestamp" in header else None)
    lacking = [name for name in chosen.values() if name is not None and name not in header]
    if lacking:
        raise DataError(
            f"{path} must have columns of users and items, got {', '.join(header)}; name them by user= and item="
        )
    return {ours: header[theirs][0] for ours, theirs in chosen.items() if theirs is not None}


def _rows(path: Path, side: Side, separator: str, wanted: list[str]) -> Iterator[tuple[str, list[str]]]:
    plain = (line for _, line in _lines(path))
    if separator == ",":
        lines = csv.reader(plain, delimiter=separator)
    else:
        lines = csv.reader(plain, delimiter=separator, quoting=csv.QUOTE_NONE)
    names = list(side.names) or next(lines, [])
    lacking = [name for name in (side.key, *wanted) if name not in names]
    if lacking:
        raise DataError(f"{path} must have the columns {', '.join(lacking)}, got {', '.join(names)}; get it again")
    key, places = names.index(side.key), [names.index(name) for name in wanted]
    for number, fields in enumerate(lines, start=1 if side.names else 2):
        if len(fields) < len(names):
            raise _unlike(path, number, separator.join(fields), f"have {len(names)} fields")
        yield fields[key], [fields[place] for place in places]


def _json_rows(path: Path, key: str, wanted: list[str]) -> Iterator[tuple[str, list[str]]]:
    schema = pa.schema([(name, pa.string()) for name in (key, *wanted)])
    parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with opened(path) as file:
            for batch in arrow_json.open_json(file, arrow_json.ReadOptions(block_size=16 << 20), parse):
                for row in batch.to_pylist():
                    yield row[key] or "", [row[name] or "" for name in wanted]
    except pa.ArrowException as error:
        raise DataError(f"{path} must hold one JSON object a line, got {error}; get the file again") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, line without its end) of every line that is not blank."""
    try:
        with opened(path) as file, TextIOWrapper(file, "utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if stripped := line.rstrip("\r\n"):
                    yield number, stripped
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} must be text in utf-8, got {error}; get the file again") from error


def _arrays(found: dict[str, list[str]]) -> dict[str, np.ndarray]:
    return {name: np.array(column, dtype=str) for name, column in found.items()}


def _numbers(column: np.ndarray) -> np.ndarray:
    """Returns text (n,) as whole numbers or numbers where all of it is; an empty one is NaN."""
    for kind in (np.int64, np.float64):
        try:
            return np.where(column == "", "nan", column).astype(kind) if (column != "").any() else column
        except (ValueError, OverflowError):
            continue
    return column


def _unlike(path: Path, number: int, line: str, must: str) -> DataError:
    return DataError(f"every line of {path} must {must}, got {line[:60]!r} in line {number}; get the file again")
