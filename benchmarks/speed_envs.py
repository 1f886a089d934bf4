"""Times environments: steps a second, in pairs with what they are compared with, and figures of other simulators.

Actions are drawn beforehand. The figures of other simulators are quoted: measured in November 2026 on a 2-core Xeon,
one process, each with the version that was run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.speed_mappers import mapper_rows
from benchmarks.turns import ROWS, in_turns, row

FRAME = "recgym/Synthetic-Frame-v0"

QUOTED = (  # simulator, version, setting, steps a second
    ("RecSim", "(recsim-no-tf 0.2.3)", "interest evolution, 10 candidates, slate of 2", 2_968),
    ("RecSim", "(recsim-no-tf 0.2.3)", "interest evolution, 1,000 candidates, slate of 10", 69.8),
    ("RecSim", "(recsim-no-tf 0.2.3)", "long-term satisfaction, 10 candidates, slate of 2", 6_185),
    ("RecSim NG", "0.1.2", "interest evolution, graph, 1,000 users, 100 documents", 117_900),
    ("RecSim NG", "0.1.2", "interest evolution, one step a call, 1,000 users", 547),
    ("RecoGym", "0.1.3.0", "reco-gym-v1, 10 products", 3_028),
    ("RecoGym", "0.1.3.0", "reco-gym-v1, 27,278 products", 446),
    ("SARDINE", "1.0.8", "SingleItem-Static-v0", 6_920),
    ("SARDINE", "1.0.8", "SlateTopK-Bored-v0", 5_295),
    ("VirtualTaobao", "snapshot of 2019-11", "env.step", 1_173),
    ("KuaiSim", "snapshot of 2024-09", "whole session, random weights, 256 users", 656),
    ("SCOPE-RL", "0.2.1", "its recommender environment", 6_400),
    ("EasyRL4Rec", "snapshot of 2024-03", "base environment, look-up only", 24_700),
    ("RecLab", "0.1.2", "topics", 3_200),
)


def rows(sizes: Sequence[int] = (), quick: bool = False) -> list[dict[str, Any]]:
    """Returns the rows of the subject `envs`; `sizes` is not used, `quick` runs a tenth of the steps."""
    calls = 4 if quick else 40
    return [*_steps(calls), *_faces(calls), *mapper_rows(quick), *_quoted()]


def _stepper(env: Any, draw: Callable[[], Any], calls: int) -> Callable[[], None]:
    """Returns a function that takes `calls` steps with actions drawn now."""
    actions = [draw() for _ in range(64)]
    env.reset()

    def go() -> None:
        for place in range(calls):
            env.step(actions[place % 64])

    return go


def _steps(calls: int) -> list[dict[str, Any]]:
    """Native batches against Gymnasium's loop over single environments, its own native one, and frames."""
    history: dict[str, Any] = {"action": "item", "observation": "history"}
    made = {
        "native": gym.make_vec(FRAME, num_envs=ROWS, autoreset_mode="SameStep", **history),
        "loop": gym.make_vec(FRAME, num_envs=ROWS, vectorization_mode="sync", **history),
        "frames": gym.make_vec(FRAME, num_envs=ROWS, autoreset_mode="SameStep", action="item"),
        "cartpole": gym.make_vec("CartPole-v1", num_envs=ROWS, vectorization_mode="vector_entry_point"),
    }
    steps = {"loop": max(1, calls // 20)}
    go = {name: _stepper(env, env.action_space.sample, steps.get(name, calls)) for name, env in made.items()}
    each = {name: taken / steps.get(name, calls) / ROWS for name, taken in in_turns(go).items()}  # seconds a step
    single = _single(calls, history)
    found = [
        row("recgym, native", "replay, item actions, history", 1 / np.median(each["native"]), "steps/s", ROWS),
        row("recgym, native", "replay, item actions, frames", 1 / np.median(each["frames"]), "steps/s", ROWS),
        row("recgym in SyncVectorEnv", "replay, item actions, history", 1 / np.median(each["loop"]), "steps/s", ROWS),
        row("recgym, single", "replay, item actions, history", single * 1e6, "us a step", 1),
        row("Gymnasium, native CartPole", "steps", 1 / np.median(each["cartpole"]), "steps/s", ROWS),
    ]
    ratios = {
        "native over SyncVectorEnv (goal 50)": each["loop"] / each["native"],
        "native over CartPole (goal 0.25)": each["cartpole"] / each["native"],
        "frames over history (goal 0.4)": each["native"] / each["frames"],
    }
    for env in made.values():
        env.close()
    return found + [row("recgym", name, float(np.median(ratio)), "times", ROWS) for name, ratio in ratios.items()]


def _single(calls: int, options: Mapping[str, Any]) -> float:
    """Returns the seconds of a step of the single environment, resets included."""
    env = gym.make(FRAME, disable_env_checker=True, **options)
    actions = [env.action_space.sample() for _ in range(64)]
    env.reset(seed=0)

    def go() -> None:
        for place in range(10 * calls):
            *_, terminated, truncated, _ = env.step(actions[place % 64])
            if terminated or truncated:
                env.reset()

    return float(np.min(in_turns({"single": go})["single"])) / (10 * calls)


def _faces(calls: int, n: int = 64) -> list[dict[str, Any]]:
    """SB3 through our VecEnv against its DummyVecEnv."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    from agents.integrations.sb3_env import make_vec_env

    options: dict[str, Any] = {"action": "item", "observation": "history"}
    ours: Any = make_vec_env(FRAME, n, **options)
    theirs = DummyVecEnv([lambda: gym.make(FRAME, disable_env_checker=True, **options) for _ in range(n)])
    random = np.random.default_rng(0)
    steps = {"ours": calls, "theirs": max(1, calls // 10)}

    go = {
        name: _stepper(env, lambda: random.integers(0, 2_000, size=n), steps[name])
        for name, env in (("ours", ours), ("theirs", theirs))
    }
    seconds = in_turns(go)
    each = {name: taken / steps[name] / n for name, taken in seconds.items()}
    return [
        row("SB3 with recgym's VecEnv", "steps", float(1 / np.median(each["ours"])), "steps/s", n),
        row("SB3 with DummyVecEnv", "steps", float(1 / np.median(each["theirs"])), "steps/s", n),
        row("recgym", "VecEnv over DummyVecEnv (goal 20)", float(np.median(each["theirs"] / each["ours"])), "times", n),
    ]


def _quoted() -> list[dict[str, Any]]:
    """Returns the quoted figures of other simulators."""
    return [
        row(f"{name} {version} (quoted)", setting, value, "steps/s", 1, config={"quoted": True})
        for name, version, setting, value in QUOTED
    ]
