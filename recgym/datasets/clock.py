"""Times in a file, of whatever kind, as whole numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.errors import DataError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NUMBERS = "seconds since 1970 or dates like 2024-05-01T12:30"


class Reading(NamedTuple):
    """How the times of a column were read; a column that comes in blocks needs one reading for all of them."""

    unit: str = "s"  # unit of numbers
    has_parts: bool = False  # whether numbers have parts of a second
    as_dates: bool = False  # whether text was read as dates

    def merged(self, other: Reading) -> Reading:
        """Returns the reading that fits what both fit."""
        unit = max(self.unit, other.unit, key=_PER_SECOND.__getitem__)
        return Reading(unit, self.has_parts or other.has_parts, self.as_dates or other.as_dates)


def ticks(
    column: pa.ChunkedArray, unit: str | None, form: str | None, what: str = "times"
) -> tuple[np.ndarray, int, np.ndarray]:
    """Returns the first three of `read_ticks`, for a column that is whole."""
    return read_ticks(column, unit, form, what)[:3]


def read_ticks(
    column: pa.ChunkedArray, unit: str | None, form: str | None, what: str = "times", known: Reading | None = None
) -> tuple[np.ndarray, int, np.ndarray, Reading]:
    """Returns times as whole ticks since 1970 (n,) int64, how many make a second, and which are unreadable (n,) bool.

    The fourth is how they were read. A missing time is tick 0 and not counted as unreadable. Dates without a zone are
    read as UTC.

    Args:
        column: Numbers since 1970, timestamps, dates, or text.
        unit: Unit of numbers: `"s"`, `"ms"`, `"us"` or `"ns"`; None tells it from their size (from 1e11 on, a number
            cannot be seconds before the year 5138, and so on).
        form: How dates are written, in the letters of `strptime`, e.g. `"%d/%m/%Y"`; None reads ISO 8601.
        what: What messages call the column.
        known: How other blocks of the column were read; this one is read so as well where it fits.

    Raises:
        DataError: if the unit is unknown, or the column is of another kind.
    """
    if unit is not None and unit not in _PER_SECOND:
        raise DataError(f"time_unit must be one of {', '.join(_PER_SECOND)}, got {unit!r}; choose one of them")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if column.null_count == len(column):  # whatever its type was guessed to be
        column, kind = pa.nulls(len(column), pa.int64()), pa.int64()
    if form is not None and not pa.types.is_temporal(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
        return values, _PER_SECOND[kind.unit], np.zeros(len(values), dtype=bool), known or Reading()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        column = pc.fill_null(column, 0) if column.null_count else column
        return _from_numbers(column.to_numpy(), unit, known or Reading())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _from_text(column.cast(pa.string()), unit, form, known or Reading())
    raise DataError(f"{what} must be {_NUMBERS}, got {kind}; convert it first")


def _from_numbers(numbers: np.ndarray, unit: str | None, known: Reading) -> tuple[np.ndarray, int, np.ndarray, Reading]:
    is_real = numbers.dtype.kind == "f"
    wild = np.zeros(len(numbers), dtype=bool)
    if is_real:
        wild = ~np.isfinite(numbers) | (np.abs(numbers) >= 2.0**63)
    elif numbers.dtype.kind == "u":
        wild = numbers > 2**63 - 1
    if wild.any():
        numbers = np.where(wild, 0, numbers)
    highest = max(float(numbers.max(initial=0)), -float(numbers.min(initial=0)))
    fits = "ns" if highest >= 1e17 else "us" if highest >= 1e14 else "ms" if highest >= 1e11 else "s"
    has_parts = is_real and bool((numbers % 1 != 0).any())
    found = known.merged(Reading(unit or fits, has_parts)) if unit is None else Reading(unit, has_parts or known[1])
    per_second = _PER_SECOND[found.unit]
    if found.has_parts and per_second == 1:
        return np.rint(numbers * 1e6).astype(np.int64), 10**6, wild, found  # parts of a second decide the order
    return numbers.astype(np.int64, copy=False), per_second, wild, found


def _from_text(
    column: pa.ChunkedArray, unit: str | None, form: str | None, known: Reading
) -> tuple[np.ndarray, int, np.ndarray, Reading]:
    import pandas as pd

    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    words = encoded.dictionary.to_numpy(zero_copy_only=False)
    index = pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
    text = pd.Series(words, dtype=object)
    dates = pd.to_datetime(text, format=form or "ISO8601", utc=True, errors="coerce")
    numbers = pd.to_numeric(text, errors="coerce")
    fits = numbers.isna().sum() <= dates.isna().sum()  # the reading that fits more of the words
    if form is None and not known.as_dates and fits:
        values, per_second, wild, found = _from_numbers(numbers.to_numpy(dtype=np.float64), unit, known)
    else:
        wild = dates.isna().to_numpy()
        values = dates.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
        values, per_second, found = np.where(wild, 0, values), 10**6, known._replace(as_dates=True)
    values, wild = np.append(values, 0), np.append(wild, False)
    return values[index], per_second, wild[index], found
