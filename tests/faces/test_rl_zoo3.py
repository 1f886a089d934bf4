"""rl_zoo3 trains in our environments from the command line, with hyperparameters from a file where one wants.

python -m rl_zoo3.train --algo td3 --env recgym/Synthetic-Frame-v0 --gym-packages recgym --conf-file td3.yml
"""

import subprocess
import sys

import pytest
from stable_baselines3 import PPO, TD3

pytest.importorskip("rl_zoo3", reason="rl_zoo3 needs recgym[zoo]")

ID = "recgym/Synthetic-Frame-v0"
TD3_WITH_INDICES = f"""
{ID}:
  n_timesteps: !!float 150
  policy: MlpPolicy
  learning_starts: 50
  buffer_size: 200
  train_freq: 10
  gradient_steps: 2
  policy_kwargs: "dict(net_arch=[16, 16])"
"""


def train(algorithm, folder, *options):
    small = ["n_users:60", "n_items:40", "dim:8", "horizon:10"]
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", algorithm, "--env", ID, "--gym-packages", "recgym"]
    command += ["--log-folder", str(folder), "--seed", "0", "--device", "cpu", "--verbose", "0", "--n-eval-envs", "1"]
    command += ["--eval-freq", "100", "--eval-episodes", "2", *options, "--env-kwargs", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (folder / algorithm).glob("*_1")
    return run


def test_default_hyperparameters(tmp_path):
    options = ["-n", "150", "-params", "learning_starts:50", "buffer_size:200", "train_freq:10", "gradient_steps:2"]
    run = train("td3", tmp_path, *options)
    model = TD3.load(run / f"{ID.replace('/', '-')}.zip", device="cpu")
    assert model.num_timesteps >= 150 and (run / "evaluations.npz").exists()


def test_hyperparameters_from_a_file(tmp_path):
    (tmp_path / "td3.yml").write_text(TD3_WITH_INDICES)
    run = train("td3", tmp_path, "--conf-file", str(tmp_path / "td3.yml"))
    model = TD3.load(run / f"{ID.replace('/', '-')}.zip", device="cpu")
    assert model.num_timesteps >= 150 and model.buffer_size == 200
    assert model.actor.mu[0].out_features == 16


def test_item_actions(tmp_path):
    run = train("ppo", tmp_path, "-n", "64", "-params", "n_steps:32", "batch_size:32", "n_epochs:1", "n_envs:1")
    assert PPO.load(run / f"{ID.replace('/', '-')}.zip", device="cpu").num_timesteps >= 64
