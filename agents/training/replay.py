"""What an agent has lived through, kept as item indices and rewards: a million decisions take about 0.2 GB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.frames import Batch


class ReplayBuffer:
    """The newest `capacity` decisions, sampled uniformly with replacement. Vectors are looked up by whoever learns.

    Args:
        capacity: Decisions kept; older ones are overwritten.
        frame_size: F.
        seed: Seed of the sampling.

    Raises:
        DataError: if a size is below 1.
    """

    def __init__(self, capacity: int, frame_size: int, seed: int = 0) -> None:
        if capacity < 1 or frame_size < 1:
            given = f"capacity={capacity}, frame_size={frame_size}"
            raise DataError(f"capacity and frame_size must be at least 1, got {given}; give larger ones")
        frames, flags = (capacity, frame_size), (capacity,)
        self.columns = Batch(
            user=np.zeros(flags, dtype=np.int64),
            items=np.zeros(frames, dtype=np.int32),
            rewards=np.zeros(frames, dtype=np.float32),
            action=np.zeros(flags, dtype=np.int32),
            reward=np.zeros(flags, dtype=np.float32),
            next_items=np.zeros(frames, dtype=np.int32),
            next_rewards=np.zeros(frames, dtype=np.float32),
            terminated=np.zeros(flags, dtype=np.bool_),
            truncated=np.zeros(flags, dtype=np.bool_),
        )
        self.capacity = capacity
        self.added = 0  # decisions ever added
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, batch: Batch) -> None:
        """Keeps the B decisions of a batch; B may not exceed the capacity.

        Raises:
            DataError: if B exceeds the capacity.
        """
        self.keep(batch)

    def keep(self, batch: Batch) -> None:
        """Does what `add` does, of decisions whose returns are known, where they are asked for: those of a log."""
        n = len(batch.action)
        if n > self.capacity:
            raise DataError(f"a batch must fit into the capacity of {self.capacity}, got {n} decisions; raise capacity")
        places = (self.added + np.arange(n)) % self.capacity
        for column, values in zip(self.columns, batch, strict=True):
            if column is not None:
                column[places] = values
        self.added += n

    def sample(self, batch_size: int) -> Batch:
        """Returns decisions drawn uniformly with replacement, as NumPy arrays.

        Raises:
            DataError: if there is none.
        """
        if not self.added:
            raise DataError("a buffer must hold decisions before one can sample, got an empty one; add some first")
        rows = self._random.integers(len(self), size=batch_size)
        return type(self.columns)(*(None if column is None else column[rows] for column in self.columns))

    def state_dict(self) -> dict[str, Any]:
        """Returns the decisions and the random stream: arrays and JSON values."""
        columns = {name: column[: len(self)] for name, column in self.columns._asdict().items() if column is not None}
        return {"columns": columns, "added": self.added, "random": self._random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the decisions of a buffer of the same capacity and frame size.

        Raises:
            DataError: if the sizes differ.
        """
        given, own = np.shape(state["columns"]["items"]), self.columns.items.shape
        if given[1] != own[1] or given[0] != min(state["added"], self.capacity):
            raise DataError(
                f"the state must be of a buffer of capacity and frame size {own}, got frames {given} of "
                f"{state['added']} decisions; make the buffer as it was when it was saved"
            )
        for name, values in state["columns"].items():
            getattr(self.columns, name)[: len(values)] = np.asarray(values)
        self.added = int(state["added"])
        self._random.bit_generator.state = state["random"]
