"""What is engaging now may satisfy little in the long run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recgym.options import check_choice, check_finite, check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown

RECSIM: dict[str, Any] = {"sensitivity": 0.01, "deviation": 1.0, "first": "uniform"}  # where 0.2.4 differs


@dataclass(frozen=True)
class LongTermSatisfaction(Part):
    """Engagement is bought with satisfaction. An item's *quality* c in 0..1 says how much of a bait it is.

    Satisfaction is `sigmoid(sensitivity * n)` of the net positive exposure n; an answer is worth
    `exp(N((bait * c + good * (1 - c)) * satisfaction, deviation))`, and moves n to
    `memory * n - 2 * (c - 1/2) + N(0, noise)`. Without an answer n stays.

    Source: RecSim's long-term satisfaction (Ie et al. 2019, section 6). `RECSIM` holds what version 0.2.4 has other
    than here: there satisfaction hardly moves, and baits win for ever.
    """

    sensitivity: float = 0.3
    memory: float = 0.7  # share of the exposure that is left a slate later
    noise: float = 0.05
    bait: float = 5.0  # log engagement of a bait at full satisfaction
    good: float = 4.0  # log engagement of a good item
    deviation: float = 0.1  # of log engagement
    first: Literal["normal", "uniform"] = "normal"  # exposure at the start: N(0, 1), or within +-0.5 / (1 - memory)

    def __post_init__(self) -> None:
        check_finite(bait=self.bait, good=self.good)
        check_within(0.0, np.inf, sensitivity=self.sensitivity, noise=self.noise, deviation=self.deviation)
        check_within(0.0, 0.999, memory=self.memory)
        check_choice("first", self.first, ("normal", "uniform"))

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """Least and most that an answer is worth: four deviations above the mean."""
        return 0.0, float(np.exp(max(self.bait, self.good) + 4.0 * self.deviation))

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns first exposures (R, 1)."""
        return luck.normal(1) if self.first == "normal" else (luck.uniform(1) - 0.5) / (1.0 - self.memory)

    def worth(self, own: np.ndarray, shown: Shown, worth: np.ndarray, luck: Luck | None) -> np.ndarray:
        """Returns engagement (B, k), instead of what answers were worth so far; without luck, its mean."""
        mean = (self.bait * shown.quality + self.good * (1.0 - shown.quality)) * self._satisfaction(own)
        noise = 0.5 * self.deviation**2 if luck is None else self.deviation * luck.normal(mean.shape[1])
        return np.exp(mean + noise)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns exposures (B, 1) after the answers: their mean counts, if there are several."""
        n = shown.answered.sum(axis=1, keepdims=True)
        bait = (shown.quality * shown.answered).sum(axis=1, keepdims=True) / np.maximum(n, 1)
        moved = self.memory * own - 2.0 * (bait - 0.5) + self.noise * luck.normal(1)
        return np.where(n > 0, moved, own)

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns how satisfied users are."""
        return [Bar("satisfaction", self._satisfaction(own)[:, 0], 0.0, 1.0)]

    def _satisfaction(self, own: np.ndarray) -> np.ndarray:
        return 0.5 * (1.0 + np.tanh(0.5 * self.sensitivity * own))  # (B, 1)
