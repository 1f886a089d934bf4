"""Does a simulator rank policies as the world does, and at the right price? A fixed set of them, and the comparison.

Truth needs items that were shown at random, and their ratings: there a policy's value is the mean rating of what it
picks among the user's random items, whatever anyone would have chosen by himself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from recgym.errors import DataError
from recgym.evaluation.metrics import Interval
from recgym.fidelity.measures import resamples
from recgym.log import InteractionLog

_PRIOR = 5.0  # ratings that count for the common mean in an item's or user's mean
_FIGURES = ("spearman", "kendall", "error", "absolute_error", "regret")
_GREEDY = 1e-4  # temperature, in standard deviations of the scores, of what is as good as greedy
_TEMPERATURES = {"greedy": _GREEDY, "soft": 0.3, "very soft": 1.2}


class Agreement(NamedTuple):
    """How the values of policies in a simulator compare with the truth; intervals over users."""

    spearman: Interval
    kendall: Interval
    error: Interval  # mean over policies of simulated / true - 1: above 0 means too optimistic
    absolute_error: Interval  # the same of |simulated / true - 1|
    regret: Interval  # share of the best policy's true value that choosing by the simulator forgoes
    simulated: np.ndarray  # (P,) value of each policy in the simulator
    true: np.ndarray  # (P,) and in truth


def agreement(simulated: np.ndarray, true: np.ndarray, *, seed: int = 0) -> Agreement:
    """Returns how far a simulator agrees with the truth about policies.

    Args:
        simulated: Value of each policy for each user in the simulator (n_users, P).
        true: The same in truth; means above 0.
        seed: Seed of the resampling of users.

    Raises:
        DataError: if the shapes differ, there are fewer than three policies, or a true mean is not above 0.
    """
    simulated, true = np.asarray(simulated, np.float64), np.asarray(true, np.float64)
    if simulated.shape != true.shape or true.ndim != 2 or true.shape[1] < 3:
        raise DataError(
            f"values must have one shape (n_users, P) with P at least 3, got {simulated.shape} and {true.shape}; "
            f"evaluate the same policies on the same users"
        )
    means = [values.mean(axis=0) for values in (simulated, true)]
    if not means[1].min() > 0.0:
        raise DataError(f"true values must be above 0, got {means[1].min():.4g}; use a reward that is, e.g. 'binary:3'")
    drawn = resamples(len(true), seed) / len(true)  # (draws, n_users)
    point = _figures(*means)
    draws = np.array([_figures(s, t) for s, t in zip(drawn @ simulated, drawn @ true, strict=True)])
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    ends = zip(_FIGURES, point, low.tolist(), high.tolist(), strict=True)
    return Agreement(**{name: Interval(*rest) for name, *rest in ends}, simulated=means[0], true=means[1])


def _figures(simulated: np.ndarray, true: np.ndarray) -> list[float]:
    off = simulated / true - 1.0
    return [
        float(stats.spearmanr(simulated, true).statistic),
        float(stats.kendalltau(simulated, true).statistic),
        float(off.mean()),
        float(np.abs(off).mean()),
        float(1.0 - true[simulated.argmax()] / true.max()),
    ]


def values(policies: dict[str, np.ndarray], users: np.ndarray, items: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Returns what each policy earns from each user (n_users with events, P).

    A policy picks one among the items that the user was shown.

    Args:
        policies: Logits by name (n_users, n_items): the log of an unnormalised probability.
        users: User of each shown item (n,) int, ascending.
        items: The items (n,) int.
        worth: What each is worth if picked (n,): its rating, or what a model predicts.
    """
    row = np.unique(users, return_inverse=True)[1]
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    found = []
    for logits in policies.values():
        own = logits[users, items]
        weight = np.exp(own - np.maximum.reduceat(own, starts)[row])
        found.append(np.bincount(row, weights=weight * worth) / np.bincount(row, weights=weight))
    return np.stack(found, axis=1)


def fixed_policies(log: InteractionLog) -> dict[str, np.ndarray]:
    """Returns 24 policies made of training events, as logits (n_users, n_items) of a choice among shown items.

    Eight scorers, from poor to good, each in three ways: greedy, and as a softmax of its standardised scores with
    temperature 0.3 or 1.2. None comes from the user model that is judged, and none has seen a held-out event.

    Args:
        log: Training events; n_users times n_items numbers must fit into memory.
    """
    made: dict[str, np.ndarray] = {}
    for name, scores in _scorers(log).items():
        level = (scores - scores.mean(axis=1, keepdims=True)) / np.maximum(scores.std(axis=1, keepdims=True), 1e-9)
        made |= {f"{name}, {how}": level / temperature for how, temperature in _TEMPERATURES.items()}
    return made


def _scorers(log: InteractionLog) -> dict[str, np.ndarray]:
    """Returns scores (n_users, n_items) of eight simple ways to choose."""
    users, items, rewards = log.event_users(), log.items, np.asarray(log.rewards, np.float64)
    shape = log.n_users, log.n_items
    rated, gained = np.zeros(shape), np.zeros(shape)
    np.add.at(rated, (users, items), 1.0)
    np.add.at(gained, (users, items), rewards - rewards.mean())
    popular = np.log1p(rated.sum(axis=0))
    item_mean = gained.sum(axis=0) / (rated.sum(axis=0) + _PRIOR)
    user_mean = gained.sum(axis=1) / (rated.sum(axis=1) + _PRIOR)
    taste = gained - rated * (item_mean + user_mean[:, None])  # what biases do not explain
    left, strength, right = np.linalg.svd(taste, full_matrices=False)
    chosen = rated @ _cosine(rated.T)
    return {
        "unpopular": np.broadcast_to(-popular, shape),
        "popular": np.broadcast_to(popular, shape),
        "low mean": np.broadcast_to(-item_mean, shape),
        "item mean": np.broadcast_to(item_mean, shape),
        "like what was chosen": chosen,
        "like what was liked": item_mean + taste @ _cosine(taste.T) / np.sqrt(rated.sum(axis=1, keepdims=True) + 1.0),
        "as similar users": item_mean + _cosine(taste) @ taste / np.sqrt(len(taste)),
        "4 factors": item_mean + (left[:, :4] * strength[:4]) @ right[:4],
    }


def _cosine(rows: np.ndarray) -> np.ndarray:
    """Returns the cosine of every two different rows (n, n), 0 on the diagonal."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, 0.0)
    return likeness
