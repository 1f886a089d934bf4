"""A table whose rows come user by user becomes, in one pass, the log that is made of it in memory."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_past_memory import NAMES, assert_same, table

from recgym import InteractionLog
from recgym.datasets import movielens, sources
from recgym.datasets.tables import columns_on_disk, in_order, text
from recgym.datasets.tables import out_of_core as past_memory
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.out_of_core import write_table
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 256)
    monkeypatch.setattr(columns_on_disk, "_PIECE", 5)


@pytest.fixture
def ways(monkeypatch):
    """Which way each table took: True for one pass."""
    taken = []
    real = in_order.columns_in_order

    def watched(*arguments):
        found = real(*arguments)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(past_memory, "columns_in_order", watched)
    monkeypatch.setattr(movielens, "columns_in_order", watched)
    return taken


def both(path, folder, **options):
    made = make_options(NAMES | options)
    write_table(path, made, "plays", folder)
    return read_table(path, made, "plays"), InteractionLog.open(folder)


@pytest.mark.parametrize("source", ["csv", "parquet"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"time": None},
        {"reward": None, "transform": "scaled"},
        {"duplicates": "first"},
        {"duplicates": "last", "propensity": "p"},
        {"min_events": 16},
        {"top_items": 9, "min_events": 12},
    ],
    ids=str,
)
def test_one_pass_equals_in_memory(source, options, tmp_path, small_pieces, ways):
    frame, path = table().sort_values("u", kind="stable"), tmp_path / f"plays.{source}"
    if source == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=50)
    assert_same(*both(path, tmp_path / "log", **options))
    assert ways == [True]


def test_one_user_over_many_blocks_and_milliseconds(tmp_path, small_pieces, ways):
    rows = [f"7,{k % 30},{k % 5},{10**12 + (k * 7919) % 1000}" for k in range(300)]
    (tmp_path / "p.csv").write_text("\n".join(["u,i,r,t", "3,1,1,1000000000000", *rows, "9,1,1,1000000000000"]))
    assert_same(*both(tmp_path / "p.csv", tmp_path / "log"))
    assert ways == [True]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (["2,5,1,1", "1,5,1,1"], {}),  # the wrong order
        (["1,5,1,1", "2,5,1,1", "1,6,1,1"], {}),
        (["10,5,1,1", "9x,5,1,1"], {}),  # text
        (["-3,5,1,1", "1,5,1,1"], {}),
        (["1,5,1,1", "20000000,5,1,1"], {}),  # beyond the numbers that are their own code
        (["9,5,1,1", "10,5,1,1", "x,5,,1"], {"missing": "drop"}),  # as text "10" comes before "9"
        (["1,5,1,1", "2,5,1,1"], {"extra": ["r"]}),
    ],
)
@pytest.mark.parametrize("limit", [None, "100MB"])
def test_other_tables_take_another_way(rows, options, limit, tmp_path, small_pieces, ways):
    (tmp_path / "p.csv").write_text("\n".join(["u,i,r,t", *rows]))
    made = make_options(NAMES | options)
    write_table(tmp_path / "p.csv", made, "plays", tmp_path / "log", limit)
    assert_same(read_table(tmp_path / "p.csv", made, "plays"), InteractionLog.open(tmp_path / "log"))
    assert ways == [False]
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 6), st.sampled_from(["1", "2.5", ""]), st.integers(0, 4)),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(["keep", "first", "last"]),
)
def test_any_table_in_order_of_users(tmp_path_factory, rows, duplicates):
    folder = tmp_path_factory.mktemp("order")
    rows = sorted(rows, key=lambda row: row[0])
    (folder / "p.csv").write_text("\n".join(["u,i,r,t", *(",".join(map(str, row)) for row in rows)]))
    if not any(row[2] for row in rows):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", 64)
        patch.setattr(columns_on_disk, "_PIECE", 3)
        assert_same(*both(folder / "p.csv", folder / "log", missing="drop", duplicates=duplicates))


def test_refused(tmp_path, small_pieces):
    frame = pd.DataFrame({"u": np.repeat(np.arange(50), 4), "i": 5, "r": 1.0, "t": np.arange(200)})
    frame.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match="each user may meet an item once, got 150 of 200 events that repeat one"):
        both(tmp_path / "p.csv", tmp_path / "log", duplicates="error")
    (tmp_path / "p.csv").write_text((tmp_path / "p.csv").read_text() + "51,x,y,z\n")
    with pytest.raises(DataError, match=r"column 'r' of .*p\.csv must hold numbers, got 'y' in line 202"):
        both(tmp_path / "p.csv", tmp_path / "log")
    assert [one.name for one in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize("name", ["ml-latest-small", "ml-100k", pytest.param("ml-1m", marks=pytest.mark.slow)])
def test_movielens(name, tmp_path, small_pieces, ways):
    published = sources.PUBLISHED[name]
    files = sources.find(published)
    if files is None:
        pytest.skip(f"{name} is not on this machine")
    movielens.write_log(published, files, tmp_path / "log")
    log = InteractionLog.open(tmp_path / "log")
    in_memory = movielens.read_log(published, files)
    assert_same(in_memory, log)
    np.testing.assert_array_equal(in_memory.titles, log.titles)
    for one, other in ((in_memory.users, log.users), (in_memory.item_features, log.item_features)):
        assert one.keys() == other.keys()
        for column in one:
            np.testing.assert_array_equal(one[column], other[column], strict=True)
    assert ways == [name != "ml-100k"]  # the file of ml-100k is in no order
