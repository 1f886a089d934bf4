"""Off-policy evaluation: what a policy would have earned, from a log of what another policy showed.

Pure functions of arrays. An estimator returns one value per decision (or slate, or session): their mean is the
estimate, `recgym.metrics.mean_interval` (bootstrap) or `bernstein_interval` makes its interval, and `diagnose` says in
words whether to believe it. `recgym.evaluate_policy` does all of it for a log and a policy.

| name | for | needs | right if | fails where |
|---|---|---|---|---|
| `direct`, `expected` | decisions | model | the model is right | the model is wrong: no sign of it |
| `ips` | decisions | propensities | they are right and cover the policy | few decisions carry the weight |
| `clipped_ips` | decisions | propensities | no weight is clipped | what is clipped is what matters |
| `snips` | decisions | propensities | as `ips`, up to 1/n | as `ips`, later |
| `doubly_robust` | decisions | both | either is right | weights are huge and the model is poor |
| `sndr`, `switch_dr`, `dr_os` | decisions | both | as `doubly_robust`, biased | weights are cut and the model poor |
| `trajectory_is`, `sn_trajectory_is` | sessions | propensities | as `ips` | sessions of more than a few steps |
| `per_decision_is`, `sn_per_decision_is` | sessions | propensities | as `ips` | likewise, a little later |
| `sequential_dr` | sessions | both | either is right | likewise, later the better the model |
| `fitted_q`, `FittedQ`, `likeness` | sessions | features | they express what is to come | the log has not been there |
| `slate_ips` | slates | of whole slates | always | all but tiny slates |
| `reward_interaction_ips` | slates | given the items above | users read downwards | long slates |
| `independent_ips` | slates | of each position | positions do not interact | items compete |
| `mips` | decisions | all probabilities | rewards go by groups of items | they do not (`direct_effect`) |
| `kernel_ips`, `kernel_dr` | vectors | their density | rewards are smooth | more than a few directions |
| `pseudo_inverse` | slates | `slate_moments`, `uniform_slate_moments` | rewards add up | items interact |

`recgym.ope.behaviour.estimate_propensities` makes propensities for a log without; `sensitivity` and `turning_gamma` say
how far estimates made with them could be off.

`slope` chooses a clip, threshold or shrinkage, whose bias an interval leaves out. `importance_weights` and
`session_weights` check propensities and divide; `effective_samples` and `diagnose` (a `Diagnosis`) say what the weights
are worth. Estimators raise `NoOverlapError` where nothing overlaps (for slates by position: at some position) and warn
with `OverlapWarning` where hardly anything does.

Example:
    >>> import numpy as np
    >>> reward, pi, beta = np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.1, 0.8]), np.array([0.5, 0.5, 0.5])
    >>> round(float(snips(reward, pi, beta).mean()), 4)
    0.9444
"""

from recgym.ope.checks import NoOverlapError, OverlapWarning, effective_samples, importance_weights
from recgym.ope.confounding import Sensitivity, sensitivity, turning_gamma, weight_bounds
from recgym.ope.diagnostics import Diagnosis, bernstein_interval, diagnose
from recgym.ope.estimators import (
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
from recgym.ope.fqe import FittedQ, fitted_q, likeness
from recgym.ope.selection import slope
from recgym.ope.sessions import (
    per_decision_is,
    sequential_dr,
    session_weights,
    sn_per_decision_is,
    sn_trajectory_is,
    trajectory_is,
)
from recgym.ope.slate import (
    independent_ips,
    pseudo_inverse,
    reward_interaction_ips,
    slate_ips,
    slate_moments,
    uniform_slate_moments,
)
from recgym.ope.smooth import DirectEffect, direct_effect, kernel_dr, kernel_ips, mips

__all__ = [
    "Diagnosis",
    "DirectEffect",
    "FittedQ",
    "NoOverlapError",
    "OverlapWarning",
    "Sensitivity",
    "bernstein_interval",
    "clipped_ips",
    "diagnose",
    "direct",
    "direct_effect",
    "doubly_robust",
    "dr_os",
    "effective_samples",
    "expected",
    "fitted_q",
    "importance_weights",
    "independent_ips",
    "ips",
    "kernel_dr",
    "kernel_ips",
    "likeness",
    "mips",
    "per_decision_is",
    "pseudo_inverse",
    "reward_interaction_ips",
    "sensitivity",
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
    "turning_gamma",
    "uniform_slate_moments",
    "weight_bounds",
]
