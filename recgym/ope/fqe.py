"""Fitted Q evaluation: a model of the reward still to come, fitted to the log alone, that cannot explode."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from recgym.errors import DataError
from recgym.ope.checks import finite


class FittedQ(NamedTuple):
    """What fitted models say of n logged sessions of at most T steps, each judged by a model that never saw it."""

    values: np.ndarray  # (n,) return of a session under the evaluated policy from its first state on
    q: (
        np.ndarray
    )  # (n, T) return from step t on, given the logged item and the evaluated policy after it; 0 after the end
    v: np.ndarray  # (n, T) return from step t on under the evaluated policy; 0 after the end


def fitted_q(
    rewards: np.ndarray,
    features: np.ndarray,
    pi_features: np.ndarray,
    lengths: np.ndarray,
    *,
    reward_range: tuple[float, float],
    now_features: np.ndarray | None = None,
    gamma: float = 1.0,
    ridge: float = 30.0,
    n_folds: int = 2,
) -> FittedQ:
    """Returns the session values of the evaluated policy by linear fitted Q evaluation, cross-fitted over sessions.

    What is fitted is the *mean* reward per remaining step, `Q_t / S_(T-t)` with `S_m = 1 + gamma + ... + gamma^(m-1)`:

        target_t = (r_t + gamma S_(T-t-1) v_(t+1)) / S_(T-t),    v_t = clip(pi_features_t @ w_t)

    so that every target lies within the reward range (and 0, which an ended session earns), whatever the horizon. From
    the last step to the first, `w_t` is a ridge regression of the targets that is shrunk towards `w_(t+1)`, so that
    steps share what they know. With T = 1 it is the reward model that `direct` and `doubly_robust` need. No
    propensities are used. Fails where the features cannot express the reward to come, or where the evaluated policy
    goes where the log has not been; then it is wrong without a sign of it: compare with `sequential_dr`.

    Args:
        rewards: Logged rewards (n, T), padding ignored.
        features: Features of (state, logged item) (n, T, p), of order 1; one of them constant.
        pi_features: Their expectation over the evaluated policy's items in the same states (n, T, p).
        lengths: Decisions of each session (n,), 1 to T; after them nothing is earned.
        reward_range: Lowest and highest reward of a step.
        now_features: Features (n, T, p) in which the reward of the step alone has nearly the weights that the mean
            reward per remaining step has in `features`; what all steps are shrunk towards is then learned from all
            rewards.
        gamma: Discount per step, between 0 and 1.
        ridge: Penalty: so many decisions' worth of belief that a weight is what the next step says.
        n_folds: Sessions are split into so many parts; each is judged by the model of the others.

    Source: Le, Voloshin and Yue (2019), Batch policy learning under constraints, ICML, algorithm 3; Chernozhukov et al.
        (2018), Double/debiased machine learning, Econometrics Journal 21(1), for the folds.

    Raises:
        DataError: if shapes disagree, a number is not finite, a reward lies outside the range or there are too few
            sessions.
    """
    rewards, lengths = np.asarray(rewards, dtype=np.float64), np.asarray(lengths)
    _check(rewards, features, pi_features, lengths, reward_range, n_folds)
    n, horizon, n_features = features.shape
    sums = np.concatenate([[0.0], np.cumsum(gamma ** np.arange(horizon))])  # S_0 .. S_T
    bounds = min(reward_range[0], 0.0), max(reward_range[1], 0.0)
    fold = np.arange(n) % n_folds
    q, v = np.zeros((n, horizon)), np.zeros((n, horizon))
    for part in range(n_folds):
        test = fold == part
        train = ~test if n_folds > 1 else test
        weights = np.zeros(n_features)
        if now_features is not None:
            real = train[:, None] & (np.arange(horizon) < lengths[:, None])
            weights = _ridge(now_features[real], rewards[real], weights, ridge)
        next_v = np.zeros(n)  # mean per remaining step, 0 where the session has ended
        for step in range(horizon - 1, -1, -1):
            left, left_next = sums[horizon - step], sums[horizon - step - 1]
            live = lengths > step
            fit, ask = train & live, test & live
            target = (rewards[:, step] + gamma * left_next * next_v) / left  # (n,)
            weights = _ridge(features[fit, step], target[fit], weights, ridge)
            next_v = np.where(live, np.clip(pi_features[:, step] @ weights, *bounds), 0.0)
            q[ask, step] = left * np.clip(features[ask, step] @ weights, *bounds)
            v[ask, step] = left * next_v[ask]
    return FittedQ(v[:, 0].copy(), q, v)


def _ridge(features: np.ndarray, target: np.ndarray, prior: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the weights (p,) that minimise the squared error plus penalty * squared distance from the prior."""
    x = features.astype(np.float64)  # (m, p)
    gram = x.T @ x + penalty * np.eye(len(prior))
    try:
        factor = cho_factor(gram)
    except LinAlgError:
        raise DataError(
            f"features must be of order 1 or the penalty larger, got features up to {np.abs(x).max():g} with ridge "
            f"{penalty:g} ({x.shape[1]} features, {len(x)} decisions); scale them"
        ) from None
    return prior + cho_solve(factor, x.T @ (target - x @ prior))


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
