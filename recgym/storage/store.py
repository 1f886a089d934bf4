"""Files and folders that a crash cannot leave half written, and manifests with hashes.

Nothing here unpickles anything. A folder gets its name only when all of it is on the disk, and takes the place of
another only if that one is empty or holds nothing but what recgym wrote.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from recgym.errors import StoreError
from recgym.storage.disk import move, remove, sync, sync_folder, sync_tree
from recgym.storage.locks import may_be_alive, own_mark, silence_of
from recgym.storage.manifests import (
    HIDDEN,
    MANIFEST,
    check_file,
    checked,
    explained,
    file_hash,
    parsed_manifest,
    read_json,
    readable,
    save_array,
    write_manifest,
)

__all__ = [
    "HIDDEN",
    "MANIFEST",
    "TEMPORARY",
    "abandoned",
    "atomic_file",
    "atomic_folder",
    "check_file",
    "check_place",
    "discard",
    "explained",
    "file_hash",
    "parsed_manifest",
    "read_json",
    "read_manifest",
    "readable",
    "save_array",
    "verify",
    "write_manifest",
]
TEMPORARY = ".recgym-tmp"  # ending of the names of what is still being written
_ASIDE = ".recgym-old"  # ending of the name of a folder while its successor takes its place


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: str | Path, *, advice: str = "choose another folder or free this one") -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; on leaving, the file takes the name `path`, whole or not.

    An earlier file of that name is replaced. If the body raises, the temporary file is removed and `path` is untouched.

    Args:
        path: The file to write; its folder is made if need be.
        advice: What a message tells the user to do when the folder cannot be written to.

    Raises:
        StoreError: if `path` is a folder, or its folder cannot be written to.
    """
    path = Path(path)
    with explained(path.parent, advice):
        if path.is_dir():
            raise StoreError(f"{path} must be free or a file, got a folder; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = _sibling(path)
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: str | Path,
    *,
    keep: Callable[[Path], bool] | None = None,
    own: Collection[str] = (),
    replace_any: bool = False,
    advice: str = "choose another folder or free this one",
) -> Iterator[Path]:
    """Yields a temporary folder beside `path` to fill; on leaving, it takes the name `path`, whole or not at all.

    Args:
        path: The folder to write. An earlier one is replaced if `check_place` lets it, which is asked before the body
            and again after it; after a crash `read_manifest` finds the old or the new.
        keep: Asked about a folder that is already there at the end: if it says yes, that one stays and ours is dropped.
        own: As for `check_place`.
        replace_any: Whether to replace whatever is there, unasked: for places where nobody else has anything.
        advice: What a message tells the user to do when the folder cannot be written to.

    Raises:
        StoreError: as `check_place`, or if the folder cannot be written to.
    """
    with explained(Path(path).parent, advice):
        check = (lambda place: None) if replace_any else partial(check_place, own=own)
        check(path)
        path = Path(path).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = _sibling(path)
        temporary.mkdir()
        try:
            yield temporary
            sync_tree(temporary)
            _publish(temporary, path, keep, check)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def discard(folder: Path) -> None:
    """Removes a folder that is whole: no half of it is ever there under its name, and what a kill leaves is swept."""
    aside = _sibling(folder)
    if move(folder, aside):
        shutil.rmtree(aside)


def check_place(path: str | Path, *, own: Collection[str] = ()) -> None:
    """Checks that writing the folder `path` removes nothing that is not recgym's; `atomic_folder` does so by itself.

    What recgym wrote is a folder whose manifest lists all that is in it; a listed file may be damaged or missing.

    Args:
        path: Where the folder shall stand.
        own: Of a kind without manifests, the names of all files it may hold; the first is always there.

    Raises:
        StoreError: if `path` is a file, a folder with anything else in it, or the current folder.
    """
    with explained(Path(path).parent, "choose another folder or free this one"):
        found = _foreign(Path(path).resolve(), own)
    if found:
        raise StoreError(
            f"{path} must be free, empty or a folder with nothing but what recgym wrote, got {found}; "
            "choose another folder or move this away"
        )


# -- reading -----------------------------------------------------------------------------------------------------------


def read_manifest(folder: str | Path, kind: str, version: int, *, full: bool | None = False) -> dict[str, Any]:
    """Returns the manifest of `folder` after checking that the folder is what it should be.

    Args:
        folder: A folder written with `atomic_folder` and `write_manifest`.
        kind: What it must be, e.g. `"log"`.
        version: The format version it must have.
        full: Whether to compare the hash of every file, or names and sizes only. None: the hashes of a folder of
            at most 1 GiB, once in a process.

    Raises:
        StoreError: if the manifest is unreadable, of another kind or version, or a file is missing or changed.
    """
    folder = Path(folder)
    real = folder.resolve()
    aside = _aside(real)
    if aside.is_dir() and not real.exists():  # a crash between the two renames of a replacement
        move(aside, real)
    return checked(folder, kind, version, full)


def kind_of(folder: Path) -> str | None:
    """Returns what kind of folder recgym wrote there, e.g. "log"; None where the folder is not recgym's, or damaged."""
    try:
        return str(parsed_manifest(folder)["recgym"])
    except StoreError:
        return None


def verify(folder: str | Path) -> None:
    """Compares every file of a folder, of any kind and version, with size and hash in its manifest.

    Raises:
        StoreError: naming the first thing that is wrong.
    """
    manifest = parsed_manifest(Path(folder))
    read_manifest(folder, manifest["recgym"], manifest["version"], full=True)


# -- parts -------------------------------------------------------------------------------------------------------------


def _foreign(path: Path, own: Collection[str]) -> str | None:
    """Returns, for a message, what is at `path` that recgym did not write; None if there is nothing such."""
    while path.exists():
        with suppress(FileNotFoundError):
            before = path.stat()
            found = _unlisted(path, own) if path.is_dir() else "a file"
            found = "the current folder" if path.samefile(os.curdir) else found
            if os.path.samestat(before, path.stat()):  # else another process put its own there meanwhile: look again
                return found
    return None


def _unlisted(folder: Path, own: Collection[str]) -> str | None:
    listed = set(own) if own and (folder / next(iter(own))).is_file() else set()
    with suppress(StoreError):
        listed = {MANIFEST, HIDDEN, *parsed_manifest(folder)["files"]}
    inside = {parent.as_posix() for name in listed for parent in Path(name).parents}

    def refuse(error: OSError) -> NoReturn:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in sorted(files) + sorted(folders):
            part = Path(place, name).relative_to(folder).as_posix()
            if part not in (inside if name in folders else listed):
                return f"{part!r} in it"
    return None


def _publish(temporary: Path, path: Path, keep: Callable[[Path], bool] | None, check: Callable[[Path], None]) -> None:
    aside = _aside(path)
    for _ in range(100):  # each turn loses only to another process that published meanwhile
        if path.exists():
            if keep is not None and keep(path):
                return
            check(path)
            shutil.rmtree(aside, ignore_errors=True)
            if path.is_file():  # only where whatever is there may go
                path.unlink(missing_ok=True)
            else:
                move(path, aside)
        if move(temporary, path):
            sync_folder(path.parent)
            shutil.rmtree(aside, ignore_errors=True)
            return
    raise StoreError(f"{path} must come to rest, got another writer on each of 100 tries; write to different folders")


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}{_ASIDE}"


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{own_mark()}-{uuid.uuid4().hex[:12]}{TEMPORARY}")


def abandoned(folder: Path) -> list[Path]:
    """Returns the temporary files and folders in a folder whose writers are gone."""
    found = []
    for left in folder.glob(f".*{TEMPORARY}"):
        mark = left.name.removesuffix(TEMPORARY).rpartition(".")[2].rpartition("-")[0]
        with suppress(FileNotFoundError):  # another process finished or swept it meanwhile
            if not may_be_alive(mark, silence_of(left)):
                found.append(left)
    return found


def _sweep(folder: Path) -> None:
    for left in abandoned(folder):
        with suppress(FileNotFoundError):
            remove(left)
