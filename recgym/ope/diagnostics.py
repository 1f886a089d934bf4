"""Where an estimate should not be believed, in words; and an interval that needs no bell curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.evaluation.metrics import Interval
from recgym.ope.checks import TRUSTED_SAMPLES, effective_samples


class Diagnosis(NamedTuple):
    """What the weights of n decisions (or sessions) say about an estimate made from them."""

    n: int
    effective: float  # effective sample size, 1 to n
    mean_weight: float  # 1 in expectation, if the propensities are right and cover the evaluated policy
    mean_error: float  # standard error of `mean_weight`
    largest_share: float  # of all weight, carried by the heaviest decision
    tail_share: float  # of all weight, carried by the heaviest 1 % of the decisions (at least one)
    tail_index: float  # Hill's estimate; at or below 2 the variance of the weights may be infinite; NaN: too few
    untouched: float  # share of decisions whose item the evaluated policy would never show
    believable: bool
    verdict: str  # the same, in words


def diagnose(weights: np.ndarray) -> Diagnosis:
    """Returns what can be known of an estimate's worth from its importance weights (n,) alone.

    An estimate is believable if all hold: at least 30 effective decisions; no decision carries more than a tenth of the
    weight; the mean weight is within 4 standard errors (and within 0.5) of 1.

    Source: Owen (2013), Monte Carlo theory, methods and examples, chapter 9.3; Hill (1975), Annals of Statistics 3(5).

    Raises:
        DataError: if there is no weight, or a weight is negative or not finite.

    Example:
        >>> diagnose(np.ones(100)).verdict
        'believable: 100 of 100 decisions count'
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 1 or len(weights) == 0 or not np.isfinite(weights).all() or weights.min() < 0.0:
        raise DataError(
            f"weights must be finite, not negative and of shape (n,), got shape {weights.shape}; "
            f"give importance_weights(pi, beta), or the last column of session_weights"
        )
    n, total = len(weights), float(weights.sum())
    ordered = np.sort(weights)[::-1]
    share = ordered / total if total > 0.0 else np.zeros(n)
    effective = effective_samples(weights)
    mean, error = total / n, float(weights.std()) / np.sqrt(n)
    untouched = float((weights == 0.0).mean())
    wrong = _faults(n, effective, mean, error, float(share[0]), untouched)
    verdict = (
        "do not believe it: " + "; ".join(wrong) if wrong else f"believable: {effective:.0f} of {n} decisions count"
    )
    return Diagnosis(
        n, effective, mean, error, float(share[0]), float(share[: max(1, n // 100)].sum()),
        _tail_index(ordered), untouched, not wrong, verdict,
    )  # fmt: skip


def _faults(n: int, effective: float, mean: float, error: float, largest: float, untouched: float) -> list[str]:
    if untouched == 1.0:
        return ["the evaluated policy would have shown none of the logged items"]
    faults = []
    if effective < TRUSTED_SAMPLES:
        faults.append(f"only {effective:.1f} of {n} decisions count")
    if largest > 0.1:
        faults.append(f"one decision carries {largest:.0%} of the weight")
    if abs(mean - 1.0) > max(4.0 * error, 1e-3) or abs(mean - 1.0) > 0.5:
        direction = "the log lacks items that the policy shows" if mean < 1.0 else "logged propensities are too small"
        faults.append(f"the weights average {mean:.2f} instead of 1: {direction}, or the weights' tail was not seen")
    return faults


def _tail_index(ordered: np.ndarray) -> float:
    """Returns Hill's tail index of weights sorted downwards (n,), from the largest 2 sqrt(n); NaN: too few."""
    k = int(2 * np.sqrt(len(ordered)))
    if k + 1 > len(ordered) or k < 5 or ordered[k] <= 0.0:
        return float("nan")
    spread = float(np.log(ordered[:k] / ordered[k]).mean())
    return 1.0 / spread if spread > 0.0 else float("inf")


def bernstein_interval(values: np.ndarray, value_range: tuple[float, float], *, confidence: float = 0.95) -> Interval:
    """Returns the mean of n values and its empirical Bernstein interval: valid for every n, where the range is right.

    mean -+ (sqrt(2 var L / n) + 7 (high - low) L / (3 (n - 1))), L = ln(4 / (1 - confidence)), var with n - 1. Much
    wider than the bootstrap for small n or a wide range: weights of up to W times rewards of up to R make values of up
    to W R.

    Args:
        values: One value per decision or session (n,), independent of each other.
        value_range: Lowest and highest value that is *possible*, not merely seen.
        confidence: Nominal coverage, between 0 and 1.

    Source: Maurer and Pontil (2009), Empirical Bernstein bounds and sample variance penalization, COLT, theorem 4.

    Raises:
        DataError: if there are fewer than two values, or one is outside the range.
    """
    values = np.asarray(values, dtype=np.float64)
    low, high = value_range
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"values must have shape (n,) with n at least 2, got {values.shape}; give one value per unit")
    outside = np.count_nonzero(~((values >= low) & (values <= high)))
    if outside:
        raise DataError(
            f"values must be within value_range, got {outside} of {len(values)} outside {low} to {high} "
            f"(seen: {values.min():g} to {values.max():g}); give the range that is possible"
        )
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence must be between 0 and 1, got {confidence}; 0.95 is usual")
    n, mean = len(values), float(values.mean())
    log_term = np.log(4.0 / (1.0 - confidence))  # two sides
    width = np.sqrt(2.0 * values.var(ddof=1) * log_term / n) + 7.0 * (high - low) * log_term / (3.0 * (n - 1))
    return Interval(mean, float(mean - width), float(mean + width))
