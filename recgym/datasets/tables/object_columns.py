"""Columns of a DataFrame as Arrow holds them; those of any Python values are looked at first, value by value."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from recgym.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_KINDS = (  # the first that fits, truth values before the numbers they are to Python
    ("true or false", (bool, np.bool_)),
    ("a number", (int, float, Decimal, np.number)),
    ("text", (str,)),
)
_MIXED = ("mixed", "datetime", "date")  # what pandas says of columns whose values are not of one kind for certain
_MANY = "hold values of one kind"


def to_arrow(column: pd.Series, name: str, where: str, is_id: bool) -> tuple[pa.Array, np.ndarray | None]:
    """Returns a column (n,), or nulls and the values themselves (n,) object where ids are of kinds that Arrow parts.

    Raises:
        DataError: if the values of a column that holds no ids are of several kinds, or of one that cannot be read.
    """
    import pandas as pd

    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.categories.dtype == object:
        column = column.astype(object)
    if column.dtype == np.longdouble:
        column = column.astype(np.float64)
    looks = pd.api.types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    first = _first_of_kinds(column) if looks.startswith(_MIXED) else {}
    if (times := {kind for kind in first if kind.startswith("a time")}) and not is_id:
        zone = datetime.UTC if "a time with a zone" in times else None
        column = column.map(lambda one: _as_time(one, zone))
        first.pop("a day", None)  # which is one in any zone
    several = [f"{kind} ({one}) in row {row}" for kind, (row, one) in first.items()] if len(first) > 1 else []
    if several and not is_id:
        told = " and ".join(several[:2])
        raise DataError(f"column {name!r} of {where} must {_MANY}, got {told} counted from 0; convert it")
    try:
        if several:
            raise pa.ArrowTypeError("several kinds")
        array = pa.Array.from_pandas(column)
        if is_id and pa.types.is_nested(array.type):
            raise pa.ArrowTypeError("tuples")
        return array, None
    except UnicodeError as error:
        row, word = next((row, word) for row, word in enumerate(column) if isinstance(word, str) and _is_broken(word))
        raise DataError(
            f"column {name!r} of {where} must hold text of whole letters, got {word!a} in row {row} counted from 0 "
            "(half of a pair of UTF-16); mend it"
        ) from error
    except (pa.ArrowException, OverflowError) as error:
        if is_id:
            return pa.nulls(len(column)), np.fromiter(map(_plain, column), dtype=object, count=len(column))
        held = sorted({type(one).__name__ for one in column}) if column.dtype == object else [str(column.dtype)]
        raise DataError(
            f"column {name!r} of {where} must {_MANY} that a table can hold, got {', '.join(held)}; convert it"
        ) from error


def _first_of_kinds(column: pd.Series) -> dict[str, tuple[int, Any]]:
    """Returns the first value of each kind, and its row."""
    first: dict[str, tuple[int, Any]] = {}
    for row, one in enumerate(column):
        kind = _kind(one)
        if kind is not None and kind not in first:
            first[kind] = (row, one)
    return first


def _as_time(one: Any, zone: datetime.tzinfo | None) -> Any:
    """Returns a day as its first moment, and NumPy's times as pandas'; Arrow would cut times beside days to days."""
    import pandas as pd

    if isinstance(one, np.datetime64):
        return pd.Timestamp(one)
    if isinstance(one, datetime.date) and not isinstance(one, datetime.datetime):
        return datetime.datetime(one.year, one.month, one.day, tzinfo=zone)
    return one


def _kind(one: Any) -> str | None:
    """Returns what a value is, or None if it is missing."""
    import pandas as pd

    if one is None or (pd.api.types.is_scalar(one) and pd.isna(one)):
        return None
    if isinstance(one, (datetime.datetime, np.datetime64)):
        return "a time with a zone" if getattr(one, "tzinfo", None) is not None else "a time without a zone"
    if isinstance(one, datetime.date):
        return "a day"
    return next((kind for kind, types in _KINDS if isinstance(one, types)), f"a value of {type(one).__name__}")


def _plain(one: Any) -> Any:
    """Returns an id as Python's own kind of number, or text, which can be saved."""
    if isinstance(one, np.longdouble):
        return float(one)
    if isinstance(one, UUID):
        return str(one)
    return one.item() if isinstance(one, np.generic) else one


def _is_broken(word: str) -> bool:
    """Returns whether text holds what no encoding writes."""
    return any(0xD800 <= ord(letter) < 0xE000 for letter in word)
