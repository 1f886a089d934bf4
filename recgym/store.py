"""Files and folders that a crash cannot leave half written, and manifests with hashes.

Nothing here unpickles anything. A folder gets its name only when all of it is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recgym.errors import RecgymError, StoreError

MANIFEST = "manifest.json"
TEMPORARY = ".recgym-tmp"  # ending of the names of what is still being written
_ASIDE = ".recgym-old"  # ending of the name of a folder while its successor takes its place
_IDLE = 3600.0  # seconds without a write after which a temporary folder counts as left by a crash


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: str | Path, *, advice: str = "choose another folder or free this one") -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; on leaving, the file takes the name `path`, whole or not.

    An earlier file of that name is replaced. If the body raises, the temporary file is removed and `path` is untouched.

    Args:
        path: The file to write; its folder is made if need be.
        advice: What a message tells the user to do when the folder cannot be written to.

    Raises:
        StoreError: if the folder cannot be written to.
    """
    path = Path(path)
    with explained(path.parent, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = _sibling(path)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: str | Path,
    *,
    keep: Callable[[Path], bool] | None = None,
    advice: str = "choose another folder or free this one",
) -> Iterator[Path]:
    """Yields a temporary folder beside `path` to fill; on leaving, it takes the name `path`, whole or not at all.

    Args:
        path: The folder to write. An earlier one is replaced; after a crash `read_manifest` finds the old or the new.
        keep: Asked about a folder that is already there at the end: if it says yes, that one stays and ours is dropped.
        advice: What a message tells the user to do when the folder cannot be written to.

    Raises:
        StoreError: if the folder cannot be written to.
    """
    path = Path(path)
    with explained(path.parent, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = _sibling(path)
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            _publish(temporary, path, keep)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path, kind: str, version: int, about: Mapping[str, Any]) -> None:
    """Writes `manifest.json` into `folder`: what it is, and the size and SHA-256 of every file in it. Call it last."""
    files: dict[str, dict[str, Any]] = {}
    for inner in folder.glob(f"*/{MANIFEST}"):  # a folder inside was hashed when it was written
        prefix = inner.parent.name
        files |= {f"{prefix}/{name}": entry for name, entry in parsed_manifest(inner.parent)["files"].items()}
    own = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    own = {name: file for name, file in own.items() if name != MANIFEST and name not in files}
    sizes = {name: file.stat().st_size for name, file in own.items()}
    largest_first = sorted(own, key=lambda name: -sizes[name])
    with ThreadPoolExecutor(1) as syncing, ThreadPoolExecutor(os.cpu_count()) as hashing:
        synced = [syncing.submit(_sync, own[name]) for name in largest_first]  # the disk writes while we count
        hashes = {name: hashing.submit(file_hash, own[name]) for name in largest_first}
        files |= {name: {"size": sizes[name], "sha256": hashes[name].result()} for name in own}
        for one in synced:
            one.result()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {"recgym": kind, "version": version, "created": created, "about": dict(about), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False), encoding="utf-8")


# -- reading -----------------------------------------------------------------------------------------------------------


def read_manifest(folder: str | Path, kind: str, version: int, *, full: bool = False) -> dict[str, Any]:
    """Returns the manifest of `folder` after checking that the folder is what it should be.

    Args:
        folder: A folder written with `atomic_folder` and `write_manifest`.
        kind: What it must be, e.g. `"log"`.
        version: The format version it must have.
        full: Whether to compare the hash of every file; otherwise only names and sizes are checked.

    Raises:
        StoreError: if the manifest is unreadable, of another kind or version, or a file is missing or changed.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}{_ASIDE}")
    if aside.is_dir() and not folder.exists():  # a crash between the two renames of a replacement
        _move(aside, folder)
    manifest = parsed_manifest(folder)
    if manifest["recgym"] != kind or manifest["version"] != version:
        found = f"{manifest['recgym']!r} version {manifest['version']!r}"
        raise StoreError(f"{folder} must hold {kind!r} version {version}, got {found}; make it again with this release")
    for name, expected in manifest["files"].items():
        _check_file(folder, name, expected, full)
    return manifest


def verify(folder: str | Path) -> None:
    """Compares every file of a folder, of any kind and version, with size and hash in its manifest.

    Raises:
        StoreError: naming the first thing that is wrong.
    """
    manifest = parsed_manifest(Path(folder))
    read_manifest(folder, manifest["recgym"], manifest["version"], full=True)


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """Returns the hash of a file's content as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


# -- parts -------------------------------------------------------------------------------------------------------------


@contextmanager
def explained(folder: Path, advice: str) -> Iterator[None]:
    """Turns any OSError of the body into a `StoreError` that names the folder and says what to do."""
    try:
        yield
    except RecgymError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} must be a folder one can write to, got {error}; {advice}") from error


def parsed_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of `folder`, of any kind and version, without looking at the files it lists.

    Raises:
        StoreError: if it is absent, no JSON, or lacks a key.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        [manifest[key] for key in ("recgym", "version", "created", "about")]
        [(entry["size"], entry["sha256"]) for entry in manifest["files"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(f"{folder} must hold a readable {MANIFEST}, got {problem}; make it again") from error
    return manifest


def _check_file(folder: Path, name: str, expected: Mapping[str, Any], full: bool) -> None:
    file = folder / name
    size = file.stat().st_size if file.is_file() else None
    if size != expected["size"]:
        got = "no such file" if size is None else f"{size} bytes"
        raise StoreError(f"{file} must have {expected['size']} bytes, got {got}; it is damaged, make it again")
    if full and file_hash(file) != expected["sha256"]:
        raise StoreError(f"{file} must have the recorded SHA-256, got another; it is damaged, make it again")


def _publish(temporary: Path, path: Path, keep: Callable[[Path], bool] | None) -> None:
    aside = path.with_name(f".{path.name}{_ASIDE}")
    for _ in range(100):  # each turn loses only to another process that published meanwhile
        if path.exists():
            if keep is not None and keep(path):
                return
            shutil.rmtree(aside, ignore_errors=True)
            _move(path, aside)
        if _move(temporary, path):
            _sync_folder(path.parent)
            shutil.rmtree(aside, ignore_errors=True)
            return
    raise StoreError(f"{path} must come to rest, got another writer on each of 100 tries; write to different folders")


def _move(source: Path, target: Path) -> bool:
    try:
        os.rename(source, target)
    except OSError:
        if source.exists() and not target.exists():
            raise
        return False
    return True


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def _sweep(folder: Path) -> None:
    for left in folder.glob(f".*{TEMPORARY}"):
        with suppress(FileNotFoundError):  # another process finished or swept it meanwhile
            newest = max(part.stat().st_mtime for part in [left, *left.rglob("*")])
            if time.time() - newest > _IDLE:
                _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync_tree(folder: Path) -> None:
    for part in [*folder.rglob("*"), folder]:
        (_sync_folder if part.is_dir() else _sync)(part)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle for folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
