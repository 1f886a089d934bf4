"""RLlib makes our environments by their string on workers that never imported us, as a native batch.

PPOConfig().environment("recgym:recgym/Synthetic-Frame-v0", env_config={"action": "item"}).env_runners(
    num_env_runners=2, num_envs_per_env_runner=8, gym_env_vectorize_mode="vector_entry_point")
"""

import os

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray.rllib", reason="RLlib needs recgym[rllib]")
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig

from recgym.envs.env import RecVectorEnv

ID = "recgym:recgym/Synthetic-Frame-v0"  # the prefix is what a worker imports
SMALL = {"n_users": 60, "n_items": 40, "dim": 8, "horizon": 5}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": ROOT}})
    yield
    ray.shutdown()


def configured(config, n_runners, **options):
    return (
        config.environment(ID, env_config=SMALL | options)
        .env_runners(
            num_env_runners=n_runners,
            num_envs_per_env_runner=4,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=16,
        )
        .learners(num_learners=0)
        .debugging(seed=0)
    )


def trained(config):
    algorithm = config.build_algo()
    try:
        seeds = algorithm.env_runner_group.foreach_env_runner(lambda runner: runner._seed, local_env_runner=False)
        return algorithm.train(), algorithm.env_runner, seeds
    finally:
        algorithm.stop()


@pytest.mark.parametrize("n_runners", [0, 2])
@pytest.mark.parametrize("action", ["item", "embedding"])
def test_ppo_trains(action, n_runners):
    config = configured(PPOConfig(), n_runners, action=action)
    size = 64 * max(n_runners, 1)  # rows x fragments x runners
    result, runner, seeds = trained(config.training(train_batch_size=size, minibatch_size=32, num_epochs=1))
    assert seeds == list(range(1, n_runners + 1))  # and rows of a batch count on from there: see docs/scale.md
    sampled = result["env_runners"]
    assert sampled["num_env_steps_sampled"] >= 64
    assert sampled["episode_len_mean"] <= 5 and np.isfinite(sampled["episode_return_mean"])
    if n_runners == 0:
        assert isinstance(runner.env.unwrapped, RecVectorEnv) and runner.env.unwrapped.num_envs == 4


def test_sac_trains_on_a_remote_runner():
    config = configured(SACConfig(), 1, action="embedding")
    config.training(train_batch_size_per_learner=16, num_steps_sampled_before_learning_starts=32)
    result, *_ = trained(config.reporting(min_sample_timesteps_per_iteration=64))
    assert result["num_env_steps_sampled_lifetime"] >= 32


def test_the_batch_is_the_one_make_vec_gives():
    env = gym.make_vec(ID, 4, vectorization_mode="vector_entry_point", **SMALL)
    assert env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP  # what RLlib is written for
