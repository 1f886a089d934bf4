"""Histories, frames and batches of logged decisions: indices, rewards and lengths; vectors are looked up last."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

KEYS = ("item_history", "reward_history")  # parts of an observation of indices
OLD_KEYS = ("items", "rewards")  # their names in `-v0` of ids that have a `-v1`; torch's ModuleDict takes no "items"


def observed(observation: Any) -> tuple[Any, Any]:
    """Returns items (None where they are vectors) and rewards (B, F) of a Dict observation of any version of an id."""
    items, rewards = KEYS if KEYS[1] in observation else OLD_KEYS
    return observation.get(items), observation[rewards]


class History(NamedTuple):
    """What a scorer or an agent is asked about: B pasts, padded on the left, so the newest event is the last column.

    Arrays are NumPy or torch. Padding is item index n_items with reward 0. An agent that looks at frames takes the
    last F columns; one that wants it all takes all.
    """

    items: Any  # (B, L) int item indices, oldest first
    rewards: Any  # (B, L) float32
    length: Any  # (B,) int: how many of the last columns are real
    user: Any = None  # (B,) int user index in the log it came from, or None
    time: Any = None  # (B,) int64 seconds since 1970 at which the recommendation is made, or None


class Batch(NamedTuple):
    """B logged decisions. State is the frame (items, rewards) before, action the item consumed next."""

    user: Any  # (B,) int user index
    items: Any  # (B, F) int: the frame before the action, oldest first, padded on the left with n_items
    rewards: Any  # (B, F) float32
    action: Any  # (B,) int item index
    reward: Any  # (B,) float32
    next_items: Any  # (B, F): items[1:] and the action
    next_rewards: Any  # (B, F)
    terminated: Any  # (B,) bool: the user's story ended; stops bootstrapping
    truncated: Any  # (B,) bool: the log ended here; does not
    length: Any = None  # (B,) int: real events in the frame; None means all F
    returns: Any = None  # (B,) float32 discounted return from this decision on, where asked for
    propensity: Any = None  # (B,) float32 probability with which the action was shown, where logged


def encode_frame(table: Any, items: Any, rewards: Any) -> Any:
    """Returns states (B, F*(d+1)): all F item vectors oldest first, then all F rewards oldest first.

    This is RecNN's layout; with F=10 and d=128 a state has 1290 numbers. Works on NumPy arrays and on torch tensors,
    on any device, as long as the three agree.

    Args:
        table: Item vectors with the padding row last (n_items + 1, d).
        items: Item indices (B, F), padding n_items.
        rewards: Rewards (B, F).

    Example:
        >>> table = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])  # two items and the padding
        >>> encode_frame(table, np.array([[2, 0, 1]]), np.array([[0.0, 0.5, -0.5]])).tolist()
        [[0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.5, -0.5]]
    """
    xp = array_namespace(table, items, rewards)
    n_rows, frame_size = items.shape
    vectors = xp.reshape(table[items], (n_rows, frame_size * table.shape[1]))  # (B, F*d)
    return xp.concat([vectors, xp.astype(rewards, vectors.dtype)], axis=1)  # (B, F*(d+1))


def last_events(history: History, frame_size: int, padding: int) -> tuple[Any, Any]:
    """Returns the frame of each history: items (B, F) and rewards (B, F), padded on the left where it is shorter.

    Args:
        history: B pasts, padded on the left.
        frame_size: F.
        padding: Index that means "no item": n_items.
    """
    xp = array_namespace(history.items, history.rewards)
    items, rewards = history.items[:, -frame_size:], history.rewards[:, -frame_size:]
    missing = frame_size - items.shape[1]
    if missing > 0:
        shape = (items.shape[0], missing)
        items = xp.concat([xp.full(shape, padding, dtype=items.dtype, device=_device(items)), items], axis=1)
        rewards = xp.concat([xp.zeros(shape, dtype=rewards.dtype, device=_device(rewards)), rewards], axis=1)
    return items, rewards


def _device(array: Any) -> Any:
    return None if isinstance(array, np.ndarray) else array.device
