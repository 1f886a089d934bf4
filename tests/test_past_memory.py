"""A log sorted on disk under a tiny memory limit is the log sorted in memory, to the bit."""

import builtins
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recgym import InteractionLog, datasets
from recgym.datasets import generator
from recgym.datasets.tables import columns_on_disk, gather, text
from recgym.datasets.tables import out_of_core as past_memory
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.out_of_core import bytes_of, write_table
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError, MissingDataError

NAMES = {"user": "u", "item": "i", "reward": "r", "time": "t"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    datasets._opened.cache_clear()


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks, batches and pieces so small that a small table has many."""
    monkeypatch.setattr(text, "_BLOCK", 256)
    monkeypatch.setattr(past_memory, "_ROWS", 7)
    monkeypatch.setattr(columns_on_disk, "_PIECE", 5)


def assert_same(one, other):
    """Every column of two logs has the same type and bits, and every attribute is the same."""
    assert one.event_columns().keys() == other.event_columns().keys()
    columns = {**one.event_columns(), "offsets": one.offsets, "user_ids": one.user_ids, "item_ids": one.item_ids}
    theirs = {**other.event_columns(), "offsets": other.offsets, "user_ids": other.user_ids, "item_ids": other.item_ids}
    for name, column in columns.items():
        assert column.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(column, theirs[name], err_msg=name, strict=True)
    for name in ("reward", "reward_range", "name"):
        assert getattr(one, name) == getattr(other, name)


def both(path, folder, **options):
    """Returns the log made in memory and the one made on disk."""
    made = make_options(NAMES | options)
    write_table(path, made, "plays", folder, "100MB")
    return read_table(path, made, "plays"), InteractionLog.open(folder)


def table(n=600, seed=0):
    random = np.random.default_rng(seed)
    columns = {
        "u": random.integers(0, 40, n),
        "i": random.integers(0, 25, n) * 1000,
        "r": random.integers(1, 11, n) / 2,
    }
    return pd.DataFrame(
        columns | {"t": random.integers(10, 60, n), "p": random.uniform(0.1, 1, n), "n": random.integers(0, 9, n)}
    )


@pytest.mark.parametrize("source", ["csv", "parquet", "folder"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"time": None},
        {"reward": None, "transform": "scaled"},
        {"duplicates": "first"},
        {"duplicates": "last"},
        {"min_events": 16},
        {"top_items": 9},
        {"duplicates": "last", "top_items": 7, "min_events": 4, "propensity": "p", "extra": ["n", "p"]},
        {"transform": "label:0.5=1,1=2,1.0=2,1.5=3,2=4,2.0=4,2.5=5,3=6,3.0=6,3.5=7,4=8,4.0=8,4.5=9,5=10,5.0=10"},
    ],
    ids=str,
)
def test_on_disk_equals_in_memory(source, options, tmp_path, small_pieces):
    frame, path = table(), tmp_path / f"plays.{source}"
    if source == "csv":
        frame.to_csv(path, index=False)
    elif source == "parquet":
        frame.to_parquet(path, row_group_size=50)
    else:
        path.mkdir()
        for number in range(3):
            frame.iloc[number * 200 : number * 200 + 200].to_parquet(path / f"{number}.parquet")
    assert_same(*both(path, tmp_path / "log", **options))


def test_missing_values_and_parts_of_a_second(tmp_path, small_pieces):
    def line(k):
        user, reward, extra = ("" if k % n == 0 else value for n, value in ((7, f"ann{k % 5}"), (13, k), (9, k)))
        return f"{user},{k % 11},{reward},{k % 3 + k % 4 / 4},{extra}"

    lines = [line(k) for k in range(300)]
    (tmp_path / "p.csv").write_text("\n".join(["u,i,r,t,x", *lines]))
    in_memory, on_disk = both(tmp_path / "p.csv", tmp_path / "log", missing="drop", extra=["x"])
    assert_same(in_memory, on_disk)
    assert in_memory.extra["x"].dtype == np.float64  # whole numbers of which some are missing
    assert np.isnan(in_memory.extra["x"]).any()


# -- what a column holds is known only at its end ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("5", "1000000000000", [0, 10**9]),  # milliseconds after all
        ("5", "2.5", [5, 2]),
        ("1", "2.5", [1, 2]),  # ones alone could be read as true
        ("5", "2020-01-01", None),
        ("2020-01-01", "2020-01-01T12:00:00", [1577836800, 1577880000]),
        ("2020-01-01T12:00:00", "2020-01-01T12:00:00.5", [1577880000, 1577880000]),
        ("", "7", [7]),
        ("", "2.25", [2]),
    ],
)
def test_what_times_are_does_not_depend_on_where_blocks_end(first, then, expected, tmp_path, small_pieces):
    rows = [f"a{k},x,1,{first}" for k in range(100)] + [f"b{k},x,1,{then}" for k in range(100)]
    (tmp_path / "p.csv").write_text("\n".join(["u,i,r,t", *rows]))
    if expected is None:
        with pytest.raises(DataError, match="must hold seconds since 1970 or dates"):
            both(tmp_path / "p.csv", tmp_path / "log")
        return
    in_memory, on_disk = both(tmp_path / "p.csv", tmp_path / "log", missing="drop")
    assert_same(in_memory, on_disk)
    assert sorted(set(in_memory.times.tolist())) == sorted(set(expected))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "10", "007", "ann", "", "9" * 25]),
            st.sampled_from(["5", "6", "70", "x y"]),
            st.sampled_from(["1", "2.5", "-3", ""]),
            st.sampled_from(["3", "1", "2", "2.25", ""]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(["keep", "first", "last"]),
)
def test_any_small_table_gives_the_same_both_ways_and_in_any_blocks(tmp_path_factory, rows, duplicates):
    folder = tmp_path_factory.mktemp("both")
    (folder / "p.csv").write_text("\n".join(["u,i,r,t", *map(",".join, rows)]))
    whole = [row for row in rows if all(row)]
    made = {"duplicates": duplicates, "missing": "drop"}
    if not whole:
        with pytest.raises(DataError, match="must hold at least one whole event"):
            both(folder / "p.csv", folder / "log", **made)
        return
    one_block = read_table(folder / "p.csv", make_options(NAMES | made), "plays")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", 64)
        patch.setattr(past_memory, "_ROWS", 3)
        in_memory, on_disk = both(folder / "p.csv", folder / "log", **made)
    assert_same(one_block, in_memory)
    assert_same(in_memory, on_disk)


# -- by load -----------------------------------------------------------------------------------------------------------


def test_load_with_a_limit_shares_the_cache_entry(tmp_path):
    table().to_csv(tmp_path / "plays.csv", index=False)
    limited = datasets.load("table", path=tmp_path / "plays.csv", **NAMES, memory_limit="100MB")
    assert limited is datasets.load("table", path=tmp_path / "plays.csv", **NAMES)
    assert isinstance(limited.items, np.memmap)
    assert len(os.listdir(tmp_path / "cache" / "entries")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_limit": "lots"}, "memory_limit must be bytes or a text like '2GB', got 'lots'"),
        ({"memory_limit": 0}, "memory_limit must be bytes or a text like '2GB', got 0"),
        (
            {"memory_limit": "1GB", "transforms": ["json:loads"]},
            "functions in transforms need the whole table in memory",
        ),
        (
            {"memory_limit": "1GB", "extra": ["w"]},
            "extra columns of a table past memory must hold numbers, got string in 'w'",
        ),
        (
            {"memory_limit": "1GB", "duplicates": "error"},
            "each user may meet an item once, got 1 of 3 events that repeat",
        ),
        ({"memory_limit": "1GB", "min_events": 9}, "some user must have min_events=9 events, got 2 at most"),
        ({"memory_limit": "1GB", "top_items": 9}, "n must lie between 1 and 1, the number of items, got 9"),
    ],
)
def test_refused(options, message, tmp_path):
    (tmp_path / "p.csv").write_text("u,i,r,t,w\na,x,1,1,one\na,x,2,2,two\nb,x,3,3,three\n")
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=tmp_path / "p.csv", **NAMES, **options)
    assert not list((tmp_path / "cache").glob("entries/*"))


def test_a_limit_needs_a_file(tmp_path):
    with pytest.raises(DataError, match="memory_limit needs a file, got a DataFrame that is in memory already"):
        datasets.load("table", path=table(), **NAMES, memory_limit="1GB")
    with pytest.raises(MissingDataError, match="a table must be a file, got no such file"):
        datasets.load("table", path=tmp_path / "p.csv", **NAMES, memory_limit="1GB")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=r"a folder as table must hold \.parquet files, or .* got none"):
        datasets.load("table", path=tmp_path / "empty", **NAMES)


def test_without_duckdb_the_message_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "duckdb":
            raise ImportError(name)
        return real(name, *arguments, **options)

    table().to_csv(tmp_path / "p.csv", index=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        DataError, match=r"memory_limit needs DuckDB, got none installed; run pip install 'recgym\[large\]'"
    ):
        write_table(tmp_path / "p.csv", make_options(NAMES), "p", tmp_path / "log", "100MB")


def test_bytes_of():
    assert [bytes_of(limit) for limit in ("2GB", "1.5 mb", "300", 7, "64kB", "12B")] == [
        2 * 10**9,
        1_500_000,
        300,
        7,
        64_000,
        12,
    ]


def test_the_memory_sink_and_the_spool_get_the_same_blocks(tmp_path):
    table().to_csv(tmp_path / "p.csv", index=False)
    assert gather.Growing(np.int32).finish().tolist() == []
    grown = gather.Growing(np.int64)
    for part in np.split(np.arange(9000), 9):
        grown.append(part)
    np.testing.assert_array_equal(grown.finish(), np.arange(9000))


# -- memory ------------------------------------------------------------------------------------------------------------

PEAK = """
import re, sys
from recgym import datasets
options = {"memory_limit": sys.argv[2]} if sys.argv[2] else {}
import duckdb, pandas
def peak():  # getrusage would count what the parent held when it forked
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1000
before = peak()
names = {"user": "userId", "item": "movieId", "reward": "rating", "time": "timestamp"}
log = datasets.load("table", path=sys.argv[1], **names, **options)
print(peak() - before, log.n_events)
"""


def peak(path, limit, cache):
    """Returns the MB a load takes at most beyond what the imports take."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", PEAK, str(path), limit]
    said = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": root, "RECGYM_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(said.stdout.split()[0])


def test_a_second_load_takes_next_to_no_memory(tmp_path):
    path = generator.generate(tmp_path / "r.csv", 1_000_000)
    first = peak(path, "", tmp_path / "cache")
    assert first < 250
    assert peak(path, "", tmp_path / "cache") < 30


@pytest.mark.slow
def test_a_log_four_times_the_limit(tmp_path):
    path = generator.generate(tmp_path / "r.parquet", 12_000_000)
    limit = 240  # MB: the events alone are 20 bytes each, and as much again while they are sorted
    assert peak(path, f"{limit}MB", tmp_path / "in order") < 1.5 * limit
    rows = parquet.read_table(path)  # user by user, which one pass can write; so now in another order
    parquet.write_table(rows.take(np.random.default_rng(0).permutation(len(rows))), path)
    del rows
    assert peak(path, f"{limit}MB", tmp_path / "one") < 1.5 * limit
    assert peak(path, "", tmp_path / "two") > 2 * limit
