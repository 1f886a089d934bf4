"""Logs made in parts: those of one process to the bit, also after an interruption, from any file system."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recgym import datasets
from recgym.__main__ import main
from recgym.datasets import partitioned
from recgym.datasets.partitioned import prepare
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError, MissingDataError, RecgymError
from recgym.log import InteractionLog

OPTIONS = {"user": "u", "item": "i", "reward": "r", "time": "t", "extra": ("kind",)}


def events(text, n=4000, seed=0):
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 97, n) ** 2, random.integers(0, 300, n) * 7
    ids = (lambda column: [f"x{value}" for value in column]) if text else (lambda column: column)
    columns = {"r": random.integers(1, 6, n) / 2, "t": random.integers(10**9, 10**9 + 500, n)}
    kinds = random.choice(["click", "purchase", "a rather long word"], n, p=[0.9, 0.099, 0.001])
    return pa.table({"u": ids(users), "i": ids(items), **columns, "kind": kinds})


def written(folder, table, n_files=5):
    folder.mkdir()
    ends = np.linspace(0, len(table), n_files + 1).astype(int)
    for number, (first, end) in enumerate(pairwise(ends)):
        parquet.write_table(table.slice(first, end - first), folder / f"events-{number}.parquet")
    return folder


def _whole(source):
    return read_table(source, make_options(dict(OPTIONS)))


def same(one, other):
    for name in ("items", "rewards", "times", "offsets", "user_ids", "item_ids"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b)
    assert one.extra.keys() == other.extra.keys() and one.reward_range == other.reward_range
    assert one.extra["kind"].dtype == other.extra["kind"].dtype and (one.extra["kind"] == other.extra["kind"]).all()
    assert dict(one.source) == dict(other.source)


@pytest.mark.parametrize("text", [False, True])
def test_parts_together_are_the_log_of_one_process(tmp_path, text):
    source = written(tmp_path / "events", events(text))
    out = prepare(source, tmp_path / "out", n_parts=7, n_jobs=2, **OPTIONS)
    whole = _whole(source)
    same(InteractionLog.from_parquet(out), whole)
    assert whole.to_parquet(tmp_path / "again", n_parts=7) is None
    for part in range(7):
        one, other = (InteractionLog.from_parquet(folder, part=part) for folder in (out, tmp_path / "again"))
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.user_ids, other.user_ids)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


@pytest.mark.parametrize("stage", ["count", "share", "read", "write", "finish"])
def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path, monkeypatch, stage):
    source, done = written(tmp_path / "events", events(False)), []
    whole = getattr(partitioned._Work, stage)

    def dies(self, number):
        if number == 2 or stage == "finish":
            raise KeyboardInterrupt
        whole(self, number)

    monkeypatch.setattr(partitioned._Work, stage, dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", n_parts=4, **OPTIONS)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(partitioned._Work, stage, whole)
    real = partitioned._batches
    monkeypatch.setattr(partitioned, "_batches", lambda file, columns: done.append(file) or real(file, columns))
    prepare(source, tmp_path / "out", n_parts=4, **OPTIONS)
    assert len(done) == {"count": 3 + 5, "share": 3}.get(stage, 0)
    same(InteractionLog.from_parquet(tmp_path / "out"), _whole(source))


@pytest.mark.parametrize("left", ["_temporary/0", ".staging"])
def test_what_a_writer_left_unfinished_is_no_part(left, tmp_path):
    source = written(tmp_path / "events", events(False))
    (source / left).mkdir(parents=True)
    parquet.write_table(events(False, n=50, seed=1), source / left / "events-0.parquet")
    same(InteractionLog.from_parquet(prepare(source, tmp_path / "out", n_parts=2, **OPTIONS)), _whole(source))


def test_addresses_of_fsspec_are_read(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    table, system = events(True), fsspec.filesystem("memory")
    for number in range(3):
        with system.open(f"memory://lake/events/{number}.parquet", "wb") as file:
            parquet.write_table(table.slice(number * 1000, 1000), file)
    out = prepare("memory://lake/events", tmp_path / "out", n_parts=3, n_jobs=2, **OPTIONS)
    same(InteractionLog.from_parquet(out), _whole(table.slice(0, 3000)))
    with pytest.raises(RecgymError, match="must be an address that fsspec opens"):
        prepare("nowhere://lake", tmp_path / "none", **OPTIONS)


def test_what_cannot_be_made_in_parts_is_refused(tmp_path):
    source, out = written(tmp_path / "events", events(False)), tmp_path / "out"
    with pytest.raises(MissingDataError, match="must hold Parquet files, got none"):
        prepare(tmp_path / "nothing", out, **OPTIONS)
    with pytest.raises(DataError, match="n_parts must lie between 1 and 97, the number of users, got 98"):
        prepare(source, out, n_parts=98, **OPTIONS)
    with pytest.raises(DataError, match="takes options that look at one user, got top_items"):
        prepare(source, out, top_items=5, **OPTIONS)
    with pytest.raises(DataError, match="engine must be one of"):
        prepare(source, out, engine="spark", **OPTIONS)
    with pytest.raises(DataError, match=r"events-0.parquet must have the columns \['who'\]"):
        prepare(source, out, **OPTIONS | {"user": "who"})
    (source / "events-9.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"events-9.parquet must be a Parquet file"):
        prepare(source, out, n_parts=2, **OPTIONS)
    floats = written(tmp_path / "floats", pa.table({"u": [1.5, 2.5], "i": [1, 2]}), 1)
    with pytest.raises(DataError, match="ids of a log made in parts must be whole numbers or text, got double"):
        prepare(floats, out, n_parts=2, user="u", item="i")
    assert not out.exists()


def test_the_command_prepares_and_parts_are_read_by_address(tmp_path, capsys):
    source, out = written(tmp_path / "events", events(False)), tmp_path / "out"
    words = ["--data", str(source), "--out", str(out), "--parts", "3", "--n-jobs", "2"]
    columns = ["--user", "u", "--item", "i", "--reward", "r", "--time", "t", "--option", 'extra=["kind"]']
    assert main(["data", "prepare", *words, *columns]) == 0
    assert "sharing events out to 3 parts" in capsys.readouterr().out
    same(datasets.load(str(out)), _whole(source))
    part = datasets.load(str(out), part=1)
    np.testing.assert_array_equal(part.items, InteractionLog.from_parquet(out, part=1).items)
    assert main(["data", "prepare", *words[:-1], "0", *columns]) == 1
    assert "n_jobs must be an integer of at least 1, got 0" in capsys.readouterr().err
