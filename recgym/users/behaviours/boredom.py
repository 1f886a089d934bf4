"""Too much of a topic within a short time, and the topic, or everything, loses its appeal for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recgym.options import check_choice, check_sizes, check_within
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown

_NONE = -1.0  # topic of an answer that was not given


@dataclass(frozen=True)
class Boredom(Part):
    """`limit` answers on one topic within the last `window` slates bore a user for `lasts` slates.

    While bored, items of that topic appeal by `drop` less (`scope="topic"`), or all items do (`scope="everything"`,
    users who turn away and come back).

    Memory: for each topic, the slates since its last `limit` answers and the slates that boredom goes on.

    Source: SARDINE (Deffayet et al. 2024), its two modes; there a bored topic's taste becomes zero.
    """

    limit: int = 5
    window: int = 10
    lasts: int = 5
    drop: float = 20.0
    scope: Literal["topic", "everything"] = "topic"

    def __post_init__(self) -> None:
        check_sizes(limit=self.limit, window=self.window, lasts=self.lasts)
        check_within(0.0, np.inf, drop=self.drop)
        check_choice("scope", self.scope, ("topic", "everything"))

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns memories of nobody bored (R, n_topics * (limit + 1)): ages of answers, then slates to go."""
        ages = np.full((len(users), items.n_topics * self.limit), float(self.window))
        return np.concatenate([ages, np.zeros((len(users), items.n_topics))], axis=1)

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns appeal (B, k), less by `drop` where boring."""
        bored = self._split(own)[1] > 0  # (B, n_topics)
        if self.scope == "everything":
            return appeal - self.drop * bored.any(axis=1, keepdims=True)
        padded = np.concatenate([bored, np.zeros((len(bored), 1), dtype=bool)], axis=1)
        return appeal - self.drop * np.take_along_axis(padded, shown.topic, axis=1)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns memories after a slate: answers age, boredom wears off or begins."""
        ages, bored = self._split(own)
        ages, bored = np.minimum(ages + 1.0, self.window), np.maximum(bored - 1.0, 0.0)
        rows = np.arange(len(own))
        for place in range(shown.slate.shape[1]):
            hit = np.flatnonzero(shown.answered[:, place])
            topic = shown.topic[hit, place]
            older = ages[rows[hit], topic]  # (h, limit), newest first
            ages[rows[hit], topic] = np.concatenate([np.zeros((len(hit), 1)), older[:, :-1]], axis=1)
        too_much = ages[:, :, -1] < self.window  # (B, n_topics): even the oldest of `limit` answers is recent
        bored = np.where(too_much, float(self.lasts), bored)
        ages[too_much] = self.window
        return np.concatenate([ages.reshape(len(own), -1), bored], axis=1)

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns how bored users are: slates that the longest boredom goes on, and how many topics bore."""
        bored = self._split(own)[1]
        topics = Bar("topics that bore", (bored > 0).sum(axis=1), 0.0, float(bored.shape[1]))
        return [Bar("slates still bored", bored.max(axis=1), 0.0, float(self.lasts)), topics]

    def _split(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns ages of answers (B, n_topics, limit), newest first, and slates that boredom goes on (B, n_topics)."""
        n_topics = own.shape[1] // (self.limit + 1)
        ages = own[:, : n_topics * self.limit].reshape(len(own), n_topics, self.limit)
        return ages.copy(), own[:, n_topics * self.limit :]


@dataclass(frozen=True)
class TopicBoredom(Part):
    """`limit` of the last `answers` answers on one topic bore a user for `lasts` slates: no taste is left for it.

    Answers count for `window` slates after the one they were given to. Taste for topic j are its dimensions
    `width * j` to `width * (j + 1)`; they are felt as zero, so that items of other topics that have a share in it
    appeal less too. Who is bored stays so while the count does.

    Memory: topic and age of the last `answers` answers, newest last, and for each topic the slates boredom goes on.

    Source: the boredom of GeMS's simulator (Deffayet et al. 2023, Generative slate recommendation with reinforcement
    learning, WSDM, section 5.1, and its released code for constants).
    """

    limit: int = 5
    answers: int = 10
    window: int = 5
    lasts: int = 5
    width: int = 2

    def __post_init__(self) -> None:
        check_sizes(limit=self.limit, answers=self.answers, window=self.window, lasts=self.lasts, width=self.width)

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns memories of nobody bored (R, 2 * answers + n_topics)."""
        memory = np.zeros((len(users), 2 * self.answers + items.n_topics))
        memory[:, : self.answers] = _NONE
        return memory

    def felt(self, own: np.ndarray, taste: np.ndarray) -> np.ndarray:
        """Returns tastes (B, d) in which boring topics are zero."""
        return taste * np.repeat(own[:, 2 * self.answers :] == 0.0, self.width, axis=1)

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns memories after a slate: answers age and are forgotten, boredom wears off or begins."""
        n = self.answers
        topic, age, bored = own[:, :n].copy(), own[:, n : 2 * n] + 1.0, own[:, 2 * n :]
        for place in range(shown.slate.shape[1]):
            hit = np.flatnonzero(shown.answered[:, place])
            for past, new in ((topic, shown.topic[hit, place]), (age, 0.0)):
                past[hit, :-1] = past[hit, 1:]
                past[hit, -1] = new
        topic = np.where(age > self.window, _NONE, topic)
        counts = (topic[:, :, None] == np.arange(bored.shape[1])).sum(axis=1)  # (B, n_topics)
        bored = np.maximum(bored - 1.0, 0.0)
        bored = np.where((bored == 0.0) & (counts >= self.limit), float(self.lasts), bored)
        return np.concatenate([topic, age, bored], axis=1)
