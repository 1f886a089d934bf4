"""Many steps with any actions: no crash but the documented error, observations in their space, memory flat."""

import gc
import resource
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from kinds import KIND_OF, LOG, SMALL, data_of

import recgym  # noqa: F401  registers the ids
from recgym.errors import ActionError

ROWS = 256
OURS = [env_id for env_id in KIND_OF if data_of(env_id) == "Synthetic"]
WAYS = ("random", "constant", "extreme")
each_id = pytest.mark.parametrize("env_id", OURS)
each_action = pytest.mark.parametrize("action", ["embedding", "item"])


def make(env_id, **options):
    small = SMALL.get(KIND_OF[env_id], LOG)
    return gym.make_vec(env_id, num_envs=ROWS, autoreset_mode="SameStep", **small, **options)


def actions(env, way):
    """Yields batches of actions: vectors or items drawn at random, always the same, or the furthest there are."""
    env.action_space.seed(0)
    is_vector = isinstance(env.single_action_space, spaces.Box)
    while True:
        drawn = env.action_space.sample()
        if way == "random":
            yield drawn
        elif way == "constant":
            yield np.full_like(drawn, 0.5) if is_vector else np.zeros_like(drawn)
        elif is_vector:
            yield np.where(drawn < 0, np.float32(-1e30), np.float32(1e30))
        else:
            yield np.where(drawn % 2, env.unwrapped.catalog.n_items - 1, 0)


def run(env, way, n_steps):
    """Takes at least `n_steps` steps, all rows counted; returns by how many MB memory grew after the first tenth."""
    env.reset(seed=0)
    users = env.unwrapped.users
    worst, best = (edge * env.unwrapped.k for edge in users.reward_range)
    chosen, n_batches, begun = actions(env, way), -(-n_steps // ROWS), 0
    for batch in range(n_batches):
        observation, rewards, terminated, truncated, _ = env.step(next(chosen))
        assert min(worst, 0) - 1e-6 <= rewards.min() <= rewards.max() <= max(best, 0) + 1e-6
        assert not (terminated & truncated).any()
        if batch % 10 == 0:
            assert env.observation_space.contains(observation)
        if batch == n_batches // 10:
            begun = resident()
    return resident() - begun


def resident():
    """MB this process has now; the largest it ever had would hide growth after a larger test."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@each_id
@each_action
def test_steps_with_any_actions(env_id, action):
    env = make(env_id, action=action)
    for way in WAYS:
        run(env, way, 34_000)


@each_id
def test_actions_that_are_no_numbers_are_refused_and_nothing_else_happens(env_id):
    env, twin = make(env_id, action="embedding"), make(env_id, action="embedding")
    env.reset(seed=1), twin.reset(seed=1)
    for bad in (np.nan, np.inf):
        with pytest.raises(ActionError, match="embedding actions must be finite, got NaN, infinity or numbers beyond"):
            env.step(np.full(env.action_space.shape, bad, dtype=np.float32))
    drawn = env.action_space.sample()
    assert np.array_equal(env.step(drawn)[1], twin.step(drawn)[1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_id
@each_action
def test_a_million_steps_in_flat_memory(env_id, action):  # test_endurance.py goes all ways, with the id's own actions
    assert run(make(env_id, action=action), "random", 1_000_000) < 20
