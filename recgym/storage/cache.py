"""The cache: folders of things that were built once, found again by everything they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from recgym.errors import StoreError
from recgym.storage.disk import remove
from recgym.storage.locks import locked
from recgym.storage.manifests import states, trust
from recgym.storage.store import (
    TEMPORARY,
    atomic_file,
    atomic_folder,
    explained,
    parsed_manifest,
    read_manifest,
    write_manifest,
)

DOWNLOADS = "downloads"  # in the cache root, like the next two
_CHECKED = "checked"  # what says of large entries that their hashes are right
_FOLDERS = ("entries", "unfinished", _CHECKED)
_LARGE = 1 << 26  # bytes from which on an entry is hashed once, not by every process
_BLOCK = 1 << 16  # bytes of one sampled block
_SAMPLES = 16  # blocks of a sampled hash

_log = logging.getLogger("recgym")


class CacheEntry(NamedTuple):
    """One folder of the cache, as `entries` lists it."""

    path: Path
    size: int  # bytes
    created: str  # ISO time, or "" where the manifest is unreadable
    problem: str  # "" where manifest and sizes are right


def cache_dir() -> Path:
    """Returns the cache folder: `RECGYM_CACHE`, or the user's cache folder of this system."""
    chosen = os.environ.get("RECGYM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("recgym", appauthor=False)


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Returns what tells a source file from any other: its name, size, time of change and a hash of sampled blocks.

    A file up to 1 MiB is hashed whole; of a larger one 16 blocks of 64 KiB, evenly spaced, first and last included.
    """
    path = Path(path)
    state = path.stat()
    last = max(0, state.st_size - _BLOCK)
    starts = range(0, last + _BLOCK, _BLOCK) if state.st_size <= _SAMPLES * _BLOCK else _spaced(last)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return {"name": path.name, "size": state.st_size, "mtime_ns": state.st_mtime_ns, "sample": digest.hexdigest()}


def entry(
    kind: str,
    name: str,
    key: Mapping[str, Any],
    build: Callable[[Path], None],
    *,
    version: int = 1,
    alone: bool = False,
) -> Path:
    """Returns the cache folder for `key`, building it first where it is absent, damaged or foreign.

    Two processes may build the same entry: each fills its own temporary folder, the first to finish wins, and the other
    takes the winner's. With `alone` the other waits for the first instead, and builds only if that one died.

    Args:
        kind: What it holds, e.g. `"log"`.
        name: A short name for listings, e.g. `"ml-1m"`.
        key: Everything the content depends on, as JSON: `fingerprint` of the sources, every option.
        build: Fills the folder it is given.
        version: Format version of what `build` writes.
        alone: Whether `build` must not run twice at once, as it keeps a state that its next run goes on with.

    Raises:
        StoreError: if the cache cannot be written to.
    """
    wanted = json.loads(json.dumps(dict(key), allow_nan=False))
    text = json.dumps([kind, version, wanted], sort_keys=True)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60]
    path = cache_dir() / "entries" / f"{kind}-{plain}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def usable(folder: Path) -> bool:
        try:
            _recall(folder)
            manifest = read_manifest(folder, kind, version, full=None)
            if manifest["about"] == wanted:
                _remember(folder, manifest)
                return True
            problem = "it was built from something else"
        except StoreError as error:
            problem = str(error)
        if folder.exists():
            _log.warning("cache entry %s is damaged or foreign and is built again: %s", folder, problem)
        return False

    if usable(path):
        return path
    with locked(path.with_name(f".{path.name}.lock")) if alone else nullcontext():
        if alone and path.exists() and usable(path):
            return path
        with atomic_folder(path, keep=usable, replace_any=True, advice=_cache_advice()) as temporary:
            build(temporary)
            write_manifest(temporary, kind, version, wanted)
        _remember(path, parsed_manifest(path))  # its hashes are of what was read back
    return path


def entries() -> list[CacheEntry]:
    """Returns every entry of the cache, by name; a damaged one says so in `problem`."""
    listed = []
    for path in sorted(_cached()):
        try:
            manifest = parsed_manifest(path)
            read_manifest(path, manifest["recgym"], manifest["version"])
            listed.append(CacheEntry(path, _size(path), str(manifest["created"]), ""))
        except StoreError as error:
            listed.append(CacheEntry(path, _size(path), "", str(error)))
    return listed


def others() -> list[CacheEntry]:
    """Returns what else lies under the cache root: unfinished work, downloads, things of somebody else."""
    root = cache_dir()
    told = dict.fromkeys(_leftovers(), "unfinished: goes on when it is asked for again, `cache clear` removes it")
    told |= {path: "a download: `cache clear` leaves it" for path in (root / DOWNLOADS).glob("*") if path not in told}
    known = {DOWNLOADS, *_FOLDERS}
    told |= {
        path: "not of the cache: `cache clear` leaves it"
        for path in root.glob("*")
        if path.name not in known and path not in told
    }
    return [CacheEntry(path, _size(path), "", problem) for path, problem in sorted(told.items())]


def clear() -> int:
    """Removes every cache entry, unfinished fits and what broken builds left. Returns how many entries were removed.

    Downloads stay, and whatever under the cache root is not recgym's.

    Raises:
        StoreError: if an entry cannot be removed.
    """
    folders = _cached()
    with explained(cache_dir(), _cache_advice()):
        for path in [*folders, *_leftovers(), *(cache_dir() / _CHECKED).glob("*")]:
            with suppress(FileNotFoundError):  # another process was quicker
                remove(path)
    return len(folders)


def _remember(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Notes that the hashes of a large folder are right, so that later processes read what has changed only."""
    if sum(entry["size"] for entry in manifest["files"].values()) < _LARGE:
        return
    place = cache_dir() / _CHECKED / f"{folder.name}.json"
    with suppress(OSError, StoreError):  # one may only read it
        text = json.dumps(states(folder, manifest["files"]))
        if not place.exists() or place.read_text() != text:
            with atomic_file(place) as temporary:
                temporary.write_text(text)


def _recall(folder: Path) -> None:
    place = cache_dir() / _CHECKED / f"{folder.name}.json"
    with suppress(OSError, ValueError, TypeError, AttributeError, StoreError):
        trust(folder, json.loads(place.read_text()), parsed_manifest(folder)["files"])


def _cached() -> list[Path]:
    return [path for path in (cache_dir() / "entries").glob("[!.]*") if path.is_dir()]


def _leftovers() -> list[Path]:
    """Returns the states of unfinished fits, and temporary files and folders."""
    root = cache_dir()
    hidden = [*(root / "entries").glob(".*"), *root.glob(f".*{TEMPORARY}"), *(root / DOWNLOADS).glob(f".*{TEMPORARY}")]
    return [*(root / "unfinished").glob("*"), *hidden]


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def _cache_advice() -> str:
    return "free it or set RECGYM_CACHE to a folder you can write to"


def _spaced(last: int) -> list[int]:
    return [last * block // (_SAMPLES - 1) for block in range(_SAMPLES)]
