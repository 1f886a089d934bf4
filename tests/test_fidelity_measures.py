"""Measures of predictions, sequences and policies against definitions, known answers and planted faults."""

import doctest
import sys

import numpy as np
import pytest
from scipy import stats

from recgym import DataError
from recgym.datasets import load
from recgym.fidelity import baselines, measures, policies, sequences


@pytest.fixture
def events():
    random = np.random.default_rng(3)
    users = np.sort(random.integers(40, size=600))
    scores = random.integers(6, size=600) / 5.0  # many ties
    liked = random.random(600) < 0.2 + 0.6 * scores
    return users, liked, scores


@pytest.mark.parametrize(
    "module",
    [sys.modules["recgym.fidelity.judge"], measures, sequences],  # `fidelity.judge` is the function
    ids=lambda module: module.__name__,
)
def test_doctests(module):
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def by_pairs(liked, scores):
    return np.mean([(up > down) + 0.5 * (up == down) for up in scores[liked] for down in scores[~liked]])


def test_auc_is_the_share_of_pairs_in_order(events):
    users, liked, scores = events
    found = measures.auc(users, liked, scores)
    assert found.mean == pytest.approx(by_pairs(liked, scores))
    assert found.low < found.mean < found.high
    assert measures.auc(users, liked, np.zeros(600)) == (0.5, 0.5, 0.5)
    assert measures.auc(users, liked, -scores).mean == pytest.approx(1.0 - found.mean)


def test_auc_within_each_user(events):
    users, liked, scores = events
    mixed = np.random.default_rng(0).permutation(600)  # the order of events must not matter
    found = measures.user_auc(users[mixed], liked[mixed], scores[mixed])
    own = [(liked[users == user], scores[users == user]) for user in np.unique(users)]
    assert found == pytest.approx([by_pairs(*one) for one in own if 0 < one[0].sum() < len(one[0])])


def test_knowing_only_the_users_mean_earns_nothing_within_users(events):
    users, liked, _ = events
    mean = np.bincount(users, weights=liked) / np.maximum(np.bincount(users), 1)
    assert measures.auc(users, liked, mean[users]).mean > 0.6
    assert (measures.user_auc(users, liked, mean[users]) == 0.5).all()


def test_both_conventions_of_ndcg():
    users = np.array([0, 0, 0, 1, 1])
    liked = np.array([True, False, False, False, False])
    values, some = measures.user_ndcg(users, liked, np.array([0.1, 0.9, 0.5, 0.3, 0.2]))
    assert values == pytest.approx([1.0 / np.log2(4.0), 1.0])
    assert some.tolist() == [True, False]


def test_rmse_and_log_loss_by_hand():
    users = np.array([0, 0, 1])
    assert measures.rmse(users, np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.0])).mean == pytest.approx(3**0.5)
    found = measures.log_loss(users, np.array([True, False, True]), np.array([0.5, 0.5, 1.0])).mean
    assert found == pytest.approx(2.0 * np.log(2.0) / 3.0, abs=1e-5)
    assert np.isfinite(measures.log_loss(users, np.array([True, False, True]), np.array([0.0, 1.0, 0.0])).mean)


def test_intervals_resample_users_not_events():
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(50), 40)
    values = random.normal(size=50)[users]  # all events of a user say the same
    found = measures.event_mean(users, values)
    assert (found.high - found.low) / 3.92 == pytest.approx(values.std() / 50**0.5, rel=0.15)


def test_calibration_sees_a_model_that_promises_too_much():
    random = np.random.default_rng(0)
    chance = random.random(20_000)
    came = random.random(20_000) < chance
    right, wrong = measures.calibration(came, chance), measures.calibration(came, 0.2 + 0.8 * chance)
    assert right.error < 0.015
    assert wrong.error == pytest.approx(0.1, abs=0.01)
    assert right.counts.sum() == 20_000
    assert len(right.counts) == 10
    assert measures.calibration(came, np.full(20_000, 0.3)).counts.tolist() == [20_000]


def test_measures_refuse_what_does_not_fit():
    users = np.zeros(2, dtype=int)
    with pytest.raises(DataError, match=r"must have one shape \(n,\) with n at least 1, got \(2,\), \(2,\) and \(3,\)"):
        measures.rmse(users, np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match=r"must be finite, got 1 of 2 that are not, first at 1; mend the model"):
        measures.rmse(users, np.zeros(2), np.array([0.0, np.nan]))
    with pytest.raises(DataError, match="needs liked and disliked events, got 2 of 2 liked"):
        measures.auc(users, np.ones(2), np.zeros(2))
    with pytest.raises(DataError, match="some user must have liked and disliked events, got none of 1"):
        measures.user_auc(users, np.ones(2), np.zeros(2))


# -- sequences ---------------------------------------------------------------------------------------------------------


def walks(n, likeness, seed):
    """Sequences whose neighbours are alike to a degree, all with the same marginal distribution."""
    random, lengths = np.random.default_rng(seed), np.random.default_rng(1).integers(10, 30, size=n)
    parts = []
    for length in lengths:
        noise, value = random.normal(size=length), 0.0
        own = []
        for draw in noise:
            value = likeness * value + (1.0 - likeness**2) ** 0.5 * draw
            own.append(value)
        parts.append(np.array(own))
    return np.concatenate(parts), lengths


def test_summaries_by_hand():
    found = sequences.summaries(np.array([1.0, 2.0, 2.0, 5.0]), np.array([3, 1]))
    named = dict(zip(sequences.FEATURES, found.T.round(6).tolist(), strict=True))
    assert named["length"] == [3.0, 1.0]
    assert named["mean"] == [1.666667, 5.0]
    assert named["lowest"] == [1.0, 5.0]
    assert named["highest"] == [2.0, 5.0]
    assert named["first half - second half"] == [-0.5, 0.0]
    assert named["changes"] == [0.5, 0.0]


def test_a_judge_cannot_tell_what_is_alike_and_sees_what_is_not():
    real, lengths = walks(300, 0.6, 5)
    same, other = walks(300, 0.6, 6)[0], walks(300, 0.0, 7)[0]
    asked = sequences.summaries(real, lengths)
    assert sequences.told_apart(asked, sequences.summaries(same, lengths)).mean() == pytest.approx(0.5, abs=0.06)
    assert sequences.told_apart(asked, sequences.summaries(other, lengths)).mean() > 0.75


def test_a_judge_is_asked_about_what_it_has_not_seen():
    random = np.random.default_rng(2)  # many features, few sequences: learned by heart, they would tell all
    real, same = random.normal(size=(2, 60, 20))
    assert sequences.told_apart(real, same).mean() == pytest.approx(0.5, abs=0.1)


def test_a_judge_needs_pairs():
    with pytest.raises(DataError, match=r"as many simulated sequences as real ones, at least 10, got \(4, 2\)"):
        sequences.told_apart(np.zeros((4, 2)), np.zeros((4, 2)))


def test_distances_of_samples():
    random = np.random.default_rng(0)
    a, b = random.normal(size=500), random.normal(size=400) + 1.0
    found = sequences.distance(a, b)
    assert found.ks == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert found.wasserstein == pytest.approx(1.0, abs=0.15)
    with pytest.raises(DataError, match="simulated values must be finite numbers, got 1 of 1 that are not"):
        sequences.distance(a, np.array([np.inf]))


# -- policies ----------------------------------------------------------------------------------------------------------


def test_agreement_of_policies():
    random = np.random.default_rng(0)
    true = 1.0 + np.arange(20) / 10.0 + 0.1 * random.normal(size=(300, 20))
    right = policies.agreement(1.2 * true, true)
    assert right.spearman.mean == pytest.approx(1.0)
    assert right.error.mean == pytest.approx(0.2)
    assert right.absolute_error.mean == pytest.approx(0.2)
    assert right.regret.mean == 0.0
    wrong = policies.agreement(4.0 - true, true)
    assert wrong.spearman.mean == pytest.approx(-1.0)
    assert wrong.kendall.mean == pytest.approx(-1.0)
    assert wrong.regret.mean == pytest.approx(1.0 - true.mean(axis=0)[0] / true.mean(axis=0)[-1])
    with pytest.raises(DataError, match=r"one shape \(n_users, P\) with P at least 3, got \(300, 2\) and \(300, 20\)"):
        policies.agreement(true[:, :2], true)
    with pytest.raises(DataError, match=r"true values must be above 0, got -2.*; use a reward that is"):
        policies.agreement(true, -true)


def test_a_policy_picks_among_what_was_shown():
    logits = {"first": 1e4 * np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 2.0]]), "any": np.zeros((3, 3))}
    users, items = np.array([0, 0, 2, 2, 2]), np.array([1, 2, 0, 1, 2])
    found = policies.values(logits, users, items, np.array([1.0, 0.0, 0.0, 1.0, 2.0]))
    assert found == pytest.approx(np.array([[1.0, 0.5], [0.0, 1.0]]))


def test_the_fixed_policies_are_24_and_span_from_bad_to_good():
    train, test = load("synthetic", n_users=300, n_items=60).split_ratio(0.3)
    made = policies.fixed_policies(train)
    assert len(made) == 24
    rewards = test.rewards - test.rewards.min()
    users = np.searchsorted(train.user_ids, test.user_ids)[test.event_users()]
    earned = dict(zip(made, policies.values(made, users, test.items, rewards).mean(axis=0), strict=True))
    assert earned["low mean, greedy"] < earned["low mean, very soft"] < earned["item mean, very soft"]
    assert earned["item mean, soft"] > 1.05 * earned["low mean, soft"]


# -- what a model must beat --------------------------------------------------------------------------------------------


def rated(n_users=60, n_items=30, seed=0):
    random = np.random.default_rng(seed)
    users, items = np.divmod(random.permutation(n_users * n_items)[: n_users * n_items // 2], n_items)
    likes = random.normal(size=(n_users, 2)), random.normal(size=(n_items, 2))
    mean = np.einsum("nd,nd->n", likes[0][users], likes[1][items])
    from recgym import InteractionLog

    log = InteractionLog.from_events(users, items, mean + 0.05 * random.normal(size=len(mean)), item_ids=range(n_items))
    return log, likes


def test_factors_recover_a_matrix_that_biases_cannot():
    log, likes = rated()
    users, items = np.divmod(np.arange(60 * 30), 30)
    true = np.einsum("nd,nd->n", likes[0][users], likes[1][items])
    off = [
        np.sqrt(np.mean((baselines.fit_ratings(log, dim, penalty=0.05).predict(users, items) - true) ** 2))
        for dim in (0, 2)
    ]
    assert off[1] < 0.2 < 0.8 < off[0]


def test_biases_solve_their_equations():
    log, _ = rated()
    found = baselines.fit_ratings(log, bias_penalty=2.0, n_rounds=200)
    users, items = log.event_users(), log.items
    left = log.rewards - found.mean - found.user_bias[users] - found.item_bias[items]
    assert np.bincount(users, weights=left) == pytest.approx(2.0 * found.user_bias, abs=1e-6)
    assert np.bincount(items, weights=left) == pytest.approx(2.0 * found.item_bias, abs=1e-6)


def test_weights_count_like_repeated_events():
    log, _ = rated()
    twice = np.where(np.arange(log.n_events) % 3 == 0, 2.0, 1.0)
    weighted = baselines.fit_ratings(log, 2, weights=twice, bias_penalty=1.0, penalty=1.0)
    from recgym import InteractionLog

    rows = np.repeat(np.arange(log.n_events), twice.astype(int))
    longer = InteractionLog.from_events(log.event_users()[rows], log.items[rows], log.rewards[rows], item_ids=range(30))
    scale = twice.mean()  # weights are brought to a mean of 1, and the penalties with them
    repeated = baselines.fit_ratings(longer, 2, bias_penalty=scale, penalty=scale)
    assert weighted.predict(users := log.event_users(), log.items) == pytest.approx(
        repeated.predict(users, log.items), abs=1e-6
    )


def test_ratings_refuse_bad_weights():
    log, _ = rated()
    with pytest.raises(DataError, match=r"weights must be above 0, one per event \(900\), .* shape \(3,\) and dim=0"):
        baselines.fit_ratings(log, weights=np.ones(3))
