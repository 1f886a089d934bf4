"""What an agent has lived through in sessions that are over, each decision with its discounted return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.training.replay import ReplayBuffer
from recgym.errors import DataError
from recgym.frames import Batch


class SessionReplay(ReplayBuffer):
    """The newest decisions of sessions that are over, with returns: for learners that wait until a session has ended.

    Row i of every batch must go on where row i of the batch before it stood, as the rows of an environment do. The
    return of a decision is the discounted sum of the rewards from it to the end of its session, cut off or not.

    Args:
        capacity: Decisions kept; older ones are overwritten. A session that has not ended is kept beside them.
        frame_size: F.
        seed: Seed of the sampling.
        gamma: Discount per step.

    Raises:
        DataError: if a size is below 1.

    Example:
        >>> buffer = SessionReplay(9, frame_size=1, gamma=0.5)
        >>> frame, never = (np.zeros((1, 1)), np.zeros((1, 1))), np.zeros(1, dtype=bool)
        >>> for reward in (4.0, 2.0, 1.0):
        ...     ended = np.array([reward == 1.0])
        ...     buffer.add(Batch(np.zeros(1), *frame, np.zeros(1), np.array([reward]), *frame, never, ended))
        >>> buffer.columns.returns[:3].tolist()
        [5.25, 2.5, 1.0]
    """

    def __init__(self, capacity: int, frame_size: int, seed: int = 0, *, gamma: float) -> None:
        super().__init__(capacity, frame_size, seed)
        self.gamma = gamma
        self.columns = self.columns._replace(returns=np.zeros(capacity, dtype=np.float32))
        self._open: list[Batch] = []  # batches in which a session stands that has not ended
        self._age = np.zeros(0, dtype=np.int64)  # (B,) of how many of them, the newest, each row's session is made

    def add(self, batch: Batch) -> None:
        """Keeps the B decisions of a batch; they can be sampled once their sessions have ended.

        Raises:
            DataError: if B is not that of the batch before, or a session exceeds the capacity.
        """
        n = len(batch.action)
        if self._open and n != len(self._age):
            raise DataError(
                f"every batch must go on with the same rows, got {n} after {len(self._age)}; use a buffer for each "
                "environment"
            )
        self._age = self._age + 1 if self._open else np.ones(n, dtype=np.int64)
        self._open.append(Batch(*(None if column is None else np.array(column) for column in batch)))
        for row in np.flatnonzero(batch.terminated | batch.truncated).tolist():
            self._close(row, self._open[-self._age[row] :])
            self._age[row] = 0
        self._open = self._open[len(self._open) - int(self._age.max()) :]

    def _close(self, row: int, steps: list[Batch]) -> None:
        """Keeps the decisions of a row's session with their returns."""
        columns = {
            name: np.stack([getattr(step, name)[row] for step in steps])
            for name, column in self.columns._asdict().items()
            if column is not None and name != "returns"
        }
        returns, later = np.zeros(len(steps), dtype=np.float32), 0.0
        for place in reversed(range(len(steps))):
            returns[place] = later = float(columns["reward"][place]) + self.gamma * later
        self.keep(Batch(**columns, returns=returns))

    def state_dict(self) -> dict[str, Any]:
        """Returns the decisions, those of open sessions too, and the random stream: arrays and JSON values."""
        steps = [{k: v for k, v in step._asdict().items() if v is not None} for step in self._open]
        return super().state_dict() | {"open": steps, "age": self._age}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the decisions of a buffer of the same capacity and frame size.

        Raises:
            DataError: if the sizes differ.
        """
        super().load_state_dict(state)
        self._open = [Batch(**{name: np.asarray(v) for name, v in step.items()}) for step in state["open"]]
        self._age = np.asarray(state["age"], dtype=np.int64)


def returns_buffer(gamma: float, capacity: int, frame_size: int, seed: int = 0) -> ReplayBuffer:
    """Returns a buffer whose decisions have returns so discounted; with `gamma=0` rewards are all there is to learn."""
    if gamma == 0.0:
        return ReplayBuffer(capacity, frame_size, seed)
    return SessionReplay(capacity, frame_size, seed, gamma=gamma)
