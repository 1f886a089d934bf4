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


class Codes(NamedTuple):
    """A column of ids: `ids[code]` gives it back."""

    code: np.ndarray  # (n,) int32, -1 where the id is missing
    ids: np.ndarray  # unique ids in sorted order


class Coder:
    """Numbers the ids of a column that comes in blocks: first in order of appearance, at the end in sorted order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._code_of: dict[Any, int] = {}
        self._known: pa.Array | None = None  # the first words of _code_of, to look many up at once
        self._seen = np.zeros(0, dtype=bool)  # by code: whether an event that stays has it
        self._mixed: np.ndarray | None = None  # ids of mixed kinds, which only a whole DataFrame has
        self._columns: Columns | None = None  # the block last seen, for messages and types

    def add(self, columns: Columns) -> np.ndarray:
        """Returns the codes of a block (n,) int32, in order of appearance, -1 where the id is missing.

        Raises:
            DataError: if the column holds neither whole numbers nor text.
        """
        self._columns = columns
        if self.name in columns.objects:
            return self._add_mixed(columns.objects[self.name])
        column = columns.table.column(self.name)
        if not pa.types.is_dictionary(column.type):
            _as_ids(columns, self.name, pa.array([], column.type))  # refuses other kinds before they are hashed
            column = column.dictionary_encode()
        encoded = column.unify_dictionaries().combine_chunks()
        own = np.append(self._codes(encoded.dictionary), np.int32(-1))
        index = encoded.indices
        index = pc.fill_null(index.cast(pa.int32()), len(own) - 1) if index.null_count else index
        return own[index.to_numpy(zero_copy_only=False)]

    def _codes(self, words: pa.Array) -> np.ndarray:
        """Returns the codes of different words (m,) int32, giving new ones to new words."""
        code_of = self._code_of
        if self._known is None or 8 * len(words) < len(self._known):  # a few words: one by one
            known = np.full(len(words), -1, dtype=np.int32)
        else:
            known = pc.fill_null(pc.index_in(words, self._known), -1).to_numpy(zero_copy_only=False).copy()
        new = np.flatnonzero(known < 0)
        listed = (words.take(pa.array(new)) if len(new) < len(words) else words).to_pylist()
        known[new] = np.fromiter((code_of.setdefault(word, len(code_of)) for word in listed), np.int32, len(new))
        if len(new) > 1000 and len(code_of) > 5 / 4 * (0 if self._known is None else len(self._known)):
            self._known = pa.array(list(code_of), words.type)
        return known

    def keep(self, codes: np.ndarray) -> None:
        """Counts the ids of events that stay; `finish` leaves the others out."""
        if len(self._seen) < len(self._code_of):
            more = np.zeros(max(2 * len(self._code_of) - len(self._seen), 1024), dtype=bool)
            self._seen = np.concatenate([self._seen, more])
        self._seen[codes] = True

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the index of each code (n_codes,) int32, -1 where none stayed, and the ids in index order."""
        ids, seen = self._ids(), self._seen[: len(self._code_of)]
        order = sorting(ids)
        order = order[seen[order]]
        place = np.full(len(ids), -1, dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        return place, ids[order]

    def _ids(self) -> np.ndarray:
        if self._mixed is not None or self._columns is None:
            return np.zeros(0, dtype=np.int64) if self._mixed is None else self._mixed
        kind = self._columns.table.column(self.name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return _as_ids(self._columns, self.name, pa.array(list(self._code_of), kind))

    def _add_mixed(self, values: np.ndarray) -> np.ndarray:
        present = ~np.array([one is None or one != one for one in values])
        index, self._mixed = factorise(values[present], self.name)
        self._code_of = dict.fromkeys(range(len(self._mixed)), 0)
        full = np.full(len(present), -1, dtype=np.int32)
        full[present] = index
        return full


def encode(columns: Columns, name: str) -> Codes:
    """Returns the ids of a column; text that reads as whole numbers throughout, as in a CSV file, gives numbers.

    "007" and "7" stay two ids: a column with such a field stays text.

    Raises:
        DataError: if the column holds neither whole numbers nor text.
    """
    coder = Coder(name)
    codes = coder.add(columns)
    coder.keep(codes[codes >= 0])
    place, ids = coder.finish()
    return Codes(np.append(place, np.int32(-1))[codes], ids)


def _as_ids(columns: Columns, name: str, words: pa.Array) -> np.ndarray:
    kind = words.type
    if pa.types.is_integer(kind):
        return words.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        numbers = words.to_numpy(zero_copy_only=False).astype(np.float64)
        if (numbers % 1 == 0).all():
            return numbers.astype(np.int64)
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
