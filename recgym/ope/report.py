"""What would this policy have earned? A table of estimates from a log, with intervals and what not to believe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recgym import ope
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.evaluation.metrics import Interval
from recgym.evaluation.policies import StochasticPolicy
from recgym.log import InteractionLog
from recgym.ope import choice as estimators
from recgym.ope.behaviour import Behaviour, estimate_propensities
from recgym.ope.choice import Estimate, Worth
from recgym.ope.confounding import Sensitivity, sensitivity, turning_gamma
from recgym.ope.item_vectors import vectors_of
from recgym.ope.logged import Decisions, decisions, may_repeat, people_of
from recgym.ope.q_features import policy_view
from recgym.ope.slates import Slates, SlateView, slate_view, slates

_SECOND_OPINIONS = (("fqe", "sequential_dr"), ("direct", "doubly_robust"))
_UNCUT = {"clipped_ips": "ips", "switch_dr": "doubly_robust", "dr_os": "doubly_robust"}  # at a parameter of infinity


@dataclass(frozen=True)
class PolicyEvaluation:
    """Estimates of the mean return of a session under a policy, and what the weights say of them.

    Attributes:
        logged: Mean return of the logged sessions: what the behaviour policy earned.
        estimates: One per estimator.
        diagnosis: Of the sessions' weights; None where nothing overlaps.
        warnings: What should keep one from believing the table, in words.
        about: What the intervals are.
        behaviour: The model that propensities were estimated by, or None where they were logged.
        sensitivity: What `sn` estimates can be where estimated propensities are off, by factor.
        turns: `"more"` or `"less"`, as the policy seems to earn than the logged one, and the smallest factor by which
            the propensities' odds would have to be off for that not to be certain; 1 where it is not anyhow.
    """

    logged: Interval
    estimates: tuple[Estimate, ...]
    diagnosis: ope.Diagnosis | None
    warnings: tuple[str, ...]
    about: str
    behaviour: Behaviour | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    turns: tuple[str, float] | None = None

    def __getitem__(self, estimator: str) -> Interval:
        return next(row.interval for row in self.estimates if row.estimator == estimator)

    def __str__(self) -> str:
        rows = [Estimate("(logged policy)", self.logged), *self.estimates]
        lines = [f"  {row.estimator:22} {_shown(row.interval):32} {row.note}".rstrip() for row in rows]
        sound = self.diagnosis is not None and self.diagnosis.believable
        diagnosis = [f"weights: {self.diagnosis.verdict}"] if self.diagnosis and sound else []
        return "\n".join(
            [
                f"mean return of a session, 95 % interval ({self.about})",
                *lines,
                *diagnosis,
                *self._trust(),
                *(f"warning: {text}" for text in self.warnings),
            ]
        )

    def _trust(self) -> list[str]:
        """Returns what is to be said where propensities are estimated."""
        if self.behaviour is None or self.turns is None:
            return []
        lines = [str(self.behaviour), "self-normalised estimate if what chose the items used more than the log holds:"]
        lines += [
            f"  odds off by up to {one.gamma:<4g} {one.low:.4g} to {one.high:.4g}, 95 % interval "
            f"[{one.interval_low:.4g}, {one.interval_high:.4g}]"
            for one in self.sensitivity
        ]
        claim, gamma = self.turns
        until = "whatever is missing" if np.isinf(gamma) else f"as long as the odds are off by less than {gamma:.2g}"
        answer = "cannot be told from this log" if gamma <= 1.0 else f"it earns {claim}, {until} (Gamma)"
        return [*lines, f"does the policy earn more than the logged one? {answer}"]


def evaluate_policy(
    log: InteractionLog,
    policy: StochasticPolicy,
    *,
    catalog: Catalog | None = None,
    gamma: float = 1.0,
    max_history: int | None = None,
    interval: str = "bootstrap",
    behaviour: Any = None,
    context: Sequence[str] = (),
    repeats: bool | None = None,
) -> PolicyEvaluation:
    """Returns every estimate that fits the log: bandit, sequential or slate estimators, with warnings in words.

    A "user" of the log is a session. Hyperparameters are chosen by `slope`.

    Args:
        log: With propensities: from `recgym.collect`, or of one's own, every event a decision. Logs of slates need the
            columns that `collect` writes.
        policy: What is evaluated; it must not have been fitted on this log.
        catalog: Item vectors for the models; by default from what sessions had consumed before the log's decisions (or
            in them, where there is nothing else), 8 directions.
        gamma: Discount per step.
        max_history: Events of the past a policy is shown, see `recgym.ope.logged.moments`.
        interval: `"bootstrap"` over people (`log.users["user_id"]`; where it is None or absent, a session is a person),
            or `"bernstein"`: empirical Bernstein over people, valid for every number of them but wide; no propensity
            below the smallest logged one is assumed, and it is cut to what a session can earn.
        behaviour: What estimates the propensities of a log that has none, `"logistic"`, `"popularity"` or a model of
            your own: see `recgym.ope.behaviour.estimate_propensities`. All rows then say so, and the evaluation tells
            how far they could be off.
        context: Columns that the behaviour model knows, see there.
        repeats: Whether policies may show an item again that a session met before. None: if the log ever does; the
            table then says which was taken.

    Raises:
        DataError: if `policy` has no probabilities, the log lacks propensities or holds impossible ones, policy and log
            do not fit together, or `interval` is unknown.
    """
    if repeats is not None:
        log = replace(log, source={**log.source, "repeats": repeats})
    if "step" in log.extra and int(np.max(log.extra["position"], initial=0)) > 0:
        if behaviour is not None:
            raise DataError("propensities of slates must be logged, got behaviour=; log them with recgym.collect")
        return _of_slates(log, policy, gamma, max_history, interval)
    estimated = None
    if behaviour is None and list(context):
        raise DataError(f"context is what a behaviour model knows, got {list(context)} and none; give behaviour= too")
    if behaviour is not None:
        estimated = estimate_propensities(log, behaviour, context=context, catalog=catalog, max_history=max_history)
        log = estimated.log
    made = decisions(log)
    view = policy_view(policy, log, made, catalog or _vectors(log, made), max_history)
    fitted = ope.fitted_q(
        made.rewards, view.features, view.pi_features, made.lengths, reward_range=_range(log),
        now_features=view.now_features, counts=ope.likeness(view.pi, made.beta) if view.pi.any() else None, gamma=gamma,
        people=people_of(log),
    )  # fmt: skip
    horizon = made.rewards.shape[1]
    can = estimators.worth(_range(log), 1, gamma, horizon, float(made.beta.min()))._replace(people=people_of(log))
    made_by = estimators.of_bandit if horizon == 1 else estimators.of_modelled_sessions
    rows = tuple(estimators.estimate(*one, can, interval) for one in made_by(made, view, fitted, can).items())
    diagnosis, said = _diagnosis(view.pi, made.beta)
    said += _biases(rows) + _disagreements(rows)
    done = _evaluation(log, made.rewards, rows, diagnosis, said, can, interval)
    return done if estimated is None else _doubted(done, estimated, made, view.pi, gamma, can.people)


def _doubted(
    done: PolicyEvaluation,
    estimated: Behaviour,
    made: Decisions,
    pi: np.ndarray,
    gamma: float,
    people: np.ndarray | None,
) -> PolicyEvaluation:
    """Returns an evaluation whose every row says that propensities are estimated, and how far they could be off."""
    rows = tuple(replace(row, note=f"{row.note}; estimated".removeprefix("; ")) for row in done.estimates)
    returns = (made.rewards * gamma ** np.arange(made.rewards.shape[1])).sum(axis=1)
    said = (*estimated.warnings, *done.warnings)
    if done.diagnosis is None:
        return replace(done, estimates=rows, behaviour=estimated, warnings=said)
    found = sensitivity(returns, pi, made.beta, people=people)
    better = found[0].low > returns.mean()
    turns = turning_gamma(returns, pi, made.beta, better=better, people=people) if done.diagnosis.believable else 1.0
    return replace(
        done, estimates=rows, behaviour=estimated, warnings=said, sensitivity=found,
        turns=("more" if better else "less", turns),
    )  # fmt: skip


def _of_slates(
    log: InteractionLog, policy: StochasticPolicy, gamma: float, max_history: int | None, interval: str
) -> PolicyEvaluation:
    made = slates(log)
    view = slate_view(policy, log, made, max_history)
    can = estimators.worth(_range(log), made.items.shape[2], gamma, made.items.shape[1], float(made.beta_slate.min()))
    can = can._replace(people=people_of(log))
    fitting = estimators.of_slates(made, view, can, _range(log))
    rows = tuple(estimators.estimate(*one, can, interval) for one in fitting.items())
    diagnosis, said = _diagnosis(view.pi_slate, made.beta_slate, "whole slates")
    said += _of_positions(made, view) if made.items.shape[1] == 1 else []
    return _evaluation(log, made.rewards.sum(axis=2), rows, diagnosis, said + _disagreements(rows), can, interval)


def _evaluation(
    log: InteractionLog,
    rewards: np.ndarray,
    rows: tuple[Estimate, ...],
    diagnosis: ope.Diagnosis | None,
    said: list[str],
    can: Worth,
    interval: str,
) -> PolicyEvaluation:
    returns = (rewards * can.gamma ** np.arange(can.horizon)).sum(axis=1)
    logged = estimators.interval_of(returns, can.session, can, interval)
    about = f"bootstrap over {'sessions' if can.people is None else 'people'}"
    if interval == "bernstein":
        unit = "" if can.people is None else " over people"
        about = f"empirical Bernstein{unit}, no propensity below {1.0 / can.largest:.2g} assumed"
    if log.source.get("repeats") is None and int(log.lengths.max(initial=0)) > 1:
        about += f"; items {'may come again' if may_repeat(log) else 'come once'} in a session, as in the log"
    return PolicyEvaluation(logged, rows, diagnosis, tuple(said), about)


def _diagnosis(pi: np.ndarray, beta: np.ndarray, of: str = "") -> tuple[ope.Diagnosis | None, list[str]]:
    """Returns what the weights of sessions (n, T) say, and what is to be said of it."""
    try:
        diagnosis = ope.diagnose(ope.session_weights(pi, beta)[:, -1])
    except ope.NoOverlapError as error:
        none = f"there is none, as the evaluated policy could have shown the slates of none of the {len(pi)} sessions"
        return None, [f"estimates by weights of {of}: {none}" if of else str(error)]
    by = f"weights of {of}" if of else "weights"
    return diagnosis, [] if diagnosis.believable else [f"estimates by {by}: {diagnosis.verdict}"]


def _of_positions(made: Slates, view: SlateView) -> list[str]:
    """Returns what is to be said of `independent_ips`, position by position."""
    said = []
    for place in range(made.items.shape[2]):
        found, wrong = _diagnosis(view.pi[:, :, place], made.beta[:, :, place])
        if found is None or wrong:
            verdict = "do not believe it: nothing overlaps" if found is None else found.verdict
            said.append(f"independent_ips, position {place + 1} of {made.items.shape[2]}: {verdict}")
    return said


def _biases(rows: tuple[Estimate, ...]) -> list[str]:
    """Returns what is to be said of intervals that leave out the bias of a parameter, where it seems to be large."""
    said, found = [], {row.estimator: row.interval for row in rows if not np.isnan(row.interval.low)}
    for row in rows:
        uncut = _UNCUT.get(row.estimator, "")
        faults = [f"its parameter cuts {1.0 - row.kept:.0%} of the weight"] if row.kept < 0.5 else []
        if uncut in found and _outside(row.interval.mean, found[uncut]):
            faults.append(f"the estimate lies outside the interval of {uncut}")
        if faults:
            said.append(f"do not believe the interval of {row.estimator}: {'; '.join(faults)}")
    return said


def _outside(value: float, interval: Interval) -> bool:
    """Returns whether a value lies outside an interval, by more than half a per cent of what is estimated."""
    spare = 0.005 * abs(interval.mean)
    return not interval.low - spare <= value <= interval.high + spare


def _disagreements(rows: tuple[Estimate, ...]) -> list[str]:
    """Returns what is to be said where two estimates that rest on different beliefs do not agree."""
    said, found = [], {row.estimator: row.interval for row in rows if not np.isnan(row.interval.low)}
    for model, robust in _SECOND_OPINIONS:
        if {model, robust} <= set(found) and _outside(found[model].mean, found[robust]):
            said.append(
                "the model and the doubly robust estimate disagree: one of model, propensities or overlap is wrong"
            )
    for simple in ("independent_ips", "pseudo_inverse"):
        if {"slate_ips", simple} <= set(found):
            apart = max(found[simple].low, found["slate_ips"].low) > min(found[simple].high, found["slate_ips"].high)
            if apart:
                said.append(f"{simple} and slate_ips disagree: items of a slate seem to depend on each other")
    return said


def _range(log: InteractionLog) -> tuple[float, float]:
    if log.reward_range is not None:
        return log.reward_range
    return float(log.rewards.min()), float(log.rewards.max())


def _shown(interval: Interval) -> str:
    return "-" if np.isnan(interval.mean) else str(interval)


def _vectors(log: InteractionLog, made: Decisions) -> Catalog:
    """Returns item vectors from what sessions had consumed before their decisions, or from all events."""
    opening = np.ones(log.n_events, dtype=bool)
    opening[made.events[made.real]] = False
    return vectors_of(log.select_events(opening) if opening.any() else log)
