"""Times user models: steps a second of sessions side by side, learned and analytic, item actions and histories.

How much a learned model was trained does not change its speed, so it is trained as little as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.speed_envs import _stepper
from benchmarks.turns import ROWS, in_turns, row
from recgym.batches.tensors import best_device
from recgym.envs.registry import KINDS

SMALL: dict[str, Any] = {"n_users": 600, "dim": 16, "max_epochs": 1}
LEARNED: dict[str, dict[str, Any]] = {
    "matrix factorisation, 1 member": {"model": "mf", "n_members": 1},
    "matrix factorisation, 5 members": {"model": "mf", "n_members": 5},
    "sequential, 1 member (goal 8,000)": {"model": "sequential", "n_members": 1},
    "sequential, 3 members": {"model": "sequential", "n_members": 3},
    "sequential, 3 members, pessimism": {"model": "sequential", "n_members": 3, "pessimism": 1.0},
}
ANALYTIC = [env_id for kind in KINDS if not kind.datasets for env_id in kind.ids()]  # goal 100,000
QUOTED = 1_173  # VirtualTaobao's own step, as `benchmarks.speed_envs` says


def rows(sizes: Sequence[int] = (), quick: bool = False) -> list[dict[str, Any]]:
    """Returns the rows of the subject `users`; `sizes` is not used, `quick` runs a tenth of the steps."""
    calls = 4 if quick else 40
    common: dict[str, Any] = {
        "num_envs": ROWS,
        "autoreset_mode": "SameStep",
        "action": "item",
        "observation": "history",
    }
    made = {
        name: gym.make_vec("recgym/Synthetic-Sim-v0", **common, **SMALL, **options) for name, options in LEARNED.items()
    }
    made |= {f"{env_id} (goal 100,000)": gym.make_vec(env_id, **common) for env_id in ANALYTIC}
    devices = dict.fromkeys(made, "cpu")
    if best_device() == "cuda":
        name = "sequential, 3 members, CUDA"
        options = SMALL | LEARNED["sequential, 3 members"] | {"device": "cuda"}
        made[name] = gym.make_vec("recgym/Synthetic-Sim-v0", **common, **options)
        devices[name] = "cuda"
    seconds = in_turns({name: _stepper(env, env.action_space.sample, calls) for name, env in made.items()})
    found = [
        row("recgym", name, float(calls * ROWS / np.median(seconds[name])), "steps/s", ROWS) | {"device": devices[name]}
        for name in made
    ]
    for env in made.values():
        env.close()
    return [*found, row("VirtualTaobao (quoted)", "env.step", QUOTED, "steps/s", 1, config={"quoted": True})]
