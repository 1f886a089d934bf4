"""Lists drawn from a softmax over scores, one place after the other, with the probability of what was drawn."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np

from recgym.errors import DataError
from recgym.evaluation.policies import SoftmaxPolicy

_SAMPLES = 64  # beginnings of lists drawn for the marginals of the third place and below


class Shown(NamedTuple):
    """How likely a list was, place by place, as `recgym.collect` logs it."""

    marginal: np.ndarray  # (k,) probability of the item at its place, whatever stands elsewhere
    given_above: np.ndarray  # (k,) the same given the items above it; their product is that of the list
    error: np.ndarray  # (k,) standard error of `marginal`, which is estimated from the third place on

    @classmethod
    def certain(cls, k: int) -> Self:
        """Returns that of a list that could not have been another."""
        return cls(np.ones(k), np.ones(k), np.zeros(k))


class Explorer:
    """Draws lists from a `SoftmaxPolicy` whose scores are brought to mean 0 and deviation 1 first.

    Args:
        scorer: What the policy is of; its scores come from elsewhere.
        temperature: Above 0; small is greedy.
        epsilon: Share of uniform choices, 0 to 1.
        seed: Of the draws; None is the machine's own chance.

    Raises:
        DataError: if an option is out of range.
    """

    def __init__(self, scorer: Any, temperature: float, epsilon: float = 0.0, seed: int | None = None) -> None:
        self.policy = SoftmaxPolicy(scorer, temperature, epsilon, standardise=True)
        self._random = np.random.default_rng(seed)

    def draw(self, scores: np.ndarray, allowed: np.ndarray, k: int) -> tuple[np.ndarray, Shown]:
        """Returns k different items (k,) of those allowed (n_items,), and how likely they were.

        Marginals of the first two places are exact; those below are averages over 64 drawn beginnings and the list's
        own, as those of `recgym.evaluation.policies.slate_propensities`.

        Raises:
            DataError: if fewer than k items have a chance.
        """
        standard = self.policy.standardised(scores[None].astype(np.float64))
        chances = self.policy.of_scores(standard, allowed[None])[0]  # (n_items,)
        n_possible = int(np.count_nonzero(chances))
        if n_possible < k:
            raise DataError(
                f"a list needs {k} items with a chance, got {n_possible}; lower k, or raise temperature or epsilon"
            )
        upto = np.cumsum(chances)
        own = self._beginnings(chances, upto, 1, k)[0]
        given = chances[own] / _left(chances[own][None])[0]
        marginal, error = given.copy(), np.zeros(k)
        if k > 1:
            odds = chances / np.maximum(1.0 - chances, 1e-300)
            marginal[1] = chances[own[1]] * (odds.sum() - odds[own[1]])
        if k > 2:
            others = self._beginnings(chances, upto, _SAMPLES, k)
            marginal[2:], error[2:] = _averages(chances, own, given, others)
        return own, Shown(marginal.clip(1e-30, 1.0), given.clip(1e-30, 1.0), error)

    def _beginnings(self, chances: np.ndarray, upto: np.ndarray, n: int, k: int) -> np.ndarray:
        """Returns n lists (n, k) drawn one place after the other.

        That is drawing with repetition and passing over repeats, which needs no new sum for each place.
        """
        lists = np.empty((n, k), dtype=np.int64)
        drawn = self._drawn(upto, (n, 3 * k))
        for row, items in enumerate(drawn):
            different = list(dict.fromkeys(items.tolist()))
            if len(different) < k:  # a few items have nearly all the chance: what is left is drawn without them
                different = self._rest(chances, different, k)
            lists[row] = different[:k]
        return lists

    def _rest(self, chances: np.ndarray, items: list[int], k: int) -> list[int]:
        left = chances.copy()
        left[items] = 0.0
        while len(items) < k:
            items.append(int(self._drawn(np.cumsum(left), (1,))[0]))
            left[items[-1]] = 0.0
        return items

    def _drawn(self, upto: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns items of positive chance, drawn with repetition; `upto` (n_items,) are sums of chances."""
        found: np.ndarray = np.searchsorted(upto, self._random.random(shape) * upto[-1], side="right")
        return np.minimum(found, int(np.searchsorted(upto, upto[-1])))  # a product may round up to the sum


def _left(chances: np.ndarray) -> np.ndarray:
    """Returns what chance was left before each place (n, k), of the chances of lists (n, k)."""
    above = np.cumsum(chances, axis=1) - chances
    return np.maximum(1.0 - above, chances)


def _averages(
    chances: np.ndarray, own: np.ndarray, given: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the marginals of the third place on (k - 2,), and their standard errors."""
    k = len(own)
    left = _left(chances[others])  # (n, k)
    values = np.empty((len(others) + 1, k - 2))
    values[-1] = given[2:]
    for place in range(2, k):
        above = (others[:, :place] == own[place]).any(axis=1)
        values[:-1, place - 2] = np.where(above, 0.0, chances[own[place]] / left[:, place])
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
