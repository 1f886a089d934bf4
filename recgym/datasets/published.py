"""Logs in published layouts: `recgym.datasets.layouts` says what they look like, here they are found and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recgym.datasets import layout_readers as readers
from recgym.datasets.kept import kept
from recgym.datasets.layout_readers import Part, Side
from recgym.datasets.layouts import LAYOUTS, Layout
from recgym.datasets.sources import data_dir
from recgym.datasets.tables.columns import Columns
from recgym.datasets.tables.json_lines import is_json_lines
from recgym.datasets.tables.json_lines import read_blocks as read_json
from recgym.datasets.tables.options import TableOptions
from recgym.datasets.tables.table import load_events
from recgym.datasets.tables.text import Text, read_blocks
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog
from recgym.log.events import check_duplicates_choice, titles_of
from recgym.options import check_choice
from recgym.rewards import takes_labels

_CODED = pa.dictionary(pa.int32(), pa.string())
_FILTERS = {"duplicates": "keep", "missing": "error", "min_events": 1, "top_items": None}


class Found(NamedTuple):
    """The files of a log in a published layout."""

    events: list[tuple[Part, Path]]
    items: tuple[Side, Path] | None
    users: tuple[Side, Path] | None

    def paths(self) -> list[Path]:
        """Returns all of them."""
        return [path for _, path in self.events] + [one[1] for one in (self.items, self.users) if one is not None]


def known_options(name: str) -> dict[str, Any]:
    """Returns the options of a layout with their defaults."""
    layout = LAYOUTS[name]
    known: dict[str, Any] = {"path": None, "part": next(iter(layout.parts)), "reward": layout.transform, **_FILTERS}
    if layout.feedback:
        known["feedback"] = layout.feedback[0]
    if layout.category:
        known["category"] = None
    if name == "recbole":
        known |= dict.fromkeys(("user", "item", "time", "feedback"))
    return known


def load(name: str, given: Mapping[str, Any]) -> InteractionLog:
    """Returns the log of a data set in a published layout, kept in the cache once it was read.

    Args:
        name: One of `LAYOUTS`.
        given: Those of `known_options(name)`.

    Raises:
        MissingDataError: if a file is not there; the message says where to get it.
        DataError: if a file is not as published, or an option is none of those there are.
    """
    layout, options = LAYOUTS[name], known_options(name) | dict(given)
    check_choice("part", options["part"], tuple(layout.parts))
    check_choice("missing", options["missing"], ("error", "drop"))
    check_duplicates_choice(options["duplicates"])
    if layout.feedback:
        check_choice("feedback", options["feedback"], layout.feedback)
    if takes_labels(layout.transform) != takes_labels(options["reward"]):
        raise DataError(
            f"reward of {name} must be a transform like {layout.transform!r}, got {options['reward']!r}; see "
            "recgym.rewards.transform_rewards"
        )
    found = find(layout, options)
    called = found.events[0][1].name.partition(".")[0] if layout.needs_path else name

    def build(target: Path) -> None:
        _read(layout, found, options, called).save(target / "log")

    told = {key: value for key, value in options.items() if key != "path"}
    return kept(called, found.paths(), {**told, "layout": name, "at": [str(path) for path in found.paths()]}, build)


def place_of(layout: Layout) -> Path | None:
    """Returns the folder of a data set under RECGYM_DATA, by our name or its publisher's; None where it is not here."""
    data = data_dir()
    if data is None or layout.needs_path or not data.is_dir():
        return None
    plain = layout.name.replace("-", "").lower()
    folders = [one for one in sorted(data.iterdir()) if one.is_dir()]
    alike = (one for one in folders if one.name.replace("-", "").replace("_", "").lower() == plain)
    return next(alike, None)


def find(layout: Layout, options: Mapping[str, Any]) -> Found:
    """Returns the files of a layout: those of `path=`, or of its folder under RECGYM_DATA.

    Raises:
        MissingDataError: if there is no folder, or a file is not in it.
        DataError: if several files could be meant.
    """
    root = place_of(layout) if options["path"] is None else Path(options["path"]).expanduser()
    if root is None or not root.exists():
        where = f"no such place {root}" if root is not None else f"no folder {layout.name} in RECGYM_DATA, and no path="
        raise MissingDataError(
            f"{layout.name} must be on this machine, got {where}; get it from {layout.url} (licence: {layout.licence}) "
            f"and name its folder or file by path="
        )
    parts = layout.parts[options["part"]]
    if root.is_file():
        fit = [part for part in parts if root.match(_pattern(part.pattern, root.name.partition(".")[0]))]
        events = [((fit or parts)[0], root)]
    else:
        named = options.get("category") or "*"
        events = [(part, _only(layout, root, _pattern(part.pattern, named))) for part in parts]
    if layout.name == "recbole":
        return _recbole(events[0][1], options)
    folder = root.parent if root.is_file() else root
    stem = events[0][1].name.partition(".")[0]
    sides = (layout.items, layout.users)
    beside = [_beside(side, folder, _pattern(side.pattern, stem)) if side else None for side in sides]
    return Found(events, *beside)


def _pattern(pattern: str, category: str) -> str:
    return pattern.replace("{category}", category)


def _only(layout: Layout, root: Path, pattern: str) -> Path:
    """Returns the file of a pattern, the one least deep in a folder."""
    files = [path for path in root.rglob(pattern) if path.is_file() and not path.name.startswith("meta_")]
    depth = min((len(path.parts) for path in files), default=0)
    files = sorted(path for path in files if len(path.parts) == depth)
    if not files:
        raise MissingDataError(
            f"{layout.name} must hold {pattern}, got no such file in {root}; get it from {layout.url}, or choose part="
        )
    if len(files) > 1:
        raise DataError(
            f"{layout.name} must be one file {pattern}, got {len(files)} in {root}, e.g. {files[0].name} and "
            f"{files[1].name}; name one by path="
        )
    return files[0]


def _beside(side: Side, folder: Path, pattern: str) -> tuple[Side, Path] | None:
    files = sorted(folder.rglob(pattern))
    return (side, files[0]) if files else None


def _recbole(path: Path, options: Mapping[str, Any]) -> Found:
    """Returns the files of a RecBole data set, its parts and sides made from their typed header lines."""
    given = {name: options[name] for name in ("user", "item", "time")} | {"column": options["feedback"]}
    columns = readers.recbole_part(path, Part(path.name, {}), given)
    sides = []
    for ours, ending in (("item", ".item"), ("user", ".user")):
        beside, key = path.with_suffix(ending), columns[ours]
        header = readers.typed_header(beside) if beside.is_file() else {}
        others = [column for column, _ in header.values() if column != key]
        titles = [one for one in others if ours == "item" and one.endswith(":token_seq") and _is_title(one)]
        features = tuple(one for one in others if one not in titles[:1])
        sides.append((Side(beside.name, key, next(iter(titles), None), features), beside) if header else None)
    return Found([(Part(path.name, columns), path)], *sides)


def _is_title(column: str) -> bool:
    return column.partition(":")[0].endswith(("title", "name"))


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(layout: Layout, found: Found, options: Mapping[str, Any], name: str) -> InteractionLog:
    columns = {column for part, _ in found.events for column in (part.columns or _columns_of(part))}
    columns |= {"behaviour"} if any(part.behaviour for part, _ in found.events) else set()
    if layout.feedback:
        columns.add("reward")
    labels = takes_labels(options["reward"])
    table = TableOptions(
        user="user",
        item="item",
        reward="behaviour" if labels else "reward" if "reward" in columns else None,
        time="time" if "time" in columns else None,
        extra=sorted(columns - {"user", "item", "reward", "time"}),
        transform=options["reward"],
        missing=options["missing"],
        time_unit=layout.time_unit,
    )
    loaded = load_events(partial(_blocks, layout, found.events, options.get("feedback"), table), table)
    log = InteractionLog(**loaded.arranged(options["duplicates"]), reward=loaded.about["transform"], name=name)
    log = _with_sides(log, layout, found)
    log = log if options["top_items"] is None else log.top_items(options["top_items"])
    return log.filter_users(options["min_events"]) if options["min_events"] > 1 else log


def _columns_of(part: Part) -> list[str]:
    """Returns what a reader of lines gives."""
    return ["user", "item"] if part.read is readers.item_lists else ["user", "item", "reward", "time", "impression"]


def _blocks(
    layout: Layout,
    events: list[tuple[Part, Path]],
    feedback: str | None,
    table: TableOptions,
    guessed: Mapping[str, pa.DataType],
) -> Iterator[Columns]:
    """Yields the events of all files, under our names; nothing has to be guessed."""
    for part, path in events:
        before = 0
        text = Text(str(path), partial(readers.opened, path), layout.separator, names=part.names or None)
        for block in _tables(layout, part, path, text, feedback):
            if part.behaviour:
                block = block.append_column("behaviour", pa.array([part.behaviour] * block.num_rows))
            is_text = part.read is None and not is_json_lines(path)
            place = partial(_place, text if is_text else None, before)
            yield Columns(block.select(table.needed), str(path), place, is_text=is_text)
            before += block.num_rows


def _tables(layout: Layout, part: Part, path: Path, text: Text, feedback: str | None) -> Iterator[pa.Table]:
    if part.read is not None:
        yield from part.read(path)
        return
    columns = dict(part.columns)
    if layout.feedback and feedback is not None:
        columns["reward"] = feedback
    kinds = {ours: _kind(layout, ours) for ours in columns}
    theirs = {column: kinds[ours] for ours, column in columns.items()}  # one that means two things is read once
    if is_json_lines(path):
        wanted = TableOptions(
            user=columns["user"], item=columns["item"], reward=columns.get("reward"), time=columns.get("time")
        )
        tables = read_json(path, partial(readers.opened, path), wanted, {})
    else:
        tables = read_blocks(text, theirs, null_values=("", "NA", "NaN", "nan", "null"), plain_first=False)
    for block in tables:
        yield pa.table({ours: block.column(column) for ours, column in columns.items()})


def _kind(layout: Layout, column: str) -> pa.DataType:
    """Returns the Arrow type of one of our columns."""
    return {
        "user": _CODED,
        "item": _CODED,
        "reward": pa.float64(),
        "time": layout.time_kind,
        "behaviour": pa.string(),
    }.get(column, pa.int64())


def _place(text: Text | None, before: int, row: int) -> str:
    return text.place(before + row) if text is not None else f"event {before + row + 1}"


def _with_sides(log: InteractionLog, layout: Layout, found: Found) -> InteractionLog:
    """Returns the log with titles and features, as far as files tell them."""
    if found.items is not None:
        side, path = found.items
        columns = readers.described(path, side, side.separator or layout.separator, log.item_ids)
        titles = columns.pop(side.title, None) if side.title is not None else None
        if titles is not None:
            ids = log.item_ids.tolist()
            given = {one: title for one, title in zip(ids, titles.tolist(), strict=True) if title}
            log = replace(log, titles=titles_of(log.item_ids, given))
        log = replace(log, item_features={_plain(name): column for name, column in columns.items()})
    if found.users is not None:
        side, path = found.users
        columns = readers.described(path, side, side.separator or layout.separator, log.user_ids)
        log = replace(log, users={_plain(name): np.asarray(column) for name, column in columns.items()})
    return log


def _plain(column: str) -> str:
    """Returns the name of a column without RecBole's type."""
    return column.partition(":")[0]
