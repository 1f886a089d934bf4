"""An interaction log as a folder: one `.npy` file per column, memory-mapped on reading, and a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recgym import ids
from recgym.errors import StoreError
from recgym.log.columns import LogColumns
from recgym.storage import store

KIND = "log"
VERSION = 1
_SINGLE = ("items", "rewards", "offsets", "user_ids", "item_ids", "times", "propensities", "titles")
_AGAIN = "it is damaged, save the log again"
_MOST = 1 << 32  # bytes of a column of objects at most
_GROUPS = ("extra", "users", "item_features")


def save_log(log: LogColumns, folder: Path) -> None:
    """Writes a log as one folder; see `InteractionLog.save`."""
    columns = {name: getattr(log, name) for name in _SINGLE if getattr(log, name) is not None}
    columns |= {f"{group}/{name}": column for group in _GROUPS for name, column in getattr(log, group).items()}
    about = {"name": log.name, "reward": log.reward, "reward_range": log.reward_range, "source": dict(log.source)}
    save_columns(columns, about | ({"is_tail": True} if log.is_tail else {}), folder)


def save_columns(columns: Mapping[str, np.ndarray | Path], about: Mapping[str, Any], folder: Path) -> None:
    """Writes the columns of a log as one folder; a column that is a path is a `.npy` file, which is moved there.

    Args:
        columns: By name, as in `InteractionLog`; those of groups as `"extra/NAME"`.
        about: Name, reward transform and reward range of the log.
        folder: What `open_log` shall read.

    Raises:
        StoreError: if the folder cannot be written to, or holds anything but what recgym wrote.
    """
    with store.atomic_folder(folder) as target:
        stems = [f"{number:02d}" for number in range(len(columns))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            written = pool.map(partial(_write_column, target), stems, columns.values())
            files = dict(zip(columns, written, strict=True))
        store.write_manifest(target, KIND, VERSION, {**about, "columns": files})


def open_log(folder: Path) -> dict[str, Any]:
    """Returns the attributes of the `InteractionLog` in a folder, its `.npy` columns memory-mapped.

    Raises:
        StoreError: if the folder holds no log, or a damaged one; of more than 1 GiB, `store.verify` sees changed bytes.
    """
    manifest = store.read_manifest(folder, KIND, VERSION, full=None)
    about = manifest["about"]
    with store.readable(folder, "hold the columns of a log", _AGAIN):
        arguments: dict[str, Any] = dict.fromkeys(_SINGLE) | {group: {} for group in _GROUPS}
        for name, file in about["columns"].items():
            if file not in manifest["files"]:
                raise StoreError(f"{folder} must list all its columns, got {file!r} that it does not list; {_AGAIN}")
            group, _, inner = name.partition("/")
            column = _read_column(folder / file)
            if inner:
                arguments[group][inner] = column
            else:
                arguments[name] = column
        low, high = about["reward_range"]
        plain = {"name": about["name"], "reward": about["reward"], "is_tail": about.get("is_tail", False)}
        plain["content"] = _hash({"about": about, "files": manifest["files"]})
        return arguments | plain | {"source": about.get("source", {}), "reward_range": (low, high)}


def _write_column(folder: Path, stem: str, column: np.ndarray | Path) -> str:
    if isinstance(column, Path):
        column.rename(folder / f"{stem}.npy")
        return f"{stem}.npy"
    if column.dtype == object:
        text = json.dumps(ids.to_json(column), ensure_ascii=False)
        (folder / f"{stem}.json").write_text(text, encoding="utf-8")
        return f"{stem}.json"
    store.save_array(folder / f"{stem}.npy", column)  # synced here, so that the next column is written meanwhile
    return f"{stem}.npy"


def _read_column(path: Path) -> np.ndarray:
    with store.readable(path, "be a readable column", _AGAIN):
        if path.suffix == ".json":
            return ids.from_json(store.read_json(path, _MOST))
        return np.lib.format.open_memmap(path, mode="r")  # np.load opens zips too; neither unpickles


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
