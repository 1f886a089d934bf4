"""What a learned user model must beat: biases only, and a factorisation of ratings by alternating least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.splits import last_share_of_users
from recgym.rng import normals


@dataclass(frozen=True)
class Ratings:
    """A rating model: mean, biases and inner products.

    Attributes:
        mean: Common mean.
        user_bias: (n_users,) float64.
        item_bias: (n_items,) float64.
        user_factors: (n_users, d) float64.
        item_factors: (n_items, d) float64.
        reward_range: Predictions are cut to it.
    """

    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_factors: np.ndarray
    item_factors: np.ndarray
    reward_range: tuple[float, float]

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the expected reward of each pair (n,)."""
        likeness = np.einsum("nd,nd->n", self.user_factors[users], self.item_factors[items])
        return np.clip(self.mean + self.user_bias[users] + self.item_bias[items] + likeness, *self.reward_range)


class Choice(NamedTuple):
    """Hyperparameters of `fit_ratings`."""

    dim: int = 0
    bias_penalty: float = 4.0
    penalty: float = 8.0


class Tuned(NamedTuple):
    """What `tuned` found."""

    model: Ratings  # fitted on the whole log
    choice: Choice
    predicted: np.ndarray  # (n,) of the held-back events, said by models that had not seen them
    events: np.ndarray  # (n,) int: which events these are


def fit_ratings(
    log: InteractionLog,
    dim: int = 0,
    *,
    bias_penalty: float = 4.0,
    penalty: float = 8.0,
    weights: np.ndarray | None = None,
    n_rounds: int = 10,
    seed: int = 0,
) -> Ratings:
    """Returns the rating model of least weighted squared error; `dim=0` has biases only. Fit on training events.

    Minimises `sum_e w_e (r_e - mean - b_u - b_i - x_u @ y_i)**2 + bias_penalty * |b|**2 + penalty * std(r) *
    (|X|**2 + |Y|**2)`, users and items by turns, each exactly. A user or item without events has bias and factors 0.

    Args:
        log: Training events.
        dim: Width d of the factors.
        bias_penalty: Pull of biases towards 0, in events.
        penalty: Pull of factors towards 0, in standard deviations of the rewards, so that their unit does not matter.
        weights: Weight of each event (n_events,), brought to a mean of 1; `1 / log.propensities` weighs a self-selected
            log like one of random items.
        n_rounds: How often users and items take turns.
        seed: Which start.

    Raises:
        DataError: if weights are not above 0, one per event, or `dim` is negative.

    Source: Koren, Bell and Volinsky (2009), Matrix factorization techniques for recommender systems, IEEE Computer
        42(8), equation 5; weights: Schnabel et al. (2016), equation 12.
    """
    weight = np.ones(log.n_events) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (log.n_events,) or not (weight > 0).all() or dim < 0:
        raise DataError(
            f"weights must be above 0, one per event ({log.n_events}), and dim at least 0, got weights of shape "
            f"{weight.shape} and dim={dim}; mend them"
        )
    weight = weight / weight.mean()
    users, items, target = log.event_users(), np.asarray(log.items), np.asarray(log.rewards, dtype=np.float64)
    mean = float(np.average(target, weights=weight))
    deviation = np.average((target - mean) ** 2, weights=weight) ** 0.5 or 1.0  # rewards all alike: nothing to explain
    pull = np.append(bias_penalty, np.full(dim, penalty * deviation))
    x = np.zeros((log.n_users, 1 + dim))  # bias, factors
    y = np.concatenate(
        [np.zeros((log.n_items, 1)), 0.1 * normals(seed, log.n_items * dim).reshape(log.n_items, dim)], axis=1
    )
    by_user, by_item = _groups(users, log.n_users), _groups(items, log.n_items)
    for _ in range(n_rounds):
        x = _solved(by_user, items, y, target - mean, weight, pull)
        y = _solved(by_item, users, x, target - mean, weight, pull)
    low, high = log.reward_range or (float(target.min()), float(target.max()))
    return Ratings(mean, x[:, 0], y[:, 0], x[:, 1:], y[:, 1:], (low, high))


def tuned(log: InteractionLog, choices: Sequence[Choice], weights: np.ndarray | None = None, seed: int = 0) -> Tuned:
    """Returns the rating model whose hyperparameters predict held-back training events best, fitted on all of them.

    Held back are the last tenth of each user's events; of a log without times, each of five random fifths by turns.
    Weights count in the squared error as they do in the fit.

    Args:
        log: Training events.
        choices: What to choose from.
        weights: Weight of each event (n_events,), as for `fit_ratings`.
        seed: Of the random fifths and of the fits.
    """
    weight = np.ones(log.n_events) if weights is None else np.asarray(weights, dtype=np.float64)
    parts = validation_parts(log, seed)
    events = np.concatenate([np.flatnonzero(part) for part in parts])
    users, items = log.event_users(), np.asarray(log.items)
    best, error = None, np.inf
    for choice in choices:
        said = []
        for part in parts:
            rest = log.select_events(~part, drop_empty=False)
            model = fit_ratings(rest, **choice._asdict(), weights=weight[~part], seed=seed)
            said.append(model.predict(users[part], items[part]))
        predicted = np.concatenate(said)
        found = float(np.average((predicted - log.rewards[events]) ** 2, weights=weight[events]))
        if found < error:
            best, error = (choice, predicted), found
    if best is None:
        raise DataError("there must be something to choose from, got no choices; give at least one")
    return Tuned(fit_ratings(log, **best[0]._asdict(), weights=weights, seed=seed), *best, events)


def validation_parts(log: InteractionLog, seed: int = 0) -> list[np.ndarray]:
    """Returns which events are held back in each round (n_events,) bool: the last, or random ones without times."""
    if log.times is not None:
        return [last_share_of_users(log.offsets, 0.1)]
    fifth = np.random.default_rng(seed).permutation(log.n_events) % 5
    return [fifth == one for one in range(5)]


def _groups(of: np.ndarray, n: int) -> list[np.ndarray]:
    """Returns the events of each of the n users or items."""
    order = np.argsort(of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(of, minlength=n))[:-1])


def _solved(
    groups: list[np.ndarray],
    others: np.ndarray,
    side: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    pull: np.ndarray,
) -> np.ndarray:
    """Returns bias and factors (n, 1 + d) of one side, given those of the other."""
    grams = np.tile(np.diag(pull), (len(groups), 1, 1))  # (n, 1 + d, 1 + d)
    aims = np.zeros((len(groups), len(pull), 1))
    for row, events in enumerate(groups):
        theirs = side[others[events]]  # (m, 1 + d)
        weighted = theirs * weight[events, None]
        weighted[:, 0] = weight[events]
        left = target[events] - theirs[:, 0]
        theirs[:, 0] = 1.0
        grams[row] += weighted.T @ theirs
        aims[row, :, 0] = weighted.T @ left
    return np.linalg.solve(grams, aims)[:, :, 0]
