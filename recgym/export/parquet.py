"""Transitions as a folder of Parquet files; pandas, polars, DuckDB, Spark and Ray Data read it.

The rows stand in a folder of their own, with nothing else in it: polars reads no folder with other files. What is
beside it begins with `_`, which pandas, Arrow and Spark pass over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.export.rows import Columns, Rows
from recgym.export.unfinished import item_ids_as_text, rebatched, unfinished
from recgym.storage import store
from recgym.storage.manifests import DISK

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "transitions"
VERSION = 2  # 1 had the parts beside items.parquet, users.parquet and manifest.json
ROWS = "rows"
_PART = 1 << 20  # rows of a file
_GROUP = 1 << 17  # rows of a row group
_PIECE = 1 << 22  # bytes read back at a time
_DIGEST = ".sha256"  # ending of the hash of a part beside it, until the export is whole


def write(rows: Rows, path: Path, catalog: Catalog | None) -> Path:
    """Writes rows as a folder of Parquet files; see `recgym.export.to_parquet`."""
    store.check_place(path)
    log, size = rows.log, predicted_size(rows, catalog)
    title = f"{path.name}, at most {size / 1e6:,.1f} MB"
    about = {"format": "parquet", "version": VERSION, "part": _PART}
    with unfinished(path, size, rows, catalog, **about) as folder:
        names: list[str] = []
        found: dict[str, str] = {}  # hashes of parts that were read back just now
        with tqdm(total=len(rows), desc=title, unit="row", unit_scale=True, disable=None) as bar:
            for number, first in enumerate(range(0, len(rows), _PART)):
                end = min(first + _PART, len(rows))
                names.append(f"part-{number:05d}.parquet")
                if not (folder / names[-1]).exists():
                    with store.atomic_file(folder / names[-1]) as file:
                        digest = _write_part(rows, first, end, file)
                        file.with_name(names[-1]).with_suffix(_DIGEST).write_text(digest, encoding="utf-8")
                    found[f"{ROWS}/{names[-1]}"] = digest
                bar.update(end - first)
        with store.atomic_folder(path) as target:
            (target / ROWS).mkdir()
            written = {}
            for name in names:
                written[f"{ROWS}/{name}"] = (folder / name).with_suffix(_DIGEST).read_text(encoding="utf-8")
                os.replace(folder / name, target / ROWS / name)
            items = {"item_id": item_ids_as_text(log.item_ids)}
            items |= {"title": log.titles.astype(object)} if log.titles is not None else {}
            items |= {"vector": catalog.embeddings} if catalog is not None else {}
            found["_items.parquet"] = _write([items], target / "_items.parquet")
            users = {"user_id": item_ids_as_text(log.user_ids)}
            found["_users.parquet"] = _write([users], target / "_users.parquet")
            told = {"name": log.name, "reward": log.reward, "n_rows": len(rows), "n_items": log.n_items}
            told |= {"scale": catalog.scale} if catalog is not None else {}
            told |= rows.options
            store.write_manifest(target, KIND, VERSION, told, written=written, found=found, name=store.HIDDEN)
    return path


def predicted_size(rows: Rows, catalog: Catalog | None) -> int:
    """Returns how many bytes the columns have; compressed files are smaller. Ids and titles are not counted."""
    total = len(rows) * sum(column.nbytes for column in rows.block(0, 1).values())
    return total + (0 if catalog is None else catalog.embeddings.nbytes)


def read(path: Path, batch_size: int, first: int = 0) -> Iterator[Columns]:
    """Yields the rows of a folder in order, `batch_size` at a time; see `recgym.export.read`."""
    version = min(store.parsed_manifest(path)["version"], VERSION, key=lambda known: known != 1)
    manifest = store.read_manifest(path, KIND, version)
    yield from rebatched(_read_parts(path, manifest["files"], batch_size, first), batch_size)


def _read_parts(path: Path, files: Mapping[str, Any], batch_size: int, first: int) -> Iterator[Columns]:
    from pyarrow import parquet

    for name in sorted(file for file in files if file.startswith((f"{ROWS}/part-", "part-"))):
        with store.readable(path / name, "be a readable part", "it is damaged, export it again"):
            store.check_file(path, name, files[name], full=True)
            with parquet.ParquetFile(path / name, page_checksum_verification=True) as part:
                if first >= part.metadata.num_rows:
                    first -= part.metadata.num_rows
                    continue
                for batch in part.iter_batches(batch_size=batch_size):
                    if first < batch.num_rows:
                        yield _columns(batch.slice(first))
                    first = max(first - batch.num_rows, 0)


def _write_part(rows: Rows, first: int, end: int, path: Path) -> str:
    """Writes rows as one file, and returns its SHA-256."""
    return _write((rows.block(row, min(row + _GROUP, end)) for row in range(first, end, _GROUP)), path)


def _write(blocks: Iterable[Mapping[str, np.ndarray]], path: Path) -> str:
    """Writes blocks of columns as the row groups of a file, and returns its SHA-256.

    The file is made in memory, so that what is read back can be compared with it: that costs a copy, not a second hash.

    Raises:
        StoreError: if another file is read back than was written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    sink, writer = pa.BufferOutputStream(), None
    for block in blocks:
        table = _table(block)
        writer = writer or parquet.ParquetWriter(sink, table.schema, write_page_checksum=True)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    made = memoryview(sink.getvalue()).cast("B")
    path.write_bytes(made)
    with open(path, "rb") as file:
        same = all(file.read(_PIECE) == made[at : at + _PIECE] for at in range(0, len(made), _PIECE))
    if not same or path.stat().st_size != len(made):
        raise StoreError(f"{path} must hold what was written, got other bytes; {DISK}")
    return hashlib.sha256(made).hexdigest()


def _table(columns: Mapping[str, np.ndarray]) -> pa.Table:
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    for name, column in columns.items():
        flat = np.ascontiguousarray(column).ravel()
        array = pa.array(flat.tolist(), pa.string()) if column.dtype.kind in "OU" else pa.array(flat)
        for size in reversed(column.shape[1:]):
            array = pa.FixedSizeListArray.from_arrays(array, size)
        arrays[name] = array
    return pa.table(arrays)


def _columns(batch: pa.RecordBatch) -> Columns:
    import pyarrow as pa

    columns = {}
    for name, flat in zip(batch.schema.names, batch.columns, strict=True):
        shape = [len(flat)]
        while pa.types.is_fixed_size_list(flat.type):
            shape, flat = [*shape, flat.type.list_size], flat.flatten()
        values = flat.to_numpy(zero_copy_only=False)
        columns[name] = (values.astype(str) if values.dtype == object else values).reshape(shape)
    return columns
