"""Our environments as Stable-Baselines3 wants vector environments."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError

_PER_ROW = ("action_masks", "render")  # methods of a single environment that a batch answers for all its rows


class SB3VecEnv(VecEnv):
    """A `RecVectorEnv` as SB3 wants vector environments; row i equals a single environment seeded `seed + i`.

    `infos` are those of the single environment with `TimeLimit.truncated`, at an end those of the session that ended,
    with `terminal_observation`; the new session's are in `reset_infos`.

    Args:
        env: With `autoreset_mode="SameStep"`.

    Raises:
        DataError: if the autoreset mode is another.
    """

    def __init__(self, env: gym.vector.VectorEnv) -> None:
        self.env = cast(RecVectorEnv, env.unwrapped)
        if self.env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise DataError(
                f"SB3 needs an environment with autoreset_mode='SameStep', got {self.env.autoreset_mode.value!r}; "
                "make it so"
            )
        super().__init__(self.env.num_envs, self.env.single_observation_space, self.env.single_action_space)
        self._actions: Any = None

    def reset(self) -> Any:
        """Begins a session in every row, with the seeds and options set before; returns observations."""
        options = {name for row in self._options for name in row}
        if any(row.keys() != options for row in self._options):
            raise DataError(f"reset options must be the same in all rows, got {self._options}; set them for each row")
        together = {name: [row[name] for row in self._options] for name in options}
        observation, infos = self.env.reset(
            seed=self._seeds if self._seeds[0] is not None else None, options=together or None
        )
        self.reset_infos = _infos_by_row(infos)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Remembers what to do."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Does it; returns observations, rewards, ends and infos."""
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        rows = _infos_by_row(infos | {"TimeLimit.truncated": truncated & ~terminated})
        ended = np.flatnonzero(done)
        if len(ended):
            last = {name: column[ended] for name, column in infos["final_info"].items()}
            for row, info in zip(ended.tolist(), _infos_by_row(last), strict=True):
                info["TimeLimit.truncated"] = rows[row].pop("TimeLimit.truncated")
                info["terminal_observation"] = infos["final_obs"][row]
                self.reset_infos[row], rows[row] = rows[row], info
        return observation, rewards.astype(np.float32), done, rows

    def action_masks(self) -> np.ndarray:
        """Returns which items may be shown now (B, n_items) bool."""
        return self.env.action_masks()

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Returns an attribute once per row; spaces are those of one row."""
        single = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
        value = getattr(self.env, single.get(attr_name, attr_name))
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of all rows.

        Raises:
            DataError: if only some rows are asked for.
        """
        rows = list(self._get_indices(indices))
        if sorted(rows) != list(range(self.num_envs)):
            raise DataError(
                f"rows of a batch share their attributes, got {attr_name!r} for {len(rows)} of {self.num_envs} rows; "
                "set it for all of them"
            )
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Returns what a method of the single environment gives, for each row asked for.

        Raises:
            DataError: if a batch has no such method by row.
        """
        if method_name not in _PER_ROW:
            raise DataError(
                f"a method by row must be one of {', '.join(_PER_ROW)}, got {method_name!r}; call it on .env"
            )
        made = getattr(self.env, method_name)(*args, **kwargs)
        return [None if made is None else made[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """Returns False for every row: rows of a batch have no wrappers."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> list[np.ndarray | None]:
        """Returns a picture (H, W, 3) uint8 of each row, with `render_mode="rgb_array"`."""
        return self.env_method("render")


def _infos_by_row(infos: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns infos as a list of new dicts, one per row, without masks, scalars as Python's own."""
    names = [name for name in infos if not name.startswith(("_", "final_"))]
    rows: list[dict[str, Any]] = [{} for _ in infos[names[0]]]
    for name in names:  # column by column is the quickest way to many small dicts
        column = infos[name]
        for row, value in zip(rows, column.tolist() if column.ndim == 1 else column, strict=True):
            row[name] = value
    return rows


def make_vec_env(
    env_id: str, n_envs: int = 64, seed: int | None = None, *, native: bool = True, **options: Any
) -> VecEnv:
    """Returns a registered environment as a `VecEnv` of `n_envs` rows.

    Args:
        env_id: E.g. `"recgym/Synthetic-Frame-v0"`.
        n_envs: Rows.
        seed: Row i gets seed `seed + i` at the next reset.
        native: Whether the rows are one batch (`SB3VecEnv`) or single environments one after the other (`DummyVecEnv`).
        options: Of the environment.
    """
    if native:
        options["vectorization_mode"] = "vector_entry_point"
        made: VecEnv = SB3VecEnv(gym.make_vec(env_id, n_envs, autoreset_mode="SameStep", **options))
    else:
        made = DummyVecEnv([lambda: gym.make(env_id, disable_env_checker=True, **options)] * n_envs)
    if seed is not None:
        made.seed(seed)
    return made
