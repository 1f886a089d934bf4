"""Taste that moves towards or away from what was consumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_within
from recgym.users.behaviours.base import Luck, Part, Shown


@dataclass(frozen=True)
class InterestEvolution(Part):
    """Each answered item pulls taste towards itself, or pushes it away, the more so where there is no firm opinion.

    With `a = rest * (1 - |u|)`, per dimension, the step is `a * d * (d - u)`; it is taken forwards with probability
    `<(u + 1) / 2, d>`, else backwards; tastes stay in -1..1. Item vectors d are one-hot or alike: 0 or more, sum 1.

    Source: Ie et al. (2019), SlateQ, section 6.1, with the constants of RecSim 0.2.4 (y-intercept 0.3, x-intercept 1).
    """

    rest: float = 0.3  # step size at taste 0; it falls to nothing at -1 and 1

    def __post_init__(self) -> None:
        check_within(0.0, 1.0, rest=self.rest)

    def move(self, own: np.ndarray, shown: Shown, taste: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns tastes (B, d) after the answers, one place after the other."""
        uniform = luck.uniform(shown.slate.shape[1])
        for place in range(shown.slate.shape[1]):
            item = shown.vectors[:, place]  # (B, d)
            step = self.rest * (1.0 - np.abs(taste)) * item * (item - taste)
            towards = uniform[:, place] < ((taste + 1.0) / 2.0 * item).sum(axis=1)
            moved = np.clip(taste + np.where(towards[:, None], step, -step), -1.0, 1.0)
            taste = np.where(shown.answered[:, place, None], moved, taste)
        return taste
