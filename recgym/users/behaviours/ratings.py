"""Answers in stars, from taste and biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_finite, check_within
from recgym.users.behaviours.base import Luck, Part, Shown


@dataclass(frozen=True)
class Ratings(Part):
    """An answer is worth its stars: `clip(mean + taste_weight * <u, v> + quality_weight * q + noise, low, high)`.

    Source: the latent-factor model of RecLab (Krauth et al. 2020), with item bias = quality and none of the user.
    """

    mean: float = 3.0
    taste_weight: float = 1.0
    quality_weight: float = 0.3
    noise: float = 0.5  # standard deviation
    low: float = 1.0
    high: float = 5.0

    def __post_init__(self) -> None:
        check_finite(mean=self.mean, taste_weight=self.taste_weight, quality_weight=self.quality_weight, low=self.low)
        check_within(0.0, np.inf, noise=self.noise)
        check_within(self.low, np.inf, high=self.high)

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """Least and most that an answer is worth."""
        return self.low, self.high

    def worth(self, own: np.ndarray, shown: Shown, worth: np.ndarray, luck: Luck | None) -> np.ndarray:
        """Returns stars (B, k), instead of what answers were worth so far; without luck, before the noise."""
        match = np.einsum("bkd,bd->bk", shown.vectors, shown.taste)
        stars = self.mean + self.taste_weight * match + self.quality_weight * shown.quality
        if luck is not None:
            stars = stars + self.noise * luck.normal(stars.shape[1])
        return np.clip(stars, self.low, self.high)
