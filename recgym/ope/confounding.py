"""How far an off-policy estimate moves if the propensities are off: what was used to choose and is not in the log.

The marginal sensitivity model (Tan 2006, A distributional approach for causal inference using propensity scores, JASA
101(476)): the true odds of showing an item lie within a factor Gamma of the estimated ones,
    1 / Gamma <= (b / (1 - b)) / (b* / (1 - b*)) <= Gamma,  so  pi / b* in pi * (1 + (1 / b - 1) * [1 / Gamma, Gamma]).
The weighted mean sum(w r) / sum(w) is then smallest where returns above some threshold get the smallest weight and
those below the largest, and the other way round for the largest (Zhao, Small and Bhattacharya 2019, Sensitivity
analysis for inverse probability weighting estimators via the percentile bootstrap, JRSS-B 81(4)): sorting finds it.
Weights of a session are products over its steps, and so are their bounds: in long sessions they are far apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.ope.checks import cumulated

GAMMAS = (1.0, 1.5, 2.0)
_MOST = 100.0  # the largest Gamma that is looked at


class Sensitivity(NamedTuple):
    """What an estimate can be where the propensities' odds are off by up to `gamma`."""

    gamma: float
    low: float  # smallest and largest estimate that is possible
    high: float
    interval_low: float  # 95 % interval of the smallest, and of the largest
    interval_high: float


def weight_bounds(pi: np.ndarray, beta: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest and largest weights (n,) of sessions of T decisions; `pi` and `beta` (n, T), 1 where padded.

    Raises:
        DataError: if `gamma` is below 1, or a propensity is not above 0 and at most 1.

    Example:
        >>> low, high = weight_bounds(np.array([[0.5]]), np.array([[0.25]]), 2.0)
        >>> low.tolist(), high.tolist()  # 0.5 * (1 + 3 / 2), 0.5 * (1 + 3 * 2)
        ([1.25], [3.5])
    """
    if not gamma >= 1.0:
        raise DataError(f"gamma must be at least 1, got {gamma}; 1 takes the propensities as they are")
    pi, beta = np.asarray(pi, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    if pi.ndim != 2 or pi.shape != beta.shape or not ((beta > 0.0) & (beta <= 1.0)).all():
        raise DataError(
            f"pi and beta must have one shape (n, T) with propensities above 0 and at most 1, got {pi.shape} and "
            f"{beta.shape}; give one row per session"
        )
    odds = 1.0 / beta - 1.0
    low, high = (cumulated(pi * (1.0 + odds * factor))[:, -1] for factor in (1.0 / gamma, gamma))
    return low, high


def bounds(
    returns: np.ndarray, low: np.ndarray, high: np.ndarray, counts: np.ndarray | None = None
) -> tuple[float, float]:
    """Returns the smallest and largest sum(w r) / sum(w) for weights w between `low` and `high`, all (n,).

    Args:
        returns: r.
        low: Smallest weights.
        high: Largest weights.
        counts: How often each counts, as in a resample; by default once.

    Example:
        >>> bounds(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([3.0, 3.0]))
        (0.25, 0.75)
    """
    order = np.argsort(returns, kind="stable")
    r = np.asarray(returns, dtype=np.float64)[order]
    n = np.ones(len(r)) if counts is None else np.asarray(counts, dtype=np.float64)[order]
    small, large = np.asarray(low)[order] * n, np.asarray(high)[order] * n
    return _extreme(r, large, small, np.min), _extreme(r, small, large, np.max)


def _extreme(r: np.ndarray, below: np.ndarray, above: np.ndarray, pick: Callable[[np.ndarray], float]) -> float:
    """Returns the extreme weighted mean over thresholds: sorted returns up to one weigh `below`, the others `above`."""
    weight = np.concatenate([[0.0], np.cumsum(below)]) + np.concatenate([np.cumsum(above[::-1])[::-1], [0.0]])
    total = np.concatenate([[0.0], np.cumsum(below * r)]) + np.concatenate([np.cumsum((above * r)[::-1])[::-1], [0.0]])
    means = np.divide(total, weight, out=np.full(len(weight), np.nan), where=weight > 0.0)
    return float("nan") if np.isnan(means).all() else float(pick(means[~np.isnan(means)]))


def sensitivity(
    returns: np.ndarray,
    pi: np.ndarray,
    beta: np.ndarray,
    gammas: tuple[float, ...] = GAMMAS,
    *,
    people: np.ndarray | None = None,
    n_draws: int = 300,
    seed: int = 0,
) -> tuple[Sensitivity, ...]:
    """Returns what the self-normalised estimate can be under each Gamma, with bootstrap intervals over sessions.

    Args:
        returns: Return of each session (n,).
        pi: Probabilities of the shown items under the evaluated policy (n, T), 1 where padded.
        beta: Estimated propensities (n, T), likewise.
        gammas: Factors that the odds may be off by, each at least 1.
        people: Whose each session is (n,), numbers from 0: then people are drawn. None: each is somebody else's.
        n_draws: Resamples of sessions.
        seed: Their seed.
    """
    returns, pi, beta, people = _sorted(returns, pi, beta, people)
    found = []
    for gamma in gammas:
        low, high = weight_bounds(pi, beta, gamma)
        drawn = np.array([bounds(returns, low, high, counts) for counts in _resamples(people, n_draws, seed)])
        ends = np.nanquantile(drawn[:, 0], 0.025), np.nanquantile(drawn[:, 1], 0.975)
        found.append(Sensitivity(gamma, *bounds(returns, low, high), *map(float, ends)))
    return tuple(found)


def turning_gamma(
    returns: np.ndarray,
    pi: np.ndarray,
    beta: np.ndarray,
    *,
    better: bool,
    people: np.ndarray | None = None,
    n_draws: int = 200,
    seed: int = 0,
) -> float:
    """Returns the smallest Gamma at which "the policy earns more than the logged one" (or less) is no longer certain.

    That is where the 95 % interval of the difference, its worst case over weights in each of the same resamples of
    sessions, no longer keeps clear of 0. 1: it is not certain even with the propensities as they are; infinity: beyond
    any Gamma up to 100.

    Args:
        returns: Return of each session (n,).
        pi: See `sensitivity`.
        beta: See `sensitivity`.
        better: Whether the claim is that the policy earns more; else that it earns less.
        people: See `sensitivity`.
        n_draws: Resamples of sessions.
        seed: Their seed.
    """
    returns, pi, beta, people = _sorted(returns, pi, beta, people)
    counts = list(_resamples(people, n_draws, seed))
    logged = np.array([np.average(returns, weights=count) for count in counts])

    def holds(gamma: float) -> bool:
        low, high = weight_bounds(pi, beta, gamma)
        ends = np.array([bounds(returns, low, high, count)[0 if better else 1] for count in counts])
        apart = ends - logged if better else logged - ends
        return bool(np.nanquantile(apart, 0.025) > 0.0) if not np.isnan(apart).all() else False

    if not holds(1.0):
        return 1.0
    if holds(_MOST):
        return float("inf")
    low, high = 1.0, _MOST
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _sorted(
    returns: np.ndarray, pi: np.ndarray, beta: np.ndarray, people: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the same sessions by their returns, so that each sort after this one is quick, and whose they are."""
    order = np.argsort(returns, kind="stable")
    returns, pi, beta = (np.asarray(part, dtype=np.float64)[order] for part in (returns, pi, beta))
    return returns, pi, beta, np.arange(len(order)) if people is None else np.asarray(people)[order]


def _resamples(people: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """Returns how often each session is drawn (n_draws, n), with all others of its person."""
    random, n = np.random.default_rng(seed), int(people.max()) + 1
    return np.array([np.bincount(random.integers(n, size=n), minlength=n)[people] for _ in range(n_draws)])
