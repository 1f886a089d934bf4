import numpy as np
import pytest
from conftest import make_log

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users import ReplayUsers

ALL = slice(None)


def log_of(*users, n_items=9):
    """A log from lists of (item, reward)."""
    events = [event for user in users for event in user]
    return InteractionLog(
        items=np.array([item for item, _ in events], dtype=np.int32),
        rewards=np.array([reward for _, reward in events], dtype=np.float32),
        offsets=np.cumsum([0, *(len(user) for user in users)]).astype(np.int64),
        user_ids=np.arange(len(users)),
        item_ids=np.arange(n_items),
    )


def opened(model, users):
    random = RowRandom.from_seeds(list(range(len(users))))
    random.begin(ALL)
    state, opening = model.start(random, ALL, model.frame_size, np.array(users))
    return random, state, opening


ANNA = [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4), (4, 0.5)]
BOB = [(5, -0.1), (6, -0.2), (1, -0.3), (0, -0.4)]


def test_opening_frame_is_the_first_events():
    _, _, opening = opened(ReplayUsers(log_of(ANNA, BOB), 3), [1, 0])
    assert opening.user.tolist() == [1, 0]
    assert opening.items.tolist() == [[5, 6, 1], [0, 1, 2]] and opening.items.dtype == np.int32
    assert np.allclose(opening.rewards, [[-0.1, -0.2, -0.3], [0.1, 0.2, 0.3]])
    assert opening.rewards.dtype == np.float32


def test_answers_are_the_events_after_the_opening_frame():
    model = ReplayUsers(log_of(ANNA, BOB), 2)
    random, state, _ = opened(model, [0, 1, 0])
    slate = np.array([[2, 4, 1], [0, 5, 2], [9, 7, 3]])  # 1 and 5 stood in the opening frame; 9 is an empty place
    state, response = model.respond(random, ALL, state, slate)
    assert response.answered.tolist() == [[True, True, False], [True, False, False], [False, False, True]]
    assert np.allclose(response.rewards[response.answered], [0.3, 0.5, -0.4, 0.4])
    assert response.enters.tolist() == response.answered.tolist() and response.enter_items.tolist() == slate.tolist()
    assert state.left.tolist() == [1, 1, 2]
    assert not response.left.any() and not response.ended.any()


@pytest.mark.parametrize(("end_of_log", "ends"), [("truncate", "ended"), ("terminal", "left")])
def test_the_last_answer_ends_the_data(end_of_log, ends):
    model = ReplayUsers(log_of(ANNA, BOB), 3, end_of_log=end_of_log)
    random, state, _ = opened(model, [0, 1])
    state, response = model.respond(random, ALL, state, np.array([[4], [0]]))
    assert getattr(response, ends).tolist() == [False, True]
    state, response = model.respond(random, ALL, state, np.array([[3], [9]]))
    assert getattr(response, ends).tolist() == [True, True]
    assert not getattr(response, {"ended": "left", "left": "ended"}[ends]).any()


def test_first_answer_only():
    model = ReplayUsers(log_of(ANNA, BOB), 2, answers="first")
    random, state, _ = opened(model, [0, 1])
    state, response = model.respond(random, ALL, state, np.array([[8, 4, 2], [0, 1, 8]]))
    assert response.answered.tolist() == [[False, True, False], [True, False, False]]
    assert state.left.tolist() == [2, 1]


def test_latest_of_two_events_counts():
    twice = [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (2, 0.9), (1, 0.7)]
    model = ReplayUsers(log_of(BOB, twice, ANNA), 2)
    random, state, _ = opened(model, [1])
    assert state.left.tolist() == [3]  # 1, 2 and 3
    _, response = model.respond(random, ALL, state, np.array([[2, 1, 0, 3]]))
    assert response.answered.tolist() == [[True, True, False, True]]
    assert np.allclose(response.rewards[0, [0, 1, 3]], [0.9, 0.7, 0.3])


def test_lookup_equals_a_dictionary():
    log = make_log(lengths=(14, 18, 9, 40, 30, 12, 1, 2), n_items=40)
    model = ReplayUsers(log, 0, min_history=0)
    for user in range(log.n_users):
        random, state, _ = opened(model, [user])
        truth = dict(zip(log.user(user).items.tolist(), log.user(user).rewards.tolist(), strict=True))
        _, response = model.respond(random, ALL, state, np.arange(41)[None])
        assert np.flatnonzero(response.answered[0]).tolist() == sorted(truth)
        assert response.rewards[0][response.answered[0]].tolist() == [truth[item] for item in sorted(truth)]


def test_log_advance_follows_the_log_whatever_is_shown():
    model = ReplayUsers(log_of(ANNA, BOB), 2, advance="log")
    random, state, _ = opened(model, [0, 1])
    seen = []
    for slate in ([[2, 3], [7, 7]], [[2, 3], [0, 8]], [[8, 4], [0, 0]]):
        state, response = model.respond(random, ALL, state, np.array(slate))
        seen.append((response.answered.tolist(), response.enter_items[:, 0].tolist(), response.ended.tolist()))
        assert response.enters.all() and response.enters.shape == (2, 1)
    assert seen[0] == ([[True, False], [False, False]], [2, 1], [False, False])
    assert seen[1] == ([[False, True], [True, False]], [3, 0], [False, True])
    assert seen[2][0][0] == [False, True] and seen[2][1][0] == 4 and seen[2][2] == [True, True]
    assert np.allclose(response.enter_rewards[0], [0.5])


def test_short_users_open_with_min_history():
    model = ReplayUsers(log_of(ANNA, BOB[:3], BOB[:1]), 4, min_history=1)
    assert model.servable.tolist() == [0, 1]
    _, state, opening = opened(model, [0, 1])
    assert opening.items.tolist() == [[0, 1, 2, 3], [9, 9, 9, 5]]
    assert np.allclose(opening.rewards, [[0.1, 0.2, 0.3, 0.4], [0, 0, 0, -0.1]])
    assert state.left.tolist() == [1, 2]


def test_users_are_drawn_uniformly_from_the_servable():
    model = ReplayUsers(make_log(lengths=(3, 14, 18, 9, 25, 5)), 5)
    random = RowRandom.from_seeds(list(range(4000)))
    random.begin(ALL)
    _, opening = model.start(random, ALL, 5)
    counts = np.bincount(opening.user, minlength=6)
    assert counts[[0, 5]].tolist() == [0, 0] and ((counts[1:5] - 1000) ** 2 / 1000).sum() < 20


BAD = [
    (
        {"frame_size": 30},
        r"some user must have at least 31 events \(the opening frame and one answer\), got 2 users with 5",
    ),
    ({"advance": "next"}, r"advance must be one of \('answer', 'log'\), got 'next'; choose one of them"),
    ({"end_of_log": "stop"}, r"end_of_log must be one of \('truncate', 'terminal'\), got 'stop'"),
    ({"answers": "two"}, r"answers must be one of \('all', 'first'\), got 'two'"),
    ({"min_history": 4}, r"min_history must lie in 0\.\.frame_size=3, got 4; choose in between"),
    ({"min_history": -1}, r"min_history must lie in 0\.\.frame_size=3, got -1"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        ReplayUsers(log_of(ANNA, BOB), **{"frame_size": 3, **options})


def test_rewards_outside_their_range():
    log = log_of(ANNA, BOB)
    object.__setattr__(log, "reward_range", (0.0, 1.0))
    with pytest.raises(
        DataError, match=r"rewards must be finite and lie in reward_range, got -0\.4.* to 0\.5 for a range 0"
    ):
        ReplayUsers(log, 3)


def test_another_frame_size_at_start():
    model = ReplayUsers(log_of(ANNA, BOB), 3)
    with pytest.raises(DataError, match="the frame size must be the users' own, got 2 and 3; give both the same"):
        model.start(RowRandom.from_seeds([0]), ALL, 2)
