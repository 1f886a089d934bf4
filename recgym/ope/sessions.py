"""Estimators for whole sessions: what a session under the evaluated policy would have returned, per logged session.

Arrays are (n, T): n sessions of at most T decisions. A session that ended early is padded with `pi = beta = 1` and
reward, `q` and `v` of 0. Each returns one value per session (n,) float64; their mean is the estimate. Errors and
warnings as in `recgym.ope.estimators`; the weight of a session is the product of its decisions' pi / beta, so these
collapse with length.
"""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.ope.checks import HEAVIEST, NoOverlapError, cumulated, finite, importance_weights, warn_if_thin


def trajectory_is(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Returns trajectory importance sampling's values w_T * sum_t gamma^t r_t (n,), w_t = prod over s <= t of pi/beta.

    Unbiased with right propensities; its variance grows exponentially with the length of sessions.

    Args:
        rewards: Logged rewards (n, T).
        pi: Probability of the logged items under the evaluated policy (n, T).
        beta: The same under the behaviour policy (n, T).
        gamma: Discount per step, between 0 and 1.

    Source: Precup, Sutton and Singh (2000), Eligibility traces for off-policy policy evaluation, ICML.
    """
    weights, rewards = _inputs(rewards, pi, beta)
    return weights[:, -1] * _discounted(rewards, gamma).sum(axis=1)


def sn_trajectory_is(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Returns self-normalised (weighted) trajectory importance sampling's values (n,), linearised as in `snips`.

    V = sum_i w_iT G_i / sum_i w_iT stays within the range of the returns G. Biased of order 1/n: where the weights have
    collapsed it is little more than the return of the heaviest session. Arguments as for `trajectory_is`.

    Source: Precup, Sutton and Singh (2000), the weighted estimator.
    """
    weights, rewards = _inputs(rewards, pi, beta)
    return _linearised(weights[:, -1:], _discounted(rewards, gamma).sum(axis=1, keepdims=True))[:, 0]


def per_decision_is(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Returns per-decision importance sampling's values sum_t gamma^t w_t r_t (n,): only the past weighs.

    Unbiased with right propensities, less variance than `trajectory_is`; late rewards still carry long products.
    Arguments as for `trajectory_is`.

    Source: Precup, Sutton and Singh (2000), Eligibility traces for off-policy policy evaluation, ICML, section 4.
    """
    weights, rewards = _inputs(rewards, pi, beta)
    return (weights * _discounted(rewards, gamma)).sum(axis=1)


def sn_per_decision_is(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Returns self-normalised per-decision importance sampling's values (n,), linearised as in `snips`, step by step.

    V = sum_t gamma^t (sum_i w_it r_it / sum_i w_it). Bounded by the rewards, biased of order 1/n; fails as
    `sn_trajectory_is` does, at late steps first. Arguments as for `trajectory_is`.

    Source: Thomas (2015), Safe reinforcement learning (thesis), section 3.5.
    """
    weights, rewards = _inputs(rewards, pi, beta)
    return _linearised(weights, _discounted(rewards, gamma)).sum(axis=1)


def sequential_dr(
    rewards: np.ndarray,
    pi: np.ndarray,
    beta: np.ndarray,
    q: np.ndarray,
    v: np.ndarray,
    gamma: float = 1.0,
) -> np.ndarray:
    """Returns sequential doubly robust values sum_t gamma^t (w_t (r_t - q_t) + w_{t-1} v_t) (n,), w_{-1} = 1.

    Unbiased if the propensities are right and the model was fitted on other sessions (`fitted_q` does so). The better
    the model of the return to come, the less variance. Fails where the products are huge and the model is not exact.

    Args:
        rewards: Logged rewards (n, T).
        pi: Probability of the logged items under the evaluated policy (n, T).
        beta: The same under the behaviour policy (n, T).
        q: Model of the return from step t on, given the logged item (n, T).
        v: Model of the return from step t on under the evaluated policy (n, T).
        gamma: Discount per step, between 0 and 1.

    Source: Jiang and Li (2016), Doubly robust off-policy value evaluation for reinforcement learning, ICML, eq. 10.
    """
    weights, rewards = _inputs(rewards, pi, beta)
    q, v = finite(q, "q", weights.shape), finite(v, "v", weights.shape)
    before = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)  # (n, T) weight of the past
    return _discounted(weights * (rewards - q) + before * v, gamma).sum(axis=1)


def session_weights(pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns the cumulated weights w_t (n, T) of sessions; the last column is the weight of the whole session.

    Raises:
        DataError: as `importance_weights`, or if at some step no session is left that the evaluated policy could have
            had, or one has a weight of 1e100.
    """
    ratios = importance_weights(pi, beta)
    if ratios.ndim != 2:
        raise DataError(f"pi and beta must have shape (n, T), got {ratios.shape}; give one row per session")
    weights = cumulated(ratios)  # (n, T)
    empty = np.flatnonzero(~weights.any(axis=0))
    if len(empty):
        raise NoOverlapError(
            f"some session must be possible under the evaluated policy, got none of {len(weights)} "
            f"from step {empty[0]} of {weights.shape[1]} on; this log says nothing about it: "
            f"use a stochastic policy or fitted Q evaluation"
        )
    if (heavy := weights.max(axis=0) >= HEAVIEST).any():
        raise NoOverlapError(
            f"weights of sessions must be below {HEAVIEST:g}, got larger ones from step {int(np.argmax(heavy))} of "
            f"{weights.shape[1]} on; what was logged is all but impossible: check propensities, or take fitted Q"
        )
    return weights


def _inputs(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = session_weights(pi, beta)
    warn_if_thin(weights[:, -1])
    return weights, finite(rewards, "rewards", weights.shape)


def _discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    if not 0.0 <= gamma <= 1.0:
        raise DataError(f"gamma must be between 0 and 1, got {gamma}; 1 means no discount")
    return rewards * gamma ** np.arange(rewards.shape[1])


def _linearised(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    ratio = (weights * values).sum(axis=0) / weights.sum(axis=0)  # (T,)
    return ratio + weights * (values - ratio) / weights.mean(axis=0)
