"""What agents share that learn whole slates: decisions about slates, what they lived through, and a buffer of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np

from agents.training.replay import ReplayBuffer
from recgym.errors import DataError
from recgym.frames import Batch, observed


class SlateBatch(NamedTuple):
    """B decisions about slates of k items; what it shares with `recgym.frames.Batch` is named and means the same."""

    user: Any  # (B,) int user index
    items: Any  # (B, F) int: the frame before the slate
    rewards: Any  # (B, F) float32
    action: Any  # (B, k) int: the slate
    reward: Any  # (B,) float32 sum over the slate
    next_items: Any  # (B, F)
    next_rewards: Any  # (B, F)
    terminated: Any  # (B,) bool
    truncated: Any  # (B,) bool
    answered: Any  # (B, k) bool: which places were answered
    candidates: Any = None  # (B, C) int: what may be shown next, padded with n_items; None: anything
    latent: Any = None  # (B, m) float32: what the agent made the slate of, where it says so

    def beside(self, candidates: Any, latent: Any) -> SlateBatch:
        """Returns the decisions with what may be shown next, as it is now, and what slates were made of.

        Where a session was cut off, what could be shown next is taken from the one that began: it was drawn alike.
        """
        listed = None if candidates is None else np.asarray(candidates, dtype=np.int32)
        return self._replace(candidates=listed, latent=latent)


class SlateBuffer(ReplayBuffer):
    """The newest `capacity` decisions about slates; arrays are made when the first ones come, as wide as they are."""

    def __init__(self, capacity: int, frame_size: int, seed: int = 0) -> None:
        super().__init__(1, frame_size, seed)
        if capacity < 1:
            raise DataError(f"capacity must be at least 1, got {capacity}; give a larger one")
        self.capacity, self._made = capacity, False

    def keep(self, batch: Any) -> None:
        """Keeps the B decisions of a `SlateBatch`."""
        self._make(batch._asdict())
        super().keep(batch)

    def sample(self, batch_size: int) -> Any:
        """Returns decisions drawn uniformly with replacement, a `SlateBatch` of NumPy arrays."""
        return super().sample(batch_size)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the decisions of a buffer of the same capacity and frame size."""
        self._make({name: np.asarray(values) for name, values in state["columns"].items()})
        super().load_state_dict(state)

    def _make(self, arrays: Mapping[str, Any]) -> None:
        if self._made:
            return
        made = {name: arrays.get(name) for name in SlateBatch._fields}
        columns = (
            None if part is None else np.zeros((self.capacity, *part.shape[1:]), part.dtype) for part in made.values()
        )
        self.columns, self._made = cast(Batch, SlateBatch(*columns)), True


def lived_through(
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    rewards: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    infos: Mapping[str, Any],
) -> SlateBatch:
    """Returns one step of B rows under autoreset "SameStep": of rows that began anew, what stood there before."""
    shown = {name: infos[name].copy() for name in ("items", "answered", "user")}
    next_items, next_rewards = (part.copy() for part in observed(after))  # (B, F)
    for row in np.flatnonzero(terminated | truncated):
        next_items[row], next_rewards[row] = observed(infos["final_obs"][row])
        for name, column in shown.items():
            column[row] = infos["final_info"][name][row]
    return SlateBatch(
        shown["user"],
        *observed(before),
        shown["items"].astype(np.int32),
        rewards.astype(np.float32),
        next_items,
        next_rewards,
        terminated,
        truncated,
        shown["answered"],
    )
