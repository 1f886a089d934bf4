"""Environments in other processes: SB3's SubprocVecEnv, TorchRL's collectors, and what seeds their rows.

venv = SubprocVecEnv([lambda: gym.make("recgym/Synthetic-Frame-v0")] * 8)   # env i of `venv.seed(s)` is row i of s
collector = MultiSyncCollector([lambda: GymEnv("recgym:recgym/Synthetic-Frame-v0")] * 2, policy, ...)
"""

import gymnasium as gym
import numpy as np
import pytest

from recgym.log import InteractionLog

ID = "recgym:recgym/Synthetic-Frame-v0"
SMALL = {"n_users": 60, "n_items": 40, "dim": 8, "horizon": 4}


def make():
    return gym.make(ID, action="item", disable_env_checker=True, **SMALL)


def test_rows_of_sb3s_processes_are_rows_of_one_batch():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import SubprocVecEnv

    venv = SubprocVecEnv([make] * 2)
    try:
        venv.seed(7)
        batch = gym.make_vec(
            ID, 2, vectorization_mode="vector_entry_point", action="item", autoreset_mode="SameStep", **SMALL
        )
        seen, expected = venv.reset(), batch.reset(seed=7)[0]
        np.testing.assert_array_equal(seen, expected)
        for step in range(3):  # until sessions end: SubprocVecEnv seeds the first only
            actions = np.array([3 * step + 1, 5 * step + 2])
            seen, rewards, *_ = venv.step(actions)
            expected, earned, *_ = batch.step(actions)
            np.testing.assert_array_equal(seen, expected)
            np.testing.assert_array_equal(rewards, earned.astype(np.float32))
    finally:
        venv.close()


def test_sb3_learns_over_processes():
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import SubprocVecEnv

    venv = SubprocVecEnv([make] * 2)
    try:
        model = sb3.PPO("MlpPolicy", venv, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(32)
        assert model.num_timesteps == 32
    finally:
        venv.close()


def torchrl_env():
    from torchrl.envs import GymEnv

    return GymEnv(ID, action="item", disable_env_checker=True, **SMALL)


def test_torchrl_collects_over_processes():
    pytest.importorskip("torchrl", reason="TorchRL needs recgym[torchrl]")
    from torchrl.collectors import MultiSyncCollector

    collector = MultiSyncCollector([torchrl_env] * 2, frames_per_batch=16, total_frames=32)
    try:
        collector.set_seed(3)
        batches = [batch.clone() for batch in collector]
    finally:
        collector.shutdown()
    assert sum(batch.numel() for batch in batches) == 32
    assert all(bool(batch["next", "reward"].isfinite().all()) for batch in batches)


def test_a_log_is_prepared_by_tasks_of_ray(tmp_path):
    ray = pytest.importorskip("ray", reason="the engine needs recgym[ray]")
    import pyarrow as pa
    from pyarrow import parquet

    from recgym import datasets
    from recgym.datasets.partitioned import prepare

    random = np.random.default_rng(0)
    (tmp_path / "events").mkdir()
    for number in range(3):
        columns = {"u": random.integers(0, 50, 500), "i": random.integers(0, 30, 500), "t": random.integers(1, 99, 500)}
        parquet.write_table(pa.table(columns), tmp_path / "events" / f"{number}.parquet")
    options = {"user": "u", "item": "i", "time": "t", "time_unit": "s"}
    try:
        out = prepare(tmp_path / "events", tmp_path / "out", n_parts=4, engine="ray", **options)
    finally:
        ray.shutdown()
    made, whole = InteractionLog.from_parquet(out), datasets.load(str(tmp_path / "events"), **options)
    for name in ("items", "rewards", "times", "offsets", "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(made, name), getattr(whole, name))
