"""Do simulated sequences look like real ones? Distances of distributions, and a judge who tries to tell them apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from recgym.errors import DataError

FEATURES = ("length", "mean", "spread", "lowest", "highest", "first half - second half", "lag-1 likeness", "changes")
_PENALTY = 1e-2  # of the judge's weights, per sequence
_ROUNDS = 25  # Newton steps at most


class Distance(NamedTuple):
    """How far two samples are from each other."""

    ks: float  # largest difference of the two cumulative distributions, 0 to 1
    wasserstein: float  # mean distance that probability must be moved, in the unit of the values


def distance(real: np.ndarray, simulated: np.ndarray) -> Distance:
    """Returns the Kolmogorov-Smirnov and the Wasserstein distance of two samples (n,) and (m,).

    Raises:
        DataError: if one is empty or holds what is not finite.

    Example:
        >>> distance(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        Distance(ks=0.5, wasserstein=1.0)
    """
    for name, values in (("real", real), ("simulated", simulated)):
        if not len(values) or not np.isfinite(values).all():
            n_bad = np.count_nonzero(~np.isfinite(values))
            raise DataError(
                f"{name} values must be finite numbers, got {n_bad} of {len(values)} that are not; "
                f"give at least one, all finite"
            )
    levels = np.union1d(real, simulated)
    below = [np.searchsorted(np.sort(one), levels, side="right") / len(one) for one in (real, simulated)]
    return Distance(float(np.abs(below[0] - below[1]).max()), float(stats.wasserstein_distance(real, simulated)))


def summaries(rewards: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns what the judge sees of each sequence of rewards (n, len(FEATURES)).

    Args:
        rewards: All sequences one after the other (n_events,).
        lengths: Events of each sequence (n,), at least one.
    """
    rewards, n = np.asarray(rewards, dtype=np.float64), np.asarray(lengths)
    row = np.repeat(np.arange(len(n)), n)
    starts = np.cumsum(n) - n
    place = np.arange(len(rewards)) - starts[row]
    mean = np.bincount(row, weights=rewards) / n
    away = rewards - mean[row]
    spread = np.sqrt(np.bincount(row, weights=away**2) / n)
    late = place >= (n[row] + 1) // 2
    half = [np.bincount(row[part], weights=away[part], minlength=len(n)) for part in (~late, late)]
    early = np.bincount(row[~late], minlength=len(n))
    trend = half[0] / np.maximum(early, 1) - half[1] / np.maximum(n - early, 1)
    next_one = np.flatnonzero(place > 0)
    along = np.bincount(row[next_one], weights=away[next_one] * away[next_one - 1], minlength=len(n))
    likeness = along / np.maximum(n * spread**2, 1e-12)
    changes = np.bincount(row[next_one], weights=rewards[next_one] != rewards[next_one - 1], minlength=len(n))
    low, high = np.minimum.reduceat(rewards, starts), np.maximum.reduceat(rewards, starts)
    return np.stack([n, mean, spread, low, high, trend, likeness, changes / np.maximum(n - 1, 1)], axis=1)


def told_apart(real: np.ndarray, simulated: np.ndarray, *, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Returns how well a judge tells each real sequence and its simulated twin apart (n,): 0, 0.5 or 1; chance is 0.5.

    The judge is a logistic regression on all features and their squares. It is fitted on the other folds only, and a
    pair stays in one fold.

    Args:
        real: Features of n real sequences (n, m), e.g. `summaries`.
        simulated: Features of a simulated sequence for each (n, m).
        n_folds: Parts of the cross-validation.
        seed: Seed of the folds.

    Raises:
        DataError: if the shapes differ or there are fewer than two pairs per fold.

    Source: Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, ICLR.
    """
    real, simulated = np.asarray(real, np.float64), np.asarray(simulated, np.float64)
    if real.shape != simulated.shape or len(real) < 2 * n_folds:
        raise DataError(
            f"a judge needs as many simulated sequences as real ones, at least {2 * n_folds}, got {real.shape} and "
            f"{simulated.shape}; simulate one for each"
        )
    both = np.stack([real, simulated])  # (2, n, m)
    fold = np.random.default_rng(seed).permutation(len(real)) % n_folds
    right = np.empty((2, len(real)))
    for held in range(n_folds):
        mine, theirs = both[:, fold != held], both[:, fold == held]
        centre, scale = mine.mean(axis=(0, 1)), np.maximum(mine.std(axis=(0, 1)), 1e-9)
        design, asked = (_curved((part - centre) / scale) for part in (mine, theirs))
        labels = np.repeat([0.0, 1.0], mine.shape[1])
        weights = _logistic(design.reshape(len(labels), -1), labels)
        says = asked @ weights  # (2, n of the fold): above 0 means simulated
        right[:, fold == held] = 0.5 + 0.5 * np.sign(says) * np.array([[-1.0], [1.0]])
    return right.mean(axis=0)


def _curved(features: np.ndarray) -> np.ndarray:
    """Returns standardised features, their squares and a one, all cut to a range that no outlier rules."""
    cut = np.clip(features, -4.0, 4.0)
    return np.concatenate([cut, cut**2, np.ones((*cut.shape[:-1], 1))], axis=-1)


def _logistic(design: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the weights (p,) of a ridge logistic regression, by Newton's method."""
    weights = np.zeros(design.shape[1])
    ridge = _PENALTY * len(design) * np.append(np.ones(design.shape[1] - 1), 0.0) + 1e-9
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30.0, 30.0)))
        slope = design.T @ (labels - chance) - ridge * weights
        curvature = (design * (chance * (1.0 - chance))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return weights
