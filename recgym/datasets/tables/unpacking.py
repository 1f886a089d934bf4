"""Files by what they hold, whatever their name says: packed or not, text, Parquet or something else."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from recgym.datasets.tables.streams import Bounded, Limits, Shallow
from recgym.datasets.tables.zips import only_member, open_member
from recgym.errors import DataError

_KINDS = {  # how a file begins -> what it is
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PAR1": "Parquet",
    b"ARROW1": "Feather or Arrow",
    b"FEA1": "Feather or Arrow",
    b"\x89HDF": "HDF5",
    b"\xd0\xcf\x11\xe0": "Excel",
    b"SQLite format 3": "SQLite",
}


def kind_of(path: Path) -> str | None:
    """Returns what a file is by its first bytes: a way of packing, a format that is no text, or None for text."""
    with open(path, "rb") as file:
        begin = file.read(16)
    return next((kind for magic, kind in _KINDS.items() if begin.startswith(magic)), None)


@contextmanager
def opened(path: Path, limits: Limits | None = None) -> Iterator[BinaryIO]:
    """Opens a file of text for reading, unpacked whatever its name says, and closes it.

    Raises:
        DataError: if it is no text, damaged, or unpacks to more than is allowed; also while it is read.
    """
    kind, limits = kind_of(path), limits or Limits()
    with _unpacked(path, kind) as file:
        yield file if kind is None else Bounded(file, path, limits.expansion)  # type: ignore[misc]


@contextmanager
def opened_json(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    """Opens a file of JSON lines likewise; one with too deep a line is refused while it is read."""
    with opened(path, limits) as file:
        yield Shallow(file, str(path), limits.depth)  # type: ignore[misc]


def _unpacked(path: Path, kind: str | None) -> AbstractContextManager[Any]:
    if kind == "zip":
        member = only_member(path)
        return open_member(path, member)
    if kind == "xz":
        return lzma.open(path)
    if kind is None or kind in ("gzip", "bz2", "zstd"):
        return pa.input_stream(str(path), compression=kind)
    how = "read it with pandas and pass the DataFrame as path="
    raise DataError(f"{path} must be text, Parquet or JSON lines, got a file of {kind}; {how}")
