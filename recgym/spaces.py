"""What an environment shows: observations, their spaces, and the ids in its infos."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from recgym.catalog import Catalog
from recgym.frames import encode_frame

OBSERVATIONS = ("frame", "history")


def observation_space(
    observation: str, catalog: Catalog, frame_size: int, reward_range: tuple[float, float]
) -> spaces.Space:
    """Returns the space of one row's observation, with finite bounds.

    Args:
        observation: `"frame"` or `"history"`.
        catalog: The items.
        frame_size: F.
        reward_range: Lowest and highest reward that can enter a frame; padding has 0.
    """
    low, high = np.float32(min(reward_range[0], 0.0)), np.float32(max(reward_range[1], 0.0))
    if observation == "history":
        items = spaces.Box(0, catalog.n_items, (frame_size,), np.int32)
        return spaces.Dict({"items": items, "rewards": spaces.Box(low, high, (frame_size,), np.float32)})
    vectors, rewards = np.ones(frame_size * catalog.dim, np.float32), np.ones(frame_size, np.float32)
    lowest, highest = np.concatenate([-vectors, low * rewards]), np.concatenate([vectors, high * rewards])
    return spaces.Box(lowest, highest, dtype=np.float32)


def observe(observation: str, catalog: Catalog, items: np.ndarray, rewards: np.ndarray) -> Any:
    """Returns the observation of B rows as new arrays: states (B, F*(d+1)) or a dict of items and rewards (B, F)."""
    if observation == "history":
        return {"items": items.copy(), "rewards": rewards.copy()}
    return encode_frame(catalog.table, items, rewards)


def one_row(observation: Any, row: int) -> Any:
    """Returns the observation of one row of a batch, as a view."""
    return {key: part[row] for key, part in observation.items()} if isinstance(observation, dict) else observation[row]


def padded_ids(item_ids: np.ndarray) -> np.ndarray:
    """Returns ids (n_items + 1,) whose last, for an empty place, is -1, NaN or None; text becomes Python objects.

    (Gymnasium's checker compares arrays of infos as numbers, unless they hold objects.)
    """
    if item_ids.dtype.kind in "iub":
        return np.append(item_ids.astype(np.int64), -1)
    if item_ids.dtype.kind == "f":
        return np.append(item_ids.astype(np.float64), np.nan)
    return np.fromiter([*item_ids.tolist(), None], dtype=object, count=len(item_ids) + 1)


def scalar_ids(user_ids: np.ndarray) -> np.ndarray:
    """Returns ids (n_users,) in the type a batch of them has in infos: int64, float64, or Python objects."""
    if user_ids.dtype.kind in "iub":
        return user_ids.astype(np.int64)
    if user_ids.dtype.kind == "f":
        return user_ids.astype(np.float64)
    return np.fromiter(user_ids.tolist(), dtype=object, count=len(user_ids))


def masked_infos(columns: dict[str, np.ndarray], rows: np.ndarray | None) -> dict[str, Any]:
    """Returns infos as a vector environment gives them: every column with a mask `_name` of the rows that have it.

    Args:
        columns: By name, each (B,) or (B, k); they are not copied where all rows have them.
        rows: Which rows have an info (B,) bool, or None for all; the others hold zeros, or None in object columns.
    """
    infos: dict[str, Any] = {}
    for name, column in columns.items():
        if rows is None:
            infos[name], infos[f"_{name}"] = column, np.ones(len(column), dtype=np.bool_)
            continue
        empty = np.full(column.shape, None) if column.dtype == object and column.ndim == 1 else np.zeros_like(column)
        empty[rows] = column[rows]
        infos[name], infos[f"_{name}"] = empty, rows.copy()
    return infos
