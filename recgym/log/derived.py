"""What is made of large logs, such as the training users of 20 million events: made once, then found in the cache.

A log that was opened from a folder is known by the hashes in its manifest, so that nothing of it need be read to find
what was made of it before. What is found is memory-mapped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recgym.log.interaction_log import InteractionLog
from recgym.storage import cache

LARGE = 2_000_000  # events from which on what is made of a log is kept
_VERSION = 1  # raise it when other things would be made of the same log

New = Callable[[str, int, Any], np.ndarray]  # name, length, dtype -> an array to fill


def identity(log: InteractionLog) -> str | None:
    """Returns a hash of all that a log holds, where it was opened from a folder and is large; None elsewhere."""
    return log.__dict__.get("content") if log.n_events >= LARGE else None


def derived(log: InteractionLog, how: Mapping[str, Any], make: Callable[[], InteractionLog]) -> InteractionLog:
    """Returns what `make` makes of a log; of a large one that lies on the disk, from the cache.

    Args:
        log: What it is made of.
        how: What `make` does to it, as JSON.
        make: Makes it.
    """
    known = identity(log)
    if known is None:
        return make()
    folder = cache.entry(
        "part", log.name, {"log": known, **how}, lambda place: make().save(place / "log"), version=_VERSION
    )
    return InteractionLog.open(folder / "log")


def split_users(log: InteractionLog, test_size: float, seed: int) -> tuple[InteractionLog, InteractionLog]:
    """Returns (train, test) as `InteractionLog.split_users` does, each `derived`."""
    made: list[InteractionLog] = []  # both, where one must be made

    def part(place: int) -> InteractionLog:
        made.extend(() if made else log.split_users(test_size, seed))
        return made[place]

    train, test = (
        derived(log, {"split_users": place, "test_size": test_size, "seed": seed}, partial(part, place))
        for place in range(2)
    )
    return train, test


def arrays(log: InteractionLog, what: str, make: Callable[[New], None]) -> dict[str, np.ndarray]:
    """Returns arrays that are made of a log, by name; those of a large one that lies on the disk, from the cache.

    Args:
        log: What they are made of.
        what: What `make` makes of it.
        make: Asks for each array by its name, length and type, and fills it.
    """
    known, made = identity(log), {}
    if known is None:

        def new(name: str, length: int, dtype: Any) -> np.ndarray:
            made[name] = np.empty(length, dtype=dtype)
            return made[name]

        make(new)
        return made

    def build(folder: Path) -> None:
        def new(name: str, length: int, dtype: Any) -> np.ndarray:
            return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (length,))

        make(new)

    folder = cache.entry("index", f"{log.name}-{what}", {"log": known, "what": what}, build, version=_VERSION)
    return {
        path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in sorted(folder.glob("*.npy"))
    }


def different_items(log: InteractionLog) -> np.ndarray:
    """Returns how many different items every user met (n_users,) int64."""

    def make(new: New) -> None:
        pairs = np.unique(log.event_users() * np.int64(log.n_items) + log.items)
        new("counts", log.n_users, np.int64)[:] = np.bincount(pairs // log.n_items, minlength=log.n_users)

    return arrays(log, "different items", make)["counts"]


def content_hash(log: InteractionLog) -> str:
    """Returns a hash of the items, rewards and users of a log: the one it is known by, or one of its columns."""
    known = identity(log)
    if known is not None:
        return known
    digest = hashlib.sha256(json.dumps([log.n_items, log.reward]).encode())
    for column in (log.items, log.rewards, log.offsets):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
