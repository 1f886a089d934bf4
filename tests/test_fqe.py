"""Fitted Q evaluation against dynamic programming, and within its bounds whatever the features."""

import numpy as np
import pytest

from recgym import ope
from recgym.errors import DataError

PI = np.array([[0.8, 0.2], [0.3, 0.7]])  # evaluated, per state
REWARD = np.array([[0.0, 1.0], [-1.0, 0.5]])
HORIZON = 4


def play(n, seed, policy):
    """Two states, two items; item 1 leads to state 1, item 0 to state 0; from state 1 one session in ten ends."""
    random = np.random.default_rng(seed)
    state = np.zeros(n, dtype=int)
    live = np.ones(n, dtype=bool)
    states, items, rewards = (np.zeros((n, HORIZON), dtype=kind) for kind in (int, int, float))
    lengths = np.zeros(n, dtype=int)
    for step in range(HORIZON):
        item = (random.random(n) < policy[state, 1]).astype(int)
        states[:, step], items[:, step] = state, item
        rewards[:, step] = np.where(live, REWARD[state, item], 0.0)
        lengths += live
        live = live & ~((state == 1) & (random.random(n) < 0.1))
        state = item
    return states, items, rewards, lengths


def truth(gamma):
    value = np.zeros(2)
    for _ in range(HORIZON):
        stays = np.array([1.0, 0.9])
        value = (PI * (REWARD + gamma * stays[:, None] * value[[0, 1]])).sum(axis=1)
    return value[0]


def features(states, items, weights=None):
    """One flag per (state, item), or their expectation."""
    flags = np.eye(4).reshape(2, 2, 4)
    if weights is None:
        return flags[states, items]
    return np.einsum("nta,ntap->ntp", weights[states], flags[states])


def fit(n=4000, seed=0, gamma=1.0, **options):
    uniform = np.full((2, 2), 0.5)
    states, items, rewards, lengths = play(n, seed, uniform)
    x, x_pi = features(states, items), features(states, items, PI)
    options = {"reward_range": (-1.0, 1.0), "ridge": 1e-3} | options
    return ope.fitted_q(rewards, x, x_pi, lengths, gamma=gamma, **options), (states, items, rewards, lengths)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_equals_dynamic_programming_with_a_flag_for_everything(gamma):
    fitted, _ = fit(40_000, gamma=gamma)
    assert fitted.values.mean() == pytest.approx(truth(gamma), abs=0.01)


def test_model_of_every_step_makes_sequential_dr_steady():
    fitted, (states, items, rewards, lengths) = fit()
    real = np.arange(HORIZON) < lengths[:, None]
    pi, beta = np.where(real, PI[states, items], 1.0), np.where(real, 0.5, 1.0)
    dr = ope.sequential_dr(rewards, pi, beta, fitted.q, fitted.v)
    pdis = ope.per_decision_is(rewards, pi, beta)
    assert dr.mean() == pytest.approx(truth(1.0), abs=4 * dr.std() / np.sqrt(len(dr)))
    assert dr.std() < 0.5 * pdis.std()
    assert (fitted.q[~real] == 0).all() and (fitted.v[~real] == 0).all()


def test_cannot_explode():
    n, horizon = 40, 50
    random = np.random.default_rng(0)
    wild = 1e3 * random.normal(size=(n, horizon, 30))
    fitted = ope.fitted_q(
        random.random((n, horizon)), wild, -1e6 * wild[::-1], np.full(n, horizon), reward_range=(0.0, 1.0), ridge=1.0
    )
    left = horizon - np.arange(horizon)
    for values in (fitted.q, fitted.v):
        assert (values >= 0.0).all() and (values <= left).all()


def test_each_session_is_judged_by_the_other_fold():
    states, items, rewards, lengths = play(200, 3, np.full((2, 2), 0.5))
    x, x_pi = features(states, items), features(states, items, PI)
    options = {"reward_range": (-1.0, 1.0), "ridge": 1.0}
    before = ope.fitted_q(rewards, x, x_pi, lengths, **options)
    changed = rewards.copy()
    changed[::2] = 1.0  # the even sessions are one fold
    after = ope.fitted_q(changed, x, x_pi, lengths, **options)
    assert np.array_equal(before.values[::2], after.values[::2])
    assert not np.allclose(before.values[1::2], after.values[1::2])


def test_one_step_is_a_ridge_regression_towards_what_all_rewards_say():
    x = np.array([[[1.0]], [[1.0]], [[1.0]], [[1.0]]])
    rewards = np.array([[1.0], [0.0], [1.0], [0.0]])
    fitted = ope.fitted_q(rewards, x, x, np.ones(4, dtype=int), reward_range=(0.0, 1.0), ridge=2.0)
    assert fitted.values == pytest.approx([0.0, 0.5, 0.0, 0.5])  # 2 rewards of the other fold over 2 + ridge


def test_a_wrong_model_errs_less_where_decisions_count_more():
    random = np.random.default_rng(0)
    x = random.random((4000, 1, 1))
    rewards = x[:, :, 0] ** 3  # no line through 0 is right
    pi = np.where(x[:, 0, 0] > 0.8, 1.0, 0.0)  # the evaluated policy is where x is large
    truth, flat = float(rewards[pi == 1.0].mean()), np.full((4000, 1, 1), 0.9)
    one = np.ones(4000, dtype=int)
    errors = []
    for counts in (None, ope.likeness(pi[:, None], np.full((4000, 1), 0.2)), 100.0 * pi[:, None] + 1e-9):
        fitted = ope.fitted_q(rewards, x, flat, one, reward_range=(0.0, 1.0), counts=counts, ridge=1e-3)
        errors.append(abs(fitted.values.mean() - truth))
    assert errors[2] < errors[1] < 0.5 * errors[0] and errors[2] < 0.01 < errors[0]
    assert ope.likeness(np.array([0.0, 0.2, 1.0]), np.full(3, 0.2)).tolist() == [0.1, 1.1, 2.1]


def test_only_ratios_of_counts_matter():
    counts = 1.0 + np.random.default_rng(1).random((300, HORIZON))
    a, b, even = (fit(300, counts=given)[0].values for given in (counts, 7.0 * counts, None))
    assert a == pytest.approx(b) and not np.allclose(a, even)


def test_features_beyond_arithmetic_are_refused():
    wild = 1e6 * np.random.default_rng(0).normal(size=(40, 5, 30))
    with pytest.raises(DataError, match=r"features must be of order 1 or the penalty larger, got features up to"):
        ope.fitted_q(np.ones((40, 5)), wild, wild, np.full(40, 5), reward_range=(0.0, 1.0), ridge=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": np.ones((4, 2, 3))},
            r"features and pi_features must both have shape \(n, T, p\), got \(4, 2, 3\)",
        ),
        (
            {"lengths": np.array([0, 1, 1, 1])},
            r"lengths must have shape \(4,\) with 1 to 2 decisions each, .* and 0 to 1",
        ),
        ({"counts": np.zeros((4, 2))}, "counts must not be negative, and some above 0, got 0 to 0"),
        ({"counts": -np.ones((4, 2))}, "counts must not be negative, and some above 0, got -1 to -1"),
        ({"counts": np.ones(4)}, r"counts must have shape \(4, 2\), got \(4,\)"),
        ({"n_folds": 3}, "there must be at least two sessions a fold, got 4 in 3 folds"),
        ({"rewards": np.full((4, 2), 3.0)}, r"rewards must be within reward_range, got 8 of 8 outside 0 to 1"),
        ({"pi_features": np.full((4, 2, 2), np.nan)}, r"pi_features must be finite, got 16 of 16 that are not"),
    ],
)
def test_bad_input(change, message):
    given = {
        "rewards": np.ones((4, 2)),
        "features": np.ones((4, 2, 2)),
        "pi_features": np.ones((4, 2, 2)),
        "lengths": np.full(4, 2),
        "reward_range": (0.0, 1.0),
    }
    with pytest.raises(DataError, match=message):
        ope.fitted_q(**(given | change))
