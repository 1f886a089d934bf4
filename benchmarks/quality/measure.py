"""From a scorer and questions to one value per question, and from values to intervals over seeds and users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recgym.evaluation.evaluate import evaluate_ranking
from recgym.evaluation.metrics import Interval
from recgym.evaluation.questions import Questions
from recgym.evaluation.scoring import ScoreFunction
from recgym.scorers import Scorer

METRICS = ("hit_rate@10", "ndcg@10")


def values_of(scorer: Scorer | ScoreFunction, asked: Questions, k: int = 10) -> dict[str, np.ndarray]:
    """Returns hit_rate@k and ndcg@k of every question (N,) float64, ties by expectation."""
    found = evaluate_ranking(scorer, asked, k).by_question
    return {metric: found[metric] for metric in (f"hit_rate@{k}", f"ndcg@{k}")}


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
