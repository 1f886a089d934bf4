"""Events in any order become what a stable sort by user and time makes of them, whatever way they take through it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import DataError
from recgym.log import arrange as arranging
from recgym.log.arrange import arrange, renumber, small_order


def naive(users, times, items, duplicates):
    """The rows of all users in order, by plain loops."""
    order = []
    for user in sorted(set(users)):
        own = [row for row, one in enumerate(users) if one == user]
        own.sort(key=lambda row: 0 if times is None else times[row])  # stable
        seen = set()
        for row in own[::-1] if duplicates == "last" else own:
            if duplicates == "keep" or items[row] not in seen:
                order.append((user, len(order) if duplicates != "last" else -len(order), row))
            seen.add(items[row])
    return [row for _, _, row in sorted(order)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from(["keep", "first", "last"]),
    st.booleans(),  # whether the users come in order
    st.booleans(),  # whether the columns may be sorted in place
    st.sampled_from([None, 1, 2**61]),  # no times; times that fit into a key with user and row; times that do not
    st.sampled_from([3, 1 << 17]),
)
def test_any_events(rows, duplicates, in_order, owned, unit, piece):
    rows = sorted(rows, key=lambda row: row[0]) if in_order else rows
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    users, items = users.astype(np.int32), items.astype(np.int32)
    times = None if unit is None else times.astype(np.int64) * unit
    rewards, extra = np.arange(len(rows), dtype=np.float32), np.arange(2 * len(rows)).reshape(-1, 2)
    order = naive(users.tolist(), None if times is None else times.tolist(), items.tolist(), duplicates)
    given_columns = [column.copy() for column in (users, items, rewards, extra)]
    expected = [column[order] for column in given_columns[1:]]
    lengths = np.bincount(users[order], minlength=5)
    expected_times = None if times is None else times[order]
    columns = {"rewards": rewards} | ({} if times is None else {"times": times})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arranging, "_PIECE", piece)
        found = arrange(users, items, times, columns, {"x": extra}, (5, 4), duplicates, owned=owned)
    for one, other in zip((found["items"], found["rewards"], found["extra"]["x"]), expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    if times is not None:
        np.testing.assert_array_equal(found["times"], expected_times)
    np.testing.assert_array_equal(np.diff(found["offsets"]), lengths)
    if not owned:
        for one, other in zip((users, items, rewards, extra), given_columns, strict=True):
            np.testing.assert_array_equal(one, other)


def test_users_beyond_sixteen_bits_and_more_than_one_piece():
    random = np.random.default_rng(0)
    users = random.integers(0, 200_000, 400_000).astype(np.int32)
    times = random.integers(0, 50, 400_000)
    rows = np.arange(400_000, dtype=np.float32)
    found = arrange(users, rows.astype(np.int32), times, {"rewards": rows}, {}, (200_000, 400_000), "keep")
    np.testing.assert_array_equal(found["rewards"], rows[np.lexsort((times, users))])


def test_rows_in_order_are_left_alone():
    assert small_order(np.array([0, 0, 1]), np.array([1, 1, 0])) is None
    assert small_order(np.array([0, 0, 1]), np.array([2, 1, 0])).tolist() == [1, 0, 2]


def test_an_error_for_duplicates():
    users = items = np.zeros(3, dtype=np.int32)
    with pytest.raises(DataError, match="each user may meet an item once, got 2 of 3 events that repeat one"):
        arrange(users, items, None, {}, {}, (1, 1), "error")


def test_renumber(monkeypatch):
    monkeypatch.setattr(arranging, "_PIECE", 2)
    codes = np.array([3, -2, 0, 3, -3], dtype=np.int32)
    renumber(codes, np.array([10, 0, 0, 13, 98, 99, -1]))
    assert codes.tolist() == [13, 99, 10, 13, 98]
