"""Text that holds nothing but digits, points and separators, read at the speed of polars on all cores.

A stretch of a file is *plain* if each of its lines has all fields, none empty, and each number is written as one would
write it: no sign, no exponent, no leading zero before a digit, no quotes, no spaces. There polars and pyarrow read the
same bits, and a field read as a whole number is that number written out. Whatever else there is, `text` leaves to
pyarrow.
"""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

_WINDOW = 1 << 17  # bytes looked through at once: what stays in a core's cache
_LEADING = re.compile(rb"[^0-9./]0[0-9]")
_Parts = tuple[bytes, bytes | memoryview]
_KINDS = {pa.int64(): "Int64", pa.float64(): "Float64"}  # names in polars


def may_be(types: Mapping[str, pa.DataType | None], separator: str, encoding: str, null_values: Sequence[str]) -> bool:
    """Returns whether a file may be plain: numbers are wanted of it, and none of them stands for a missing value."""
    shown = f'0123456789.-/\r\n"{separator}'
    return (
        all(kind is None or _as_number(kind) in _KINDS for kind in types.values())
        and shown.isascii()
        and shown.encode(encoding, "replace") == shown.encode()
        and len(set(shown)) == len(shown)
        and all(not word or word.strip(shown) for word in null_values)
    )


class Lines:
    """The lines of a file that are plain, from its beginning on.

    Attributes:
        rest: When all `tables` have been drawn, what is left of the file; None where all of it was plain.
    """

    def __init__(
        self,
        file: BinaryIO,
        names: Sequence[str],
        types: Mapping[str, pa.DataType | None],
        separator: str,
        has_header: bool,
    ) -> None:
        """Takes a file and how to read it.

        Args:
            file: An open file, at its beginning.
            names: All columns of the file.
            types: What each wanted column holds: float64, int64, or whole numbers or words as a dictionary, which is
                int64 where it is plain. None: int64 if all of the first block is, else float64.
            separator: One character.
            has_header: Whether the first line holds the names.
        """
        self._place_of = {name: place for place, name in enumerate(names)}
        self._file, self._names, self._separator, self._has_header = file, names, separator, has_header
        self._types = {name: None if kind is None else _as_number(kind) for name, kind in types.items()}
        self.rest: BinaryIO | _Joined | None = None

    def tables(self, size: int) -> Iterator[pa.Table]:
        """Yields the wanted columns of some lines at a time, reading `size` bytes at a time."""
        rest, at_end = self._file.read(size), False
        if self._has_header:
            line, end, rest = rest.partition(b"\n")
            if not end or not line.strip(b" \r\xef\xbb\xbf") or b'"' in line or b"\r" in line[:-1]:
                return  # blank, quoted or of several lines
        n_threads = 1 + (os.cpu_count() or 1)  # polars parses on threads of its own; these wait for it
        waiting: deque[tuple[_Parts, Future[pa.Table | None]]] = deque()
        with ThreadPoolExecutor(n_threads) as pool:
            while waiting or not at_end:
                ahead = n_threads if None not in self._types.values() else 0
                while not at_end and len(waiting) <= ahead:
                    parts, rest, at_end = _whole_lines(self._file, rest, size)
                    waiting.append((parts, pool.submit(self._parsed, parts, at_end)))
                table = waiting[0][1].result()
                if table is None:
                    self.rest = _Joined(b"".join([*(part for parts, _ in waiting for part in parts), rest]), self._file)
                    return
                waiting.popleft()
                if table.num_rows:
                    self._types = {name: table.schema.field(name).type for name in self._types}
                    yield table

    def _parsed(self, parts: _Parts, at_end: bool) -> pa.Table | None:
        """Returns the wanted columns of some lines, or None if they are not plain."""
        import polars as pl  # half a second, which only reading needs to wait for

        lines = b"".join(parts)
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n")
        if at_end and not lines.endswith(b"\n"):
            lines += b"\n" if lines else b""
        n_marks = _count_marks(lines)
        if n_marks is None or lines[-1:] not in (b"\n", b""):
            return None
        options: dict[str, Any] = {"separator": self._separator, "quote_char": None, "ignore_errors": True}
        places = {name: self._place_of[name] for name in self._types}
        types = self._types
        while True:
            schema: dict[str, Any] = {str(place): pl.String for place in range(len(self._names))}
            schema |= {str(places[name]): getattr(pl, _KINDS[kind or pa.int64()]) for name, kind in types.items()}
            try:
                frame = pl.read_csv(lines, has_header=False, schema=schema, **options)
            except pl.exceptions.PolarsError:  # too many fields in a line, or too few in the first
                return None
            lacking = {place for place, column in enumerate(frame) if column.null_count()}
            unread = [name for name, place in places.items() if place in lacking]
            if frame.height * len(self._names) != n_marks or len(self._names) - 1 in lacking - set(places.values()):
                return None
            if not unread:
                return pa.table({name: frame.to_series(place).to_numpy() for name, place in places.items()})
            if any(types[name] is not None for name in unread):
                return None
            types = {name: pa.float64() if name in unread else kind for name, kind in types.items()}


class _Joined(io.RawIOBase):
    """Some bytes and, after them, what is left of a file."""

    def __init__(self, begin: bytes, file: BinaryIO) -> None:
        self._begin, self._file = begin, file

    def readable(self) -> bool:
        """Returns that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes, at most `size`; none at the end."""
        taken, self._begin = (self._begin[:size], self._begin[size:]) if size >= 0 else (self._begin, b"")
        return taken or self._file.read(size)


def _as_number(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_dictionary(kind) else kind


def _whole_lines(file: BinaryIO, rest: bytes, size: int) -> tuple[_Parts, bytes, bool]:
    """Returns parts of some lines, what was read beyond them, and whether the file ended."""
    more = file.read(size)
    end = more.rfind(b"\n") + 1
    if end:
        return (rest, memoryview(more)[:end]), more[end:], False
    if more and len(rest) < size:  # the line may end further on
        return (b"", b""), rest + more, False
    return (rest, more), b"", not more


def _count_marks(lines: bytes) -> int | None:
    """Returns how many characters are neither digits nor points nor signs, or None if a zero leads or has a sign.

    In plain lines these are as many as there are fields: each ends in a separator or a line end.
    """
    text = np.frombuffer(lines, dtype=np.uint8)
    n_marks = 0
    moved, inside, zero = (np.empty(min(_WINDOW, len(text)), dtype=kind) for kind in (np.uint8, bool, bool))
    before = b"\n\n"  # the last characters of the window before
    for first in range(0, len(text), _WINDOW):
        window = text[first : first + _WINDOW]
        within, zeros = inside[: len(window)], zero[: len(window)]
        np.less_equal(np.subtract(window, ord("."), out=moved[: len(window)]), ord("9") - ord("."), out=within)
        n_marks += len(window) - int(np.count_nonzero(within))  # a slash is within too, but in no number
        np.equal(window, ord("0"), out=zeros)
        np.greater(zeros[1:], within[:-1], out=zeros[1:])  # zeros at the beginning of a field
        leading = np.flatnonzero(zeros[1:-1]) + 2
        if (window[leading] >= ord("0")).any() or _LEADING.search(before + bytes(window[:2])):
            return None
        before = bytes(window[-2:])
    if b"-" in lines:  # counting what is not there takes longer
        n_marks -= lines.count(b"-")
        if lines.count(b"-0") != lines.count(b"-0."):
            return None
    return n_marks
