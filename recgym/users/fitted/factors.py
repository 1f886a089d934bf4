"""Answers by matrix factorisation: parameters of an ensemble, and what each member makes of a user and an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns `1 / (1 + exp(-x))`, without overflow, in the type of x."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


@dataclass(frozen=True, eq=False)
class Factors:
    """M matrix factorisations with biases; the chance of at most level l is `sigmoid(t_l - <p_u, q_i>)`.

    Biases stand in the vectors: p ends in (bias, 1), q in (1, bias). What a user did does not change the answers, so
    nothing is remembered of a session.

    Attributes:
        users: p (n_users, M, d + 2) float32.
        items: q (n_items, M, d + 2) float32.
        thresholds: t (M, L - 1) float32, ascending.
    """

    users: np.ndarray
    items: np.ndarray
    thresholds: np.ndarray

    kind = "mf"
    memory_size = 0

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], options: Mapping[str, Any], device: str) -> Factors:
        """Returns what `arrays` gave."""
        return cls(arrays["users"], arrays["items"], arrays["thresholds"])

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all parameters by name."""
        return {"users": self.users, "items": self.items, "thresholds": self.thresholds}

    def opening(self, users: np.ndarray) -> np.ndarray:
        """Returns what is remembered of users (R,) as a session opens (R, 0)."""
        return np.zeros((len(users), 0), dtype=np.float32)

    def of_history(self, items: np.ndarray, levels: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Returns what is remembered of pasts (B, T), padded on the left (B, 0)."""
        return np.zeros((len(items), 0), dtype=np.float32)

    def after(self, memory: np.ndarray, items: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Returns what is remembered after one more answer each: nothing."""
        return memory

    def below(self, memory: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns every member's chance that the answer is at most level 0, 1, ... L - 2 (B, k, M, L - 1) float32.

        Args:
            memory: Not looked at.
            users: (B,) int.
            items: (B, k) int, below n_items.
        """
        score = (self.users[users][:, None] * self.items[items]).sum(axis=3)  # (B, k, M): the same for any B
        return sigmoid(self.thresholds - score[:, :, :, None])

    def below_all(self, memory: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Returns the same for every item (B, n_items, M, L - 1), quicker, and rounded differently."""
        score = np.matmul(self.items.transpose(1, 0, 2), self.users[users].transpose(1, 2, 0))  # (M, n_items, B)
        return sigmoid(self.thresholds - score.transpose(2, 1, 0)[:, :, :, None])
