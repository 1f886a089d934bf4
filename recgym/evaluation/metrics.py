"""Ranks, ranking metrics, list measures and intervals: pure functions that return one value per user or session.

Ranks come from scores with ties by expectation: every number is its mean over all orders of the tied candidates, in
closed form, so a constant scorer earns exactly what chance earns and the order of the candidates cannot matter. Ranks
count from 1.

A target with `above` better candidates and `tied` others of equal score has each of the ranks `above + 1` to
`above + tied + 1` with equal probability, so the expected value of any function f of the rank is
`(f(above + 1) + ... + f(above + tied + 1)) / (tied + 1)`: a difference of two cumulative sums.

Source: McSherry and Najork (2008), Computing Information Retrieval Performance Measures Efficiently in the Presence of
Tied Scores, ECIR. Metrics on sampled candidates are other quantities than metrics on all items and may order scorers
otherwise: Krichene and Rendle (2020), On Sampled Metrics for Item Recommendation, KDD.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from recgym.errors import DataError

_DRAWN_AT_ONCE = 1 << 22  # bootstrap indices held at a time: 32 MiB


class Ranks(NamedTuple):
    """Where targets stand among their candidates, ties left open."""

    above: np.ndarray  # (B,) or (B, T) int64: candidates with a higher score
    tied: np.ndarray  # same shape: other candidates with the same score


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval; NaN ends mean that none is defined."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        mean, low, high = (f"{one:.4f}" if abs(one) < 1e9 else f"{one:.4g}" for one in (self.mean, self.low, self.high))
        return mean if np.isnan(self.low) else f"{mean} [{low}, {high}]"


# -- ranks -----------------------------------------------------------------------------------------------------------


def tie_ranks(scores: np.ndarray, targets: np.ndarray, candidates: np.ndarray | None = None) -> Ranks:
    """Returns the ranks of the target columns among the candidates of their row, ties left open.

    Args:
        scores: Scores (B, n), larger first; minus infinity is a score like any other.
        targets: Target columns (B,), or several per row (B, T), in 0..n-1.
        candidates: Which columns are ranked (B, n) bool, targets among them; None means all.

    Raises:
        DataError: if a score is NaN or plus infinity, the shapes disagree or a target is no candidate.

    Example:
        >>> ranks = tie_ranks(np.array([[3.0, 1.0, 1.0, 0.0]]), np.array([1]))
        >>> ranks.above.tolist(), ranks.tied.tolist()
        ([1], [1])
        >>> hit_rate(ranks, k=2).tolist()  # second or third, with equal chance
        [0.5]
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or len(scores) != len(targets):
        raise DataError(
            f"scores must have shape ({len(targets)}, n), one row per target, got {scores.shape}; align them"
        )
    check_scores(scores)
    if candidates is not None and candidates.shape != scores.shape:
        raise DataError(f"candidates must have the shape of scores {scores.shape}, got {candidates.shape}; align them")
    columns = targets.reshape(len(targets), -1)  # (B, T)
    if candidates is not None and not np.take_along_axis(candidates, columns, axis=1).all():
        missing = np.flatnonzero(~np.take_along_axis(candidates, columns, axis=1).all(axis=1))
        raise DataError(
            f"every target must be a candidate, got {len(missing)} rows where not; add it to the candidates"
        )
    own = np.take_along_axis(scores, columns, axis=1)  # (B, T)
    above, tied = np.empty(columns.shape, dtype=np.int64), np.empty(columns.shape, dtype=np.int64)
    for target in range(columns.shape[1]):
        higher, equal = scores > own[:, target, None], scores == own[:, target, None]  # (B, n)
        if candidates is not None:
            higher, equal = higher & candidates, equal & candidates
        above[:, target] = np.count_nonzero(higher, axis=1)
        tied[:, target] = np.count_nonzero(equal, axis=1) - 1
    return Ranks(above.reshape(targets.shape), tied.reshape(targets.shape))


def check_scores(scores: np.ndarray) -> None:
    """Refuses scores (B, n) that hold NaN or plus infinity, with a DataError that says where."""
    bad = np.flatnonzero(~(scores < np.inf).all(axis=1))
    if len(bad):
        row = scores[bad[0]]
        what = "NaN" if np.isnan(row).any() else "plus infinity"
        raise DataError(
            f"scores must be numbers below infinity, got {what} "
            f"({len(bad)} of {len(scores)} rows, first row {bad[0]}); mend the scorer"
        )


# -- metrics of one target -------------------------------------------------------------------------------------------


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """Returns the probability that each target is among the first k, in the shape of `ranks`.

    hit_rate@k = P(rank <= k) = min(max(k - above, 0), tied + 1) / (tied + 1)
    """
    check_k(k)
    return np.clip(k - ranks.above, 0, ranks.tied + 1) / (ranks.tied + 1)


def mrr(ranks: Ranks) -> np.ndarray:
    """Returns the expected reciprocal rank E[1 / rank] of each target, in the shape of `ranks`."""
    return _expected(ranks, 1.0 / np.arange(1, _longest(ranks) + 1))


def gain(ranks: Ranks, k: int) -> np.ndarray:
    """Returns the expected discounted gain of each target, in the shape of `ranks`.

    gain@k = E[1 / log2(1 + rank) if rank <= k else 0]; with one relevant item it is ndcg@k, as the ideal is 1.
    """
    check_k(k)
    return _expected(ranks, _discounts(k, _longest(ranks)))


# -- metrics of all relevant items of a row --------------------------------------------------------------------------


def ndcg(ranks: Ranks, k: int, relevant: np.ndarray | None = None) -> np.ndarray:
    """Returns the expected ndcg@k of each row (B,), with binary relevance.

    ndcg@k = sum over relevant items of gain@k / sum over ranks 1..min(k, n_relevant) of 1 / log2(1 + rank). The ideal
    counts all relevant items of the row, found or not: one hit at rank 1 of ten relevant is not 1.

    Args:
        ranks: Of one target (B,), or of T relevant items (B, T).
        k: Length of the list.
        relevant: Which of the T columns are real (B, T) bool; None means all. Rows need at least one.

    Source: Jarvelin and Kekalainen (2002), Cumulated gain-based evaluation of IR techniques, ACM TOIS 20(4).

    Raises:
        DataError: if a row has no relevant item, or k is below 1.
    """
    gains, n_relevant = _per_row(gain(ranks, k), relevant)
    return gains / ideal_gain(n_relevant, k)


def ideal_gain(n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Returns the gain@k of a list that begins with all relevant items, in the shape of their number."""
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k, int(n_relevant.max(initial=1))))])
    return np.asarray(ideal[n_relevant])


def recall(ranks: Ranks, k: int, relevant: np.ndarray | None = None) -> np.ndarray:
    """Returns the expected share of each row's relevant items among its first k (B,).

    recall@k = sum over relevant items of P(rank <= k) / n_relevant. Arguments and errors as for `ndcg`.
    """
    hits, n_relevant = _per_row(hit_rate(ranks, k), relevant)
    return hits / n_relevant


def _per_row(values: np.ndarray, relevant: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the real columns of each row, and how many there are."""
    values = values.reshape(len(values), -1)  # (B, T)
    real = np.ones(values.shape, dtype=bool) if relevant is None else np.asarray(relevant)
    n_relevant = np.count_nonzero(real, axis=1)
    if len(empty := np.flatnonzero(n_relevant == 0)):
        raise DataError(
            f"every row must have a relevant item, got none in {len(empty)} of {len(real)} rows, first row {empty[0]}; "
            f"leave these rows out"
        )
    return np.where(real, values, 0.0).sum(axis=1), n_relevant


def _expected(ranks: Ranks, value_at: np.ndarray) -> np.ndarray:
    """Returns the mean of `value_at[rank - 1]` over the ranks that the ties allow."""
    upto = np.concatenate([[0.0], np.cumsum(value_at)])  # sum of the values of the first ranks
    return (upto[ranks.above + ranks.tied + 1] - upto[ranks.above]) / (ranks.tied + 1)


def _longest(ranks: Ranks) -> int:
    return int((ranks.above + ranks.tied).max(initial=0)) + 1


def _discounts(k: int, length: int) -> np.ndarray:
    ranks = np.arange(1, length + 1)
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def check_k(k: int) -> None:
    """Refuses a list length that is no whole number of at least 1 with a DataError."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise DataError(f"k must be a whole number, got {k!r}; give the length of the list")
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}; give the length of the list")


# -- what the lists hold together ------------------------------------------------------------------------------------


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Returns how often each item stands in the lists (n_items,) int64; index n_items is padding and not counted."""
    return np.bincount(np.asarray(lists).ravel(), minlength=n_items + 1)[:n_items]


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Returns the share of the catalog that stands in at least one of the lists (B, k), 0 to 1."""
    return float(np.count_nonzero(exposure(lists, n_items)) / n_items)


def gini(lists: np.ndarray, n_items: int) -> float:
    """Returns the Gini index of the items' exposure in the lists (B, k): 0 all equal, near 1 all on one item.

    With exposures in ascending order x_1..x_n: G = sum_i (2i - n - 1) x_i / (n sum_i x_i).
    """
    counts = np.sort(exposure(lists, n_items))
    if not counts.any():
        raise DataError(f"some item must be listed, got lists of shape {np.shape(lists)} without one; give real lists")
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float((weights * counts).sum() / (n_items * counts.sum()))


def novelty(lists: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean surprise of each list (B,) in bits: mean of -log2(share of training events of the item).

    An item without a training event counts as having one. Padding (index n_items) is not counted.

    Args:
        lists: Items (B, k), padding n_items.
        counts: Training events of each item (n_items,).

    Source: Zhou et al. (2010), Solving the apparent diversity-accuracy dilemma of recommender systems, PNAS 107(10).
    """
    lists, counts = np.asarray(lists), np.asarray(counts, dtype=np.float64)
    bits = np.append(-np.log2(np.maximum(counts, 1.0) / counts.sum()), 0.0)  # padding last
    return bits[lists].sum(axis=1) / np.maximum((lists < len(counts)).sum(axis=1), 1)


# -- intervals -------------------------------------------------------------------------------------------------------


def mean_interval(
    values: ArrayLike,
    *,
    people: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Returns the mean of the units' values and its percentile bootstrap interval, resampling units or people.

    Args:
        values: One value per unit (n,): users or sessions, not events, so that what one user does stays together.
        people: Whose each value is (n,), where some have several: then people are resampled, with all their values.
        confidence: Nominal coverage, between 0 and 1.
        n_draws: Number of resamples.
        seed: Seed of the resampling; equal arguments give equal intervals.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; resampling people: Davison and
        Hinkley (1997), Bootstrap methods and their application, section 3.8.

    Raises:
        DataError: if there is no value, a value has no person, a value is not finite, or an option is out of range.

    Example:
        >>> str(mean_interval(np.array([0.0, 1.0, 1.0, 0.0])))
        '0.5000 [0.0000, 1.0000]'
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"values must have shape (n,) with n at least 1, got {values.shape}; give one value per unit")
    if not np.isfinite(values).all():
        n_bad = np.count_nonzero(~np.isfinite(values))
        raise DataError(f"values must be finite, got {n_bad} of {len(values)} that are not; leave these units out")
    if not 0.0 < confidence < 1.0 or n_draws < 1:
        raise DataError(
            f"confidence must be between 0 and 1 and n_draws at least 1, got {confidence} and {n_draws}; mend them"
        )
    sums, counts = _by_person(values, people)
    random = np.random.default_rng(seed)
    means = np.empty(n_draws)
    at_once = max(1, _DRAWN_AT_ONCE // len(sums))
    for first in range(0, n_draws, at_once):
        drawn = random.integers(len(sums), size=(min(at_once, n_draws - first), len(sums)))
        total = sums[drawn].mean(axis=1)
        means[first : first + len(drawn)] = total if counts is None else total / counts[drawn].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def _by_person(values: np.ndarray, people: ArrayLike | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns sums of values by person, and how many each has; None where everyone has one."""
    if people is None:
        return values, None
    _, place, counts = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    if place.shape != values.shape:
        raise DataError(
            f"people must be one per value {values.shape}, got {np.shape(people)}; say of each value whose it is"
        )
    return (values, None) if len(counts) == len(values) else (np.bincount(place, weights=values), counts)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    people: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Returns the mean of a - b and its interval, where a[i] and b[i] are of the same unit.

    Arguments are those of `mean_interval`. An interval that leaves out 0 is what "a beats b" means here.

    Raises:
        DataError: if the shapes differ.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(
            f"paired values must have equal shapes, got {a.shape} and {b.shape}; give the same units to both"
        )
    return mean_interval(a - b, people=people, confidence=confidence, n_draws=n_draws, seed=seed)
