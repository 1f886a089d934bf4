"""What a part of simulated users may do: one trait, its parameters, and one array of memory per session."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recgym.rng import RowRandom


class Luck(NamedTuple):
    """The random stream of one part, at the R rows that are asked about."""

    random: RowRandom
    rows: Any  # index array or slice
    stream: int

    def uniform(self, n: int) -> np.ndarray:
        """Returns (R, n) float64 in [0, 1)."""
        return self.random.uniform(self.rows, n, self.stream)

    def normal(self, n: int) -> np.ndarray:
        """Returns (R, n) standard normal float64."""
        return self.random.normal(self.rows, n, self.stream)


class Items(NamedTuple):
    """What is true of the items, known to users and hidden from agents (who see the catalog's vectors)."""

    vectors: np.ndarray  # (n_items + 1, d) float64; the last row, of an empty place, is zero
    topic: np.ndarray  # (n_items + 1,) int64, of an empty place n_topics
    quality: np.ndarray  # (n_items + 1,) float64
    n_topics: int

    @classmethod
    def of(cls, vectors: np.ndarray, topic: Any = None, quality: Any = None) -> Items:
        """Returns items with the padding row added; topics and qualities are zero where not given.

        Args:
            vectors: (n_items, d).
            topic: (n_items,) int, 0 or more.
            quality: (n_items,) float.
        """
        n = len(vectors)
        topic = np.zeros(n, dtype=np.int64) if topic is None else np.asarray(topic, dtype=np.int64)
        quality = np.zeros(n) if quality is None else np.asarray(quality, dtype=np.float64)
        n_topics = int(topic.max()) + 1
        padded = np.vstack([np.asarray(vectors, dtype=np.float64), np.zeros((1, vectors.shape[1]))])
        return cls(padded, np.append(topic, n_topics), np.append(quality, 0.0), n_topics)


class Shown(NamedTuple):
    """A slate before B users, and, once they have answered, what they did."""

    user: np.ndarray  # (B,) int64
    taste: np.ndarray  # (B, d) as it was before the slate
    slate: np.ndarray  # (B, k) int64
    real: np.ndarray  # (B, k) bool: not an empty place
    vectors: np.ndarray  # (B, k, d)
    topic: np.ndarray  # (B, k) int64
    quality: np.ndarray  # (B, k)
    answered: np.ndarray  # (B, k) bool; all False while users decide
    worth: np.ndarray  # (B, k) what an answer is worth
    alone: bool = False  # whether the k items are k questions about one item each, not a slate


class Bar(NamedTuple):
    """A number of every session that a picture shows, and between which others it lies."""

    name: str
    value: np.ndarray  # (B,)
    low: float
    high: float


class Part:
    """One trait. A part overrides what its trait changes; the rest is neutral.

    `own` is the part's memory: an array (B, m) that the environment keeps, of the m numbers that `start` gave.
    """

    bounds: tuple[float, float] | None = None  # of `worth`, where a part says what an answer is worth
    of_slate = False  # whether appeal or worth of an item depend on its place or on what else is in the slate

    def start(self, items: Items, users: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the memory of R new sessions (R, m); m is 0 for a trait without memory."""
        return np.zeros((len(users), 0))

    def felt(self, own: np.ndarray, taste: np.ndarray) -> np.ndarray:
        """Returns the tastes (B, d) that appeal follows from now, given those so far; the tastes themselves stay."""
        return taste

    def appeal(self, own: np.ndarray, shown: Shown, appeal: np.ndarray) -> np.ndarray:
        """Returns how much the places of the slate appeal (B, k), given what they appealed so far."""
        return appeal

    def worth(self, own: np.ndarray, shown: Shown, worth: np.ndarray, luck: Luck | None) -> np.ndarray:
        """Returns what answers would be worth (B, k), given what they were worth so far; without luck, their mean."""
        return worth

    def update(self, own: np.ndarray, shown: Shown, luck: Luck) -> np.ndarray:
        """Returns the memory (B, m) after the answers."""
        return own

    def move(self, own: np.ndarray, shown: Shown, taste: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns tastes (B, d) after the answers; `own` is the memory from before them."""
        return taste

    def day(self, own: np.ndarray) -> np.ndarray | None:
        """Returns the day since the session began (B,), of a part that counts days."""
        return None

    def story(self, own: np.ndarray) -> list[Bar]:
        """Returns what a picture shows of the memory."""
        return []

    def leaves(self, own: np.ndarray) -> np.ndarray:
        """Returns who leaves after the answers (B,) bool."""
        return np.zeros(len(own), dtype=bool)

    def told(self, own: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what an environment's infos say of the sessions, by name (B,)."""
        return {}

    def measures(self, own: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what evaluation says of the sessions at their end, by name (B,) float64."""
        return {}
