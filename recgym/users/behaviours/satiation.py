"""Appeal that fades with exposure and comes back with time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.options import check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown


@dataclass(frozen=True)
class Satiation(Part):
    """Each topic has a satiation `s <- keeps * (s + answers on it)`, and its items appeal by `weight * s` less.

    Source: the satiation of Leqi et al. (2021), Rebounding bandits, as in RecLab; the sign is the paper's
    (RecLab's dense ratings add what its sampled ones subtract).
    """

    keeps: float = 0.8  # share that is left a slate later
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_within(0.0, 1.0, keeps=self.keeps)
        check_within(0.0, np.inf, weight=self.weight)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns satiations of nothing (R, n_topics)."""
        return np.zeros((len(users), items.n_topics))

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns appeal (B, k) less what the topics have been had."""
        padded = np.concatenate([own, np.zeros((len(own), 1))], axis=1)  # the topic of an empty place comes last
        return appeal - self.weight * np.take_along_axis(padded, shown.topic, axis=1)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns satiations (B, n_topics) after the answers."""
        had = np.concatenate([own, np.zeros((len(own), 1))], axis=1)
        rows = np.arange(len(own))
        for place in range(shown.slate.shape[1]):
            had[rows, shown.topic[:, place]] += shown.answered[:, place]
        return self.keeps * had[:, :-1]

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns the satiation with the topic that was had most."""
        most = 1.0 / max(1.0 - self.keeps, 0.05)
        return [Bar("satiation, largest of a topic", own.max(axis=1), 0.0, most)]
