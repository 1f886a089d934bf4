"""Who is at work on a file: locks that the system frees when their holder dies, and names that say who writes.

A lock is `flock` on a small file, so that `kill -9` frees it and a thread waits for another as a process does. A name
holds host, process and when that process began, so that what a dead one left can be told from what a live one writes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from recgym.errors import StoreError

_HOUR = 3600.0


@contextmanager
def locked(path: str | Path, *, wait: bool = True, held: str = "another process is at it") -> Iterator[None]:
    """Holds the lock file `path` during the body; nobody else does meanwhile, in this process or another.

    The file is made with its folder, and removed at the end. A holder that dies frees it.

    Args:
        path: The lock file; it holds nothing.
        wait: Whether to wait for another holder; if not, one is an error.
        held: What a message says of another holder.

    Raises:
        StoreError: if the file cannot be made, or another holds it and `wait` is False.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _taken(path, wait)
    except BlockingIOError:
        raise StoreError(f"{path} must be free to lock, got a lock that is held: {held}; wait for it to end") from None
    except OSError as error:
        raise StoreError(f"{path.parent} must be a folder one can write to, got {error}; choose another") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; it is empty and is taken again
            path.unlink()
        os.close(handle)


def own_mark() -> str:
    """Returns letters and digits that name this process among all of all machines: host, namespace, process, start."""
    return "-".join([*_place(), str(os.getpid()), _started(os.getpid()) or "0"])


def may_be_alive(mark: str, silence: float) -> bool:
    """Returns whether the process of a mark may still be at work on something.

    A process of this machine is looked up. Of one on another machine, or behind another container's wall, only its
    silence tells: an hour here, a day elsewhere. A mark that cannot be read is of an earlier release: an hour too.

    Args:
        mark: As `own_mark` made it.
        silence: Seconds since it last wrote.
    """
    host, _, rest = mark.partition("-")
    space, _, process = rest.partition("-")
    number, _, start = process.partition("-")
    if not (number.isdecimal() and start.isdecimal()):
        return silence <= _HOUR
    if host != _place()[0] or os.name == "nt":
        return silence <= 24 * _HOUR
    found = _started(int(number))
    if found is not None and start in (found, "0"):
        return True
    return space != _place()[1] and silence <= _HOUR


def silence_of(path: Path) -> float:
    """Returns the seconds since a file, or anything in a folder, was last written to."""
    return time.time() - max(part.stat().st_mtime for part in [path, *path.rglob("*")])


def _taken(path: Path, wait: bool) -> int:
    """Returns the handle of the locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, wait)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):  # else an earlier holder removed it meanwhile
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
                return
            except OSError:
                if not wait:
                    raise BlockingIOError from None
                time.sleep(0.05)
    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@lru_cache(maxsize=1)
def _place() -> tuple[str, str]:
    """Returns what names this machine, and what this container's view of its processes."""
    machine = platform.node()
    with suppress(OSError):
        machine += Path("/etc/machine-id").read_text(encoding="utf-8")
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    host, view = (hashlib.sha256(text.encode()).hexdigest()[:8] for text in (machine, space))
    return host, view


def _started(process: int) -> str | None:
    """Returns when a process began, in ticks; "0" where the system does not say; None if it is not running."""
    try:
        state, *rest = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return None if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc: macOS
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"
