"""Choosing an estimator's hyperparameter by bias against variance, without knowing the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes a third of a second to load

from recgym.errors import DataError


def slope(candidates: Sequence[np.ndarray], *, confidence: float = 0.9) -> int:
    """Returns which of several estimates to use: the narrowest whose interval still agrees with all wider ones.

    Candidates are sorted by the half-width c of their confidence interval, widest (least biased) first, and walked as
    long as |V_j - V_i| <= c_i + (sqrt(6) - 1) c_j for every earlier j; the last that agrees is chosen. It assumes that
    variance falls as bias rises, as for the clip of `clipped_ips`, the threshold of `switch_dr` and the shrinkage of
    `dr_os`. It accepts a bias of the order of the wider intervals; an interval made from the chosen values leaves that
    out and can miss the truth far more often than it says.

    Args:
        candidates: Per-decision values (n,) of the same estimator, one array per hyperparameter.
        confidence: Of the one-sided Student interval that gives c.

    Source: Su, Srinath and Krishnamurthy (2020), Adaptive estimator selection for off-policy evaluation, ICML; the
        constant is that of Tucker and Lee (2021), Improved estimator selection for off-policy evaluation.

    Raises:
        DataError: if there is no candidate, or one has fewer than two values.

    Example:
        >>> clips = [1.0, 10.0, 100.0]
        >>> reward, pi, beta = np.ones(50), np.full(50, 0.5), np.full(50, 0.5)
        >>> clips[slope([np.minimum(pi / beta, clip) * reward for clip in clips])]
        1.0
    """
    if len(candidates) == 0 or min(len(values) for values in candidates) < 2:
        raise DataError(
            f"candidates must hold at least one array of two values or more, got {len(candidates)} arrays of lengths "
            f"{[len(values) for values in candidates][:3]}; give the values of each hyperparameter"
        )
    means = np.array([np.mean(values) for values in candidates])
    widths = np.array([_half_width(np.asarray(values, dtype=np.float64), confidence) for values in candidates])
    order = np.argsort(widths)[::-1]  # widest first
    for place in range(1, len(order)):
        wider, this = order[:place], order[place]
        if (np.abs(means[wider] - means[this]) > widths[this] + (np.sqrt(6.0) - 1.0) * widths[wider]).any():
            return int(order[place - 1])
    return int(order[-1])


def _half_width(values: np.ndarray, confidence: float) -> float:
    n = len(values)
    return float(values.std(ddof=1) / np.sqrt(n) * stdtrit(n - 1, confidence))
