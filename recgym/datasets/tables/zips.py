"""Files in a zip, opened one at a time."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from recgym.errors import DataError

_MOST_EXPANSION = 200  # a zip member that unpacks to more than this many times its size is refused


def only_member(path: Path) -> str:
    """Returns the name of the one file in a zip, which is to be read as text.

    Raises:
        DataError: if it holds none or several, or one of Parquet, or is damaged.
    """
    with zip_errors(path), zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(members) != 1 or members[0].lower().endswith((".parquet", ".pq")):
        raise DataError(
            f"a zip must hold one CSV file to be read as a table, got {len(members)} in {path}, e.g. {members[:3]}; "
            "unpack it and name the file"
        )
    return members[0]


@contextmanager
def open_member(path: Path, member: str) -> Iterator[BinaryIO]:
    """Opens a file in a zip for reading, and closes both.

    Raises:
        DataError: if the zip is damaged, or the file would unpack to far more than files do.
    """
    with zip_errors(path), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.file_size > _MOST_EXPANSION * info.compress_size + (1 << 20):
            raise DataError(
                f"a member of {path} must unpack to at most {_MOST_EXPANSION} times its size, got {info.file_size:,} "
                f"bytes from {info.compress_size:,} in {member}; get the zip again from its publisher"
            )
        with archive.open(member) as file:
            yield file  # type: ignore[misc]  # a ZipExtFile reads like any binary file


@contextmanager
def zip_errors(path: Path) -> Iterator[None]:
    """Turns what reading a damaged zip raises into a DataError that names it."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DataError(
            f"{path} must be a whole zip archive, got {type(error).__name__}: {error}; "
            "delete it and get it again (an interrupted copy or download looks like this)"
        ) from error
