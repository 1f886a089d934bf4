"""A delimited text file, wherever it lies and in whatever dialect, that can be opened any number of times."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from recgym.datasets.tables.streams import FIELD_MARK, Limits, OneDialect


@dataclass(frozen=True)
class Text:
    """A delimited text file that can be opened any number of times, wherever it lies."""

    where: str  # what messages call it: a path, or ARCHIVE:MEMBER
    open: Callable[[], AbstractContextManager[BinaryIO]]
    separator: str = ","
    encoding: str = "utf-8"
    names: tuple[str, ...] | None = None  # column names of a file without a header line, or instead of it
    has_header: bool | None = None  # whether the first line holds names; None: unless they are given
    quote: str | None = '"'
    escape: str | None = None
    comment: str | None = None
    decimal: str = "."
    limits: Limits = field(default_factory=Limits)

    @property
    def skips_header(self) -> bool:
        """Whether the first line holds names, be they used or not."""
        return self.has_header if self.has_header is not None else self.names is None

    @property
    def is_odd(self) -> bool:
        """Whether comments or separators have to be replaced before anybody reads it."""
        return self.comment is not None or len(self.separator) > 1

    @property
    def delimiter(self) -> str:
        """The one character between fields of `lines`."""
        return FIELD_MARK if len(self.separator) > 1 else self.separator

    @property
    def line_encoding(self) -> str:
        """The encoding of `lines`."""
        return "utf-8" if self.is_odd else self.encoding

    @contextmanager
    def lines(self) -> Iterator[Any]:
        """Opens the file in one dialect: comments are blank, separators one character."""
        with self.open() as file:
            odd = self.is_odd
            yield (
                OneDialect(file, self.where, self.separator, self.encoding, self.quote, self.comment) if odd else file
            )

    def rows(self, first_bytes: int | None = None) -> Iterator[tuple[int, list[str]]]:
        """Yields (line number, fields) of every line that is not blank, header included; slow, for messages."""
        encoding = "utf-8-sig" if self.line_encoding.lower() in ("utf-8", "utf8") else self.line_encoding
        before = csv.field_size_limit(max(self.limits.field, 1 << 17))
        try:
            with self.lines() as file:
                own = file if first_bytes is None else io.BytesIO(file.read(first_bytes))
                with io.TextIOWrapper(own, encoding, errors="replace", newline="") as lines:
                    reader = csv.reader(
                        lines,
                        delimiter=self.delimiter,
                        quotechar=self.quote,
                        quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
                        escapechar=self.escape,
                    )
                    yield from ((reader.line_num, fields) for fields in reader if fields)
        finally:
            csv.field_size_limit(before)

    def place(self, row: int) -> str:
        """Returns where data row `row` (0 is the first) stands, as "line N"."""
        wanted = row + 1 if self.skips_header else row
        try:
            for seen, (line, _) in enumerate(self.rows()):
                if seen == wanted:
                    return f"line {line}"
        except (csv.Error, UnicodeError):
            pass  # a field beyond what may be, or letters that are none: counted is better than nothing
        return f"row {row + 1}"
