"""What is said of delimited text that cannot be read: every complaint names file, line and column."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recgym.datasets.tables.text_file import Text
from recgym.errors import DataError

_MARKS = {  # first bytes -> encoding; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class NotNumber(DataError):
    """A field that must hold a number holds something else."""

    def __init__(self, message: str, column: str, value: str) -> None:
        super().__init__(message)
        self.column, self.value = column, value


def require_columns(where: str, wanted: Any, present: Sequence[str]) -> None:
    """Raises a DataError if a wanted column is not among those present."""
    there = set(present)
    lacking = [name for name in wanted if name not in there]
    if lacking:
        shown = ", ".join(repr(brief(name)) for name in present[:30]) + (
            f" and {len(present) - 30:,} more" if len(present) > 30 else ""
        )
        few = present if len(present) < len(set(wanted)) else ()
        other = next((one for one in "\t;|" if any(one in name for name in few)), "")
        hint = f", or name its separator, which looks like {other!r}" if other else ""
        raise DataError(
            f"{where} must have the column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking))}, "
            f"got {shown}; name the columns as they stand in the file{hint}"
        )


def require_different(where: str, names: Sequence[str]) -> None:
    """Raises a DataError if two columns have the same name."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"the columns of {where} must have different names, got {twice} more than once; rename them")


def brief(value: Any) -> str:
    """Returns a value as it may stand in a message: its beginning."""
    words = str(value)
    return words if len(words) <= 80 else f"{words[:80]}..."


def refuse(
    where: str,
    column: str,
    must: str,
    bad: np.ndarray,
    values: Any,
    place: Callable[[int], str],
    remedy: str = "mend or remove them",
) -> None:
    """Raises a DataError if any row is bad, naming the first.

    Args:
        where: What messages call the source.
        column: Name of the column.
        must: What the values must be.
        bad: Which rows are bad (n,) bool.
        values: The column (n,), to show the first bad value.
        place: Where a row stands, e.g. `Text.place`.
        remedy: What to do.
    """
    rows = np.flatnonzero(bad)
    if len(rows):
        raise DataError(
            f"column {column!r} of {where} must {must}, got {brief(values[rows[0]])} in {place(int(rows[0]))} "
            f"({len(rows)} of {len(bad)} rows); {remedy}"
        )


def wrong_encoding(text: Text, what: str) -> DataError:
    """Returns the error that `what` of a file is in another encoding."""
    with text.open() as file:
        begins = file.read(4)
    marked = next((name for mark, name in _MARKS.items() if begins.startswith(mark)), None)
    if marked is None and len(begins) == 4 and begins.count(0) == 2:  # letters of two bytes, and no mark
        marked = {b"\0\0": "utf-16-le"}.get(begins[1::2]) or {b"\0\0": "utf-16-be"}.get(begins[::2])
    which = f'its first bytes say encoding="{marked}"' if marked else 'e.g. encoding="latin-1"'
    return DataError(
        f"{text.where} must be text in {text.encoding}, got bytes that are not in {what}; "
        f"pass the encoding it was written in, {which}"
    )


def swallowed(text: Text) -> str:
    """Returns a remark on the first quoted field of several lines, which may have eaten rows, or nothing."""
    try:
        for line, fields in text.rows():
            n_lines = sum(field.count("\n") for field in fields)
            if n_lines:
                return (
                    f" (a quoted field runs from line {line - n_lines} to line {line}: pass quote=None if quotes are "
                    "ordinary letters there)"
                )
    except (csv.Error, UnicodeError):
        pass
    return ""


CONVERSION = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (.+?): (.*)", re.DOTALL)
_FIELDS = re.compile(r"Row #(\d+): Expected (\d+) columns?, got (\d+)")
_KINDS = {"double": "numbers", "int64": "whole numbers", "null": "nothing"}


def unreadable(text: Text, message: str, types: Mapping[str, pa.DataType], names: Sequence[str]) -> DataError:
    """Returns the error for what pyarrow says of a file; its columns have `names`, and were to have `types`."""
    first = 2 if text.skips_header else 1  # Arrow counts rows from 1 and the header as one
    if found := CONVERSION.search(message):
        column, row, kind, problem = int(found[1]), int(found[2] or first) - first, found[3], found[4]
        place, name = text.place(row), names[column]
        if "UTF8" in problem:
            return wrong_encoding(text, f"{place}, column {name!r}")
        value = problem.removeprefix("invalid value ").split("\n")[0]
        if kind == "null":
            return DataError(
                f"{text.where} must keep its published layout, got {brief(value)} in {place}; get the file again"
            )
        message = (
            f"column {name!r} of {text.where} must hold {_KINDS.get(kind, kind)}, got {brief(value)} in {place}; "
            "mend or remove that line"
        )
        return NotNumber(message, name, value)
    if found := _FIELDS.search(message):
        place = text.place(int(found[1]) - first)
        return DataError(
            f"every line of {text.where} must have {found[2]} fields, got {found[3]} in {place}{swallowed(text)}; "
            "mend that line, name the right separator, or get the file again if it was cut short"
        )
    if "straddling" in message:
        return DataError(
            f"every line of {text.where} must be shorter than 4 MB, got a longer one{swallowed(text)}; "
            "mend that line, or pass quote=None if quotes are ordinary letters"
        )
    return DataError(f"{text.where} must be text in columns, got {message}; check the file")
