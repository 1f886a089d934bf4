"""Any table becomes the log a naive reading of it gives."""

import gzip
import json
import sys
import warnings
from collections import defaultdict

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym import datasets
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError

CSV = """listener,track,stars,when,mood
ann,7,3.5,200,calm
bob,007,1,100,wild
ann,7,4,100,calm
cid,"a, b",5,300,wild
ann,9,2,100,wild
"""
NAMES = {"user": "listener", "item": "track", "reward": "stars", "time": "when", "transform": "raw"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    datasets._opened.cache_clear()


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def events(log):
    """The events of a log as (user id, item id, reward, time), user by user, oldest first."""
    times = log.times if log.times is not None else np.zeros(log.n_events, dtype=np.int64)
    columns = (log.user_ids[log.event_users()], log.item_ids[log.items], log.rewards, times)
    return list(zip(*(column.tolist() for column in columns), strict=True))


EVENTS = [  # of CSV: by user, then time; one second keeps the order of the file
    ("ann", "7", 4.0, 100),
    ("ann", "9", 2.0, 100),
    ("ann", "7", 3.5, 200),
    ("bob", "007", 1.0, 100),
    ("cid", "a, b", 5.0, 300),
]


def frame():
    return pd.DataFrame(
        {
            "listener": ["ann", "bob", "ann", "cid", "ann"],
            "track": ["7", "007", "7", "a, b", "9"],
            "stars": [3.5, 1, 4, 5, 2],
            "when": [200, 100, 100, 300, 100],
            "mood": ["calm", "wild", "calm", "wild", "wild"],
        }
    )


# -- where it comes from -----------------------------------------------------------------------------------------------


def test_csv(tmp_path):
    log = datasets.load("table", path=write(tmp_path / "plays.csv", CSV), **NAMES)
    assert events(log) == EVENTS
    assert log.name == "plays"
    assert log.reward == "raw"


def test_parquet(tmp_path):
    frame().to_parquet(tmp_path / "plays.parquet")
    assert events(datasets.load("table", path=tmp_path / "plays.parquet", **NAMES)) == EVENTS


def test_dataframe_with_any_index():
    given = frame().set_index(pd.Index([9, 9, 9, 1, 1]))
    kept = given.copy()
    assert events(datasets.load("table", path=given, **NAMES)) == EVENTS
    pd.testing.assert_frame_equal(given, kept)


def test_gzipped_csv(tmp_path):
    (tmp_path / "plays.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    assert events(datasets.load("table", path=tmp_path / "plays.csv.gz", **NAMES)) == EVENTS


def test_separator_and_encoding(tmp_path):
    path = write(tmp_path / "p.tsv", "listener\ttrack\nLéa\tété\n", encoding="latin-1")
    log = datasets.load("table", path=path, user="listener", item="track", separator="\t", encoding="latin-1")
    assert events(log) == [("Léa", "été", 1.0, 0)]


def test_byte_order_mark_blank_lines_and_quoted_line_ends(tmp_path):
    path = write(tmp_path / "p.csv", 'listener,track\n\nann,"two\nlines"\n\nbob,x\n', encoding="utf-8-sig")
    log = datasets.load("table", path=path, user="listener", item="track")
    assert events(log) == [("ann", "two\nlines", 1.0, 0), ("bob", "x", 1.0, 0)]


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "-3"], [-3, 9, 10]),  # numbers throughout: numbers
        (["10", "9", "007"], ["007", "10", "9"]),  # as numbers, 007 and 7 would be one
        (["7", "007"], ["007", "7"]),
        (["1.0", "2"], [1, 2]),
        (["9" * 30, "1"], ["1", "9" * 30]),
    ],
)
def test_ids_in_csv(ids, expected, tmp_path):
    path = write(tmp_path / "p.csv", "u,i\n" + "".join(f"a,{one}\n" for one in ids))
    assert datasets.load("table", path=path, user="u", item="i").item_ids.tolist() == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "2"], ["1", "2"]),  # text in a DataFrame stays text
        ([2, 1], [1, 2]),
        ([2.0, 1.0], [1, 2]),
        ([1, "1"], ["1"]),  # numbers among text are text
        ([1.0, "b"], ["1", "b"]),
        ([np.int64(7), "7"], ["7"]),
        ([2**70, 3], [3, 2**70]),
        ([(1, 2), (0, 5)], [(0, 5), (1, 2)]),
    ],
)
def test_ids_in_a_dataframe(ids, expected):
    log = datasets.load("table", path=pd.DataFrame({"u": ["a", "b"], "i": ids}), user="u", item="i")
    assert log.item_ids.tolist() == expected


@pytest.mark.parametrize("odd", [True, 1.5, 1 + 1j, b"a", float("inf"), np.bool_(True)])
def test_values_that_stand_for_nobody_are_refused_among_ids(odd):
    frame = pd.DataFrame({"u": pd.Series(["a", (1, 2), odd], dtype=object), "i": [1, 2, 3]})
    with pytest.raises(DataError, match=r"column 'u' of the DataFrame must hold whole numbers or text .* row 2"):
        datasets.load("table", path=frame, user="u", item="i")


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        (["0", "-0", "+0", "0.0"], [0]),
        (["2", "+2", " 2", "2.", "2e0"], [2]),
        (["1000", "1e3", "1E+03", "1.0e3"], [1000]),
        (["100000", "1e+05", "1.5e+05", "150000"], [100000, 150000]),  # as R writes them
        (["-3", "-3.0"], [-3]),
        (["1.5e0", "1"], ["1", "1.5e0"]),  # no whole number
        (["1e3", "1000", "007"], ["007", "1000", "1e3"]),
    ],
)
@pytest.mark.parametrize("limit", [None, "50MB"])
def test_spellings_of_one_whole_number_in_a_csv_file_are_one_id(spellings, expected, limit, tmp_path):
    path = write(tmp_path / "p.csv", "u,i\n" + "".join(f"{one},{n}\n" for n, one in enumerate(spellings)))
    log = datasets.load("table", path=path, user="u", item="i", memory_limit=limit)
    assert log.user_ids.tolist() == expected
    assert log.n_events == len(spellings)


# -- choices -----------------------------------------------------------------------------------------------------------


def test_every_event_is_worth_one_without_a_reward_column(tmp_path):
    log = datasets.load("table", path=write(tmp_path / "p.csv", CSV), user="listener", item="track")
    assert set(log.rewards.tolist()) == {1.0}
    assert log.times is None
    assert [event[1] for event in events(log)[:3]] == ["7", "7", "9"]  # the order of the rows


def test_reward_transform_of_numbers_and_labels(tmp_path):
    path = write(tmp_path / "p.csv", CSV)
    log = datasets.load("table", path=path, **NAMES | {"transform": "scaled"})
    np.testing.assert_allclose(log.user(0).rewards, [0.6, -0.2, 0.4], atol=1e-6)
    labels = {**NAMES, "reward": "mood", "transform": "label:calm=1,wild=-1"}
    log = datasets.load("table", path=path, **labels)
    assert log.rewards.tolist() == [1.0, -1.0, 1.0, -1.0, -1.0]
    assert log.reward == "label:calm=1,wild=-1"


def test_propensities_and_further_columns(tmp_path):
    path = write(tmp_path / "p.csv", "u,i,p,c,n\na,x,0.5,red,1\na,y,1,blue,2\n")
    log = datasets.load("table", path=path, user="u", item="i", propensity="p", extra=["c", "n"])
    assert log.propensities.tolist() == [0.5, 1.0]
    assert log.extra["c"].tolist() == ["red", "blue"]
    assert log.extra["n"].tolist() == [1, 2]


@pytest.mark.parametrize(("choice", "kept"), [("keep", [4.0, 2.0, 3.5]), ("first", [4.0, 2.0]), ("last", [2.0, 3.5])])
def test_duplicates_by_choice(choice, kept, tmp_path):
    log = datasets.load("table", path=write(tmp_path / "p.csv", CSV), **NAMES, duplicates=choice)
    assert log.user(0).rewards.tolist() == kept


MISSING = "u,i,r,t\na,x,1,1\n,x,2,2\na,,3,3\nNA,x,4,4\na,x,NaN,5\na,x,6,null\nb,y,7,7\n"


@pytest.mark.parametrize("source", ["csv", "frame"])
def test_rows_that_lack_something_are_dropped_on_request(source, tmp_path):
    path = write(tmp_path / "p.csv", MISSING)
    path = path if source == "csv" else pd.read_csv(path)
    log = datasets.load("table", path=path, user="u", item="i", reward="r", time="t", missing="drop")
    assert events(log) == [("a", "x", 1.0, 1), ("b", "y", 7.0, 7)]


def test_words_that_mean_missing_can_be_named(tmp_path):
    path = write(tmp_path / "p.csv", "u,i\nNA,x\nde,y\n")  # Namibia
    log = datasets.load("table", path=path, user="u", item="i", missing_words=[""])
    assert log.user_ids.tolist() == ["NA", "de"]


def test_filters(tmp_path):
    path = write(tmp_path / "p.csv", CSV)
    assert datasets.load("table", path=path, **NAMES, min_events=2).user_ids.tolist() == ["ann"]
    assert datasets.load("table", path=path, **NAMES, top_items=1).item_ids.tolist() == ["7"]


# -- the user's own functions ------------------------------------------------------------------------------------------


def only_ann(frame):
    return frame[frame["listener"] == "ann"]


def renamed(frame):
    return frame.rename(columns={"listener": "who"})


def test_functions_are_applied_in_order(tmp_path):
    path = write(tmp_path / "p.csv", CSV)
    log = datasets.load("table", path=path, **{**NAMES, "user": "who"}, transforms=[only_ann, renamed])
    assert events(log) == EVENTS[:3]


def test_functions_given_by_name_are_json_and_cached_until_they_change(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = write(tmp_path / "my_cleaning.py", "def few(frame):\n    return frame.head(2)\n")
    options = {"path": str(write(tmp_path / "p.csv", CSV)), **NAMES, "transforms": ["my_cleaning:few"]}
    assert json.loads(json.dumps(options)) == options
    assert datasets.load("table", **options) is datasets.load("table", **options)
    assert datasets.load("table", **options).n_events == 2
    module.write_text("def few(frame):\n    return frame.head(3) # another\n")
    sys.modules.pop("my_cleaning")
    assert datasets.load("table", **options).n_events == 3


def test_functions_see_numeric_ids_as_numbers(tmp_path):
    seen = []

    def look(frame):
        seen.append(frame["u"].tolist())
        return frame

    datasets.load("table", path=write(tmp_path / "p.csv", "u,i\n3,x\n1,y\n"), user="u", item="i", transforms=[look])
    assert seen == [[3, 1]]


# -- cache -------------------------------------------------------------------------------------------------------------


def test_second_load_is_the_first_and_a_changed_file_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "p.csv", CSV)
    first = datasets.load("table", path=str(path), **NAMES)
    assert isinstance(first.items, np.memmap)
    assert datasets.load("table", path=path, **NAMES) is first
    assert datasets.load("table", path=path, **NAMES, duplicates="first") is not first
    write(path, CSV + "dan,1,1,1,calm\n")
    assert datasets.load("table", path=path, **NAMES).n_events == 6


# -- against a naive reading -------------------------------------------------------------------------------------------

IDS = st.one_of(st.integers(-5, 120).map(str), st.text("ab0", min_size=1, max_size=3))
ROWS = st.lists(
    st.tuples(IDS, IDS, st.integers(-8, 8).map(lambda n: n / 2), st.integers(0, 3)), min_size=1, max_size=30
)


def naive(rows, duplicates):
    """The log a plain loop makes, ids as text."""
    by_user = defaultdict(list)
    for user, item, reward, time in rows:
        by_user[user].append((time, item, reward))
    made = []
    for user, own in by_user.items():
        own = sorted(own, key=lambda event: event[0])  # stable
        seen, kept = set(), []
        for event in own if duplicates != "last" else own[::-1]:
            if duplicates == "keep" or event[1] not in seen:
                kept.append(event)
            seen.add(event[1])
        made += [(user, item, reward, time) for time, item, reward in (kept if duplicates != "last" else kept[::-1])]
    return sorted(made, key=lambda event: event[0])  # stable: each user's events stay in order


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["keep", "first", "last"]))
def test_equals_a_naive_reading(tmp_path_factory, rows, duplicates):
    path = tmp_path_factory.mktemp("naive") / "p.csv"
    path.write_text("u,i,r,t\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    columns = {"user": "u", "item": "i", "reward": "r", "time": "t"}
    options = make_options({**columns, "duplicates": duplicates, "transform": "raw"})
    log = read_table(path, options)
    ours = [(str(user), str(item), reward, time) for user, item, reward, time in events(log)]
    assert sorted(ours, key=lambda event: event[0]) == naive(rows, duplicates)
    assert len(set(log.user_ids.tolist())) == len({row[0] for row in rows})
    numeric = all(row[1].lstrip("-").isdigit() and row[1] == str(int(row[1])) for row in rows)
    assert (log.item_ids.dtype == np.int64) == numeric


# -- what rewards look like --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stars", "transform", "worth"),
    [
        ([5, 3, 4.5, 1], "scaled", [1.0, 0.2, 0.8, -0.6]),
        ([10, 8, 9, 2], "scaled:10", [1.0, 0.6, 0.8, -0.6]),
        ([1, 2, 1, 400], "log1p", np.log1p([1, 2, 1, 400])),
        ([1, 0, 1, 1], "raw", [1, 0, 1, 1]),
        (["1", "0", "x", "3"], None, r"column 'r' .* 'x'"),
    ],
)
@pytest.mark.parametrize("limit", [None, "100MB"])
def test_rewards_become_what_fits_their_column(limit, stars, transform, worth, tmp_path):
    rows = "".join(f"u,{place},{one}\n" for place, one in enumerate(stars))
    given = {"path": write(tmp_path / "t.csv", "u,i,r\n" + rows), "user": "u", "item": "i", "reward": "r"}
    if transform is None:
        with pytest.raises(DataError, match=worth):
            datasets.load("table", **given, memory_limit=limit)
        return
    log = datasets.load("table", **given, memory_limit=limit)
    assert log.reward == transform
    np.testing.assert_allclose(log.rewards, worth, rtol=1e-6)
    assert (log.summary()["transform"], log.summary()["transform_is_guessed"]) == (transform, True)
    asked = datasets.load("table", **given, transform="raw")
    assert asked.rewards.tolist() == np.float32(stars).tolist() and not asked.summary()["transform_is_guessed"]


def test_a_later_block_tells_what_all_rewards_look_like(tmp_path):
    for place, stars in enumerate([[5, 4], [5, 400, 1, 1, 1]]):
        pd.DataFrame({"u": 1, "i": stars, "r": stars}).to_parquet(tmp_path / f"{place}.parquet")
    log = datasets.load("table", path=tmp_path, user="u", item="i", reward="r")
    assert log.reward == "log1p"
    np.testing.assert_allclose(log.rewards, np.log1p([5, 4, 5, 400, 1, 1, 1]), rtol=1e-6)


def test_older_ids_of_tables_leave_rewards_as_they_are(tmp_path):
    rows = "".join(f"{user},{item},{3 + item % 3}\n" for user in range(30) for item in range(15))
    given = {
        "path": str(write(tmp_path / "t.csv", "u,i,r\n" + rows)),
        "user": "u",
        "item": "i",
        "reward": "r",
        "dim": 4,
    }
    for version, expected in (("v0", [3, 4, 5]), ("v1", np.float32([0.2, 0.6, 1.0]).tolist())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            env = gym.make(f"recgym/Table-Frame-{version}", **given)
        assert np.unique(env.unwrapped.users.log.rewards).tolist() == expected
