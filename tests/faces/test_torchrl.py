"""TorchRL takes an environment by id and a batch of ours as it is.

from torchrl.envs import GymEnv, GymWrapper
single = GymEnv("recgym:recgym/Synthetic-Frame-v0")
batch = GymWrapper(gym.make_vec("recgym:recgym/Synthetic-Frame-v0", 64, autoreset_mode="SameStep"))
histories = GymWrapper(TorchRLBatch(gym.make_vec(..., autoreset_mode="SameStep", observation="history")))
"""

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("torchrl", reason="TorchRL needs recgym[torchrl]")
from torchrl.envs import GymEnv, GymWrapper
from torchrl.envs.utils import check_env_specs

from agents.integrations.torchrl import TorchRLBatch

ID = "recgym:recgym/Synthetic-Frame-v0"
SMALL = {"n_users": 60, "n_items": 40, "dim": 8, "horizon": 4}


def batch_env(**options):
    made = {"autoreset_mode": "SameStep", "vectorization_mode": "vector_entry_point", **SMALL, **options}
    return gym.make_vec(ID, 3, **made)


@pytest.mark.parametrize("observation", ["frame", "history"])
@pytest.mark.parametrize("action", ["embedding", "item"])
def test_specs_of_the_single_environment(action, observation):
    env = GymEnv(ID, action=action, observation=observation, disable_env_checker=True, **SMALL)
    check_env_specs(env)
    rollout = env.rollout(3)
    assert rollout.batch_size == torch.Size([3]) and bool(rollout["next", "reward"].isfinite().all())


@pytest.mark.parametrize("action", ["embedding", "item"])
def test_specs_of_the_batch(action):
    check_env_specs(GymWrapper(batch_env(action=action)))


@pytest.mark.parametrize("observation", ["history", "user_history", "sequence", "sequence_embeddings"])
@pytest.mark.parametrize("action", ["embedding", "item"])
def test_specs_of_the_batch_with_dicts(action, observation):
    env = TorchRLBatch(batch_env(action=action, observation=observation))
    check_env_specs(GymWrapper(env, categorical_action_encoding="sequence" in observation))  # lengths are numbers


def test_a_rollout_is_the_batch_itself_last_observations_too():
    """Rows end at different moments here: where all end at once, TorchRL resets them all once more, by itself."""
    options = {"advance": "log", "end_of_log": "terminal", "horizon": 1_000}
    wrapped, env = GymWrapper(batch_env(**options)), batch_env(**options)
    wrapped.set_seed(0)  # a reset with that seed
    env.reset(seed=0)
    data, (observation, _) = wrapped.reset(), env.reset()
    ended = 0
    env.action_space.seed(0)
    for _ in range(40):
        np.testing.assert_array_equal(data["observation"], observation)
        actions = env.action_space.sample()
        observation, rewards, terminated, truncated, infos = env.step(actions)
        done = terminated | truncated
        stepped, data = wrapped.step_and_maybe_reset(data.set("action", torch.as_tensor(actions)))
        after = observation.copy()
        for row in np.flatnonzero(done):
            after[row] = infos["final_obs"][row]
            ended += 1
        np.testing.assert_array_equal(stepped["next", "observation"], after)
        np.testing.assert_allclose(stepped["next", "reward"][:, 0], rewards, atol=1e-6)
        np.testing.assert_array_equal(stepped["next", "terminated"][:, 0], terminated)
        np.testing.assert_array_equal(stepped["next", "truncated"][:, 0], truncated)
    assert ended >= 2


def test_a_rollout_of_histories_is_the_batch_itself_last_observations_too():
    options = {"advance": "log", "end_of_log": "terminal", "horizon": 1_000, "observation": "history"}
    wrapped, env = GymWrapper(TorchRLBatch(batch_env(**options))), batch_env(**options)
    wrapped.set_seed(0)
    env.reset(seed=0)
    data, (observation, infos) = wrapped.reset(), env.reset()
    ended = 0
    env.action_space.seed(0)
    for _ in range(40):
        for name, part in observation.items():
            np.testing.assert_array_equal(data[name], part)
        np.testing.assert_array_equal(data["slate"], infos["items"])
        actions = env.action_space.sample()
        observation, rewards, terminated, truncated, infos = env.step(actions)
        stepped, data = wrapped.step_and_maybe_reset(data.set("action", torch.as_tensor(actions)))
        after = {name: part.copy() for name, part in observation.items()}
        for row in np.flatnonzero(terminated | truncated):
            for name, part in infos["final_obs"][row].items():
                after[name][row] = part
            ended += 1
        for name, part in after.items():
            np.testing.assert_array_equal(stepped["next", name], part)
        np.testing.assert_allclose(stepped["next", "reward"][:, 0], rewards, atol=1e-6)
    assert ended >= 2
