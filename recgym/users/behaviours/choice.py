"""Which of the shown items users answer. Every model draws answers and knows their probabilities.

`appeal` (B, k) are real numbers, larger for more; an empty place appeals minus infinity and is never answered.

Those whose best slate is known exactly also have `best_slates(appeal, gain, k)`: of items (B, C) that appeal by
themselves, the columns (B, k) to show, with C where nothing is left (see `recgym.users.assortment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Protocol

import numpy as np

from recgym.users import assortment
from recgym.users.behaviours.base import Luck


class Choice(Protocol):
    """How answers follow from appeal."""

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns which places are answered (B, k) bool."""
        ...

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability that each place is answered (B, k)."""
        ...


@dataclass(frozen=True)
class First:
    """The first place is always answered, if it is not empty."""

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns 1 for the first place that holds an item, 0 for the others (B, k)."""
        first = np.zeros(appeal.shape)
        first[:, 0] = np.isfinite(appeal[:, 0])
        return first

    def best_slates(self, appeal: np.ndarray, gain: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns of the best slate (B, k)."""
        return assortment.by_first(gain, np.isfinite(appeal), k)

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        return self.probabilities(appeal) > 0


@dataclass(frozen=True)
class Logit:
    """At most one answer: place i with probability `exp(s_i) / (exp(s_0) + sum_j exp(s_j))`.

    Source: the multinomial logit with an outside option, McFadden (1974), Conditional logit analysis of qualitative
    choice behavior.
    """

    no_choice: float = 0.0  # s_0, the appeal of answering nothing; minus infinity for never

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k)."""
        weights, outside = _weights(appeal, self.no_choice)
        return _shares(weights, weights.sum(axis=1, keepdims=True) + outside)

    def best_slates(self, appeal: np.ndarray, gain: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns of the best slate (B, k)."""
        weights, outside = _weights(appeal, self.no_choice)
        return assortment.by_share(weights, outside, gain, np.isfinite(appeal), k)

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        return _one_of(self.probabilities(appeal), luck)


@dataclass(frozen=True)
class Proportional:
    """At most one answer: place i with probability `(s_i - m) / (s_0 - m + sum_j (s_j - m))`.

    Source: RecSim's multinomial proportional choice, Ie et al. (2019), RecSim, section 5.
    """

    minimum: float = -1.0  # m, below which no appeal can fall
    no_choice: float = 1.0  # s_0

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k)."""
        weights = self._weights(appeal)
        return _shares(weights, weights.sum(axis=1, keepdims=True) + (self.no_choice - self.minimum))

    def _weights(self, appeal: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(appeal), np.maximum(appeal - self.minimum, 0.0), 0.0)

    def best_slates(self, appeal: np.ndarray, gain: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns of the best slate (B, k)."""
        weights = self._weights(appeal)
        outside = np.full((len(weights), 1), self.no_choice - self.minimum)
        return assortment.by_share(weights, outside, gain, np.isfinite(appeal), k)

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        return _one_of(self.probabilities(appeal), luck)


@dataclass(frozen=True)
class Cascade:
    """At most one answer: users look from the top, and answer a place they look at with probability sigmoid(s_i).

    Source: Craswell et al. (2008), An experimental comparison of click position-bias models, WSDM, section 3.4; looking
    on with `attention` at every place is RecSim's.
    """

    attention: float = 1.0  # probability of taking a place in at all

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k)."""
        here = self.attention * _sigmoid(appeal)
        before = np.cumprod(1.0 - here, axis=1)
        return here * np.concatenate([np.ones((len(here), 1)), before[:, :-1]], axis=1)

    def best_slates(self, appeal: np.ndarray, gain: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns of the best slate (B, k)."""
        return assortment.in_cascade(self.attention * _sigmoid(appeal), gain, np.isfinite(appeal), k)

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        liked = luck.uniform(appeal.shape[1]) < self.attention * _sigmoid(appeal)
        return liked & (np.cumsum(liked, axis=1) == 1)


@dataclass(frozen=True)
class PositionBased:
    """Any number of answers: place i, counted from 0, with probability `decay**i * sigmoid(s_i)`, each by itself.

    With `both_ends` half of the users read from the bottom: `decay**i` becomes `(decay**i + decay**(k - 1 - i)) / 2`.

    Source: the examination hypothesis, Richardson et al. (2007), Predicting clicks, WWW; geometric examination as in
    SARDINE (Deffayet et al. 2024), whose tdPBM and mixPBM these two are. `decay=1` makes places independent and alike.
    """

    decay: float = 0.85  # how likely a place is looked at, over the place above
    both_ends: bool = False

    def looks(self, k: int) -> np.ndarray:
        """Returns how likely each of k places is looked at (k,)."""
        down = self.decay ** np.arange(k)
        return 0.5 * (down + down[::-1]) if self.both_ends else down

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k)."""
        return self.looks(appeal.shape[1]) * _sigmoid(appeal)

    def best_slates(self, appeal: np.ndarray, gain: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns of the best slate (B, k): the better an item, the likelier its place is looked at."""
        columns = assortment.by_place(_sigmoid(appeal), gain, np.isfinite(appeal), k)
        order = np.argsort(-self.looks(k), kind="stable")
        return columns[:, np.argsort(order)]

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        return luck.uniform(appeal.shape[1]) < self.probabilities(appeal)


@dataclass(frozen=True)
class DependentClick:
    """Any number of answers: users look from the top; after an answer they look on with probability `go_on`.

    Source: Guo, Liu and Wang (2009), Efficient multiple-click models in web search, WSDM, section 3.
    """

    go_on: float = 0.6  # probability of looking on after an answer; without one they always do

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k)."""
        likes = _sigmoid(appeal)
        looks = np.cumprod(1.0 - likes * (1.0 - self.go_on), axis=1)  # (B, k): looks at the place after
        return likes * np.concatenate([np.ones((len(likes), 1)), looks[:, :-1]], axis=1)

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool."""
        k = appeal.shape[1]
        uniform = luck.uniform(2 * k)
        likes = uniform[:, :k] < _sigmoid(appeal)
        stops = likes & (uniform[:, k:] >= self.go_on)
        stopped = np.cumsum(stops, axis=1) - stops > 0
        return likes & ~stopped


@dataclass(frozen=True)
class PlackettLuce:
    """Up to `n` answers, one after the other without replacement, each a multinomial logit; no choice ends it.

    Source: Plackett (1975), The analysis of permutations; with an outside option as in RecSim NG's iterated logit.
    """

    n: int = 2  # answers at most
    no_choice: float = 0.0  # appeal of answering nothing more

    def probabilities(self, appeal: np.ndarray) -> np.ndarray:
        """Returns the probability of each place (B, k); beyond two answers by enumeration of orders."""
        n_rows, k = appeal.shape
        weights, outside = _weights(appeal, self.no_choice)
        everything = weights.sum(axis=1, keepdims=True) + outside  # (B, 1)
        total = _shares(weights, everything)
        if self.n > 1:  # second, after any other: weight_i * sum over j != i of P(j first) / (everything - weight_j)
            after = _shares(total, everything - weights)
            total = total + weights * (after.sum(axis=1, keepdims=True) - after)
        for length in range(3, min(self.n, k) + 1):
            for order in permutations(range(k), length):
                chance, left = np.ones(n_rows), everything[:, 0]
                for place in order:
                    chance, left = chance * _shares(weights[:, place], left), left - weights[:, place]
                total[:, order[-1]] += chance
        return total

    def choose(self, appeal: np.ndarray, luck: Luck) -> np.ndarray:
        """Returns the answered places (B, k) bool: places whose Gumbel score beats the outside and all but n - 1."""
        k = appeal.shape[1]
        gumbel = -np.log(-np.log(luck.uniform(k + 1) + 2.0**-33))  # (B, k + 1); one order of all is one choice a draw
        score = np.concatenate([appeal, np.full((len(appeal), 1), self.no_choice)], axis=1) + gumbel
        beaten_by = (score[:, None, :] > score[:, :k, None]).sum(axis=2)  # (B, k): how many come before
        return (beaten_by < self.n) & (score[:, :k] > score[:, k:])


def _weights(appeal: np.ndarray, no_choice: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns `exp(s)` of the places (B, k) and of no choice (B, 1), over the largest of a row lest they overflow."""
    top = np.maximum(appeal.max(axis=1, keepdims=True), no_choice)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.exp(appeal - top), np.exp(no_choice - top)


def _shares(weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Returns weights over their total, 0 where there is none to share."""
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def _one_of(probabilities: np.ndarray, luck: Luck) -> np.ndarray:
    """Returns at most one place per row, by its probability (B, k) bool."""
    reached = np.cumsum(probabilities, axis=1)
    point = luck.uniform(1)  # (B, 1)
    return (point < reached) & (np.cumsum(point < reached, axis=1) == 1) & (probabilities > 0)


def _sigmoid(appeal: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * appeal))
