import numpy as np
import pytest
from conftest import make_catalog, make_log
from gymnasium.error import ResetNeeded

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.errors import ActionError, DataError
from recgym.users import ReplayUsers


def toy(k=1, users=None, **options):
    users = users or ReplayUsers(make_log(), 5)
    return RecEnv(users=users, catalog=make_catalog(), frame_size=5, k=k, **{"action": "item", "horizon": 6, **options})


def rows(n=4, **options):
    world = {"users": ReplayUsers(make_log(), 5), "catalog": make_catalog(), "frame_size": 5, "horizon": 6}
    return RecVectorEnv(n, **{"action": "item", "observation": "history", **world, **options})


BAD_OPTIONS = [
    ({"action": "vector"}, r"action must be one of \('embedding', 'item'\), got 'vector'; choose one of them"),
    ({"observation": "flat"}, r"observation must be one of \('frame', 'history', 'user_.*\), got 'flat'"),
    ({"repeats": "never"}, r"repeats must be one of \('mask', 'zero', 'allow'\), got 'never'"),
    ({"render_mode": "human"}, r"render_mode must be one of \(None, 'ansi', 'rgb_array'\), got 'human'"),
    ({"autoreset_mode": "Later"}, r"autoreset_mode must be one of .*'NextStep'.*, got 'Later'"),
    ({"horizon": 0}, "horizon must be an integer of at least 1, got 0; raise it"),
    ({"k": True}, "k must be an integer of at least 1, got True; give a whole number"),
    ({"horizon": "9"}, "horizon must be an integer of at least 1, got '9'; give a whole number"),
    ({"miss_reward": float("nan")}, r"miss_reward must be a finite number, got nan; give e\.g\. 0\.0"),
    ({"miss_reward": -np.inf}, "miss_reward must be a finite number, got -inf"),
    ({"miss_reward": "0"}, "miss_reward must be a finite number, got '0'"),
    ({"miss_reward": None}, "miss_reward must be a finite number, got None"),
    ({"miss_reward": True}, "miss_reward must be a finite number, got True"),
    ({"k": 1.5}, r"k must be an integer of at least 1, got 1\.5"),
    ({"max_episode_steps": 0}, "max_episode_steps must be an integer of at least 1, got 0"),
    ({"k": 36}, r"n_items must be at least frame_size \+ k = 41, got 40; lower frame_size or k"),
    (
        {"catalog": make_catalog(30)},
        "users and catalog must have the same items in the same order, got 40 and 30 items",
    ),
    ({"action": "embedding", "mapper": "dot"}, "mapper must be one of"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        rows(2, **options)


@pytest.mark.parametrize("miss_reward", [-1, -0.5, np.float32(-0.5), np.int64(2)])
def test_any_finite_number_is_a_miss_reward(miss_reward):
    env = rows(2, miss_reward=miss_reward)
    env.reset(seed=0)
    rewards = env.step(env.action_space.sample())[1]
    assert np.isfinite(rewards).all()


def test_no_rows():
    with pytest.raises(DataError, match="num_envs must be an integer of at least 1, got 0"):
        rows(0)


BAD_RESETS = [
    (
        {"options": {"user": 6}},
        r"every asked user must be servable, got \[6\] \(1 of 1\) not among the 6 that are; choose",
    ),
    ({"options": {"user": "u1"}}, r"option 'user' must be a user index or one per row \(3,\), got 'u1'; give indices"),
    ({"options": {"user": [1, 2]}}, r"option 'user' must be a user index or one per row \(3,\), got \[1, 2\]"),
    ({"options": {"users": 1}}, r"reset options must be 'user' or 'reset_mask', got \['users'\]; drop the others"),
    ({"seed": [1, 2]}, r"seeds must be one per row \(3\), got \[1, 2\]; give an int or a full list"),
    (
        {"options": {"reset_mask": np.zeros(3, bool)}},
        r"reset_mask must be a NumPy bool array \(3,\) with at least one True",
    ),
    ({"options": {"reset_mask": np.ones(3)}}, r"reset_mask must be .*, got float64 \(3,\); mark rows to reset"),
    ({"options": {"reset_mask": np.ones(2, bool)}}, r"reset_mask must be .*, got bool \(2,\)"),
    ({"options": {"reset_mask": [True] * 3}}, "reset_mask must be .*, got list"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_RESETS)
def test_bad_resets(arguments, message):
    env = rows(3, autoreset_mode="Disabled")
    env.reset(seed=0)
    with pytest.raises(DataError, match=message):
        env.reset(**arguments)


def test_steps_out_of_turn():
    env = rows(2, autoreset_mode="Disabled", horizon=1)
    with pytest.raises(ResetNeeded, match=r"must be reset before its first step, got a step; call reset\(\)"):
        env.step(np.array([1, 2]))
    with pytest.raises(ResetNeeded, match="all rows must be reset before some of them, got a reset_mask first"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    env.step(np.array([1, 2]))
    with pytest.raises(ResetNeeded, match=r"got a step with 2 of 2 rows ended, e\.g\. \[0, 1\]; reset them"):
        env.step(np.array([1, 2]))
    single = toy(horizon=1)
    single.reset(seed=0)
    single.step(1)
    with pytest.raises(ResetNeeded, match="a session that has ended must be reset before the next step"):
        single.step(1)


def test_single_env_has_no_rows():
    env = toy()
    with pytest.raises(DataError, match="a single environment has no rows to choose, got option 'reset_mask'"):
        env.reset(options={"reset_mask": np.array([True])})


@pytest.mark.parametrize(
    ("action", "bad", "message"),
    [
        (
            "item",
            np.array([1, 2, 3]),
            r"actions must have one row per session, got shape \(3,\) for 2 rows; stack them",
        ),
        ("item", 5, r"actions must have one row per session, got shape \(\) for 2 rows"),
        ("item", np.array([40, 2]), r"item actions must lie in 0\.\.39, got \[40\]"),
        ("embedding", np.zeros((2, 3)), r"embedding actions must have shape \(B, 12\), got \(2, 3\)"),
        ("embedding", np.full((2, 12), np.inf), "embedding actions must be finite"),
    ],
)
def test_bad_actions(action, bad, message):
    env = rows(2, action=action)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(bad)
