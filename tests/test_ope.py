"""Estimators on a bandit, sessions and slates small enough to enumerate: expectations are sums, not samples."""

import itertools
import warnings

import numpy as np
import pytest

from recgym import ope
from recgym.errors import DataError
from recgym.evaluation.metrics import mean_interval
from recgym.ope.checks import cumulated

CONTEXT = np.array([0.4, 0.6])  # probability of each context
BETA = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])  # behaviour policy, per context
PI = np.array([[0.2, 0.2, 0.6], [0.5, 0.4, 0.1]])  # evaluated policy
CHANCE = np.array([[0.1, 0.5, 0.8], [0.7, 0.3, 0.2]])  # probability of reward 1
TRUTH = float((CONTEXT[:, None] * PI * CHANCE).sum())
WRONG = np.array([[0.9, 0.0, 0.4], [0.2, 0.8, -0.5]])  # a poor model


@pytest.fixture(autouse=True)
def _few_decisions():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.OverlapWarning)
        yield


def outcomes():
    """Every (context, item, reward) and its probability under the behaviour policy."""
    x, a, r = (np.array(column) for column in zip(*itertools.product(range(2), range(3), range(2)), strict=True))
    return x, a, r, CONTEXT[x] * BETA[x, a] * np.where(r == 1, CHANCE[x, a], 1.0 - CHANCE[x, a])


def expectation(function, *extra, model=None):
    x, a, r, probability = outcomes()
    given = [r, PI[x, a], BETA[x, a]]
    if model is not None:
        given += [model[x, a], (PI * model).sum(axis=1)[x]]
    return float((probability * function(*given, *extra)).sum())


def test_unbiased_estimators():
    assert expectation(ope.ips) == pytest.approx(TRUTH)
    assert expectation(ope.doubly_robust, model=WRONG) == pytest.approx(TRUTH)
    assert expectation(ope.clipped_ips, np.inf) == pytest.approx(TRUTH)
    assert expectation(ope.switch_dr, np.inf, model=WRONG) == pytest.approx(TRUTH)
    assert expectation(ope.dr_os, np.inf, model=WRONG) == pytest.approx(TRUTH)


@pytest.mark.parametrize(("function", "extra"), [(ope.switch_dr, 1.0), (ope.dr_os, 2.0), (ope.switch_dr, 0.0)])
def test_a_right_model_makes_shrunk_weights_unbiased(function, extra):
    assert expectation(function, extra, model=CHANCE) == pytest.approx(TRUTH)
    assert expectation(function, extra, model=WRONG) != pytest.approx(TRUTH, abs=0.01)


def test_doubly_robust_with_wrong_propensities_and_right_model():
    x, a, r, probability = outcomes()
    wrong = np.full(len(x), 0.9)
    values = ope.doubly_robust(r, PI[x, a], wrong, CHANCE[x, a], (PI * CHANCE).sum(axis=1)[x])
    assert (probability * values).sum() == pytest.approx(TRUTH)
    assert (probability * ope.ips(r, PI[x, a], wrong)).sum() != pytest.approx(TRUTH, abs=0.01)


def test_bias_of_clipping_is_what_the_docstring_says():
    x, a, r, probability = outcomes()
    weights = PI[x, a] / BETA[x, a]
    bias = -(probability * np.maximum(weights - 1.5, 0.0) * r).sum()
    assert expectation(ope.clipped_ips, 1.5) - TRUTH == pytest.approx(bias)
    assert bias < -0.01


def test_direct_and_expected():
    x, *_ = outcomes()
    assert ope.expected(PI, CHANCE) == pytest.approx((PI * CHANCE).sum(axis=1))
    assert ope.direct(ope.expected(PI, CHANCE)[x]).shape == x.shape


def sample(n, seed=0):
    random = np.random.default_rng(seed)
    x = (random.random(n) < CONTEXT[1]).astype(int)
    a = (random.random((n, 1)) > np.cumsum(BETA[x], axis=1)).sum(axis=1)
    return x, a, (random.random(n) < CHANCE[x, a]).astype(float)


def test_self_normalised_means_and_spread():
    x, a, r = sample(500)
    pi, beta, q, v = PI[x, a], BETA[x, a], WRONG[x, a], (PI * WRONG).sum(axis=1)[x]
    weights = pi / beta
    assert ope.snips(r, pi, beta).mean() == pytest.approx((weights * r).sum() / weights.sum())
    assert ope.sndr(r, pi, beta, q, v).mean() == pytest.approx(v.mean() + (weights * (r - q)).sum() / weights.sum())
    shifted = ope.snips(r + 100.0, pi, beta)
    assert shifted.mean() == pytest.approx(ope.snips(r, pi, beta).mean() + 100.0)
    assert shifted.std() == pytest.approx(ope.snips(r, pi, beta).std())  # an interval that a constant cannot widen
    estimates = []
    for seed in range(300):
        x, a, r = sample(200, seed)
        estimates.append(ope.snips(r, PI[x, a], BETA[x, a]))
    claimed = np.mean([values.std() / np.sqrt(len(values)) for values in estimates])
    assert claimed == pytest.approx(np.std([values.mean() for values in estimates]), rel=0.12)


# -- sessions ----------------------------------------------------------------------------------------------------------


def sessions(horizon=3):
    """Every session of a world whose state is the last item, on which rewards depend too; with probabilities."""
    items = np.array(list(itertools.product(range(3), repeat=horizon)))  # (27, 3)
    states = np.concatenate([np.zeros((len(items), 1), dtype=int), items[:, :-1] % 2], axis=1)
    pi, beta = PI[states, items], BETA[states, items]
    rewards = CHANCE[states, items]
    return states, items, rewards, pi, beta


def returns_of(probability, gamma=1.0):
    rewards = sessions()[2]
    return float((probability.prod(axis=1) * (rewards * gamma ** np.arange(3)).sum(axis=1)).sum())


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_session_estimators_are_unbiased(gamma):
    states, items, rewards, pi, beta = sessions()
    truth, probability = returns_of(pi, gamma), beta.prod(axis=1)
    assert (probability * ope.trajectory_is(rewards, pi, beta, gamma)).sum() == pytest.approx(truth)
    assert (probability * ope.per_decision_is(rewards, pi, beta, gamma)).sum() == pytest.approx(truth)
    q, v = WRONG[states, items], (PI * WRONG).sum(axis=1)[states]
    assert (probability * ope.sequential_dr(rewards, pi, beta, q, v, gamma)).sum() == pytest.approx(truth)


def test_sequential_dr_with_the_true_model_has_no_spread_from_weights():
    states, items, rewards, pi, beta = sessions()
    v = np.zeros((4, 2))  # v[t, state], by dynamic programming
    q = np.zeros((3, 2, 3))
    for step in (2, 1, 0):
        q[step] = CHANCE + v[step + 1][[[0, 1, 0], [0, 1, 0]]]
        v[step] = (PI * q[step]).sum(axis=1)
    steps = np.arange(3)
    values = ope.sequential_dr(rewards, pi, beta, q[steps, states, items], v[steps, states])
    assert values == pytest.approx(np.full(27, returns_of(pi)))


def test_self_normalised_sessions_against_a_loop():
    _, _, rewards, pi, beta = sessions()
    weights = [[np.prod(pi[i, : t + 1] / beta[i, : t + 1]) for t in range(3)] for i in range(27)]
    weights = np.array(weights)
    whole = sum(weights[i, 2] * rewards[i].sum() for i in range(27)) / weights[:, 2].sum()
    stepwise = sum((weights[:, t] * rewards[:, t]).sum() / weights[:, t].sum() for t in range(3))
    assert ope.sn_trajectory_is(rewards, pi, beta).mean() == pytest.approx(whole)
    assert ope.sn_per_decision_is(rewards, pi, beta).mean() == pytest.approx(stepwise)


def test_padding_changes_nothing():
    states, items, rewards, pi, beta = sessions()
    q, v = WRONG[states, items], (PI * WRONG).sum(axis=1)[states]

    def padded(array, value):
        return np.concatenate([array, np.full((27, 2), value)], axis=1)

    longer = padded(rewards, 0.0), padded(pi, 1.0), padded(beta, 1.0)
    for function in (ope.trajectory_is, ope.per_decision_is, ope.sn_trajectory_is, ope.sn_per_decision_is):
        assert function(*longer) == pytest.approx(function(rewards, pi, beta))
    dr = ope.sequential_dr(*longer, padded(q, 0.0), padded(v, 0.0))
    assert dr == pytest.approx(ope.sequential_dr(rewards, pi, beta, q, v))


# -- slates ------------------------------------------------------------------------------------------------------------


def slates(policy):
    """Every slate of 2 of 3 items, drawn in proportion; joint, marginal and conditional probabilities."""
    shown = np.array(list(itertools.permutations(range(3), 2)))
    given = np.stack([policy[shown[:, 0]], policy[shown[:, 1]] / (1.0 - policy[shown[:, 0]])], axis=1)
    joint = given.prod(axis=1)
    marginal = np.array([[joint[shown[:, p] == i].sum() for i in range(3)] for p in range(2)])  # (2, 3)
    return shown, joint, marginal, given


def test_slate_estimators_are_unbiased_under_their_assumptions():
    shown, beta, beta_marginal, beta_given = slates(BETA[0])
    _, pi, pi_marginal, pi_given = slates(PI[0])
    places = np.arange(2)
    at = beta_marginal[places, shown], pi_marginal[places, shown]
    anything = np.random.default_rng(0).random((6, 2))
    additive = np.array([[0.2, 0.9, 0.4], [0.5, 0.1, 0.3]])[places, shown]
    cascade = np.stack(
        [additive[:, 0], anything[:, 1]], axis=1
    )  # the second place depends on both, the first on itself
    for rewards, unbiased in (
        (anything, {"slate"}),
        (cascade, {"slate", "cascade"}),
        (additive, {"slate", "cascade", "independent", "pseudo"}),
    ):
        truth = (pi * rewards.sum(axis=1)).sum()
        estimates = {
            "slate": ope.slate_ips(rewards, pi, beta),
            "cascade": ope.reward_interaction_ips(rewards, pi_given, beta_given),
            "independent": ope.independent_ips(rewards, at[1], at[0]),
            "pseudo": ope.pseudo_inverse(
                rewards.sum(axis=1), shown, np.tile(pi_marginal, (6, 1, 1)), ope.slate_moments(shown, beta, 3)
            ),
        }
        for name, values in estimates.items():
            right = (beta * values).sum() == pytest.approx(truth)
            assert right == (name in unbiased), name


def test_uniform_moments_are_those_of_all_slates():
    shown = np.array(list(itertools.permutations(range(4), 3)))
    counted = ope.slate_moments(shown, np.full(len(shown), 1.0 / len(shown)), 4)
    assert ope.uniform_slate_moments(4, 3) == pytest.approx(counted)


def test_pseudo_inverse_refuses_what_was_never_shown():
    shown, beta, _, _ = slates(np.array([0.5, 0.5, 0.0]))
    keep = beta > 0
    wanted = np.tile(slates(PI[0])[2], (int(keep.sum()), 1, 1))
    with pytest.raises(DataError, match=r"pair of the evaluated policy must have had a chance, got \d+ that never had"):
        ope.pseudo_inverse(np.ones(keep.sum()), shown[keep], wanted, ope.slate_moments(shown, beta, 3))


# -- intervals, selection, diagnostics ---------------------------------------------------------------------------------


def test_bernstein_covers_and_is_wider_than_the_bootstrap():
    x, a, r = sample(400)
    values = ope.clipped_ips(r, PI[x, a], BETA[x, a], 3.0)
    wide, narrow = ope.bernstein_interval(values, (0.0, 3.0)), mean_interval(values, n_draws=500)
    assert wide.low < narrow.low < wide.mean < narrow.high < wide.high
    missed = 0
    for seed in range(100):
        x, a, r = sample(200, seed)
        interval = ope.bernstein_interval(ope.ips(r, PI[x, a], BETA[x, a]), (0.0, 5.0))
        missed += not interval.low <= TRUTH <= interval.high
    assert missed == 0  # nominally at most 5, and the bound is far from tight


def test_slope_prefers_small_variance_only_where_means_agree():
    random = np.random.default_rng(0)
    noisy, calm, biased = 1.0 + random.normal(0, 3.0, 900), 1.0 + random.normal(0, 0.3, 900), random.normal(0, 0.1, 900)
    assert ope.slope([noisy, calm]) == 1
    assert ope.slope([biased, calm, noisy]) == 1  # the calmest is too far from the others
    with pytest.raises(DataError, match="candidates must hold at least one array of two values or more, got 0 arrays"):
        ope.slope([])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(500), "believable: 500 of 500 decisions count"),
        (
            np.append(np.full(499, 0.01), 400.0),
            "only 1.0 of 500 decisions count; one decision carries 99% of the weight",
        ),
        (np.full(500, 0.2), "the weights average 0.20 instead of 1: the log lacks items that the policy shows"),
        (np.full(500, 1.4), "the weights average 1.40 instead of 1: logged propensities are too small"),
        (np.zeros(500), "the evaluated policy would have shown none of the logged items"),
    ],
)
def test_verdicts(weights, words):
    found = ope.diagnose(weights)
    assert words in found.verdict
    assert found.believable == found.verdict.startswith("believable")


def test_diagnosis_numbers():
    weights = np.array([0.0] * 50 + [1.0] * 49 + [51.0])
    found = ope.diagnose(weights)
    assert found.n == 100 and found.mean_weight == 1.0 and found.untouched == 0.5
    assert found.effective == pytest.approx(100**2 / (49 + 51**2))
    assert found.largest_share == found.tail_share == 0.51
    heavy = ope.diagnose(np.random.default_rng(0).pareto(1.5, 20_000) + 1.0)
    assert 1.2 < heavy.tail_index < 1.8
    with pytest.raises(DataError, match="weights must be finite, not negative"):
        ope.diagnose(np.array([1.0, np.nan]))


# -- bad input ---------------------------------------------------------------------------------------------------------

GOOD = np.array([0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("pi", "beta", "message"),
    [
        (
            GOOD,
            [0.5, 0.0, 0.5],
            r"beta must be above 0 wherever an item was shown, got 0 for 1 of 3 \(first at \(1,\)\)",
        ),
        (GOOD, [0.5, np.nan, 0.5], r"beta must be known for every logged item, got 1 of 3 missing"),
        (GOOD, [0.5, 1.2, 0.5], r"beta must be a probability between 0 and 1, got 1.2 \(1 of 3"),
        (GOOD, [0.5, -0.1, 0.5], r"beta must be a probability between 0 and 1, got -0.1"),
        ([0.5, 7.0, 0.5], GOOD, r"pi must be a probability between 0 and 1, got 7"),
        (
            [0.0, 0.0, 0.0],
            GOOD,
            r"positive probability under the evaluated policy, got none of 3; this log says nothing",
        ),
        (GOOD, [0.5, 0.5], r"pi and beta must have the same shape, got \(3,\) and \(2,\)"),
        ([], [], r"pi must hold at least one decision"),
        (GOOD[:, None], GOOD[:, None], r"pi and beta must have shape \(n,\), got \(3, 1\)"),
    ],
)
def test_bad_probabilities(pi, beta, message):
    pi, beta = np.array(pi), np.array(beta)
    reward = np.ones(pi.shape)
    functions = {
        ope.ips: (),
        ope.snips: (),
        ope.clipped_ips: (2.0,),
        ope.doubly_robust: (reward, reward),
        ope.sndr: (reward, reward),
        ope.switch_dr: (reward, reward, 2.0),
        ope.dr_os: (reward, reward, 2.0),
    }
    for function, extra in functions.items():
        with pytest.raises(DataError, match=message):
            function(reward, pi, beta, *extra)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ope.ips(np.array([1.0, np.nan, 0.0]), GOOD, GOOD), r"reward must be finite, got 1 of 3 that are not"),
        (lambda: ope.ips(np.ones(2), GOOD, GOOD), r"reward must have shape \(3,\), got \(2,\)"),
        (lambda: ope.clipped_ips(np.ones(3), GOOD, GOOD, 0.0), "clip must be above 0, got 0.0"),
        (lambda: ope.switch_dr(*[GOOD] * 5, -1.0), "threshold must be 0 or more, got -1.0"),
        (lambda: ope.dr_os(*[GOOD] * 5, -1.0), "shrinkage must be 0 or more, got -1.0"),
        (lambda: ope.expected(GOOD[None] / 2, GOOD[None]), "pi_all must sum to 1 over the items, got 0.5"),
        (lambda: ope.trajectory_is(GOOD, GOOD, GOOD), r"pi and beta must have shape \(n, T\), got \(3,\)"),
        (lambda: ope.trajectory_is(*[np.ones((2, 2))] * 3, gamma=1.5), "gamma must be between 0 and 1, got 1.5"),
        (
            lambda: ope.per_decision_is(np.ones((2, 2)), np.array([[0.0, 1.0], [1.0, 0.0]]), np.full((2, 2), 0.5)),
            "some session must be possible under the evaluated policy, got none of 2 from step 1 of 2 on",
        ),
        (
            lambda: ope.slate_ips(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2))),
            r"joint probabilities .* shape \(n,\)",
        ),
        (lambda: ope.independent_ips(GOOD, GOOD, GOOD), r"pi and beta must have shape \(n, k\), got \(3,\)"),
        (lambda: ope.uniform_slate_moments(2, 3), "k must be between 1 and n_items = 2, got 3"),
        (
            lambda: ope.pseudo_inverse(GOOD, np.zeros((3, 2), dtype=int), np.ones((3, 2, 4)), np.eye(3)),
            r"slates must have shape \(3, 2\) and beta_moments \(8, 8\)",
        ),
        (
            lambda: ope.bernstein_interval(GOOD, (0.0, 0.3)),
            "values must be within value_range, got 1 of 3 outside 0.0 to 0.3",
        ),
        (lambda: ope.bernstein_interval(GOOD[:1], (0.0, 1.0)), "with n at least 2"),
        (lambda: ope.bernstein_interval(GOOD, (0.0, 1.0), confidence=1.0), "confidence must be between 0 and 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_thin_overlap_is_said():
    n = 1000
    pi, beta = np.full(n, 1e-6), np.full(n, 0.5)
    pi[0] = 1.0
    for function, extra in ((ope.ips, ()), (ope.snips, ()), (ope.dr_os, (np.ones(n), np.ones(n), 2.0))):
        with pytest.warns(ope.OverlapWarning, match=r"effective sample size should be at least 30, got 1.0 of 1000"):
            function(np.ones(n), pi, beta, *extra)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ope.ips(np.ones(n), beta, beta)


def test_products_of_ratios_end_at_the_heaviest_weight_and_zeros_stay():
    ratios = np.full((3, 900), 40.0)
    ratios[1, 500] = 0.0  # after numbers have run out
    ratios[2, :] = 0.5
    found = cumulated(ratios)
    assert np.allclose(found[:, :50], np.cumprod(ratios[:, :50], axis=1), rtol=1e-12)
    assert found[0, -1] == pytest.approx(1e100) and (found[1, 500:] == 0.0).all()
    assert found[2, 30] == 0.5**31
    mixed = np.concatenate([np.full((1, 300), 20.0), np.full((1, 300), 0.05)], axis=1)
    assert cumulated(mixed)[0, -1] == pytest.approx(1.0)  # and come back


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_effective_samples_know_no_unit(scale):
    assert ope.effective_samples(scale * np.array([1.0, 1.0, 2.0, 0.0])) == pytest.approx(16 / 6)
    assert ope.effective_samples(np.zeros(3)) == 0.0
