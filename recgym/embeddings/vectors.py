"""Item vectors made elsewhere: from a dict, `.npy`, `.npz`, safetensors, or (if allowed by name) RecNN's pickle.

What is made here is written the same way, each vector beside its id.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from recgym.catalog import Catalog
from recgym.errors import DataError, MissingDataError, RecgymError
from recgym.ids import as_ids, from_json, some, to_json
from recgym.log import InteractionLog
from recgym.storage.store import atomic_file, read_json, save_array

_FREE, _MOST_EXPANSION = 256 << 20, 64  # bytes any .npz may unpack to, and times its size beyond
_MISSING = ("error", "drop", "mean")
_UNRATED = ("drop", "keep")
_MOST = 1 << 32  # bytes of a list of ids at most


def load_vectors(
    source: Any,
    log: InteractionLog,
    missing: str = "error",
    *,
    unrated: str = "drop",
    allow_pickle: bool = False,
) -> tuple[Catalog, InteractionLog]:
    """Returns (catalog, log) in one item index space: the vectors of a file beside the events they belong to.

    | source | holds |
    |---|---|
    | dict | item id -> vector (d,), arrays or tensors |
    | array, `.npy` | (n_items, d), rows in the order of `log.item_ids`, or of the ids in the `.json` beside it |
    | `.npz` | `embeddings` (n, d) and `item_ids` (n,); without ids as `.npy` |
    | `.safetensors` | the same as tensors; ids that are text as a JSON list in the metadata |
    | `.pkl`, `.pickle` | a pickled dict, RecNN's format; only with `allow_pickle=True`, for a pickle can run any code |

    Args:
        source: A path, dict or array.
        log: The whole log, before it is split; it is not changed.
        missing: What becomes of items of the log that have no vector: `"error"`, `"drop"` (they and their events go) or
            `"mean"` (they get the mean of the others' vectors).
        unrated: What becomes of vectors whose item is not in the log: `"drop"` or `"keep"` (as items without events).
        allow_pickle: Whether a pickle may be opened. Open only files you trust.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if the file cannot be read, or items have no vector and `missing` is `"error"`.

    Warns:
        UserWarning: how many items were dropped, filled or left out.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 2], ["a", "b", "a"], [1.0, 0.5, 1.0])
        >>> catalog, log = load_vectors({"b": [0.0, 1.0], "a": [1.0, 0.0]}, log)
        >>> catalog.item_ids.tolist(), catalog.embeddings.tolist()
        (['a', 'b'], [[1.0, 0.0], [0.0, 1.0]])
    """
    if missing not in _MISSING or unrated not in _UNRATED:
        given = f"missing={missing!r}, unrated={unrated!r}"
        raise DataError(f"missing must be one of {_MISSING} and unrated one of {_UNRATED}, got {given}; choose one")
    ids, vectors = _read(source, log, allow_pickle)
    row_of = {item_id: row for row, item_id in enumerate(ids.tolist())}
    if len(row_of) < len(ids):
        twice = len(ids) - len(row_of)
        raise DataError(f"vector ids must be unique, got {twice} that stand twice; keep one vector per item")
    rows = np.array([row_of.get(item_id, -1) for item_id in log.item_ids.tolist()], dtype=np.int64)  # (n_items,)
    if (rows < 0).any():
        log = _without_vector(log, rows < 0, ids, missing)
        rows = rows[rows >= 0] if missing == "drop" else rows
    chosen = np.where((rows >= 0)[:, None], vectors[rows], vectors[rows[rows >= 0]].mean(axis=0))
    others = np.setdiff1d(np.arange(len(ids)), rows)
    if len(others):
        _report(f"{len(others)} of {len(ids)} vectors belong to no item of the log, e.g. {some(ids[others])}", unrated)
        if unrated == "keep":
            log = _with_items(log, ids[others])
            chosen = np.concatenate([chosen, vectors[others]])
    catalog = Catalog(chosen, log.item_ids, reward=log.reward, titles=log.titles, features=log.item_features)
    return catalog, log


def save_vectors(path: str | Path, ids: Any, vectors: Any) -> None:
    """Writes vectors with the ids they belong to, of items or of users, for `load_vectors` and for others to read.

    | ending | holds |
    |---|---|
    | `.npy` | the vectors; in the file of that name with the ending `.json`, `item_ids` as a list in row order, and |
    | | `sha256`, which binds the two |
    | `.safetensors` | `embeddings`; the ids as a JSON list under `item_ids` in the metadata, and `sha256` |

    Args:
        path: The file.
        ids: Outside ids (n,): numbers, texts, or tuples of them.
        vectors: (n, d), on any scale: of a catalog, `catalog.embeddings * catalog.scale`.

    Raises:
        DataError: if the ending is another, shapes disagree, or an id cannot be written as JSON.
        StoreError: if the folder cannot be written to.
    """
    path = Path(path)
    ids, rows = _aligned(as_ids(ids), np.asarray(vectors))
    listed = to_json(ids)
    seal = _seal(listed, rows)
    if path.suffix == ".npy":
        _save_pair(path, {"item_ids": listed, "sha256": seal}, rows)
    elif path.suffix == ".safetensors":
        with atomic_file(path) as temporary:
            metadata = {"item_ids": json.dumps(listed), "sha256": seal}
            save_file({"embeddings": np.ascontiguousarray(rows)}, temporary, metadata=metadata)
    else:
        raise DataError(f"vectors are written as .npy or .safetensors, got {path.name!r}; choose one of these endings")


def _save_pair(path: Path, told: dict[str, Any], rows: np.ndarray) -> None:
    """Writes vectors and, beside them, their ids; until the vectors are there, the ids of the earlier ones stay too."""
    beside, before = path.with_suffix(".json"), None
    with suppress(Exception):  # nothing there, or nothing that can be read
        ids, vectors = _read_npy(path)
        before = {"item_ids": to_json(as_ids(ids)), "sha256": _seal(to_json(as_ids(ids)), vectors)}
    for stage in [told | {"before": before}, told] if before else [told]:
        with atomic_file(beside) as temporary:
            temporary.write_text(json.dumps(stage), encoding="utf-8")
        if stage is not told or not before:
            with atomic_file(path) as temporary:
                save_array(temporary, rows)


def _seal(ids: Any, vectors: np.ndarray) -> str:
    """Returns a SHA-256 that binds ids and vectors."""
    digest = hashlib.sha256(json.dumps([ids, vectors.dtype.str, vectors.shape]).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()


def _without_vector(log: InteractionLog, without: np.ndarray, ids: np.ndarray, missing: str) -> InteractionLog:
    n_events = int(without[log.items].sum())
    found = (
        f"{int(without.sum())} of {log.n_items} items without one, e.g. {some(log.item_ids[without])} "
        f"({n_events} of {log.n_events} events)"
    )
    if missing == "error" or without.all():
        raise DataError(
            f"every item of the log must have a vector, got {found}; the vectors have ids like {some(ids)}: "
            'add the vectors or pass missing="drop" or "mean"'
        )
    _report(found, "drop" if missing == "drop" else "give them the mean vector")
    return log.select_items(np.flatnonzero(~without)) if missing == "drop" else log


def _with_items(log: InteractionLog, item_ids: np.ndarray) -> InteractionLog:
    """Returns the log with further items at the end; their titles are their ids, their features zero or empty."""
    titles = log.titles
    if titles is not None:
        titles = np.concatenate([titles.astype(object), [str(item_id) for item_id in item_ids.tolist()]])
    features = {
        name: np.concatenate([feature, np.zeros((len(item_ids), *feature.shape[1:]), dtype=feature.dtype)])
        for name, feature in log.item_features.items()
    }
    both = as_ids([*log.item_ids.tolist(), *item_ids.tolist()])
    return replace(log, item_ids=both, titles=titles, item_features=features)


def _report(found: str, done: str) -> None:
    warnings.warn(f"{found}: {done}", UserWarning, stacklevel=3)


def _read(source: Any, log: InteractionLog, allow_pickle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids (n,) and vectors (n, d) float32."""
    if isinstance(source, Mapping):
        return _from_mapping(source)
    if not isinstance(source, (str, Path)):
        return _by_rows(_array(source), log)
    path = Path(source)
    if not path.is_file():
        raise MissingDataError(f"{path} must be a file of item vectors, got no such file; check the path")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix in (".pkl", ".pickle"):
        return _read_pickle(path, allow_pickle)
    if path.suffix not in readers:
        kinds = ", ".join((*readers, ".pkl", ".pickle"))
        raise DataError(f"a file of vectors must end in one of {kinds}, got {path.name!r}; convert it")
    try:
        ids, vectors = readers[path.suffix](path)
    except RecgymError:
        raise
    except Exception as error:  # a damaged file makes its library raise nearly anything
        problem = f"{type(error).__name__}: {error}"[:300]
        raise DataError(f"{path} must be a readable file of vectors, got {problem}; write it again") from error
    return _by_rows(vectors, log) if ids is None else _aligned(as_ids(ids), vectors)


def _read_npy(path: Path) -> tuple[Any, np.ndarray]:
    vectors, beside = np.load(path, allow_pickle=False), path.with_suffix(".json")
    if not beside.is_file():
        return None, vectors
    told = read_json(beside, _MOST)
    if isinstance(told, list):  # an earlier release, or somebody else
        return from_json(told), vectors
    for one in (told, told.get("before") or {}):
        if one.get("sha256") == _seal(one.get("item_ids"), vectors):
            return from_json(one["item_ids"]), vectors
    raise ValueError(f"vectors that are not those whose ids stand in {beside.name}")


def _read_npz(path: Path) -> tuple[Any, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_FREE, _MOST_EXPANSION * path.stat().st_size):
        raise ValueError(f"{unpacked:,} bytes of arrays from {path.stat().st_size:,}, which are more than files hold")
    with np.load(path, allow_pickle=False) as file:
        return file.get("item_ids"), file["embeddings"]


def _read_safetensors(path: Path) -> tuple[Any, np.ndarray]:
    with safe_open(path, framework="np") as file:
        metadata, vectors = file.metadata() or {}, file.get_tensor("embeddings")
        if "item_ids" in metadata:
            listed = json.loads(metadata["item_ids"])
            if metadata.get("sha256", "") not in ("", _seal(listed, vectors)):
                raise ValueError("ids or vectors that are not those that were written")
            return from_json(listed), vectors
        if metadata.keys() & {"sha256"}:
            raise ValueError("no ids beside the hash that binds them")
        return file.get_tensor("item_ids") if "item_ids" in file.keys() else None, vectors  # noqa: SIM118


def _read_pickle(path: Path, allow_pickle: bool) -> tuple[np.ndarray, np.ndarray]:
    if not allow_pickle:
        raise DataError(
            f"a pickle can run any code when opened, got {path.name!r}; convert it to .npz, "
            "or pass allow_pickle=True if you trust where it comes from"
        )
    try:
        with open(path, "rb") as file:
            held = pickle.load(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} must be a readable pickle, got {problem}; write it again") from error
    if not isinstance(held, Mapping):
        raise DataError(f"{path} must hold a dict of item id to vector, got {type(held).__name__}; convert it")
    return _from_mapping(held)


def _from_mapping(held: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    vectors = [_array(vector) for vector in held.values()]
    shapes = {vector.shape for vector in vectors}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"all vectors must have one shape (d,), got {sorted(shapes)[:3]}; make them the same width")
    return _aligned(as_ids(list(held)), np.stack(vectors))


def _array(vector: Any) -> np.ndarray:
    if hasattr(vector, "detach"):  # a torch tensor, perhaps on a GPU or in half precision
        vector = vector.detach().cpu().float().numpy()
    return np.asarray(vector, dtype=np.float32)


def _by_rows(vectors: np.ndarray, log: InteractionLog) -> tuple[np.ndarray, np.ndarray]:
    if vectors.ndim != 2 or len(vectors) != log.n_items:
        raise DataError(
            f"vectors without ids must have shape ({log.n_items}, d), one row per item of the log, "
            f"got {vectors.shape}; add their item_ids"
        )
    return _aligned(log.item_ids, vectors)


def _aligned(ids: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if vectors.ndim != 2 or vectors.shape[0] != len(ids):
        raise DataError(f"embeddings must have shape ({len(ids)}, d), one row per id, got {vectors.shape}; align them")
    return ids, np.asarray(vectors, dtype=np.float32)
