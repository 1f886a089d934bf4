"""Transitions as a folder of Parquet files; pandas, polars, DuckDB, Spark and Ray Data read it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from recgym import store
from recgym.catalog import Catalog
from recgym.export.rows import Columns, Rows
from recgym.export.unfinished import item_ids_as_text, unfinished

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "transitions"
VERSION = 1
_PART = 1 << 20  # rows of a file
_GROUP = 1 << 17  # rows of a row group


def write(rows: Rows, path: Path, catalog: Catalog | None) -> Path:
    """Writes rows as a folder of Parquet files; see `recgym.export.to_parquet`."""
    store.check_place(path)
    log, size = rows.log, predicted_size(rows, catalog)
    title = f"{path.name}, at most {size / 1e6:,.1f} MB"
    with unfinished(path, size, rows, catalog, format="parquet", version=VERSION, part=_PART) as folder:
        names = []
        with tqdm(total=len(rows), desc=title, unit="row", unit_scale=True, disable=None) as bar:
            for number, first in enumerate(range(0, len(rows), _PART)):
                end = min(first + _PART, len(rows))
                names.append(f"part-{number:05d}.parquet")
                if not (folder / names[-1]).exists():
                    with store.atomic_file(folder / names[-1]) as file:
                        _write_part(rows, first, end, file)
                bar.update(end - first)
        with store.atomic_folder(path) as target:
            items = {"item_id": item_ids_as_text(log.item_ids)}
            items |= {"title": log.titles.astype(object)} if log.titles is not None else {}
            items |= {"vector": catalog.embeddings} if catalog is not None else {}
            _write(items, target / "items.parquet")
            _write({"user_id": item_ids_as_text(log.user_ids)}, target / "users.parquet")
            for name in names:
                os.replace(folder / name, target / name)
            about = {"name": log.name, "reward": log.reward, "n_rows": len(rows), "n_items": log.n_items}
            about |= {"scale": catalog.scale} if catalog is not None else {}
            store.write_manifest(target, KIND, VERSION, {**about, **rows.options})
    return path


def predicted_size(rows: Rows, catalog: Catalog | None) -> int:
    """Returns how many bytes the columns have; compressed files are smaller. Ids and titles are not counted."""
    total = len(rows) * sum(column.nbytes for column in rows.block(0, 1).values())
    return total + (0 if catalog is None else catalog.embeddings.nbytes)


def read(path: Path, batch_size: int, first: int = 0) -> Iterator[Columns]:
    """Yields the rows of a folder in order, `batch_size` at a time; see `recgym.export.read`."""
    import pyarrow as pa
    from pyarrow import dataset

    store.read_manifest(path, KIND, VERSION)
    parts = dataset.dataset(sorted(str(file) for file in path.glob("part-*.parquet")), format="parquet")
    waiting: list[pa.Table] = []
    n_waiting = 0
    for batch in parts.to_batches(batch_size=batch_size, batch_readahead=1, fragment_readahead=1):
        skipped = min(first, batch.num_rows)
        first -= skipped
        waiting.append(pa.Table.from_batches([batch.slice(skipped)]))
        n_waiting += batch.num_rows - skipped
        while n_waiting >= batch_size:
            table = pa.concat_tables(waiting)
            yield _columns(table.slice(0, batch_size))
            waiting, n_waiting = [table.slice(batch_size)], n_waiting - batch_size
    if n_waiting:
        yield _columns(pa.concat_tables(waiting))


def _write_part(rows: Rows, first: int, end: int, path: Path) -> None:
    from pyarrow import parquet

    writer = None
    for row in range(first, end, _GROUP):
        table = _table(rows.block(row, min(row + _GROUP, end)))
        writer = writer or parquet.ParquetWriter(path, table.schema, write_page_checksum=True)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _write(columns: Mapping[str, np.ndarray], path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(_table(columns), path, write_page_checksum=True)


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


def _columns(table: pa.Table) -> Columns:
    import pyarrow as pa

    columns = {}
    for name in table.column_names:
        column = table.column(name)
        shape, flat = [len(column)], column.combine_chunks()
        while pa.types.is_fixed_size_list(flat.type):
            shape, flat = [*shape, flat.type.list_size], flat.flatten()
        values = flat.to_numpy(zero_copy_only=False)
        columns[name] = (values.astype(str) if values.dtype == object else values).reshape(shape)
    return columns
