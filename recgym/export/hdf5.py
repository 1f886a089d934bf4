"""Transitions as one HDF5 file, as indices or as state vectors; any HDF5 reader opens it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.export.rows import Columns, Rows, next_frame
from recgym.export.unfinished import item_ids_as_text, needed, unfinished
from recgym.frames import encode_frame
from recgym.store import atomic_file

VERSION = 1
_BLOCK = 1 << 24  # bytes made at a time
_COMMIT = 1 << 28  # bytes after which what is written so far is made safe
_NEXT = "items[:, 1:] and action; rewards[:, 1:] and reward"


def write(rows: Rows, path: Path, catalog: Catalog | None, *, states: bool) -> Path:
    """Writes rows as an HDF5 file, as state vectors or as indices; see `recgym.export.to_hdf5` and `to_compact`."""
    h5py = needed("h5py", "hdf5")
    size = predicted_size(rows, catalog, states=states)
    table = catalog.table if states and catalog is not None else None
    if path.is_dir():
        raise StoreError(f"an HDF5 export is a file, got the folder {path}; give a name in it")
    with unfinished(path, size, rows, catalog, format="hdf5", states=states, version=VERSION) as folder:
        file, mark = folder / "data.h5", folder / "rows"
        if not mark.exists():
            _lay_out(h5py, file, rows, catalog, _formed(rows.block(0, 1), table))
            _set_mark(mark, 0)
        begun = int(mark.read_text(encoding="utf-8"))
        _fill(h5py, file, mark, rows, table, begun, f"{path.name}, {size / 1e6:,.1f} MB")
        os.replace(file, path)
    return path


def predicted_size(rows: Rows, catalog: Catalog | None, *, states: bool) -> int:
    """Returns how many bytes the file will have, to within a few kilobytes; ids that are text are not counted."""
    table = catalog.table if states and catalog is not None else None
    first = _formed(rows.block(0, 1), table)
    total = len(rows) * sum(_stored(column).nbytes for column in first.values())
    numbers = [ids.nbytes for ids in (rows.log.item_ids, rows.log.user_ids) if ids.dtype.kind in "biuf"]
    return total + sum(numbers) + (0 if catalog is None else catalog.table.nbytes)


def read(path: Path, batch_size: int, first: int = 0) -> Iterator[Columns]:
    """Yields the rows of a file in order, `batch_size` at a time; see `recgym.export.read`."""
    h5py = needed("h5py", "hdf5")
    with _opened(h5py, path) as file:
        if file.attrs.get("format") != "recgym transitions" or file.attrs["version"] != VERSION:
            found = f"{file.attrs.get('format')!r} version {file.attrs.get('version')!r}"
            raise StoreError(f"{path} must hold 'recgym transitions' version {VERSION}, got {found}; export it again")
        names = file.attrs["columns"].split()
        for row in range(first, int(file.attrs["n_rows"]), batch_size):
            yield {name: _loaded(file[name][row : row + batch_size]) for name in names}


def _formed(columns: Columns, table: np.ndarray | None) -> Columns:
    """Returns the columns to write: indices as they are, or vectors in their place if there is a table."""
    if table is None:
        return columns
    next_items, next_rewards = next_frame(columns)
    vectors = {
        "state": encode_frame(table, columns["items"], columns["rewards"]),
        "action": table[columns["action"]],
        "next_state": encode_frame(table, next_items, next_rewards),
        "item": columns["action"],
    }
    replaced = ("items", "rewards", "next_items", "next_rewards", "action")
    return vectors | {name: column for name, column in columns.items() if name not in replaced}


def _lay_out(h5py: Any, path: Path, rows: Rows, catalog: Catalog | None, first: Columns) -> None:
    """Makes the file with every column at its full length, contiguous, so that filling it changes no structure."""
    log = rows.log
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        for name, column in first.items():
            space = h5py.h5s.create_simple((len(rows), *column.shape[1:]))
            made = h5py.h5t.py_create(_stored(column).dtype, logical=True)
            h5py.h5d.create(file.id, name.encode(), made, space, dcpl=plan, lcpl=links)
        file["item_ids"], file["user_ids"] = item_ids_as_text(log.item_ids), item_ids_as_text(log.user_ids)
        if catalog is not None:
            file["embeddings"] = catalog.table
            file["embeddings"].attrs["scale"] = catalog.scale
        file.attrs.update({"format": "recgym transitions", "version": VERSION, "columns": " ".join(first)})
        file.attrs.update({"n_rows": len(rows), "n_items": log.n_items, "log": log.name, "reward": log.reward})
        file.attrs.update(rows.options)
        if "state" not in first and "next_items" not in first:
            file.attrs["next"] = _NEXT
    _sync(path)


def _fill(h5py: Any, path: Path, mark: Path, rows: Rows, table: Any, begun: int, title: str) -> None:
    width = sum(column.nbytes for column in _formed(rows.block(0, 1), table).values())
    step = max(_BLOCK // width, 1)
    pending = 0
    with tqdm(total=len(rows), initial=begun, desc=title, unit="row", unit_scale=True, disable=None) as bar:
        while begun < len(rows):
            with h5py.File(path, "r+") as file:
                while begun < len(rows) and pending < _COMMIT:
                    end = min(begun + step, len(rows))
                    for name, column in _formed(rows.block(begun, end), table).items():
                        file[name][begun:end] = _stored(column)
                    bar.update(end - begun)
                    pending += (end - begun) * width
                    begun = end
            _sync(path)
            _set_mark(mark, begun)
            pending = 0


def _stored(column: np.ndarray) -> np.ndarray:
    """Returns a column as HDF5 takes it: text as UTF-8 of four bytes a character."""
    if column.dtype.kind != "U":
        return column
    kind = needed("h5py", "hdf5").string_dtype("utf-8", max(column.dtype.itemsize, 4))
    return np.char.encode(column, "utf-8").astype(kind)


def _loaded(column: np.ndarray) -> np.ndarray:
    return np.char.decode(column.astype(f"S{column.dtype.itemsize}"), "utf-8") if column.dtype.kind == "S" else column


@contextmanager
def _opened(h5py: Any, path: Path) -> Iterator[Any]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StoreError(f"{path} must be a readable HDF5 file, got {error}; export it again") from error
    with file:
        yield file


def _set_mark(mark: Path, rows: int) -> None:
    with atomic_file(mark) as file:
        file.write_text(str(rows), encoding="utf-8")


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
