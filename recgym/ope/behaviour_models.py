"""Models of what showed the items of a log: fitted on some sessions, asked about others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Protocol

import numpy as np
from scipy.optimize import minimize

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.evaluation.policies import SoftmaxPolicy, StochasticPolicy
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.ope.item_vectors import vectors_of
from recgym.ope.logged import Decisions, Moment, moments

MODELS = ("logistic", "popularity")
SMOOTH = 1.0  # events that every item is taken to have had beside its own
LEAST = 1e-9  # estimated propensities are at least this
_NUMBERS = 40_000_000  # of decisions times items that a fit looks at
_MOST_FLAGS = 400  # up to so many items each has weights of its own
_STEPS = np.array([0, 1, 2, 4, 8, 16])  # of a session: where each kind of step begins


class Model(Protocol):
    """A fitted model of what showed the items."""

    def probabilities(self, moment: Moment) -> np.ndarray:
        """Returns probabilities (B, n_items) float64, 0 where not allowed."""
        ...


class Shown:
    """The decisions of a log, whose context stands beside each, asked for by sessions."""

    def __init__(self, log: InteractionLog, made: Decisions, context: np.ndarray, max_history: int | None) -> None:
        self.log, self.made, self.context, self.max_history = log, made, context, max_history

    def moments(self, sessions: np.ndarray) -> Iterator[tuple[Moment, np.ndarray]]:
        """Yields the moments of sessions with what was shown at them (B,)."""
        wanted = np.zeros(self.log.n_users, dtype=bool)
        wanted[sessions] = True
        for moment in moments(self.log, self.made, self.max_history):
            keep = wanted[moment.sessions]
            if not keep.any():
                continue
            history = History(*(None if part is None else part[keep] for part in moment.history))
            one = moment._replace(sessions=moment.sessions[keep], history=history, allowed=moment.allowed[keep])
            taken = self.made.items[one.sessions, one.step]
            one.allowed[np.arange(len(taken)), taken] = True  # what was shown could be
            yield one, taken

    def context_of(self, moment: Moment) -> np.ndarray:
        """Returns what is known beside the history (B, c)."""
        return self.context[self.made.events[moment.sessions, moment.step]]


def fitted_model(
    model: Any, log: InteractionLog, shown: Shown, train: np.ndarray, catalog: Catalog | None, seed: int
) -> Model:
    """Returns the model of that name, or of one's own, fitted on the sessions `train`."""
    if isinstance(model, str):
        if model not in MODELS:
            raise DataError(f"a behaviour model must be one of {', '.join(MODELS)}, or a class with fit, got {model!r}")
        made = _Popularity(log, shown, train)
        return made if model == "popularity" else _Logistic(log, shown, train, catalog, seed, made)
    return _Own(model, log, shown, train, seed)


class _Popularity:
    """How often items were shown at a kind of step, smoothed towards all steps, of those that may be."""

    def __init__(self, log: InteractionLog, shown: Shown, train: np.ndarray) -> None:
        counts = np.zeros((len(_STEPS), log.n_items))
        real = shown.made.real[train]
        items, steps = shown.made.items[train], np.broadcast_to(np.arange(real.shape[1]), real.shape)
        np.add.at(counts, (self.kind(steps[real]), items[real]), 1.0)
        overall = counts.sum(axis=0) + SMOOTH
        self.overall = overall / overall.sum()
        self.rows = counts + log.n_items * self.overall  # as many events more as there are items
        self.rows /= self.rows.sum(axis=1, keepdims=True)

    @staticmethod
    def kind(step: Any) -> Any:
        return np.searchsorted(_STEPS, step, side="right") - 1

    def probabilities(self, moment: Moment) -> np.ndarray:
        odds = self.rows[self.kind(moment.step)] * moment.allowed
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


class _Logistic:
    """Scores a log p_i + (W x)^T e_i, of the popularity p at that step, vectors e and what was known x."""

    def __init__(
        self,
        log: InteractionLog,
        shown: Shown,
        train: np.ndarray,
        catalog: Catalog | None,
        seed: int,
        popularity: _Popularity,
    ) -> None:
        self.shown, self.popularity = shown, popularity
        vectors = (catalog or vectors_of(log.select_users(train))).embeddings.astype(np.float64)
        self.vectors = vectors / max(float(vectors.std()), 1e-3 * float(np.abs(vectors).max()), 1e-12)
        flags = np.eye(log.n_items) if log.n_items <= _MOST_FLAGS else np.zeros((log.n_items, 0))
        self.told = np.concatenate([self.vectors, flags], axis=1)  # what weights of an item are made of
        most = max(_NUMBERS // log.n_items, 100)
        n = int(shown.made.lengths[train].sum())
        if n > most:  # as many sessions, drawn at random, as hold so many decisions
            order = np.random.default_rng(seed).permutation(train)
            train = np.sort(order[: max(int(np.searchsorted(np.cumsum(shown.made.lengths[order]), most)), 1)])
        looked = [(self.known(one), self.base(one), taken) for one, taken in shown.moments(train)]
        self.known_all, self.base_all, self.taken = (np.concatenate(part) for part in zip(*looked, strict=True))
        n_known, dim = self.known_all.shape[1], self.told.shape[1]
        begin = np.concatenate([[1.0], np.zeros(n_known * dim)])
        found = minimize(self._loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 100})
        self.scale, self.weight = found.x[0], found.x[1:].reshape(n_known, dim)
        del self.known_all, self.base_all, self.taken

    def known(self, moment: Moment) -> np.ndarray:
        """Returns what was known (B, 1 + 2 d + c): one, the newest item's vector, the mean of the last ten, context."""
        history = moment.history
        table = np.concatenate([self.vectors, np.zeros((1, self.vectors.shape[1]))])
        items = np.asarray(history.items)[:, -10:]
        real = (items < len(self.vectors)).sum(axis=1, keepdims=True)
        newest = table[items[:, -1]] if items.shape[1] else np.zeros((len(items), table.shape[1]))
        mean = table[items].sum(axis=1) / np.maximum(real, 1)
        return np.concatenate([np.ones((len(items), 1)), newest, mean, self.shown.context_of(moment)], axis=1)

    def base(self, moment: Moment) -> np.ndarray:
        """Returns log popularity (B, n_items) float32, minus infinity where an item may not be shown."""
        odds = np.log(self.popularity.rows[self.popularity.kind(moment.step)])
        return np.where(moment.allowed, odds, -np.inf).astype(np.float32)

    def _loss(self, given: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the mean negative log likelihood with its ridge, and its gradient."""
        scale, weight = given[0], given[1:].reshape(self.known_all.shape[1], -1)
        n, loss = len(self.taken), 0.0
        grad_scale, grad = 0.0, np.zeros(weight.shape)
        for first in range(0, n, 2048):
            part = slice(first, first + 2048)
            known, base, taken = self.known_all[part], self.base_all[part].astype(np.float64), self.taken[part]
            odds, logs = _softmax(scale, base, known @ weight @ self.told.T)
            rows = np.arange(len(taken))
            loss -= logs[rows, taken].sum()
            finite = np.where(np.isfinite(base), base, 0.0)
            grad_scale += (odds * finite).sum() - finite[rows, taken].sum()
            grad += known.T @ (odds @ self.told - self.told[taken])
        ridge = 1.0 / n
        loss = loss / n + 0.5 * ridge * float((weight**2).sum())
        return loss, np.concatenate([[grad_scale / n], (grad / n + ridge * weight).ravel()])

    def probabilities(self, moment: Moment) -> np.ndarray:
        base = self.base(moment).astype(np.float64)
        return _softmax(self.scale, base, self.known(moment) @ self.weight @ self.told.T)[0]


def _softmax(scale: float, base: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the softmax of scale * base + scores (B, n_items), and its logarithm; -inf of `base` stays."""
    logits = np.where(np.isfinite(base), scale * np.where(np.isfinite(base), base, 0.0) + scores, -np.inf)
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    total = odds.sum(axis=1, keepdims=True)
    return odds / total, logits - np.log(total)


class _Own:
    """A user's own model: a policy as it is, or the softmax of a scorer that explains best what others were shown."""

    _TRIED = tuple(product((0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 3.0), (0.01, 0.1, 0.3)))  # temperature, epsilon

    def __init__(self, model: Any, log: InteractionLog, shown: Shown, train: np.ndarray, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(train)
        tune, fit = order[: max(len(order) // 5, 1)], np.sort(order[max(len(order) // 5, 1) :])
        part = log.select_users(fit if len(fit) else train)
        made = model.fit(part) if hasattr(model, "fit") else model(part)
        if not np.array_equal(made.item_ids, log.item_ids):
            raise DataError(
                f"a behaviour model must have the log's {log.n_items} items, got {len(made.item_ids)}; mend its fit"
            )
        self.policy: StochasticPolicy = made if isinstance(made, StochasticPolicy) else self._best(made, shown, tune)

    def _best(self, scorer: Any, shown: Shown, tune: np.ndarray) -> SoftmaxPolicy:
        tried = [SoftmaxPolicy(scorer, temperature, epsilon, standardise=True) for temperature, epsilon in self._TRIED]
        found = np.zeros(len(tried))
        for moment, taken in shown.moments(tune):
            scores = tried[0].scores(moment.history)
            for number, policy in enumerate(tried):
                odds = policy.of_scores(scores, moment.allowed)[np.arange(len(taken)), taken]
                found[number] += np.log(np.maximum(odds, LEAST)).sum()
        return tried[int(found.argmax())]

    def probabilities(self, moment: Moment) -> np.ndarray:
        return np.asarray(self.policy.probabilities(moment.history, moment.allowed), dtype=np.float64)
