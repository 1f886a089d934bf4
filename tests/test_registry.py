import copy
import json
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest

from recgym.envs import registry
from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.envs.registry import make_env, make_vector_env, register_envs
from recgym.errors import DataError, OptionError

SMALL = {"n_users": 120, "n_items": 90, "dim": 12}


def test_ids_are_registered_once_and_quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_envs()
        register_envs()
    names = ["Synthetic", "MLSmall", "ML100K", "ML1M", "ML20M", "ML25M", "Table"]
    for name in names:
        spec = gym.spec(f"recgym/{name}-Frame-v0")
        assert spec.entry_point == "recgym.envs.registry:make_env" and spec.max_episode_steps is None
        json.dumps(spec.kwargs)


def test_importing_recgym_registers():
    code = "import gymnasium as gym, recgym; gym.spec('recgym/ML20M-Frame-v0')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_registry_module_is_light():
    code = """if True:
        import sys, recgym.envs.registry
        heavy = {"torch", "pandas", "scipy", "pyarrow", "PIL"} & {name.split(".")[0] for name in sys.modules}
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environments_share_one_world():
    one, two, rows = make_env(**SMALL), make_env(**SMALL, action="item", k=2), make_vector_env(3, **SMALL)
    assert one.users is two.users is rows.users and one.catalog is rows.catalog
    assert isinstance(one, RecEnv) and isinstance(rows, RecVectorEnv)
    assert make_env(**SMALL, split="test", test_size=0.25).users is not one.users


def test_vectors_come_from_the_training_users_whatever_is_served():
    worlds = {split: make_env(**SMALL, split=split, test_size=0.25) for split in ("train", "test", "all")}
    logs = {split: env.users.log for split, env in worlds.items()}
    assert not set(logs["train"].user_ids) & set(logs["test"].user_ids)
    assert set(logs["train"].user_ids) | set(logs["test"].user_ids) == set(logs["all"].user_ids)
    for env in worlds.values():
        assert np.array_equal(env.catalog.table, worlds["train"].catalog.table)
    other = make_env(**SMALL, split="train", test_size=0.25, split_seed=1)
    assert not np.array_equal(other.catalog.table, worlds["train"].catalog.table)


def test_vectors_are_read_from_the_cache_the_second_time(monkeypatch):
    options = {**SMALL, "n_users": 121}
    before = make_env(**options).catalog
    registry._loaded.cache_clear()

    def fitted_again(*args, **kwargs):
        raise AssertionError("the vectors were fitted again")

    monkeypatch.setattr("recgym.embeddings.svd", fitted_again)
    after = make_env(**options).catalog
    assert after is not before and np.array_equal(after.table, before.table) and after.scale == before.scale
    assert after.titles.tolist() == before.titles.tolist()
    with pytest.raises(AssertionError, match="the vectors were fitted again"):
        make_env(**{**options, "dim": 11})
    registry._loaded.cache_clear()


def plays(path, n, n_items=80):
    path.parent.mkdir(exist_ok=True)
    path.write_text("u,i,r\n" + "".join(f"{k % 50},{k * 7 % n_items},{k % 5 + 1}\n" for k in range(n)))


PLAYS = {"dataset": "table", "path": "x.csv", "user": "u", "item": "i", "reward": "r", "dim": 4, "split": "all"}


def test_a_file_that_changed_or_another_folders_is_served_as_it_is(tmp_path, monkeypatch):
    def n_events():
        return make_env(**PLAYS).users.log.n_events

    plays(tmp_path / "d1" / "x.csv", 3000)
    plays(tmp_path / "d2" / "x.csv", 6000)
    monkeypatch.chdir(tmp_path / "d1")
    assert n_events() == 3000 and make_env(**PLAYS).users is make_env(**PLAYS).users
    monkeypatch.chdir(tmp_path / "d2")
    assert n_events() == 6000
    plays(tmp_path / "d2" / "x.csv", 4500)
    assert n_events() == 4500


@pytest.mark.parametrize("observation", ["frame", "history"])
def test_an_unpickled_environment_refuses_other_data(observation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plays(tmp_path / "x.csv", 3000)
    env = make_vector_env(4, **PLAYS, observation=observation)
    env.reset(seed=1)
    pickled, copied = pickle.dumps(env), copy.deepcopy(env)
    same = pickle.loads(pickled)
    assert same.users is env.users
    plays(tmp_path / "x.csv", 3000, n_items=120)
    with pytest.raises(DataError, match="must find the data it was pickled with, got other items and users; put the"):
        pickle.loads(pickled)
    again = copy.deepcopy(copied)  # shares what is in memory
    assert again.users is env.users
    actions = np.zeros(env.action_space.shape, dtype=env.action_space.dtype)
    rewards = env.step(actions)[1].tolist()
    assert all(one.step(actions)[1].tolist() == rewards for one in (copied, again, same))
    state = pickle.loads(pickle.dumps(make_vector_env(4, **PLAYS))).__getstate__()
    del state["made_of"]  # as earlier releases pickled it
    RecVectorEnv.__new__(RecVectorEnv).__setstate__(state)


def test_ways_of_making_vectors():
    plain, normal = make_env(**SMALL).catalog, make_env(**SMALL, normalise=True).catalog
    lengths = np.linalg.norm(normal.embeddings, axis=1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5) and np.linalg.norm(plain.embeddings, axis=1).min() < 0.9
    assert not np.array_equal(make_env(**SMALL, embeddings="als").catalog.table, plain.table)


def test_vectors_from_a_file(tmp_path):
    path = tmp_path / "vectors.npy"
    vectors = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
    np.save(path, vectors)
    env = make_env(n_users=120, n_items=90, embeddings=str(path), split="test", test_size=0.25)
    assert env.action_space.shape == (5,)
    assert np.allclose(env.catalog.embeddings * env.catalog.scale, vectors, atol=1e-6)


def test_a_pickle_holds_the_recipe_and_not_the_data():
    env = make_vector_env(2, **{**SMALL, "n_users": 2000})
    env.reset(seed=0)
    assert len(pickle.dumps(env)) < 30_000 < env.users.log.items.nbytes
    assert pickle.loads(pickle.dumps(env)).users is env.users


def test_make_vec_keeps_the_time_limit_of_make():
    rows = gym.make_vec("recgym/Synthetic-Frame-v0", num_envs=2, max_episode_steps=4, **SMALL)
    single = gym.make("recgym/Synthetic-Frame-v0", max_episode_steps=4, **SMALL)
    rows.reset(seed=0), single.reset(seed=0)
    action = np.zeros(12, np.float32)
    ours = [rows.step(np.stack([action] * 2))[3][0] for _ in range(4)]
    assert ours == [single.step(action)[3] for _ in range(4)] == [False, False, False, True]
    assert gym.make_vec("recgym/Synthetic-Frame-v0", num_envs=2, max_episode_steps=-1, **SMALL).horizon == 20


def test_module_prefix_form():
    assert gym.make("recgym:recgym/Synthetic-Frame-v0", **SMALL).unwrapped.catalog.n_items == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, r"split must be one of \('train', 'test', 'all'\), got 'valid'; choose one of them"),
        (
            {"item_vectors": np.zeros(3)},
            "options of a registered environment must be plain numbers, strings or lists, got Obj",
        ),
        ({"test_size": float("nan")}, "options of a registered environment must be plain numbers"),
        ({"advance": "next"}, "advance must be one of"),
        ({"dataset": "ml-2m"}, "a data set must be one of"),
        ({"world": "os"}, "world must be one of .*frame.*, got 'os'; choose one of them"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        make_env(**{**SMALL, **options})


def test_a_wrong_option_is_told_all_there_are():
    """Those of the environment, its users and its data, with the nearest; whatever was loaded before."""
    for name, near in (("horizn", "horizon"), ("spilt", "split"), ("advanse", "advance"), ("min_evnts", None)):
        with pytest.raises(OptionError, match=rf"options of world 'frame' must be among .*, got {name}; ") as e:
            make_env(**SMALL, **{name: 5})
        assert (f"did you mean '{near}'" in str(e.value)) == (near is not None)
        assert all(f" {one}," in str(e.value) for one in ("action", "dim", "n_users", "min_history", "embeddings"))


def test_the_table_of_ids_is_complete():
    for kind in registry.KINDS:
        assert f"| `{kind.name}` |" in registry.__doc__ and f"`recgym.worlds.{kind.world}`" in registry.__doc__
        for name in kind.datasets:
            assert f"`{name}`" in registry.__doc__


def test_an_id_that_paid_wrongly_says_which_to_use():
    with pytest.raises(
        gym.error.DeprecatedEnv, match=r"v0 for `recgym/Slate` is deprecated. Please use `recgym/Slate-v1`"
    ):
        gym.make("recgym/Slate-v0")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sb3_trains_unmodified():
    from stable_baselines3 import TD3

    model = TD3("MlpPolicy", gym.make("recgym/Synthetic-Frame-v0")).learn(2000)
    assert model.num_timesteps == 2000
