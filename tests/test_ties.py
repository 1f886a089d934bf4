"""Events of one user and second: in the order of the file, or in one that tells nothing of ids or rows."""

import numpy as np
import pandas as pd
import pytest
from fakes import as_folder, csv_layout

from recgym import InteractionLog, datasets
from recgym.datasets.tables import columns_on_disk, text
from recgym.datasets.tables import out_of_core as past_memory
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.out_of_core import write_table
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError

NAMES = {"user": "u", "item": "i", "reward": "r", "time": "t"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))


def table(n=900, kind=int, seed=0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"u": random.integers(0, 12, n), "i": random.permutation(n), "r": 1.0, "t": random.integers(0, 9, n)}
    )
    frame = frame.sort_values(["u", "t", "i"], kind="stable")  # as files sorted by item are
    return frame.assign(i=frame["i"].map(lambda item: f"song {item:04}") if kind is str else frame["i"])


def order(log):
    return list(
        zip(
            log.user_ids[log.event_users()].tolist(), map(str, log.item_ids[log.items]), log.times.tolist(), strict=True
        )
    )


@pytest.mark.parametrize("kind", [int, str])
def test_shuffled_ties_tell_nothing_and_are_the_same_from_any_source(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 512)
    monkeypatch.setattr(past_memory, "_ROWS", 17)
    monkeypatch.setattr(columns_on_disk, "_PIECE", 50)
    frame = table(kind=kind)
    by_file, shuffled = (make_options(NAMES | {"ties": ties}) for ties in ("file", "shuffle"))
    assert read_table(frame, by_file).summary()["tied_ascending"] == 1.0
    log = read_table(frame, shuffled)
    said = log.summary()
    assert said["ties"] == "shuffle"
    assert 0.85 < said["tied"] < 0.95
    assert 0.4 < said["tied_ascending"] < 0.6
    assert (np.diff(log.times)[np.diff(log.event_users()) == 0] >= 0).all()
    assert sorted(order(log)) == sorted(order(read_table(frame, by_file)))
    assert order(read_table(frame.sample(frac=1.0, random_state=1), shuffled)) == order(
        log
    )  # rows may come in any order
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert order(read_table(tmp_path / "t.csv", shuffled)) == order(log)
    for number, source in enumerate([frame, frame.sample(frac=1.0, random_state=2)]):
        source.to_csv(tmp_path / "t.csv", index=False)
        for limit in (None, "100MB"):
            write_table(tmp_path / "t.csv", shuffled, "t", tmp_path / f"log{number}{limit}", limit)
            assert order(InteractionLog.open(tmp_path / f"log{number}{limit}")) == order(log)


def test_movielens_sorted_by_movie_is_shuffled_unless_asked_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    as_folder(tmp_path / "ml-latest-small", csv_layout())
    logs = {ties: datasets.load("ml-latest-small", ties=ties) for ties in (None, "file", "shuffle")}
    assert [log.source["ties"] for log in logs.values()] == ["shuffle", "file", "shuffle"]
    assert order(logs[None]) == order(logs["shuffle"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ties": "random"}, "ties must be 'file' or 'shuffle', got 'random'; choose one of them"),
        ({"ties": "shuffle", "time": None}, "ties='shuffle' needs times, got no time= column; name it, or drop ties"),
    ],
)
def test_refused(options, match):
    with pytest.raises(DataError, match=match):
        make_options(NAMES | options)
