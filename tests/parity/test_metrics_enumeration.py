"""Closed forms under ties against the plain mean over every order of the tied candidates."""

from itertools import pairwise, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym import metrics


def orders(scores, candidates):
    """Yields every ranking of the candidates that the scores allow, best first."""
    columns = [column for column in range(len(scores)) if candidates[column]]
    for order in permutations(columns):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            yield order


def naive(scores, candidates, relevant, k):
    hits, reciprocal, ndcg = [], [], []
    for order in orders(scores, candidates):
        ranks = [order.index(item) + 1 for item in relevant]
        hits.append([rank <= k for rank in ranks])
        reciprocal.append([1 / rank for rank in ranks])
        dcg = sum(1 / np.log2(1 + rank) for rank in ranks if rank <= k)
        ndcg.append(dcg / sum(1 / np.log2(1 + rank) for rank in range(1, min(k, len(relevant)) + 1)))
    return np.mean(hits, axis=0), np.mean(reciprocal, axis=0), np.mean(ndcg)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_expected_metrics_equal_the_mean_over_all_tie_orders(data):
    n = data.draw(st.integers(1, 6))
    scores = np.array(data.draw(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=n, max_size=n)))
    relevant = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    candidates = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    candidates[relevant] = True
    k = data.draw(st.integers(1, n + 1))
    hits, reciprocal, ndcg = naive(scores, candidates, relevant, k)
    ranks = metrics.tie_ranks(scores[None], np.array([relevant]), candidates[None])
    np.testing.assert_allclose(metrics.hit_rate(ranks, k)[0], hits, atol=1e-12)
    np.testing.assert_allclose(metrics.mrr(ranks)[0], reciprocal, atol=1e-12)
    np.testing.assert_allclose(metrics.ndcg(ranks, k), [ndcg], atol=1e-12)
    np.testing.assert_allclose(metrics.recall(ranks, k), [hits.mean()], atol=1e-12)
