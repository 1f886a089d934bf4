"""The environment of one session at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from recgym.catalog import Catalog
from recgym.envs.render import METADATA
from recgym.envs.spaces import one_row
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError

if TYPE_CHECKING:
    from recgym.users.base import UserModel

__all__ = ["RecEnv", "RecVectorEnv"]


class RecEnv(gym.Env):
    """One session at a time: a `RecVectorEnv` of one row, which see for spaces, rewards, ends and options.

    Types are Gymnasium's: a float reward, bool flags, infos without masks. A step after the end is an error.
    """

    metadata = METADATA

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        self.rows = RecVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **options)
        self.rows._masked = self.rows._infos.masked = False
        self.metadata = dict(METADATA)  # old versions of SyncVectorEnv write into it
        self.render_mode = render_mode
        self.observation_space = self.rows.single_observation_space
        self.action_space = self.rows.single_action_space

    @property
    def users(self) -> UserModel:
        """The user model."""
        return self.rows.users

    @property
    def catalog(self) -> Catalog:
        """The items."""
        return self.rows.catalog

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins a session; `options={"user": index}` says with whom."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise DataError("a single environment has no rows to choose, got option 'reset_mask'; reset without it")
        if seed is None and not self.rows.seeded:
            seed = self.np_random_seed
        observation, infos = self.rows.reset(seed=seed, options=options)
        return one_row(observation, 0), _one_info(infos)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Shows what the action asks for."""
        observation, rewards, terminated, truncated, infos = self.rows.step(np.asarray(action)[None])
        return one_row(observation, 0), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _one_info(infos)

    def render(self) -> Any:
        """Returns a picture (H, W, 3) uint8 or text, by `render_mode`."""
        pictures = self.rows.render()
        return None if pictures is None else pictures[0]

    def candidates(self) -> np.ndarray | None:
        """Returns the items that the user model lets be shown now (C,), padded with n_items; None: all of them."""
        listed = self.rows.candidates()
        return None if listed is None else np.asarray(listed)[0]

    def action_masks(self) -> np.ndarray:
        """Returns which items may be shown now (n_items,) bool."""
        return self.rows.action_masks()[0]


def _one_info(infos: dict[str, Any]) -> dict[str, Any]:
    columns = infos.items()
    return {name: one[0] if one.ndim > 1 else one.item(0) for name, one in columns if not name.startswith("_")}
