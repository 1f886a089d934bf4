"""The columns of one block of a table, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """Columns as read, and how to speak of them."""

    table: pa.Table
    where: str  # what messages call the source
    place: Callable[[int], str]  # where a row stands: "line 7" of a CSV file, else "row 7 counted from 0"
    is_text: bool = False  # whether numbers among the ids were written as text
    objects: dict[str, np.ndarray] = field(default_factory=dict)  # id columns of mixed kinds, (n,) object


Blocks = Callable[[Mapping[str, pa.DataType]], Iterator[Columns]]  # from what columns are taken for to the blocks
