"""Tianchi's shop log in its three tables: who viewed, carted, liked or bought what, and features of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recgym.datasets.sources import Files, data_dir
from recgym.datasets.tables.text import read_columns
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards
from recgym.rng import uniforms
from recgym.storage import cache

BEHAVIOURS = "label:pv=1,cart=2,fav=2,buy=3"  # what the four behaviours are worth by default
_TABLES = {  # file -> columns; the files have no header line
    "user_behavior.csv": ("user", "item", "behavior", "time"),
    "user.csv": ("user", "sex", "age", "pur_power"),
    "item.csv": ("item", "category", "shop", "brand"),
}
_UNKNOWN = -1  # feature of a user or item that its table lacks
_SAMPLE_STREAM = 0x7469616E  # keeps these draws apart from others of the same seed
_FORMAT = 1  # raise it when the same files and options would make another log


def tianchi(
    *,
    reward: str = BEHAVIOURS,
    dedupe: bool = False,
    sample: Sequence[Sequence[int]] = (),
    seed: int = 0,
    age_bounds: Sequence[int] = (),
    folder: str | Path | None = None,
) -> InteractionLog:
    """Returns the log of Tianchi's competition 231721 (round 2), kept in the cache once it was read.

    | column | |
    |---|---|
    | `rewards` | what the behaviour is worth |
    | `extra["behaviour"]` | `"pv"`, `"cart"`, `"fav"` or `"buy"` |
    | `users["sex"]`, `["age"]`, `["pur_power"]` | of `user.csv`, int64; -1 where it lacks the user |
    | `item_features["category"]`, `["shop"]`, `["brand"]` | of `item.csv`, int64; -1 where it lacks the item |

    DBRL prepares it with `dedupe=True, sample=[[6, 50, 60000], [51, 200, 20000]], age_bounds=[30, 40, 50]`, and then
    drops events whose user or item has no features, which this does not.

    Args:
        reward: A transform `"label:..."` that gives every behaviour its worth (see `transform_rewards`).
        dedupe: Whether of a user's events with one item and one behaviour only the first stays.
        sample: `[least, most, count]` each: so many users, drawn without replacement, of those with that many events.
            Without any, all users stay.
        seed: Which users are drawn.
        age_bounds: Ages that begin a new bucket, ascending: `users["age"]` becomes the number of the bucket, from 1 on.
        folder: Folder with the three files; by default `tianchi` under `RECGYM_DATA`.

    Source: https://tianchi.aliyun.com/competition/entrance/231721; preparation: massquantity/DBRL, run_prepare_data.

    Raises:
        MissingDataError: if a file is not there.
        DataError: if a file is not in its published layout, a behaviour has no worth, or too few users can be drawn.
    """
    files = Files("tianchi", _folder(folder))
    options: dict[str, Any] = {
        "reward": reward,
        "dedupe": dedupe,
        "sample": [list(group) for group in sample],
        "seed": seed,
        "age_bounds": list(age_bounds),
    }
    prints = [cache.fingerprint(path) for path in files.paths(*_TABLES)]

    def build(target: Path) -> None:
        _read(files, **options).save(target / "log")

    return InteractionLog.open(
        cache.entry("log", "tianchi", {"files": prints, "options": options}, build, version=_FORMAT) / "log"
    )


def drop_repeats(log: InteractionLog, by: str) -> InteractionLog:
    """Returns the log without events that repeat an earlier one of their user in item and in the event column `by`."""
    names, code = np.unique(log.extra[by], return_inverse=True)
    key = (log.event_users().astype(np.int64) * log.n_items + log.items) * len(names) + code.ravel()
    _, first = np.unique(key, return_index=True)  # the first of equals, and so the earliest
    keep = np.zeros(log.n_events, dtype=bool)
    keep[first] = True
    return log.select_events(keep)


def sample_users(log: InteractionLog, groups: Sequence[Sequence[int]], seed: int = 0) -> InteractionLog:
    """Returns the log of users drawn by their activity, in the order of the log.

    Args:
        log: Whose users.
        groups: `(least, most, count)` each: `count` users are drawn of those with `least` to `most` events.
        seed: Which are drawn.

    Raises:
        DataError: if there are fewer such users than asked for.
    """
    chance = uniforms(seed, log.n_users, _SAMPLE_STREAM)
    chosen = np.zeros(log.n_users, dtype=bool)
    for least, most, count in groups:
        fit = np.flatnonzero((log.lengths >= least) & (log.lengths <= most))
        if len(fit) < count:
            raise DataError(
                f"a sample of {count} users with {least} to {most} events needs as many, got {len(fit)} of "
                f"{log.n_users} users; ask for fewer"
            )
        chosen[fit[np.argsort(chance[fit], kind="stable")[:count]]] = True
    return log.select_users(np.flatnonzero(chosen))


def _read(
    files: Files, *, reward: str, dedupe: bool, sample: Sequence[Sequence[int]], seed: int, age_bounds: Sequence[int]
) -> InteractionLog:
    events = _table(files, "user_behavior.csv", {"behavior": pa.string()})
    behaviour = events.column("behavior").combine_chunks().dictionary_encode()
    names = np.array(behaviour.dictionary.to_pylist(), dtype=str)
    code = behaviour.indices.to_numpy()  # (n,)
    log = InteractionLog.from_events(
        events.column("user").to_numpy(),
        events.column("item").to_numpy(),
        transform_rewards(names, reward)[code],
        events.column("time").to_numpy(),
        extra={"behaviour": names[code]},
        reward=reward,
        name="tianchi",
    )
    log = drop_repeats(log, "behaviour") if dedupe else log
    log = sample_users(log, sample, seed) if sample else log
    log = log.select_items(np.flatnonzero(np.bincount(log.items, minlength=log.n_items)))
    users = _features(files, "user.csv", log.user_ids)
    if age_bounds:
        users["age"] = np.where(users["age"] < 0, _UNKNOWN, 1 + np.searchsorted(age_bounds, users["age"], side="right"))
    return replace(log, users=users, item_features=_features(files, "item.csv", log.item_ids))


def _features(files: Files, name: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the features of users or items (n,) by name, from the first line of the table that has the id."""
    table = _table(files, name)
    key, *features = (column.to_numpy() for column in table.columns)
    known, first = np.unique(key, return_index=True)
    line = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    columns = (np.where(known[line] == ids, feature[first[line]], _UNKNOWN) for feature in features)
    return dict(zip(_TABLES[name][1:], columns, strict=True))


def _table(files: Files, name: str, types: dict[str, Any] | None = None) -> pa.Table:
    columns = _TABLES[name]
    kinds = {column: pa.int64() for column in columns} | (types or {})
    return read_columns(files.text(name, names=columns), kinds)


def _folder(folder: str | Path | None) -> Path:
    data = data_dir()
    path = Path(folder) if folder is not None else None if data is None else data / "tianchi"
    if path is None or not path.is_dir():
        raise MissingDataError(
            f"Tianchi's log must lie in a folder with {', '.join(_TABLES)}, got {path or 'no RECGYM_DATA'}; get round "
            "2 from https://tianchi.aliyun.com/competition/entrance/231721 and put it into tianchi/ under RECGYM_DATA, "
            "or use the generated log 'synthetic-shop'"
        )
    return path
