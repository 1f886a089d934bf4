"""MovieLens in its published layouts: 100K (u.data), 1M (ratings.dat), latest-small, 20M and 25M (ratings.csv)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from recgym.datasets.movielens_sasrec_order import ORDER_FILES, exact_order
from recgym.datasets.sources import Files, Published
from recgym.datasets.tables.columns import Columns
from recgym.datasets.tables.complaints import refuse
from recgym.datasets.tables.in_order import columns_in_order
from recgym.datasets.tables.options import TableOptions, check_ties
from recgym.datasets.tables.table import load_events
from recgym.datasets.tables.text import Text, read_blocks, read_columns
from recgym.errors import DataError
from recgym.log import InteractionLog, events
from recgym.log import files as logfiles
from recgym.rewards import takes_labels, transform_rewards

_HIGHEST = 5.0
_GENRES = (  # of ml-100k's u.item, in the order of its flags
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_USERS = {  # layout -> file, separator, (field, is it a whole number)
    "dat": (
        "users.dat",
        "::",
        (("user", True), ("gender", False), ("age", True), ("occupation", True), ("zip", False)),
    ),
    "tab": ("u.user", "|", (("user", True), ("age", True), ("gender", False), ("occupation", False), ("zip", False))),
}
_MOVIES = {"csv": "movies.csv", "dat": "movies.dat", "tab": "u.item"}


def source_files(published: Published, order: str) -> list[str]:
    """Returns the names of the files a log of this set is made from."""
    users = [_USERS[published.layout][0]] if published.layout in _USERS else []
    return [published.events_file, _MOVIES[published.layout], *users, *(ORDER_FILES if order == "sasrec" else ())]


def read_log(
    published: Published, files: Files, *, reward: str = "scaled", order: str = "time", ties: str | None = None
) -> InteractionLog:
    """Returns the log of a MovieLens set, with titles, genres and, where the set has them, user features.

    `item_features["genres"]` holds e.g. `"Adventure|Children's|Fantasy"`; `users` holds gender, age, occupation and zip
    for ml-100k and ml-1m.

    Args:
        published: Which set.
        files: Where its files lie.
        reward: A reward transform for numbers (see `transform_rewards`).
        order: `"time"`: by timestamp. `"sasrec"` (ml-1m only): the
            order of `sasrec/ml-1m.txt`, see `exact_order`.
        ties: Events of one user and second: `"file"` or `"shuffle"`, see `Published.ties`, which is the default.

    Raises:
        DataError: if a file is not in its published layout; the message names file, line and column.
        MissingDataError: if a file is missing.
    """
    options = _options(published, reward, order, ties)
    loaded = load_events(partial(_blocks, published, files), options)
    if order == "sasrec":
        users, items = loaded.user_ids[loaded.users], loaded.item_ids[loaded.items]
        rows, times = exact_order(files, users, items, loaded.columns["times"])
        columns = {"rewards": loaded.columns["rewards"][rows], "times": times}
        loaded = loaded._replace(
            users=loaded.users[rows], items=loaded.items[rows], ticks=times, columns=columns, keys=None
        )
    described = _described(published, files, loaded.user_ids, loaded.item_ids)
    return InteractionLog(**loaded.arranged("keep"), **described, **_about(published, reward), source=loaded.about)


def write_log(
    published: Published,
    files: Files,
    folder: Path,
    *,
    reward: str = "scaled",
    order: str = "time",
    ties: str | None = None,
) -> None:
    """Writes what `read_log` returns as `InteractionLog.save` does; in one pass where the users come in order."""
    options = _options(published, reward, order, ties)
    with TemporaryDirectory(dir=folder.parent, prefix=".spool-", ignore_cleanup_errors=True) as temporary:
        blocks = partial(_blocks, published, files)
        found = columns_in_order(blocks, options, Path(temporary)) if order == "time" else None
        if found is None:
            read_log(published, files, reward=reward, order=order, ties=ties).save(folder)
            return
        columns, ids, how = found
        saved: dict[str, np.ndarray | Path] = {**columns.finish(), **ids}
        for name, value in _described(published, files, ids["user_ids"], ids["item_ids"]).items():
            if isinstance(value, dict):
                saved |= {f"{name}/{inner}": column for inner, column in value.items()}
            elif value is not None:
                saved[name] = value
        logfiles.save_columns(saved, {**_about(published, reward), "source": how}, folder)


def _options(published: Published, reward: str, order: str, ties: str | None) -> TableOptions:
    if takes_labels(reward):
        raise DataError(f"{published.name} needs a reward transform for numbers, got {reward!r}; use e.g. 'binary:4'")
    if order != "time" and (order, published.name) != ("sasrec", "ml-1m"):
        raise DataError(f"order must be 'time' or, for ml-1m, 'sasrec', got {order!r}; choose one of them")
    ties = published.ties if ties is None else ties
    check_ties(ties)
    return TableOptions(
        user="userId",
        item="movieId",
        reward="rating",
        time="timestamp",
        time_unit="s",
        transform=reward,
        ties=ties,
    )


def _about(published: Published, reward: str) -> dict[str, Any]:
    low, high = transform_rewards([published.lowest, _HIGHEST], reward).tolist()
    return {"name": published.name, "reward": reward, "reward_range": (low, high)}


def _described(published: Published, files: Files, user_ids: np.ndarray, item_ids: np.ndarray) -> dict[str, Any]:
    """Returns titles, item features and user features, as far as the set has them."""
    titles, genres = _read_movies(published, files)
    named = np.array([genres.get(item, "") for item in item_ids.tolist()])
    return {
        "titles": events.titles_of(item_ids, titles) if titles else None,
        "item_features": {"genres": named} if genres else {},
        "users": _read_users(published, files, user_ids),
    }


def _blocks(published: Published, files: Files, guessed: Mapping[str, pa.DataType]) -> Iterator[Columns]:
    """Yields the events in the order of the file, under the names of `ratings.csv`; nothing has to be guessed."""
    names = ("userId", "movieId", "rating", "timestamp")
    if published.layout == "csv":
        own, text = names, files.text("ratings.csv")
    else:
        own = ("user", "item", "rating", "timestamp")
        if published.layout == "tab":
            text = files.text("u.data", "\t", names=own)
        else:  # "::" is read as ":" with an empty column between, which must stay empty
            every = ("user", "_1", "item", "_2", "rating", "_3", "timestamp")
            text = files.text("ratings.dat", ":", names=every)
    kinds: dict[str, pa.DataType | None] = {name: pa.int64() for name in own} | {"rating": pa.float64()}
    kinds |= {name: pa.null() for name in text.names or () if name.startswith("_")}
    before = 0
    for table in read_blocks(text, kinds, null_values=("",)):
        columns = Columns(table.select(own), text.where, partial(_place, text, before), is_text=True)
        _check(columns, published)
        yield replace(columns, table=columns.table.rename_columns(names))
        before += table.num_rows


def _place(text: Text, before: int, row: int) -> str:
    return text.place(before + row)


def _check(columns: Columns, published: Published) -> None:
    """Raises a DataError if a field is empty or out of range."""
    where, place = columns.where, columns.place
    for name in columns.table.column_names:
        if columns.table.column(name).null_count:
            empty = columns.table.column(name).is_null().to_numpy()
            refuse(where, name, "be filled in", empty, np.full(len(empty), "nothing"), place)
    ratings, times = (columns.table.column(name).to_numpy() for name in ("rating", "timestamp"))
    outside = ~((ratings >= published.lowest) & (ratings <= _HIGHEST))  # NaN is outside too
    refuse(where, "rating", f"lie between {published.lowest} and {_HIGHEST}", outside, ratings, place)
    refuse(where, "timestamp", "not be negative", times < 0, times, place)


def _read_movies(published: Published, files: Files) -> tuple[dict[int, str], dict[int, str]]:
    """Returns title and genres by movie id; both empty where the set was put here without its list of movies."""
    name = _MOVIES[published.layout]
    if not files.has(name):
        return {}, {}
    if published.layout == "csv":
        types: dict[str, Any] = {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()}
        table = read_columns(files.text(name), types)
        movies, titles, genres = (table.column(column).to_pylist() for column in types)
    else:
        separator, n_fields = ("::", 3) if published.layout == "dat" else ("|", 5 + len(_GENRES))
        rows = _split_lines(files.text(name, encoding="latin-1"), separator, n_fields)
        movies, titles = [int(fields[0]) for fields in rows], [fields[1] for fields in rows]
        genres = [fields[2] if published.layout == "dat" else _flagged(fields[5:]) for fields in rows]
    clean = ["" if text == "(no genres listed)" else text for text in genres]
    return dict(zip(movies, titles, strict=True)), dict(zip(movies, clean, strict=True))


def _read_users(published: Published, files: Files, user_ids: np.ndarray) -> dict[str, np.ndarray]:
    if published.layout not in _USERS or not files.has(_USERS[published.layout][0]):
        return {}
    name, separator, fields = _USERS[published.layout]
    text = files.text(name, encoding="latin-1")
    whole = [place for place, (_, is_whole) in enumerate(fields) if is_whole]
    rows = {int(row[0]): row for row in _split_lines(text, separator, len(fields), whole)}
    lacking = [user for user in user_ids.tolist() if user not in rows]
    if lacking:
        raise DataError(
            f"{text.where} must describe every user, got no line for {len(lacking)} of {len(user_ids)}, "
            f"e.g. {lacking[:3]}; get the file again"
        )
    columns = {}
    for place, (field, _) in enumerate(fields[1:], start=1):
        values = np.array([rows[user][place] for user in user_ids.tolist()])
        columns[field] = values.astype(np.int64) if place in whole else values
    return columns


def _flagged(flags: list[str]) -> str:
    return "|".join(genre for genre, flag in zip(_GENRES, flags, strict=True) if flag == "1")


def _split_lines(text: Text, separator: str, n_fields: int, whole: Sequence[int] = (0,)) -> list[list[str]]:
    """Returns the fields of every line of a small file; those in `whole` must be whole numbers."""
    with text.open() as file:
        lines = file.read().decode(text.encoding).splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.split(separator)
        if len(fields) > n_fields and n_fields == 3:  # a title may hold the separator
            fields = [fields[0], separator.join(fields[1:-1]), fields[-1]]
        if len(fields) != n_fields or not all(fields[place].isdecimal() for place in whole):
            raise DataError(
                f"every line of {text.where} must have {n_fields} fields, with whole numbers in fields "
                f"{[place + 1 for place in whole]}, got {line[:60]!r} in line {number}; get the file again"
            )
        rows.append(fields)
    return rows
