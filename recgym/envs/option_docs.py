"""What options there are, by name, with default and meaning, as docstrings and comments say it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from recgym import datasets
from recgym.options import accepted
from recgym.worlds.further import further as traits

_NOT_TRAITS = ("users", "catalog", "frame_size", "known")
_ELSEWHERE = re.compile(r"$|See there|As (in|of|for) `|None or a model of `")
_ARRAYS = ("reach", "over", "known", "before")  # of users made by hand, in no id
_NO_OPTIONS = ("num_envs", "users", "catalog", "recipe", "log", "vectors", "folder", "render_mode")


class Option(NamedTuple):
    """One thing to choose."""

    default: Any
    meaning: str


_PATH = {
    "path": Option(None, "The table: a file or a folder of files (CSV, Parquet, JSON lines), or a saved log."),
    "memory_limit": Option(None, 'For a file larger than memory, e.g. `"2GB"`: the log is sorted on disk.'),
}
_PUBLISHED = {
    "reward": Option("scaled", "What is made of ratings, see `recgym.transform_rewards`."),
    "order": Option("time", 'Of a user\'s events: `"time"`; of ml-1m also `"sasrec"`, that of the published copy.'),
    "min_events": Option(1, "Users with fewer events are left out."),
    "top_items": Option(None, "Only so many of the most frequent items are kept."),
    "download": Option(False, "Whether a missing set may be downloaded; its size and licence are stated first."),
}


def world_options(world: Any, given: Mapping[str, Any]) -> dict[str, Option]:
    """Returns the options a world takes beside those of the environment, its data set's among them, by name.

    Args:
        world: The function that makes items and users; `FURTHER` of its module says whose options it hands on.
        given: What an id is registered with; `dataset` says whose options are added.
    """
    sources = getattr(inspect.getmodule(world), "FURTHER", {})
    further = [own_options(source) for source in sources]
    found = own_options(world)
    found |= {name: one for name, one in own_options(traits).items() if name not in found and name not in _NOT_TRAITS}
    for names, options in zip(sources.values(), further, strict=True):
        found |= {
            name: option
            for name, option in options.items()
            if name not in found and name not in _ARRAYS and (names is None or name in names)
        }
    if "dataset" in given or sources:
        found = {**data_options(given.get("dataset", "synthetic")), **found}
        further.append(own_options(datasets.synthetic))
    for name, option in found.items():
        if _ELSEWHERE.match(option.meaning):  # the words stand where the option comes from
            said = [options[name].meaning for options in further if name in options]
            known = [words for words in said if not _ELSEWHERE.match(words)]
            found[name] = option._replace(meaning=known[0] if known else option.meaning)
    return found


def data_options(dataset: str) -> dict[str, Option]:
    """Returns the options that `recgym.datasets.load` takes for a data set, by name."""
    maker = datasets.maker(dataset)
    if maker is None:  # a published set, or one that others registered
        return dict(_PUBLISHED) if dataset.startswith("ml-") else {}
    return {**(_PATH if dataset == "table" else {}), **own_options(maker)}


def own_options(source: Any) -> dict[str, Option]:
    """Returns the options that a function or class takes, by name, explained by docstring or comments on fields."""
    source = getattr(source, "takes", source)
    text = inspect.cleandoc(source.__doc__ or "").partition("\nArgs:\n")[2]
    text = re.split(r"\n(?=\S)", text)[0]
    said = dict(re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", text, re.M))
    if is_dataclass(source) and isinstance(source, type):
        lines = "".join(inspect.getsource(base) for base in reversed(source.__mro__) if is_dataclass(base))
        comments = re.findall(r"^    (\w+): [^#]*?# (.*)$", lines, re.M)
        said |= {name: f"{words[:1].upper()}{words[1:]}." for name, words in comments}
    return {
        name: Option(default, " ".join(said.get(name, "").split()))
        for name, default in accepted(source).defaults.items()
        if name not in _NO_OPTIONS
    }
