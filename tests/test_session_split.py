"""A log cut into sessions is the same log: nothing is lost, moved, or credited to another session."""

import itertools

import numpy as np
import pytest
from conftest import make_log
from hypothesis import given
from hypothesis import strategies as st

from recgym.batches import FrameBatches
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.session_split import events_before, split_sessions


def log_of(times_by_user, **more):
    users = [name for name, times in times_by_user.items() for _ in times]
    times = [time for own in times_by_user.values() for time in own]
    items = [place for own in times_by_user.values() for place in range(len(own))]
    return InteractionLog.from_events(users, items, np.ones(len(users)), times, **more)


def spans(sessions):
    return list(itertools.pairwise(sessions.offsets.tolist()))


def test_a_pause_longer_than_the_gap_ends_a_session():
    log = log_of({"ann": [0, 3600, 7201], "bob": [50, 60], "cyd": [10]})
    sessions = split_sessions(log, gap_seconds=3600)
    assert spans(sessions) == [(0, 2), (2, 3), (3, 5), (5, 6)]  # 3600 seconds are no pause, 3601 are
    assert sessions.users["person"].tolist() == ["ann", "ann", "bob", "cyd"]
    assert sessions.users["over"].tolist() == [True, False, True, True]  # the log goes on to 7201, whoever's it is
    assert split_sessions(log, gap_seconds=3600, until=20_000).users["over"].all()
    assert sessions.items is log.items or np.array_equal(sessions.items, log.items)
    assert sessions.user_ids.tolist() == [0, 1, 2, 3]


def test_defect_d2_the_boundary_belongs_to_the_last_event_of_the_session():
    """DBRL put the end on the next session's first transition: [2.97, 1.99, 1.0, ...] credits item 3 to session 1."""
    log = log_of({"ann": [0, 60, 120, 9000, 9060]})  # items 0, 1, 2 | 3, 4
    sessions = split_sessions(log, gap_seconds=3600)
    assert [sessions.user(number).items.tolist() for number in range(2)] == [[0, 1, 2], [3, 4]]
    batches = FrameBatches(sessions, 3, batch_size=3, shuffle=False, min_history=1, end_of_log="terminal")
    batch = next(iter(batches))
    assert batch.action.tolist() == [1, 2, 4] and batch.terminated.tolist() == [False, True, True]
    assert batch.items.tolist() == [[5, 5, 0], [5, 0, 1], [5, 5, 3]]  # padded on the left with n_items


def test_one_session_per_user_and_no_end_known():
    log = log_of({"ann": [0, 9000], "bob": [0]})
    sessions = split_sessions(log, "one")
    assert spans(sessions) == [(0, 2), (2, 3)] and not sessions.users["over"].any()
    without_times = InteractionLog.from_events([1, 1, 2], [1, 2, 1], [1, 1, 1])
    assert split_sessions(without_times, "one").n_users == 2


def test_columns_and_features_follow():
    log = log_of({"ann": [0, 9000], "bob": [0]}, extra={"behaviour": ["pv", "buy", "fav"]})
    object.__setattr__(log, "users", {"age": np.array([30, 40])})
    sessions = split_sessions(log)
    assert sessions.users["age"].tolist() == [30, 30, 40]
    assert sessions.extra["behaviour"].tolist() == ["pv", "buy", "fav"]
    assert sessions.select_users(np.array([1, 2])).users["person"].tolist() == ["ann", "bob"]


def test_events_before_counts_the_same_person_only():
    sessions = split_sessions(log_of({"ann": [0, 9000, 9001, 20000], "bob": [0, 9000]}))
    assert events_before(sessions).tolist() == [0, 1, 3, 0, 1]
    assert events_before(sessions.select_users(np.array([1, 2, 4]))).tolist() == [0, 2, 0]


def test_users_without_events_have_no_session():
    log = make_log((2, 1, 3)).select_events(np.array([1, 1, 0, 1, 1, 1], bool), drop_empty=False)
    assert split_sessions(log, "one").users["person"].tolist() == ["u0", "u2"]


@given(
    st.lists(st.lists(st.integers(0, 20_000), min_size=1, max_size=12), min_size=1, max_size=5),
    st.integers(0, 9000),
)
def test_sessions_are_maximal_runs_without_a_pause(times, gap):
    log = log_of({user: sorted(own) for user, own in enumerate(times)})
    sessions = split_sessions(log, gap_seconds=gap)
    assert sessions.lengths.min() >= 1 and sessions.n_events == log.n_events
    person = sessions.users["person"]
    last_second = log.times.max()
    for number in range(sessions.n_users):
        own = sessions.user(number).times
        assert (np.diff(own) <= gap).all()
        assert sessions.users["over"][number] == (last_second - own[-1] > gap)
        if number and person[number] == person[number - 1]:
            assert own[0] - sessions.user(number - 1).times[-1] > gap


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "day"}, r"mode must be one of \('interval', 'one'\), got 'day'; choose one of them"),
        ({"gap_seconds": -1}, "gap_seconds must be at least 0, got -1; give the longest pause within a session"),
        ({"gap_seconds": "1h"}, "gap_seconds must be at least 0, got '1h'; give the longest pause"),
        ({"gap_seconds": float("nan")}, "gap_seconds must be at least 0, got nan"),
        ({"gap_seconds": "1h", "mode": "one"}, "gap_seconds must be at least 0, got '1h'"),  # told, though not used
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        split_sessions(log_of({"ann": [0]}), **options)


def test_gaps_need_times():
    log = InteractionLog.from_events([1], [1], [1])
    with pytest.raises(DataError, match='sessions by mode="interval" need times, got a log without them; load its'):
        split_sessions(log)
