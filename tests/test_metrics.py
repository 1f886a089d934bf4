"""Metrics against hand numbers, against chance, and the messages of what they refuse."""

import numpy as np
import pytest

from recgym import metrics
from recgym.errors import DataError
from recgym.evaluation.metrics import Ranks


def test_ranks_count_the_better_and_the_tied():
    scores = np.array([[5.0, 3.0, 3.0, 3.0, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    ranks = metrics.tie_ranks(scores, np.array([2, 4]))
    assert ranks.above.tolist() == [1, 0]
    assert ranks.tied.tolist() == [2, 0]


def test_only_candidates_are_ranked():
    scores = np.array([[5.0, 3.0, 3.0, 3.0, 1.0]])
    candidates = np.array([[False, False, True, True, True]])
    ranks = metrics.tie_ranks(scores, np.array([2]), candidates)
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([0], [1])


def test_several_targets_keep_their_shape():
    ranks = metrics.tie_ranks(np.array([[3.0, 2.0, 1.0]]), np.array([[0, 2]]))
    assert ranks.above.tolist() == [[0, 2]]


def test_hand_numbers_without_ties():
    ranks = Ranks(np.array([0, 2, 9, 10]), np.zeros(4, dtype=int))  # ranks 1, 3, 10, 11
    assert metrics.hit_rate(ranks, 10).tolist() == [1.0, 1.0, 1.0, 0.0]
    np.testing.assert_allclose(metrics.mrr(ranks), [1.0, 1 / 3, 1 / 10, 1 / 11])
    np.testing.assert_allclose(metrics.ndcg(ranks, 10), [1.0, 0.5, 1 / np.log2(11), 0.0])


def test_hand_numbers_with_ties():
    ranks = Ranks(np.array([1]), np.array([2]))  # rank 2, 3 or 4
    np.testing.assert_allclose(metrics.hit_rate(ranks, 3), [2 / 3])
    np.testing.assert_allclose(metrics.mrr(ranks), [(1 / 2 + 1 / 3 + 1 / 4) / 3])
    np.testing.assert_allclose(metrics.ndcg(ranks, 3), [(1 / np.log2(3) + 1 / 2) / 3])


@pytest.mark.parametrize("score", [0.0, -np.inf, 7.5])
def test_a_constant_scorer_earns_exactly_chance(score):
    n, k = 40, 10
    ranks = metrics.tie_ranks(np.full((n, n), score), np.arange(n))  # whichever item is the target
    assert (metrics.hit_rate(ranks, k) == k / n).all()
    np.testing.assert_allclose(metrics.mrr(ranks), (1 / np.arange(1, n + 1)).mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics.ndcg(ranks, k), (1 / np.log2(np.arange(2, k + 2))).sum() / n, rtol=1e-12)


def test_one_hit_of_ten_relevant_is_not_a_perfect_list():
    scores = -np.arange(100.0)[None]
    relevant = np.array([[0, *range(90, 99)]])  # rank 1 and nine far below
    ranks = metrics.tie_ranks(scores, relevant)
    ideal = (1 / np.log2(np.arange(2, 12))).sum()
    np.testing.assert_allclose(metrics.ndcg(ranks, 10), [1 / ideal])
    np.testing.assert_allclose(metrics.recall(ranks, 10), [0.1])


def test_padded_relevant_columns_do_not_count():
    scores = -np.arange(6.0)[None]
    ranks = metrics.tie_ranks(np.repeat(scores, 2, axis=0), np.array([[0, 3], [1, 0]]))
    real = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(metrics.recall(ranks, 2, real), [0.5, 1.0])
    np.testing.assert_allclose(metrics.ndcg(ranks, 2, real), [1 / (1 + 1 / np.log2(3)), 1 / np.log2(3)])


def test_more_relevant_items_than_the_list_is_long_can_still_be_perfect():
    ranks = metrics.tie_ranks(-np.arange(8.0)[None], np.arange(8)[None])
    np.testing.assert_allclose(metrics.ndcg(ranks, 3), [1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.tie_ranks(np.array([[0.0, np.nan]]), np.array([0])), r"below infinity, got NaN \(1 of 1 rows"),
        (lambda: metrics.tie_ranks(np.array([[0.0, np.inf]]), np.array([0])), "got plus infinity"),
        (lambda: metrics.tie_ranks(np.zeros(3), np.array([0])), r"scores must have shape \(1, n\)"),
        (
            lambda: metrics.tie_ranks(np.zeros((1, 3)), np.array([0]), np.array([[False, True, True]])),
            "every target must be a candidate, got 1 rows",
        ),
        (
            lambda: metrics.tie_ranks(np.zeros((1, 3)), np.array([0]), np.ones((1, 2), dtype=bool)),
            r"candidates must have the shape of scores \(1, 3\), got \(1, 2\)",
        ),
        (lambda: metrics.hit_rate(Ranks(np.array([0]), np.array([0])), 0), "k must be at least 1, got 0"),
        (
            lambda: metrics.ndcg(Ranks(np.zeros((1, 1), int), np.zeros((1, 1), int)), 1, np.array([[False]])),
            "every row must have a relevant item, got none in 1 of 1",
        ),
        (lambda: metrics.gini(np.array([[3, 3]]), 3), "some item must be listed"),
        (lambda: metrics.mean_interval(np.zeros(0)), r"values must have shape \(n,\).*got \(0,\)"),
        (lambda: metrics.mean_interval(np.array([1.0, np.nan])), "values must be finite, got 1 of 2"),
        (lambda: metrics.mean_interval(np.ones(2), confidence=1.0), "confidence must be between 0 and 1"),
        (lambda: metrics.paired_difference(np.ones(2), np.ones(3)), r"equal shapes, got \(2,\) and \(3,\)"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


# -- what the lists hold together -------------------------------------------------------------------------------------


def test_coverage_and_gini_by_hand():
    lists = np.array([[0, 1], [0, 4]])  # item 4 is padding of 4 items: exposures 2, 1, 0, 0
    assert metrics.coverage(lists, 4) == 0.5
    assert metrics.gini(lists, 4) == pytest.approx((1 * 1 + 3 * 2) / (4 * 3))
    assert metrics.gini(np.arange(4)[None], 4) == 0.0
    assert metrics.gini(np.zeros((5, 1), int), 1000) == pytest.approx(1.0, abs=2e-3)


def test_novelty_by_hand():
    counts = np.array([8, 4, 4, 0])  # shares 1/2, 1/4, 1/4 and, never seen, 1/16
    np.testing.assert_allclose(metrics.novelty(np.array([[0, 1], [2, 3], [0, 4]]), counts), [1.5, 3.0, 1.0])


# -- intervals --------------------------------------------------------------------------------------------------------


def test_interval_is_deterministic_and_does_not_depend_on_the_memory_bound(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = metrics.mean_interval(values, n_draws=400)
    assert whole == metrics.mean_interval(values, n_draws=400)
    assert whole != metrics.mean_interval(values, n_draws=400, seed=1)
    monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 120)
    assert metrics.mean_interval(values, n_draws=400) == whole


def test_interval_agrees_with_normal_theory():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=2_000)
    interval = metrics.mean_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert interval.mean == values.mean()
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.08 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.08 * error)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    inside = 0
    for _ in range(300):
        interval = metrics.mean_interval(random.exponential(size=100), n_draws=500)
        inside += interval.low <= 1.0 <= interval.high
    assert 0.89 <= inside / 300 <= 0.98


def test_paired_difference_is_narrower_than_two_intervals():
    random = np.random.default_rng(3)
    user = random.normal(size=200)
    a, b = user + 0.2 + 0.1 * random.normal(size=200), user
    paired = metrics.paired_difference(a, b)
    assert paired.low > 0.15
    assert metrics.mean_interval(a).low < metrics.mean_interval(b).high  # unpaired, nothing would be seen
    np.testing.assert_allclose(
        paired, [-end for end in np.array(metrics.paired_difference(b, a))[[0, 2, 1]]], atol=1e-3
    )


def test_an_interval_without_ends_prints_its_mean():
    assert str(metrics.Interval(0.25, float("nan"), float("nan"))) == "0.2500"
    assert str(metrics.Interval(0.25, 0.2, 0.3)) == "0.2500 [0.2000, 0.3000]"
