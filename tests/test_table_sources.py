"""Where a table may come from beside CSV, Parquet and pandas, and ids written as floats."""

import json
import zipfile

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from pyarrow import parquet

from recgym import datasets
from recgym.errors import DataError

NAMES = {"user": "u", "item": "i", "reward": "r", "transform": "raw"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    datasets._opened.cache_clear()


def columns(n=3000):
    """More words than are looked up one by one."""
    rows = range(n)
    return {"u": [f"u{row % 1500}" for row in rows], "i": [row % 70 for row in rows], "r": [row % 5 for row in rows]}


def events(log):
    return list(zip(log.user_ids[log.event_users()], log.item_ids[log.items], log.rewards, strict=True))


# -- floats as ids -----------------------------------------------------------------------------------------------------

KINDS = (pa.float64(), pa.float32(), pa.dictionary(pa.int32(), pa.float64()))


def sources(ids, kind, folder):
    """The same table in memory (pandas', Arrow's) and as a file, with and without a limit: arguments of `load`."""
    encoded = pa.array(ids, pa.float64(), from_pandas=False)  # NaN stays NaN
    encoded = encoded.dictionary_encode() if pa.types.is_dictionary(kind) else encoded.cast(kind)
    others = {"i": list(range(len(ids))), "r": [1.0] * len(ids)}
    table = pa.table({"u": encoded} | others)
    parquet.write_table(table, folder / "t.parquet")
    file = {"path": folder / "t.parquet"}
    series = pd.Series(ids, dtype="category" if pa.types.is_dictionary(kind) else kind.to_pandas_dtype())
    return [{"path": pd.DataFrame({"u": series} | others)}, {"path": table}, file, file | {"memory_limit": "100MB"}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("nothing", [float("nan"), None])
def test_nan_is_a_missing_id(kind, nothing, tmp_path):
    for source in sources([1.0, nothing, 2.0, 1.0], kind, tmp_path):
        with pytest.raises(
            DataError, match=r"column 'u' of .* must be filled in .* in row 1 counted .*\(1 of 4 rows\)"
        ):
            datasets.load("table", **NAMES, **source)
        log = datasets.load("table", missing="drop", **NAMES, **source)
        assert events(log) == [(1, 0, 1.0), (1, 3, 1.0), (2, 2, 1.0)]
        assert log.user_ids.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    ("wrong", "shown"), [(np.inf, "inf"), (-np.inf, "-inf"), (2.0**63, r"9\.2.*e\+18"), (1.5, r"1\.5")]
)
def test_a_float_that_is_no_whole_number_is_no_id(kind, wrong, shown, tmp_path):
    match = rf"column 'u' of .* must hold whole numbers or text as ids, got \w+ with {shown} in row 2 counted from 0"
    for source in sources([3.0, float("nan"), wrong], kind, tmp_path):
        for missing in ("error", "drop"):
            with pytest.raises(DataError, match=match):
                datasets.load("table", missing=missing, **NAMES, **source)


@pytest.mark.parametrize(("largest", "fits"), [(2.0**53 - 1, True), (2.0**53, False), (-(2.0**53), False)])
def test_ids_that_a_float_cannot_tell_from_their_neighbours_are_refused(largest, fits, tmp_path):
    for source in sources([-4.0, largest], pa.float64(), tmp_path):
        if fits:
            assert datasets.load("table", **NAMES, **source).user_ids.tolist() == [-4, 2**53 - 1]
            continue
        with pytest.raises(DataError, match=r"got double with -?9007199254740992\.0 in row 1 .*exact below 2\*\*53"):
            datasets.load("table", **NAMES, **source)


def test_floats_in_one_file_and_whole_numbers_in_the_next_are_one_user(tmp_path):
    for name, ids in (("a", [7.0, 2.0**40]), ("b", [7, 2**40])):
        parquet.write_table(pa.table({"u": ids, "i": [1, 2], "r": [1.0, 1.0]}), tmp_path / f"{name}.parquet")
    log = datasets.load("table", path=tmp_path, **NAMES)
    assert log.user_ids.tolist() == [7, 2**40] and log.lengths.tolist() == [2, 2]


@pytest.mark.parametrize("other", ["b.csv", "b.tsv.gz", "b.jsonl", "day=1/b.csv"])
def test_a_folder_of_several_kinds_is_refused(other, tmp_path):
    """One kind was read, and the events of all others were left out without a word."""
    parquet.write_table(pa.table({"u": [1], "i": [1]}), tmp_path / "a.parquet")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("u,i\n2,2\n")
    match = r"must be of one kind, got a\.parquet and b\.\S+ \(1 and 1\); read each kind from a folder of its own"
    with pytest.raises(DataError, match=match):
        datasets.load("table", path=tmp_path, user="u", item="i")


@pytest.mark.parametrize("other", ["README.txt", "schema.json", "_SUCCESS", ".b.csv", "old/b.csv"])
def test_what_is_no_table_may_stand_beside_the_parts(other, tmp_path):
    parquet.write_table(pa.table({"u": [1], "i": [1]}), tmp_path / "a.parquet")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("any words")
    assert datasets.load("table", path=tmp_path, user="u", item="i").n_events == 1


# -- tables in memory --------------------------------------------------------------------------------------------------


def frame_of(kind):
    frame = polars.DataFrame(columns())
    if kind == "polars categories":
        return frame.with_columns(polars.col("u").cast(polars.Categorical))
    made = {"polars": frame, "Arrow": pa.table(columns()), "views": pa.table(frame)}  # polars' text is a string_view
    made["one that can be read once"] = made["Arrow"].to_reader()
    return made[kind]


@pytest.mark.parametrize("kind", ["polars", "polars categories", "Arrow", "views", "one that can be read once"])
def test_tables_of_others_are_the_dataframe(kind):
    expected = events(datasets.load("table", path=pd.DataFrame(columns()), **NAMES))
    assert events(datasets.load("table", path=frame_of(kind), **NAMES)) == expected


def test_functions_see_a_dataframe_whatever_the_table():
    log = datasets.load("table", path=frame_of("polars"), transforms=[lambda frame: frame[frame["r"] > 2]], **NAMES)
    assert log.n_events == 1200 and log.rewards.min() == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"u": [1], "i": [1]}), r"the table must have the column 'r', got 'u', 'i'; name the columns"),
        (pa.table({"u": [1], "i": [1], "r": [1]}).slice(1), "the table must hold at least one event, got no row"),
        (
            pa.table([[1], [2], [1], [1]], names=["u", "u", "i", "r"]),
            r"the table must have different names, got \['u'\]",
        ),
        (pa.table({"u": [1, None], "i": [1, 1], "r": [1, 1]}), "column 'u' of the table must be filled in .* in row 1"),
        (pa.chunked_array([[1, 2]]), "a table must be the path of .*, got ChunkedArray; pass one of them as path="),
        (polars.LazyFrame({"u": [1]}), "a table must be the path of .*, got LazyFrame; pass one of them"),
    ],
)
def test_bad_tables(table, message):
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=table, **NAMES)


# -- zips --------------------------------------------------------------------------------------------------------------


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_one_csv_is_read(tmp_path):
    frame = pd.DataFrame(columns())
    path = zipped(tmp_path / "w.csv.zip", {"w.csv": frame.to_csv(index=False), "__MACOSX/w": "x"})
    expected = events(datasets.load("table", path=frame, **NAMES))
    for options in ({}, {"memory_limit": "100MB"}, {"transforms": [lambda frame: frame]}):
        assert events(datasets.load("table", path=path, **options, **NAMES)) == expected


def test_a_bad_line_in_a_zip_is_named(tmp_path):
    path = zipped(tmp_path / "w.zip", {"w.csv": "u,i,r\n1,2,3\n1,2,five\n"})
    with pytest.raises(DataError, match=r"column 'r' of .*w\.zip must hold numbers, got 'five' in line 3"):
        datasets.load("table", path=path, **NAMES)


@pytest.mark.parametrize(
    ("members", "got"),
    [({}, "0 in"), ({"a.csv": "u", "b.csv": "u"}, r"2 in .*\['a\.csv', 'b\.csv'\]"), ({"a.parquet": "x"}, "1 in")],
)
def test_any_other_zip_is_refused(members, got, tmp_path):
    with pytest.raises(DataError, match=f"a zip must hold one CSV file to be read as a table, got {got}.*; unpack it"):
        datasets.load("table", path=zipped(tmp_path / "w.zip", members), **NAMES)


def test_half_a_zip(tmp_path):
    path = zipped(tmp_path / "w.zip", {"w.csv": "u,i,r\n1,2,3\n"})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="must be a whole zip archive, got BadZipFile"):
        datasets.load("table", path=path, **NAMES)


# -- JSON lines whose values change their kind -------------------------------------------------------------------------


def lines_of(path, *events):
    path.write_text("".join(json.dumps(dict(zip("uit", event, strict=True))) + "\n" for event in events))
    return {"path": path, "user": "u", "item": "i", "time": "t"}


@pytest.mark.parametrize("limit", [None, "50MB"])
@pytest.mark.parametrize("n_before", [1, 200_000])  # in the first block, and far behind it
def test_ids_that_are_numbers_here_and_text_there_are_text(n_before, limit, tmp_path):
    events = [(1, 7, n) for n in range(n_before)] + [("a", 8, n_before), ("1", 9, n_before + 1), (2.0, 9, n_before + 2)]
    log = datasets.load("table", memory_limit=limit, **lines_of(tmp_path / "p.jsonl", *events))
    assert log.user_ids.tolist() == ["1", "2", "a"] and log.item_ids.tolist() == [7, 8, 9]
    assert log.lengths.tolist() == [n_before + 1, 1, 1]


@pytest.mark.parametrize(
    ("events", "match"),
    [
        ([(1, 1, 1), (2, 2, "x")], "key 't' of .* one kind, got a number in line 1 and text in line 2; mend one"),
        ([(1, 1, 1), (True, 2, 2)], "key 'u' of .* got a number in line 1 and true or false in line 2"),
        ([(1, 1, 1), ("a", 2, 2), (1.5, 3, 3)], "key 'u' of .* whole numbers or text as ids, got 1.5 in line 3"),
        ([(1, 1, 1), ([3], 2, 2)], "key 'u' of .* got a number in line 1 and a list or object in line 2"),
    ],
)
def test_other_changes_of_kind_are_refused_with_both_lines(events, match, tmp_path):
    with pytest.raises(DataError, match=match):
        datasets.load("table", **lines_of(tmp_path / "p.jsonl", *events))
