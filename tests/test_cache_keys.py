"""No two loads of a table that differ in an option, or in what they are read from, share an entry of the cache."""

import itertools
import json

import pytest

from recgym import datasets
from recgym.datasets.tables.options import TableOptions
from recgym.storage import cache

BASE = {"user": "u", "item": "i", "reward": "r", "time": "t"}
OTHERS = {  # option -> another value than its default
    "user": "v",
    "item": "v",
    "reward": "q",
    "time": "q",
    "propensity": "p",
    "extra": ["q"],
    "transform": "scaled",
    "transforms": ["builtins:dict"],
    "duplicates": "last",
    "missing": "drop",
    "missing_words": [""],
    "min_events": 2,
    "top_items": 2,
    "separator": ";",
    "encoding": "latin-1",
    "quote": None,
    "escape": "\\",
    "comment": "#",
    "decimal": ",",
    "header": None,
    "names": ["u", "v", "i", "r", "q", "t", "p"],
    "ties": "shuffle",
    "limits": {"columns": 50},
    "time_unit": "ms",
    "time_format": "%Y",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))


def test_every_option_is_tried():
    assert set(OTHERS) == set(TableOptions.__dataclass_fields__)


def test_loads_that_differ_in_an_option_or_two_have_keys_of_their_own(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("u,v,i,r,q,t,p\n1,2,3,1,2,5,0.5\n")
    seen = []

    def entry(kind, name, key, build, **more):
        seen.append(json.dumps(key, sort_keys=True))
        raise LookupError

    monkeypatch.setattr(cache, "entry", entry)
    chosen = [(), *itertools.combinations(sorted(set(OTHERS) - {"transforms"}), 1)]
    chosen += list(itertools.combinations(sorted(set(OTHERS) - {"transforms"}), 2))
    tried = 0
    for names in chosen:
        if "decimal" in names and "separator" not in names:
            continue  # a comma cannot be both
        with pytest.raises(LookupError):
            datasets.load("table", path=path, **(BASE | {name: OTHERS[name] for name in names}))
        tried += 1
    assert len(set(seen)) == tried > 200


def test_the_names_of_folders_are_in_the_key(tmp_path):
    (tmp_path / "d" / "t=5").mkdir(parents=True)
    (tmp_path / "d" / "t=5" / "p.csv").write_text("u,i,r\n1,2,3\n")
    assert datasets.load("table", path=tmp_path / "d", **BASE).times.tolist() == [5]
    (tmp_path / "d" / "t=5").rename(tmp_path / "d" / "t=6")
    assert datasets.load("table", path=tmp_path / "d", **BASE).times.tolist() == [6]
