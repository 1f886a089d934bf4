"""Moving, removing and syncing: what `recgym.storage.store` does to files and folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def move(source: Path, target: Path) -> bool:
    """Renames a file or folder; returns False where another process was quicker, at either end."""
    try:
        os.rename(source, target)
    except OSError:
        if source.exists() and not target.exists():
            raise
        return False
    return True


def remove(path: Path) -> None:
    """Removes a file or a whole folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_tree(folder: Path) -> None:
    """Returns once a folder and all that is in it are on the disk."""
    for part in [*folder.rglob("*"), folder]:
        (sync_folder if part.is_dir() else sync)(part)


def sync(path: Path) -> None:
    """Returns once a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on the disk."""
    if os.name == "nt":  # Windows has no handle for folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
