"""Propensities that are estimated: cross-fitted, near the true ones, said to be estimates; how far they may be off."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import recgym
from agents import SequenceModel
from recgym import ope
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.ope.behaviour import estimate_propensities
from recgym.ope.confounding import bounds, sensitivity, turning_gamma, weight_bounds
from recgym.scorers import Popularity

N_ITEMS = 4
WORTH = np.array([0.1, 0.3, 0.5, 0.8])
WILL = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.3, 0.5]])  # of both kinds of people: what showed the items


def bandit(n=3000, seed=0, hidden=0.0):
    """Returns a log of one decision a session by a policy that knows a person's kind, and with `hidden` also luck."""
    random = np.random.default_rng(seed)
    kind, lucky = random.integers(2, size=n), random.random(n) < 0.5
    odds = WILL[kind] * np.where(lucky[:, None], [1 - hidden, 1, 1, 1 + hidden], [1 + hidden, 1, 1, 1 - hidden])
    odds /= odds.sum(axis=1, keepdims=True)
    items = (odds.cumsum(axis=1) < random.random(n)[:, None]).sum(axis=1)
    rewards = (random.random(n) < WORTH[items] + 0.15 * np.where(lucky, 1, -1) * (hidden > 0)).astype(float)
    log = InteractionLog.from_events(np.arange(n), items, rewards, item_ids=np.arange(N_ITEMS), reward="raw")
    log = replace(log, users={"kind": np.array(["left", "right"])[kind]})
    return log, odds[np.arange(n), items]


class Uniform:
    """Shows any item."""

    item_ids, reward = np.arange(N_ITEMS), "raw"

    def probabilities(self, history, allowed):
        return allowed / allowed.sum(axis=1, keepdims=True)


def test_what_is_estimated_is_near_the_truth_where_the_log_holds_what_was_used():
    log, true = bandit()
    found = estimate_propensities(log, context=["kind"])
    assert np.abs(found.log.propensities - true).max() < 0.06
    blind = estimate_propensities(log, "logistic")
    assert found.likelihood > blind.likelihood + 0.1 and blind.likelihood >= blind.uniform
    assert not found.warnings and sum(part.seen for part in found.calibration) == log.n_events
    assert sum(part.predicted for part in found.calibration) == pytest.approx(log.n_events)


def test_values_are_within_their_intervals_and_every_row_says_estimated():
    log, _ = bandit(4000)
    done = recgym.evaluate_policy(log, Uniform(), behaviour="logistic", context=["kind"])
    for row in ("snips", "ips", "doubly_robust"):
        assert done[row].low - 0.01 <= WORTH.mean() <= done[row].high + 0.01
    assert all("estimated" in row.note for row in done.estimates)
    assert "propensities are estimated by 'logistic', in 4 folds of people" in str(done)
    assert [one.gamma for one in done.sensitivity] == [1.0, 1.5, 2.0]
    assert "does the policy earn more than the logged one?" in str(done)


def test_propensities_do_not_come_from_the_events_they_are_applied_to():
    log, _ = bandit(400)
    first = estimate_propensities(log, "popularity", n_folds=2)
    fold = np.random.default_rng(0).permutation(400) % 2
    mine = fold == fold[0]
    changed = replace(log, items=np.where(mine, (log.items + 1) % N_ITEMS, log.items).astype(log.items.dtype))
    second = estimate_propensities(changed, "popularity", n_folds=2)
    by_item = {item: first.log.propensities[mine & (log.items == item)][0] for item in range(N_ITEMS)}
    for item in range(N_ITEMS):
        found = second.log.propensities[mine & (changed.items == item)]
        np.testing.assert_allclose(found, by_item[item], rtol=1e-6)


def test_sessions_of_one_person_stay_in_one_fold():
    log, _ = bandit(40)
    log = replace(log, users={"user_id": np.repeat(np.arange(2), 20)})
    with pytest.raises(DataError, match="n_folds must be between 2 and the 2 people of the log, got 4; give fewer"):
        estimate_propensities(log, "popularity", n_folds=4)
    assert estimate_propensities(log, "popularity").n_folds == 2
    with pytest.raises(DataError, match="must be estimated on other people's sessions, got a log of one person"):
        estimate_propensities(log.select_users(np.arange(3)), "popularity")


def test_models_of_ones_own_are_looked_at():
    class Half(Uniform):
        def probabilities(self, history, allowed):
            return 0.5 * super().probabilities(history, allowed)

    log, _ = bandit(40)
    with pytest.raises(DataError, match=r"probabilities of a behaviour model must .* of 0\.5 .* mend the behaviour"):
        estimate_propensities(log, lambda part: Half())


def test_wishes_that_nothing_hears_are_refused():
    log, true = bandit(40)
    with pytest.raises(DataError, match=r"context is what a behaviour model knows, got \['kind'\] and none"):
        recgym.evaluate_policy(replace(log, propensities=true.astype(np.float32)), Uniform(), context=["kind"])


def test_one_reward_is_no_false_alarm_with_true_propensities_either():
    log, true = bandit(300)
    flat = replace(log, rewards=np.ones_like(log.rewards), propensities=true.astype(np.float32))
    assert not [text for text in recgym.evaluate_policy(flat, Uniform()).warnings if "dis" in text or "dr_os" in text]


def test_a_model_of_ones_own_is_fitted_and_its_temperature_found():
    log, _ = bandit(2000)
    found = estimate_propensities(log, Popularity)
    assert found.model == "Popularity" and found.likelihood > found.uniform
    assert np.isfinite(found.log.propensities).all()


def test_wrong_models_and_columns_are_refused():
    log, _ = bandit(40)
    with pytest.raises(DataError, match="a behaviour model must be one of logistic, popularity, or a class with fit"):
        estimate_propensities(log, "gru4rec")
    with pytest.raises(DataError, match="a column of context must be one of: kind; got 'age'"):
        estimate_propensities(log, context=["age"])
    many = replace(log, extra={"x": np.full(40, np.nan)})
    with pytest.raises(DataError, match="context 'x' must be finite, got NaN or infinity in 40 of 40 events"):
        estimate_propensities(many, context=["x"])
    log, _ = bandit(300)
    many = replace(log, users={"who": np.array([f"w{n}" for n in range(300)])})
    with pytest.raises(DataError, match="context 'who' must have at most 200 words, got 300; group them"):
        estimate_propensities(many, context=["who"])


def test_bounds_are_the_extremes_over_all_corners():
    random = np.random.default_rng(3)
    for _ in range(20):
        r, low = random.normal(size=7), random.uniform(0.1, 1.0, 7)
        high = low * random.uniform(1.0, 3.0, 7)
        corners = [np.average(r, weights=np.where(pick, high, low)) for pick in product([False, True], repeat=7)]
        assert bounds(r, low, high) == pytest.approx((min(corners), max(corners)))
        twice = np.array([2, 0, 1, 1, 1, 1, 1])
        rows = np.repeat(np.arange(7), twice)
        assert bounds(r, low, high, twice) == pytest.approx(bounds(r[rows], low[rows], high[rows]))


def test_gamma_of_one_is_the_self_normalised_estimate():
    random = np.random.default_rng(4)
    r, pi, beta = random.random(50), random.uniform(0.1, 1, (50, 2)), random.uniform(0.2, 1, (50, 2))
    low, high = weight_bounds(pi, beta, 1.0)
    np.testing.assert_allclose(low, (pi / beta).prod(axis=1))
    np.testing.assert_array_equal(low, high)
    (found,) = sensitivity(r, pi, beta, (1.0,), n_draws=20)
    assert [found.low, found.high] == pytest.approx([np.average(r, weights=low)] * 2)
    with pytest.raises(DataError, match=r"gamma must be at least 1, got 0\.5"):
        weight_bounds(pi, beta, 0.5)
    with pytest.raises(DataError, match=r"pi and beta must have one shape \(n, T\)"):
        weight_bounds(pi, beta * 0, 2.0)


def test_a_decision_turns_where_its_worst_case_does():
    n = 2000  # half the sessions earn 1: those of the shown item 1, which the policy shows twice as often
    r = np.arange(n) % 2
    pi, beta = np.where(r, 0.8, 0.2)[:, None], np.full((n, 1), 0.5)
    found = turning_gamma(r, pi, beta, better=True)
    # worst case: w = 0.8 (1 + 1/G) of what earns 1 and 0.2 (1 + G) of what earns 0 are alike at G = 4
    assert 3.3 < found < 4.0
    assert turning_gamma(r, pi[::-1], beta, better=True) == 1.0
    assert turning_gamma(r, np.where(r, 0.2, 0.8)[:, None], beta, better=False) == pytest.approx(found, rel=0.2)


@pytest.mark.slow
def test_intervals_hold_the_truth_in_worlds_confounded_up_to_gamma():
    held, truth, gamma, n = 0, WORTH.mean(), 1.55, 2000  # luck pays as much as it costs
    odds = []
    for seed in range(100):
        log, true = bandit(n, seed=seed, hidden=0.15)
        shown = np.asarray(estimate_propensities(log, context=["kind"], n_folds=2).log.propensities, dtype=float)
        odds.append(np.quantile((true / (1 - true)) / (shown / (1 - shown)), [0.02, 0.98]))
        told = np.asarray(log.rewards, dtype=float), np.full((n, 1), 0.25), shown[:, None]
        (found,) = sensitivity(*told, (gamma,), n_draws=60)
        held += found.interval_low <= truth <= found.interval_high
    assert np.median(odds, axis=0)[0] > 1 / gamma and np.median(odds, axis=0)[1] < gamma  # that is how far they are off
    assert held >= 95


@pytest.mark.slow
def test_intervals_of_doubly_robust_estimates_cover():
    held = 0
    for seed in range(100):
        log, _ = bandit(500, seed=1000 + seed)
        done = recgym.evaluate_policy(log, Uniform(), behaviour="logistic", context=["kind"])
        held += done["doubly_robust"].low <= WORTH.mean() <= done["doubly_robust"].high
    assert 88 <= held <= 98


def test_a_session_that_repeats_nothing_and_one_reward_are_no_false_alarm():
    log, _ = bandit(300)
    flat = replace(log, rewards=np.ones_like(log.rewards))
    done = recgym.evaluate_policy(flat, Uniform(), behaviour="popularity")
    assert done["snips"].mean == pytest.approx(1.0) and done.turns == ("less", 1.0)
    assert "cannot be told" in str(done)
    assert ope.sensitivity(np.ones(3), np.ones((3, 1)), np.full((3, 1), 0.5))[2].high == 1.0


@pytest.mark.slow
def test_a_sequence_model_explains_who_follows_whom():
    random = np.random.default_rng(5)
    first = random.integers(4, size=120)
    follows = np.where(random.random((120, 3)) < 0.9, 1, random.integers(4, size=(120, 3)))  # mostly the next one
    items = np.cumsum(np.column_stack([first, follows]), axis=1) % 4
    log = InteractionLog.from_events(np.repeat(np.arange(120), 4), items.ravel(), np.ones(480), item_ids=np.arange(4))
    found = estimate_propensities(log, lambda part: SequenceModel.fit(part, device="cpu", width=8, lr=1e-2), n_folds=2)
    assert found.likelihood > found.popular + 0.3  # log(1 / 4) against nine of ten known, but for the first
