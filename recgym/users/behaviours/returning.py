"""Visits, and days until the next one: joy brings users back sooner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_finite, check_sizes, check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown


@dataclass(frozen=True)
class Returning(Part):
    """Users stay away for some days after every visit of `visit` slates, and come back while the calendar lasts.

    The days are geometric, 10 at most, of success probability `clip(base + weight * mean joy of the visit, 0.001,
    0.999)`. Who is happy comes more often within the `days`, so what is earned grows with retention.

    Source: the cross-session retention of KuaiSim (Zhao et al. 2023), its user bias a constant.
    """

    days: float = 30.0  # the calendar
    visit: int = 5
    base: float = 0.1
    weight: float = 0.6

    def __post_init__(self) -> None:
        check_sizes(visit=self.visit)
        check_within(1.0, np.inf, days=self.days)
        check_within(0.0, 1.0, base=self.base)
        check_within(0.0, np.inf, weight=self.weight)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns memories (R, 3): slates and joy of the visit, and the day."""
        return np.zeros((len(users), 3))

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns memories (B, 3) after the answers, at the next visit where one is over."""
        slates, joy = own[:, 0] + 1, own[:, 1] + (shown.worth * shown.answered).sum(axis=1)
        success = np.clip(self.base + self.weight * joy / slates, 0.001, 0.999)
        away = np.ceil(np.log1p(-luck.uniform(1)[:, 0]) / np.log1p(-success))  # geometric, by inversion
        over = slates >= self.visit
        day = own[:, 2] + np.where(over, np.clip(away, 1.0, 10.0), 0.0)
        return np.stack([np.where(over, 0.0, slates), np.where(over, 0.0, joy), day], axis=1)

    def day(self, own: np.ndarray) -> np.ndarray:
        """Returns the day (B,)."""
        return own[:, 2]

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns the day, and the slates of the visit."""
        return [Bar("day", own[:, 2], 0.0, self.days), Bar("slates of this visit", own[:, 0], 0.0, self.visit)]

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns for whom the calendar is over (B,) bool."""
        return own[:, 2] >= self.days


@dataclass(frozen=True)
class Retention(Part):
    """Users stay away after every visit of `visit` slates for days that depend on the quality of what they answered.

    The days are geometric, `most` at most, of success probability `sigmoid(base + weight * worth)`, with the worth of a
    visit the mean over its slates of the quality of what was answered, 0 where nothing was. Who stays away for `most`
    days, or until the calendar is over, is gone.

    Memory: slates and quality of the visit, the day, days away before this visit, visits, days away in all, returns
    the next day.

    Source: the cross-session retention of KuaiSim (Zhao et al. 2023).
    """

    days: float = 60.0  # the calendar
    visit: int = 5
    base: float = 0.0
    weight: float = 1.0
    most: int = 10

    def __post_init__(self) -> None:
        check_sizes(visit=self.visit, most=self.most)
        check_within(1.0, np.inf, days=self.days)
        check_finite(base=self.base, weight=self.weight)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns memories (R, 7) of the first day."""
        return np.zeros((len(users), 7))

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns memories (B, 7) after the answers, at the next visit where one is over."""
        slates, worth = own[:, 0] + 1, own[:, 1] + (shown.quality * shown.answered).sum(axis=1)
        over = slates >= self.visit
        comes = 1.0 / (1.0 + np.exp(-(self.base + self.weight * worth / slates)))
        away = np.ceil(np.log1p(-luck.uniform(1)[:, 0]) / np.log1p(-np.clip(comes, 1e-6, 1 - 1e-6)))
        away = np.where(over, np.clip(away, 1.0, self.most), 0.0)
        visits, total, next_day = own[:, 4] + over, own[:, 5] + away, own[:, 6] + (away == 1.0)
        now = (np.where(over, 0.0, slates), np.where(over, 0.0, worth), own[:, 2] + away)
        return np.stack([*now, np.where(over, away, own[:, 3]), visits, total, next_day], axis=1)

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns who is gone (B,) bool."""
        return (own[:, 2] >= self.days) | (self.told(own)["visit_over"] & (own[:, 3] >= self.most))

    def told(self, own: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the day, the days away before this visit, and whether the last slate ended one (B,) each."""
        over = (own[:, 0] == 0) & (own[:, 4] > 0)
        return {"day": own[:, 2].copy(), "days_away": own[:, 3].copy(), "visit_over": over}

    def measures(self, own: np.ndarray) -> dict[str, np.ndarray]:
        """Returns mean days away after a visit and the share of returns on the next day (B,); NaN before the first."""
        visits = np.where(own[:, 4] > 0, own[:, 4], np.nan)
        return {"return_days": own[:, 5] / visits, "retention@1": own[:, 6] / visits}
