"""Every data set there is, with content, licence and citation, and whether it is on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from recgym.datasets import names, registered
from recgym.datasets.layouts import LAYOUTS
from recgym.datasets.published import place_of
from recgym.datasets.sources import PUBLISHED, data_dir, find

_HARPER = "Harper & Konstan 2015, The MovieLens datasets: history and context, ACM TiiS"
_FOLDERS = {  # sets with loaders of their own: content, licence, citation
    "coat": (
        "6,960 ratings of chosen coats, 4,640 of random ones",
        "for research",
        "Schnabel et al. 2016, Recommendations as treatments: debiasing learning and evaluation, ICML",
    ),
    "obd": (
        "clicks under a random and a Thompson-sampling policy, with propensities",
        "Apache-2.0 (the sample's repository)",
        "Saito et al. 2021, Open bandit dataset and pipeline, NeurIPS datasets and benchmarks",
    ),
    "tianchi": ("views, carts, likes and purchases of a shop", "see its page", "Tianchi competition 231721, round 2"),
    "nowplaying": (
        "songs with audio features",
        "see its page",
        "Poddar, Zangerle & Yang 2018, #nowplaying-RS: a new benchmark dataset, SMC",
    ),
}


class Listed(NamedTuple):
    """One data set."""

    name: str
    content: str
    state: str  # where it is, or how to get it
    is_here: bool
    licence: str = ""
    citation: str = ""


def listed() -> Iterator[Listed]:
    """Yields every data set by name, in the order of `recgym.datasets.names`."""
    data = data_dir()
    own = registered.found()
    for name in names():
        if name in PUBLISHED:
            published, found = PUBLISHED[name], find(PUBLISHED[name])
            size = f"{published.content}, {published.remote.size / 1e6:.1f} MB"
            state = f"at {found.path}" if found else f"not here: python -m recgym fetch {name}"
            licence = published.remote.licence.partition("; cite")[0]
            yield Listed(name, size, state, found is not None, licence, _HARPER)
        elif name in LAYOUTS:
            layout = LAYOUTS[name]
            place = place_of(layout)
            state = f"at {place}" if place else f"not here: get it from {layout.url} and put it at RECGYM_DATA/{name}"
            state = "name its file by path=" if layout.needs_path else state
            yield Listed(name, layout.content, state, place is not None, layout.licence, layout.citation)
        elif name in _FOLDERS:
            content, licence, citation = _FOLDERS[name]
            here = data is not None and (data / name).is_dir()
            state = f"at {data}/{name}" if here else f"not here: put it at RECGYM_DATA/{name}"
            yield Listed(name, content, state, here, licence, citation)
        elif name == "table":
            content = "any CSV, Parquet, JSON-lines file, folder of them, saved log or DataFrame"
            yield Listed(name, content, "path=, user=, item=, reward=, time=", True)
        elif name in own:
            yield Listed(name, "registered", f"from {own[name].about}", True)
        else:
            yield Listed(name, "generated", "embedded, always there", True)
