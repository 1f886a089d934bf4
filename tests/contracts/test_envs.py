"""Every registered id goes through the same contracts: each action, observation, advance and autoreset mode.

Ids whose data is not on this machine are skipped, by name.
"""

import copy
import pickle
import warnings
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from kinds import CASES, DATASET_OF, DIM, KIND_OF, LOG, SMALL, cases, data_of

import recgym
from recgym.errors import MissingDataError
from recgym.testing import assert_same, check_vector_env

IDS = list(KIND_OF)
each_id = pytest.mark.parametrize("env_id", IDS)
each_case = pytest.mark.parametrize(
    ("env_id", "options"),
    [
        pytest.param(env_id, CASES[KIND_OF[env_id]][name], id=f"{env_id} {name}")
        for env_id, name in cases(CASES, ["Frame"])
    ],
)
each_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)


@cache
def present(name):
    """Whether the data of a published set is here."""
    try:
        recgym.datasets.load(name)
    except MissingDataError:
        return False
    return True


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of one's own: text ids, counts as rewards."""
    random = np.random.default_rng(0)
    lines = ["listener,track,plays,when"]
    for user in range(60):
        for place, item in enumerate(random.permutation(70)[: random.integers(14, 40)]):
            lines.append(f"anna{user},song {item},{random.integers(1, 6)},{10**9 + 60 * place}")
    path = tmp_path_factory.mktemp("table") / "plays.csv"
    path.write_text("\n".join(lines))
    columns = {"user": "listener", "item": "track", "reward": "plays", "time": "when"}
    return {"path": str(path), **columns, "transform": "scaled", "dim": 8}


@pytest.fixture
def made_of(table):
    """Options that give an id its data, or a skip."""

    def options(env_id):
        kind, name = KIND_OF[env_id], data_of(env_id)
        if name not in ("Synthetic", "Table") and not present(DATASET_OF[env_id]):
            pytest.skip(f"the data of {DATASET_OF[env_id]} is not on this machine")
        return {"Table": table, "Synthetic": SMALL.get(kind, LOG)}.get(name, DIM.get(kind, {"dim": 32}))

    return options


@each_case
def test_gymnasium_check_env(env_id, options, made_of):
    env = gym.make(env_id, **made_of(env_id), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@each_case
def test_sb3_check_env(env_id, options, made_of):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(env_id, render_mode="rgb_array", **made_of(env_id), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if options.get("observation") == "sequence_embeddings":  # (L, d): SB3 wants a network of one's own, rightly
            warnings.filterwarnings("ignore", message=".*unconventional shape")
        checker.check_env(env, warn=True, skip_render_check=False)


@each_case
@each_mode
def test_vector_contract(env_id, options, mode, made_of):
    options = {"horizon": 20} | options  # some session must end
    env = gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, **made_of(env_id), **options)
    check_vector_env(env, n_steps=25)
    env.close()


@each_case
@each_mode
def test_native_equals_sync(env_id, options, mode, made_of):
    options = options | made_of(env_id) | {"horizon": 7}
    native = gym.make_vec(env_id, num_envs=4, autoreset_mode=mode.value, **options)
    sync = gym.make_vec(
        env_id, num_envs=4, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
    )
    assert isinstance(sync, SyncVectorEnv) and not isinstance(native.unwrapped, SyncVectorEnv)
    assert native.single_observation_space == sync.single_observation_space
    native.action_space.seed(1)
    assert_same(native.reset(seed=40), sync.reset(seed=40), "resets")
    for _ in range(24):
        actions = native.action_space.sample()
        ours, theirs = native.step(actions), sync.step(actions)
        assert_same(ours, theirs, "steps")
        done = ours[2] | ours[3]
        if mode == AutoresetMode.DISABLED and done.any():
            resets = [env.reset(options={"reset_mask": done.copy()}) for env in (native, sync)]
            assert_same(*resets, "partial resets")


@each_case
def test_row_equals_single(env_id, options, made_of):
    options = options | made_of(env_id)
    rows = gym.make_vec(env_id, num_envs=3, autoreset_mode="SameStep", **options)
    rows.action_space.seed(2)
    observation, _ = rows.reset(seed=11)
    singles = [gym.make(env_id, **options) for _ in range(3)]
    for row, single in enumerate(singles):
        assert_same(pick(observation, row), single.reset(seed=11 + row)[0], "openings")
    for _ in range(30):
        actions = rows.action_space.sample()
        observation, rewards, terminated, truncated, infos = rows.step(actions)
        for row, single in enumerate(singles):
            one, *outcome, _ = single.step(actions[row])
            assert outcome == [rewards[row], terminated[row], truncated[row]]
            if outcome[1] or outcome[2]:
                assert_same(infos["final_obs"][row], one, "last observations")
                one, _ = single.reset()
            assert_same(pick(observation, row), one, "observations")


def pick(observation, row):
    return (
        {name: part[row] for name, part in observation.items()} if isinstance(observation, dict) else observation[row]
    )


@each_case
def test_spec_round_trip(env_id, options, made_of):
    env = gym.make(env_id, **made_of(env_id), **options)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    env.action_space.seed(0), again.action_space.seed(0)
    check_environments_match(env, again, 20, seed=3, info_comparison="keys-superset")
    rows = gym.make_vec(env_id, num_envs=2, **made_of(env_id), **options)
    twice = gym.make_vec(EnvSpec.from_json(rows.unwrapped.spec.to_json()))
    assert_same(rows.reset(seed=1), twice.reset(seed=1), "resets")


@each_id
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
def test_copies_keep_the_session(env_id, copied, made_of):
    env = gym.make(env_id, **made_of(env_id))
    env.action_space.seed(5)
    env.reset(seed=5)
    *_, terminated, truncated, _ = env.step(env.action_space.sample())
    if terminated or truncated:  # a session of one step
        env.reset()
    twin = copied(env)
    assert twin.unwrapped.users is env.unwrapped.users
    for _ in range(10):
        action = env.action_space.sample()
        one, other = env.step(action), twin.step(action)
        assert_same(one, other, "steps")
        if one[2] or one[3]:
            break


@each_id
@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_render(env_id, mode, made_of):
    env = gym.make(env_id, render_mode=mode, **made_of(env_id))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    picture = env.render()
    if mode == "ansi":
        assert "shown: [" in picture and f"step 1 of {env.spec.kwargs.get('horizon', 20)}" in picture
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3
    frames = gym.make(env_id, render_mode=f"{mode}_list", **made_of(env_id))
    frames.reset(seed=0)
    frames.step(frames.action_space.sample())
    assert len(frames.render()) == 2
