"""HDF5 files whose failed writes are seen: opened, closed and compared with what was to be written."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from recgym.errors import StoreError
from recgym.export.rows import Columns
from recgym.storage.manifests import readable

_READ = 1 << 18  # bytes compared at a time: they stay in the processor's cache
_WHOLE = 1 << 26  # bytes of a file that is searched from end to end
_HEAP = b"GCOL\1\0\0\0"  # with which a global heap of HDF5 begins


@contextmanager
def writing(h5py: Any, path: Path, mode: str) -> Iterator[Any]:
    """Opens a file to write; where that fails, HDF5 is given another place for the rest, which it would die of."""
    file = h5py.File(path, mode)
    handle = file.id.get_vfd_handle()
    try:
        yield file
        file.flush()
        file.close()
    except BaseException:
        with suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                elsewhere = os.memfd_create("lost") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
                os.dup2(elsewhere, handle)
                os.close(elsewhere)
        with suppress(Exception):
            file.close()
        raise


@contextmanager
def opened(h5py: Any, path: Path) -> Iterator[Any]:
    """Opens a file to read; what is wrong with it becomes a StoreError that names it."""
    with readable(path, "be a readable HDF5 file", "export it again"), h5py.File(path, "r") as file:
        _check_heaps(h5py, file, path)
        yield file


def _check_heaps(h5py: Any, file: Any, path: Path) -> None:
    """Raises a ValueError if a heap of texts in a file is damaged so that HDF5 would read it for ever.

    HDF5 goes from object to object by the size that each one names, and one that names none keeps it where it is.
    """
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("numbers of other sizes than recgym writes")
    columns = []
    if path.stat().st_size > _WHOLE:  # of a larger one what is no column: heaps lie there
        file.visititems(lambda _, part: columns.append(part) if isinstance(part, h5py.Dataset) else None)
    extents = sorted((column.id.get_offset() or 0, column.id.get_storage_size()) for column in columns)
    begins = [0, *(begin + size for begin, size in extents)]
    with open(path, "rb") as there, mmap.mmap(there.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for begin, end in zip(begins, [*(begin for begin, _ in extents), len(content)], strict=True):
            at = content.find(_HEAP, begin, end)
            while at >= 0:
                _check_heap(content, at)
                at = content.find(_HEAP, at + 1, end)


def _check_heap(content: mmap.mmap, begin: int) -> None:
    """Raises a ValueError unless the objects of the heap that begins there follow each other to its end."""
    (size,) = struct.unpack_from("<Q", content, begin + 8)
    at, end = begin + 16, begin + size
    while at + 16 <= end <= len(content):
        index, length = struct.unpack_from("<H6xQ", content, at)
        step = 16 + (length + 7) // 8 * 8 if index else length
        if step < 16:
            break
        at += step
    if not end - 16 < at <= end <= len(content):
        raise ValueError(f"a damaged heap at byte {begin:,}")


def proved(path: Path, there: Any, places: Mapping[str, int], made: Columns, first: int) -> dict[str, int]:
    """Returns the checksum of each column of a block, once it is seen that the file holds just these bytes.

    Args:
        path: The file.
        there: It, open to be read, past all that HDF5 keeps in memory.
        places: Where each column begins in it.
        made: The block.
        first: Its first row.

    Raises:
        StoreError: if something else is there.
    """
    sums, buffer = {}, bytearray(_READ)
    for name, column in made.items():
        content = column.reshape(-1).view(np.uint8).data
        there.seek(places[name] + first * column[:1].nbytes)
        for begin in range(0, len(content), _READ):
            wanted = content[begin : begin + _READ]
            buffer = buffer if len(buffer) == len(wanted) else bytearray(len(wanted))
            if there.readinto(buffer) != len(wanted) or buffer != wanted:
                raise other_values(path, name, first, first + len(column))
        sums[name] = zlib.crc32(content)
    return sums


def other_values(path: Path, name: str, first: int, end: int) -> StoreError:
    """Returns the error that says in which rows, `first` to before `end`, a column is not what was written."""
    return StoreError(
        f"{path} must hold what was written, got other values of {name!r} in rows {first} to {end - 1}; it is damaged, "
        "export it again"
    )
