"""Which estimators fit a log, their values, and the interval of each: the rows of a policy's table."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recgym import ope
from recgym.errors import DataError
from recgym.evaluation.metrics import Interval, mean_interval
from recgym.ope.checks import HEAVIEST
from recgym.ope.logged import Decisions
from recgym.ope.q_features import PolicyView
from recgym.ope.slate import weighed_slates
from recgym.ope.slates import Slates, SlateView

HYPERPARAMETERS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0, np.inf)
INTERVALS = ("bootstrap", "bernstein")
N_DRAWS = 2000  # resamples of a bootstrap interval


@dataclass(frozen=True)
class Estimate:
    """One row of the table; NaN where an estimator refused, and then the note says why."""

    estimator: str
    interval: Interval
    note: str = ""
    kept: float = 1.0  # share of the sum of weights that the estimator's parameter leaves, 0 to 1


class Estimator(NamedTuple):
    """A function of `recgym.ope` with its arguments, and what its values can be."""

    function: Callable[..., np.ndarray]
    given: tuple[Any, ...]
    value_range: tuple[float, float] | None  # of one value; None: values depend on each other
    tuned: bool = False  # whether SLOPE chooses a last argument


class Worth(NamedTuple):
    """What a session can earn, and how much a weight can be."""

    step: tuple[float, float]  # lowest and highest reward of a step, 0 among them
    gamma: float
    horizon: int
    largest: float  # weight of one step: 1 / the smallest propensity of the log
    people: np.ndarray | None = None  # whose each session is (n,), where some have several

    @property
    def session(self) -> tuple[float, float]:
        """Lowest and highest return of a session."""
        steps = float((self.gamma ** np.arange(self.horizon)).sum())
        return self.step[0] * steps, self.step[1] * steps

    def heaviest(self, steps: int) -> float:
        """Largest weight of so many steps together; from 1e100 on it is that."""
        return self.largest ** min(steps, math.log(HEAVIEST) / math.log(self.largest))

    def weighed(self, first: int = 1) -> tuple[float, float]:
        """Lowest and highest sum over steps of gamma^t * largest^(t + first) * reward."""
        factor = sum(self.gamma**t * self.heaviest(t + first) for t in range(self.horizon))
        return self.step[0] * factor, self.step[1] * factor

    def modelled(self) -> tuple[float, float]:
        """Lowest and highest value of `sequential_dr`, whose model lies within what is left to earn."""
        low = high = 0.0
        for t in range(self.horizon):
            left = float((self.gamma ** np.arange(self.horizon - t)).sum())
            now, before = (self.gamma**t * self.heaviest(power) for power in (t + 1, t))
            low += now * (self.step[0] - self.step[1] * left) + before * self.step[0] * left
            high += now * (self.step[1] - self.step[0] * left) + before * self.step[1] * left
        return low, high


def worth(reward_range: tuple[float, float], k: int, gamma: float, horizon: int, smallest: float) -> Worth:
    """Returns what sessions of at most `horizon` steps of k rewards can earn, given the smallest propensity logged."""
    step = k * min(reward_range[0], 0.0), k * max(reward_range[1], 0.0)
    return Worth(step, gamma, horizon, 1.0 / smallest * (1.0 + 1e-6))


def of_bandit(made: Decisions, view: PolicyView, fitted: ope.FittedQ, can: Worth) -> dict[str, Estimator]:
    """Returns the estimators for one decision a session."""
    weighed = made.rewards[:, 0], view.pi[:, 0], made.beta[:, 0]
    modelled = *weighed, fitted.q[:, 0], fitted.v[:, 0]
    return {
        "direct": Estimator(ope.direct, (fitted.v[:, 0],), can.session),
        "ips": Estimator(ope.ips, weighed, can.weighed()),
        "clipped_ips": Estimator(ope.clipped_ips, weighed, can.weighed(), tuned=True),
        "snips": Estimator(ope.snips, weighed, None),
        "doubly_robust": Estimator(ope.doubly_robust, modelled, can.modelled()),
        "sndr": Estimator(ope.sndr, modelled, None),
        "switch_dr": Estimator(ope.switch_dr, modelled, can.modelled(), tuned=True),
        "dr_os": Estimator(ope.dr_os, modelled, can.modelled(), tuned=True),
    }


def of_sessions(rewards: np.ndarray, pi: np.ndarray, beta: np.ndarray, can: Worth) -> dict[str, Estimator]:
    """Returns the estimators for sessions of several decisions that need no model: arguments (n, T)."""
    weighed = rewards, pi, beta, can.gamma
    whole = can.heaviest(can.horizon)
    low, high = can.session
    return {
        "trajectory_is": Estimator(ope.trajectory_is, weighed, (low * whole, high * whole)),
        "sn_trajectory_is": Estimator(ope.sn_trajectory_is, weighed, None),
        "per_decision_is": Estimator(ope.per_decision_is, weighed, can.weighed()),
        "sn_per_decision_is": Estimator(ope.sn_per_decision_is, weighed, None),
    }


def of_modelled_sessions(made: Decisions, view: PolicyView, fitted: ope.FittedQ, can: Worth) -> dict[str, Estimator]:
    """Returns the estimators for sessions of several decisions, with those that need a model."""
    modelled = made.rewards, view.pi, made.beta, fitted.q, fitted.v, can.gamma
    return {
        "fqe": Estimator(ope.direct, (fitted.values,), can.session),
        **of_sessions(made.rewards, view.pi, made.beta, can),
        "sequential_dr": Estimator(ope.sequential_dr, modelled, can.modelled()),
    }


def of_slates(made: Slates, view: SlateView, can: Worth, reward_range: tuple[float, float]) -> dict[str, Estimator]:
    """Returns the estimators for slates: one slate a session, or several, each slate being one decision.

    Over several slates, `reward_interaction_ips` is `per_decision_is` over all positions in the order they are read.
    """
    n, horizon, k = made.items.shape
    if horizon > 1:
        flat = (array.reshape(n, -1) for array in (made.rewards, view.pi_given, made.beta_given))
        rewards, pi, beta = flat
        rewards = rewards * (can.gamma ** np.arange(horizon)).repeat(k)
        read = worth(reward_range, 1, 1.0, horizon * k, float(made.beta_given.min()))
        return {
            **of_sessions(made.rewards.sum(axis=2), view.pi_slate, made.beta_slate, can),
            "reward_interaction_ips": Estimator(ope.per_decision_is, (rewards, pi, beta), read.weighed()),
        }
    rewards, low, high = made.rewards[:, 0], *can.step
    by_place = 1.0 / float(made.beta.min()) * (1.0 + 1e-6)
    read = worth(reward_range, 1, 1.0, k, float(made.beta_given.min()))
    estimators = {
        "slate_ips": Estimator(ope.slate_ips, (rewards, view.pi_slate[:, 0], made.beta_slate[:, 0]), can.weighed()),
        "reward_interaction_ips": Estimator(
            ope.reward_interaction_ips, (rewards, view.pi_given[:, 0], made.beta_given[:, 0]), read.weighed()
        ),
        "independent_ips": Estimator(
            ope.independent_ips, (rewards, view.pi[:, 0], made.beta[:, 0]), (low * by_place, high * by_place)
        ),
    }
    if view.pseudo_inverse is not None:
        estimators["pseudo_inverse"] = Estimator(weighed_slates, (rewards.sum(axis=1), view.pseudo_inverse), None)
    return estimators


def estimate(name: str, estimator: Estimator, can: Worth, interval: str) -> Estimate:
    """Returns one row: the mean of the estimator's values and its interval, with what is to be said against it."""
    function, given, value_range, tuned = estimator
    note, kept = "the interval leaves out the error of the model" if function is ope.direct else "", 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ope.OverlapWarning)
        try:
            if tuned:
                values, parameter = _tuned(function, given, can.people)
                kept = _kept(function, given, parameter)
                note = f"parameter {parameter:g}, chosen by SLOPE"
            else:
                values = function(*given)
        except ope.NoOverlapError:
            return Estimate(name, Interval(np.nan, np.nan, np.nan), "no estimate: nothing overlaps")
    biased = "the interval leaves out the bias of the parameter" if kept < 1.0 else ""
    notes = [note, biased, "do not believe it: hardly any overlap" if caught else ""]
    if interval == "bernstein" and value_range is None:
        notes.append("no Bernstein interval: its values depend on each other")
    found = interval_of(values, value_range, can, interval, len(HYPERPARAMETERS) if tuned else 1)
    return Estimate(name, found, "; ".join(text for text in notes if text), kept)


def _tuned(
    function: Callable[..., np.ndarray], given: tuple[Any, ...], people: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Returns the values at the parameter that SLOPE chooses, and the parameter."""
    candidates = [function(*given, value) for value in HYPERPARAMETERS]
    chosen = ope.slope([by_person(values, people) for values in candidates])
    return candidates[chosen], HYPERPARAMETERS[chosen]


def by_person(values: np.ndarray, people: np.ndarray | None) -> np.ndarray:
    """Returns one value a person (n_people,) whose mean is that of the values (n,), of sessions; sums, in one scale."""
    if people is None:
        return values
    sums = np.bincount(people, weights=values)
    return sums * (len(sums) / len(values)) if len(sums) > 1 else values


def _kept(function: Callable[..., np.ndarray], given: tuple[Any, ...], parameter: float) -> float:
    """Returns the share of the sum of weights that a parameter leaves; 1 exactly where it changes none.

    With rewards of 1 and a model of 0, values are weights.
    """
    reward, pi, beta, *model = given
    only_weights = np.ones_like(reward), pi, beta, *(np.zeros_like(array) for array in model)
    left, all_of_it = (function(*only_weights, value).sum() for value in (parameter, np.inf))
    return float(left / all_of_it)


def interval_of(
    values: np.ndarray, value_range: tuple[float, float] | None, can: Worth, interval: str, n_chosen: int = 1
) -> Interval:
    """Returns the mean of values (n,) and its 95 % interval, by `interval`; no wider than what a session can earn.

    An empirical Bernstein interval of one of several candidates that the same values chose is made for all of them
    (union bound).
    """
    if interval not in INTERVALS:
        raise DataError(f"interval must be one of {', '.join(INTERVALS)}, got {interval!r}; choose one of them")
    if can.people is not None and not can.people.any():  # one person says nothing of others
        return Interval(float(values.mean()), np.nan, np.nan)
    if interval == "bootstrap":
        return mean_interval(values, people=can.people, n_draws=N_DRAWS)
    if value_range is None:
        return Interval(float(values.mean()), np.nan, np.nan)
    if can.people is not None:
        counts = np.bincount(can.people) * (len(np.bincount(can.people)) / len(values))
        ends = [end * count for end in value_range for count in (counts.min(), counts.max())]
        values, value_range = by_person(values, can.people), (min(ends), max(ends))
    slack = 1e-6 * max(map(abs, value_range))  # rewards are float32
    found = ope.bernstein_interval(
        values, (value_range[0] - slack, value_range[1] + slack), confidence=1.0 - 0.05 / n_chosen
    )
    return Interval(found.mean, max(found.low, can.session[0]), min(found.high, can.session[1]))
