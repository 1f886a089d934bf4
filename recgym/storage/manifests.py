"""Manifests: what a folder holds, with size and hash of every file and of themselves; and reading what may be damaged.

Nothing here unpickles anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from recgym.errors import RecgymError, StoreError
from recgym.storage.disk import sync

MANIFEST = "manifest.json"
HIDDEN = f"_{MANIFEST}"  # its name where readers of a folder must pass it over, as those of Parquet do
_MOST = 1 << 28  # bytes of a JSON file that are read at most
_HASHED = 1 << 30  # bytes up to which opening a folder compares every hash
_RIGHT: set[tuple[Any, ...]] = set()  # files whose hash was right: path, inode, size, time of change, hash
DISK = "the disk or the memory is at fault: do it again, and elsewhere if it happens again"


def write_manifest(
    folder: Path,
    kind: str,
    version: int,
    about: Mapping[str, Any],
    *,
    written: Mapping[str, str] | None = None,
    found: Mapping[str, str] | None = None,
    name: str = MANIFEST,
) -> None:
    """Writes the manifest of `folder`: what it is, and the size and SHA-256 of every file in it. Call it last.

    Args:
        folder: All of it is there but the manifest.
        kind: What it holds, e.g. `"log"`.
        version: Format version.
        about: Whatever else is to be known of it, as JSON.
        written: SHA-256 of files as they were handed to the disk, by name; what is read now must have the same.
        found: SHA-256 of files that were read and hashed already, by name; the others are read here.
        name: `MANIFEST` or `HIDDEN`.

    Raises:
        StoreError: if a file is not what was written.
    """
    files: dict[str, dict[str, Any]] = {}
    for inner in folder.glob(f"*/{MANIFEST}"):  # a folder inside was hashed when it was written
        prefix = inner.parent.name
        files |= {f"{prefix}/{part}": entry for part, entry in parsed_manifest(inner.parent)["files"].items()}
    own = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    own = {part: file for part, file in own.items() if part != name and part not in files}
    sizes = {part: file.stat().st_size for part, file in own.items()}
    largest_first = sorted(own, key=lambda part: -sizes[part])
    with ThreadPoolExecutor(1) as syncing, ThreadPoolExecutor(os.cpu_count()) as hashing:
        synced = [syncing.submit(sync, own[part]) for part in largest_first]  # the disk writes while we count
        hashes = {part: hashing.submit(file_hash, own[part]) for part in largest_first if part not in (found or {})}
        known = {part: one.result() for part, one in hashes.items()} | dict(found or {})
        files |= {part: {"size": sizes[part], "sha256": known[part]} for part in own}
        for one in synced:
            one.result()
    for part, expected in (written or {}).items():
        if files[part]["sha256"] != expected:
            raise StoreError(f"{folder / part} must hold what was written, got other bytes; {DISK}")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {"recgym": kind, "version": version, "created": created, "about": dict(about), "files": files}
    (folder / name).write_text(json.dumps(sealed(manifest), indent=1, allow_nan=False), encoding="utf-8")


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a manifest with its own SHA-256 under `seal`, so that no flipped bit of it goes unseen."""
    plain = {key: value for key, value in manifest.items() if key != "seal"}
    return plain | {"seal": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def checked(folder: Path, kind: str, version: int, full: bool | None) -> dict[str, Any]:
    """Returns the manifest of `folder` after the checks that `recgym.storage.store.read_manifest` names."""
    manifest = parsed_manifest(folder)
    if manifest["recgym"] != kind or manifest["version"] != version or isinstance(manifest["version"], bool):
        found = f"{manifest['recgym']!r} version {manifest['version']!r}"
        raise StoreError(f"{folder} must hold {kind!r} version {version}, got {found}; make it again with this release")
    if "seal" in manifest and manifest != sealed(manifest):  # earlier releases wrote none
        raise StoreError(f"{folder} must hold the manifest that was written, got a changed one; make it again")
    files, once = manifest["files"], full is None
    for name, expected in files.items():
        check_file(folder, name, expected, full=False)
    if full or (once and sum(entry["size"] for entry in files.values()) <= _HASHED):
        with ThreadPoolExecutor(os.cpu_count()) as hashing:
            list(hashing.map(lambda name: check_file(folder, name, files[name], full=True, once=once), files))
    return manifest


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as `.npy`, and returns once it is on the disk.

    NumPy writes through C's buffers, whose last write fails without a word: the size tells.

    Raises:
        OSError: if not all of it could be written.
    """
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        written = os.fstat(file.fileno()).st_size
        if written != file.tell():
            raise OSError(f"{written} of {file.tell()} bytes of {path.name} were written")
        os.fsync(file.fileno())


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """Returns the hash of a file's content as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def explained(folder: Path, advice: str) -> Iterator[None]:
    """Turns what the body's writing raises into a `StoreError` that names the folder and says what to do.

    That is any OSError, and what safetensors, Arrow and h5py raise of their own where the system refuses a write.
    """
    try:
        yield
    except RecgymError:
        raise
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and library not in ("safetensors", "pyarrow"):
            raise
        raise StoreError(f"{folder} must be a folder one can write to, got {error}; {advice}") from error


@contextmanager
def readable(path: Path, what: str, advice: str) -> Iterator[None]:
    """Turns whatever the body's reading of a file raises into a `StoreError` that names it; `what` it must be.

    A file that is empty, cut, foreign or made by hand makes its library raise nearly anything.
    """
    try:
        yield
    except RecgymError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"[:300]
        raise StoreError(f"{path} must {what}, got {problem}; {advice}") from error


def read_json(path: Path, most: int = _MOST) -> Any:
    """Returns what a JSON file holds.

    Raises:
        ValueError: if it is no JSON, nested too deeply, or has more than `most` bytes.
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parsed_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of `folder`, of any kind and version, without looking at the files it lists.

    Raises:
        StoreError: if it is absent, no JSON, lacks a key, or lists a file that is not inside.
    """
    place = next((folder / name for name in (MANIFEST, HIDDEN) if (folder / name).exists()), folder / MANIFEST)
    try:
        manifest: dict[str, Any] = read_json(place)
        [manifest[key] for key in ("recgym", "version", "created")]
        names = [name for name, entry in manifest["files"].items() if (entry["size"], entry["sha256"])]
        dict(manifest["about"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"[:300]
        raise StoreError(f"{folder} must hold a readable {MANIFEST}, got {problem}; make it again") from error
    outside = [name for name in names if not _inside(name)]
    if outside:
        raise StoreError(
            f"{place} must list files of its own folder, got {outside[0]!r} ({len(outside)} outside); do not trust it"
        )
    return manifest


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not {"..", "/"} & set(parts) and not {"\\", ":", "\0"} & set(name)


def check_file(folder: Path, name: str, expected: Mapping[str, Any], full: bool, once: bool = False) -> None:
    """Compares one file of a folder with its entry in the manifest.

    Args:
        folder: The folder.
        name: The file in it.
        expected: Its size and SHA-256.
        full: Whether to compare the hash too.
        once: Whether a file that was right before in this process, and has not been touched since, is not read again.
    """
    file = folder / name
    at = file.stat() if file.is_file() else None
    if at is None or at.st_size != expected["size"]:
        got = "no such file" if at is None else f"{at.st_size} bytes"
        raise StoreError(f"{file} must have {expected['size']} bytes, got {got}; it is damaged, make it again")
    state = _state(file, at, expected)
    if not full or (once and state in _RIGHT):
        return
    with readable(file, "be a file one can read", "make it again"):
        changed = file_hash(file) != expected["sha256"]
    if changed:
        raise StoreError(f"{file} must have the recorded SHA-256, got another; it is damaged, make it again")
    _RIGHT.add(state)


def states(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns what tells that files whose hashes are right have not been touched since: for `trust`, later on."""
    found = {}
    for name, expected in files.items():
        at = (folder / name).stat()
        found[name] = [*_state(folder / name, at, expected)[1:], at.st_ctime_ns]
    return found


def trust(folder: Path, known: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> None:
    """Takes the hashes of those files for right that are as they were when `states` was asked."""
    with suppress(OSError):
        for name, state in states(folder, {name: files[name] for name in known if name in files}).items():
            if state == known[name]:
                _RIGHT.add((str(folder / name), *state[:-1]))


def _state(file: Path, at: os.stat_result, expected: Mapping[str, Any]) -> tuple[Any, ...]:
    return (str(file), at.st_ino, at.st_size, at.st_mtime_ns, str(expected["sha256"]))
