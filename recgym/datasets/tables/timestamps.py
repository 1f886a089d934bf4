"""Times in a file, of whatever kind, as whole numbers; how they are read is one decision for the whole of a column."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.datasets.tables.kinds import called, is_text, plain_kind
from recgym.errors import DataError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAYS = {"D": 0, "excel": 25569}  # days since 1970, and since 1899-12-30: what day 1970-01-01 is
UNITS = (*_PER_SECOND, *_DAYS)
_NUMBERS = "seconds since 1970 or dates like 2024-05-01T12:30"
_CLEAR = 10**8  # seconds until 1973: smaller numbers are early in 1970 in any unit, and say nothing of theirs
_SCALES = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 2**63}  # numbers below are of this unit, or of one before
_LOOKS = {  # what whole numbers may be instead of seconds since 1970 -> lowest, highest, option that reads them
    "dates written YYYYMMDD": (19_000_101, 21_001_231, 'time_format="%Y%m%d"'),
    "dates written YYYYMMDDHHMM": (190_001_010_000, 210_012_312_359, 'time_format="%Y%m%d%H%M"'),
    "dates written YYYYMMDDHHMMSS": (19_000_101_000_000, 21_001_231_235_959, 'time_format="%Y%m%d%H%M%S"'),
    "months written YYYYMM": (190_001, 210_012, 'time_format="%Y%m"'),
    "years": (1900, 2100, 'time_format="%Y"'),
    "days as Excel counts them": (29_221, 55_153, 'time_unit="excel"'),  # 1980 to 2050
}
_ZONE = r"[T ]\d{2}[^Zz+-]*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"  # at the end of a date with a time of day
_DIGITS = {"YYYYMMDD": 1, "YYYYMMDDHHMM": 10**4, "YYYYMMDDHHMMSS": 10**6}


class Reading(NamedTuple):
    """How the times of a column are read. All its blocks are read alike, the way the widest of them asks for."""

    unit: str = "s"  # of numbers
    as_dates: bool = False  # whether text is read as dates
    per_second: int = 1  # ticks of a second: enough for every block


class ReadOtherwise(Exception):
    """Times further on need another reading than those before."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.reading = reading


class Clock:
    """Reads the times of one column, which come in blocks.

    Args:
        unit: Unit of numbers since 1970: `"s"`, `"ms"`, `"us"`, `"ns"` or `"D"` for days, or `"excel"` for days since
            1899-12-30. None tells it from their size: from 1e11 on, a number cannot be seconds before the year 5138.
        form: How dates are written, in the letters of `strptime`, e.g. `"%d/%m/%Y"`; None reads ISO 8601.
        reading: What an earlier pass over the column has found out.

    Raises:
        DataError: if the unit is unknown.
    """

    def __init__(self, unit: str | None = None, form: str | None = None, reading: Reading | None = None) -> None:
        if unit is not None and unit not in UNITS:
            raise DataError(f"time_unit must be one of {', '.join(UNITS)}, got {unit!r}; choose one of them")
        self._unit, self._form = unit, form
        self.reading = reading or Reading()
        self._has_read = False  # whether a block held a time
        self._looks: set[str] | None = None  # what all numbers so far may be instead; None: there was none
        self._scales: dict[str, tuple[int, float, Callable[[], str]]] = {}  # how many show a unit, the first, its place
        self.has_dates = self.has_numbers = False  # whether a block held any
        self._zones: dict[bool, tuple[str, str]] = {}  # by whether they have a zone: the first date, and its place
        self.read_numbers = False  # whether the last block was read as numbers

    def read(
        self, column: pa.ChunkedArray, what: str = "times", place: Callable[[int], str] = "row {}".format
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns times as ticks since 1970 (n,) int64, and which are unreadable (n,) bool.

        `self.reading.per_second` ticks are a second. A missing time is tick 0 and not unreadable; a block without any
        says nothing. Dates without a zone are read as UTC.

        Args:
            column: Numbers since 1970, timestamps, dates, or text.
            what: What messages call the column.
            place: Where a row stands.

        Raises:
            ReadOtherwise: if earlier blocks must be read anew, with the reading it holds.
            DataError: if the column is of another kind, or its numbers cannot be of one unit.
        """
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if column.null_count == len(column):  # whatever its type was guessed to be
            return np.zeros(len(column), dtype=np.int64), np.zeros(len(column), dtype=bool)
        given = kind = column.type
        before, self.read_numbers = self.reading, False
        if self._form is not None and not pa.types.is_temporal(kind):
            column, kind = _words(column), pa.string()
        if pa.types.is_date(kind):
            column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
        if pa.types.is_timestamp(kind):
            self.has_dates = True
            row = int(np.argmax(column.is_valid().to_numpy()))
            if not pa.types.is_date(given):  # a day is one in any zone
                self._meet_zone(kind.tz is not None, f"{column[row]} in {place(row)}", what)
            values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
            found = values, np.zeros(len(values), dtype=bool), _PER_SECOND[kind.unit]
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers = pc.fill_null(column, 0) if column.null_count else column
            known = column.is_valid().to_numpy() if column.null_count else None
            found = self._from_numbers(numbers.to_numpy(), known, what, place)
        elif pa.types.is_decimal(kind):
            numbers = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
            found = self._from_numbers(numbers, None, what, place)
        elif is_text(kind):
            found = self._from_text(column.cast(pa.string()), what, place)
        else:
            raise DataError(f"{what} must be {_NUMBERS}, got {called(plain_kind(kind))}; convert it first")
        values, wild, per_second = found
        self.reading = self.reading._replace(per_second=max(self.reading.per_second, per_second))
        if self._has_read and self.reading != before:
            raise ReadOtherwise(self.reading)
        self._has_read = True
        return _scaled(values, wild, self.reading.per_second // per_second)

    def finish(self, what: str = "times") -> None:
        """Raises a DataError if all numbers there were look like something else than seconds since 1970."""
        for look in sorted(self._looks or ()):
            option = _LOOKS[look][2]
            raise DataError(
                f"{what} must be {_NUMBERS}, got numbers that all look like {look}; pass {option}, or "
                'time_unit="s" if they are seconds'
            )

    @property
    def unit(self) -> str | None:
        """What the column was taken to hold: a unit of numbers, `"dates"`, or both; None if it held nothing."""
        own = (self._unit or self.reading.unit) if self.has_numbers else None
        return ", ".join(filter(None, [own, "dates" if self.has_dates else None])) or None

    def _from_numbers(
        self, numbers: np.ndarray, known: np.ndarray | None, what: str, place: Callable[[int], str]
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns ticks, which are unreadable, and ticks of a second; `known` says which are not missing."""
        self.has_numbers = self.read_numbers = True
        wild, given = np.zeros(len(numbers), dtype=bool), numbers.dtype
        if given.kind == "f":
            numbers = numbers.astype(np.float64, copy=False)
            nothing = np.isnan(numbers)
            wild = np.isinf(numbers) | (np.abs(numbers) >= 2.0**63)
            if nothing.any():
                known = ~nothing if known is None else known & ~nothing
        elif numbers.dtype == np.uint64:
            wild = numbers > 2**63 - 1
        if wild.any() or (known is not None and not known.all()):
            known = ~wild if known is None else known & ~wild
            numbers = np.where(known, numbers, numbers.dtype.type(0))
        present = numbers if known is None else numbers[known]
        if len(present) == 0:
            return np.zeros(len(numbers), dtype=np.int64), wild, 1
        if self._unit is None:
            self._tell_scale(numbers, known, what, place)
            self._narrow_looks(present)
        unit = self._unit or self.reading.unit
        _check_width(float(np.abs(present).max()), given, unit, what)
        if unit in _DAYS:
            micros = (numbers.astype(np.float64) - _DAYS[unit]) * 86400e6
            wild |= np.abs(micros) >= 2.0**63
            if known is not None:
                micros[~known] = 0.0
            return np.rint(np.where(wild, 0.0, micros)).astype(np.int64), wild, 10**6
        if unit == "s" and numbers.dtype.kind == "f" and (self.reading.per_second > 1 or (numbers % 1 != 0).any()):
            micros = np.rint(numbers.astype(np.float64) * 1e6)  # parts of a second decide the order
            wild |= np.abs(micros) >= 2.0**63
            return np.where(wild, 0.0, micros).astype(np.int64), wild, 10**6
        return numbers.astype(np.int64, copy=False), wild, _PER_SECOND[unit]

    def _tell_scale(
        self, numbers: np.ndarray, known: np.ndarray | None, what: str, place: Callable[[int], str]
    ) -> None:
        """Finds the unit that numbers show by their size; those of two units are refused."""
        highest = max(int(numbers.max()), -int(numbers.min()))
        if highest < _CLEAR:
            return
        sizes, low = np.abs(numbers) if int(numbers.min()) < 0 else numbers, _CLEAR
        for unit, bound in _SCALES.items():
            inside = sizes >= low if unit == "ns" else (sizes >= low) & (sizes < bound)
            count, row = int(np.count_nonzero(inside)), int(np.argmax(inside))
            if count:
                seen = self._scales.get(unit, (0, float(numbers[row]), partial(place, row)))
                self._scales[unit] = (seen[0] + count, *seen[1:])
            if highest < bound:
                break
            low = bound
        if len(self._scales) > 1:
            self._refuse_scales(what)
        self.reading = self.reading._replace(unit=next(iter(self._scales)))

    def _refuse_scales(self, what: str) -> None:
        most, *others = sorted(self._scales.items(), key=lambda one: -one[1][0])
        shown = " and ".join(
            f"{count:,} like {number:.0f} ({_shown(number, unit)} in {unit})"
            for unit, (count, number, _) in [most, *others]
        )
        raise DataError(
            f"{what} must be times of one unit, got {shown}, the first of another in {others[0][1][2]()}; "
            f"mend those, or pass time_unit={most[0]!r}, which most look like, to read all alike"
        )

    def _narrow_looks(self, present: np.ndarray) -> None:
        """Keeps what all numbers may be instead of seconds."""
        if self._looks is not None and not self._looks:
            return
        lowest, highest = float(present.min()), float(present.max())
        kept = {
            look
            for look, (low, high, _) in _LOOKS.items()
            if low <= lowest and highest < high + 1 and (self._looks is None or look in self._looks)
        }
        whole = present.astype(np.int64)
        is_whole = present.dtype.kind != "f" or bool((whole == present).all())
        self._looks = {look for look in kept if "Excel" in look or (is_whole and _is_calendar(look, whole))}

    def _meet_zone(self, has_zone: bool, shown: str, what: str) -> None:
        """Raises a DataError if times with a zone and times without are of one column."""
        self._zones.setdefault(has_zone, (shown, what))
        if len(self._zones) == 2:
            first, where = self._zones[not has_zone]
            raise DataError(
                f"{what} must hold times that all have a zone, or none that has, got {shown} and {first}"
                f"{'' if where == what else f' of {where}'}; write the zone of each (a column without is read as UTC)"
            )

    def _from_text(
        self, column: pa.ChunkedArray, what: str, place: Callable[[int], str]
    ) -> tuple[np.ndarray, np.ndarray, int]:
        import pandas as pd

        encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
        words = encoded.dictionary.to_numpy(zero_copy_only=False)
        index = pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
        text = pd.Series(words, dtype=object)
        dates = pd.to_datetime(text, format=self._form or "ISO8601", utc=True, errors="coerce")
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        fits = np.isnan(numbers).sum() <= dates.isna().sum()  # the reading that fits more of the words
        if self._form is None and not self.reading.as_dates and fits:
            unread = np.isnan(numbers)
            first = np.full(len(words) + 1, -1)
            first[index[::-1]] = np.arange(len(index))[::-1]
            values, wild, per_second = self._from_numbers(numbers, None, what, lambda word: place(int(first[word])))
            wild = wild | unread
        else:
            self.has_dates, wild = True, dates.isna().to_numpy()
            zoned = pc.match_substring_regex(encoded.dictionary, _ZONE).to_numpy(zero_copy_only=False)
            timed = pc.match_substring_regex(encoded.dictionary, r"\d[T ]\d").to_numpy(zero_copy_only=False)
            for has_zone in (True, False) if self._form is None else ():
                if (found := ~wild & timed & (zoned == has_zone)).any():
                    word = int(np.argmax(found))
                    self._meet_zone(has_zone, f"{words[word]} in {place(int(np.argmax(index == word)))}", what)
            values = dates.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
            values, per_second = np.where(wild, 0, values), 10**6
            self.reading = self.reading._replace(as_dates=True)
        values, wild = np.append(values, 0), np.append(wild, False)
        return values[index], wild[index], per_second


def ticks(
    column: pa.ChunkedArray, unit: str | None, form: str | None, what: str = "times"
) -> tuple[np.ndarray, int, np.ndarray]:
    """Returns the ticks of a column that is whole (n,) int64, how many make a second, and which are unreadable (n,)."""
    clock = Clock(unit, form)
    values, wild = clock.read(column, what)
    clock.finish(what)
    return values, clock.reading.per_second, wild


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a column as text; whole numbers without a point, whatever they are held in."""
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        whole = np.isfinite(numbers) & (np.abs(numbers) < 2.0**53)
        if (numbers[whole] % 1 == 0).all():
            return pa.chunked_array([pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)]).cast(
                pa.string()
            )
    return column.cast(pa.string())


def _scaled(values: np.ndarray, wild: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns ticks, each of which is `factor` of those returned, and which cannot be."""
    if factor == 1:
        return values, wild
    beyond = np.abs(values) > (2**63 - 1) // factor
    wild = wild | beyond
    return np.where(wild, 0, values) * factor, wild


def _check_width(largest: float, given: np.dtype, unit: str, what: str) -> None:
    """Raises a DataError if floats are so far apart that neighbouring seconds are one number."""
    if given.kind != "f":
        return
    seconds = float(np.spacing(given.type(largest))) * (86400.0 if unit in _DAYS else 1.0 / _PER_SECOND[unit])
    if seconds > 1.0:
        raise DataError(
            f"{what} must be in numbers wide enough to tell seconds apart, got {given} with {largest:.0f}, where "
            f"neighbours are {seconds:.0f} s apart; write the column as int64 or float64"
        )


def _is_calendar(look: str, numbers: np.ndarray) -> bool:
    """Returns whether all whole numbers are dates written in digits."""
    name = look.rsplit(" ", 1)[-1]
    if name not in _DIGITS:
        return name != "YYYYMM" or bool(((numbers % 100 >= 1) & (numbers % 100 <= 12)).all())
    clock, days = numbers % _DIGITS[name], numbers // _DIGITS[name]
    hours, minutes = (clock // 10**4, clock // 100 % 100) if name.endswith("SS") else (clock // 100, clock % 100)
    month, day = days // 100 % 100, days % 100
    fits = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (hours < 24) & (minutes < 60)
    return bool((fits & (clock % 100 < 60)).all())


def _shown(number: float, unit: str) -> str:
    try:
        return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number / _PER_SECOND[unit])).date())
    except OverflowError:
        return f"the year {1970 + number / _PER_SECOND[unit] / 31_556_952:.0f}"
