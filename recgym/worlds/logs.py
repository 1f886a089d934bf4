"""What kinds of environments made from a log share: loading, splitting, and item vectors fitted on the train part."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym import datasets, embeddings
from recgym.catalog import Catalog
from recgym.embeddings.matrix import width_of
from recgym.embeddings.svd import is_large
from recgym.log import InteractionLog
from recgym.log.derived import content_hash, split_users
from recgym.options import check_choice
from recgym.storage import cache
from recgym.storage.store import save_array

SPLITS = ("train", "test", "all")
FITTED = ("svd", "als")  # ways of making vectors from a log
_VECTORS = 1  # raise it when `embeddings.svd` or `als` would make other vectors of the same log


class Parts(NamedTuple):
    """A log's users in two parts, the part that is served, and the items with their vectors."""

    catalog: Catalog
    served: InteractionLog
    train: InteractionLog


def load_parts(
    *,
    dataset: str = "synthetic",
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.05,
    embeddings: str = "svd",
    dim: int | None = None,
    normalise: bool = False,
    missing_vectors: str = "error",
    **load_options: Any,
) -> Parts:
    """Returns the log that is served and its items, whose vectors come from the training users whichever is served.

    Args:
        dataset: A name for `recgym.datasets.load`; `load_options` are its further arguments.
        split: Users served: `"train"`, `"test"` or `"all"`.
        split_seed: Which users are held out.
        test_size: How many, see `InteractionLog.split_users`.
        embeddings: `"svd"`, `"als"`, or a file of vectors.
        dim: Width of fitted vectors; None: 128, or as many as the log has users or items.
        normalise: Whether fitted vectors get length 1 each.
        missing_vectors: What becomes of items the file lacks, `missing` of `recgym.embeddings.load_vectors`.
        **load_options: See `dataset`.

    Raises:
        DataError: if an option is unknown or out of range.
        MissingDataError: if the data set is not on this machine.
    """
    check_choice("split", split, SPLITS)
    return split_parts(
        datasets.load(dataset, **load_options),
        split=split,
        split_seed=split_seed,
        test_size=test_size,
        vectors=embeddings,
        dim=dim,
        normalise=normalise,
        missing_vectors=missing_vectors,
    )


def split_parts(
    log: InteractionLog,
    *,
    split: str,
    split_seed: int,
    test_size: float,
    vectors: str,
    dim: int | None,
    normalise: bool,
    missing_vectors: str,
) -> Parts:
    """Returns what `load_parts` does, of a log that is loaded already."""
    given, log = given_vectors(log, vectors, missing_vectors)
    train, test = split_users(log, test_size, split_seed)
    catalog = given or fitted_catalog(train, vectors, dim=dim, normalise=normalise)
    return Parts(catalog, {"train": train, "test": test, "all": log}[split], train)


def given_vectors(log: InteractionLog, vectors: str, missing: str) -> tuple[Catalog | None, InteractionLog]:
    """Returns the items with the vectors of a file, and the log of these items; None and the log if none is named."""
    return (None, log) if vectors in FITTED else embeddings.load_vectors(vectors, log, missing=missing)


def fitted_catalog(train: InteractionLog, method: str, *, dim: int | None, normalise: bool) -> Catalog:
    """Returns the items with vectors fitted on the training log, from the cache where they are there."""
    options = {"dim": width_of(dim, train), "normalise": normalise}

    def build(folder: Path) -> None:
        made = getattr(embeddings, method)(train, **options)
        save_array(folder / "vectors.npy", made.embeddings * np.float32(made.scale))

    key = {"log": content_hash(train), "method": method, **options}
    if method == "svd" and is_large(train, options["dim"]):
        key["way"] = "krylov"
    folder = cache.entry("vectors", f"{train.name}-{method}", key, build, version=_VECTORS)
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)  # read back even when new: one source of bits
    return Catalog(vectors, train.item_ids, train.reward, train.titles, train.item_features)
