"""The five observations of one and the same session."""

import numpy as np
import pytest
from conftest import make_catalog, make_log
from gymnasium import spaces

from recgym.env import RecEnv, RecVectorEnv
from recgym.spaces import OBSERVATIONS
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
        assert np.array_equal(sequence["length"], (plain["items"] != PAD).sum(axis=1))
        assert np.array_equal(vectors["embeddings"], table[plain["items"]])
        assert_same(vectors["length"], sequence["length"], "lengths")
        frames = np.concatenate([vectors["embeddings"].reshape(6, -1), plain["rewards"]], axis=1)
        assert np.array_equal(seen["frame"][0], frames)
        for name, env in made.items():
            assert env.observation_space.contains(seen[name][0])
        action = random.integers(0, PAD, 6)
        seen = {name: env.step(action) for name, env in made.items()}


def test_spaces():
    spaces_of = {name: rows(name).single_observation_space for name in OBSERVATIONS}
    assert spaces_of["frame"].shape == (5 * 13,)
    assert spaces_of["user_history"]["user"] == spaces.Discrete(3)
    assert spaces_of["sequence"]["length"] == spaces.Discrete(6) and "items" in spaces_of["sequence"].spaces
    assert spaces_of["sequence_embeddings"]["embeddings"].shape == (5, 12)
    assert "items" not in spaces_of["sequence_embeddings"].spaces


def test_least_openings_leave_the_rest_to_be_answered():
    log = make_log((4, 20, 9))
    for opening, first in (("full", 5), ("least", 2)):
        users = ReplayUsers(log, 5, min_history=2, opening=opening)
        env = RecEnv(users=users, catalog=make_catalog(), frame_size=5, action="item", observation="sequence")
        observation, _ = env.reset(options={"user": 1})
        assert observation["length"] == first
        assert observation["items"].tolist() == [PAD] * (5 - first) + log.user(1).items[:first].tolist()
        _, _, _, _, info = env.step(log.user(1).items[first])
        assert info["answered"].tolist() == [True]
