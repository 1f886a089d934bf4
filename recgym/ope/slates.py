"""A log seen as slates of k items, and how likely a policy would have been to show the same ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym import ope
from recgym.errors import DataError
from recgym.evaluation.policies import StochasticPolicy, slate_marginals, slate_propensities
from recgym.log import InteractionLog
from recgym.ope.logged import policy_moments
from recgym.ope.slate import pseudo_inverse_weights
from recgym.rng import RowRandom

_COLUMNS = ("step", "position", "given_above", "slate_propensity")
_LARGEST = 800  # pairs of position and item up to which the pseudo-inverse is worked out
_SESSIONS_PER_SEED = 1 << 24


class Slates(NamedTuple):
    """The slates of n sessions of at most T steps, k items each; padded with reward 0, propensity 1, item n_items."""

    items: np.ndarray  # (n, T, k) int64
    rewards: np.ndarray  # (n, T, k) float64, of each position
    beta: np.ndarray  # (n, T, k) propensity of the item at its position
    beta_given: np.ndarray  # (n, T, k) the same given the items above
    beta_slate: np.ndarray  # (n, T) of the whole slate
    lengths: np.ndarray  # (n,) int64 slates of each session
    events: np.ndarray  # (n, T) int64: event of the log that stands first in the slate, -1 where padded


class SlateView(NamedTuple):
    """The propensities of logged slates under an evaluated policy, 1 where padded."""

    pi: np.ndarray  # (n, T, k) of the item at its position
    pi_given: np.ndarray  # (n, T, k) the same given the items above
    pi_slate: np.ndarray  # (n, T) of the whole slate
    pseudo_inverse: np.ndarray | None  # (n,) pseudo-inverse weights of the first slates, where the log allows it


def slates(log: InteractionLog) -> Slates:
    """Returns the slates of a log that has the columns `collect` writes (see there); a "user" of it is a session.

    Raises:
        DataError: if the log has no propensities, impossible ones or ones that contradict each other, lacks a column,
            or a session has no slate or an incomplete one.
    """
    _check_columns(log)
    shown = np.flatnonzero(np.asarray(log.extra["position"]) >= 0)
    position = np.asarray(log.extra["position"])[shown]
    k = int(position.max(initial=0)) + 1
    if len(shown) % k or not (position.reshape(-1, k) == np.arange(k)).all():
        raise DataError(
            f"every slate must hold {k} items in the order of their positions, got {len(shown)} shown items that do "
            f"not; drop incomplete slates, or split the log by the length of slates"
        )
    first = shown[::k]
    session = log.event_users()[first]
    lengths = np.bincount(session, minlength=log.n_users)
    if lengths.min(initial=1) < 1:
        raise DataError(
            f"every session must have a slate, got none in {np.count_nonzero(lengths == 0)} of {log.n_users}; "
            f"drop these sessions"
        )
    step = np.arange(len(session)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    n, horizon = log.n_users, int(lengths.max())

    def placed(column: np.ndarray | None, padding: float, kind: type = np.float64) -> np.ndarray:
        array: np.ndarray = np.full((n, horizon, k), padding, dtype=kind)
        array[session, step] = np.asarray(column)[shown].reshape(-1, k)
        return array

    beta, given = (placed(column, 1.0) for column in (log.propensities, log.extra["given_above"]))
    joint = placed(log.extra["slate_propensity"], 1.0)[:, :, 0]
    for of_slates in (beta, given, joint):  # refuses impossible propensities before anything is made of them
        ope.importance_weights(np.ones(of_slates.shape), of_slates)
    _check_products(given, joint)
    events = np.full((n, horizon), -1, dtype=np.int64)
    events[session, step] = first
    items, rewards = placed(log.items, log.n_items, np.int64), placed(log.rewards, 0.0)
    return Slates(items, rewards, beta, given, joint, lengths, events)


def slate_view(
    policy: StochasticPolicy, log: InteractionLog, made: Slates, max_history: int | None = None, seed: int = 0
) -> SlateView:
    """Returns how likely the policy would have been to show the logged slates.

    The marginals of the first two positions are exact, those of later ones averages over drawn beginnings. Weights of
    `recgym.ope.pseudo_inverse` are there for sessions of one slate that was drawn uniformly from what was allowed, as
    then E_beta[1_s 1_s'] is known.
    """
    pi, given, joint = (np.ones(array.shape) for array in (made.beta, made.beta_given, made.beta_slate))
    pseudo = np.zeros(len(made.items)) if _is_small(log, made) else None
    for moment, probabilities in policy_moments(policy, log, made, max_history):
        rows, step = moment.sessions, moment.step
        random = RowRandom.from_seeds([seed * _SESSIONS_PER_SEED + int(session) for session in rows])
        random.step += step
        shown = made.items[rows, step]  # (B, k)
        pi[rows, step], given[rows, step], _ = slate_propensities(probabilities, shown, random)
        joint[rows, step] = given[rows, step].prod(axis=1)
        if pseudo is not None and _is_uniform(made.beta_given[rows, step], moment.allowed):
            marginals = slate_marginals(probabilities, shown.shape[1], random)
            pseudo[rows] = _pseudo_inverse(shown, marginals, moment.allowed)
        else:
            pseudo = None
    return SlateView(pi, given, joint, pseudo)


def _pseudo_inverse(shown: np.ndarray, marginals: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Returns pseudo-inverse weights (B,) of slates drawn uniformly; items are renumbered among the allowed ones."""
    number = np.cumsum(allowed, axis=1) - 1  # (B, n_items)
    weights = np.zeros(len(shown))
    for m in np.unique(allowed.sum(axis=1)):
        rows = np.flatnonzero(allowed.sum(axis=1) == m)
        own = np.take_along_axis(number[rows], shown[rows], axis=1)
        of_allowed = np.moveaxis(marginals[rows], 1, 2)[allowed[rows]].reshape(len(rows), m, -1)
        moments = ope.uniform_slate_moments(int(m), shown.shape[1])
        weights[rows] = pseudo_inverse_weights(own, np.moveaxis(of_allowed, 2, 1), moments)
    return weights


def _is_small(log: InteractionLog, made: Slates) -> bool:
    _, horizon, k = made.items.shape
    return horizon == 1 and log.n_items * k <= _LARGEST


def _is_uniform(given: np.ndarray, allowed: np.ndarray) -> bool:
    left = allowed.sum(axis=1, keepdims=True) - np.arange(given.shape[1])  # (B, k)
    return bool((left > 0).all() and (np.abs(given * left - 1.0) < 1e-3).all())


def _check_columns(log: InteractionLog) -> None:
    lacking = [name for name in _COLUMNS if name not in log.extra]
    if log.propensities is None or lacking:
        raise DataError(
            f"slates need the propensity of every item and the columns {', '.join(_COLUMNS)}, got the log "
            f"{log.name!r} without {', '.join(lacking) or 'propensities'}; log them with recgym.collect"
        )


def _check_products(given: np.ndarray, joint: np.ndarray) -> None:
    product = given.prod(axis=2)
    off = np.abs(product - joint) > 1e-3 * joint + 1e-12
    if off.any():
        raise DataError(
            f"slate_propensity must be the product of given_above over the slate, got {joint[off][0]:g} instead of "
            f"{product[off][0]:g} ({np.count_nonzero(off)} of {off.size}); mend one of the two columns"
        )
