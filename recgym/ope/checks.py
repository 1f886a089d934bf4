"""What every off-policy estimator asks of its inputs: propensities one can divide by, and some overlap."""

from __future__ import annotations

import math
import warnings

import numpy as np

from recgym.errors import DataError

TRUSTED_SAMPLES = 30  # effective decisions below which an estimate is not to be believed
HEAVIEST = 1e100  # a weight or bound beyond which none is one
_ROUNDING = 1e-5  # probabilities above 1 by no more than float32 sums give


class OverlapWarning(UserWarning):
    """The logged decisions say little about the evaluated policy; the estimate should not be believed."""


class NoOverlapError(DataError):
    """The log holds nothing that the evaluated policy could have done."""


def importance_weights(pi: np.ndarray, beta: np.ndarray, unit: str = "item") -> np.ndarray:
    """Returns pi / beta (float64), after checking that both are probabilities and that the two policies overlap.

    Args:
        pi: Probability of each logged item under the evaluated policy, any shape, first axis decisions or sessions.
        beta: Probability with which the behaviour policy showed it, the same shape.
        unit: What one probability is of, for the message where nothing overlaps.

    Raises:
        DataError: if the shapes differ, or a probability is missing, above 1, negative, or (`beta`) zero.
        NoOverlapError: if no logged item has a positive probability under the evaluated policy.

    Example:
        >>> importance_weights(np.array([0.5, 0.1]), np.array([0.25, 0.5])).tolist()
        [2.0, 0.2]
    """
    pi, beta = as_probabilities(pi, "pi"), as_probabilities(beta, "beta")
    if pi.shape != beta.shape:
        raise DataError(
            f"pi and beta must have the same shape, got {pi.shape} and {beta.shape}; give one of each per logged item"
        )
    zero = np.count_nonzero(beta == 0.0)
    if zero:
        raise DataError(
            f"beta must be above 0 wherever an item was shown, got 0 for {zero} of {beta.size} "
            f"(first at {_first(beta == 0.0)}); a shown item cannot have had no chance: mend the log"
        )
    if not pi.any():
        raise NoOverlapError(
            f"some logged {unit} must have a positive probability under the evaluated policy, got none of {pi.size}; "
            f"this log says nothing about it: use a stochastic policy or a model (the direct method)"
        )
    return pi / beta


def cumulated(ratios: np.ndarray) -> np.ndarray:
    """Returns the products (n, T) of ratios (n, T) up to each step; from `HEAVIEST` on they are that."""
    with np.errstate(over="ignore", invalid="ignore"):  # of infinity times 0
        weights: np.ndarray = np.cumprod(ratios, axis=1)
    rows = np.flatnonzero(~(weights <= HEAVIEST).all(axis=1))
    if len(rows):
        with np.errstate(divide="ignore"):
            logs = np.log(ratios[rows]).cumsum(axis=1)
        weights[rows] = np.exp(np.minimum(logs, math.log(HEAVIEST)))
    return weights


def effective_samples(weights: np.ndarray) -> float:
    """Returns Kish's effective sample size (sum w)^2 / sum w^2: how many unweighted decisions the weighted ones equal.

    Args:
        weights: Importance weights (n,).

    Source: Kish (1965), Survey Sampling; Owen (2013), Monte Carlo theory, methods and examples, chapter 9.3.
    """
    weights = np.asarray(weights, dtype=np.float64)
    most = float(weights.max(initial=0.0))
    if most == 0.0:
        return 0.0
    weights = weights / most  # so that no square is beyond float64
    return float(weights.sum()) ** 2 / float((weights**2).sum())


def warn_if_thin(weights: np.ndarray) -> None:
    """Warns (`OverlapWarning`) where the weights (n,) leave fewer effective samples than an estimate needs."""
    samples = effective_samples(weights)
    if samples < min(TRUSTED_SAMPLES, len(weights) / 2):
        warnings.warn(
            f"the effective sample size should be at least {TRUSTED_SAMPLES}, got {samples:.1f} of {len(weights)}; "
            f"the two policies hardly overlap: do not believe this estimate, see recgym.ope.diagnose",
            OverlapWarning,
            stacklevel=3,
        )


def finite(values: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns `values` as float64, after checking its shape and that nothing in it is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise DataError(f"{name} must have shape {shape}, got {array.shape}; give one per logged item")
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise DataError(
            f"{name} must be finite, got {bad} of {array.size} that are not "
            f"(first at {_first(~np.isfinite(array))}); mend or drop these decisions"
        )
    return array


def as_probabilities(values: np.ndarray, name: str) -> np.ndarray:
    """Returns `values` as float64, after checking that there are some, none missing, all between 0 and 1."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{name} must hold at least one decision, got shape {array.shape}; give one per logged item")
    missing = np.isnan(array)
    if missing.any():
        raise DataError(
            f"{name} must be known for every logged item, got {np.count_nonzero(missing)} of {array.size} missing "
            f"(first at {_first(missing)}); drop these decisions or log their propensities"
        )
    outside = (array < 0.0) | (array > 1.0 + _ROUNDING)
    if outside.any():
        raise DataError(
            f"{name} must be a probability between 0 and 1, got {array[outside][0]:g} "
            f"({np.count_nonzero(outside)} of {array.size}, first at {_first(outside)}); "
            f"give probabilities, not weights, densities or percentages"
        )
    return array


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(place) for place in np.argwhere(bad)[0])
