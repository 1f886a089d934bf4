"""A log as a folder of Parquet files by ranges of users, so that several machines can each serve their part.

| file | rows | columns |
|---|---|---|
| `events/part-00000.parquet` ... | events, user by user, oldest first | `user`, `item` (indices in the whole log), |
| | | `reward`, and where the log has them `time` (seconds), `propensity`, `extra/NAME` |
| `_users/part-00000.parquet` ... | the users of that part, in index order | `user_id`, `n_events`, `users/NAME` |
| `_items.parquet` | all items, in index order | `item_id`, `title`, `item_features/NAME` |

`_manifest.json` holds the log's name, reward transform and range, the NumPy type of every column, the first user of
each part, and size and SHA-256 of every file.

Parts have about equally many events. Ids and other values that are neither numbers nor text stand as JSON text. Any
Parquet reader can join events with `_items.parquet` by position: pandas and Arrow read the folder or `events`, polars
and DuckDB `events`. `InteractionLog.from_parquet` reads all or one part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym import ids
from recgym.errors import DataError, StoreError
from recgym.log.columns import LogColumns
from recgym.storage import store

if TYPE_CHECKING:
    import pyarrow as pa


KIND = "log parts"
_AGAIN = "it is damaged, write it again"
VERSION = 2  # 1 had all files beside each other, and a manifest that readers of Parquet folders did not pass over
USERS, ITEMS = "_users/part-{:05d}.parquet", "_items.parquet"
_PARTS = "events/part-{:05d}.parquet"
_FIRST = ("part-{:05d}.parquet", "users-{:05d}.parquet", "items.parquet")  # events, users and items of version 1
_EVENTS = {"items": "item", "rewards": "reward", "times": "time", "propensities": "propensity"}
_ROWS = 1 << 20  # events of a row group


def write_parts(log: LogColumns, folder: Path, n_parts: int) -> None:
    """Writes a log as `n_parts` parts; see `InteractionLog.to_parquet`.

    Raises:
        DataError: if there are not 1 to n_users parts.
        StoreError: if the folder cannot be written to, or holds anything but what recgym wrote.
    """
    if not 1 <= n_parts <= max(log.n_users, 1):
        raise DataError(
            f"n_parts must lie between 1 and {log.n_users}, the number of users, got {n_parts}; ask for fewer"
        )
    cuts = np.searchsorted(log.offsets[1:], np.arange(1, n_parts) * log.n_events / n_parts) + 1
    cuts = np.clip(cuts, np.arange(1, n_parts), log.n_users - np.arange(n_parts - 1, 0, -1))
    borders = [0, *np.maximum.accumulate(cuts).tolist(), log.n_users]
    dtypes: dict[str, str] = {}
    with store.atomic_folder(folder) as target:
        items = {"item_id": log.item_ids, **({} if log.titles is None else {"title": log.titles})}
        items |= {f"item_features/{name}": column for name, column in log.item_features.items()}
        for part, users in enumerate(pairwise(borders)):
            write_part(log, target, part, users, dtypes)
        about = {
            **{"name": log.name, "reward": log.reward, "reward_range": log.reward_range},
            **{"is_tail": log.is_tail, "source": dict(log.source)},
        }
        write_manifest_of(target, about, borders, dtypes, items)


def write_part(
    log: LogColumns, target: Path, part: int, users: tuple[int, int], dtypes: dict[str, str], n_before: int = 0
) -> None:
    """Writes one part into a folder that is being made, and the types of its columns into `dtypes`.

    Args:
        log: Where the events are.
        target: The folder.
        part: Number of the part.
        users: The first user of the log that is in it, and the one behind the last.
        dtypes: Filled.
        n_before: Users of the whole log that stand before the first of this one.
    """
    first, last = users
    columns = {"user_id": log.user_ids[first:last], "n_events": log.lengths[first:last]}
    columns |= {f"users/{name}": column[first:last] for name, column in log.users.items()}
    paths = [target / name.format(part) for name in (USERS, _PARTS)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
    _write(paths[0], columns, dtypes)
    _write_events(log, paths[1], first, last, dtypes, n_before)


def write_manifest_of(
    target: Path, about: Mapping[str, Any], first_users: list[int], dtypes: dict[str, str], items: Mapping[str, Any]
) -> None:
    """Writes items and manifest of a folder whose parts are there."""
    _write(target / ITEMS, items, dtypes)
    told = {**about, "first_users": first_users, "dtypes": dtypes}
    store.write_manifest(target, KIND, VERSION, told, name=store.HIDDEN)


def read_parts(folder: Path, part: int | None = None) -> dict[str, Any]:
    """Returns the arguments of the `InteractionLog` in a folder, or of one part of it.

    Raises:
        StoreError: if the folder holds no such log or is damaged.
        DataError: if there is no such part.
    """
    version = 1 if store.parsed_manifest(folder)["version"] == 1 else VERSION
    about = store.read_manifest(folder, KIND, version)["about"]
    with store.readable(folder, "hold the parts of a log", _AGAIN):
        n_parts = len(about["first_users"]) - 1
    if part is not None and not 0 <= part < n_parts:
        raise DataError(f"part must lie between 0 and {n_parts - 1}, got {part}; choose one of them, or None for all")
    chosen = range(n_parts) if part is None else [part]
    with store.readable(folder, "hold the parts of a log", _AGAIN):
        names = _FIRST if version == 1 else (_PARTS, USERS, ITEMS)
        events, users = (
            _read([folder / name.format(number) for number in chosen], about["dtypes"], needed)
            for name, needed in zip(names[:2], (("item", "reward"), ("user_id", "n_events")), strict=True)
        )
        items = _read([folder / names[2]], about["dtypes"], ("item_id",))
        low, high = about["reward_range"]
        return {
            **{name: events.get(column) for name, column in _EVENTS.items()},
            "offsets": np.concatenate([[0], np.cumsum(users["n_events"])]).astype(np.int64),
            "user_ids": users["user_id"],
            "item_ids": items["item_id"],
            "titles": items.get("title"),
            "extra": _group("extra", events),
            "users": _group("users", users),
            "item_features": _group("item_features", items),
            "name": about["name"],
            "reward": about["reward"],
            "is_tail": about.get("is_tail", False),
            "reward_range": (low, high),
            "source": about.get("source", {}),
        }


def _write_events(log: LogColumns, path: Path, first: int, last: int, dtypes: dict[str, str], n_before: int) -> None:
    """Writes the events of users `first` to `last`, a row group at a time."""
    from pyarrow import parquet

    columns = {_EVENTS.get(name, f"extra/{name}"): column for name, column in log.event_columns().items()}
    begin, end = int(log.offsets[first]), int(log.offsets[last])
    writer = None
    for row in range(begin, max(end, begin + 1), _ROWS):
        rows = slice(row, min(row + _ROWS, end))
        users = np.searchsorted(log.offsets, np.arange(rows.start, rows.stop), side="right") - 1
        table = _table(
            {"user": (users + n_before).astype(np.int32), **{name: column[rows] for name, column in columns.items()}},
            dtypes,
        )
        writer = writer or parquet.ParquetWriter(path, table.schema, write_page_checksum=True)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _write(path: Path, columns: Mapping[str, np.ndarray], dtypes: dict[str, str]) -> None:
    from pyarrow import parquet

    parquet.write_table(_table(columns, dtypes), path, write_page_checksum=True)


def _table(columns: Mapping[str, np.ndarray], dtypes: dict[str, str]) -> pa.Table:
    """Returns columns as an Arrow table, and writes down their NumPy types."""
    import pyarrow as pa

    arrays = {}
    for name, column in columns.items():
        dtypes[name] = column.dtype.str
        if column.dtype == object:
            arrays[name] = pa.array([json.dumps(value) for value in ids.to_json(column)], pa.string())
        elif column.ndim > 1:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
        elif column.dtype.kind == "U":
            arrays[name] = pa.array(column.tolist(), pa.string())
        else:
            arrays[name] = pa.array(np.ascontiguousarray(column))
    return pa.table(arrays)


def _read(paths: list[Path], dtypes: Mapping[str, str], needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the columns of files one after the other, the needed ones among them."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = pa.concat_tables([parquet.read_table(path, page_checksum_verification=True) for path in paths])
        columns = {name: _array(table.column(name), np.dtype(dtypes[name])) for name in table.column_names}
        if lacking := [name for name in needed if name not in columns]:
            raise ValueError(f"no column {lacking[0]!r}")
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{paths[0].parent} must hold readable parts, got {error}; it is damaged, write it again"
        ) from error
    return columns


def _array(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    import pyarrow as pa

    if dtype.kind == "O":
        return ids.from_json(json.loads(word) for word in column.to_pylist())
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)  # bits and text must be copied
        return flat.reshape(len(column), column.type.list_size).astype(dtype)
    return column.to_numpy().astype(dtype, copy=False)


def _group(group: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.partition("/")[2]: column for name, column in columns.items() if name.startswith(f"{group}/")}
