"""How well predictions agree with what users did: pure functions on plain arrays, intervals over users.

Every array is of held-out events: who (`users`), what happened (`outcome`, a reward, or `liked`, a bool) and what the
model said before (`predicted`). Users, not events, are resampled, so that what one user does stays together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.evaluation import metrics
from recgym.evaluation.metrics import Interval

N_DRAWS = 1000  # resamples of the users
_LEAST = 1e-6  # predicted probabilities are kept this far from 0 and 1 in a log-loss


class Calibration(NamedTuple):
    """What was predicted and what came, in bins of equally many events, lowest prediction first."""

    predicted: np.ndarray  # (m,) mean prediction of the bin
    observed: np.ndarray  # (m,) mean outcome of the bin
    counts: np.ndarray  # (m,) int64: events of the bin

    @property
    def error(self) -> float:
        """Expected calibration error: mean over events of |observed - predicted| of their bin."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.counts))


# -- one number over all events --------------------------------------------------------------------------------------


def rmse(users: np.ndarray, outcome: np.ndarray, predicted: np.ndarray, *, seed: int = 0) -> Interval:
    """Returns the root of the mean squared error over events, and its interval over users.

    Args:
        users: User of each event (n,) int.
        outcome: What happened (n,).
        predicted: What was said before (n,), in the same unit.
        seed: Seed of the resampling.

    Raises:
        DataError: if the arrays differ in length, are empty or hold what is not finite.
    """
    users, outcome, predicted = _checked(users, outcome, predicted)
    mean, low, high = event_mean(users, (outcome - predicted) ** 2, seed=seed)
    return Interval(mean**0.5, low**0.5, high**0.5)


def log_loss(users: np.ndarray, liked: np.ndarray, predicted: np.ndarray, *, seed: int = 0) -> Interval:
    """Returns the mean of `-log p(what happened)` over events in nats, and its interval over users.

    Args:
        users: User of each event (n,) int.
        liked: What happened (n,) bool.
        predicted: Probability said before (n,); cut to 1e-6 to 1 - 1e-6.
        seed: Seed of the resampling.

    Raises:
        DataError: as `rmse`.
    """
    users, outcome, predicted = _checked(users, liked, predicted)
    chance = np.clip(predicted, _LEAST, 1.0 - _LEAST)
    return event_mean(users, -np.log(np.where(outcome > 0, chance, 1.0 - chance)), seed=seed)


def event_mean(users: np.ndarray, values: np.ndarray, *, seed: int = 0) -> Interval:
    """Returns the mean of values (n,) over events, and its interval when users (n,) are resampled with their events."""
    _, place = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(place, weights=values), np.bincount(place)
    drawn = resamples(len(sums), seed)  # (draws, users)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def auc(users: np.ndarray, liked: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> Interval:
    """Returns the probability that a liked event has a higher score than one that is not, and its interval over users.

    Equal scores count half, so a constant scorer earns exactly 0.5.

    Raises:
        DataError: as `rmse`; or if all events, or none, are liked.

    Source: Hanley and McNeil (1982), The meaning and use of the area under a ROC curve, Radiology 143(1).

    Example:
        >>> auc(np.array([0, 0, 1]), np.array([True, False, True]), np.array([0.9, 0.1, 0.1])).mean
        0.75
    """
    users, outcome, scores = _checked(users, liked, scores)
    if outcome.min() == outcome.max():
        raise DataError(
            f"an AUC needs liked and disliked events, got {int(outcome.sum())} of {len(outcome)} liked; "
            f"choose another threshold"
        )
    _, place = np.unique(users, return_inverse=True)
    levels, level = np.unique(scores, return_inverse=True)
    value = _auc_of(outcome, level, len(levels), np.ones(len(outcome)))
    found = [_auc_of(outcome, level, len(levels), drawn[place]) for drawn in resamples(int(place.max()) + 1, seed)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _auc_of(liked: np.ndarray, level: np.ndarray, n_levels: int, weights: np.ndarray) -> float:
    up = np.bincount(level, weights=weights * liked, minlength=n_levels)
    down = np.bincount(level, weights=weights * (1.0 - liked), minlength=n_levels)
    below = np.cumsum(down) - 0.5 * down
    total = up.sum() * down.sum()
    return float((up * below).sum() / total) if total else float("nan")


# -- one number per user ---------------------------------------------------------------------------------------------


def user_auc(users: np.ndarray, liked: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the AUC within each user (m,), of the users who liked some of their events and not others.

    What one user likes more than another cannot help here: predicting each user's mean earns exactly 0.5.

    Raises:
        DataError: as `rmse`; or if no user has both.
    """
    users, outcome, scores = _checked(users, liked, scores)
    order = np.lexsort((scores, users))
    users, outcome, scores = users[order], outcome[order], scores[order]
    new_user = np.append(True, users[1:] != users[:-1])
    new_level = new_user | np.append(True, scores[1:] != scores[:-1])
    level = np.cumsum(new_level) - 1  # of each event
    up, down = np.bincount(level, weights=outcome), np.bincount(level, weights=1.0 - outcome)
    user = np.cumsum(new_user)[new_level] - 1  # of each level
    before = np.cumsum(down) - down
    below = before - before[np.append(True, user[1:] != user[:-1])][user] + 0.5 * down
    wins, ups, downs = (np.bincount(user, weights=values) for values in (up * below, up, down))
    both = (ups > 0) & (downs > 0)
    if not both.any():
        raise DataError(f"some user must have liked and disliked events, got none of {len(ups)}; give more events")
    return wins[both] / (ups[both] * downs[both])


def user_ndcg(users: np.ndarray, liked: np.ndarray, scores: np.ndarray, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Returns ndcg@k of each user's own held-out events ranked by score (n_users,), and who liked any of them (bool).

    A user who liked none has no ndcg: here the value is 1, as much of the literature on debiasing counts it. Take the
    mean over those with a liked event for the honest figure, over all to compare with such tables.

    Raises:
        DataError: as `rmse`.
    """
    users, outcome, scores = _checked(users, liked, scores)
    order = np.argsort(users, kind="stable")
    lengths = np.unique(users, return_counts=True)[1]
    column = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    table = np.full((len(lengths), lengths.max()), -np.inf)
    relevant = np.zeros(table.shape, dtype=bool)
    table[row, column], relevant[row, column] = scores[order], outcome[order] > 0
    some = relevant.any(axis=1)
    values = np.ones(len(lengths))
    if some.any():
        columns = np.broadcast_to(np.arange(table.shape[1]), table[some].shape)
        values[some] = metrics.ndcg(metrics.tie_ranks(table[some], columns), k, relevant[some])
    return values, np.asarray(some)


# -- calibration -----------------------------------------------------------------------------------------------------


def calibration(outcome: np.ndarray, predicted: np.ndarray, n_bins: int = 10) -> Calibration:
    """Returns the calibration curve: events sorted by prediction and cut into bins of equally many; ties stay together.

    Args:
        outcome: What happened (n,): 0 or 1, or a rating.
        predicted: What was said before (n,): a probability, or a rating.
        n_bins: At most this many bins.

    Raises:
        DataError: as `rmse`.

    Source: Naeini et al. (2015), Obtaining well calibrated probabilities using Bayesian binning, AAAI (the error).
    """
    _, outcome, predicted = _checked(np.zeros(len(predicted)), outcome, predicted)
    edges = np.unique(np.quantile(predicted, np.arange(1, n_bins) / n_bins))
    place = np.searchsorted(edges, predicted, side="right")
    counts = np.bincount(place)
    sums = [np.bincount(place, weights=values)[counts > 0] for values in (predicted, outcome)]
    counts = counts[counts > 0]
    return Calibration(sums[0] / counts, sums[1] / counts, counts)


# -- parts -----------------------------------------------------------------------------------------------------------


def resamples(n: int, seed: int = 0, n_draws: int = N_DRAWS) -> np.ndarray:
    """Returns how often each of n units stands in each bootstrap sample (n_draws, n) float32."""
    random = np.random.default_rng(seed)
    return np.stack(
        [np.bincount(random.integers(n, size=n), minlength=n).astype(np.float32) for _ in range(n_draws)]
    )  # (n_draws, n)


def _checked(users: np.ndarray, outcome: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    users, outcome, predicted = np.asarray(users), np.asarray(outcome, np.float64), np.asarray(predicted, np.float64)
    if users.ndim != 1 or not len(users) or not users.shape == outcome.shape == predicted.shape:
        raise DataError(
            f"users, outcomes and predictions must have one shape (n,) with n at least 1, got {users.shape}, "
            f"{outcome.shape} and {predicted.shape}; give one of each per event"
        )
    bad = ~(np.isfinite(outcome) & np.isfinite(predicted))
    if bad.any():
        raise DataError(
            f"outcomes and predictions must be finite, got {np.count_nonzero(bad)} of {len(bad)} that are not, "
            f"first at {int(np.flatnonzero(bad)[0])}; mend the model"
        )
    return users, outcome, predicted
