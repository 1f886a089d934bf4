"""Transitions as one HDF5 file, as indices or as state vectors; any HDF5 reader opens it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.export.hdf5_files import opened, other_values, proved, writing
from recgym.export.rows import Columns, Rows, next_frame
from recgym.export.unfinished import item_ids_as_text, needed, rebatched, unfinished
from recgym.frames import encode_frame
from recgym.storage.disk import sync, sync_folder
from recgym.storage.manifests import DISK, read_json, readable
from recgym.storage.store import atomic_file

_log = logging.getLogger("recgym")

VERSION = 1
_BLOCK = 1 << 24  # bytes made at a time
_COMMIT = 1 << 28  # bytes after which what is written so far is made safe
_SUMS = 8192  # checksums of a column at most: an attribute of HDF5 has 64 kB
_NEXT = "items[:, 1:] and action; rewards[:, 1:] and reward"


def write(rows: Rows, path: Path, catalog: Catalog | None, *, states: bool) -> Path:
    """Writes rows as an HDF5 file, as state vectors or as indices; see `recgym.export.to_hdf5` and `to_compact`."""
    h5py = needed("h5py", "hdf5")
    size = predicted_size(rows, catalog, states=states)
    table = catalog.table if states and catalog is not None else None
    if path.is_dir():
        raise StoreError(f"an HDF5 export is a file, got the folder {path}; give a name in it")
    with unfinished(path, size, rows, catalog, format="hdf5", states=states, version=VERSION, sums=1) as folder:
        file, mark = folder / "data.h5", folder / "rows"
        step, first = _step(rows, table), _formed(rows.block(0, 1), table)
        sums = _resumed(h5py, file, mark, step)
        if sums is None:
            _lay_out(h5py, file, rows, catalog, first)
            sums = {name: [] for name in first}
            _set_mark(mark, 0, sums)
        _fill(h5py, file, mark, rows, table, step, sums, f"{path.name}, {size / 1e6:,.1f} MB")
        _seal(h5py, file, rows, catalog, sums, step)
        os.replace(file, path)
        sync_folder(path.parent)
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
    with opened(h5py, path) as file:
        n_rows, sums, step = _described(file, path)
        yield from rebatched(_read_blocks(file, path, n_rows, sums, step or batch_size, first), batch_size)


def verify(path: Path) -> None:
    """Reads all of a file and compares it with its checksums; see `recgym.export.verify`."""
    for _ in read(path, 1 << 20):
        pass
    with opened(needed("h5py", "hdf5"), path) as file:
        for name in ("item_ids", "user_ids", "embeddings"):
            if name in file and file[name].attrs.get("sha256", "") not in ("", _table_hash(file[name][()])):
                raise StoreError(f"{path} must hold what was written, got other {name}; it is damaged, export it again")


def _described(file: Any, path: Path) -> tuple[int, dict[str, np.ndarray] | None, int]:
    """Returns the number of rows, the checksums of every column and the rows of a checksum; none of an older file."""
    if file.attrs.get("format") != "recgym transitions" or file.attrs["version"] != VERSION:
        found = f"{file.attrs.get('format')!r} version {file.attrs.get('version')!r}"
        raise StoreError(f"{path} must hold 'recgym transitions' version {VERSION}, got {found}; export it again")
    n_rows = int(file.attrs["n_rows"])
    if "seal" not in file.attrs:
        return n_rows, None, 0
    if file.attrs["seal"] != _seal_of(file):
        raise StoreError(f"{path} must describe what was written, got a changed description; export it again")
    names = file.attrs["columns"].split()
    return n_rows, {name: file[name].attrs["crc32"] for name in names}, int(file.attrs["checked_rows"])


def _read_blocks(
    file: Any, path: Path, n_rows: int, sums: Mapping[str, Any] | None, step: int, first: int
) -> Iterator[Columns]:
    for number in range(first // step, -(-n_rows // step)):
        begin, end = number * step, min(number * step + step, n_rows)
        columns = {}
        for name in file.attrs["columns"].split():
            stored = file[name][begin:end]
            if sums is not None and zlib.crc32(np.ascontiguousarray(stored).data) != sums[name][number]:
                raise other_values(path, name, begin, end)
            columns[name] = _loaded(stored)[max(first - begin, 0) :]
        yield columns


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


def _step(rows: Rows, table: np.ndarray | None) -> int:
    """Returns how many rows are made at a time and have one checksum; HDF5 has room for `_SUMS` of a column."""
    width = sum(column.nbytes for column in _formed(rows.block(0, 1), table).values())
    return max(_BLOCK // width, -(-len(rows) // _SUMS), 1)


def _lay_out(h5py: Any, path: Path, rows: Rows, catalog: Catalog | None, first: Columns) -> None:
    """Makes the file with every column at its full length, contiguous, so that filling it changes no structure."""
    with writing(h5py, path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        for name, column in first.items():
            space = h5py.h5s.create_simple((len(rows), *column.shape[1:]))
            kind = h5py.h5t.py_create(_stored(column).dtype, logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=plan, lcpl=links)
        tables = {name: file.create_dataset(name, data=values) for name, values in _tables(rows, catalog).items()}
        for name, values in _tables(rows, catalog).items():
            tables[name].attrs["sha256"] = _table_hash(values)
        if catalog is not None:
            tables["embeddings"].attrs["scale"] = catalog.scale
        for made in tables.values():  # what is written when one dies fails without a word
            made.flush()
        file.attrs.update(_about(rows, first))
    sync(path)


def _tables(rows: Rows, catalog: Catalog | None) -> dict[str, np.ndarray]:
    """Returns what stands in the file once: ids, and vectors where there are any."""
    tables = {"item_ids": item_ids_as_text(rows.log.item_ids), "user_ids": item_ids_as_text(rows.log.user_ids)}
    return tables | ({} if catalog is None else {"embeddings": catalog.table})


def _about(rows: Rows, first: Iterable[str]) -> dict[str, Any]:
    """Returns the attributes of the file."""
    log = rows.log
    about = {"format": "recgym transitions", "version": VERSION, "columns": " ".join(first), **rows.options}
    about |= {"n_rows": len(rows), "n_items": log.n_items, "log": log.name, "reward": log.reward}
    return about if "state" in first or "next_items" in first else about | {"next": _NEXT}


def _fill(
    h5py: Any, path: Path, mark: Path, rows: Rows, table: Any, step: int, sums: dict[str, list[int]], title: str
) -> None:
    """Writes the rows that are missing, and compares every block with what is in the file before it is marked."""
    width = sum(column.nbytes for column in _formed(rows.block(0, 1), table).values())
    begun = len(next(iter(sums.values()))) * step
    with (
        tqdm(total=len(rows), initial=begun, desc=title, unit="row", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(1) as helping,  # it sums and reads back while the next block is made
    ):
        while begun < len(rows):
            pending, proof = 0, None
            with writing(h5py, path, "r+") as file, open(path, "rb", buffering=0) as there:
                columns = {name: file[name] for name in sums}
                places = {name: column.id.get_offset() for name, column in columns.items()}
                while begun < len(rows) and pending < _COMMIT:
                    end = min(begun + step, len(rows))
                    made = _formed(rows.block(begun, end), table)
                    made = {name: np.ascontiguousarray(_stored(column)) for name, column in made.items()}
                    for name, column in made.items():
                        columns[name][begun:end] = column
                        columns[name].flush()  # what is written when it dies fails without a word
                    _add(sums, proof)  # so that two blocks are held at most
                    proof = helping.submit(proved, path, there, places, made, begun)
                    bar.update(end - begun)
                    pending += (end - begun) * width
                    begun = end
                _add(sums, proof)
            sync(path)
            _set_mark(mark, begun, sums)


def _add(sums: Mapping[str, list[int]], proof: Future[dict[str, int]] | None) -> None:
    for name, checksum in (proof.result() if proof else {}).items():
        sums[name].append(checksum)


def _resumed(h5py: Any, path: Path, mark: Path, step: int) -> dict[str, list[int]] | None:
    """Returns the checksums of all that an interrupted export wrote; None if there is nothing, or it is damaged."""
    if not mark.exists():
        return None
    try:
        with readable(mark, "be the mark of an export", "it is begun anew"):
            kept = read_json(mark)
            n_rows, sums = int(kept["rows"]), {name: [int(one) for one in kept["sums"][name]] for name in kept["sums"]}
        with opened(h5py, path) as file:
            for _ in _read_blocks(file, path, n_rows, sums, step, 0):
                pass
    except StoreError as error:
        _log.warning("what an interrupted export left is damaged, the export begins anew: %s", error)
        return None
    return sums


def _seal(h5py: Any, path: Path, rows: Rows, catalog: Catalog | None, sums: dict[str, list[int]], step: int) -> None:
    """Writes the checksums into the file, and compares all of it that is not rows with what was to be written."""
    with writing(h5py, path, "r+") as file:
        for name, some in sums.items():
            file[name].attrs["crc32"] = np.array(some, dtype=np.uint32)
        file.attrs["checked_rows"] = step
        file.attrs["seal"] = _seal_of(file)
    sync(path)
    with opened(h5py, path) as file:
        _described(file, path)
        tables = _tables(rows, catalog)
        wrong = [name for name in tables if _table_hash(file[name][()]) != _table_hash(tables[name])]
        wrong += [name for name, some in sums.items() if file[name].attrs["crc32"].tolist() != some]
        wrong += [name for name, value in _about(rows, sums).items() if file.attrs[name] != value]
    if wrong:
        raise StoreError(f"{path} must hold what was written, got other {', '.join(wrong)}; {DISK}")


def _seal_of(file: Any) -> str:
    """Returns a SHA-256 of all attributes, types and shapes in a file: what says how its bytes are to be read."""

    def plain(attributes: Any) -> dict[str, Any]:
        return {name: np.asarray(value).tolist() for name, value in sorted(attributes.items()) if name != "seal"}

    told: dict[str, Any] = {"": plain(file.attrs)}
    for name in [*file.attrs["columns"].split(), *({"item_ids", "user_ids", "embeddings"} & set(file))]:
        told[name] = [str(file[name].dtype), list(file[name].shape), plain(file[name].attrs)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _table_hash(values: np.ndarray) -> str:
    if values.dtype.kind == "O":
        listed = [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in values.tolist()]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _stored(column: np.ndarray) -> np.ndarray:
    """Returns a column as HDF5 takes it: text as UTF-8 of four bytes a character."""
    if column.dtype.kind != "U":
        return column
    kind = needed("h5py", "hdf5").string_dtype("utf-8", max(column.dtype.itemsize, 4))
    return np.char.encode(column, "utf-8").astype(kind)


def _loaded(column: np.ndarray) -> np.ndarray:
    return np.char.decode(column.astype(f"S{column.dtype.itemsize}"), "utf-8") if column.dtype.kind == "S" else column


def _set_mark(mark: Path, rows: int, sums: Mapping[str, list[int]]) -> None:
    with atomic_file(mark) as file:
        file.write_text(json.dumps({"rows": rows, "sums": sums}), encoding="utf-8")
