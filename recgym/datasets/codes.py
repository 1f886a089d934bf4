"""Columns of outside ids as small numbers, without a Python object per event."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recgym.errors import DataError
from recgym.ids import as_ids, factorise

if TYPE_CHECKING:
    from recgym.datasets.table_files import Columns


class Codes(NamedTuple):
    """A column of ids: `ids[code]` gives it back."""

    code: np.ndarray  # (n,) int32, -1 where the id is missing
    ids: np.ndarray  # unique ids in sorted order


def encode(columns: Columns, name: str) -> Codes:
    """Returns the ids of a column; text that reads as whole numbers throughout, as in a CSV file, gives numbers.

    "007" and "7" stay two ids: a column with such a field stays text.

    Raises:
        DataError: if the column holds neither whole numbers nor text.
    """
    if name in columns.objects:
        present = ~np.array([one is None or one != one for one in columns.objects[name]])
        index, ids = factorise(columns.objects[name][present], name)
        full = np.full(len(present), -1, dtype=np.int32)
        full[present] = index
        return Codes(full, ids)
    column = columns.table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    index = pc.fill_null(encoded.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
    ids = _as_ids(columns, name, encoded.dictionary)
    order = np.array(sorted(range(len(ids)), key=ids.tolist().__getitem__), dtype=np.int64)
    place = np.full(len(ids) + 1, -1, dtype=np.int32)  # one more at the end: -1 stays -1
    place[order] = np.arange(len(ids), dtype=np.int32)
    return Codes(place[index], ids[order])


def _as_ids(columns: Columns, name: str, words: pa.Array) -> np.ndarray:
    kind = words.type
    if pa.types.is_integer(kind):
        return words.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        numbers = words.to_numpy(zero_copy_only=False)
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
