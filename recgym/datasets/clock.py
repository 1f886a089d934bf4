"""Times in a file, of whatever kind, as whole numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recgym.errors import DataError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NUMBERS = "seconds since 1970 or dates like 2024-05-01T12:30"


def ticks(
    column: pa.ChunkedArray, unit: str | None, form: str | None, what: str = "times"
) -> tuple[np.ndarray, int, np.ndarray]:
    """Returns times as whole ticks since 1970 (n,) int64, how many make a second, and which are unreadable (n,) bool.

    A missing time is tick 0 and not counted as unreadable. Dates without a zone are read as UTC.

    Args:
        column: Numbers since 1970, timestamps, dates, or text.
        unit: Unit of numbers: `"s"`, `"ms"`, `"us"` or `"ns"`; None tells it from their size (from 1e11 on, a number
            cannot be seconds before the year 5138, and so on).
        form: How dates are written, in the letters of `strptime`, e.g. `"%d/%m/%Y"`; None reads ISO 8601.
        what: What messages call the column.

    Raises:
        DataError: if the unit is unknown, or the column is of another kind.
    """
    if unit is not None and unit not in _PER_SECOND:
        raise DataError(f"time_unit must be one of {', '.join(_PER_SECOND)}, got {unit!r}; choose one of them")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        column, kind = column.cast(pa.int64()), pa.int64()
    if form is not None and not pa.types.is_temporal(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
        return values, _PER_SECOND[kind.unit], np.zeros(len(values), dtype=bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _from_numbers(pc.fill_null(column, 0).to_numpy(), unit)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _from_text(column.cast(pa.string()), unit, form)
    raise DataError(f"{what} must be {_NUMBERS}, got {kind}; convert it first")


def _from_numbers(numbers: np.ndarray, unit: str | None) -> tuple[np.ndarray, int, np.ndarray]:
    wild = ~np.isfinite(numbers) | (np.abs(numbers.astype(np.float64)) >= 2.0**63)
    numbers = np.where(wild, 0, numbers)
    highest = np.abs(numbers.astype(np.float64)).max(initial=0.0)
    if unit is None:
        unit = "ns" if highest >= 1e17 else "us" if highest >= 1e14 else "ms" if highest >= 1e11 else "s"
    per_second = _PER_SECOND[unit]
    if numbers.dtype.kind == "f" and (numbers % 1 != 0).any() and per_second == 1:
        return np.rint(numbers * 1e6).astype(np.int64), 10**6, wild  # parts of a second decide the order
    return numbers.astype(np.int64), per_second, wild


def _from_text(column: pa.ChunkedArray, unit: str | None, form: str | None) -> tuple[np.ndarray, int, np.ndarray]:
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    words = encoded.dictionary.to_numpy(zero_copy_only=False)
    index = pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
    text = pd.Series(words, dtype=object)
    dates = pd.to_datetime(text, format=form or "ISO8601", utc=True, errors="coerce")
    numbers = pd.to_numeric(text, errors="coerce")
    if form is None and numbers.isna().sum() <= dates.isna().sum():  # the reading that fits more of the words
        values, per_second, wild = _from_numbers(numbers.to_numpy(dtype=np.float64), unit)
    else:
        wild = dates.isna().to_numpy()
        values = dates.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
        values, per_second = np.where(wild, 0, values), 10**6
    values, wild = np.append(values, 0), np.append(wild, False)
    return values[index], per_second, wild[index]
