"""Fitted Q evaluation: a model of the reward still to come, fitted to the log alone, that cannot explode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from recgym.errors import DataError
from recgym.ope.checks import finite, importance_weights


class FittedQ(NamedTuple):
    """What fitted models say of n logged sessions of at most T steps, each judged by a model that never saw it."""

    values: np.ndarray  # (n,) return of a session under the evaluated policy from its first state on
    q: np.ndarray  # (n, T) return from step t on, given the logged item and the evaluated policy after it
    v: np.ndarray  # (n, T) return from step t on under the evaluated policy; both are 0 after the end


def fitted_q(
    rewards: np.ndarray,
    features: np.ndarray,
    pi_features: np.ndarray,
    lengths: np.ndarray,
    *,
    reward_range: tuple[float, float],
    now_features: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    gamma: float = 1.0,
    ridge: float = 30.0,
    n_folds: int = 2,
    people: np.ndarray | None = None,
) -> FittedQ:
    """Returns the session values of the evaluated policy by linear fitted Q evaluation, cross-fitted over sessions.

    What is fitted is the *mean* reward per remaining step, `Q_t / S_(T-t)` with `S_m = 1 + gamma + ... + gamma^(m-1)`:

        target_t = (r_t + gamma S_(T-t-1) v_(t+1)) / S_(T-t),    v_t = clip(pi_features_t @ w_t)

    so that every target lies within the reward range (and 0, which an ended session earns), whatever the horizon. From
    the last step to the first, `w_t` is a ridge regression of the targets that is shrunk towards `w_(t+1)`, so that
    steps share what they know. With T = 1 it is the reward model that `direct` and `doubly_robust` need.
    Propensities are used in `counts` alone, so nothing can collapse. Fails where the features cannot express the reward
    to come, or where the evaluated policy goes where the log has not been; then it is wrong without a sign of it:
    compare with `sequential_dr`.

    Args:
        rewards: Logged rewards (n, T), padding ignored.
        features: Features of (state, logged item) (n, T, p), of order 1; one of them constant.
        pi_features: Their expectation over the evaluated policy's items in the same states (n, T, p).
        lengths: Decisions of each session (n,), 1 to T; after them nothing is earned.
        reward_range: Lowest and highest reward of a step.
        now_features: Features (n, T, p) in which the reward of the step alone has nearly the weights that the mean
            reward per remaining step has in `features`; what all steps are shrunk towards is then learned from all
            rewards.
        counts: How much each decision counts in the regressions (n, T), e.g. `likeness(pi, beta)`; only ratios matter.
        gamma: Discount per step, between 0 and 1.
        ridge: Penalty: so many decisions' worth of belief that a weight is what the next step says.
        n_folds: Sessions are split into so many parts; each is judged by the model of the others.
        people: Whose each session is (n,), numbers from 0: a person's are all in one part. None: each somebody else's.

    Source: Le, Voloshin and Yue (2019), Batch policy learning under constraints, ICML, algorithm 3; Chernozhukov et al.
        (2018), Double/debiased machine learning, Econometrics Journal 21(1), for the folds.

    Raises:
        DataError: if shapes disagree, a number is not finite, a reward lies outside the range or there are too few
            sessions.
    """
    rewards, lengths = np.asarray(rewards, dtype=np.float64), np.asarray(lengths)
    _check(rewards, features, pi_features, lengths, reward_range, n_folds)
    n, horizon, _ = features.shape
    real = np.arange(horizon) < lengths[:, None]
    bounds = min(reward_range[0], 0.0), max(reward_range[1], 0.0)
    logged = _Logged(rewards, features, pi_features, now_features, real, _counts(counts, real), gamma, bounds)
    q, v = np.zeros((n, horizon)), np.zeros((n, horizon))
    whose = np.arange(n) if people is None or people.max() + 1 < n_folds else people
    for part in range(n_folds):
        judged = whose % n_folds == part
        for step, q_step, v_step in _sweep(logged, ~judged if n_folds > 1 else judged, ridge):
            rows = judged & real[:, step]
            q[rows, step], v[rows, step] = q_step[rows], v_step[rows]
    return FittedQ(v[:, 0].copy(), q, v)


class _Logged(NamedTuple):
    """What `fitted_q` was given."""

    rewards: np.ndarray
    features: np.ndarray
    pi_features: np.ndarray
    now_features: np.ndarray | None
    real: np.ndarray  # (n, T) bool
    counts: np.ndarray  # (n, T)
    gamma: float
    bounds: tuple[float, float]


def _sweep(logged: _Logged, train: np.ndarray, ridge: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields, from the last step to the first, q and v (n,) of the model fitted to the sessions `train` (n,) bool."""
    n, horizon, n_features = logged.features.shape
    sums = np.concatenate([[0.0], np.cumsum(logged.gamma ** np.arange(horizon))])  # S_0 .. S_T
    weights = np.zeros(n_features)
    if logged.now_features is not None:
        fit = train[:, None] & logged.real
        weights = _ridge(logged.now_features[fit], logged.rewards[fit], logged.counts[fit], weights, ridge)
    v = np.zeros(n)  # mean per remaining step, 0 where the session has ended
    for step in range(horizon - 1, -1, -1):
        left, left_next = sums[horizon - step], sums[horizon - step - 1]
        real, x = logged.real[:, step], logged.features[:, step]
        fit = train & real
        target = (logged.rewards[fit, step] + logged.gamma * left_next * v[fit]) / left
        weights = _ridge(x[fit], target, logged.counts[fit, step], weights, ridge)
        v = np.where(real, np.clip(logged.pi_features[:, step] @ weights, *logged.bounds), 0.0)
        yield step, left * np.clip(x @ weights, *logged.bounds), left * v


def likeness(pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns min(pi / beta, 2) + 0.1, the shape of both: how much a decision should count where `pi` is evaluated.

    A linear model errs somewhere; this makes it err less where the evaluated policy goes. Unlike weights of sessions,
    those of single decisions do not collapse.

    Source: Shimodaira (2000), Improving predictive inference under covariate shift by weighting the log-likelihood
        function, JSPI 90(2), for the idea; clip and floor are ours.
    """
    return np.minimum(importance_weights(pi, beta), 2.0) + 0.1


def _counts(counts: np.ndarray | None, real: np.ndarray) -> np.ndarray:
    """Returns counts (n, T) with a mean of 1 over real decisions, so that the penalty means the same."""
    if counts is None:
        return np.ones(real.shape)
    counts = finite(counts, "counts", real.shape)
    if (counts[real] < 0.0).any() or not counts[real].any():
        raise DataError(
            f"counts must not be negative, and some above 0, got {counts[real].min():g} to {counts[real].max():g}; "
            f"give likeness(pi, beta), or None"
        )
    return counts / counts[real].mean()


def _ridge(
    features: np.ndarray, target: np.ndarray, counts: np.ndarray, prior: np.ndarray, penalty: float
) -> np.ndarray:
    """Returns the weights (p,) that minimise the counted squared error + penalty * squared distance from the prior."""
    x = features.astype(np.float64)  # (m, p)
    counted = x * counts[:, None]
    gram = counted.T @ x + penalty * np.eye(len(prior))
    try:
        factor = cho_factor(gram)
    except LinAlgError:
        raise DataError(
            f"features must be of order 1 or the penalty larger, got features up to {np.abs(x).max():g} with ridge "
            f"{penalty:g} ({x.shape[1]} features, {len(x)} decisions); scale them"
        ) from None
    return prior + cho_solve(factor, counted.T @ (target - x @ prior))


def _check(
    rewards: np.ndarray,
    features: np.ndarray,
    pi_features: np.ndarray,
    lengths: np.ndarray,
    reward_range: tuple[float, float],
    n_folds: int,
) -> None:
    if features.ndim != 3 or features.shape != pi_features.shape:
        raise DataError(
            f"features and pi_features must both have shape (n, T, p), got {features.shape} and {pi_features.shape}; "
            f"give the expectation of the same features"
        )
    n, horizon, _ = features.shape
    if lengths.shape != (n,) or lengths.min(initial=1) < 1 or lengths.max(initial=1) > horizon:
        raise DataError(
            f"lengths must have shape ({n},) with 1 to {horizon} decisions each, got shape {lengths.shape} and "
            f"{lengths.min(initial=0)} to {lengths.max(initial=0)}; leave out sessions without a decision"
        )
    if n_folds < 1 or n < 2 * n_folds:
        raise DataError(f"there must be at least two sessions a fold, got {n} in {n_folds} folds; log more sessions")
    real = np.arange(horizon) < lengths[:, None]
    for name, array in (("features", features), ("pi_features", pi_features)):
        finite(array[real], name, array[real].shape)
    logged = finite(rewards, "rewards", (n, horizon))[real]
    low, high = reward_range
    outside = np.count_nonzero((logged < low - 1e-6) | (logged > high + 1e-6))
    if outside:
        raise DataError(
            f"rewards must be within reward_range, got {outside} of {logged.size} outside {low:g} to {high:g}; "
            f"give the lowest and highest reward of a step"
        )
