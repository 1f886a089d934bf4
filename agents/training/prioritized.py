"""Replay by priority: decisions whose value was far off are drawn more often, and each draw of them counts less.

Paper: Schaul et al. (2016), Prioritized experience replay, ICLR, algorithm 1, its proportional variant:
    P(i) = p_i**alpha / sum_j p_j**alpha       p_i = |TD error of decision i when last learned from| + epsilon
    w_i  = (N * P(i))**-beta / max_j w_j       the maximum over the batch; beta rises from its first value to 1
A decision that was never drawn has the highest priority so far. Draws are stratified: one from each B-th of the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agents.training.replay import ReplayBuffer
from recgym.errors import DataError
from recgym.frames import Batch


class Drawn(Batch):
    """A batch drawn by priority; an agent that knows no priorities learns from it as from any other."""

    weight: np.ndarray  # (B,) float32 what each decision counts, the largest 1
    places: np.ndarray  # (B,) int64 where they stand in the buffer
    buffer: PrioritizedReplay

    def tell(self, errors: Any) -> None:
        """Tells the buffer the TD errors (B,) of these decisions: they are their priorities from now on."""
        self.buffer.tell(self.places, errors)


class PrioritizedReplay(ReplayBuffer):
    """The newest `capacity` decisions, drawn in proportion to how wrong their values were.

    For learning from a log, fill it with the log's batches, then `fit(agent, buffer.endless(256), n_steps)`.

    Args:
        capacity: Decisions kept; older ones are overwritten.
        frame_size: F.
        seed: Seed of the sampling.
        alpha: How much priorities say, 0 (nothing: uniform) or more.
        beta: How much importance weights make up for it in the beginning, in 0..1.
        beta_steps: Batches until they make up for all of it.
        epsilon: Priority of a decision without error.

    Raises:
        DataError: if an option is out of range.
    """

    def __init__(
        self,
        capacity: int,
        frame_size: int,
        seed: int = 0,
        *,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_steps: int = 100_000,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__(capacity, frame_size, seed)
        if alpha < 0 or not 0 <= beta <= 1 or beta_steps < 1 or epsilon <= 0:
            raise DataError(
                "alpha must be at least 0, beta lie in 0..1, beta_steps be at least 1 and epsilon above 0, got "
                f"{alpha}, {beta}, {beta_steps} and {epsilon}; alpha=0 draws uniformly"
            )
        self.alpha, self.beta, self.beta_steps, self.epsilon = alpha, beta, beta_steps, epsilon
        self.tree = SumTree(capacity)  # of p_i**alpha
        self.highest = 1.0  # the highest priority so far
        self.batches = 0  # drawn so far

    def keep(self, batch: Batch) -> None:
        """Keeps the B decisions of a batch, with the highest priority so far; B may not exceed the capacity.

        Raises:
            DataError: if B exceeds the capacity.
        """
        super().keep(batch)
        n = len(batch.action)
        self.tree.set((self.added - n + np.arange(n)) % self.capacity, self.highest**self.alpha)

    def sample(self, batch_size: int) -> Drawn:
        """Returns decisions drawn by priority with replacement, as NumPy arrays, and what each counts.

        Raises:
            DataError: if there is none.
        """
        if not self.added:
            raise DataError("a buffer must hold decisions before one can sample, got an empty one; add some first")
        part = (np.arange(batch_size) + self._random.random(batch_size)) / batch_size  # (B,) one in each B-th
        places = self.tree.find(part * self.tree.total)
        share = self.tree[places] / self.tree.total  # (B,) P(i)
        beta = self.beta + (1.0 - self.beta) * min(self.batches / self.beta_steps, 1.0)
        weight = (len(self) * share) ** -beta
        self.batches += 1
        drawn = Drawn(*(None if column is None else column[places] for column in self.columns))
        drawn.weight, drawn.places, drawn.buffer = (weight / weight.max()).astype(np.float32), places, self
        return drawn

    def endless(self, batch_size: int) -> Iterator[Drawn]:
        """Yields one drawn batch after the other; what to save and resume with is the buffer."""
        while True:
            yield self.sample(batch_size)

    def tell(self, places: np.ndarray, errors: Any) -> None:
        """Makes TD errors (B,), an array or a tensor on the CPU, the priorities of the decisions at `places`.

        Raises:
            DataError: if an error is not finite.
        """
        priorities = np.abs(np.asarray(errors, dtype=np.float64)) + self.epsilon  # (B,)
        wrong = np.count_nonzero(~np.isfinite(priorities))
        if wrong:
            raise DataError(
                f"TD errors must be finite, got {priorities[~np.isfinite(priorities)][0]} ({wrong} of "
                f"{len(priorities)}); learn in smaller steps, or shorten gradients"
            )
        self.tree.set(places, priorities**self.alpha)
        self.highest = max(self.highest, float(priorities.max()))

    def state_dict(self) -> dict[str, Any]:
        """Returns the decisions with their priorities, and the random stream: arrays and JSON values."""
        own = {"priorities": self.tree[np.arange(len(self))], "highest": self.highest, "batches": self.batches}
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the decisions of a buffer of the same capacity and frame size.

        Raises:
            DataError: if the sizes differ.
        """
        super().load_state_dict(state)
        self.tree = SumTree(self.capacity)
        self.tree.set(np.arange(len(self)), np.asarray(state["priorities"]))
        self.highest, self.batches = float(state["highest"]), int(state["batches"])


class SumTree:
    """Numbers of 0 or more whose sum is at hand, and where a share of that sum is reached, both in log2(n) steps.

    Node i is the sum of nodes 2 i and 2 i + 1; the numbers are the leaves. Nodes are always added up anew from below,
    never moved by differences, so that nothing drifts.

    Example:
        >>> tree = SumTree(3)
        >>> tree.set(np.arange(3), np.array([1.0, 0.0, 3.0]))
        >>> tree.total, tree.find(np.array([0.5, 1.5, 3.9])).tolist()
        (4.0, [0, 2, 2])
    """

    def __init__(self, n: int) -> None:
        self.first_leaf = 1 << max(n - 1, 0).bit_length()
        self.nodes = np.zeros(2 * self.first_leaf)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        numbers: np.ndarray = self.nodes[self.first_leaf + places]
        return numbers

    @property
    def total(self) -> float:
        """The sum of all numbers."""
        return float(self.nodes[1])

    def set(self, places: np.ndarray, numbers: np.ndarray | float) -> None:
        """Puts numbers (B,) at places (B,); of a place that is named twice the last counts."""
        nodes = self.first_leaf + places
        self.nodes[nodes] = numbers
        for _ in range(self.first_leaf.bit_length() - 1):
            nodes = nodes // 2
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, sums: np.ndarray) -> np.ndarray:
        """Returns the places (B,) int64 at which the running sum passes `sums` (B,); never one that holds 0."""
        nodes = np.ones(len(sums), dtype=np.int64)
        for _ in range(self.first_leaf.bit_length() - 1):
            left = self.nodes[2 * nodes]
            right = (sums >= left) & (self.nodes[2 * nodes + 1] > 0)  # rounding leads into no empty half
            sums = np.where(right, sums - left, sums)
            nodes = 2 * nodes + right
        return nodes - self.first_leaf
