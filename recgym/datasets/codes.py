"""Columns of outside ids as small numbers, without a Python object per event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.errors import DataError
from recgym.ids import as_ids, factorise, sorting

if TYPE_CHECKING:
    from recgym.datasets.table_files import Columns


OWN_CODE = 1 << 24  # whole numbers below it are their own code; a table of so many is small
_LARGEST_FLOAT = 2.0**53  # from here on a float stands for several whole numbers


class Codes(NamedTuple):
    """A column of ids: `ids[code]` gives it back."""

    code: np.ndarray  # (n,) int32, -1 where the id is missing
    ids: np.ndarray  # unique ids in sorted order


class Coder:
    """Gives the ids of a column that comes in blocks numbers, their codes, and at the end indices in sorted order.

    A whole number from 0 to some millions is its own code. Other ids have the codes -2, -3, ... in order of appearance,
    so that any code is a place in one table.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._code_of: dict[Any, int] = {}
        self._known: pa.Array | None = None  # the first words of _code_of, to look many up at once
        self._known_codes = np.zeros(0, dtype=np.int32)
        self._others: list[Any] = []  # the ids of the codes -2, -3, ...
        self._seen_numbers = np.zeros(0, dtype=bool)  # whether an event that stays has it
        self._seen_others = np.zeros(0, dtype=bool)
        self._mixed: np.ndarray | None = None  # ids of mixed kinds, which only a whole DataFrame has
        self._columns: Columns | None = None  # the block last seen, for messages and types

    def add(self, columns: Columns) -> np.ndarray:
        """Returns the codes of a block (n,) integer, -1 where the id is missing.

        Raises:
            DataError: if the column holds neither whole numbers nor text.
        """
        self._columns = columns
        if self.name in columns.objects:
            return self._add_mixed(columns.objects[self.name])
        column = _without_floats(columns, self.name)
        if pa.types.is_integer(column.type) and len(column) and not column.null_count:
            numbers = column.to_numpy()
            if numbers.min() >= 0 and numbers.max() < OWN_CODE:
                return numbers
        empty = pa.array([], _plain_kind(column.type))
        _as_ids(columns, self.name, empty)  # refuses other kinds before they are hashed
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        encoded = column.unify_dictionaries().combine_chunks()
        words = encoded.dictionary.cast(pa.string()) if columns.is_text else encoded.dictionary
        own = np.append(self._codes(words), np.int32(-1))
        index = encoded.indices
        index = pc.fill_null(index.cast(pa.int32()), len(own) - 1) if index.null_count else index
        return own[index.to_numpy(zero_copy_only=False)]

    def _codes(self, words: pa.Array) -> np.ndarray:
        """Returns the codes of different words (m,) int32, giving new ones to new words."""
        if self._known is None or 8 * len(words) < len(self._known):  # a few words: one by one
            codes = np.full(len(words), -1, dtype=np.int32)
        else:
            place = pc.fill_null(pc.index_in(words, self._known), -1).to_numpy(zero_copy_only=False)
            codes = np.append(self._known_codes, np.int32(-1))[place]
        new = np.flatnonzero(codes == -1)
        is_text = self._columns is not None and self._columns.is_text
        listed = (words.take(pa.array(new)) if len(new) < len(words) else words).to_pylist()
        codes[new] = np.fromiter((self._code(word, is_text) for word in listed), np.int32, len(new))
        if len(new) > 1000 and len(self._code_of) > 5 / 4 * len(self._known_codes):
            self._known = pa.array(list(self._code_of), words.type)
            self._known_codes = np.fromiter(self._code_of.values(), np.int32, len(self._code_of))
        return codes

    def _code(self, word: Any, is_text: bool) -> int:
        """Returns the code of a word, giving it one if it has none; `is_text`: numbers are written as words too."""
        code = self._code_of.get(word)
        if code is None:
            is_number = word.isascii() and word.isdecimal() if isinstance(word, str) else True
            number = int(word) if is_number and len(str(word)) < 20 else -1
            is_own = 0 <= number < OWN_CODE and (str(number) == word if is_text else number == word)
            if not is_own:
                self._others.append(word)
            code = self._code_of[word] = number if is_own else -1 - len(self._others)
        return code

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
        place = np.full(len(self._seen_numbers) + others + 1, -1, dtype=np.int32)
        place[codes[order]] = np.arange(len(order), dtype=np.int32)
        return place, ids[order]

    def _ids(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the ids of whole numbers that are their own code, and after them all others."""
        if self._mixed is not None or self._columns is None:
            return numbers if self._mixed is None else self._mixed[numbers]
        kind = _plain_kind(self._columns.table.column(self.name).type)
        if self._columns.is_text:
            others = _whole_numbers(pa.array(self._others, pa.string()))
            if others.dtype.kind == "i":
                return np.concatenate([numbers, others])
            return as_ids([*map(str, numbers.tolist()), *self._others])
        if pa.types.is_integer(kind) and not self._others:
            return numbers.astype(kind.to_pandas_dtype())
        kind = pa.int64() if pa.types.is_floating(kind) else kind
        return _as_ids(self._columns, self.name, pa.array([*numbers.tolist(), *self._others], kind))

    def _add_mixed(self, values: np.ndarray) -> np.ndarray:
        import pandas as pd

        present = np.array([one is not None and one is not pd.NA and one == one for one in values])
        index, self._mixed = factorise(values[present], self.name)
        full = np.full(len(present), -1, dtype=np.int32)
        full[present] = index
        return full


def _flagged(flags: np.ndarray, places: np.ndarray, least: int = 0) -> np.ndarray:
    """Returns flags (m,) bool, raised at `places`, after giving them more room if need be."""
    need = max(int(places.max(initial=-1)) + 1, least)
    if need > len(flags):
        flags = np.concatenate([flags, np.zeros(max(need, 5 * len(flags) // 4) - len(flags), dtype=bool)])
    flags[places] = True
    return flags


def encode(columns: Columns, name: str) -> Codes:
    """Returns the ids of a column; text that reads as whole numbers throughout, as in a CSV file, gives numbers.

    "007" and "7" stay two ids: a column with such a field stays text.

    Raises:
        DataError: if the column holds neither whole numbers nor text.
    """
    coder = Coder(name)
    codes = coder.add(columns)
    coder.keep(codes[codes != -1])
    place, ids = coder.finish()
    return Codes(place[codes], ids)


def _plain_kind(kind: pa.DataType) -> pa.DataType:
    """Returns what a column holds, be it written as a dictionary or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _without_floats(columns: Columns, name: str) -> pa.ChunkedArray:
    """Returns a column of ids; of floats the whole numbers they are, as int64, null where one is NaN or missing.

    Raises:
        DataError: if a float is no whole number, or so large that floats beside it stand for it too.
    """
    column = columns.table.column(name)
    kind = _plain_kind(column.type)
    if not pa.types.is_floating(kind):
        return column
    numbers = column.cast(kind).to_numpy().astype(np.float64)  # NaN where missing
    missing = np.isnan(numbers)
    numbers[missing] = 0.0
    with np.errstate(invalid="ignore"):  # of infinity
        bad = (np.abs(numbers) >= _LARGEST_FLOAT) | (numbers % 1 != 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"column {name!r} of {columns.where} must hold whole numbers or text as ids, got {kind} with "
            f"{numbers[row]} in {columns.place(row)} (floats are exact below 2**53); convert it"
        )
    return pa.chunked_array([pa.array(numbers.astype(np.int64), mask=missing)])


def _as_ids(columns: Columns, name: str, words: pa.Array) -> np.ndarray:
    kind = words.type
    if pa.types.is_integer(kind):
        return words.to_numpy(zero_copy_only=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _whole_numbers(words) if columns.is_text else as_ids(words.to_pylist())
    raise DataError(
        f"column {name!r} of {columns.where} must hold whole numbers or text as ids, got {kind}; convert it"
    )


def _whole_numbers(words: pa.Array) -> np.ndarray:
    """Returns the ids of a CSV column as int64 where each is written as one would write that number, else as text."""
    try:
        numbers = words.cast(pa.int64())
    except pa.ArrowInvalid:
        return as_ids(words.to_pylist())
    return numbers.to_numpy() if numbers.cast(words.type).equals(words) else as_ids(words.to_pylist())
