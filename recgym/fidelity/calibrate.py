"""Bringing a fitted user model to the right level: thresholds refitted on answers that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from recgym import users
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.fidelity.baselines import validation_parts
from recgym.log import InteractionLog
from recgym.users.fitted.factors import Factors
from recgym.users.fitted.learned import LearnedUsers

MOST_LEVELS = 16  # more different rewards are put into as many levels by `users.fit`
PULLS = (1.0, 2.0, 4.0, 8.0)
_LEAST = 1e-9  # probability below which an answer's does not count as smaller


class HeldBack(NamedTuple):
    """What models say of training events that they had not seen."""

    events: np.ndarray  # (n,) int64: which events of the log
    levels: np.ndarray  # (n,) int64: what was answered
    logits: np.ndarray  # (n, M, L - 1) float64: t_l - s of every member

    def below(self, shift: np.ndarray | float = 0.0, scale: float = 1.0) -> np.ndarray:
        """Returns the chances of less than level 0, 1, ... L, after moving thresholds (n, L + 1)."""
        inner = expit(scale * self.logits + shift).mean(axis=1)  # (n, L - 1)
        edge = np.ones((len(inner), 1))
        return np.concatenate([0.0 * edge, inner, edge], axis=1)


class Moved(NamedTuple):
    """Where thresholds were moved to."""

    shift: np.ndarray  # (L - 1,)
    scale: float
    loss: float  # weighted mean of -log P of the held-back answers, in nats


class Chosen(NamedTuple):
    """What `choose` found."""

    l2: float
    held: HeldBack
    moved: Moved


def fit_calibrated(
    log: InteractionLog, catalog: Catalog, *, l2: Sequence[float] = PULLS, seed: int = 0, **options: Any
) -> LearnedUsers:
    """Returns users fitted by matrix factorisation whose level of answers is right for items shown at random.

    A log of what people chose for themselves holds what they like more often than chance would show it; a model that
    fits it well promises too much for everything else. Here models are fitted without some of the training events
    (five random fifths by turns; everyone's last tenth, where the log has times), and what they say of those is put in
    order: thresholds and a scale of the ordered logit are chosen by likelihood with each event weighted by
    `1 / log.propensities`, and so is the pull towards zero. The model itself is fitted on all events. Without
    propensities all events weigh the same, which mends a model that is too sure of itself, and nothing else.

    Args:
        log: Training events; their propensities are of being rated at all.
        catalog: Its items.
        l2: Pulls to choose from.
        seed: Of fits and of what is held back.
        **options: As for `recgym.users.fit`, model `"mf"`.

    Raises:
        DataError: if another model is asked for, a level of reward is nowhere but among the events held back, or as
            `recgym.users.fit`.

    Source: Platt (1999), Probabilistic outputs for support vector machines; weights: Schnabel et al. (2016),
        Recommendations as treatments, equation 9.
    """
    importance = np.ones(log.n_events) if log.propensities is None else 1.0 / np.asarray(log.propensities, np.float64)
    chosen = choose(log, catalog, importance, l2=l2, seed=seed, **options)
    return recalibrated(users.fit(log, catalog, l2=chosen.l2, seed=seed, **options), chosen.moved)


def choose(
    log: InteractionLog,
    catalog: Catalog,
    importance: np.ndarray,
    *,
    l2: Sequence[float] = PULLS,
    seed: int = 0,
    **options: Any,
) -> Chosen:
    """Returns the pull towards zero whose models foretell held-back training events best, once put in order.

    Args:
        log: Training events.
        catalog: Its items.
        importance: Weight of every event when thresholds and pull are chosen (n_events,); `weights` is of the fits.
        l2: Pulls to choose from.
        seed: Of fits and of what is held back.
        **options: As for `recgym.users.fit`, model `"mf"`.

    Raises:
        DataError: as `fit_calibrated`.
    """
    if options.get("model", "mf") != "mf":
        raise DataError(f"only matrix factorisations can be calibrated, got model={options['model']!r}; use 'mf'")
    tried = []
    for pull in l2:
        held = held_back(log, catalog, l2=pull, seed=seed, **options)
        tried.append(Chosen(pull, held, thresholds(held, importance)))
    return min(tried, key=lambda one: one.moved.loss)


def held_back(log: InteractionLog, catalog: Catalog, *, seed: int = 0, **options: Any) -> HeldBack:
    """Returns what models fitted without some training events say of these, see `validation_parts`; options of a fit.

    Raises:
        DataError: if a level of reward is nowhere but among the events held back.
    """
    n_levels, logits, levels, events = len(np.unique(log.rewards)), [], [], []
    for part in validation_parts(log, seed):
        model = users.fit(log.select_events(~part, drop_empty=False), catalog, seed=seed, **options)
        if len(model.levels) < min(n_levels, MOST_LEVELS):
            raise DataError(
                f"every reward must be left when some events are held back, got {len(model.levels)} of {n_levels}; "
                f"give a larger log, or one with fewer different rewards"
            )
        logits.append(_logits(model, log.event_users()[part], log.items[part]))
        levels.append(model.level_of(log.rewards[part]))
        events.append(np.flatnonzero(part))
    return HeldBack(np.concatenate(events), np.concatenate(levels), np.concatenate(logits))


def thresholds(held: HeldBack, weights: np.ndarray) -> Moved:
    """Returns the shift and scale of the greatest weighted likelihood.

    Args:
        held: From `held_back`.
        weights: Of every event of the log (n_events,).
    """
    weights = weights[held.events] / weights[held.events].sum()

    def loss(x: np.ndarray) -> float:
        chance = np.diff(held.below(x[:-1], np.exp(x[-1])), axis=1)[np.arange(len(held.levels)), held.levels]
        return float(-(weights * np.log(np.maximum(chance, _LEAST))).sum())

    found = minimize(loss, np.zeros(held.logits.shape[2] + 1), method="BFGS", options={"gtol": 1e-6})
    return Moved(found.x[:-1], float(np.exp(found.x[-1])), float(found.fun))


def recalibrated(model: LearnedUsers, moved: Moved) -> LearnedUsers:
    """Returns the same users whose every member's chance of at most level l is `sigmoid(scale * (t_l - s) + shift_l)`.

    Args:
        model: Of factors.
        moved: From `thresholds`; its scale is above 0.
    """
    factors: Any = model.answers
    thresholds = factors.thresholds * moved.scale + moved.shift
    made = copy(model)
    made.answers = replace(
        factors,
        users=(factors.users * moved.scale).astype(np.float32),
        thresholds=np.maximum.accumulate(thresholds, axis=1).astype(np.float32),
    )
    made.about = model.about | {"calibration": {"shift": moved.shift.tolist(), "scale": moved.scale}}
    return made


def _logits(model: LearnedUsers, who: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns `t_l - s` of every member (n, M, L - 1) float64."""
    factors = model.answers
    assert isinstance(factors, Factors)
    score = (factors.users[who] * factors.items[items]).sum(axis=2, dtype=np.float64)  # (n, M)
    return factors.thresholds - score[:, :, None]
