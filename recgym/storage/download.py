"""Downloads whose content is checked against a recorded hash; they happen only on the user's word."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from recgym.errors import DataError, HashMismatchError, MissingDataError, RecgymError
from recgym.storage.store import atomic_file, file_hash

_BLOCK = 1 << 16  # bytes of a piece
_SILENCE = 30.0  # seconds without a byte after which the network counts as gone
_PATIENCE, _SLOWEST = 60.0, 1_000  # seconds after which so many bytes a second are the least


@dataclass(frozen=True)
class Remote:
    """A file to be had from the network."""

    url: str
    size: int  # bytes, as published; stated before the download
    hash: str  # "md5:..." or "sha256:...", as published; compared after it
    licence: str  # in words
    sha256: str = ""  # compared too, where the publisher's hash is a weaker one and this one is known
    plain_http: bool = False  # whether an address without https will do, at the beginning or after a redirect

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
        MissingDataError: if `RECGYM_OFFLINE` forbids the download, or the network fails or is too slow to ever end.
        DataError: if the address, or one it leads to, is not https.
        HashMismatchError: if the file received, or the one already there, is not the recorded one, or has more bytes.
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
    if remote.sha256 and algorithm != "sha256":
        check_hash(path, replace(remote, hash=f"sha256:{remote.sha256}"), advice)


def _receive(remote: Remote, partial: Path, target: Path) -> None:
    import requests
    from tqdm import tqdm

    _check_address(remote.url, remote)
    try:
        with (
            requests.get(remote.url, stream=True, timeout=_SILENCE, headers={"Accept-Encoding": "identity"}) as answer,
            tqdm(
                total=remote.size,
                unit="B",
                unit_scale=True,
                desc=remote.file_name,
                disable=not sys.stderr.isatty(),
            ) as bar,
            open(partial, "wb") as file,
        ):
            for one in [*answer.history[1:], answer]:
                _check_address(one.url, remote)
            answer.raise_for_status()
            _copy(answer.iter_content(_BLOCK), file, bar, remote)
    except (requests.RequestException, ValueError) as error:  # a header that is none is a ValueError
        if isinstance(error, RecgymError):
            raise
        raise MissingDataError(
            f"{remote.url} must be reachable, got {type(error).__name__}: {error}; "
            f"try again, or put the file at {target}"
        ) from error


def _check_address(url: str, remote: Remote) -> None:
    if not url.startswith("https://") and not remote.plain_http:
        raise DataError(
            f"{remote.file_name} must come over https, got {url}; give an https address, or say plain_http=True if "
            "nobody between may be of harm"
        )


def _copy(blocks: Iterable[bytes], file: IO[bytes], bar: Any, remote: Remote) -> None:
    """Writes what arrives, up to the published size, and as long as it comes fast enough."""
    begin, received = time.monotonic(), 0
    for block in blocks:
        received += len(block)
        if received > remote.size:
            raise HashMismatchError(
                f"{remote.file_name} must have {remote.size:,} bytes, got more; the partial file was removed: try "
                "again, or get the file by another way"
            )
        seconds = time.monotonic() - begin
        if seconds > _PATIENCE and received < _SLOWEST * seconds:
            raise MissingDataError(
                f"{remote.url} must send {_SLOWEST:,} bytes a second, got {received / seconds:,.0f} for "
                f"{seconds:.0f} seconds; try again later, or get the file by another way"
            )
        file.write(block)
        bar.update(len(block))
