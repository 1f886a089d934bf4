"""Logged decisions for other people's software: HDF5, Parquet and Minari, value for value what the log holds.

| function | what it writes | bytes a decision, F=10, d=128 |
|---|---|---|
| `to_compact` | one HDF5 file of item indices and rewards, with the table of item vectors once | 98 |
| `to_hdf5` | one HDF5 file of state, action and next-state vectors, as old static data sets have it | 10,850 |
| `to_parquet` | a folder of Parquet files with the columns of `to_compact` | 98 before compression |
| `to_minari` | a Minari dataset, one episode per user, observations a Dict of indices | 94, and 18 kB an episode |

`Rows` says what the columns are. Every export shows its predicted size and a progress bar, is read back and takes its
name only when it is whole and right, and, interrupted, goes on where it stopped when it is asked for again. The log is
read a block at a time, so that one mapped from disk needs no memory. `read` checks what it reads against the checksums
that were written with it, `verify` all of an export.

Example:
    >>> import tempfile
    >>> log = InteractionLog.from_events([1] * 5, [10, 20, 30, 40, 50], [1, 2, 3, 4, 5])
    >>> path = to_parquet(log, Path(tempfile.mkdtemp()) / "transitions", frame_size=3)
    >>> batch = next(read(path))
    >>> batch["items"].tolist(), batch["action"].tolist(), batch["truncated"].tolist()
    ([[0, 1, 2], [1, 2, 3]], [3, 4], [False, True])
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.export import episodes, hdf5, parquet
from recgym.export.rows import Columns, Rows, next_frame
from recgym.log import InteractionLog
from recgym.options import check_choice, check_sizes
from recgym.storage import store

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

__all__ = [
    "FORMATS",
    "Rows",
    "next_frame",
    "predicted_size",
    "read",
    "to_compact",
    "to_hdf5",
    "to_minari",
    "to_parquet",
    "verify",
]
FORMATS = ("compact", "hdf5", "parquet", "minari")


def to_hdf5(log: InteractionLog, path: str | Path, catalog: Catalog, **options: Any) -> Path:
    """Writes every decision as vectors into one HDF5 file, and returns its path.

    Datasets, N rows each, contiguous: `state` and `next_state` (N, F*(d+1)), laid out as `encode_frame` says, `action`
    (N, d) or (N, k, d), `reward`, `terminated`, `truncated`, `user`, `step`, `item` (its index), and further columns of
    `Rows`; beside them `embeddings` (n_items + 1, d), `item_ids` and `user_ids`.

    Args:
        log: Where the decisions come from.
        path: The file; an earlier one is replaced when the new one is whole.
        catalog: The items, in the index order of the log.
        options: Of `Rows`: `frame_size`, `min_history`, `end_of_log`.

    Raises:
        DataError: as `Rows` does, if the catalog is of other items, or if h5py is missing.
        StoreError: if the place cannot be written to or has no room.
    """
    return hdf5.write(_rows(log, catalog, options), Path(path), catalog, states=True)


def to_compact(log: InteractionLog, path: str | Path, catalog: Catalog | None = None, **options: Any) -> Path:
    """Writes every decision as indices into one HDF5 file, and returns its path.

    Datasets are the columns of `Rows`, N rows each, contiguous; beside them `item_ids`, `user_ids` and, with a catalog,
    `embeddings` (n_items + 1, d), whose last row is padding. Arguments and errors are those of `to_hdf5`.
    """
    return hdf5.write(_rows(log, catalog, options), Path(path), catalog, states=False)


def to_parquet(log: InteractionLog, path: str | Path, catalog: Catalog | None = None, **options: Any) -> Path:
    """Writes every decision as indices into a folder of Parquet files, and returns the folder.

    `rows/part-00000.parquet` ... hold the columns of `Rows`: pandas and Arrow read the folder or `rows`, polars and
    DuckDB `rows`. `_items.parquet` holds id, title and vector of every item, in index order, `_users.parquet` the ids,
    `_manifest.json` sizes and hashes. Arguments and errors are those of `to_hdf5`.
    """
    return parquet.write(_rows(log, catalog, options), Path(path), catalog)


def to_minari(
    log: InteractionLog,
    root: str | Path,
    dataset_id: str,
    catalog: Catalog | None = None,
    *,
    env: str | EnvSpec | None = None,
    **options: Any,
) -> Path:
    """Writes every user's decisions as an episode of a Minari dataset, and returns its folder.

    Observations are a Dict of `items` and `rewards` (F,), as those of an environment with `observation="history"`;
    actions are item indices, or slates; infos hold the further columns of `Rows`, zero at the reset; an episode's
    `options` name its user. Item vectors go into `embeddings.npy` beside the data, their hash into the description.

    Args:
        log: Where the decisions come from.
        root: The folder of datasets: what `MINARI_DATASETS_PATH` names.
        dataset_id: E.g. `"recgym/ml-1m/train-v0"`; one id per split.
        catalog: The items.
        env: Id or spec of the environment that `recover_environment` shall make.
        options: Of `Rows`.

    Raises:
        DataError: as `to_hdf5` does, if the id is none that Minari reads, or if minari is missing.
        StoreError: as `to_hdf5` does.
    """
    return episodes.write(_rows(log, catalog, options), Path(root), dataset_id, catalog, env)


def predicted_size(log: InteractionLog, form: str, catalog: Catalog | None = None, **options: Any) -> int:
    """Returns how many bytes an export will have; exact but for a few kilobytes for HDF5.

    For Parquet it is the most there can be, for Minari an estimate to within a fifth.

    Args:
        log: What would be exported.
        form: `"compact"`, `"hdf5"`, `"parquet"` or `"minari"`.
        catalog: As it would be given.
        options: Of `Rows`.

    Example:
        >>> log = InteractionLog.from_events([1] * 1011, range(1011), [1.0] * 1011)
        >>> predicted_size(log, "compact") - 8 * (1011 + 1)  # ids have 8 bytes each
        98098
    """
    check_choice("form", form, FORMATS)
    rows = _rows(log, catalog, options)
    if form == "parquet":
        return parquet.predicted_size(rows, catalog)
    if form == "minari":
        return episodes.predicted_size(rows, catalog)
    return hdf5.predicted_size(rows, catalog, states=form == "hdf5")


def read(path: str | Path, batch_size: int = 5_000, first: int = 0) -> Iterator[Columns]:
    """Yields what `to_hdf5`, `to_compact` or `to_parquet` wrote, row after row, as columns (B, ...) by name.

    Args:
        path: The file or folder.
        batch_size: B; the last batch may have fewer rows.
        first: Row to begin with.

    Raises:
        DataError: if `batch_size` is below 1, or h5py is needed and missing.
        StoreError: if it is no such export, or damaged.
    """
    check_sizes(batch_size=batch_size)
    path = Path(path)
    return (parquet if path.is_dir() else hdf5).read(path, batch_size, first)


def verify(path: str | Path) -> None:
    """Reads all of an export and compares it with its checksums.

    Args:
        path: What `to_hdf5`, `to_compact`, `to_parquet` or `to_minari` returned.

    Raises:
        StoreError: naming the first thing that is wrong.
    """
    path = Path(path)
    if path.is_dir():
        store.verify(path)
    else:
        hdf5.verify(path)


def _rows(log: InteractionLog, catalog: Catalog | None, options: dict[str, Any]) -> Rows:
    if catalog is not None and not np.array_equal(catalog.item_ids, log.item_ids):
        raise DataError(
            f"catalog and log must have the same items in the same order, got {catalog.n_items} and {log.n_items} "
            "items; make the catalog from this log"
        )
    return Rows(log, **options)
