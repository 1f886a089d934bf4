"""What columns that come in blocks hold: the widest kind that any block has shown."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")


def plain_kind(kind: pa.DataType) -> pa.DataType:
    """Returns what a column holds, be it written as a dictionary or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def called(kind: pa.DataType) -> str:
    """Returns what a message calls a kind: no name of a library's own class."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name.rpartition(".")[2]
    return str(kind)


def is_text(kind: pa.DataType) -> bool:
    """Returns whether a kind is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def widest(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Returns the kind that holds what both do, or None if there is none; nothing at all fits everything.

    Whole numbers of any width are as wide as the wider, with others real; numbers and truth values beside text are
    text; dates and times are times of the finer unit.

    Example:
        >>> widest(pa.int8(), pa.int64()), widest(pa.int64(), pa.string()), widest(pa.null(), pa.date32())
        (DataType(int64), DataType(string), DataType(date32[day]))
    """
    one, other = (pa.string() if is_text(plain_kind(kind)) else plain_kind(kind) for kind in (one, other))
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if is_text(one) or is_text(other):
        beside = other if is_text(one) else one
        return None if pa.types.is_nested(beside) or pa.types.is_binary(beside) else pa.string()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)):
        return pa.from_numpy_dtype(np.result_type(one.to_pandas_dtype(), other.to_pandas_dtype()))
    if all(pa.types.is_date(kind) or pa.types.is_timestamp(kind) for kind in (one, other)):
        stamps = [kind for kind in (one, other) if pa.types.is_timestamp(kind)]
        zones = {kind.tz for kind in stamps}
        unit = max((kind.unit for kind in stamps), key=_UNITS.index, default="s")
        return pa.timestamp(unit, zones.pop()) if len(zones) == 1 else pa.timestamp(unit, "UTC")
    try:
        fields = [pa.schema([("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:
        return None
