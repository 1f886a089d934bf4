"""Columns of outside ids as small numbers, without a Python object per event."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.datasets.tables.columns import Columns
from recgym.datasets.tables.complaints import refuse
from recgym.datasets.tables.kinds import called, is_text, plain_kind
from recgym.errors import DataError
from recgym.ids import as_ids, factorise, sorting

OWN_CODE = 1 << 24  # whole numbers below it are their own code; a table of so many is small
_LOOSE = re.compile(
    r"[ \t]*([+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?)[ \t]*"
)  # as programs write numbers


class Codes(NamedTuple):
    """A column of ids: `ids[code]` gives it back."""

    code: np.ndarray  # (n,) int32, -1 where the id is missing
    ids: np.ndarray  # unique ids in sorted order


class _Words:
    """Words of one kind, whole numbers or text, that have a code."""

    def __init__(self) -> None:
        self.code_of: dict[Any, int] = {}
        self.known: pa.Array | None = None  # the first words of code_of, to look many up at once
        self.known_codes = np.zeros(0, dtype=np.int32)


class Coder:
    """Gives the ids of a column that comes in blocks numbers, their codes, and at the end indices in sorted order.

    A whole number from 0 to some millions is its own code, and so is the text that one would write for it. Other ids
    have the codes -2, -3, ... in order of appearance, so that any code is a place in one table.

    What the column holds is decided at its end, for all blocks alike: text where one block held text; in a CSV file
    numbers where every word is a whole number (`1.0` and `1` are one), else text; numbers of the widest type seen.

    Attributes:
        has_merged: Whether, after `finish`, two codes are one id.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_merged = False
        self._words = {True: _Words(), False: _Words()}  # by whether they are text
        self._others: list[Any] = []  # the ids of the codes -2, -3, ...
        self._seen_numbers = np.zeros(0, dtype=bool)  # whether an event that stays has it
        self._seen_others = np.zeros(0, dtype=bool)
        self._mixed: np.ndarray | None = None  # ids of mixed kinds, which only a whole DataFrame has
        self._widths: set[np.dtype] = set()  # of whole numbers
        self._hashes: list[int] = []  # of the others
        self._is_text = self._is_written = False  # whether a block held text, or words of a CSV file

    def add(self, columns: Columns) -> np.ndarray:
        """Returns the codes of a block (n,) integer, -1 where the id is missing.

        Raises:
            DataError: if the column holds neither whole numbers nor text.
        """
        if self.name in columns.objects:
            return self._add_mixed(columns)
        column = _whole(columns, self.name)
        if column.null_count == len(column):  # a block without any says nothing
            return np.full(len(column), -1, dtype=np.int32)
        kind = plain_kind(column.type)
        self._is_written |= columns.is_text
        if pa.types.is_integer(kind):
            if not columns.is_text:
                self._widths.add(np.dtype(kind.to_pandas_dtype()))
            if column.type == kind and not column.null_count:
                numbers = column.to_numpy()
                if numbers.min() >= 0 and numbers.max() < OWN_CODE:
                    return numbers.astype(np.int32, copy=False)
        else:
            self._is_text |= is_text(kind) and not columns.is_text
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        encoded = column.unify_dictionaries().combine_chunks()
        if pa.types.is_decimal(kind):
            listed = [int(number) for number in encoded.dictionary.to_pylist()]
            own = np.array([self._code(number, False) for number in listed], dtype=np.int32)
            self._widths.add(np.dtype(np.int64))
        else:
            own = self._codes(encoded.dictionary.cast(pa.string()) if is_text(kind) else encoded.dictionary)
        own = np.append(own, np.int32(-1))
        index = encoded.indices
        index = pc.fill_null(index.cast(pa.int32()), len(own) - 1) if index.null_count else index
        return own[index.to_numpy(zero_copy_only=False)]

    def _codes(self, words: pa.Array) -> np.ndarray:
        """Returns the codes of different words (m,) int32, giving new ones to new words."""
        of_text = bool(pa.types.is_string(words.type))
        table = self._words[of_text]
        fits = of_text or words.type != pa.uint64()
        words = words if of_text or not fits else words.cast(pa.int64())
        if table.known is None or not fits or 8 * len(words) < len(table.known):  # a few words: one by one
            codes = np.full(len(words), -1, dtype=np.int32)
        else:
            place = pc.fill_null(pc.index_in(words, table.known), -1).to_numpy(zero_copy_only=False)
            codes = np.append(table.known_codes, np.int32(-1))[place]
        new = np.flatnonzero(codes == -1)
        listed = (words.take(pa.array(new)) if len(new) < len(words) else words).to_pylist()
        codes[new] = np.fromiter((self._code(word, of_text) for word in listed), np.int32, len(new))
        if fits and len(new) > 1000 and len(table.code_of) > 5 / 4 * len(table.known_codes):
            table.known = pa.array([one if of_text or one < 2**63 else 0 for one in table.code_of], words.type)
            table.known_codes = np.fromiter(table.code_of.values(), np.int32, len(table.code_of))
        return codes

    def _code(self, word: Any, of_text: bool) -> int:
        """Returns the code of a word, giving it one if it has none; 7 and "7" have one code."""
        code_of = self._words[of_text].code_of
        code = code_of.get(word)
        if code is None:
            number = word
            if of_text:
                digits = word[1:] if word[:1] == "-" else word
                is_number = len(word) < 20 and digits.isascii() and digits.isdecimal() and str(int(word)) == word
                number = int(word) if is_number else None
            others = self._words[not of_text].code_of
            same = others.get(number if of_text else str(word)) if others and number is not None else None
            if same is not None:
                code = same
            elif number is not None and 0 <= number < OWN_CODE:
                code = number
            else:
                self._others.append(word)
                code = -1 - len(self._others)
            code_of[word] = code
        return code

    def code_of_name(self) -> int | None:
        """Returns the code of the column's own name, if it is among the ids."""
        return self._words[True].code_of.get(self.name)

    def hashes(self, codes: np.ndarray) -> np.ndarray:
        """Returns a number for each of the codes (n,) uint64 that depends on nothing but its id; 7 and "7" share it."""
        if self._mixed is not None:
            return np.array([_hash(one) for one in self._mixed], dtype=np.uint64)[codes]
        self._hashes += [_hash(word) for word in self._others[len(self._hashes) :]]
        others = np.array([0, *self._hashes], dtype=np.uint64)  # -1 has none
        if codes.min(initial=0) >= 0:
            return mixed(codes.astype(np.uint64))
        return np.where(codes >= 0, mixed(codes.astype(np.int64).view(np.uint64)), others[np.maximum(-1 - codes, 0)])

    def swallowed(self, separator: str) -> int:
        """Returns how many words of a CSV file hold a separator and a line end, as rows between stray quotes do."""
        words = [word for word in self._others if isinstance(word, str) and "\n" in word] if self._is_written else []
        return sum(separator in word for word in words)

    def keep(self, codes: np.ndarray) -> None:
        """Counts the ids of events that stay; `finish` leaves the others out."""
        if self._others:
            self._seen_others = _flagged(self._seen_others, -2 - codes[codes < -1])
            codes = codes[codes >= 0]
        self._seen_numbers = _flagged(self._seen_numbers, codes)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the index of each code (m,) int32, -1 at the place of the code -1, and the ids in index order."""
        numbers, others = np.flatnonzero(self._seen_numbers), len(self._others)
        ids = self._ids(numbers)
        codes = np.concatenate([numbers, -2 - np.arange(others)])
        seen = np.ones(len(codes), dtype=bool)
        seen[len(numbers) :] = _flagged(self._seen_others, np.zeros(0, dtype=np.int64), others)[:others]
        order = sorting(ids)
        order = order[seen[order]]
        ids = ids[order]
        is_new = np.ones(len(ids), dtype=bool)
        if self._mixed is None:
            is_new[1:] = ids[1:] != ids[:-1]
        self.has_merged = not bool(is_new.all())
        place = np.full(len(self._seen_numbers) + others + 1, -1, dtype=np.int32)
        place[codes[order]] = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
        return place, ids[is_new]

    def _ids(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the ids of whole numbers that are their own code, and after them all others."""
        if self._mixed is not None:
            return self._mixed[numbers]
        if not self._is_text:
            others = [_as_whole(word) for word in self._others]
            if None not in others:
                width = _width({*self._widths, *([np.dtype(np.int64)] if self._is_written else [])}, others)
                if width is not None:
                    return np.concatenate([numbers.astype(width), np.array(others, dtype=width)])
                if not self._is_written:
                    return as_ids([*numbers.tolist(), *others])
        return as_ids([*map(str, numbers.tolist()), *map(str, self._others)])

    def _add_mixed(self, columns: Columns) -> np.ndarray:
        import pandas as pd

        values = columns.objects[self.name]
        present = np.array([one is not None and one is not pd.NA and one == one for one in values])
        refuse(
            columns.where,
            self.name,
            "hold whole numbers or text as ids",
            present & np.fromiter(map(_is_no_id, values), bool, len(values)),
            values,
            columns.place,
            "convert it",
        )
        kinds = {isinstance(one, str) for one in values[present] if isinstance(one, (str, int, float, Decimal))}
        if len(kinds) == 2:  # numbers among text are text
            words = [(str(int(one)) if isinstance(one, (int, float, Decimal)) else one) for one in values[present]]
            values = values.copy()
            values[present] = words
        index, self._mixed = factorise(values[present], self.name)
        full = np.full(len(present), -1, dtype=np.int32)
        full[present] = index
        return full


def _is_no_id(one: Any) -> bool:
    """Returns whether a value of a column of mixed kinds is none that can stand for somebody."""
    if isinstance(one, Decimal):
        one = float(one)
    if isinstance(one, float):
        return bool(one == one and (one % 1 != 0 or abs(one) >= 2**53))
    return isinstance(one, (bool, complex, bytes, bytearray))


def _flagged(flags: np.ndarray, places: np.ndarray, least: int = 0) -> np.ndarray:
    """Returns flags (m,) bool, raised at `places`, after giving them more room if need be."""
    need = max(int(places.max(initial=-1)) + 1, least)
    if need > len(flags):
        flags = np.concatenate([flags, np.zeros(max(need, 5 * len(flags) // 4) - len(flags), dtype=bool)])
    flags[places] = True
    return flags


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Returns numbers (n,) uint64 shuffled among all of 64 bits.

    Source: the finaliser of SplitMix64, Steele et al. (2014), Fast splittable pseudorandom number generators.
    """
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _hash(word: Any) -> int:
    number = None if isinstance(word, tuple) else _as_whole(word)
    if number is not None:
        return int(mixed(np.array([number % 2**64], dtype=np.uint64))[0])
    return int.from_bytes(hashlib.blake2b(repr(word).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def encode(columns: Columns, name: str) -> Codes:
    """Returns the ids of a column; text that reads as whole numbers throughout, as in a CSV file, gives numbers.

    `1.0` and `1` are one number; "007" and "7" stay two ids: a column with such a field stays text.

    Raises:
        DataError: if the column holds neither whole numbers nor text.
    """
    coder = Coder(name)
    codes = coder.add(columns)
    coder.keep(codes[codes != -1])
    place, ids = coder.finish()
    return Codes(place[codes], ids)


def _as_whole(word: Any) -> int | None:
    """Returns the whole number a word is, or None."""
    if not isinstance(word, str):
        return int(word) if isinstance(word, (int, np.integer)) else None
    found = _LOOSE.fullmatch(word) if len(word) <= 40 else None
    if found is None:
        return None
    number = Decimal(found[1])
    return int(number) if number == number.to_integral_value() else None


def _width(widths: set[np.dtype], numbers: list[Any]) -> np.dtype | None:
    """Returns the widest of the types of whole numbers where it holds these too, or None where none does."""
    wide = np.result_type(*widths) if widths else np.dtype(np.int64)
    low, high = (min(numbers), max(numbers)) if numbers else (0, 0)
    for kind in (wide, np.dtype(np.int64), np.dtype(np.uint64)):
        if kind.kind in "iu" and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return None


def _whole(columns: Columns, name: str) -> pa.ChunkedArray:
    """Returns a column of ids as whole numbers or text, null where one is missing; of floats the numbers they are.

    Raises:
        DataError: if it is of another kind, or a float is no whole number, or so large that floats beside it stand for
            it too.
    """
    column = columns.table.column(name)
    kind = plain_kind(column.type)
    if isinstance(kind, pa.UuidType):
        words = [None if one is None else str(one) for one in column.to_pylist()]
        return pa.chunked_array([pa.array(words, pa.string())])
    if pa.types.is_decimal(kind):
        column = column.cast(kind)
        bad = pc.fill_null(pc.not_equal(pc.floor(column), column), False).to_numpy()
        if not bad.any():
            return column
        _refuse_float(columns, name, kind, column[int(np.argmax(bad))], int(np.argmax(bad)), "")
    if not pa.types.is_floating(kind):
        if pa.types.is_integer(kind) or is_text(kind) or pa.types.is_null(kind):
            return column
        raise DataError(
            f"column {name!r} of {columns.where} must hold whole numbers or text as ids, got {called(kind)}; convert it"
        )
    given = column.cast(kind).to_numpy()  # NaN where missing
    digits = np.finfo(given.dtype).nmant + 1
    numbers = given.astype(np.float64)
    missing = np.isnan(numbers)
    numbers[missing] = 0.0
    with np.errstate(invalid="ignore"):  # of infinity
        bad = (np.abs(numbers) >= 2.0**digits) | (numbers % 1 != 0)
    if bad.any():
        row = int(np.argmax(bad))
        _refuse_float(columns, name, kind, numbers[row], row, f" (floats of this width are exact below 2**{digits})")
    return pa.chunked_array([pa.array(numbers.astype(np.int64), mask=missing)])


def _refuse_float(columns: Columns, name: str, kind: pa.DataType, value: Any, row: int, why: str) -> None:
    raise DataError(
        f"column {name!r} of {columns.where} must hold whole numbers or text as ids, got {kind} with {value} in "
        f"{columns.place(row)}{why}; convert it"
    )
