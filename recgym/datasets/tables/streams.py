"""Bytes of a file as its readers want them: unpacked by what it holds, no larger than allowed, in one dialect."""

from __future__ import annotations

import codecs
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recgym.errors import DataError

FIELD_MARK = "\x1f"  # what stands between fields once a separator of several characters is replaced
_STEP = 1 << 20
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_FREE = 256 << 20  # bytes any file may unpack to


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one file may ask of this machine; `limits={"columns": 200_000}` allows more."""

    columns: int = 100_000  # of a text file
    header: int = 4 << 20  # bytes of the line of names of a text file
    field: int = 4 << 20  # letters of a field of a text file
    depth: int = 100  # brackets within brackets of a line of JSON
    expansion: int = 64  # times its size that a file may unpack to, beyond 256 MB; events count 20 bytes each


def make_limits(given: Mapping[str, int]) -> Limits:
    """Returns limits, some of them other than usual.

    Raises:
        DataError: if there is no such limit, or it is no whole number of at least 1.
    """
    known = [one.name for one in fields(Limits)]
    for name, value in given.items():
        if name not in known or isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DataError(
                f"limits must be whole numbers from 1 on of {', '.join(known)}, got {name}={value!r}; mend that one"
            )
    return Limits(**given)


def check_expansion(path: str | Path, size: int, n_bytes: int, most: int) -> None:
    """Raises a DataError if a file of `size` bytes has become more than it may."""
    if n_bytes > max(_FREE, most * size):
        raise DataError(
            f"{path} must unpack to at most {most} times its size, got over {n_bytes:,} bytes from {size:,}; "
            f'if it is meant, pass limits={{"expansion": {2 * n_bytes // max(size, 1) + 1}}}'
        )


class _Reader(io.RawIOBase):
    """A file that is read by `read` alone."""

    def readable(self) -> bool:
        """Returns that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer."""
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


class Bounded(_Reader):
    """What a packed file holds, in the words of recgym where it is damaged, and not without end."""

    def __init__(self, file: BinaryIO, path: Path, most: int) -> None:
        self._file, self._path, self._most = file, path, most
        self._size, self._read = path.stat().st_size, 0

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`; all there are for a negative one."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_STEP), b""))
        try:
            taken = self._file.read(size)
        except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(
                f"{self._path} must be readable, got {type(error).__name__}: {error}; get it again "
                "(an interrupted copy or download looks like this)"
            ) from error
        self._read += len(taken)
        check_expansion(self._path, self._size, self._read, self._most)
        return taken


class Unsplit(_Reader):
    """A file whose reads never end between the two letters of a line end: pyarrow would drop one (arrow #51368)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`."""
        taken = self._file.read(size - 1 if size > 1 else size)
        return taken + self._file.read(1) if size > 1 and taken.endswith(b"\r") else taken


class Shallow(_Reader):
    """Lines of JSON whose brackets stand no deeper than is allowed; pyarrow would end the process of a deep one."""

    def __init__(self, file: Any, where: str, most: int) -> None:
        self._file, self._where, self._most = file, where, most
        self._begun = b""  # of the last line

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`."""
        taken: bytes = self._file.read(size)
        lines = self._begun + taken
        self._begun = lines[lines.rfind(b"\n") + 1 :][-_STEP * 8 :]
        if lines.count(b"[") + lines.count(b"{") > self._most and _depth(lines) > self._most:
            depth = _depth(_STRING.sub(b"", lines))
            if depth > self._most:
                raise DataError(
                    f"lines of {self._where} must hold at most {self._most} brackets within brackets, got {depth}; "
                    f'mend that line, or pass limits={{"depth": {depth}}} if it is meant and memory allows it'
                )
        return taken


def _depth(lines: bytes) -> int:
    """Returns how deep brackets stand in the deepest of some lines."""
    letters = np.frombuffer(lines, dtype=np.uint8)
    letters = letters[(letters == ord("\n")) | ((letters | 0x20) == ord("{")) | ((letters | 0x20) == ord("}"))]
    steps = np.where((letters | 0x20) == ord("{"), 1, -1)
    steps[letters == ord("\n")] = 0
    depth = np.cumsum(steps)
    at_line = np.maximum.accumulate(np.where(letters == ord("\n"), np.arange(len(letters)), -1))
    before = np.where(at_line >= 0, depth[at_line], 0)
    return int((depth - before).max(initial=0))


class OneDialect(_Reader):
    """Text whose comments are blank lines, and whose separators of several characters are one, in UTF-8."""

    def __init__(self, file: Any, where: str, separator: str, encoding: str, quote: str | None, comment: str | None):
        """Takes an open file; see `TableOptions` for the others."""
        self._file, self._where = file, where
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._is_utf8 = codecs.lookup(encoding).name == "utf-8"
        self._separator = separator.encode() if len(separator) > 1 else b""
        self._quote, self._comment = (quote or "").encode(), (comment or "").encode()
        self._inside = self._at_end = False  # whether a quoted field has begun and not ended
        self._ready = self._rest = b""
        self._is_first = True

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`."""
        while not self._at_end and (size < 0 or len(self._ready) < size):
            more = self._file.read(_STEP)
            self._at_end = not more
            if self._is_first and self._is_utf8:
                more = more.removeprefix(codecs.BOM_UTF8)
            self._is_first = False
            if not self._is_utf8:
                more = self._decoder.decode(more, final=self._at_end).encode("utf-8", "surrogatepass")
            lines, newline, rest = (self._rest + more).rpartition(b"\n")
            lines, self._rest = (lines + newline + rest, b"") if self._at_end else (lines + newline, rest)
            self._ready += self._changed(lines)
        taken, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return taken

    def _changed(self, lines: bytes) -> bytes:
        if self._quote and (self._inside or self._quote in lines):
            return b"".join(map(self._changed_line, lines.splitlines(keepends=True)))
        if self._comment:
            lines = re.sub(rb"(?m)^" + re.escape(self._comment) + rb"[^\r\n]*", b"", lines)
        return self._joined(lines)

    def _changed_line(self, line: bytes) -> bytes:
        """Returns a line of which parts are quoted."""
        if self._comment and not self._inside and line.startswith(self._comment):
            return line[len(line.rstrip(b"\r\n")) :]
        parts = line.split(self._quote)
        for number, part in enumerate(parts):
            if self._inside == bool(number % 2):
                parts[number] = self._joined(part)
        self._inside ^= len(parts) % 2 == 0
        return self._quote.join(parts)

    def _joined(self, part: bytes) -> bytes:
        if not self._separator:
            return part
        if FIELD_MARK.encode() in part:
            raise DataError(
                f"{self._where} must not hold the letter \\x1f where its separator is {self._separator.decode()!r}, "
                "got one; remove it, or separate fields by one character"
            )
        return part.replace(self._separator, FIELD_MARK.encode())
