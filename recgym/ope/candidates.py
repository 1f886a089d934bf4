"""Which of several policies to try, from one log: a table with verdicts in words, and what would decide the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.evaluation.metrics import Interval
from recgym.evaluation.policies import StochasticPolicy
from recgym.log import InteractionLog
from recgym.ope.report import PolicyEvaluation, evaluate_policy

_BELIEVED = ("sequential_dr", "doubly_robust", "pseudo_inverse", "slate_ips")  # the first that a log has
_DOUBTED = ("sn_trajectory_is", "snips")  # of estimated propensities: what the sensitivity is of
_MODELLED = ("fqe", "direct")  # where weights have collapsed


class Candidate(NamedTuple):
    """One policy: what it seems to earn beside what was logged."""

    name: str
    estimator: str
    value: Interval
    effective: float  # sessions that count, of all
    verdict: str  # "yes", "no", "cannot be told": does it earn more than what was logged?
    gamma: float | None  # smallest Gamma at which that turns; None where propensities were logged
    needed: float  # sessions like these that would decide; 0 where it is decided, infinite where overlap is missing


@dataclass(frozen=True)
class Candidates:
    """Candidates, the largest estimate first; `str` is the table.

    Attributes:
        logged: Mean return of the logged sessions.
        rows: One per policy.
        evaluations: All estimates of each, by its name.
    """

    logged: Interval
    rows: tuple[Candidate, ...]
    evaluations: Mapping[str, PolicyEvaluation]

    def __str__(self) -> str:
        lines = [f"does it earn more than the logged policy, {self.logged}?"]
        for row in self.rows:
            words = row.verdict
            if row.gamma is not None and row.gamma > 1.0:
                words += ", whatever is missing" if np.isinf(row.gamma) else f", down to Gamma {row.gamma:.2g}"
            if np.isinf(row.needed):
                words += "; no number of such sessions decides: log a policy that shows what it shows"
            elif row.needed:
                words += f"; some {row.needed:,.0f} sessions like these would decide"
            lines.append(f"  {row.name:24} {row.value!s:30} {row.estimator:14} {row.effective:8,.0f} count  {words}")
        return "\n".join(lines)


def compare_candidates(log: InteractionLog, policies: Mapping[str, StochasticPolicy], **wishes: Any) -> Candidates:
    """Returns a table of policies for one log, with verdicts.

    The estimate is the doubly robust one where weights can be believed (of estimated propensities the self-normalised
    one, whose sensitivity is known), else a model's, which decides nothing. A policy earns more where the 95 % interval
    of its difference from what was logged lies above 0: of many candidates some will by luck alone, so try the first,
    not all.

    Args:
        log: See `recgym.evaluate_policy`.
        policies: By name; none of them fitted on this log.
        **wishes: Further arguments of `recgym.evaluate_policy`, e.g. `behaviour="logistic"`.

    Raises:
        DataError: if there is no policy, or `evaluate_policy` refuses one.
    """
    if not policies:
        raise DataError("candidates must be at least one policy, got none; name them")
    done = {name: evaluate_policy(log, policy, **wishes) for name, policy in policies.items()}
    rows = [_candidate(name, one, log.n_users) for name, one in done.items()]
    rows.sort(key=lambda row: -np.nan_to_num(row.value.mean, nan=-np.inf))
    return Candidates(next(iter(done.values())).logged, tuple(rows), done)


def _candidate(name: str, done: PolicyEvaluation, n: int) -> Candidate:
    found = {row.estimator: row.interval for row in done.estimates if np.isfinite(row.interval.mean)}
    sound = done.diagnosis is not None and done.diagnosis.believable
    order = _MODELLED if not sound else _DOUBTED if done.turns is not None else _BELIEVED
    estimator = next((one for one in order if one in found), "")
    value = found.get(estimator, Interval(float("nan"), float("nan"), float("nan")))
    effective = 0.0 if done.diagnosis is None else done.diagnosis.effective
    claim, gamma = ("", None) if done.turns is None else done.turns
    if not sound or not estimator:
        return Candidate(name, estimator or "-", value, effective, "cannot be told", gamma, float("inf"))
    apart = value.mean - done.logged.mean
    widths = [0.5 * (one.high - one.low) for one in (value, done.logged)]
    width = float(np.hypot(widths[0], widths[1]))  # of the difference, were they unrelated
    decided = abs(apart) > width if gamma is None else gamma > 1.0  # by the paired bootstrap of `turning_gamma`
    if decided:
        verdict = "yes" if (claim == "more" if gamma is not None else apart > 0.0) else "no"
        return Candidate(name, estimator, value, effective, verdict, gamma, 0.0)
    needed = n * (width / abs(apart)) ** 2 if apart else float("inf")  # widths fall with the root of n
    return Candidate(name, estimator, value, effective, "cannot be told", gamma, max(float(np.ceil(needed)), n + 1.0))
