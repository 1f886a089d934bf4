"""`python -m recgym.testing` and the comparison of rows with single environments."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.envs import registry
from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.testing import __main__ as command
from recgym.testing import check_vector_env
from recgym.users import ReplayUsers

WORLD = {"catalog": make_catalog(), "frame_size": 5, "horizon": 6, "observation": "history", "action": "item", "k": 2}


def single(**options):
    return RecEnv(users=ReplayUsers(make_log(), 5), **{**WORLD, **options})


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_rows_equal_single_environments(mode):
    env = RecVectorEnv(4, users=ReplayUsers(make_log(), 5), autoreset_mode=mode, **WORLD)
    check_vector_env(env, 25, single=single)


class OtherInfo(gym.Wrapper):
    def step(self, action):
        *rest, info = self.env.step(action)
        return *rest, info | {"answered": ~info["answered"]}


class OtherLast(gym.ObservationWrapper):
    def observation(self, observation):
        return observation | {"item_history": np.sort(observation["item_history"])}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(
    ("planted", "message"),
    [
        (lambda: OtherInfo(single()), "info 'answered' of row 0 must be the single environment's"),
        (lambda: OtherLast(single()), "the observation of row 0 and the single environment's must be equal"),
        (lambda: single(miss_reward=-0.5), "row 0 must equal the single env, got"),
        (lambda: single(horizon=4), "row . must equal the single env, got"),
    ],
)
def test_another_single_environment_is_told_apart(mode, planted, message):
    env = RecVectorEnv(4, users=ReplayUsers(make_log(), 5), autoreset_mode=mode, **WORLD)
    with pytest.raises(AssertionError, match=message):
        check_vector_env(env, 25, single=planted)


def test_the_command_checks_every_action_observation_and_mode(capsys):
    assert command.main(["Coat-Seq", "--steps", "9"]) in (0,)
    said = capsys.readouterr().out
    if "skipped recgym/Coat-Seq-v1" not in said:
        assert "| recgym/Coat-Seq-v1 | embedding | sequence | ok | ok | ok |" in said
        assert "30 checks, 0 failed; 0 of 1 ids skipped" in said


def test_ids_without_data_are_listed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    registry._loaded.cache_clear()  # a world that is loaded needs no data any more
    assert command.main(["Coat"]) == 0
    said = capsys.readouterr().out
    assert "skipped recgym/Coat-Frame-v0: Coat must lie in a folder" in said
    assert "0 checks, 0 failed; 4 of 4 ids skipped" in said


def test_a_failure_is_told_and_counts(capsys, monkeypatch):
    def refuse(env, n_steps, single):
        raise AssertionError("rewards | must be\nfinite")

    monkeypatch.setattr(command, "check_vector_env", refuse)
    assert command.main(["Table-Seq"]) == 1
    said = capsys.readouterr().out
    assert "| FAILED: rewards / must be finite |" in said and "30 checks, 30 failed" in said
