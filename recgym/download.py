"""Downloads whose content is checked against a recorded hash; they happen only on the user's word."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgym.errors import HashMismatchError, MissingDataError
from recgym.store import atomic_file, file_hash


@dataclass(frozen=True)
class Remote:
    """A file to be had from the network."""

    url: str
    size: int  # bytes, as published; stated before the download
    hash: str  # "md5:..." or "sha256:...", as published; compared after it
    licence: str  # in words

    @property
    def file_name(self) -> str:
        """Name of the file, the last part of its address."""
        return self.url.rsplit("/", 1)[-1]


def is_offline() -> bool:
    """Returns whether `RECGYM_OFFLINE` forbids downloads: any value but nothing and 0."""
    return os.environ.get("RECGYM_OFFLINE", "") not in ("", "0")


def fetch(remote: Remote, folder: str | Path) -> Path:
    """Returns `folder/<file name>` after downloading it, if need be, and checking its hash.

    States size, address and licence on stderr first and shows a progress bar on a terminal. The file appears under its
    name only when its hash is right; a partial or wrong one is not kept.

    Args:
        remote: What to download.
        folder: Where to put it; made if need be.

    Raises:
        MissingDataError: if `RECGYM_OFFLINE` forbids the download, or the network fails.
        HashMismatchError: if the file received, or the one already there, is not the recorded one.
        StoreError: if the folder cannot be written to.
    """
    target = Path(folder) / remote.file_name
    if target.is_file():
        check_hash(target, remote, f"delete it and fetch {remote.file_name} again")
        return target
    if is_offline():
        raise MissingDataError(
            f"RECGYM_OFFLINE must be unset to download {remote.file_name}, got "
            f"{os.environ['RECGYM_OFFLINE']!r}; unset it, or put the file at {target} yourself"
        )
    print(f"downloading {remote.file_name}, {remote.size / 1e6:,.1f} MB, from {remote.url}", file=sys.stderr)
    print(f"licence: {remote.licence}", file=sys.stderr)
    with atomic_file(target, advice="free it or set RECGYM_CACHE to a folder you can write to") as partial:
        _receive(remote, partial, target)
        check_hash(partial, remote, "the partial file was removed: try again, or get the file by another way")
    return target


def check_hash(path: Path, remote: Remote, advice: str) -> None:
    """Raises `HashMismatchError`, ending in `advice`, unless the file at `path` has the recorded hash."""
    algorithm, _, expected = remote.hash.partition(":")
    found = file_hash(path, algorithm)
    if found != expected:
        raise HashMismatchError(
            f"{remote.file_name} must have {algorithm.upper()} {expected}, got {found} "
            f"({path.stat().st_size:,} bytes at {path}); {advice}"
        )


def _receive(remote: Remote, partial: Path, target: Path) -> None:
    import pooch
    import requests
    from tqdm import tqdm

    hidden = not sys.stderr.isatty()
    bar: Any = tqdm(total=remote.size, unit="B", unit_scale=True, desc=remote.file_name, disable=hidden)
    try:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)(remote.url, str(partial), None)
    except requests.RequestException as error:
        raise MissingDataError(
            f"{remote.url} must be reachable, got {type(error).__name__}: {error}; "
            f"try again, or put the file at {target}"
        ) from error
    finally:
        bar.close()
