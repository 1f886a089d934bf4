"""Estimators for one item per decision: what would the evaluated policy have earned, per logged decision.

Each returns one value per decision (n,) float64; their mean is the estimate and `mean_interval` makes its interval.
`pi` and `beta` are the probabilities of the *logged* item under the evaluated and the behaviour policy; `w = pi /
beta`; `q` is a model's reward for the logged item and `v = sum over items a of pi(a | x) q(x, a)` its reward under the
evaluated policy. All but `direct` raise DataError for probabilities that are missing, zero (`beta`) or above 1 and
where nothing overlaps, and warn (`OverlapWarning`) where fewer than 30 effective decisions are left.
"""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.ope.checks import finite, importance_weights, warn_if_thin


def direct(v: np.ndarray) -> np.ndarray:
    """Returns the direct method's values v (n,): what a reward model says of the evaluated policy.

    Fails where the model is wrong: no propensities are used, so its bias is never seen, however many decisions there
    are.

    Args:
        v: Model reward under the evaluated policy (n,), see `expected`.

    Source: Beygelzimer and Langford (2009), The offset tree for learning with partial labels, KDD.
    """
    return finite(v, "v", np.shape(v)[:1])


def expected(pi_all: np.ndarray, q_all: np.ndarray) -> np.ndarray:
    """Returns v (n,) = sum over items of pi_all * q_all, both (n, n_items)."""
    pi_all = np.asarray(pi_all, dtype=np.float64)
    sums = pi_all.sum(axis=-1)
    off = np.abs(sums - 1.0) > 1e-4
    if off.any():
        raise DataError(
            f"pi_all must sum to 1 over the items, got {sums[off][0]:g} ({np.count_nonzero(off)} of {sums.size} rows); "
            f"give the whole distribution of the evaluated policy"
        )
    return (pi_all * np.asarray(q_all, dtype=np.float64)).sum(axis=-1) / sums


def ips(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns inverse propensity scoring's values w r (n,).

    Unbiased where `beta` is right and every item the evaluated policy can show had a chance. Fails (huge variance)
    where the two policies differ much: few decisions carry all the weight.

    Source: Horvitz and Thompson (1952), JASA 47; Strehl et al. (2010), Learning from logged implicit exploration data.

    Example:
        >>> ips(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.25, 0.75])).tolist()
        [2.0, 0.0]
    """
    weights, reward = _weights(reward, pi, beta)
    return weights * reward


def clipped_ips(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, clip: float) -> np.ndarray:
    """Returns clipped inverse propensity scoring's values min(w, clip) r (n,).

    Less variance than `ips`, at a bias of -E[(w - clip)+ r]: with rewards of one sign the estimate shrinks towards 0.
    Fails where the policies differ much: what is clipped is what matters. `slope` chooses `clip`.

    Args:
        reward: Logged rewards (n,).
        pi: Probability of the logged items under the evaluated policy (n,).
        beta: The same under the behaviour policy (n,).
        clip: Largest weight, above 0.

    Source: Ionides (2008), Truncated importance sampling, JCGS 17(2).
    """
    weights, reward = _weights(reward, pi, beta)
    return np.minimum(weights, _positive(clip, "clip")) * reward


def snips(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns self-normalised inverse propensity scoring's values V + w (r - V) / mean(w) (n,), V = sum(w r) / sum(w).

    Their mean is V. V stays within the range of the rewards and does not move when a constant is added to all of them.
    The values are linearised, so that an interval made from them has the variance of the ratio (the usual w r / mean(w)
    has the same mean but ignores that the denominator is random). Biased of order 1/n; fails as `ips` does, more
    gently.

    Source: Swaminathan and Joachims (2015), The self-normalized estimator for counterfactual learning, NIPS, eq. 8.
    """
    weights, reward = _weights(reward, pi, beta)
    return _linearised(weights, reward)


def doubly_robust(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the doubly robust values v + w (r - q) (n,).

    Unbiased if the propensities are right or the model is (a model fitted on other decisions than it is used on: see
    `fitted_q`). Less variance than `ips` the better the model. Fails where weights are huge and the model is poor.

    Args:
        reward: Logged rewards (n,).
        pi: Probability of the logged items under the evaluated policy (n,).
        beta: The same under the behaviour policy (n,).
        q: Model reward of the logged items (n,).
        v: Model reward under the evaluated policy (n,), see `expected`.

    Source: Dudik, Langford and Li (2011), Doubly robust policy evaluation and learning, ICML, eq. 2.
    """
    weights, residual, v = _model_inputs(reward, pi, beta, q, v)
    return v + weights * residual


def sndr(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns self-normalised doubly robust values v + C + w (r - q - C) / mean(w) (n,), C = sum(w (r - q)) / sum(w).

    Their mean is mean(v) + C; the values are linearised as in `snips`. Bounded corrections, bias of order 1/n; fails
    where the model is poor and few decisions overlap. Arguments as for `doubly_robust`.

    Source: Thomas and Brunskill (2016), Data-efficient off-policy policy evaluation, ICML (weighted doubly robust).
    """
    weights, residual, v = _model_inputs(reward, pi, beta, q, v)
    return v + _linearised(weights, residual)


def switch_dr(
    reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray, threshold: float
) -> np.ndarray:
    """Returns switch doubly robust values v + w (r - q) 1[w <= threshold] (n,).

    Uses the model alone where a weight is too large to trust. Fails where the model is wrong exactly there: that bias
    is never corrected. `threshold` 0 is the direct method, infinity doubly robust; `slope` chooses it.

    Source: Wang, Agarwal and Dudik (2017), Optimal and adaptive off-policy evaluation in contextual bandits, ICML, eq.
        5.
    """
    weights, residual, v = _model_inputs(reward, pi, beta, q, v)
    if not threshold >= 0.0:
        raise DataError(f"threshold must be 0 or more, got {threshold}; give the largest weight that is trusted")
    return v + np.where(weights <= threshold, weights, 0.0) * residual


def dr_os(
    reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray, shrinkage: float
) -> np.ndarray:
    """Returns values of doubly robust with optimistic shrinkage, v + u (r - q) with u = s w / (w^2 + s) (n,).

    The weight that minimises a bound of the mean squared error, s = `shrinkage`: 0 is the direct method, infinity
    doubly robust. Weights above sqrt(s) shrink towards 0. Fails as `switch_dr`; `slope` chooses `shrinkage`.

    Source: Su et al. (2020), Doubly robust off-policy evaluation with shrinkage, ICML, section 3.1.
    """
    weights, residual, v = _model_inputs(reward, pi, beta, q, v)
    if not shrinkage >= 0.0:
        raise DataError(f"shrinkage must be 0 or more, got {shrinkage}; infinity is doubly robust")
    if np.isinf(shrinkage):
        return v + weights * residual
    shrunk = np.divide(shrinkage * weights, weights**2 + shrinkage, out=np.zeros_like(weights), where=weights > 0.0)
    return v + shrunk * residual


def _weights(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = importance_weights(pi, beta)
    if weights.ndim != 1:
        raise DataError(f"pi and beta must have shape (n,), got {weights.shape}; see the estimators for sessions")
    warn_if_thin(weights)
    return weights, finite(reward, "reward", weights.shape)


def _model_inputs(
    reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights, reward = _weights(reward, pi, beta)
    return weights, reward - finite(q, "q", weights.shape), finite(v, "v", weights.shape)


def _linearised(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    ratio = (weights * values).sum() / weights.sum()
    return ratio + weights * (values - ratio) / weights.mean()


def _positive(value: float, name: str) -> float:
    if not value > 0.0:
        raise DataError(f"{name} must be above 0, got {value}; infinity leaves the weights as they are")
    return value
