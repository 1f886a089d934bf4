"""Feature rows 12 to 14 (the song part) of the source systems, each shown at work in one place."""

import gymnasium as gym
import numpy as np
import pytest

import recgym  # noqa: F401  registers the ids
from recgym.batches import FrameBatches, histories
from recgym.batches.windows import discounted_returns
from recgym.log import InteractionLog
from recgym.log.session_split import split_sessions

SHOP = {"n_users": 60, "n_items": 50, "dim": 6}


@pytest.fixture
def log():
    """Ann in two sittings of 3 and 2 events, and Bob in one of 2; what is bought is worth 3."""
    worth = [1, 2, 3, 1, 3, 1, 1]
    return InteractionLog.from_events(
        ["ann"] * 5 + ["bob"] * 2, [0, 1, 2, 3, 4, 0, 3], worth, [0, 60, 120, 9000, 9060, 0, 30]
    )


def test_row_12_session_modes_one_and_interval_with_gap_seconds(log):
    assert split_sessions(log, "one").lengths.tolist() == [5, 2]
    assert split_sessions(log, "interval", 3600).lengths.tolist() == [3, 2, 2]
    assert split_sessions(log, "interval", 59).lengths.tolist() == [1, 1, 1, 1, 1, 2]
    for mode, sessions in (("one", 57), ("interval", 57)):
        env = gym.make("recgym/Synthetic-Session-v1", mode=mode, gap_seconds=3600, **SHOP)
        n_sessions = env.unwrapped.users.log.n_users
        assert n_sessions == sessions if mode == "one" else n_sessions > 4 * sessions


def test_row_12_left_padding(log):
    batch = next(iter(FrameBatches(split_sessions(log), 3, batch_size=4, shuffle=False, min_history=1)))
    assert batch.items.tolist() == [[5, 5, 0], [5, 0, 1], [5, 5, 3], [5, 5, 0]] and batch.action.tolist() == [
        1,
        2,
        4,
        3,
    ]
    assert batch.length.tolist() == [1, 2, 1, 1]
    env = gym.make("recgym/Synthetic-Session-v1", observation="history", history="session", **SHOP)
    observation, _ = env.reset(seed=0)
    real = observation["item_history"] != 50
    assert (
        0 < real.sum() < 10
        and (np.diff(real.astype(int)) >= 0).all()
        and not observation["reward_history"][~real].any()
    )


def test_row_12_last_history_inference_frames(log):
    last = histories(log, [0, 1], [5, 2], max_length=3)  # all that is known of each, to recommend from
    assert last.items.tolist() == [[2, 3, 4], [5, 0, 3]] and last.length.tolist() == [3, 2]


def test_row_13_discounted_returns_per_session(log):
    sessions = split_sessions(log)
    batches = FrameBatches(sessions, 3, batch_size=7, shuffle=False, min_history=0, gamma=0.9)
    returns = next(iter(batches)).returns
    want = [1 + 0.9 * (2 + 0.9 * 3), 2 + 0.9 * 3, 3, 1 + 0.9 * 3, 3, 1 + 0.9, 1]
    assert np.allclose(returns, want)
    assert np.allclose(discounted_returns(log.rewards, sessions.offsets, 0.9), want)  # no event has moved
    whole = next(iter(FrameBatches(log, 3, batch_size=7, shuffle=False, min_history=0, gamma=0.9))).returns
    assert whole[0] > returns[0]  # one session per user sums on


def test_row_13_no_event_is_credited_to_the_session_before(log):
    """DBRL's returns were [2.97, 1.99, 1.0, ...] for three transitions where session 1 has two: defect D2."""
    ones = InteractionLog.from_events(["ann"] * 5, [0, 1, 2, 3, 4], [1] * 5, [0, 60, 120, 9000, 9060])
    batches = FrameBatches(split_sessions(ones), 3, batch_size=3, shuffle=False, min_history=1, gamma=0.99)
    batch = next(iter(batches))
    assert batch.action.tolist() == [1, 2, 4] and np.allclose(batch.returns, [1.99, 1.0, 1.0])


def test_row_14_one_step_song_environment_with_relaxed_box_match():
    env = gym.make("recgym/Synthetic-Playlist-v1", n_users=60, n_items=50, horizon=1, observation="history")
    assert env.unwrapped.action_space.shape == (9,)
    catalog = env.unwrapped.catalog
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        unheard = np.setdiff1d(np.arange(50), observation["item_history"])
        action = catalog.embeddings[unheard[0]] + np.float32(1e-3)  # no song is exactly there
        *_, reward, terminated, truncated, info = env.step(action)
        nearest = unheard[np.abs(catalog.embeddings[unheard] - action).max(axis=1).argmin()]
        assert info["items"].tolist() == [nearest] and (terminated, truncated) == (False, True)
        assert reward != 0
