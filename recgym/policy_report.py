"""What would this policy have earned? A table of estimates from a log, with intervals and what not to believe.

`python -m recgym evaluate-policy --log LOG --policy package:Policy`
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recgym import ope
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.logged import Decisions, decisions
from recgym.metrics import Interval, mean_interval
from recgym.policies import Scorer
from recgym.q_features import PolicyView, policy_view
from recgym.stochastic import SoftmaxPolicy, StochasticPolicy

HYPERPARAMETERS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0, np.inf)
_DRAWS = 2000  # resamples of an interval


@dataclass(frozen=True)
class Estimate:
    """One row of the table; NaN where an estimator refused, and then the note says why."""

    estimator: str
    interval: Interval
    note: str = ""


@dataclass(frozen=True)
class PolicyEvaluation:
    """Estimates of the mean return of a session under a policy, and what the weights say of them.

    Attributes:
        logged: Mean return of the logged sessions: what the behaviour policy earned.
        estimates: One per estimator.
        diagnosis: Of the sessions' weights; None where nothing overlaps.
        warnings: What should keep one from believing the table, in words.
    """

    logged: Interval
    estimates: tuple[Estimate, ...]
    diagnosis: ope.Diagnosis | None
    warnings: tuple[str, ...]

    def __getitem__(self, estimator: str) -> Interval:
        return next(row.interval for row in self.estimates if row.estimator == estimator)

    def __str__(self) -> str:
        rows = [Estimate("(logged policy)", self.logged), *self.estimates]
        lines = [f"  {row.estimator:22} {_shown(row.interval):32} {row.note}".rstrip() for row in rows]
        sound = self.diagnosis is not None and self.diagnosis.believable
        diagnosis = [f"weights: {self.diagnosis.verdict}"] if self.diagnosis and sound else []
        return "\n".join(
            [
                "mean return of a session, 95 % interval",
                *lines,
                *diagnosis,
                *(f"warning: {text}" for text in self.warnings),
            ]
        )


def evaluate_policy(
    log: InteractionLog,
    policy: StochasticPolicy,
    *,
    catalog: Catalog | None = None,
    gamma: float = 1.0,
    max_history: int | None = None,
) -> PolicyEvaluation:
    """Returns every estimate that fits the log: bandit estimators for one decision a session, else sequential ones.

    A "user" of the log is a session; the intervals are bootstraps over sessions. Hyperparameters are chosen by `slope`.

    Args:
        log: With propensities: from `recgym.collect`, or of one's own, every event a decision.
        policy: What is evaluated; it must not have been fitted on this log.
        catalog: Item vectors for the models; by default from what sessions had consumed before the log's decisions (or
            in them, where there is nothing else), 8 directions.
        gamma: Discount per step.
        max_history: Events of the past a policy is shown, see `recgym.logged.moments`.

    Raises:
        DataError: if the log lacks propensities or holds impossible ones, or policy and log do not fit together.
    """
    made = decisions(log)
    view = policy_view(policy, log, made, catalog or _vectors(log, made), max_history)
    fitted = ope.fitted_q(
        made.rewards, view.features, view.pi_features, made.lengths,
        reward_range=log.reward_range or (0.0, 0.0), now_features=view.now_features, gamma=gamma,
    )  # fmt: skip
    returns = (made.rewards * gamma ** np.arange(made.rewards.shape[1])).sum(axis=1)
    said: list[str] = []
    diagnosis = None
    try:
        diagnosis = ope.diagnose(ope.session_weights(view.pi, made.beta)[:, -1])
    except ope.NoOverlapError as error:
        said.append(str(error))
    if diagnosis is not None and not diagnosis.believable:
        said.append(f"estimates by weights: {diagnosis.verdict}")
    estimators = _bandit(made, view, fitted) if made.items.shape[1] == 1 else _sequential(made, view, fitted, gamma)
    rows = tuple(_estimate(name, *one) for name, one in estimators.items())
    trusted = next((row.interval for row in rows if row.estimator in ("doubly_robust", "sequential_dr")), None)
    model = next(row.interval for row in rows if row.estimator in ("direct", "fqe"))
    if trusted is not None and (model.mean < trusted.low or model.mean > trusted.high):
        said.append("the model and the doubly robust estimate disagree: one of model, propensities or overlap is wrong")
    return PolicyEvaluation(mean_interval(returns, n_draws=_DRAWS), rows, diagnosis, tuple(said))


Estimator = tuple[Callable[..., np.ndarray], tuple[Any, ...], bool]  # function, arguments, whether SLOPE is to choose


def _bandit(made: Decisions, view: PolicyView, fitted: ope.FittedQ) -> dict[str, Estimator]:
    weighed = made.rewards[:, 0], view.pi[:, 0], made.beta[:, 0]
    modelled = *weighed, fitted.q[:, 0], fitted.v[:, 0]
    return {
        "direct": (ope.direct, (fitted.v[:, 0],), False),
        "ips": (ope.ips, weighed, False),
        "clipped_ips": (ope.clipped_ips, weighed, True),
        "snips": (ope.snips, weighed, False),
        "doubly_robust": (ope.doubly_robust, modelled, False),
        "sndr": (ope.sndr, modelled, False),
        "switch_dr": (ope.switch_dr, modelled, True),
        "dr_os": (ope.dr_os, modelled, True),
    }


def _sequential(made: Decisions, view: PolicyView, fitted: ope.FittedQ, gamma: float) -> dict[str, Estimator]:
    weighed = made.rewards, view.pi, made.beta
    return {
        "fqe": (ope.direct, (fitted.values,), False),
        "trajectory_is": (ope.trajectory_is, (*weighed, gamma), False),
        "sn_trajectory_is": (ope.sn_trajectory_is, (*weighed, gamma), False),
        "per_decision_is": (ope.per_decision_is, (*weighed, gamma), False),
        "sn_per_decision_is": (ope.sn_per_decision_is, (*weighed, gamma), False),
        "sequential_dr": (ope.sequential_dr, (*weighed, fitted.q, fitted.v, gamma), False),
    }


def _estimate(name: str, function: Callable[..., np.ndarray], given: tuple[Any, ...], tuned: bool) -> Estimate:
    note = "the interval leaves out the error of the model" if function is ope.direct else ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ope.OverlapWarning)
        try:
            if tuned:
                candidates = [function(*given, value) for value in HYPERPARAMETERS]
                chosen = ope.slope(candidates)
                values, note = candidates[chosen], f"parameter {HYPERPARAMETERS[chosen]:g}, chosen by SLOPE"
            else:
                values = function(*given)
        except ope.NoOverlapError:
            return Estimate(name, Interval(np.nan, np.nan, np.nan), "no estimate: nothing overlaps")
    if any(issubclass(one.category, ope.OverlapWarning) for one in caught):
        note = "; ".join(part for part in (note, "do not believe it: hardly any overlap") if part)
    return Estimate(name, mean_interval(values, n_draws=_DRAWS), note)


def _shown(interval: Interval) -> str:
    return "-" if np.isnan(interval.mean) else str(interval)


def _vectors(log: InteractionLog, made: Decisions) -> Catalog:
    """Returns item vectors from what sessions had consumed before their decisions, or from all events."""
    from recgym.embeddings import svd

    opening = np.ones(log.n_events, dtype=bool)
    opening[made.events[made.real]] = False
    past = log.select_events(opening) if opening.any() else log
    dim = min(8, past.n_users - 1, past.n_items - 1)
    if dim < 1 or past.lengths.max() < 2:  # nothing says which items go together
        return Catalog(np.ones((log.n_items, 1)), log.item_ids, log.reward)
    return svd(past, dim=dim)


# -- the command -------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate-policy`."""
    parser.add_argument("--log", required=True, help="folder that InteractionLog.save wrote, or a CSV or Parquet file")
    parser.add_argument(
        "--policy", required=True, help="package.module:Name of a policy, a scorer, or a class of either"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="where the policy is a scorer: softmax temperature of its scores, standardised (default: %(default)s)",
    )
    parser.add_argument("--epsilon", type=float, default=0.0, help="share of uniform choices, likewise")
    parser.add_argument("--gamma", type=float, default=1.0, help="discount per step (default: %(default)s)")
    parser.add_argument("--max-history", type=int, help="events of the past that the policy is shown")
    for name, what in (("user", "session ids"), ("item", "item ids"), ("reward", "rewards"), ("time", "times")):
        parser.add_argument(f"--{name}", default=None, help=f"column of {what}, where the log is a table")
    parser.add_argument("--propensity", help="column of propensities, where the log is a table")


def run(options: argparse.Namespace) -> int:
    """Prints the table; returns 0."""
    log = open_log(options)
    policy, log = build_policy(options.policy, log, options.temperature, options.epsilon)
    print(f"{log}\n{evaluate_policy(log, policy, gamma=options.gamma, max_history=options.max_history)}")
    return 0


def open_log(options: argparse.Namespace) -> InteractionLog:
    """Returns the log the options name: a saved folder, or a table with named columns."""
    from recgym import datasets

    if Path(options.log).is_dir():
        return InteractionLog.open(options.log)
    if options.user is None or options.item is None:
        raise DataError(
            f"a table needs the columns of sessions and items, got --user {options.user} and --item {options.item}; "
            f"name them as they stand in {options.log}"
        )
    columns = {"user": options.user, "item": options.item, "reward": options.reward, "time": options.time}
    return datasets.load("table", path=options.log, propensity=options.propensity, **columns)


def build_policy(
    name: str, log: InteractionLog, temperature: float, epsilon: float
) -> tuple[StochasticPolicy, InteractionLog]:
    """Returns the policy that `name` (`package.module:Name`) stands for and the log to evaluate it on.

    A class with `fit` is fitted on every second session and evaluated on the others, as a policy looks better than it
    is on what it has learned from; any other class or function is called with the log. A scorer becomes a
    `SoftmaxPolicy`.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"a policy must be named as package.module:Name, got {name!r} ({error}); check it") from None
    finally:
        sys.path.pop(0)
    if inspect.isclass(found) and hasattr(found, "fit"):
        half = np.arange(log.n_users) % 2 == 0
        found = found.fit(log.select_users(np.flatnonzero(half)))
        log = log.select_users(np.flatnonzero(~half))
        print(f"fitted on every second session, evaluated on the {log.n_users:,} others")
    elif not isinstance(found, StochasticPolicy | Scorer) or inspect.isclass(found):
        found = found(log)
    if isinstance(found, Scorer) and not isinstance(found, StochasticPolicy):
        found = SoftmaxPolicy(found, temperature, epsilon, standardise=True)
    if not isinstance(found, StochasticPolicy):
        raise DataError(
            f"a policy must have item_ids, reward and probabilities(history, allowed) or scores(history), got "
            f"{type(found).__name__}; see recgym.stochastic.StochasticPolicy"
        )
    return found, log
