"""Online training of one learner of Q5, with looks at validation sessions."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import recgym
from benchmarks.build import entry_point
from benchmarks.longterm_suite import Learner, World
from recgym.envs.registry import make_vector_env, registered
from recgym.envs.vector import RecVectorEnv
from recgym.scorers import Scorer

_LUCK = 77  # seed of users' luck in validation sessions
_APART = 1_000_000  # between the seeds of sessions that learners train in


def options_of(world: World, split: str, world_seed: int) -> dict[str, Any]:
    """Returns the options of a world's environment for the people of one part."""
    held_out = {"split": split, "test_size": world.test_size, "seed": world_seed}
    return registered(world.env_id) | dict(world.options) | held_out


def serving(options: dict[str, Any]) -> RecVectorEnv:
    """Returns the environment in which sessions are measured."""
    return make_vector_env(64, **options | {"action": "item", "observation": "history", "autoreset_mode": "Disabled"})


class Trained(NamedTuple):
    """A trained agent, its learning curve, and its state where it earned most in validation sessions."""

    agent: Scorer
    chosen: Callable[[], int]  # puts that state into the agent; returns its step
    curve: list[dict[str, float]]
    seconds: float


def train(world: World, learner: Learner, seed: int, world_seed: int = 0) -> Trained:
    """Trains a learner in the sessions of the training people of a world."""
    options = options_of(world, "train", world_seed)
    valid = serving(options)
    best: dict[str, Any] = {"step": 0, "return": -np.inf, "state": None}
    curve: list[dict[str, float]] = []
    start = time.perf_counter()

    def look(agent: Any, step: int, state: Callable[[], Any]) -> None:
        seconds = time.perf_counter() - start
        result = recgym.evaluate_sessions(agent, valid, n_sessions=world.n_valid, seed=_LUCK)
        value, low, high = result.mean_interval("session_return")
        curve.append({"step": step, "seconds": seconds, "session_return": value, "low": low, "high": high})
        print(f"    {learner.name}, seed {seed}, step {step}: {value:.2f} ({seconds:.0f} s)", flush=True)
        if value > best["return"]:
            best.update(step=step, state=copy.deepcopy(state()), **{"return": value})

    made = _with_sb3 if learner.build.startswith("stable_baselines3") else _with_ours
    agent, put_back = made(world, learner, seed, options, look)
    seconds = time.perf_counter() - start

    def chosen() -> int:
        put_back(best["state"])
        return int(best["step"])

    return Trained(agent, chosen, curve, seconds)


def _with_ours(world: World, learner: Learner, seed: int, options: dict[str, Any], look: Callable[..., None]) -> Any:
    """Returns an agent of the project trained by `fit_online`, and what puts a state back into it."""
    from agents import fit_online

    shown = "user_history" if learner.build.endswith(":DRR") else "history"
    form = {"action": learner.action, "observation": shown, "autoreset_mode": "SameStep", "k": 1}
    env = make_vector_env(learner.rows, **options | form)
    agent = entry_point(learner.build)(
        env.catalog, frame_size=env.frame_size, seed=seed, device="cpu", **learner.config
    )
    every = max(1, learner.n_steps // world.n_looks)

    def report(step: int, metrics: Mapping[str, Any]) -> None:
        if step % every == 0:
            look(agent, step, agent.state_dict)

    sizes = {name: getattr(learner, name) for name in ("batch_size", "buffer_size", "warm_up")}
    fit_online(agent, env, learner.n_steps, report, seed=_APART * (seed + 1), **sizes)
    return agent, agent.load_state_dict


def _with_sb3(world: World, learner: Learner, seed: int, options: dict[str, Any], look: Callable[..., None]) -> Any:
    """Returns a model of Stable-Baselines3 as a scorer, and what puts a state back into it."""
    from stable_baselines3.common.vec_env import VecNormalize

    from agents.integrations.sb3 import SB3Agent, SB3VecEnv

    form = {"action": learner.action, "observation": "frame", "autoreset_mode": "SameStep", "k": 1}
    env = make_vector_env(learner.rows, **options | form)
    venv = VecNormalize(SB3VecEnv(env), gamma=learner.config.get("gamma", 0.99))
    venv.seed(_APART * (seed + 1))
    model = entry_point(learner.build)("MlpPolicy", venv, seed=seed, device="cpu", **learner.config)
    agent = SB3Agent(model, env.catalog)

    def state() -> Any:
        return model.get_parameters(), venv.obs_rms

    def put_back(found: Any) -> None:
        model.set_parameters(found[0])
        venv.obs_rms = found[1]

    every = max(1, learner.n_steps // world.n_looks)
    for done in range(every, learner.n_steps + 1, every):
        model.learn(every * learner.rows, reset_num_timesteps=done == every)
        look(agent, done, state)
    return agent, put_back
