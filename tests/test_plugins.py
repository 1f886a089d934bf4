"""Data sets and kinds of environments from outside: registered by a call or by an installed package."""

import re
import sys
from importlib.metadata import EntryPoint

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

import recgym
from recgym import datasets
from recgym.__main__ import main
from recgym.datasets import registered
from recgym.datasets.synthetic import synthetic
from recgym.envs import registry
from recgym.envs.env import RecEnv
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError, OptionError
from recgym.evaluation.floors import measure
from recgym.users.replay import ReplayUsers
from recgym.worlds.frame import world as frame_world

SMALL = {"dim": 4, "frame_size": 2, "test_size": 0.3}


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """Whatever is registered in a test is gone after it."""
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)
    registered._HERE.clear()
    registry._WORLDS.clear()
    registry._loaded.cache_clear()


def shop(*, n_users=60, reward="raw"):
    """A loader of one's own."""
    return synthetic(n_users=n_users, n_items=40)


def moody(*, frame_size=10, n_users=40, gentle=True):
    """People who are moody."""
    return frame_world(frame_size=frame_size, n_users=n_users, n_items=40, dim=4)


def first(history):
    return np.broadcast_to(-np.arange(40.0), (len(history.items), 40))


def last(history):
    return np.broadcast_to(np.arange(40.0), (len(history.items), 40))


def test_a_registered_data_set_is_everywhere(capsys):
    recgym.register_dataset("my-shop", shop, n_users=50)
    assert "my-shop" in datasets.names()
    assert datasets.load("my-shop").n_users == 50 and datasets.load("my-shop").name == "my-shop"
    assert datasets.load("my-shop", n_users=20).n_users == 20
    env = gym.make("recgym/my-shop-Frame-v0", **SMALL)
    assert env.unwrapped.catalog.n_items == 40
    assert gym.make("recgym/Table-Frame-v0", dataset="my-shop", **SMALL).unwrapped.catalog.n_items == 40
    assert {f"recgym/my-shop-{kind}" for kind in ("Frame", "Seq", "DRR", "Session", "Sim")} == {
        name.rpartition("-v")[0] for name in registry.ids() if "my-shop" in name
    }
    found = recgym.compare(first, last, "recgym/my-shop-Frame-v0", n_users=5, num_envs=4, options=SMALL)
    assert found.a.shape == (5,)
    assert [floor.policy for floor in measure("recgym/my-shop-Frame-v0", n_sessions=4, **SMALL)][:2] == [
        "random",
        "popularity",
    ]
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "  my-shop " in said and "  recgym/my-shop-Frame-v0 " in said
    assert main(["info", "my-shop"]) == 0
    assert "50 users, 40 items" in capsys.readouterr().out
    assert main(["info", "recgym/my-shop-Frame-v0"]) == 0  # though of 40 items no vectors of 128 numbers can be made
    assert "dataset: `'my-shop'`" in capsys.readouterr().out


def test_tables_and_logs_may_be_registered():
    frame = pd.DataFrame({"u": [1, 1, 2, 2, 3, 3, 3], "i": [5, 6, 5, 7, 5, 6, 7]})
    recgym.register_dataset("plays", frame, user="u", item="i")
    assert datasets.load("plays").n_events == 7
    assert datasets.load("plays", min_events=3).n_events == 3
    env = gym.make("recgym/Table-Frame-v0", dataset="plays", dim=1, frame_size=1, test_size=1)
    assert env.unwrapped.catalog.n_items == 3
    recgym.register_dataset("plays", shop(n_users=7))  # the newest counts
    assert datasets.load("plays").n_users == 7
    with pytest.raises(OptionError, match="plays is a log that is made already and takes no option, got user"):
        datasets.load("plays", user="u")


@pytest.mark.parametrize(
    ("name", "source", "options", "message"),
    [
        ("synthetic", shop, {}, "must be its own, got 'synthetic', which recgym has"),
        ("Table", shop, {}, "must be its own, got 'Table'"),
        ("a b", shop, {}, r"must be letters, digits, '\.', '_' and '-', got 'a b'"),
        ("mine", lambda: 3, {}, "what loads the data set 'mine' must return an InteractionLog, got int"),
        ("mine", shop, {"n_user": 3}, "options of mine must be among n_users, reward, got n_user"),
        ("mine", "nowhere.csv", {}, "got no such file at nowhere.csv"),
    ],
)
def test_bad_data_sets(name, source, options, message):
    with pytest.raises(recgym.RecgymError, match=message):
        recgym.register_dataset(name, source, **options)
        datasets.load(name)


@pytest.mark.parametrize("named", [False, True])
def test_a_registered_world_is_everywhere(named, capsys):
    recgym.register_world("Moody", f"{__name__}:moody" if named else moody, horizon=7)
    assert gym.make("recgym/Moody-v0", frame_size=2).unwrapped.catalog.n_items == 40
    assert gym.make_vec("recgym/Moody-v0", num_envs=3, frame_size=2).horizon == 7
    assert recgym.compare(first, last, "recgym/Moody-v0", n_users=5, options={"frame_size": 2}).a.shape == (5,)
    assert measure("recgym/Moody-v0", n_sessions=4, frame_size=2)[0].policy == "random"
    assert main(["list"]) == 0
    assert "People who are moody" in capsys.readouterr().out
    assert main(["info", "recgym/Moody-v0"]) == 0
    assert "People who are moody" in capsys.readouterr().out
    assert main(["check", "recgym/Moody-v0"]) == 0
    with pytest.raises(OptionError, match=r"must be among .*frame_size, gentle, .*got gentel; did you mean 'gentle'"):
        gym.make("recgym/Moody-v0", gentel=1)


def test_a_world_that_nobody_else_can_import():
    recgym.register_world("Local", lambda frame_size=10: moody(frame_size=frame_size), version=2)
    assert gym.make("recgym/Local-v2", frame_size=2).unwrapped.catalog.n_items == 40
    with pytest.raises(DataError, match="a kind must have a name of its own, letters and digits, got 'Frame'"):
        recgym.register_world("Frame", moody)
    with pytest.raises(DataError, match=r"world must be one of .*, or package\.module:function, got 'nowhere:world'"):
        recgym.register_world("Moody", "nowhere:world")


def test_entry_points_bring_data_sets_and_worlds(monkeypatch, capsys):
    points = {
        "recgym.datasets": [
            EntryPoint("packed", f"{__name__}:shop", "recgym.datasets"),
            EntryPoint("broken", "nowhere:load", "recgym.datasets"),
        ],
        "recgym.worlds": [EntryPoint("Packed", f"{__name__}:moody", "recgym.worlds")],
    }
    for module in (registered, registry):
        monkeypatch.setattr(module, "entry_points", lambda group: points[group])
    recgym.register_envs()
    assert datasets.load("packed").n_users == 60
    assert gym.make("recgym/packed-Frame-v0", **SMALL).unwrapped.catalog.n_items == 40
    assert gym.make("recgym/Packed-v0", frame_size=2).unwrapped.catalog.n_items == 40
    with pytest.raises(DataError, match="the entry point broken = nowhere:load must be importable, got ModuleNotFound"):
        datasets.load("broken")
    assert main(["list"]) == 0
    assert f"from the entry point {__name__}:shop" in capsys.readouterr().out


# -- environments that others registered with Gymnasium ----------------------------------------------------------------


def make_users():
    catalog, _ = moody(frame_size=2)
    return ReplayUsers(shop(n_users=40), 2), catalog


def make_one(**options):
    users, catalog = make_users()
    return RecEnv(users=users, catalog=catalog, frame_size=2, **options)


def make_many(num_envs=1, **options):
    users, catalog = make_users()
    return RecVectorEnv(num_envs, users=users, catalog=catalog, frame_size=2, **options)


@pytest.fixture
def mine():
    gym.register("mine/Moody-v0", entry_point=make_one, vector_entry_point=make_many)
    gym.register("mine/Single-v0", entry_point=make_one)


def test_foreign_ids_are_compared_measured_and_checked(mine, capsys):
    found = recgym.compare(first, last, "mine/Moody-v0", n_users=5, num_envs=4)
    fixed = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"}
    again = recgym.compare(first, last, make_many(4, **fixed), n_users=5)
    np.testing.assert_array_equal(found.a, again.a)
    assert measure("mine/Moody-v0", n_sessions=4)[0].env_id == "mine/Moody-v0"
    assert main(["info", "mine/Moody-v0"]) == 0
    assert "# mine/Moody-v0" in capsys.readouterr().out
    assert main(["check", "mine/Moody-v0"]) == 0
    with pytest.raises(DataError, match="must be registered with a vector_entry_point that makes a RecVectorEnv"):
        recgym.compare(first, last, "mine/Single-v0")
    with pytest.raises(DataError, match="compare needs an environment with action='item'"):
        recgym.compare(first, last, make_many(4))
    with pytest.raises(DataError, match="must make a RecVectorEnv of users and items, got"):
        registry.make_batch("CartPole-v1", 2)


def test_ids_of_a_package_in_this_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = f"import gymnasium\nfrom {__name__} import make_one, make_many\n"
    code += "gymnasium.register('ours/Near-v0', entry_point=make_one, vector_entry_point=make_many)\n"
    (tmp_path / "nearby_package.py").write_text(code)
    assert main(["check", "nearby_package:ours/Near-v0"]) == 0
    assert "all checks passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Synthetic-Frame-v0", r"did you mean 'recgym/Synthetic-Frame-v0'"),
        ("recgym/Synthetic-Fram-v0", r"did you mean 'recgym/Synthetic-Frame-v0'"),
        ("recgym/ML1m-Frame", r"did you mean .*'recgym/ML1M-Frame-v0'"),
    ],
)
def test_mistyped_ids_get_the_nearest(name, hint, capsys):
    assert main(["info", name]) == 1
    said = capsys.readouterr().err
    assert re.search(hint, said) and len(said) < 300
    with pytest.raises(DataError, match="an id must be one of those"):
        recgym.compare(first, last, name)


def test_misspelt_options_of_environments_get_the_nearest():
    for wrong, right in (("horizn", "horizon"), ("splt", "split"), ("min_histroy", "min_history")):
        with pytest.raises(OptionError, match=f"got {wrong}; did you mean .*'{right}'"):
            gym.make("recgym/Synthetic-Frame-v0", n_users=60, n_items=50, dim=4, **{wrong: 1})
