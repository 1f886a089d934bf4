"""Places further down appeal less, and so do items like the others of their slate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_sizes, check_within
from recgym.users.behaviours.base import Part, Shown


@dataclass(frozen=True)
class PositionPenalty(Part):
    """Place i, counted from 0, appeals by `weight * i` less.

    Source: the linear position bias of RecSim NG's interest evolution (Mladenov et al. 2021).
    """

    of_slate = True
    weight: float = 0.3

    def __post_init__(self) -> None:
        check_within(0.0, np.inf, weight=self.weight)

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns appeal (B, k) less the penalty."""
        return appeal if shown.alone else appeal - self.weight * np.arange(appeal.shape[1])


@dataclass(frozen=True)
class SimilarityPenalty(Part):
    """An item appeals by `weight * cosine(item, mean of the slate)` less.

    Source: the slate interaction of KuaiSim (Zhao et al. 2023), 0.2 of probability there; of appeal here.
    """

    of_slate = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_within(0.0, np.inf, weight=self.weight)

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns appeal (B, k) less the penalty; a slate of one item has none."""
        if shown.alone:
            return appeal
        n = shown.real.sum(axis=1, keepdims=True)  # (B, 1)
        mean = shown.vectors.sum(axis=1) / np.maximum(n, 1)  # (B, d)
        lengths = np.linalg.norm(shown.vectors, axis=2) * np.linalg.norm(mean, axis=1, keepdims=True)
        cosine = np.einsum("bkd,bd->bk", shown.vectors, mean) / np.maximum(lengths, 1e-12)
        return appeal - self.weight * np.where(n > 1, cosine, 0.0)


@dataclass(frozen=True)
class CrowdPenalty(Part):
    """Where `limit` items of a slate or more are on one topic, every place appeals `divisor` times less.

    What is divided is the probability that an item is liked, `sigmoid(s)`, in terms of appeal
    `-log(divisor - 1 + divisor * exp(-s))`.

    Source: the diversity penalty of GeMS's simulator (Deffayet et al. 2023, WSDM).
    """

    of_slate = True
    limit: int = 4
    divisor: float = 3.0

    def __post_init__(self) -> None:
        check_sizes(limit=self.limit)
        check_within(1.0, np.inf, divisor=self.divisor)

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns appeal (B, k), less where the slate is crowded; an item alone has no slate."""
        if shown.alone or self.divisor == 1.0:
            return appeal
        alike = (shown.topic[:, :, None] == shown.topic[:, None, :]) & shown.real[:, None, :]  # (B, k, k)
        crowded = (alike.sum(axis=2) * shown.real).max(axis=1, keepdims=True) >= self.limit
        less = -np.logaddexp(np.log(self.divisor - 1.0), np.log(self.divisor) - appeal)
        return np.where(crowded, less, appeal)
