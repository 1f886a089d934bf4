"""Times of every kind a file may hold come out as the same second."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recgym import datasets
from recgym.datasets.tables.timestamps import ticks
from recgym.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))


def write(path, text):
    path.write_text(text)
    return path


def events(log):
    """User id, item id and time of every event, user by user, oldest first."""
    users, items = log.user_ids[log.event_users()], log.item_ids[log.items]
    return list(zip(users.tolist(), items.tolist(), log.times.tolist(), strict=True))


SECOND = 1_714_564_800  # 2024-05-01 12:00:00 UTC


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (str(SECOND), {}),
        (f"{SECOND}.25", {}),
        (str(SECOND * 1000), {}),
        (str(SECOND * 10**6 + 1), {}),
        (str(SECOND * 10**9), {}),
        ("2024-05-01 12:00:00", {}),
        ("2024-05-01T12:00:00.125", {}),
        ("2024-05-01T12:00:00Z", {}),
        ("2024-05-01T14:00:00+02:00", {}),
        ("01/05/2024 12h", {"time_format": "%d/%m/%Y %Hh"}),
    ],
)
@pytest.mark.parametrize("source", ["csv", "text in a frame"])
def test_times_of_every_kind(text, options, source, tmp_path):
    path = write(tmp_path / "p.csv", f"u,i,t\na,x,{text}\n")
    if source != "csv":
        path = pd.DataFrame({"u": ["a"], "i": ["x"], "t": [text]})
    log = datasets.load("table", path=path, user="u", item="i", time="t", **options)
    assert log.times.tolist() == [SECOND]


def test_small_numbers_are_milliseconds_on_request(tmp_path):
    path = write(tmp_path / "p.csv", "u,i,t\na,x,5000\na,y,4000\n")
    log = datasets.load("table", path=path, user="u", item="i", time="t", time_unit="ms")
    assert events(log) == [("a", "y", 4), ("a", "x", 5)]


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(["2024-05-01 12:00", "2024-05-01 11:59"]),
        pd.to_datetime(["2024-05-01 14:00+02:00", "2024-05-01 13:59+02:00"]),
        [pd.Timestamp("2024-05-01 12:00").to_pydatetime(), pd.Timestamp("2024-05-01 11:59").to_pydatetime()],
        pd.Series([SECOND, SECOND - 60]).astype("Int64"),
    ],
)
def test_times_in_a_dataframe(column):
    given = pd.DataFrame({"u": ["a", "a"], "i": ["x", "y"], "t": column})
    log = datasets.load("table", path=given, user="u", item="i", time="t")
    assert events(log) == [("a", "y", SECOND - 60), ("a", "x", SECOND)]


def test_parts_of_a_second_decide_the_order():
    given = pd.DataFrame({"u": ["a"] * 3, "i": ["x", "y", "z"], "t": [SECOND + 0.75, SECOND + 0.5, SECOND + 0.75]})
    log = datasets.load("table", path=given, user="u", item="i", time="t")
    assert [event[1] for event in events(log)] == ["y", "x", "z"]
    assert log.times.tolist() == [SECOND] * 3


def test_missing_times_are_neither_read_nor_wrong():
    values, per_second, wild = ticks(pa.chunked_array([["2024-05-01", None, "soon"]]), None, None)
    assert (values // per_second).tolist() == [SECOND - 12 * 3600, 0, 0]
    assert wild.tolist() == [False, False, True]
    values, per_second, wild = ticks(pa.chunked_array([pa.nulls(2)]), None, None)
    assert values.tolist() == [0, 0]
    assert not wild.any()


@pytest.mark.parametrize(
    ("highest", "per_second"), [(10**11 - 1, 1), (10**11, 10**3), (10**14, 10**6), (10**17, 10**9)]
)
def test_unit_is_told_from_the_size(highest, per_second):
    assert ticks(pa.chunked_array([[5, highest]]), None, None)[1] == per_second


def test_text_is_read_the_way_that_fits_more_of_it():
    wild = ticks(pa.chunked_array([["10", "20", "soon"]]), None, None)[2]
    assert wild.tolist() == [False, False, True]
    wild = ticks(pa.chunked_array([["2024-05-01", "2024-05-02", "x"]]), None, None)[2]
    assert wild.tolist() == [False, False, True]


@pytest.mark.parametrize("values", [[np.inf], [-np.inf], [1e300], [float(2**63)]])
def test_numbers_beyond_all_times_are_unreadable(values):
    assert ticks(pa.chunked_array([values]), "s", None)[2].tolist() == [True]


def test_unknown_unit():
    with pytest.raises(DataError, match=r"time_unit must be one of s, ms, us, ns, D, excel, got 'h'"):
        ticks(pa.chunked_array([[1]]), "h", None)


# -- guesses, and what contradicts them --------------------------------------------------------------------------------


def of(times, **options):
    given = pd.DataFrame({"u": 1, "i": range(len(times)), "t": times})
    return datasets.load("table", path=given, user="u", item="i", time="t", **options)


@pytest.mark.parametrize(
    ("times", "match"),
    [
        ([1_700_000_000] * 9 + [253402300799], r"got 9 like 1700000000 .* and 1 like 253402300799 .* row 9 .*unit='s'"),
        ([1704067200, 1706745600000], r"must be times of one unit, got 1 like 1704067200 \(2024-01-01 in s\)"),
        ([20240131, 20240201], r'look like dates written YYYYMMDD; pass time_format="%Y%m%d", or time_unit="s"'),
        ([20240131123000], r'YYYYMMDDHHMMSS; pass time_format="%Y%m%d%H%M%S"'),
        ([202401311230], r'YYYYMMDDHHMM; pass time_format="%Y%m%d%H%M"'),
        ([202401, 202402], r'months written YYYYMM; pass time_format="%Y%m"'),
        ([2019, 2020], r'years; pass time_format="%Y"'),
        ([45292.5, 45293.0], r'days as Excel counts them; pass time_unit="excel"'),
        (
            np.array([881250949], np.float32),
            r"wide enough to tell seconds apart, got float32 with 881250944.* 64 s apart",
        ),
        (np.array([4096], np.float16), r"got float16 with 4096"),
        ([5, -3], r"must not be before 1970 \(negative\), got -3 in row 1 .*name their unit"),
    ],
)
def test_guesses_that_would_be_wrong_are_refused(times, match):
    with pytest.raises(DataError, match=match):
        of(times)


@pytest.mark.parametrize(
    ("times", "options", "expected"),
    [
        ([1_700_000_000, 253402300799], {"time_unit": "s"}, [1_700_000_000, 253402300799]),
        ([20240131, 20240132], {}, [20240131, 20240132]),  # no dates
        ([20240131, 20240201], {"time_format": "%Y%m%d"}, [1706659200, 1706745600]),
        ([20240131.0, np.nan], {"time_format": "%Y%m%d", "missing": "drop"}, [1706659200]),
        ([45292.5], {"time_unit": "excel"}, [1704110400]),
        ([19700], {"time_unit": "D"}, [1702080000]),
        ([-5, 3], {"time_unit": "s"}, [-5, 3]),
        (pd.to_datetime(["1965-01-01", "2001-01-01"]), {}, [-157766400, 978307200]),
        ([0, 5, SECOND * 1000], {}, [0, 0, SECOND]),  # small numbers say nothing
        ([pd.NaT, None], {"time_format": "%Y", "missing": "drop"}, "must hold at least one whole event"),
    ],
)
def test_options_read_what_was_refused(times, options, expected):
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            of(times, **options)
    else:
        assert of(times, **options).times.tolist() == expected


def test_what_was_guessed_is_said(caplog):
    caplog.set_level("INFO")
    log = of([SECOND * 1000, SECOND * 1000, None, SECOND * 1000 + 5000], missing="drop")
    said = log.summary()
    assert (said["rows"], said["events"], said["dropped"]) == (4, 3, {"t": 1})
    assert (said["time_unit"], said["time_unit_is_guessed"]) == ("ms", True)
    assert (said["tied"], said["tied_ascending"], said["repeats"]) == (0.5, 1.0, 0.0)
    assert said["first"] == "2024-05-01T12:00:00"
    assert log.tied == 0.5
    assert "'rows': 4, 'dropped': {'t': 1}, 'time_unit': 'ms', 'time_unit_is_guessed': True" in caplog.text


# -- zones -------------------------------------------------------------------------------------------------------------

ZONED, PLAIN = "2020-01-01T02:00:00+02:00", "2020-01-01T00:00:00"


@pytest.mark.parametrize(
    "zoned",
    [
        ZONED,
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00Z",
        "2020-01-01T00:00:00.5-0300",
        "20200101T000000Z",
        "2020-01-01T00+00:00",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_times_with_a_zone_and_times_without_are_not_mixed(zoned, first, tmp_path):
    words = [zoned, PLAIN] if first else [PLAIN, zoned]
    (tmp_path / "p.csv").write_text("u,i,t\n" + "".join(f"a,{n},{word}\n" for n, word in enumerate(words)))
    with pytest.raises(
        DataError, match=r"all have a zone, or none that has, got .* in line . and .* in line .; write the"
    ):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", time="t")


@pytest.mark.parametrize("order", [1, -1])
def test_nor_in_parts_of_a_folder(order, tmp_path):
    for n, zone in enumerate(["UTC", None][::order]):
        times = pd.to_datetime(["2020-01-01T00:00:00"]).tz_localize(zone)
        pd.DataFrame({"u": ["a"], "i": [n], "t": times}).to_parquet(tmp_path / f"{n}.parquet")
    with pytest.raises(DataError, match=r"must hold times that all have a zone, or none that has"):
        datasets.load("table", path=tmp_path, user="u", item="i", time="t")


@pytest.mark.parametrize("words", [[ZONED, "2020-01-01T00:00:00Z"], [PLAIN, "2020-01-01"], ["2020-01-01", ZONED]])
def test_zones_of_one_kind_and_days_are_read(words, tmp_path):
    (tmp_path / "p.csv").write_text("u,i,t\n" + "".join(f"a,{n},{word}\n" for n, word in enumerate(words)))
    log = datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", time="t")
    assert log.times.tolist() == [1577836800] * 2
