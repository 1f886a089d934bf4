"""Outside ids of users and items: any hashable, turned into indices 0..n-1 and back, and written without pickle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from recgym.errors import DataError


def as_ids(values: Any) -> np.ndarray:
    """Returns ids (n,) as one array that keeps them apart: 1 and "1" stay two ids, tuples stay tuples.

    Args:
        values: An array, a pandas column, or any iterable of hashable values.

    Example:
        >>> as_ids([1, "1"]).tolist()
        [1, '1']
    """
    array = _as_column(values)
    return _narrowed(array) if array.dtype == object else array


def factorise(values: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the index of each value (n,) int32 and the unique ids in index order, sorted where they can be.

    Ids of kinds that have no order between them (1 and "a") are sorted within each kind.

    Args:
        values: One id per event (n,), any hashable.
        what: "user" or "item", for the message.

    Raises:
        DataError: if an id is missing (None or NaN) or cannot be hashed.

    Example:
        >>> index, ids = factorise(["b", "a", "b"], "item")
        >>> index.tolist(), ids.tolist()
        ([1, 0, 1], ['a', 'b'])
    """
    import pandas as pd

    array = _as_column(values)
    if array.ndim != 1:
        raise DataError(f"{what} ids must have shape (n,), got {array.shape}; give one id per event")
    if array.dtype.kind == "i" and len(array) and int(array.max()) - int(array.min()) < 4 * len(array):
        return _factorise_dense(array)
    try:
        index, ids = pd.factorize(array)  # in order of first appearance
    except TypeError as error:
        raise DataError(f"every {what} id must be hashable, got {error}; give numbers, strings or tuples") from None
    missing = np.flatnonzero(index < 0)
    if len(missing):
        raise DataError(
            f"every event must have its {what} id, got none in {len(missing)} of {len(index)} events, "
            f"e.g. rows {missing[:3].tolist()}; drop or fill them"
        )
    order = sorting(ids)
    place = np.empty(len(ids), dtype=np.int32)
    place[order] = np.arange(len(ids), dtype=np.int32)
    return place[index], _narrowed(ids[order]) if ids.dtype == object else ids[order]


def look_up(values: Any, ids: np.ndarray, what: str) -> np.ndarray:
    """Returns the index of each value (n,) int32 in `ids`.

    Raises:
        DataError: if a value is not among `ids`, or an id stands twice.
    """
    own_index, own_ids = factorise(values, what)
    index_of = {one: index for index, one in enumerate(ids.tolist())}
    if len(index_of) != len(ids):
        raise DataError(f"{what}_ids must be unique, got {len(ids) - len(index_of)} that stand twice; drop them")
    unknown = [one for one in own_ids.tolist() if one not in index_of]
    if unknown:
        raise DataError(
            f"every {what} id must be among {what}_ids, got {len(unknown)} of {len(own_ids)} that are not, "
            f"e.g. {unknown[:3]}; add them or drop their events"
        )
    place = np.fromiter((index_of[one] for one in own_ids.tolist()), dtype=np.int32, count=len(own_ids))
    return place[own_index]


def to_json(values: np.ndarray) -> list[Any]:
    """Returns an object array (n,) as JSON values; tuples become `{"tuple": [...]}`.

    Raises:
        DataError: if a value is no number, string, None or tuple of them.
    """
    return [_encoded(value) for value in values.tolist()]


def from_json(values: Iterable[Any]) -> np.ndarray:
    """Returns the object array (n,) that `to_json` wrote."""
    return np.fromiter((_decoded(value) for value in values), dtype=object)


def some(values: Sequence[Any] | np.ndarray, most: int = 3) -> list[Any]:
    """Returns the first few values as a plain list, for a message."""
    return (values.tolist() if isinstance(values, np.ndarray) else list(values))[:most]


def _as_column(values: Any) -> np.ndarray:
    if hasattr(values, "dtype"):
        return np.asarray(values)
    return np.fromiter(values, dtype=object)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """Returns an object array as int64 or text where that is what it holds."""
    import pandas as pd

    kind = pd.api.types.infer_dtype(array, skipna=False)
    if kind == "integer" and all(-(2**63) <= bound < 2**63 for bound in (min(array), max(array))):
        return array.astype(np.int64)
    if kind == "string" and not any(text.endswith("\0") for text in set(array)):  # NumPy's text drops a trailing NUL
        return array.astype(str)
    return array


def _factorise_dense(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `factorise` does for whole numbers that lie close together, by a table of all between them."""
    first = numbers.min()
    offset = np.subtract(numbers, first, dtype=np.int64)
    present = np.zeros(int(offset.max()) + 1, dtype=bool)
    present[offset] = True
    place = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return place[offset], (np.flatnonzero(present) + first).astype(numbers.dtype)


def sorting(ids: np.ndarray) -> np.ndarray:
    """Returns the order that sorts ids (n,) int64; those of kinds without an order between them, within each kind."""
    if ids.dtype != object:
        return np.argsort(ids, kind="stable")
    listed = ids.tolist()
    try:
        return np.array(sorted(range(len(listed)), key=listed.__getitem__), dtype=np.int64)
    except TypeError:
        kinds = [(type(one).__name__, repr(one)) for one in listed]
        return np.array(sorted(range(len(listed)), key=kinds.__getitem__), dtype=np.int64)


def _encoded(value: Any) -> Any:
    if isinstance(value, tuple):
        return {"tuple": [_encoded(part) for part in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DataError(
        f"what is saved must be numbers, text or tuples of them, got {value!r} ({type(value).__name__}); "
        "convert it first"
    )


def _decoded(value: Any) -> Any:
    return tuple(_decoded(part) for part in value["tuple"]) if isinstance(value, dict) else value
