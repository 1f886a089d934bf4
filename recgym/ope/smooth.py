"""Off-policy values that borrow from like actions: items of one group, and proto-actions that lie near each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

from recgym.errors import DataError
from recgym.ope.checks import NoOverlapError

KERNELS = ("gaussian", "epanechnikov")


class DirectEffect(NamedTuple):
    """What items of one group differ in, beside their group: what `mips` cannot see."""

    share: float  # of the variance of rewards within groups that items explain beyond luck, 0 to 1
    p_value: float  # of that much or more if items of a group were all alike (F test); NaN: nothing to compare


def mips(reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, group: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """Returns marginalised inverse propensity scoring's values w r (n,).

    With P(g | a) how items have embeddings, w = sum_a pi(a) P(g | a) / sum_a beta(a) P(g | a) for the embedding g of
    the shown item. Unbiased if an item's reward depends on it through its embedding alone and some shown item of each
    embedding covers those that the policy shows; the variance is that of as many arms as there are embeddings. What the
    embeddings leave out is its bias, see `direct_effect`.

    Args:
        reward: Rewards (n,).
        pi: Probabilities of all items under the evaluated policy (n, n_items).
        beta: Those of the logged one (n, n_items), e.g. estimated.
        group: Embedding of each shown item (n,), 0 to m - 1.
        embedding: Embedding of each item (n_items,), 0 to m - 1, or P(g | a) (n_items, m).

    Source: Saito and Joachims (2022), Off-policy evaluation for large action spaces via embeddings, ICML, equation 5.

    Raises:
        DataError: if shapes or embeddings do not fit together.
        NoOverlapError: if a shown embedding has no chance under the logged policy.

    Example:
        >>> even = np.full((2, 4), 0.25)
        >>> mips(np.ones(2), np.array([[1.0, 0, 0, 0]] * 2), even, np.array([0, 1]), np.array([0, 0, 1, 1])).tolist()
        [2.0, 0.0]
    """
    reward, pi, beta, group = (np.asarray(part) for part in (reward, pi, beta, group))
    n, n_items = pi.shape if pi.ndim == 2 else (0, 0)
    if beta.shape != (n, n_items) or reward.shape != (n,) or group.shape != (n,) or len(embedding) != n_items or not n:
        raise DataError(
            f"pi and beta must have one shape (n, n_items), reward and group (n,), embedding (n_items, ...), got "
            f"{pi.shape}, {beta.shape}, {reward.shape}, {group.shape} and {np.shape(embedding)}; mend them"
        )
    shares = np.asarray(embedding)
    if shares.ndim == 1:
        if shares.dtype.kind not in "iu" or shares.min() < 0:
            raise DataError(f"embeddings must be numbered from 0, got {shares.dtype} from {shares.min()}; number them")
        shares = np.eye(int(shares.max()) + 1)[shares]
    if group.dtype.kind not in "iu" or group.min() < 0 or group.max() >= shares.shape[1]:
        raise DataError(f"group must lie in 0..{shares.shape[1] - 1}, got {group.min()} to {group.max()}; number it")
    rows = np.arange(n)
    above, below = ((part @ shares)[rows, group] for part in (pi, beta))
    if not (below > 0.0).all():
        raise NoOverlapError(
            f"the logged policy must be able to show every embedding of the log, got {np.count_nonzero(below <= 0.0)} "
            f"of {n} it could not; estimate it anew"
        )
    return np.asarray(above / below * reward)


def direct_effect(reward: np.ndarray, items: np.ndarray, group: np.ndarray) -> DirectEffect:
    """Returns how much items of one group differ in their mean rewards beyond luck: what `mips` is biased by.

    One-way analysis of variance within groups. A share near 0 with a p-value above .05 says that nothing speaks against
    the groups; it cannot say that they suffice, as what was known when items were shown is left out.

    Args:
        reward: Rewards (n,).
        items: Shown items (n,).
        group: Embedding of each (n,); all events of an item share one.

    Example:
        >>> direct_effect(np.array([0.0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.zeros(4, int)).share
        0.0
    """
    reward = np.asarray(reward, dtype=np.float64)
    _, item = np.unique(items, return_inverse=True)
    _, of_group = np.unique(group, return_inverse=True)

    def around(label: np.ndarray) -> tuple[float, int]:
        mean = np.bincount(label, reward) / np.bincount(label)
        return float(((reward - mean[label]) ** 2).sum()), len(mean)

    (within, n_items), (all_of_group, n_groups) = around(item), around(of_group)
    more, left = n_items - n_groups, len(reward) - n_items
    if more < 1 or left < 1 or all_of_group <= 0.0:
        return DirectEffect(0.0, float("nan"))
    if within <= 0.0:
        return DirectEffect(1.0, 0.0)
    share = ((all_of_group - within) - more * within / left) / all_of_group  # epsilon squared
    return DirectEffect(max(share, 0.0), float(fdtrc(more, left, (all_of_group - within) / more / (within / left))))


def kernel_ips(
    reward: np.ndarray,
    action: np.ndarray,
    target: np.ndarray,
    density: np.ndarray,
    bandwidth: float,
    *,
    kernel: str = "gaussian",
    normalise: bool = False,
) -> np.ndarray:
    """Returns the values K((target - action) / h) / h^d / density * reward (n,) of a policy that outputs vectors.

    Its bias grows with h squared, its variance with 1 / h^d: for a few directions only.

    Args:
        reward: Rewards (n,).
        action: Logged vectors (n, d) or (n,).
        target: The evaluated policy's vectors for the same moments, likewise.
        density: Density of the logged policy at the logged vectors (n,), as `recgym.collect` logs its logarithm.
        bandwidth: h, above 0.
        kernel: `"gaussian"` or `"epanechnikov"`, of each direction.
        normalise: Whether weights are divided by their mean.

    Source: Kallus and Zhou (2018), Policy evaluation and optimization with continuous treatments, AISTATS, equation 3.

    Raises:
        DataError: if shapes do not fit together, or a number is out of range.
        NoOverlapError: if all weights are 0 and are to be normalised.
    """
    return kernel_weights(action, target, density, bandwidth, kernel, normalise) * np.asarray(reward, dtype=np.float64)


def kernel_dr(
    reward: np.ndarray,
    action: np.ndarray,
    target: np.ndarray,
    density: np.ndarray,
    bandwidth: float,
    q: np.ndarray,
    v: np.ndarray,
    *,
    kernel: str = "gaussian",
    normalise: bool = False,
) -> np.ndarray:
    """Returns the doubly robust values v + w (reward - q) (n,), w as in `kernel_ips`.

    Args:
        reward: See `kernel_ips`, as `action`, `target`, `density`, `bandwidth`, `kernel` and `normalise`.
        action: See there.
        target: See there.
        density: See there.
        bandwidth: See there.
        q: A model's values of the logged vectors (n,).
        v: Its values of the policy's vectors (n,).
        kernel: See there.
        normalise: See there.
    """
    weight = kernel_weights(action, target, density, bandwidth, kernel, normalise)
    return np.asarray(v + weight * (np.asarray(reward, dtype=np.float64) - q))


def kernel_weights(
    action: np.ndarray, target: np.ndarray, density: np.ndarray, bandwidth: float, kernel: str, normalise: bool
) -> np.ndarray:
    """Returns the weights of `kernel_ips` (n,)."""
    if kernel not in KERNELS:
        raise DataError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}; choose one of them")
    action, target = (np.asarray(part, dtype=np.float64) for part in (action, target))
    density = np.asarray(density, dtype=np.float64)
    n = len(density)
    if action.shape != target.shape or len(action) != n or not bandwidth > 0.0 or not (density > 0.0).all():
        raise DataError(
            f"action and target must have one shape (n, d), with n densities above 0 and a bandwidth above 0, got "
            f"{action.shape}, {target.shape}, {n} densities and {bandwidth}; mend them"
        )
    apart = ((target - action) / bandwidth).reshape(n, -1)
    if kernel == "gaussian":
        near = np.exp(-0.5 * apart**2) / np.sqrt(2.0 * np.pi)
    else:
        near = 0.75 * np.clip(1.0 - apart**2, 0.0, None)
    weight = (near / bandwidth).prod(axis=1) / density
    if normalise:
        if not weight.any():
            raise NoOverlapError("some logged vector must lie near the policy's, got none; raise the bandwidth")
        weight = weight / weight.mean()
    return np.asarray(weight)
