"""Logs by name: the embedded synthetic one, MovieLens in its published layouts, and any table of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from recgym.datasets import describing, published, registered, sources
from recgym.datasets.coat import coat
from recgym.datasets.kept import kept
from recgym.datasets.kept import opened as _opened
from recgym.datasets.layouts import LAYOUTS
from recgym.datasets.movielens import read_log, source_files, write_log
from recgym.datasets.nowplaying import nowplaying
from recgym.datasets.obd import obd
from recgym.datasets.sources import PUBLISHED
from recgym.datasets.synthetic import synthetic
from recgym.datasets.synthetic_shop import synthetic_shop
from recgym.datasets.synthetic_songs import synthetic_songs
from recgym.datasets.tables.options import TableOptions, make_options
from recgym.datasets.tables.out_of_core import bytes_of, write_table
from recgym.datasets.tables.parts import files_of
from recgym.datasets.tables.table import read_table
from recgym.datasets.tables.table_files import blocks_of, check_there, code_of
from recgym.datasets.tianchi import tianchi
from recgym.errors import DataError, OptionError
from recgym.log import InteractionLog, shown
from recgym.options import accepted, check_known, nearest
from recgym.storage import cache, store
from recgym.storage.download import fetch as download_file

__all__ = ["_opened", "fetch", "load", "names", "synthetic"]

_Maker = Callable[..., InteractionLog]
_MADE: dict[str, _Maker] = {  # generated, once per process and options
    "synthetic": synthetic,
    "synthetic-shop": synthetic_shop,
    "synthetic-songs": synthetic_songs,
}
_LOGGED: dict[str, _Maker] = {  # small and read anew each time, or with a cache of their own
    "coat": coat,
    "obd": obd,
    "tianchi": tianchi,
    "nowplaying": nowplaying,
}
BUILT_IN = list(dict.fromkeys(["synthetic", *PUBLISHED, *_MADE, *_LOGGED, *LAYOUTS]))
_TABLES = 4  # raise it when what is made of the same table and options changes


def names() -> list[str]:
    """Returns the names `load` takes.

    Example:
        >>> names()[:4], names()[-1]
        (['synthetic', 'ml-latest-small', 'ml-100k', 'ml-1m'], 'table')
    """
    return list(dict.fromkeys([*BUILT_IN, *registered.found(), "table"]))


def load(
    name: Any = "synthetic", *, reward: str | None = None, download: bool = False, **options: Any
) -> InteractionLog:
    """Returns a log by name or address; a second load of the same opens the columns of the first, memory-mapped.

    Files are looked for under `RECGYM_DATA`; what was parsed is kept under `RECGYM_CACHE`, found again by size, time
    and sampled hash of the files and by every option. Within one process the same log is shared.

    | name | files | options |
    |---|---|---|
    | `synthetic`, `synthetic-shop`, `synthetic-songs` | none | `n_users`, `n_items`, `seed` |
    | `ml-latest-small`, `ml-100k`, `ml-20m`, `ml-25m` | folder or zip | `min_events`, `top_items`, `ties` |
    | `ml-1m` | folder or zip | the same, and `order="time"` or `"sasrec"` |
    | `coat` | folder | `part="self-selected"` or `"random"` |
    | `obd` | folder | `campaign="men"`, `"women"` or `"all"`; `policy="random"` or `"bts"` |
    | `tianchi` | folder | `dedupe`, `sample`, `seed`, `age_bounds` |
    | `nowplaying` | folder | `min_events` |
    | `recbole` | `path=` | as all published layouts: `part`, `min_events`, `top_items`, `duplicates`, `missing`; |
    | | | `user`, `item`, `time`, `feedback` where its columns have other names |
    | `sasrec`, `lightgcn` | `path=` | those of all published layouts |
    | `amazon-2023` | folder or `path=` | `category`; `part="reviews"`, `"ratings"`, `"train"`, `"valid"`, `"test"` |
    | `kuairand-pure`, `kuairand-1k` | folder | `part="standard"`, `"random"`, `"all"`; `feedback="is_click"` ... |
    | `kuairec`, `yoochoose` | folder | `part="big"` or `"small"`; `part="all"` or `"clicks"` |
    | `retailrocket`, `lastfm-2k`, `mind` | folder | those of all published layouts |
    | `table` | `path=` | `user`, `item`, `reward`, `time`: names of columns; the others as in `TableOptions`; |
    | | | `items=`, `users=`: tables of features with the same columns of ids, `title=` a column of the first; |
    | | | `memory_limit="2GB"` for a file larger than memory: the same log, sorted on disk by DuckDB |
    | any address | | those of `table`; of a saved log `min_events` and `top_items`; of the folder of |
    | | | `recgym serve --log` `model` and `k` |

    An address is the path of a CSV, Parquet or JSON-lines file, of a folder of them, or of a log that
    `InteractionLog.save` or `to_parquet` wrote, or a table in memory (pandas, polars, Arrow). A name counts before a
    path; `./NAME` is a path. Data sets of one's own get a name by `recgym.register_dataset`.

    Args:
        name: One of `names()`, or an address.
        reward: For `table`, the name of the column that holds rewards (None: every event is worth 1; say in `transform`
            what is made of it). For the others a reward transform (see `transform_rewards`), by default `"scaled"`, or
            what the set's own function has; songs take none.
        download: Whether a missing published set may be downloaded; its size and licence are stated first.
        **options: See the table above.

    Raises:
        MissingDataError: if the files are not on this machine.
        DataError: if the name or an option is unknown, or a file holds what it must not.
        HashMismatchError: if a download is not the published file.
        StoreError: if the cache cannot be written to.

    Example:
        >>> load("synthetic", n_users=50, n_items=40)
        InteractionLog('synthetic': 931 events, 50 users, 40 items)
    """
    if not isinstance(name, str):
        return _table({"path": name, **options, "reward": reward})
    if name == "table":
        return _table({**options, "reward": reward})
    if name not in BUILT_IN and name in registered.found():
        return registered.load(name, options | ({} if reward is None else {"reward": reward}), load)
    if name in _MADE or name in _LOGGED:
        options |= {} if reward is None else {"reward": reward}
        maker = (_MADE | _LOGGED)[name]
        check_known(name, options, accepted(maker).defaults)
        return _made(name, tuple(sorted(options.items()))) if name in _MADE else maker(**options)
    if name in LAYOUTS or name.endswith(".inter"):
        given = options | ({} if reward is None else {"reward": reward})
        layout = name if name in LAYOUTS else "recbole"
        given |= {} if name in LAYOUTS else {"path": name}
        check_known(layout, given, published.known_options(layout))
        return published.load(layout, given)
    if name in PUBLISHED:
        return _movielens(name, reward or "scaled", download, **options)
    if Path(name).expanduser().exists() or any(sign in name for sign in (os.sep, "/")) or Path(name).suffix:
        check_there(Path(name).expanduser())
        return _table({"path": name, **options, "reward": reward})
    raise DataError(
        f"a data set must be one of those `python -m recgym list` shows, or a path, got {name!r}; "
        f"{nearest(name, names()) or 'there is no such name and no such file'}"
    )


def maker(name: str) -> Any:
    """Returns the function or class whose parameters are the options of a data set; None: a published MovieLens set."""
    return TableOptions if name == "table" else (_MADE | _LOGGED).get(name)


def fetch(name: str) -> Path:
    """Returns the zip of a published set in the download folder, downloaded and its hash checked.

    Raises:
        DataError: if the set is not one that can be downloaded.
        MissingDataError: if `RECGYM_OFFLINE` forbids it, or the network fails.
        HashMismatchError: if the file is not the published one.
    """
    if name not in PUBLISHED:
        hint = nearest(name, PUBLISHED) or "choose one of them"
        raise DataError(f"only {', '.join(PUBLISHED)} can be downloaded, got {name!r}; {hint}")
    return download_file(PUBLISHED[name].remote, sources.downloads_dir())


@lru_cache(maxsize=4)
def _made(name: str, options: tuple[tuple[str, Any], ...]) -> InteractionLog:
    return _MADE[name](**dict(options))


def _movielens(name: str, reward: str, download: bool, **options: Any) -> InteractionLog:
    known: dict[str, Any] = {"order": "time", "min_events": 1, "top_items": None, "ties": None}
    check_known(name, options, known)
    options = known | options
    files = sources.locate(PUBLISHED[name], download)
    paths = files.paths(*source_files(PUBLISHED[name], options["order"]))
    chosen: dict[str, Any] = {"reward": reward, "order": options["order"], "ties": options["ties"]}

    def build(target: Path) -> None:
        sources.check_zip(files, PUBLISHED[name].remote)
        if options["top_items"] is None and options["min_events"] <= 1:
            write_log(PUBLISHED[name], files, target / "log", **chosen)
            return
        log = read_log(PUBLISHED[name], files, **chosen)
        log = log if options["top_items"] is None else log.top_items(options["top_items"])
        (log.filter_users(options["min_events"]) if options["min_events"] > 1 else log).save(target / "log")

    return kept(name, paths, {**options, "reward": reward}, build)


def _table(options: dict[str, Any]) -> InteractionLog:
    if "path" not in options:
        raise DataError(
            "a table needs path=, a file of events or a table in memory, got none; name one (a command's --data FILE)"
        )
    saved = _saved(options["path"], options)
    if saved is not None:
        return saved
    beside = {name: options.pop(name) for name in describing.OPTIONS if name in options}
    if any(value is not None for value in beside.values()):
        log = _table(options)
        columns = {name: options[name] for name in ("user", "item")}
        separator = options.get("separator") or ","
        return describing.with_descriptions(log, beside, **columns, separator=separator)
    source = options.pop("path")
    memory_limit = options.pop("memory_limit", None)
    made = make_options(options)
    if memory_limit is not None:
        return _table_past_memory(source, made, options, memory_limit)
    transforms = [one for one in made.transforms if isinstance(one, str)]
    if not isinstance(source, (str, Path)):
        return read_table(source, made)
    path = Path(source).expanduser()
    if not path.exists() or len(transforms) < len(made.transforms):  # a function given as such has no lasting name
        return read_table(path, made, path.stem)
    code = [cache.fingerprint(file) for file in code_of(transforms)]

    def build(target: Path) -> None:
        write_table(path, made, path.stem, target / "log")

    return _kept_table(path, options, build, code)


def _table_past_memory(source: Any, made: TableOptions, options: dict[str, Any], limit: str | int) -> InteractionLog:
    bytes_of(limit)
    if not isinstance(source, (str, Path)):
        raise DataError(
            f"memory_limit needs a file, got a {type(source).__name__} that is in memory already; drop memory_limit"
        )
    path = Path(source).expanduser()
    blocks_of(path, made)  # refuses a file that is not there

    def build(target: Path) -> None:
        write_table(path, made, path.stem, target / "log", limit)

    if made.transforms:
        raise DataError("functions in transforms need the whole table in memory, got memory_limit too; drop one")
    return _kept_table(path, options, build, [])  # the same log, so the same entry


def _kept_table(
    path: Path, options: Mapping[str, Any], build: Callable[[Path], None], code: list[Any]
) -> InteractionLog:
    files = files_of(path)
    named = [str(file.relative_to(path)) for file in files] if path.is_dir() else []  # folders may name columns
    return kept(path.stem, files, options, build, code=code, named=named, tables=_TABLES)


def _saved(source: Any, options: Mapping[str, Any]) -> InteractionLog | None:
    """Returns the log that `InteractionLog.save` or `to_parquet` wrote into a folder; None where it is a table."""
    folder = Path(source).expanduser() if isinstance(source, (str, Path)) else None
    if folder is None or not folder.is_dir():
        return None
    kind = store.kind_of(folder)
    if kind is None:
        if (folder / store.MANIFEST).exists() and next(folder.glob("*.npy"), None) is not None:
            return InteractionLog.open(folder)  # which says what is wrong with it
        return None
    given = {name: value for name, value in options.items() if value is not None and name != "path"}
    if given.get("transform") == "raw":
        del given["transform"]  # rewards of a saved log stay what they are
    if kind == shown.KIND:
        check_known("a folder of served lists", given, {"model": None, "k": None})
        return shown.read(folder, **given)
    read = {"log": InteractionLog.open, "log parts": InteractionLog.from_parquet}.get(kind)
    if read is None:
        raise DataError(f"a folder must hold a log or a table, got {kind!r} at {folder}; name the log it was made from")
    known: dict[str, Any] = {"min_events": 1, "top_items": None}
    if kind == "log parts" and "part" in given:
        read = partial(InteractionLog.from_parquet, part=given.pop("part"))
    if set(given) - set(known):
        raise OptionError(
            f"a saved log has its columns already: its options must be among {', '.join(known)}, got "
            f"{', '.join(sorted(set(given) - set(known)))}; drop those"
        )
    log, wanted = read(folder), known | given
    log = log if wanted["top_items"] is None else log.top_items(wanted["top_items"])
    return log.filter_users(wanted["min_events"]) if wanted["min_events"] > 1 else log
