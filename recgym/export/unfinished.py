"""What an export has made so far, beside where it will stand: the same export asked for again goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError, StoreError
from recgym.export.rows import Rows
from recgym.store import atomic_file

_KEY = "export.json"


@contextmanager
def unfinished(path: Path, size: int, rows: Rows, catalog: Catalog | None, **about: Any) -> Iterator[Path]:
    """Yields the folder `.NAME.unfinished` beside `path`; what an interrupted export of the same rows left is in it.

    The folder stays if the body raises or the process dies, and goes when the body is through.

    Args:
        path: Where the export will stand.
        size: Bytes it will take, about.
        rows: What is exported.
        catalog: Item vectors that go with it.
        about: Whatever else decides what is written.

    Raises:
        StoreError: if the folder cannot be written to, or the disk has not `size` bytes left.
    """
    folder = path.with_name(f".{path.name}.unfinished")
    key = {"content": _content_hash(rows, catalog), **rows.options, **about}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _same(folder / _KEY, key):
            shutil.rmtree(folder)
            folder.mkdir()
            with atomic_file(folder / _KEY) as file:
                file.write_text(json.dumps(key), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{path.parent} must be a folder one can write to, got {error}; choose another place"
        ) from error
    there = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free + there
    if size > free:
        raise StoreError(
            f"{path.parent} must have room for the export, got {free / 1e6:,.0f} MB free for about {size / 1e6:,.0f} "
            "MB; choose another place or the compact form"
        )
    yield folder
    shutil.rmtree(folder)


def needed(module: str, extra: str) -> Any:
    """Returns an optional library.

    Raises:
        DataError: if it is not installed, naming the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(
            f'this format needs {module}, got no such library ({error}); pip install "recgym[{extra}]"'
        ) from error


def item_ids_as_text(ids: np.ndarray) -> np.ndarray:
    """Returns ids (n,) as they are if they are numbers, else as text, objects as JSON."""
    from recgym.ids import to_json

    if ids.dtype.kind in "biuf":
        return ids
    return np.array([json.dumps(one) for one in to_json(ids)] if ids.dtype == object else ids.tolist(), dtype=object)


def _same(file: Path, key: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")) == key)
    except (OSError, ValueError):
        return False


def _content_hash(rows: Rows, catalog: Catalog | None) -> str:
    """Returns a hash of everything that is written."""
    digest = hashlib.sha256()
    columns = {**rows.log.event_columns(), "offsets": rows.log.offsets}
    columns |= {"table": catalog.table} if catalog is not None else {}
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).data.cast("B") if column.size else b"")
    return digest.hexdigest()
