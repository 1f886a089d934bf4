"""A contract checker for vector environments, anyone's: Gymnasium has one for single environments only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

_RESERVED = ("final_obs", "final_info")


def check_vector_env(
    env: VectorEnv, n_steps: int = 200, seed: int = 0, single: Callable[[], gym.Env] | None = None
) -> None:
    """Raises AssertionError, saying what is wrong, unless `env` keeps Gymnasium's contract for vector environments.

    Checked: spaces are batches of the single ones; the autoreset mode stands in a metadata of the instance's own and as
    an attribute; observations, rewards, flags and infos have their shapes, types and masks; nothing that was returned
    shares memory with a later one or changes under it; the same seed gives the same run; after an end the environment
    does what its autoreset mode says, with final observations; a partial reset needs a proper mask and leaves the other
    rows as they are.

    Args:
        env: The environment, in one of the three autoreset modes. It is reset and stepped, not closed.
        n_steps: Steps with random actions; some session should end within them, or the mode cannot be checked.
        seed: Seed of resets and actions.
        single: Makes the environment of one row; if given, row i must equal it seeded `seed + i`, infos included.
    """
    assert isinstance(env, VectorEnv), f"env must be a vector environment, got {type(env).__name__}; see gym.make_vec"
    _check_attributes(env)
    mode = env.metadata["autoreset_mode"]
    first = _play(env, n_steps, seed)
    assert_same(first, _play(env, n_steps, seed), "two runs of one seed")
    ended = any((step[2] | step[3]).any() for step in first[1:])
    assert ended, f"some session must end within n_steps={n_steps}, got none; pass more steps"
    if mode == AutoresetMode.DISABLED:
        _check_masks(env, seed)
        _check_neighbours(env, seed)
    if single is not None:
        _check_singles(env, [single() for _ in range(env.num_envs)], n_steps, seed)


def _check_attributes(env: VectorEnv) -> None:
    for name in ("action_space", "observation_space"):
        single, batch = getattr(env, f"single_{name}"), getattr(env, name)
        assert batch == batch_space(single, env.num_envs), f"{name} must be the batch of single_{name}, got {batch}"
    mode = env.metadata.get("autoreset_mode")
    assert isinstance(mode, AutoresetMode), f"metadata['autoreset_mode'] must be an AutoresetMode, got {mode!r}"
    said = getattr(env.unwrapped, "autoreset_mode", None)  # wrappers do not pass it on
    assert said == mode, f"the attribute autoreset_mode must equal the one in metadata, {mode}, got {said!r}"
    shared = [
        cls.__name__ for cls in type(env.unwrapped).__mro__ if vars(cls).get("metadata") is env.unwrapped.metadata
    ]
    assert not shared, f"metadata must be the instance's own, got that of class {shared}; copy it in the constructor"


def _play(env: VectorEnv, n_steps: int, seed: int) -> list[tuple]:
    """Returns copies of what a run gave, after checking each return on its own and against the last few."""
    env.action_space.seed(seed)
    mode = env.metadata["autoreset_mode"]
    returned: tuple = env.reset(seed=seed)
    _check_observation(env, returned[0])
    _check_infos(env, returned[1], np.ones(env.num_envs, dtype=bool))
    played = [deepcopy(returned)]
    latest = deque([(returned, played[0])], maxlen=4)
    done = np.zeros(env.num_envs, dtype=bool)
    for _ in range(n_steps):
        step = env.step(env.action_space.sample())
        _check_step(env, step)
        _check_memory(latest, step)
        if mode == AutoresetMode.NEXT_STEP:
            _check_next_step(step, done)
        _check_finals(env, step, mode)
        done = step[2] | step[3]
        returned, kept = step, deepcopy(step)
        if mode == AutoresetMode.DISABLED and done.any():
            observation, infos = env.reset(options={"reset_mask": done.copy()})
            _check_partial(env, step[0], observation, infos, done)
            returned = (observation, *step[1:4], infos)
            kept = (deepcopy(observation), *kept[1:4], deepcopy(infos))
        played.append(kept)
        latest.append((returned, kept))
    return played


def _check_observation(env: VectorEnv, observation: Any) -> None:
    assert env.observation_space.contains(observation), "every observation must lie in observation_space"


def _check_step(env: VectorEnv, step: tuple) -> None:
    observation, rewards, terminations, truncations, infos = step
    _check_observation(env, observation)
    for name, flags in (("terminations", terminations), ("truncations", truncations)):
        fine = isinstance(flags, np.ndarray) and flags.dtype == np.bool_ and flags.shape == (env.num_envs,)
        assert fine, f"{name} must be a NumPy bool array ({env.num_envs},), got {flags!r}"
    fine = isinstance(rewards, np.ndarray) and rewards.shape == (env.num_envs,) and rewards.dtype.kind == "f"
    assert fine, f"rewards must be a NumPy float array ({env.num_envs},), got {rewards!r}"
    assert np.isfinite(rewards).all(), f"rewards must be finite, got {rewards}"
    _check_infos(env, {name: value for name, value in infos.items() if name.lstrip("_") not in _RESERVED}, None)


def _check_infos(env: VectorEnv, infos: Any, rows: np.ndarray | None, around: np.ndarray | None = None) -> None:
    """Every key has a mask `_key`, or that `around` its dict; with `rows` (B,) bool given, every mask is that."""
    assert isinstance(infos, dict), f"infos must be a dict, got {type(infos).__name__}"
    for name, value in infos.items():
        if name.startswith("_") and name[1:] in infos:
            continue
        mask = infos.get(f"_{name}", around)
        fine = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (env.num_envs,)
        assert fine, f"info {name!r} must have a mask '_{name}', a NumPy bool array ({env.num_envs},), got {mask!r}"
        assert rows is None or not (mask & ~rows).any(), f"info {name!r} must be of the rows reset, got mask {mask}"
        if isinstance(value, dict):
            _check_infos(env, value, rows, mask)
        else:
            fine = isinstance(value, np.ndarray) and value.shape[:1] == (env.num_envs,)
            assert fine, f"info {name!r} must be a NumPy array with one entry per row, got {value!r}"


def _check_memory(latest: Iterable[tuple[tuple, tuple]], step: tuple) -> None:
    """`latest` holds what was returned lately, each with a copy made at once."""
    new = _arrays(step)
    for returned, kept in latest:
        shared = any(np.may_share_memory(a, b) and np.shares_memory(a, b) for a in _arrays(returned) for b in new)
        assert not shared, "what a step returns must share no memory with what was returned before"
        assert_same(returned, kept, "a return before and after a later step")


def _check_next_step(step: tuple, done: np.ndarray) -> None:
    _, rewards, terminations, truncations, _ = step
    assert not (terminations | truncations)[done].any(), "NEXT_STEP: the step after an end must flag no end"
    assert (rewards[done] == 0).all(), f"NEXT_STEP: the step after an end must have reward 0, got {rewards[done]}"


def _check_finals(env: VectorEnv, step: tuple, mode: AutoresetMode) -> None:
    infos, done = step[4], step[2] | step[3]
    if mode != AutoresetMode.SAME_STEP or not done.any():
        found = [name for name in _RESERVED if name in infos and infos[f"_{name}"].any()]
        assert not found, f"only a row that ended under SAME_STEP may have a final observation, got {found}"
        return
    for name in _RESERVED:
        assert name in infos, f"SAME_STEP: infos must hold {name!r} when a row ended"
        assert (infos[f"_{name}"] == done).all(), f"SAME_STEP: the mask of {name!r} must be that of the rows that ended"
    for row, final in enumerate(infos["final_obs"]):
        if done[row]:
            inside = env.single_observation_space.contains(final)
            assert inside, f"SAME_STEP: final_obs[{row}] must lie in single_observation_space"
        else:
            assert final is None, f"SAME_STEP: final_obs[{row}] must be None, as row {row} has not ended"
    _check_infos(env, infos["final_info"], done)


def _check_partial(env: VectorEnv, before: Any, after: Any, infos: dict, reset: np.ndarray) -> None:
    """Rows that were not reset keep their observation, and only those that were have infos."""
    _check_observation(env, after)
    _check_infos(env, infos, reset)
    old, new = _rows(env, before), _rows(env, after)
    for row in np.flatnonzero(~reset):
        assert_same(old[row], new[row], f"row {row} before and after a partial reset of others")


def _check_masks(env: VectorEnv, seed: int) -> None:
    n = env.num_envs
    for mask in (np.zeros(n, dtype=bool), np.ones(n, dtype=np.int64), np.ones(n + 1, dtype=bool), [True] * n):
        env.reset(seed=seed)
        try:
            env.reset(options={"reset_mask": mask})
        except (TypeError, ValueError, AssertionError):
            continue
        raise AssertionError(f"DISABLED: reset must refuse the reset_mask {mask!r}; check type, shape and content")


def _check_neighbours(env: VectorEnv, seed: int) -> None:
    """A row that was not reset goes on as if nobody had been, until its own end."""
    if env.num_envs < 2:
        return
    only = np.zeros(env.num_envs, dtype=bool)
    only[0] = True
    runs: list[list[tuple]] = []
    for disturbed in (False, True):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        steps: list[tuple] = []
        while not steps or not (steps[-1][2] | steps[-1][3]).any():
            if disturbed and len(steps) == 1:
                observation, infos = env.reset(options={"reset_mask": only.copy()})
                _check_partial(env, steps[0][0], observation, infos, only)
            steps.append(deepcopy(env.step(env.action_space.sample())))
        runs.append(steps)
    for number, (plain, disturbed_step) in enumerate(zip(*runs, strict=False)):
        for row in range(1, env.num_envs):
            name = f"row {row} in step {number} with and without a partial reset of row 0"
            assert_same(_rows(env, plain[0])[row], _rows(env, disturbed_step[0])[row], name)
            assert_same([part[row] for part in plain[1:4]], [part[row] for part in disturbed_step[1:4]], name)


def _check_singles(env: VectorEnv, singles: list[gym.Env], n_steps: int, seed: int) -> None:
    """Row i gives what the single environment seeded `seed + i` gives, whichever autoreset mode."""
    mode = env.metadata["autoreset_mode"]
    env.action_space.seed(seed)
    returned = env.reset(seed=seed)
    for row, one in enumerate(singles):
        _check_row(env, returned, row, one.reset(seed=seed + row))
    done = np.zeros(env.num_envs, dtype=bool)
    for _ in range(n_steps):
        actions = env.action_space.sample()
        observation, *outcome, infos = env.step(actions)
        for row, (one, action) in enumerate(zip(singles, iterate(env.action_space, actions), strict=True)):
            if mode == AutoresetMode.NEXT_STEP and done[row]:
                _check_row(env, (observation, infos), row, one.reset())
                continue
            seen, *expected, info = one.step(action)
            assert [part[row] for part in outcome] == expected, f"row {row} must equal the single env, got {outcome}"
            if mode == AutoresetMode.SAME_STEP and (expected[1] or expected[2]):
                assert_same(infos["final_obs"][row], seen, f"the last observation of row {row} and the single env's")
                _check_info(infos["final_info"], row, info)
                seen, info = one.reset()
            _check_row(env, (observation, infos), row, (seen, info))
        done = outcome[1] | outcome[2]
        if mode == AutoresetMode.DISABLED and done.any():
            returned = env.reset(options={"reset_mask": done.copy()})
            for index in np.flatnonzero(done):
                _check_row(env, returned, int(index), singles[index].reset())
    for one in singles:
        one.close()


def _check_row(env: VectorEnv, batch: tuple, row: int, single: tuple) -> None:
    assert_same(_rows(env, batch[0])[row], single[0], f"the observation of row {row} and the single environment's")
    _check_info(batch[1], row, single[1])


def _check_info(infos: dict, row: int, info: dict) -> None:
    for name, value in info.items():
        found: Any = infos[name][row] if name in infos and infos[f"_{name}"][row] else None
        same = np.array_equal(found, value) or _equal(found, value)
        assert same, f"info {name!r} of row {row} must be the single environment's {value!r}, got {found!r}"


def _rows(env: VectorEnv, observation: Any) -> list[Any]:
    return list(iterate(env.observation_space, observation))


def _arrays(data: Any) -> list[np.ndarray]:
    if isinstance(data, np.ndarray):
        return [part for one in data.flat for part in _arrays(one)] if data.dtype == object else [data]
    if isinstance(data, dict):
        data = list(data.values())
    return [part for one in data for part in _arrays(one)] if isinstance(data, (tuple, list)) else []


def assert_same(one: Any, other: Any, what: str) -> None:
    """Raises AssertionError unless two structures are equal to the bit, NaN being equal to itself."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            assert_same(one[name], other[name], f"{name!r} of {what}")
    elif isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)) and len(one) == len(other):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b, what)
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.dtype == other.dtype == object:
        assert_same(one.tolist(), other.tolist(), what)
    else:
        assert _equal(one, other), f"{what} must be equal, got {one!r} and {other!r}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (np.ndarray, dict, tuple, list)) or isinstance(other, (np.ndarray, dict, tuple, list)):
        alike = isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
    return bool(one == other) or (one != one and other != other)
