"""Titles and features of a log's items and users, from tables beside that of the events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np
import pyarrow as pa

from recgym.datasets.tables.json_lines import is_json_lines
from recgym.datasets.tables.text import require_columns
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog
from recgym.log.events import titles_of

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy_loader.load("pandas")  # half a second to import

OPTIONS = ("items", "users", "title")


def with_descriptions(
    log: InteractionLog, options: dict[str, Any], *, user: str, item: str, separator: str = ","
) -> InteractionLog:
    """Returns a log with titles and features; what a table lacks is "" in a column of text, NaN in one of numbers.

    Args:
        log: Whose items and users.
        options: `items` and `users`: tables (paths or DataFrames) with a row for each, their ids in the column of the
            same name as in the events; `title`: the column of `items` that holds titles. All others are features.
        user: Column of user ids.
        item: Column of item ids.
        separator: Of text files.

    Raises:
        MissingDataError: if a file is not there.
        DataError: if a table cannot be read, lacks a column, or describes an id twice; or `title` has no table.
    """
    title = options.get("title")
    if title is not None and options.get("items") is None:
        raise DataError(f"title needs items=, the table it is a column of, got title={title!r} alone; name the table")
    if options.get("items") is not None:
        columns = _columns(options["items"], item, log.item_ids, separator)
        if title is not None:
            require_columns(_name(options["items"]), [title], list(columns))
            told = dict(zip(log.item_ids.tolist(), columns.pop(title).astype(str).tolist(), strict=True))
            log = replace(log, titles=titles_of(log.item_ids, {one: text for one, text in told.items() if text}))
        log = replace(log, item_features={**log.item_features, **columns})
    if options.get("users") is not None:
        log = replace(log, users={**log.users, **_columns(options["users"], user, log.user_ids, separator)})
    return log


def _columns(source: Any, key: str, ids: np.ndarray, separator: str) -> dict[str, np.ndarray]:
    """Returns the columns of a table but the key, each (n,), in the order of the ids (n,)."""
    where, table = _name(source), _table(source, separator)
    require_columns(where, [key], [str(name) for name in table.columns])
    named = table[key].map(_plain)
    twice = named[named.duplicated()].tolist()
    if twice:
        raise DataError(
            f"{where} must describe every {key} once, got {twice[0]!r} again ({len(twice)} rows); drop those"
        )
    rows = table.set_index(named).drop(columns=key).reindex([_plain(one) for one in ids.tolist()])
    found = {}
    for name in rows.columns:
        column = rows[name]
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        found[str(name)] = column.to_numpy() if is_number else column.fillna("").astype(str).to_numpy(dtype=str)
    return found


def _table(source: Any, separator: str) -> pd.DataFrame:
    if not isinstance(source, (str, Path)):
        return source if isinstance(source, pd.DataFrame) else pa.table(source).to_pandas()
    path = Path(source).expanduser()
    if not path.is_file():
        raise MissingDataError(f"a table of items or users must be a file, got no such file at {path}; mend the path")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_json(path, lines=True) if is_json_lines(path) else pd.read_csv(path, sep=separator)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DataError(f"{path} must be a readable table, got {type(error).__name__}: {error}; check it") from error


def _plain(value: Any) -> str:
    """Returns an id as text, a whole number alike whether a gap in its column made it a float or not."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _name(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the table"
