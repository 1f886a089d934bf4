"""Off-policy evaluation: what a policy would have earned, from a log of what another policy showed.

Pure functions of arrays. An estimator returns one value per decision or session; the mean of the values is the
estimate, `recgym.metrics.mean_interval` (bootstrap) or `bernstein_interval` makes its interval, and `diagnose` says in
words whether to believe it. `slope` chooses hyperparameters.

Example:
    >>> import numpy as np
    >>> reward, pi, beta = np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.1, 0.8]), np.array([0.5, 0.5, 0.5])
    >>> round(float(snips(reward, pi, beta).mean()), 4)
    0.9444
"""

from recgym.ope.checks import NoOverlapError, OverlapWarning, effective_samples, importance_weights
from recgym.ope.diagnostics import Diagnosis, bernstein_interval, diagnose
from recgym.ope.fqe import FittedQ, fitted_q
from recgym.ope.selection import slope
from recgym.ope.single import (
    clipped_ips,
    direct,
    doubly_robust,
    dr_os,
    expected,
    ips,
    sndr,
    snips,
    switch_dr,
)
from recgym.ope.slate import (
    independent_ips,
    pseudo_inverse,
    reward_interaction_ips,
    slate_ips,
    slate_moments,
    uniform_slate_moments,
)
from recgym.ope.trajectory import (
    per_decision_is,
    sequential_dr,
    session_weights,
    sn_per_decision_is,
    sn_trajectory_is,
    trajectory_is,
)

__all__ = [
    "Diagnosis",
    "FittedQ",
    "NoOverlapError",
    "OverlapWarning",
    "bernstein_interval",
    "clipped_ips",
    "diagnose",
    "direct",
    "doubly_robust",
    "dr_os",
    "effective_samples",
    "expected",
    "fitted_q",
    "importance_weights",
    "independent_ips",
    "ips",
    "per_decision_is",
    "pseudo_inverse",
    "reward_interaction_ips",
    "sequential_dr",
    "session_weights",
    "slate_ips",
    "slate_moments",
    "slope",
    "sn_per_decision_is",
    "sn_trajectory_is",
    "sndr",
    "snips",
    "switch_dr",
    "trajectory_is",
    "uniform_slate_moments",
]
