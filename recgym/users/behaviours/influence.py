"""Taste that becomes what was consumed, and taste that wanders by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_sizes, check_within
from recgym.users.behaviours.base import Luck, Part, Shown


@dataclass(frozen=True)
class Influence(Part):
    """After answers, taste becomes `|u| * unit(inertia * unit(u) + (1 - inertia) * mean of the answered vectors)`.

    Source: SARDINE (Deffayet et al. 2024), its mean taken over items, as its paper says and its code does not.
    """

    inertia: float = 0.95  # share of the old direction in the new

    def __post_init__(self) -> None:
        check_within(0.0, 1.0, inertia=self.inertia)

    def move(self, own: np.ndarray, shown: Shown, taste: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns tastes (B, d) of unchanged length."""
        n = shown.answered.sum(axis=1, keepdims=True)  # (B, 1)
        mean = (shown.vectors * shown.answered[:, :, None]).sum(axis=1) / np.maximum(n, 1)
        length = np.linalg.norm(taste, axis=1, keepdims=True)
        mixed = self.inertia * taste / np.maximum(length, 1e-12) + (1.0 - self.inertia) * mean
        turned = mixed * length / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
        return np.where(n > 0, turned, taste)


@dataclass(frozen=True)
class TopicInfluence(Part):
    """After each answer in turn taste becomes `inertia * u + (1 - inertia) * v`, over the sum of its topics' lengths.

    Source: GeMS's simulator (Deffayet et al. 2023, WSDM), where a topic has `width` dimensions of its own.
    """

    inertia: float = 0.9
    width: int = 2

    def __post_init__(self) -> None:
        check_within(0.0, 1.0, inertia=self.inertia)
        check_sizes(width=self.width)

    def move(self, own: np.ndarray, shown: Shown, taste: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns tastes (B, d) whose topics' lengths sum to 1."""
        taste = taste.copy()
        for place in range(shown.slate.shape[1]):
            hit = np.flatnonzero(shown.answered[:, place])
            mixed = self.inertia * taste[hit] + (1.0 - self.inertia) * shown.vectors[hit, place]
            lengths = np.linalg.norm(mixed.reshape(len(hit), mixed.shape[1] // self.width, self.width), axis=2)
            taste[hit] = mixed / lengths.sum(axis=1, keepdims=True)
        return taste


@dataclass(frozen=True)
class Wandering(Part):
    """Taste takes a random step at every slate: `u + deviation * N(0, 1)`, put back to its old length.

    Source: the walk of RecoGym's users (Rohde et al. 2018), made to stay on a sphere.
    """

    deviation: float = 0.02  # of each dimension, per slate

    def __post_init__(self) -> None:
        check_within(0.0, np.inf, deviation=self.deviation)

    def move(self, own: np.ndarray, shown: Shown, taste: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns tastes (B, d) of unchanged length."""
        length = np.linalg.norm(taste, axis=1, keepdims=True)
        walked = taste + self.deviation * luck.normal(taste.shape[1])
        return walked * length / np.maximum(np.linalg.norm(walked, axis=1, keepdims=True), 1e-12)
