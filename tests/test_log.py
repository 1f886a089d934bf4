import doctest

import numpy as np
import pandas as pd
import pytest

from recgym import ids
from recgym.errors import DataError, StoreError
from recgym.log import InteractionLog, events, splits
from recgym.log import interaction_log as log


@pytest.mark.parametrize("module", [log, ids, events, splits], ids=lambda module: module.__name__)
def test_doctests(module):
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def rows_of(made):
    """Returns {user id: [(item id, reward, time), ...]} by a plain loop."""
    found = {}
    for user in range(made.n_users):
        part = made.user(user)
        times = [None] * len(part.items) if part.times is None else part.times.tolist()
        ids_of = [made.item_ids.tolist()[item] for item in part.items]
        found[made.user_ids.tolist()[user]] = list(zip(ids_of, part.rewards.tolist(), times, strict=True))
    return found


def test_from_events_equals_a_plain_loop():
    random = np.random.default_rng(0)
    users, items = random.integers(0, 40, 500), random.integers(100, 130, 500)
    rewards, times = random.integers(0, 9, 500) / 8, random.integers(0, 50, 500)  # many ties
    made = InteractionLog.from_events(users, items, rewards, times)
    expected = {}
    for row in sorted(range(500), key=lambda row: times[row]):  # Python's sort is stable
        expected.setdefault(int(users[row]), []).append((int(items[row]), float(rewards[row]), int(times[row])))
    assert rows_of(made) == expected
    assert made.user_ids.tolist() == sorted(expected)
    assert made.items.dtype == np.int32 and made.rewards.dtype == np.float32
    assert made.times.dtype == np.int64 and made.offsets.dtype == np.int64


def test_events_of_one_second_keep_file_order_r13():
    """Source defect R13: an unstable sort left events of one second in any order."""
    made = InteractionLog.from_events([1] * 100, np.arange(100)[::-1], np.ones(100), times=[9] + [7] * 99)
    assert made.items.tolist() == [*range(98, -1, -1), 99]


def test_nothing_given_is_changed_r13():
    """Source defect R13: the ratings frame was changed in place, so that preparing twice transformed twice."""
    frame = pd.DataFrame({"u": [2, 1, 2], "i": [5, 5, 4], "r": [4.0, 2.0, 1.0], "t": [9, 3, 1]})
    before = frame.copy()
    first = InteractionLog.from_events(frame.u, frame.i, frame.r, frame.t)
    second = InteractionLog.from_events(frame.u, frame.i, frame.r, frame.t)
    pd.testing.assert_frame_equal(frame, before)
    assert rows_of(first) == rows_of(second) == {1: [(5, 2.0, 3)], 2: [(4, 1.0, 1), (5, 4.0, 9)]}


def test_without_times_the_order_given_stays():
    made = InteractionLog.from_events(["b", "a", "b"], [1, 2, 3], [0, 0, 0])
    assert rows_of(made) == {"a": [(2, 0.0, None)], "b": [(1, 0.0, None), (3, 0.0, None)]}


def test_times_too_far_apart_for_one_key_still_sort():
    times = np.array([2**62, 5, 2**61, 1])
    made = InteractionLog.from_events([1, 2, 1, 2], [1, 2, 3, 4], np.ones(4), times)
    assert rows_of(made) == {1: [(3, 1.0, 2**61), (1, 1.0, 2**62)], 2: [(4, 1.0, 1), (2, 1.0, 5)]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([30, 4, 30], [4, 30]),
        (np.array(["long name", "b", "b"]), ["b", "long name"]),
        (pd.Series(["z", "y", "z"]), ["y", "z"]),
        ([1, "1", 1], [1, "1"]),
        ([("a", 1), ("a", 0), ("a", 1)], [("a", 0), ("a", 1)]),
        (np.array([3, 1, 2], dtype=np.uint8), [1, 2, 3]),
        ([2**70, 1, 2**70], [1, 2**70]),
        (["tail\0", "tail", "tail"], ["tail", "tail\0"]),
    ],
)
def test_ids_of_any_kind_survive_saving(given, expected, tmp_path):
    made = InteractionLog.from_events(given, given, [1, 2, 3])
    made.save(tmp_path / "log")
    for one in (made, InteractionLog.open(tmp_path / "log")):
        assert one.user_ids.tolist() == one.item_ids.tolist() == expected
        assert [one.item_ids.tolist()[item] for item in one.items] == [
            one.user_ids.tolist()[user] for user in one.event_users()
        ]


@pytest.mark.parametrize(
    ("duplicates", "expected"),
    [
        ("keep", [(7, 1.0, 10), (8, 2.0, 20), (7, 3.0, 30)]),
        ("first", [(7, 1.0, 10), (8, 2.0, 20)]),
        ("last", [(8, 2.0, 20), (7, 3.0, 30)]),
    ],
)
def test_duplicates(duplicates, expected):
    columns = ([1, 1, 2, 1], [7, 7, 7, 8], [3.0, 1.0, 5.0, 2.0], [30, 10, 10, 20])
    made = InteractionLog.from_events(*columns, duplicates=duplicates)
    assert rows_of(made) == {1: expected, 2: [(7, 5.0, 10)]}


def test_item_ids_fix_the_index_space():
    made = InteractionLog.from_events([1, 1], [30, 10], [1, 2], item_ids=[30, 20, 10], titles={20: "twenty"})
    assert made.items.tolist() == [0, 2] and made.n_items == 3
    assert made.titles.tolist() == ["30", "twenty", "10"]


def test_columns_follow_their_events():
    made = InteractionLog.from_events(
        [1, 1, 1], [5, 6, 7], [1, 2, 3], [30, 10, 20], propensities=[0.3, 0.1, 0.2], extra={"kind": ["c", "a", "b"]}
    )
    assert made.items.tolist() == [1, 2, 0]
    assert np.allclose(made.propensities, [0.1, 0.2, 0.3]) and made.extra["kind"].tolist() == ["a", "b", "c"]


GOOD = {"users": [1, 2], "items": [3, 4], "rewards": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"users": [1, None]}, r"every event must have its user id, got none in 1 of 2 events, e\.g\. rows \[1\]"),
        ({"items": [float("nan"), 2.0]}, r"every event must have its item id, got none in 1 of 2 events"),
        ({"users": [[1], [2]]}, "every user id must be hashable, got unhashable type: 'list'"),
        ({"users": np.ones((2, 2))}, r"user ids must have shape \(n,\), got \(2, 2\)"),
        ({"rewards": [1.0, float("nan")]}, r"rewards must be finite, got nan \(1 of 2 events, e\.g\. rows \[1\]\)"),
        ({"rewards": ["good", "bad"]}, "column 'rewards' must hold numbers, got could not convert"),
        ({"rewards": np.array(["2001"] * 2, dtype="M8[Y]")}, "column 'rewards' must hold numbers, got datetime64"),
        ({"rewards": [1.0]}, r"column 'rewards' must have 2 rows, one per event, got \(1,\); align it"),
        ({"rewards": [[1.0], [2.0]]}, r"column 'rewards' must have shape \(2,\), got \(2, 1\)"),
        ({"items": [1]}, "items must have 2 rows, one per user given, got 1"),
        ({"times": [5, -1]}, r"times must be seconds since 1970 and at least 0, got -1 \(1 of 2 events"),
        ({"times": [5, None]}, r"times must be seconds since 1970 and at least 0, got None \(1 of 2"),
        ({"propensities": [0.5, 0.0]}, r"propensities must be above 0 and at most 1, got 0\.0 \(1 of 2"),
        ({"propensities": [0.5, 1.5]}, r"propensities must be above 0 and at most 1, got 1\.5 \(1 of 2"),
        ({"extra": {"kind": ["a"]}}, r"column 'kind' must have 2 rows, one per event, got \(1,\)"),
        ({"duplicates": "newest"}, "duplicates must be one of keep, first, last, error, got 'newest'"),
        ({"item_ids": [3, 5]}, r"every item id must be among item_ids, got 1 of 2 that are not, e\.g\. \[4\]"),
        ({"item_ids": [3, 4, 4]}, "item_ids must be unique, got 1 that stand twice"),
        ({"users": [], "items": [], "rewards": []}, "a log must hold at least one event, got 0"),
    ],
)
def test_bad_events(change, match):
    with pytest.raises(DataError, match=match):
        InteractionLog.from_events(**{**GOOD, **change})


def test_repeated_pairs_can_be_an_error():
    with pytest.raises(DataError, match="each user may meet an item once, got 1 of 3 events that repeat one"):
        InteractionLog.from_events([1, 1, 1], [2, 2, 3], [1, 1, 1], duplicates="error")


def columns(**change):
    made = {
        "items": np.array([0, 1, 0], dtype=np.int32),
        "rewards": np.ones(3, dtype=np.float32),
        "offsets": np.array([0, 2, 3]),
        "user_ids": np.array(["a", "b"]),
        "item_ids": np.array([10, 20]),
        "times": np.array([5, 6, 1]),
    }
    return made | change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"offsets": np.array([0, 3])},
            r"offsets must have shape \(3,\) and rise from 0 to 3, got shape \(2,\) ending at 3",
        ),
        ({"offsets": np.array([0, 4, 3])}, "offsets must have shape"),
        ({"items": np.array([0, 2, 0])}, "items must be indices from 0 to 1, got 0 to 2"),
        ({"items": np.array([0, -1, 0])}, "items must be indices from 0 to 1, got -1 to 0"),
        ({"rewards": np.array([1, np.inf, 1])}, "rewards must be finite, got 1 of 3 that are not"),
        ({"rewards": np.ones(2)}, "column 'rewards' must have 3 rows, one per event, got 2"),
        ({"times": np.array([6, 5, 1])}, r"each user's events must be in time order, got 1 .* e\.g\. rows \[1\]"),
        ({"titles": np.array(["x"])}, "column 'titles' must have 2 rows, one per item, got 1"),
        ({"users": {"age": np.array([1])}}, "column 'age' must have 2 rows, one per user, got 1"),
    ],
)
def test_columns_that_do_not_fit(change, match):
    assert InteractionLog(**columns()).n_events == 3  # a new user may begin earlier than the one before ended
    with pytest.raises(DataError, match=match):
        InteractionLog(**columns(**change))


def rich_log():
    made = InteractionLog.from_events(
        ["a", "a", "b", "c", "c", "c"],
        [3, 1, 1, 2, 1, 3],
        [1, 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6],
        propensities=[0.5] * 6,
        extra={"a/b": np.arange(6)},
        titles={1: "Ä, one"},
        reward="scaled",
        reward_range=(-1.0, 9.0),
        name="rich",
    )
    return InteractionLog(
        **{
            **{name: getattr(made, name) for name in made.__dataclass_fields__},
            "users": {"age": np.array([10, 20, 30])},
            "item_features": {"genres": np.eye(3, dtype=bool), "word": np.array(["x", "y", None], dtype=object)},
        }
    )


def same(one, other):
    for name in one.__dataclass_fields__:
        first, second = getattr(one, name), getattr(other, name)
        if isinstance(first, dict):
            assert first.keys() == second.keys()
            assert all((first[key] == second[key]).all() for key in first)
        else:
            assert np.array_equal(first, second), name


def test_saved_log_is_the_same_and_memory_mapped(tmp_path):
    made = rich_log()
    made.save(tmp_path / "log")
    opened = InteractionLog.open(tmp_path / "log")
    same(made, opened)
    assert isinstance(opened.items, np.memmap) and not opened.items.flags.writeable
    same(made.split_last(1)[0], opened.split_last(1)[0])
    made.split_last(1)[0].save(tmp_path / "log")  # replaces
    assert InteractionLog.open(tmp_path / "log").n_events == 4


def test_damaged_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"must hold a readable manifest\.json"):
        InteractionLog.open(tmp_path)
    rich_log().save(tmp_path / "log")
    column = tmp_path / "log" / "00.npy"
    column.write_bytes(column.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"00\.npy must have \d+ bytes, got \d+ bytes"):
        InteractionLog.open(tmp_path / "log")
    column.write_bytes(b"x" * (column.stat().st_size + 4))
    with pytest.raises(StoreError, match=r"00\.npy must have the recorded SHA-256"):
        InteractionLog.open(tmp_path / "log")


def test_ids_that_json_does_not_know_are_refused(tmp_path):
    made = InteractionLog.from_events([frozenset([1]), frozenset([2])], [1, 2], [1, 1])
    with pytest.raises(DataError, match=r"must be numbers, text or tuples of them, got frozenset\(\{\d\}\)"):
        made.save(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_user_is_a_view(log):
    assert np.shares_memory(log.user(2).items, log.items)


def test_selecting(log):
    picked = log.select_users([4, 1])
    assert picked.user_ids.tolist() == ["u4", "u1"] and picked.lengths.tolist() == [30, 18]
    assert (picked.user(0).items == log.user(4).items).all()
    first = np.zeros(log.n_events, dtype=bool)
    first[log.offsets[:2]] = True
    assert log.select_events(first).user_ids.tolist() == ["u0", "u1"]
    assert log.select_events(first, drop_empty=False).lengths.tolist() == [1, 1, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"keep must be bool of shape \(108,\), got int64 of shape \(2,\)"):
        log.select_events(np.array([0, 1]))


def test_columns_cannot_be_written_to():
    log = InteractionLog.from_events([0, 0, 1], [5, 3, 3], [1.0, 2.0, 3.0], [1, 2, 3])
    for column in (log.items, log.rewards, log.offsets, log.times, log.user(0).items):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
