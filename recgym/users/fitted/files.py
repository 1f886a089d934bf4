"""A learned user model as a folder: arrays as safetensors, the rest as JSON. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from recgym.ids import as_ids, from_json, to_json
from recgym.storage.store import MANIFEST, atomic_folder, read_json, read_manifest, readable, write_manifest

KIND, VERSION = "users", 1
_ARRAYS, _REST = "model.safetensors", "model.json"


def write(folder: Path, arrays: Mapping[str, np.ndarray], ids: Mapping[str, np.ndarray], about: Any) -> None:
    """Writes the files of a model into a folder that is there."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _ARRAYS)
    listed = {name: to_json(one.astype(object)) for name, one in ids.items()}
    (folder / _REST).write_text(json.dumps({"ids": listed, "about": about}, allow_nan=False), encoding="utf-8")


def save(folder: Path, arrays: Mapping[str, np.ndarray], ids: Mapping[str, np.ndarray], about: Any) -> None:
    """Writes a model as one folder, all or nothing.

    Raises:
        StoreError: if the folder cannot be written to, or holds anything but what recgym wrote.
    """
    with atomic_folder(folder) as temporary:
        write(temporary, arrays, ids, about)
        write_manifest(temporary, KIND, VERSION, {"model": about["kind"], "log_hash": about["fitted_on"]["log_hash"]})


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Any]:
    """Returns arrays, ids and the rest of the model in a folder, after comparing the hash of every file.

    Raises:
        StoreError: if the folder holds no such model, or one that is damaged.
    """
    read_manifest(folder, KIND, VERSION, full=True)
    with readable(folder, f"hold {_ARRAYS} and {_REST} beside {MANIFEST}", "fit again"):
        arrays = load_file(folder / _ARRAYS)
        rest = read_json(folder / _REST, 1 << 32)
        ids = {name: as_ids(from_json(listed)) for name, listed in rest["ids"].items()}
        return arrays, ids, rest["about"]
