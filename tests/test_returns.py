"""Returns of sessions that an agent has lived through."""

import numpy as np
import pytest
from conftest import make_catalog

from agents import REINFORCE
from agents.training.replay import ReplayBuffer
from agents.training.session_replay import SessionReplay
from recgym.errors import DataError
from recgym.frames import Batch

F, GAMMA = 3, 0.8


def steps(n_steps, n_rows, seed=0, ends=0.2):
    """Batches of rows whose sessions end now and then; the action says step and row."""
    random = np.random.default_rng(seed)
    for step in range(n_steps):
        terminated, truncated = random.random((2, n_rows)) < ends / 2
        frame = random.integers(9, size=(n_rows, F)), random.random((n_rows, F))
        action, reward = np.arange(n_rows) + 100 * step, random.random(n_rows).astype(np.float32)
        yield Batch(np.arange(n_rows), *frame, action, reward, *frame, terminated, truncated & ~terminated)


def naive(batches, row):
    """Actions and returns of a row's finished sessions, one session after the other."""
    session, found = [], []
    for batch in batches:
        session.append((int(batch.action[row]), float(batch.reward[row])))
        if batch.terminated[row] or batch.truncated[row]:
            rewards = [reward for _, reward in session]
            for place, (action, _) in enumerate(session):
                found.append((action, sum(GAMMA**n * reward for n, reward in enumerate(rewards[place:]))))
            session = []
    return found


def filled(batches, capacity=1000):
    buffer = SessionReplay(capacity, F, gamma=GAMMA)
    for batch in batches:
        buffer.add(batch)
    return buffer


def kept(buffer):
    columns = buffer.columns
    return {
        int(a): float(r) for a, r in zip(columns.action[: len(buffer)], columns.returns[: len(buffer)], strict=True)
    }


def test_returns_of_sessions_that_end_at_different_moments():
    batches = list(steps(40, 5))
    expected = dict(pair for row in range(5) for pair in naive(batches, row))
    found = kept(filled(batches))
    assert found.keys() == expected.keys() and 50 < len(found) < 200
    assert all(found[action] == pytest.approx(expected[action], rel=1e-5) for action in expected)


def test_columns_of_a_decision_stay_together():
    batches = list(steps(30, 4))
    sampled = filled(batches).sample(64)
    for place, action in enumerate(sampled.action):
        batch, row = batches[action // 100], action % 100
        assert np.array_equal(sampled.items[place], batch.items[row]) and sampled.reward[place] == batch.reward[row]
        assert sampled.terminated[place] == batch.terminated[row] and sampled.user[place] == row


def test_nothing_is_sampled_before_a_session_has_ended():
    buffer = filled(steps(5, 3, ends=0.0))
    assert buffer.added == 0
    with pytest.raises(DataError, match="a buffer must hold decisions before one can sample, got an empty one"):
        buffer.sample(2)


def test_batches_given_may_be_used_again():
    batch = next(steps(1, 2, ends=0.0))
    buffer = filled([batch])
    batch.reward[:] = 99.0
    buffer.add(batch._replace(reward=np.zeros(2), truncated=np.ones(2, dtype=bool)))
    assert max(kept(buffer).values()) < 1.0


def test_an_interrupted_buffer_goes_on_in_the_middle_of_sessions():
    batches = list(steps(31, 4))
    whole, half = filled(batches), filled(batches[:17])
    resumed = SessionReplay(1000, F, gamma=GAMMA)
    resumed.load_state_dict(half.state_dict())
    for batch in batches[17:]:
        resumed.add(batch)
    assert kept(resumed) == kept(whole) and np.array_equal(resumed.sample(9).action, whole.sample(9).action)


def test_refusals():
    buffer = filled(steps(2, 3, ends=0.0))
    with pytest.raises(DataError, match="every batch must go on with the same rows, got 2 after 3; use a buffer for"):
        buffer.add(next(steps(1, 2)))
    with pytest.raises(DataError, match="a batch must fit into the capacity of 4, got 7 decisions; raise capacity"):
        filled(steps(6, 1, ends=0.0), 4).add(next(steps(1, 1, ends=2.0)))


def test_reinforce_waits_for_returns_only_if_it_has_a_discount():
    made = [REINFORCE(make_catalog(), frame_size=F, device="cpu", gamma=g).make_buffer(9, F) for g in (0.0, 0.9)]
    assert type(made[0]) is ReplayBuffer and type(made[1]) is SessionReplay and made[1].gamma == 0.9
