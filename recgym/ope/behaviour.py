"""Propensities of logs that have none: what showed the items is estimated, on other sessions than it is applied to.

A model of the behaviour policy gives P(item | what was known) for every decision; a session's come from a model that
was fitted on the sessions of other people (cross-fitting: Chernozhukov et al. (2018), Double/debiased machine learning,
The Econometrics Journal 21(1)). What is estimated stays an estimate: whatever the log does not hold and the behaviour
policy used is missing, which `recgym.ope.confounding` puts a number on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.ope.behaviour_models import LEAST, SMOOTH, Shown, fitted_model
from recgym.ope.logged import checked, decisions, people_of

_EDGES = np.array([0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0])
_OFF = 1.5  # predicted shares may differ from those seen by so many times
_MOST_WORDS = 200  # of a column of context


class Bin(NamedTuple):
    """How often items with an estimated probability in a range were shown."""

    low: float
    high: float
    predicted: float  # times that items of the range should have been shown
    seen: int  # times they were


@dataclass(frozen=True)
class Behaviour:
    """Estimated propensities of a log, and how good they seem.

    Attributes:
        log: The log, with them.
        model: Its name.
        n_folds: Parts of the log's people; the model of each was fitted on the others.
        likelihood: Mean log probability of what was shown, in nats a decision; `uniform` and `popular` are those of
            showing any allowed item, and each by its popularity.
        calibration: How often items were shown beside how often they should have been.
    """

    log: InteractionLog
    model: str
    n_folds: int
    likelihood: float
    uniform: float
    popular: float
    calibration: tuple[Bin, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should keep one from believing them, in words."""
        said = []
        for part in self.calibration:
            high, low = max(part.seen, part.predicted), min(part.seen, part.predicted)
            if high >= 50 and high > _OFF * max(low, 1.0):
                said.append(
                    f"estimated propensities between {part.low:g} and {part.high:g} are off: such items should "
                    f"have been shown {part.predicted:,.0f} times, and were {part.seen:,} times"
                )
        if self.likelihood < self.popular - 0.01:
            said.append(
                f"the behaviour model {self.model!r} explains what was shown worse than popularity does "
                f"({self.likelihood:.3f} against {self.popular:.3f} nats a decision)"
            )
        return tuple(said)

    def __str__(self) -> str:
        return (
            f"propensities are estimated by {self.model!r}, in {self.n_folds} folds of people: "
            f"{self.likelihood:.3f} nats a decision (popularity {self.popular:.3f}, any item {self.uniform:.3f})"
        )


def estimate_propensities(
    log: InteractionLog,
    model: str | type[Any] | Callable[[InteractionLog], Any] = "logistic",
    *,
    n_folds: int | None = None,
    context: Sequence[str] = (),
    catalog: Catalog | None = None,
    max_history: int | None = None,
    seed: int = 0,
) -> Behaviour:
    """Returns a log with estimated propensities: every event is a decision, a "user" of the log a session.

    Args:
        log: Without propensities, or with ones to be ignored.
        model: `"logistic"`: a multinomial logit of items' popularity and vectors times what was known (the newest
            item's vector, the mean of the last ten, the step, the context); `"popularity"`: how often items were shown
            at that step of a session, smoothed towards all steps; or a class with `fit(log)`, or a function of a log,
            that returns a scorer or a policy: of a scorer a softmax is made whose temperature and
            share of uniform choices explain best what was shown to people it was not fitted on.
        n_folds: Parts of the people, at least 2; 4 by default, or as many as there are people. Sessions of one person
            (`log.users["user_id"]`) stay together.
        context: Columns of numbers or words that the behaviour policy may have used, of `log.users` (of a session) or
            `log.extra` (of an event).
        catalog: Item vectors; by default from each fold's own training sessions, 8 directions.
        max_history: Events of the past that the model is shown.
        seed: Seed of the folds.

    Raises:
        DataError: if the model is unknown, there are too few people for the folds, or a column is missing.

    Source: of the idea that propensities can be fitted, Hirano, Imbens and Ridder (2003), Econometrica 71(4).
    """
    made = decisions(replace(log, propensities=np.ones(log.n_events, dtype=np.float32)))
    people = people_of(log)
    people = np.arange(log.n_users) if people is None else people
    n_people = int(people.max()) + 1
    if n_people < 2:
        raise DataError("propensities must be estimated on other people's sessions, got a log of one person; log more")
    n_folds = min(4, n_people) if n_folds is None else n_folds
    if not 2 <= n_folds <= n_people:
        raise DataError(f"n_folds must be between 2 and the {n_people} people of the log, got {n_folds}; give fewer")
    fold = (np.random.default_rng(seed).permutation(n_people) % n_folds)[people]  # (n_users,)
    given = _context(log, context)
    shown = Shown(log, made, given, max_history)
    propensities = np.ones(log.n_events)
    parts = np.zeros((2, len(_EDGES) - 1))
    sums = np.zeros(3)
    for number in range(n_folds):
        train, held = (np.flatnonzero(chosen) for chosen in (fold != number, fold == number))
        fitted = fitted_model(model, log, shown, train, catalog, seed)
        counts = np.bincount(log.items[np.isin(log.event_users(), train)], minlength=log.n_items) + SMOOTH
        for moment, taken in shown.moments(held):
            probabilities = checked(fitted.probabilities(moment), moment.allowed, "behaviour model")
            rows = np.arange(len(taken))
            of_taken = np.maximum(probabilities[rows, taken], LEAST)
            propensities[made.events[moment.sessions, moment.step]] = of_taken
            popular = counts * moment.allowed
            popular_taken = np.where(moment.allowed[rows, taken], popular[rows, taken], 1.0) / popular.sum(axis=1)
            uniform = 1.0 / np.maximum(moment.allowed.sum(axis=1), 1)
            sums += [np.log(part).sum() for part in (of_taken, popular_taken, uniform)]
            place = np.digitize(probabilities, _EDGES[1:-1])
            parts[0] += np.bincount(place.ravel(), probabilities.ravel(), minlength=len(_EDGES) - 1)
            parts[1] += np.bincount(place[rows, taken], minlength=len(_EDGES) - 1)
    n = max(int(made.lengths.sum()), 1)
    bins = zip(_EDGES[:-1].tolist(), _EDGES[1:].tolist(), parts[0].tolist(), parts[1].astype(int).tolist(), strict=True)
    calibration = tuple(Bin(*one) for one in bins)
    name = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    likelihood, popular_one, uniform_one = (sums / n).tolist()
    done = replace(log, propensities=np.clip(propensities, LEAST, 1.0).astype(np.float32))
    return Behaviour(done, name, n_folds, likelihood, uniform_one, popular_one, calibration)


def _context(log: InteractionLog, names: Sequence[str]) -> np.ndarray:
    """Returns columns of events as numbers of mean 0 and deviation 1, words as one column each (n_events, c)."""
    columns = [np.zeros((log.n_events, 0))]
    for name in names:
        if name not in log.extra and name not in log.users:
            known = ", ".join([*log.extra, *log.users]) or "there is none"
            raise DataError(f"a column of context must be one of: {known}; got {name!r}; name another")
        values = np.asarray(log.extra[name] if name in log.extra else np.asarray(log.users[name])[log.event_users()])
        if values.dtype.kind in "OSU":
            kinds = np.unique(values.astype(str))
            if len(kinds) > _MOST_WORDS:
                raise DataError(
                    f"context {name!r} must have at most {_MOST_WORDS} words, got {len(kinds):,}; group them, or leave "
                    "it out"
                )
            values = values.astype(str)[:, None] == kinds[None]
        values = values.reshape(len(values), -1).astype(np.float64)
        if not np.isfinite(values).all():
            n_bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise DataError(
                f"context {name!r} must be finite, got NaN or infinity in {n_bad} of {len(values)} events; fill them"
            )
        spread = values.std(axis=0)
        columns.append((values - values.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0))
    return np.concatenate(columns, axis=1)
