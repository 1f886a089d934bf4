"""What an export has made so far, beside where it will stand: the same export asked for again goes on from there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError, StoreError
from recgym.export.rows import Columns, Rows
from recgym.log import InteractionLog
from recgym.storage.locks import locked
from recgym.storage.store import atomic_file, explained

_KEY = "export.json"
_OWN = re.compile(r"export\.json|data\.h5|rows|part-\d+(\.parquet|\.sha256)?|\..*\.recgym-(tmp|old)")


@contextmanager
def unfinished(path: Path, size: int, rows: Rows, catalog: Catalog | None, **about: Any) -> Iterator[Path]:
    """Yields what `begun` does for an export of rows.

    Args:
        path: Where the export will stand.
        size: Bytes it will take, about.
        rows: What is exported.
        catalog: Item vectors that go with it.
        about: Whatever else decides what is written.
    """
    with begun(path, size, {"content": content_hash(rows.log, catalog), **rows.options, **about}) as folder:
        yield folder


@contextmanager
def begun(path: Path, size: int, key: dict[str, Any]) -> Iterator[Path]:
    """Yields the folder `.NAME.unfinished` beside `path`; what an interrupted work of the same key left is in it.

    The folder stays if the body raises or the process dies, and goes when the body is through.

    Args:
        path: Where the export will stand.
        size: Bytes it will take, about.
        key: All that decides what is written, as JSON values.

    Raises:
        StoreError: if the folder cannot be written to, another export to this place is at work, something that is not
            recgym's is in the way, the disk has not `size` bytes left, or a library could not write.
    """
    folder = path.with_name(f".{path.name}.unfinished")
    busy = f"another export to {path} is at work"
    with locked(folder.with_suffix(".lock"), wait=False, held=busy), explained(path.parent, "choose another place"):
        _begun(folder, key)
        there = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
        free = shutil.disk_usage(folder).free + there
        if size > free:
            raise StoreError(
                f"{path.parent} must have room for the export, got {free / 1e6:,.0f} MB free for about "
                f"{size / 1e6:,.0f} MB; choose another place or the compact form"
            )
        try:
            yield folder
        except RuntimeError as error:  # so h5py says that a file could not be closed
            raise StoreError(f"{path} must be written whole, got {error}; export again, or to another place") from error
        shutil.rmtree(folder)


def _begun(folder: Path, key: dict[str, Any]) -> None:
    """Makes the folder ready for the export of this key; what is left of another one goes."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = sorted(file.name for file in folder.iterdir() if not _OWN.fullmatch(file.name))
    if foreign:
        raise StoreError(
            f"{folder} must hold nothing but an export that was interrupted, got {foreign[0]!r} in it; move it away"
        )
    if _same(folder / _KEY, key):
        return
    shutil.rmtree(folder)
    folder.mkdir()
    with atomic_file(folder / _KEY) as file:
        file.write_text(json.dumps(key), encoding="utf-8")


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


def rebatched(blocks: Iterable[Columns], batch_size: int) -> Iterator[Columns]:
    """Yields the rows of blocks of any length, `batch_size` at a time; the last may have fewer."""
    waiting: list[Columns] = []
    n_waiting = 0
    for block in blocks:
        waiting.append(block)
        n_waiting += len(next(iter(block.values())))
        if n_waiting < batch_size:
            continue
        whole = {name: np.concatenate([one[name] for one in waiting]) if waiting[1:] else block[name] for name in block}
        end = n_waiting - n_waiting % batch_size
        for row in range(0, end, batch_size):
            yield {name: column[row : row + batch_size] for name, column in whole.items()}
        waiting, n_waiting = [{name: column[end:] for name, column in whole.items()}], n_waiting - end
    if n_waiting:
        yield {name: np.concatenate([one[name] for one in waiting]) for name in waiting[0]}


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


def content_hash(log: InteractionLog, catalog: Catalog | None) -> str:
    """Returns a hash of the columns of a log, and of the vectors of a catalog."""
    digest = hashlib.sha256()
    columns = {**log.event_columns(), "offsets": log.offsets}
    columns |= {"table": catalog.table} if catalog is not None else {}
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).data.cast("B") if column.size else b"")
    return digest.hexdigest()
