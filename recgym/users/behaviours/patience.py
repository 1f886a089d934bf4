"""Leaving after too little joy, or by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown


@dataclass(frozen=True)
class Patience(Part):
    """Users leave when less than 1 is left of their patience.

    It begins at `start_patience`; a slate that earns less than `step` costs `step - earned`.

    Source: the temper of KuaiSim (Zhao et al. 2023), whose `step` is 2, and mean over the slate a sum here.
    """

    start_patience: float = 10.0
    step: float = 1.0

    def __post_init__(self) -> None:
        check_within(1.0, np.inf, start_patience=self.start_patience)
        check_within(0.0, np.inf, step=self.step)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns full patience (R, 1)."""
        return np.full((len(users), 1), self.start_patience)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns patience (B, 1) after the answers."""
        joy = (shown.worth * shown.answered).sum(axis=1, keepdims=True)
        return own + np.minimum(joy - self.step, 0.0)

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns the patience that is left."""
        return [Bar("patience", own[:, 0], 0.0, self.start_patience)]

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns whose patience is spent (B,) bool."""
        return own[:, 0] < 1.0


@dataclass(frozen=True)
class Distraction(Part):
    """Users leave after any slate with the same probability, so that lengths of sessions are geometric.

    Source: the leaving of SUBER (Corecco et al. 2024), 0.025 there.
    """

    probability: float = 0.025

    def __post_init__(self) -> None:
        check_within(0.0, 1.0, probability=self.probability)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns who has left (R, 1): nobody."""
        return np.zeros((len(users), 1))

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns who leaves now (B, 1), 1 or 0."""
        return (luck.uniform(1) < self.probability).astype(np.float64)

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns who leaves (B,) bool."""
        return own[:, 0] > 0
