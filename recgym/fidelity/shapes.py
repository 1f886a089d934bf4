"""Simulators of other shapes as Gymnasium's (Gym 0.2x, RecSim's slates, functions that rate), and sessions in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError


class Played(NamedTuple):
    """Sessions played by random items: one entry per step, in order."""

    session: np.ndarray
    step: np.ndarray
    item: np.ndarray
    reward: np.ndarray
    ended: np.ndarray  # (n,) bool: terminated by the simulator
    repeat: np.ndarray  # (n,) bool: the item was shown before in the session
    told: np.ndarray  # (n, m) numbers that stood in observation and infos before the step, NaN where there was none
    seconds: float


class Shaped:
    """A simulator of another shape as Gymnasium's."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.rates = not hasattr(made, "step")
        space = getattr(made, "action_space", None)
        inner = getattr(space, "nvec", None)  # RecSim: a slate of k items
        self.slate = 0 if inner is None else len(inner)
        self.n_items = int(inner[0]) if inner is not None else int(getattr(space, "n", getattr(made, "n_items", 0)))
        if self.n_items < 1 or (self.rates and not callable(made)):
            raise DataError(
                f"a simulator must have step() and a Discrete or MultiDiscrete action_space, or be a function "
                f"rate(items_so_far, item) with an attribute n_items, got {type(made).__name__}; wrap it"
            )
        asked = [] if self.rates else list(signature(made.reset).parameters.values())
        self.takes_seed = any(one.name == "seed" or one.kind is Parameter.VAR_KEYWORD for one in asked)
        self.shown: list[int] = []

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins a session."""
        self.shown = []
        if self.rates:
            return None, {}
        if self.takes_seed:
            given = self.made.reset(seed=seed)
        else:
            if seed is not None and hasattr(self.made, "seed"):
                self.made.seed(seed)
            given = self.made.reset()
        two = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)
        return given if two else (given, {})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Shows an item."""
        item = int(action)
        if self.rates:
            reward = float(self.made(list(self.shown), item))
            self.shown.append(item)
            return None, reward, False, False, {}
        slate = item if not self.slate else np.resize((item + np.arange(self.slate)) % self.n_items, self.slate)
        given = self.made.step(slate)
        if len(given) == 4:  # Gym before 0.26
            observation, reward, done, info = given
            cut = bool(info.get("TimeLimit.truncated", False)) if isinstance(info, dict) else False
            return observation, float(reward), bool(done) and not cut, cut, info if isinstance(info, dict) else {}
        observation, reward, terminated, truncated, info = given
        return observation, float(reward), bool(terminated), bool(truncated), info


def as_gymnasium(simulator: Any) -> Shaped:
    """Returns what has Gymnasium's `reset` and `step` over item indices.

    Takes Gymnasium environments; Gym-0.2x ones, whose `reset` returns an observation alone and whose `step` returns
    four values; RecSim-shaped ones, whose action is a slate (the item asked for is put first, its followers by index
    behind it); and functions `rate(items_so_far, item) -> reward` with an attribute `n_items`.

    Raises:
        DataError: if it is none of these.
    """
    return Shaped(simulator)


def play(env: Shaped, items: np.ndarray, seed: int) -> Played:
    """Plays the sessions of items (n, T)."""
    rows: list[tuple[Any, ...]] = []
    told: list[np.ndarray] = []
    begun = time.perf_counter()
    for session, sequence in enumerate(items):
        observation, info = env.reset(seed=seed + session)
        met: set[int] = set()
        for step, item in enumerate(sequence):
            told.append(np.append(_of_item(int(item), env.n_items, observation, info), _numbers(observation, info)))
            observation, reward, terminated, truncated, info = env.step(item)
            if not np.isfinite(reward):
                raise DataError(f"rewards must be finite, got {reward} for item {item} at step {step}; mend it")
            rows.append((session, step, int(item), reward, terminated, int(item) in met))
            met.add(int(item))
            if terminated or truncated:
                break
    seconds = time.perf_counter() - begun
    width = max((len(one) for one in told), default=0)
    padded = np.full((len(told), width), np.nan)
    for row, one in zip(padded, told, strict=True):
        row[: len(one)] = one
    of_session, of_step, shown, rewards, ended, repeat = (np.array(column) for column in zip(*rows, strict=True))
    return Played(of_session, of_step, shown, rewards, ended, repeat, padded, seconds)


def _numbers(*parts: Any) -> np.ndarray:
    """Returns the first 64 numbers of observations and infos, in the order of their names."""
    found: list[float] = []
    stack = list(parts)[::-1]
    while stack and len(found) < 64:
        part = stack.pop()
        if isinstance(part, dict):
            stack += [part[key] for key in sorted(part, key=str, reverse=True)]
        elif isinstance(part, list | tuple):
            stack += list(part)[:64][::-1]
        elif isinstance(part, bool | int | float | np.number):
            found.append(float(part))
        elif isinstance(part, np.ndarray) and part.dtype.kind in "fiub":
            found += part.ravel()[:64].astype(float).tolist()
    return np.array(found[:64])


def _of_item(item: int, n_items: int, *parts: Any) -> float:
    """Returns what the first array of a number per item says of the item; NaN where there is none."""
    stack = list(parts)[::-1]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += [part[key] for key in sorted(part, key=str, reverse=True)]
        elif isinstance(part, np.ndarray) and part.shape == (n_items,) and part.dtype.kind in "fiu":
            return float(part[item])
    return float("nan")


def rewards_of(env: Shaped, items: Sequence[int], seed: int) -> np.ndarray:
    """Returns the rewards of one session of given items, up to its end."""
    env.reset(seed=seed)
    found = []
    for item in items:
        _, reward, terminated, truncated, _ = env.step(item)
        found.append(reward)
        if terminated or truncated:
            break
    return np.array(found)
