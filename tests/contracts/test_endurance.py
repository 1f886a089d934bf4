"""A million steps of every id: no crash but the documented error, nothing outside its space, memory flat."""

import ctypes
import resource
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from kinds import DATASET_OF, DIM, KIND_OF, LOG, SMALL, data_of

import recgym
from recgym.envs.spaces import one_row
from recgym.errors import ActionError, MissingDataError

ROWS = 1000
POLICIES = ("random", "constant", "extreme")
TABLES = [env_id for env_id in KIND_OF if data_of(env_id) == "Table"]


def resident():
    """Bytes of memory in use now, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def batch_of(policy, env, random):
    """Actions (B, ...) of the whole batch."""
    shape, n = env.action_space.shape, env.unwrapped.users.n_items
    if env.single_action_space.dtype.kind == "f":
        return {
            "random": lambda: random.uniform(-1, 1, shape).astype(np.float32),
            "constant": lambda: np.full(shape, 0.25, np.float32),
            "extreme": lambda: np.where(random.random(shape) < 0.5, -1e30, 1e30).astype(np.float32),
        }[policy]()
    return {
        "random": lambda: random.integers(0, n, shape),
        "constant": lambda: np.full(shape, n // 2),
        "extreme": lambda: np.where(random.random(shape) < 0.5, 0, n - 1),
    }[policy]()


def wander(env_id, action, n_batches, **options):
    """Runs every policy for `n_batches` steps of 1,000 sessions each and checks what comes back."""
    env = gym.make_vec(env_id, num_envs=ROWS, action=action, autoreset_mode="SameStep", **options)
    random = np.random.default_rng(0)
    env.reset(seed=0)
    low, high = env.unwrapped.users.reward_range
    held = []
    for policy in POLICIES:
        for step in range(n_batches):
            observation, rewards, terminated, truncated, infos = env.step(batch_of(policy, env, random))
            assert np.isfinite(rewards).all() and not (terminated & truncated).any()
            assert rewards.min() >= env.unwrapped.k * min(low, env.unwrapped.miss_reward, 0) - 1e-6
            assert rewards.max() <= env.unwrapped.k * max(high, env.unwrapped.miss_reward, 0) + 1e-6
            if step % 50 == 0:
                held.append(resident())
                for row in random.integers(0, ROWS, 20):
                    assert env.single_observation_space.contains(one_row(observation, row))
                for last in infos.get("final_obs", []):
                    assert last is None or env.single_observation_space.contains(last)
    half = len(held) // 2
    assert np.median(held[half:]) - np.median(held[:half]) < 10e6  # bytes
    refuses_what_is_no_action(env)
    env.step(batch_of("random", env, random))  # and goes on after a refusal
    env.close()


def refuses_what_is_no_action(env):
    wrong = batch_of("constant", env, None)
    if wrong.dtype.kind == "f":
        for bad in (np.nan, np.inf, 1e32):
            wrong[ROWS // 2].flat[0] = bad
            with pytest.raises(ActionError, match="embedding actions must be finite, got NaN, infinity or numbers"):
                env.step(wrong)
    else:
        for bad in (-1, env.unwrapped.users.n_items, 2**40):
            wrong[ROWS // 2] = bad
            with pytest.raises(ActionError, match=r"item actions must lie in 0\.\."):
                env.step(wrong)
        with pytest.raises(ActionError, match="item actions must be integers, got dtype float64"):
            env.step(np.full(wrong.shape, np.nan))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Options of an id that reads a table of one's own: text ids, counts as rewards."""
    random = np.random.default_rng(0)
    lines = ["listener,track,plays,when"]
    for user in range(120):
        for place, item in enumerate(random.permutation(90)[: random.integers(14, 40)]):
            lines.append(f"anna{user},song {item},{random.integers(1, 6)},{10**9 + 60 * place}")
    path = tmp_path_factory.mktemp("table") / "plays.csv"
    path.write_text("\n".join(lines))
    columns = {"user": "listener", "item": "track", "reward": "plays", "time": "when"}
    return {"path": str(path), **columns, "transform": "scaled", "dim": 12}


@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize("env_id", TABLES)
def test_some_thousand_steps_of_a_table(env_id, action, table):
    wander(env_id, action, 6, **table)


@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize("env_id", [env_id for env_id in KIND_OF if data_of(env_id) == "Synthetic"])
def test_some_thousand_steps(env_id, action):
    wander(env_id, action, 6, **SMALL.get(KIND_OF[env_id], LOG if DATASET_OF[env_id] else {}))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize("env_id", list(KIND_OF))
def test_a_million_steps(env_id, action, table):
    options = {"observation": "history"} if "Frame" in env_id else {}
    if env_id in TABLES:
        options |= table
    elif data_of(env_id) == "Synthetic":
        options |= SMALL.get(KIND_OF[env_id], LOG if DATASET_OF[env_id] else {})
    else:
        try:
            recgym.datasets.load(DATASET_OF[env_id])
        except MissingDataError:
            pytest.skip(f"the data of {DATASET_OF[env_id]} is not on this machine")
        options |= DIM.get(KIND_OF[env_id], {"dim": 32})
    wander(env_id, action, 334, **options)  # of three policies and 1,000 sessions
