"""Logs that were read once and kept: found again in the cache by everything they depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from recgym.log import InteractionLog
from recgym.storage import cache

_FORMAT = 3  # raise it when what a loader makes of the same files and options changes


def kept(
    name: str, files: Iterable[Path], options: Mapping[str, Any], build: Callable[[Path], None], **more: Any
) -> InteractionLog:
    """Returns the log in the cache entry for these files and options, built first where it is not there.

    Args:
        name: What the entry is called.
        files: What the log is read from.
        options: Every option it depends on, as JSON values.
        build: Writes the log into the folder it is given, as `log`.
        **more: Further parts of the key.
    """
    key = {
        "files": [cache.fingerprint(path) for path in files],
        "options": json.loads(json.dumps(options, default=repr)),
        **more,
    }
    folder = cache.entry("log", name, key, build, version=_FORMAT)
    return opened(folder, (folder / "manifest.json").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def opened(folder: Path, built: int) -> InteractionLog:
    """Returns the log in a cache entry; `built` tells a rebuilt entry from its forerunner."""
    return InteractionLog.open(folder / "log")
