"""Features of a moment and an item for fitted Q evaluation, and their expectation under a policy."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from recgym.catalog import Catalog
from recgym.evaluation.policies import POLICY_STREAM, SoftmaxPolicy, StochasticPolicy
from recgym.evaluation.scoring import as_scores
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.ope.logged import Decisions, Moment, policy_moments
from recgym.rng import RowRandom

_SESSIONS_PER_SEED = 1 << 24
_MOST_FLAGS = 400  # up to so many items each has a weight of its own


class PolicyView(NamedTuple):
    """What a policy makes of the decisions of a log; padded where a session has ended."""

    pi: np.ndarray  # (n, T) float64 probability of the logged items, 1 where padded
    features: np.ndarray  # (n, T, p) float32 of the moments and the logged items
    pi_features: np.ndarray  # (n, T, p) float32: their expectation over the policy's items
    now_features: np.ndarray  # (n, T, p) float32: the same of the item shown now alone


def policy_view(
    policy: StochasticPolicy,
    log: InteractionLog,
    made: Decisions,
    catalog: Catalog,
    max_history: int | None = None,
    seed: int = 0,
) -> PolicyView:
    """Returns the evaluated probabilities of the logged items and the features that `fitted_q` needs.

    With m steps left, the return still to come is nearly the sum of what m items earn: the one shown now and those that
    the policy shows next. So the features are a mean over these m items of `psi(moment, item)`: what the policy thinks
    of the item, its vector, how often the opening frames have it and what it earned there, up to 400 items a flag, and
    every product of a direction of the history's mean vector with one of the item's. What will be shown is found by
    asking the policy again, items already shown masked and the history as it is (where the log repeats items, one
    asking is enough). If rewards were linear in psi and the history stood still, the return would be linear in these
    features; what else is known of the moment (share of steps gone, mean reward of the history) is for the rest.
    What the session has earned so far is left out on purpose: an answer to an item shown at random says far more of a
    person than one to an item chosen for him, so a weight learned from the one policy misleads for the other.

    Args:
        policy: Whose probabilities and expectations. If it has `scores`, they are what it thinks of items, else its
            probabilities are.
        log: The log.
        made: Its decisions.
        catalog: Vectors of its items; 8 to 32 directions serve best.
        max_history: See `recgym.ope.logged.moments`.
        seed: Seed of the items that are imagined to be shown next.
    """
    vectors = catalog.embeddings.astype(np.float64)
    vectors /= max(vectors.std(), 1e-3 * np.abs(vectors).max(), 1e-12)  # all alike: of order 1000 at most
    vectors = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])
    of_items = np.concatenate([_item_features(log, made), vectors[:-1]], axis=1)  # (n_items, m)
    n, horizon = made.items.shape
    view = PolicyView(np.ones((n, horizon)), *(np.zeros((0, 0, 0), dtype=np.float32) for _ in range(3)))
    for moment, probabilities in policy_moments(policy, log, made, max_history):
        rows, step = moment.sessions, moment.step
        now = np.zeros(probabilities.shape)
        now[np.arange(len(rows)), made.items[rows, step]] = 1.0
        view.pi[rows, step] = probabilities[now == 1.0]
        thought = _opinion(policy, moment, probabilities)  # (B, n_items, o)
        known, taste = _state_features(moment.history, vectors, made, rows, step)
        for column, shown in enumerate(_shown(policy, moment, now, probabilities, horizon - step, seed), start=1):
            opinion = np.einsum("bn,bno->bo", shown, thought)
            features = _joined(known, taste, opinion, shown @ of_items)
            if view[column].size == 0:
                view = view._replace(**{view._fields[column]: np.zeros((n, horizon, features.shape[1]), np.float32)})
            view[column][rows, step] = features
    return view


def _shown(
    policy: StochasticPolicy, moment: Moment, now: np.ndarray, probabilities: np.ndarray, left: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each item's share (B, n_items) of what is shown: after the logged item, after a drawn one, and now."""
    luck = _luck(moment.sessions, seed, now.shape[1])
    if isinstance(policy, SoftmaxPolicy) and moment.masked:
        shown_next = partial(_softmax_shown_next, policy, policy.scores(moment.history))
    else:
        shown_next = partial(_shown_next, policy)
    after_logged = now + shown_next(moment, now, left - 1, luck)
    after_drawn = probabilities + shown_next(moment, probabilities, left - 1, luck)
    return after_logged / left, after_drawn / left, now


def _luck(sessions: np.ndarray, seed: int, n_items: int) -> np.ndarray:
    """Returns Gumbel numbers (B, n_items), the same for a session at every step.

    A draw is the largest of log probability + luck. With luck that stays, what is imagined at one step is imagined at
    the next one too; fresh luck would be an error in the features, and weights shrink with errors in features.
    """
    random = RowRandom.from_seeds([seed * _SESSIONS_PER_SEED + int(session) for session in sessions])
    return -np.log(-np.log(random.uniform(slice(None), n_items, POLICY_STREAM) + 2.0**-33))


def _shown_next(policy: StochasticPolicy, moment: Moment, first: np.ndarray, m: int, luck: np.ndarray) -> np.ndarray:
    """Returns how often each item is shown in the m steps after one drawn from `first` (B, n_items)."""
    shown = np.zeros(first.shape)
    if not moment.masked:
        return m * policy.probabilities(moment.history, moment.allowed) if m else shown
    allowed, probabilities = moment.allowed.copy(), first
    for _ in range(m):
        with np.errstate(divide="ignore"):
            item = (np.log(probabilities) + luck).argmax(axis=1)
        allowed[np.arange(len(first)), item] = False
        if not allowed.any(axis=1).all():
            break
        probabilities = policy.probabilities(moment.history, allowed)
        shown += probabilities
    return shown


def _softmax_shown_next(
    policy: SoftmaxPolicy, scores: np.ndarray, moment: Moment, first: np.ndarray, m: int, luck: np.ndarray
) -> np.ndarray:
    """Returns the same for a softmax whose items are masked once shown, all m steps at once.

    The m items drawn are then those with the largest log odds + luck, and what is left of the odds is a cumulated sum.
    (They are drawn as if nothing were shown uniformly; `epsilon` counts in what is shown, not in what is masked.)

    Source: Kool, van Hoof and Welling (2019), Stochastic beams and where to find them, ICML, section 2.3.
    """
    rows, allowed = np.arange(len(first))[:, None], moment.allowed.copy()
    with np.errstate(divide="ignore"):
        allowed[rows[:, 0], (np.log(first) + luck).argmax(axis=1)] = False
    if m == 0 or not allowed.any(axis=1).all():
        return np.zeros(first.shape)
    possible = allowed & np.isfinite(scores)
    best = scores.max(axis=1, keepdims=True, where=possible, initial=-np.inf)
    behind = np.subtract(best, scores, out=np.zeros(first.shape), where=possible)
    log_odds = np.where(possible, -np.minimum(behind / policy.temperature, 700.0), -np.inf)
    order = np.argsort(-(log_odds + luck), axis=1)  # (B, n_items) the order in which items are drawn
    rank = np.empty_like(order)
    rank[rows, order] = np.arange(order.shape[1])
    odds = np.exp(log_odds)
    left = np.cumsum(odds[rows, order][:, ::-1], axis=1)[:, ::-1][:, :m]  # (B, m) odds not yet drawn
    n_left = np.maximum(allowed.sum(axis=1, keepdims=True) - np.arange(m), 0)[:, : left.shape[1]]
    shares = [np.divide(1.0, one, out=np.zeros(left.shape), where=one > 0.0) for one in (left, n_left)]
    last = np.minimum(rank, left.shape[1] - 1)  # an item is there until it is drawn
    of_odds, of_uniform = (np.cumsum(share, axis=1)[rows, last] for share in shares)
    return allowed * ((1.0 - policy.epsilon) * odds * of_odds + policy.epsilon * of_uniform)


def _opinion(policy: StochasticPolicy, moment: Moment, probabilities: np.ndarray) -> np.ndarray:
    """Returns what the policy thinks of each item (B, n_items, o): its standardised score, bent at 0, 1, 2 and 4."""
    if hasattr(policy, "scores"):
        scores = as_scores(policy.scores(moment.history), *probabilities.shape).astype(np.float64)
        scores = np.where(np.isfinite(scores), scores, np.nan)
    else:
        scores = np.log(np.maximum(probabilities, 1e-6))
    mean = np.nanmean(scores, axis=1, keepdims=True)
    scores = (scores - mean) / (np.nanstd(scores, axis=1, keepdims=True) + 1e-12)
    scores = np.nan_to_num(np.clip(scores, -4.0, 8.0), nan=-4.0)
    return np.stack([scores, *(np.maximum(scores - bend, 0.0) for bend in (0.0, 1.0, 2.0, 4.0))], axis=2)


def _item_features(log: InteractionLog, made: Decisions) -> np.ndarray:
    """Returns what is known of every item but its vector, apart from the moment (n_items, m); popularity first."""
    opening = np.ones(log.n_events, dtype=bool)
    opening[made.events[made.real]] = False  # what decisions earned is to be predicted, not known
    counts = np.bincount(log.items[opening], minlength=log.n_items)
    earned = np.bincount(log.items[opening], weights=log.rewards[opening], minlength=log.n_items)
    columns = [np.log1p(counts) / np.log1p(counts.max(initial=1)), earned / (counts + 5.0)]
    flags = np.eye(log.n_items) if log.n_items <= _MOST_FLAGS else np.zeros((log.n_items, 0))
    return np.concatenate([np.stack(columns, axis=1), flags], axis=1)


def _state_features(
    history: History, vectors: np.ndarray, made: Decisions, rows: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is known of B moments (B, s), and the mean vector of each history (B, d)."""
    length = np.maximum(np.asarray(history.length), 1)
    gone = step / made.items.shape[1]
    columns = [
        np.ones(len(rows)),
        np.full(len(rows), gone),
        np.full(len(rows), gone**2),
        history.rewards.sum(axis=1) / length,
    ]
    taste = vectors[history.items].sum(axis=1) / length[:, None]
    return np.stack(columns, axis=1), taste


def _joined(known: np.ndarray, taste: np.ndarray, opinion: np.ndarray, of_item: np.ndarray) -> np.ndarray:
    """Returns all features of B pairs (B, p): of the moment, of the item, and products of the two."""
    vector = of_item[:, -taste.shape[1] :]
    products = (taste[:, :, None] * vector[:, None, :]).reshape(len(known), -1)
    parts = [known, taste, opinion, of_item, known[:, 1:] * of_item[:, :1], products]
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
