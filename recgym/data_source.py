"""Where a log comes from: one address, and one set of options, for every command, environment and loader.

Nothing heavy is imported before a log is loaded, so that a command line can be read at once.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym.errors import DataError

if TYPE_CHECKING:
    from recgym.log import InteractionLog


@dataclass(frozen=True)
class DataSource:
    """A log by its address: a name, a file, a folder of parts, the folder of a saved log, or a table in memory.

    Attributes:
        dataset: Name of a data set (`python -m recgym list`), or the path of a CSV, Parquet or JSON-lines file, of a
            folder of such files, or of a saved log; `--data` is the same option.
        user: Column of user ids of a table.
        item: Column of item ids.
        reward: Column of rewards; without one every event is worth 1. Of a data set by name, its reward transform.
        time: Column of times; without one the order of the rows counts.
        propensity: Column of the probability with which each item was shown.
        transform: What is made of the reward column, e.g. "binary:4"; by default what it looks like ("auto"), but "raw"
            where a policy is evaluated.
        separator: What stands between the columns of a text file; "tab" is a tab.
        encoding: Of a text file.
        time_unit: Of numeric times: "s", "ms", "us" or "ns".
        time_format: Of dates as text, in the letters of strptime.
        missing: Rows that lack a value: "error" or "drop".
        duplicates: A user's several events with one item: "keep", "first", "last" or "error".
        min_events: Users with fewer events are left out.
        top_items: Only so many of the most frequent items are kept.
        option: Further options of `recgym.datasets.load` as NAME=VALUE, e.g. order=sasrec.

    Raises:
        DataError: if an option is no NAME=VALUE, or stands twice.

    Example:
        >>> DataSource("synthetic", option=("n_users=50", "n_items=40")).load()
        InteractionLog('synthetic': 931 events, 50 users, 40 items)
    """

    dataset: str = "synthetic"
    user: str | None = None
    item: str | None = None
    reward: str | None = None
    time: str | None = None
    propensity: str | None = None
    transform: str | None = None
    separator: str | None = None
    encoding: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    missing: str | None = None
    duplicates: str | None = None
    min_events: int | None = None
    top_items: int | None = None
    option: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Returns the keyword arguments of `recgym.datasets.load` beside the address; those not given are left out."""
        named = {field.name: getattr(self, field.name) for field in _FIELDS if field.name not in ("dataset", "option")}
        given = {name: value for name, value in named.items() if value is not None}
        if given.get("separator") in _TABS:
            given["separator"] = "\t"
        for text in self.option:
            name, sign, value = text.partition("=")
            name = name.replace("-", "_")
            if not sign or not name:
                raise DataError(f"option must read NAME=VALUE, got {text!r}; write e.g. order=sasrec")
            if name in given:
                raise DataError(f"an option must be given once, got {name} twice; drop one")
            given[name] = _value(value)
        return given

    def load(self, **more: Any) -> InteractionLog:
        """Returns the log.

        Args:
            **more: Further options of `recgym.datasets.load`, which count before those here.

        Raises:
            DataError: as `recgym.datasets.load`, as everything below.
            MissingDataError: see there.
        """
        from recgym import datasets

        return datasets.load(self.dataset, **(self.options | more))

    def recipe(self) -> dict[str, Any]:
        """Returns address and options as JSON values: keyword arguments of an environment; a path is made absolute."""
        address = self.dataset if self.is_name else str(Path(self.dataset).expanduser().resolve())
        return {"dataset": address, **self.options}

    @property
    def is_name(self) -> bool:
        """Whether the address is the name of a data set."""
        from recgym import datasets

        return self.dataset in datasets.names()

    @property
    def label(self) -> str:
        """Returns what files made from the log may be called: its name, or the last part of its path without ending."""
        path = Path(self.dataset).expanduser().resolve()  # so that "." has a name too
        return (path.name if path.is_dir() else path.name.partition(".")[0]) or "log"


_FIELDS = fields(DataSource)
_TABS = ("tab", "\\t")  # what a shell makes it hard to write


def add_arguments(parser: argparse.ArgumentParser, *, required: bool = True, also: Sequence[str] = ()) -> None:
    """Adds the options of a data source to a command; `also` are older names of `--data`."""
    about = _descriptions()
    group = parser.add_argument_group("the data")
    group.add_argument("--data", "--dataset", *also, dest="dataset", required=required, help=about["dataset"])
    for field in _FIELDS[1:-1]:
        kind = int if field.name in ("min_events", "top_items") else str
        group.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=about[field.name])
    group.add_argument("--option", action="extend", nargs="+", default=[], metavar="NAME=VALUE", help=about["option"])


def source_of(options: argparse.Namespace | Mapping[str, Any]) -> DataSource:
    """Returns the data source that parsed options of a command name."""
    given = dict(options) if isinstance(options, Mapping) else vars(options)
    values = {field.name: given[field.name] for field in _FIELDS if field.name in given}
    return DataSource(**values | {"option": tuple(values.get("option") or ())})


def _descriptions() -> dict[str, str]:
    """Returns what each option means, as the class's docstring says."""
    listed = inspect.cleandoc(DataSource.__doc__ or "").partition("Attributes:\n")[2].split("\n\n")[0]
    about: dict[str, str] = {}
    for line in inspect.cleandoc(listed).splitlines():
        if not line.startswith(" "):
            name, _, line = line.partition(":")
            about[name] = ""
        about[name] = f"{about[name]} {line.strip()}".strip()
    return {name: text.replace("%", "%%") for name, text in about.items()}


def _value(text: str) -> Any:
    """Returns what an option's text stands for: a JSON value where it is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
