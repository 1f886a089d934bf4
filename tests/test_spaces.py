"""The five observations of one and the same session."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import make_catalog, make_log
from gymnasium import spaces

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.envs.registry import KINDS
from recgym.envs.spaces import OBSERVATIONS
from recgym.frames import observed
from recgym.testing import assert_same
from recgym.users import ReplayUsers

PAD = 40


def rows(observation, **options):
    users = ReplayUsers(make_log((4, 20, 9)), 5, min_history=2)
    return RecVectorEnv(
        6, users=users, catalog=make_catalog(), frame_size=5, action="item", observation=observation, **options
    )


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_all_tell_the_same_story(mode):
    made = {name: rows(name, autoreset_mode=mode, horizon=4) for name in OBSERVATIONS}
    table = make_catalog().table
    seen = {name: env.reset(seed=3) for name, env in made.items()}
    random = np.random.default_rng(0)
    for _ in range(15):
        plain, infos = seen["history"][0], seen["history"][-1]
        user, sequence, vectors = (seen[name][0] for name in ("user_history", "sequence", "sequence_embeddings"))
        assert_same({name: user[name] for name in plain}, plain, "user_history and history")
        assert np.array_equal(user["user"], infos["user"])
        assert_same({name: sequence[name] for name in plain}, plain, "sequence and history")
        assert np.array_equal(sequence["length"], (plain["item_history"] != PAD).sum(axis=1))
        assert np.array_equal(vectors["embeddings"], table[plain["item_history"]])
        assert_same(vectors["length"], sequence["length"], "lengths")
        frames = np.concatenate([vectors["embeddings"].reshape(6, -1), plain["reward_history"]], axis=1)
        assert np.array_equal(seen["frame"][0], frames)
        for name, env in made.items():
            assert env.observation_space.contains(seen[name][0])
        action = random.integers(0, PAD, 6)
        seen = {name: env.step(action) for name, env in made.items()}


def test_spaces():
    spaces_of = {name: rows(name).single_observation_space for name in OBSERVATIONS}
    assert spaces_of["frame"].shape == (5 * 13,)
    assert spaces_of["user_history"]["user"] == spaces.Discrete(3)
    assert spaces_of["sequence"]["length"] == spaces.Discrete(6) and "item_history" in spaces_of["sequence"].spaces
    assert spaces_of["sequence_embeddings"]["embeddings"].shape == (5, 12)
    assert "item_history" not in spaces_of["sequence_embeddings"].spaces


def test_least_openings_leave_the_rest_to_be_answered():
    log = make_log((4, 20, 9))
    for opening, first in (("full", 5), ("least", 2)):
        users = ReplayUsers(log, 5, min_history=2, opening=opening)
        env = RecEnv(users=users, catalog=make_catalog(), frame_size=5, action="item", observation="sequence")
        observation, _ = env.reset(options={"user": 1})
        assert observation["length"] == first
        assert observation["item_history"].tolist() == [PAD] * (5 - first) + log.user(1).items[:first].tolist()
        _, _, _, _, info = env.step(log.user(1).items[first])
        assert info["answered"].tolist() == [True]


def test_keys_are_no_names_of_torchs_or_pythons_dicts():
    """SB3's MultiInputPolicy makes a ModuleDict of one network per key, and `items` is a method of it."""
    from torch.nn import ModuleDict

    taken = {*dir(ModuleDict()), *dir(dict)}
    for name in OBSERVATIONS[1:]:
        env = rows(name)
        assert not taken & set(env.single_observation_space.spaces)
        assert set(env.reset(seed=0)[0]) == set(env.single_observation_space.spaces)
    newest = [options for kind in KINDS for options in kind.ids().values()]
    assert all(options.get("observation", "frame") in OBSERVATIONS and "old_keys" not in options for options in newest)


@pytest.mark.filterwarnings("ignore:.*out of date")
def test_v0_speaks_the_old_names():
    options = {"n_users": 60, "n_items": 60, "dim": 8, "action": "item"}
    for kind in ("Seq", "DRR"):
        old, new = (gym.make(f"recgym/Synthetic-{kind}-{version}", **options) for version in ("v0", "v1"))
        (before, _), (after, _) = old.reset(seed=1), new.reset(seed=1)
        for _ in range(5):
            assert np.array_equal(before["items"], after["item_history"])
            assert np.array_equal(before["rewards"], after["reward_history"])
            assert_same(observed(before), observed(after), "both names")
            before, after = old.step(3)[0], new.step(3)[0]
        assert isinstance(old.observation_space["items"], spaces.Box)
        assert new.observation_space["item_history"].nvec.tolist() == [61] * len(after["item_history"])
