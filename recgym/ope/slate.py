"""Estimators for slates of k items shown together: one value per logged slate (n,) float64, their mean the estimate.

What is assumed of the user decides which propensity is needed: of the whole slate (`slate_ips`, nothing assumed), of
each position on its own (`independent_ips`), of each position given those above it (`reward_interaction_ips`), or of
(position, item) pairs and how they occur together (`pseudo_inverse`). Errors and warnings as in `ope.estimators`.
"""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.ope.checks import NoOverlapError, as_probabilities, finite, importance_weights, warn_if_thin


def slate_ips(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns values w * sum of the slate's rewards (n,), w = pi / beta of the *whole* slate.

    Unbiased whatever users do with a slate. Fails for all but tiny slates: their number grows as n_items^k.

    Args:
        rewards: Rewards of the positions (n, k).
        pi: Joint probability of each logged slate under the evaluated policy (n,).
        beta: The same under the behaviour policy (n,).

    Source: McInerney et al. (2020), Counterfactual evaluation of slate recommendations with sequential reward
        interactions, KDD, section 3.
    """
    weights = importance_weights(pi, beta, "slate")
    if weights.ndim != 1:
        raise DataError(f"joint probabilities must have shape (n,), got {weights.shape}; give one per slate")
    warn_if_thin(weights)
    return weights * _rewards(rewards, len(weights)).sum(axis=1)


def independent_ips(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns values sum over positions p of w_p r_p (n,), w_p = pi / beta of the item *at that position*.

    Unbiased if a position's reward depends on its own item alone. Fails where items compete or the user reads
    downwards.

    Args:
        rewards: Rewards of the positions (n, k).
        pi: Marginal probability of the logged item at each position under the evaluated policy (n, k).
        beta: The same under the behaviour policy (n, k).

    Source: Li et al. (2018), Offline evaluation of ranking policies with click models, KDD.
    """
    weights = _position_weights(pi, beta)
    _check_overlap(weights)
    for position in range(weights.shape[1]):
        warn_if_thin(weights[:, position])
    return (weights * _rewards(rewards, *weights.shape)).sum(axis=1)


def reward_interaction_ips(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns values sum over positions p of (prod over p' <= p of pi_p' / beta_p') r_p (n,).

    Unbiased if users read downwards: a position's reward depends on it and those above (the cascade). Fails where lower
    items matter for upper ones; variance grows with position.

    Args:
        rewards: Rewards of the positions (n, k), first position first.
        pi: Probability of the logged item at each position *given those above* under the evaluated policy (n, k).
        beta: The same under the behaviour policy (n, k).

    Source: McInerney et al. (2020), eq. 9.
    """
    weights = np.cumprod(_position_weights(pi, beta), axis=1)  # (n, k)
    _check_overlap(weights)
    warn_if_thin(weights[:, -1])
    return (weights * _rewards(rewards, *weights.shape)).sum(axis=1)


def pseudo_inverse(
    reward: np.ndarray, slates: np.ndarray, pi_positions: np.ndarray, beta_moments: np.ndarray
) -> np.ndarray:
    """Returns pseudo-inverse values r * (pi_x' Gamma^+ 1_s) (n,), for one reward per slate.

    `1_s` marks the k (position, item) pairs of slate s, `pi_x = E_pi[1_s]`, `Gamma = E_beta[1_s 1_s']`. Unbiased if a
    slate's expected reward is a sum of unknown terms, one per (position, item) pair, and every slate of the evaluated
    policy had a chance. Needs far fewer decisions than `slate_ips`; fails where items of a slate interact.

    Args:
        reward: Reward of each slate (n,).
        slates: Items shown (n, k) int.
        pi_positions: Marginal probability of every item at every position under the evaluated policy (n, k, n_items).
        beta_moments: Gamma (k * n_items, k * n_items), see `slate_moments` and `uniform_slate_moments`.

    Source: Swaminathan et al. (2017), Off-policy evaluation for slate recommendation, NIPS, eq. 4.

    Raises:
        DataError: if shapes disagree, an item is not between 0 and n_items - 1, `pi_positions` are no probabilities or
            sum to more than 1 at a position, a number is not finite, or a pair of the evaluated policy had no chance.
    """
    return weighed_slates(reward, pseudo_inverse_weights(slates, pi_positions, beta_moments))


def weighed_slates(reward: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns weights * reward, both (n,) and one per slate, after warning where the weights are thin."""
    warn_if_thin(weights)
    return weights * finite(reward, "reward", weights.shape)


def pseudo_inverse_weights(slates: np.ndarray, pi_positions: np.ndarray, beta_moments: np.ndarray) -> np.ndarray:
    """Returns the weights pi_x' Gamma^+ 1_s (n,) of `pseudo_inverse`: 1 in expectation, negative ones among them."""
    slates, pi_positions, beta_moments = (np.asarray(array) for array in (slates, pi_positions, beta_moments))
    if pi_positions.ndim != 3:
        raise DataError(
            f"pi_positions must have shape (n, k, n_items), got {pi_positions.shape}; give every item at every position"
        )
    n, k, n_items = pi_positions.shape
    if slates.shape != (n, k) or beta_moments.shape != (k * n_items, k * n_items):
        raise DataError(
            f"slates must have shape ({n}, {k}) and beta_moments ({k * n_items}, {k * n_items}) to fit pi_positions, "
            f"got {slates.shape} and {beta_moments.shape}; align them"
        )
    _check_items(slates, n_items)
    pi_positions = as_probabilities(pi_positions, "pi_positions")
    sums = pi_positions.sum(axis=2)
    if (sums > 1.0 + 1e-4).any():
        raise DataError(
            f"pi_positions must sum to at most 1 over the items of a position, got {sums.max():g} "
            f"({np.count_nonzero(sums > 1.0 + 1e-4)} of {sums.size} positions); give marginal probabilities"
        )
    beta_moments = finite(beta_moments, "beta_moments", beta_moments.shape)
    unseen = pi_positions.reshape(n, -1)[:, np.diag(beta_moments) == 0.0]
    if (unseen > 0.0).any():
        raise DataError(
            f"every (position, item) pair of the evaluated policy must have had a chance, "
            f"got {np.count_nonzero(unseen > 0.0)} that never had; use a policy within the logged one's support"
        )
    inverse = np.linalg.pinv(beta_moments, hermitian=True)
    seen = inverse[slates + n_items * np.arange(k)].sum(axis=1)  # (n, k * n_items): Gamma^+ 1_s
    weights: np.ndarray = np.einsum("nc,nc->n", seen, pi_positions.reshape(n, -1))
    return weights


def slate_moments(slates: np.ndarray, probabilities: np.ndarray, n_items: int) -> np.ndarray:
    """Returns Gamma (k * n_items, k * n_items) of a policy given by all its slates (m, k) and probabilities (m,)."""
    slates = np.asarray(slates)
    m, k = slates.shape
    _check_items(slates, n_items)
    probabilities = as_probabilities(finite(probabilities, "probabilities", (m,)), "probabilities")
    pairs = np.zeros((m, k * n_items))
    pairs[np.arange(m)[:, None], slates + n_items * np.arange(k)] = 1.0  # 1_s
    return pairs.T @ (pairs * probabilities[:, None])


def uniform_slate_moments(n_items: int, k: int) -> np.ndarray:
    """Returns Gamma of the policy that shows every ordered slate of k different items equally often.

    Same position: 1/n_items on the diagonal. Two positions: 1 / (n_items (n_items - 1)) for two different items.
    """
    if not 1 <= k <= n_items:
        raise DataError(f"k must be between 1 and n_items = {n_items}, got {k}; a slate holds different items")
    same = np.eye(n_items) / n_items
    other = (1.0 - np.eye(n_items)) / (n_items * max(n_items - 1, 1))
    return np.kron(np.eye(k), same) + np.kron(1.0 - np.eye(k), other)


def _position_weights(pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    weights = importance_weights(pi, beta)
    if weights.ndim != 2:
        raise DataError(f"pi and beta must have shape (n, k), got {weights.shape}; give one per position")
    return weights


def _check_overlap(weights: np.ndarray) -> None:
    """Refuses weights of positions (n, k) that are all 0 at one: the rewards there would silently count as 0."""
    empty = np.flatnonzero(~weights.any(axis=0))
    if len(empty):
        raise NoOverlapError(
            f"some logged slate must be possible under the evaluated policy at every position, got none of "
            f"{len(weights)} at position {empty[0] + 1} of {weights.shape[1]}; nothing is known of the rewards there: "
            f"use a stochastic policy, or evaluate the positions above alone"
        )


def _check_items(slates: np.ndarray, n_items: int) -> None:
    if not np.issubdtype(slates.dtype, np.integer):
        raise DataError(f"slates must hold item indices, got {slates.dtype} numbers; give integers")
    outside = (slates < 0) | (slates >= n_items)
    if outside.any():
        raise DataError(
            f"items of slates must be between 0 and {n_items - 1}, got {slates[outside][0]} "
            f"({np.count_nonzero(outside)} of {slates.size}); give item indices"
        )


def _rewards(rewards: np.ndarray, n: int, k: int | None = None) -> np.ndarray:
    rewards = np.asarray(rewards)
    return finite(rewards, "rewards", (n, rewards.shape[-1] if k is None else k))
