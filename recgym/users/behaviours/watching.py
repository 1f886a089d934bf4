"""Answers in minutes, paid from a budget of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown


@dataclass(frozen=True)
class WatchBudget(Part):
    """Users watch what they answer, `min(budget, length)` minutes, and leave when their budget is spent.

    After an answer: `budget += -minutes + refund * minutes * quality`; without one: `budget -= idle`. Good items thus
    lengthen the session, bad ones shorten it.

    Source: interest evolution in Ie et al. (2019), SlateQ, section 6.1, with the constants of RecSim 0.2.4.
    """

    start_budget: float = 200.0  # minutes
    length: float = 4.0  # minutes of every item
    refund: float = 0.9 / 3.4  # minutes of budget won per minute and unit of quality
    idle: float = 0.5  # minutes that a slate costs of which nothing is answered

    def __post_init__(self) -> None:
        check_within(0.0, np.inf, start_budget=self.start_budget, refund=self.refund, idle=self.idle)
        check_within(np.nextafter(0.0, 1.0), np.inf, length=self.length)

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """Least and most that an answer is worth."""
        return 0.0, self.length

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns full budgets (R, 1)."""
        return np.full((len(users), 1), self.start_budget)

    def worth(self, own: np.ndarray, shown: Shown, worth: np.ndarray, luck: Luck | None) -> np.ndarray:
        """Returns minutes (B, k), instead of what answers were worth so far."""
        return np.broadcast_to(np.clip(own, 0.0, self.length), worth.shape)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns what is left of the budgets (B, 1)."""
        minutes = shown.worth * shown.answered  # (B, k)
        change = (minutes * (self.refund * shown.quality - 1.0)).sum(axis=1)
        return own + np.where(shown.answered.any(axis=1), change, -self.idle)[:, None]

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns the minutes that are left."""
        return [Bar("budget in minutes", own[:, 0], 0.0, self.start_budget)]

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns whose budget is spent (B,) bool."""
        return own[:, 0] <= 0.0
