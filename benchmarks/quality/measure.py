"""From a scorer and questions to one value per question, and from values to intervals over seeds and users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.tasks import Asked
from recgym import metrics
from recgym.batches import histories
from recgym.metrics import Interval
from recgym.policies import Scorer
from recgym.scoring import as_scores, score_function, unseen_items

METRICS = ("hit_rate@10", "ndcg@10")
_ROWS = 256


def values_of(scorer: Scorer, asked: Asked, k: int = 10) -> dict[str, np.ndarray]:
    """Returns hit_rate@k and ndcg@k of every question (N,) float64, ties by expectation."""
    log = asked.log
    score = score_function(scorer, log.item_ids, log.reward, log.name)
    people, begin = np.unique(asked.users, return_index=True)
    begin = np.append(begin, len(asked.users))
    ranks = []
    for first in range(0, len(people), _ROWS):
        rows = np.arange(first, min(first + _ROWS, len(people)))
        history = histories(log, people[rows], log.lengths[people[rows]])
        scores = as_scores(score(history), len(rows), log.n_items)
        mine = np.arange(begin[rows[0]], begin[rows[-1] + 1])  # questions
        whose = np.repeat(np.arange(len(rows)), np.diff(begin[rows[0] : rows[-1] + 2]))
        ranks.append(_ranks(scores, whose, asked, mine, unseen_items(history.items, log.n_items)))
    found = metrics.Ranks(*(np.concatenate(part) for part in zip(*ranks, strict=True)))
    return {f"hit_rate@{k}": metrics.hit_rate(found, k), f"ndcg@{k}": metrics.gain(found, k)}


def _ranks(scores: np.ndarray, whose: np.ndarray, asked: Asked, mine: np.ndarray, allowed: np.ndarray) -> metrics.Ranks:
    targets = asked.targets[mine]
    if asked.others is None:
        allowed = allowed[whose]
        np.put_along_axis(allowed, targets[:, None], True, axis=1)
        return metrics.tie_ranks(scores[whose], targets, allowed)
    columns = np.concatenate([targets[:, None], asked.others[mine]], axis=1)  # (n, 1 + C)
    padded = np.pad(scores, ((0, 0), (0, 1)))
    real = columns < scores.shape[1]
    return metrics.tie_ranks(padded[whose[:, None], columns], np.zeros(len(mine), dtype=np.int64), real)


def hierarchical_interval(
    values: Sequence[np.ndarray], users: np.ndarray, n_draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Returns the mean of values over seeds and questions, and its percentile interval of a two-stage bootstrap.

    A draw takes as many seeds as there are, with replacement, and for each of them as many users, with replacement and
    with all their questions.

    Args:
        values: Per seed, one value per question (N,).
        users: Whom each question is about (N,).
        n_draws: Draws.
        level: Share of the draws within the interval.
        seed: Seed of the draws.

    Source: Davison and Hinkley (1997), Bootstrap methods and their application, section 3.8.

    Example:
        >>> hierarchical_interval([np.array([0.0, 1.0]), np.array([1.0, 1.0])], np.array([0, 1])).mean
        0.75
    """
    _, place, counts = np.unique(users, return_inverse=True, return_counts=True)
    n_seeds, n_users = len(values), len(counts)
    sums = np.stack([np.bincount(place, weights=one, minlength=n_users) for one in values])  # (S, U)
    random = np.random.default_rng(seed)
    means = np.empty(n_draws)
    step = max(1, (1 << 22) // max(n_users * n_seeds, 1))
    even = bool((counts == counts[0]).all())
    for first in range(0, n_draws, step):
        n = min(step, n_draws - first)
        seeds = random.integers(n_seeds, size=(n, n_seeds, 1))
        drawn = random.integers(n_users, size=(n, n_seeds, n_users), dtype=np.int32)
        total = sums[seeds, drawn].sum(axis=2)  # (n, S)
        weight = np.full(total.shape, n_users * float(counts[0])) if even else counts[drawn].sum(axis=2)
        means[first : first + n] = (total / weight).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean([one.mean() for one in values])), float(low), float(high))
