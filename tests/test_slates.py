"""Logs of slates: how likely a policy would have been to show them, and the table that `evaluate_policy` makes."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym import ope
from recgym.__main__ import main
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.collection import collect, true_value
from recgym.evaluation.policies import SoftmaxPolicy, slate_marginals, slate_propensities
from recgym.ope import choice as estimators
from recgym.ope.report import evaluate_policy
from recgym.ope.slates import _pseudo_inverse, slate_view, slates
from recgym.rng import RowRandom
from recgym.scorers import Popularity
from recgym.users import ReplayUsers

LOG = make_log(lengths=(14, 18, 9, 25, 30, 12) * 5)


def make_env(k, horizon=1):
    options = {"frame_size": 5, "horizon": horizon, "k": k, "action": "item", "observation": "history"}
    return RecVectorEnv(64, users=ReplayUsers(LOG, frame_size=5), catalog=make_catalog(), **options)


def policy(temperature):
    return SoftmaxPolicy(Popularity.fit(LOG), temperature, standardise=True)


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_policy_that_was_logged_is_found_again(horizon):
    log = collect(policy(1.0), make_env(3, horizon), 60, seed=0)
    made = slates(log)
    view = slate_view(policy(1.0), log, made)
    assert made.items.shape == (60, horizon, 3) and (made.lengths == horizon).all()
    assert view.pi_given == pytest.approx(made.beta_given, rel=1e-5)
    assert view.pi_slate == pytest.approx(made.beta_slate, rel=1e-5)
    assert view.pi[:, :, :2] == pytest.approx(made.beta[:, :, :2], rel=1e-5)
    error = log.extra["propensity_error"][log.extra["position"] == 2].reshape(60, horizon)
    off = np.abs(view.pi[:, :, 2] - made.beta[:, :, 2])
    assert (off < 6 * np.sqrt(2) * error + 1e-4).all()  # two estimates of one number
    assert view.pseudo_inverse is None  # not drawn uniformly
    assert made.rewards.sum() == pytest.approx(float(log.rewards[log.extra["position"] >= 0].sum()))


def test_marginals_by_enumeration():
    odds = np.array([[0.4, 0.3, 0.2, 0.1]])
    exact = np.zeros((3, 4))
    for slate in itertools.permutations(range(4), 3):
        joint = np.prod(
            [odds[0, item] / (1.0 - odds[0, list(slate[:place])].sum()) for place, item in enumerate(slate)]
        )
        exact[np.arange(3), slate] += joint
    random = RowRandom.from_seeds([3])
    assert slate_marginals(odds, 3, random, n_samples=4000)[0] == pytest.approx(exact, abs=0.02)
    assert slate_marginals(odds, 2, random)[0] == pytest.approx(exact[:2])
    marginal, given, error = slate_propensities(odds, np.array([[3, 0, 1]]), random, n_samples=4000)
    assert given[0] == pytest.approx([0.1, 0.4 / 0.9, 0.3 / 0.5])
    few, _, _ = slate_propensities(odds, np.array([[3, 0, 1]]), random, n_samples=2)
    drawn, _, _ = slate_propensities(odds, np.array([[3, 0, 1]]), random, n_samples=2, drawn=True)
    assert drawn[0, 2] == pytest.approx((2 * few[0, 2] + given[0, 2]) / 3)  # a slate that was drawn counts itself
    assert abs(marginal[0, 2] - exact[2, 1]) < 4 * error[0, 2] < 0.03


def test_table_of_single_slates():
    env, evaluated = make_env(2), policy(1.5)
    found = evaluate_policy(collect(policy(np.inf), env, 3000, seed=0), evaluated)
    truth = true_value(evaluated, env, 20_000, seed=0).mean()
    names = [row.estimator for row in found.estimates]
    assert names == ["slate_ips", "reward_interaction_ips", "independent_ips", "pseudo_inverse"]
    width = {row.estimator: row.interval.high - row.interval.low for row in found.estimates}
    for row in found.estimates:  # replayed answers add up, so all four are unbiased
        assert abs(row.interval.mean - truth) < 0.75 * width[row.estimator], row
    assert width["pseudo_inverse"] < width["slate_ips"] and width["independent_ips"] < width["slate_ips"]
    assert found.diagnosis.believable and found.warnings == ()
    logged = evaluate_policy(collect(policy(2.0), env, 200, seed=0), evaluated)
    assert [row.estimator for row in logged.estimates] == names[:3]


def test_table_of_sessions_of_slates():
    env, evaluated = make_env(2, horizon=3), policy(1.7)
    found = evaluate_policy(collect(policy(2.0), env, 2000, seed=0), evaluated, gamma=0.9)
    played = collect(evaluated, env, 20_000, seed=5)
    made = slates(played)
    truth = (made.rewards.sum(axis=2) * 0.9 ** np.arange(3)).sum(axis=1).mean()
    assert [row.estimator for row in found.estimates] == [
        *("trajectory_is", "sn_trajectory_is", "per_decision_is", "sn_per_decision_is", "reward_interaction_ips")
    ]
    for row in found.estimates:
        assert abs(row.interval.mean - truth) < row.interval.high - row.interval.low, row
    assert found.diagnosis.believable


def test_what_is_said_of_a_far_policy():
    log = collect(policy(np.inf), make_env(2), 300, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the table says it; nothing is printed besides
        found = evaluate_policy(log, policy(0.05))
    assert not found.diagnosis.believable
    said = "\n".join(found.warnings)
    assert "estimates by weights of whole slates: do not believe it" in said
    assert "independent_ips, position 1 of 2: do not believe it" in said
    assert "independent_ips, position 2 of 2: do not believe it" in said


def test_no_overlap_of_whole_slates_gives_no_number_but_that_of_positions():
    log = collect(policy(np.inf), make_env(2), 150, seed=0)
    shown = log.items[log.extra["position"] >= 0].reshape(-1, 2)
    wanted = shown[0, 0], shown[1, 1]  # at their positions in two logged slates, but together in none
    assert wanted[0] != wanted[1] and not (shown == wanted).all(axis=1).any()
    found = evaluate_policy(log, First(log, wanted))
    rows = {row.estimator: row for row in found.estimates}
    for name in ("slate_ips", "reward_interaction_ips"):
        assert np.isnan(rows[name].interval.mean) and rows[name].note == "no estimate: nothing overlaps"
    for name in ("independent_ips", "pseudo_inverse"):
        assert rows[name].interval.mean > 0.0 and rows[name].note == "do not believe it: hardly any overlap"
    assert found.diagnosis is None
    assert found.warnings[0] == (
        "estimates by weights of whole slates: there is none, as the evaluated policy could have shown the slates of "
        "none of the 150 sessions"
    )


class First:
    """Shows the first two allowed items of two and then all others, almost surely in that order."""

    def __init__(self, log, items):
        self.item_ids, self.reward, self.items = log.item_ids, log.reward, items

    def probabilities(self, history, allowed):
        order = np.array([*self.items, *np.setdiff1d(np.arange(allowed.shape[1]), self.items)])
        first = order[np.argsort(~allowed[:, order], axis=1, kind="stable")[:, :2]]  # (B, 2)
        odds = np.zeros(allowed.shape)
        np.put_along_axis(odds, first, np.array([[1.0 - 1e-9, 1e-9]]), axis=1)
        return odds


def test_interacting_items_are_noticed():
    log = collect(policy(np.inf), make_env(2), 4000, seed=0)
    made, evaluated = slates(log), policy(0.8)
    both = (made.items[:, 0] < 12).all(axis=1)  # a slate is worth something only if both of its items are good
    rewards = np.array(log.rewards)
    rewards[log.extra["position"] >= 0] = np.repeat(both, 2)
    found = evaluate_policy(replace(log, rewards=rewards, reward_range=(0.0, 1.0)), Firsts(log))
    assert "independent_ips and slate_ips disagree: items of a slate seem to depend on each other" in found.warnings
    assert not any("disagree" in text for text in evaluate_policy(log, evaluated).warnings)


class Firsts:
    """Prefers the first items."""

    def __init__(self, log):
        self.item_ids, self.reward = log.item_ids, log.reward

    def probabilities(self, history, allowed):
        odds = np.where(allowed, np.where(np.arange(allowed.shape[1]) < 12, 6.0, 1.0), 0.0)
        return odds / odds.sum(axis=1, keepdims=True)


# -- intervals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "horizon"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_bernstein_holds_the_truth_and_is_wider(k, horizon):
    env, evaluated = make_env(k, horizon), policy(1.6)
    log = collect(policy(2.0), env, 400, seed=1)
    truth = true_value(evaluated, env, 20_000, seed=0).mean()
    narrow, wide = (evaluate_policy(log, evaluated, interval=kind) for kind in ("bootstrap", "bernstein"))
    for one, other in zip(narrow.estimates, wide.estimates, strict=True):
        if np.isnan(other.interval.low):
            assert "no Bernstein interval" in other.note
            assert one.estimator in {"snips", "sndr", "sn_trajectory_is", "sn_per_decision_is", "pseudo_inverse"}
            continue
        assert other.interval.low <= truth <= other.interval.high, other
        assert other.interval.high - other.interval.low > one.interval.high - one.interval.low
        assert -0.801 * k * horizon < other.interval.low and other.interval.high < 1.001 * k * horizon
    assert "empirical Bernstein over people, no propensity" in str(wide) and "bootstrap over people" in str(narrow)


def test_values_are_within_the_range_that_bernstein_is_given():
    log = collect(policy(2.0), make_env(2, 2), 300, seed=1)
    made = slates(log)
    view = slate_view(policy(0.3), log, made)
    can = estimators.worth(log.reward_range, 2, 1.0, 2, float(made.beta_slate.min()))
    for name, one in estimators.of_slates(made, view, can, log.reward_range).items():
        if one.value_range is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ope.OverlapWarning)
                values = one.function(*one.given)
            assert one.value_range[0] <= values.min() and values.max() <= one.value_range[1], name


def test_unknown_interval():
    log = collect(policy(2.0), make_env(1), 20, seed=1)
    with pytest.raises(DataError, match="interval must be one of bootstrap, bernstein, got 'normal'"):
        evaluate_policy(log, policy(2.0), interval="normal")


def test_command(tmp_path, capsys):
    collect(policy(2.0), make_env(2), 200, seed=0).save(tmp_path / "log")
    arguments = ["evaluate-policy", "--log", str(tmp_path / "log"), "--policy", "recgym.policies:Popularity"]
    assert main([*arguments, "--temperature", "2", "--interval", "bernstein"]) == 0
    printed = capsys.readouterr().out
    assert "empirical Bernstein" in printed and "independent_ips" in printed and "slate_ips" in printed


# -- bad input ---------------------------------------------------------------------------------------------------------


def bad(change):
    log = collect(policy(2.0), make_env(2), 30, seed=0)
    shown = log.extra["position"] >= 0
    if change == "no propensities":
        return replace(log, propensities=None)
    if change == "no column":
        return replace(log, extra={name: log.extra[name] for name in ("step", "position", "given_above", "enters")})
    if change == "incomplete":
        keep = np.ones(log.n_events, dtype=bool)
        keep[np.flatnonzero(shown)[0]] = False
        return log.select_events(keep)
    if change == "no slate":
        return log.select_events(~shown | (log.event_users() > 3))
    column = np.array(log.extra["slate_propensity"])
    column[shown] = {"zero": 0.0, "large": 1.5, "missing": np.nan, "product": 0.9}[change]
    return replace(log, extra={**log.extra, "slate_propensity": column})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no propensities", r"slates need the propensity of every item and the columns .* without propensities"),
        ("no column", r"columns step, position, given_above, slate_propensity, got the log .* without slate_prop"),
        ("incomplete", "every slate must hold 2 items in the order of their positions, got 59 shown items"),
        ("no slate", "every session must have a slate, got none in 4 of 30"),
        ("zero", "beta must be above 0 wherever an item was shown, got 0 for 30 of 30"),
        ("large", r"beta must be a probability between 0 and 1, got 1.5"),
        ("missing", "beta must be known for every logged item, got 30 of 30 missing"),
        ("product", r"slate_propensity must be the product of given_above over the slate, got 0.9 instead of"),
    ],
)
def test_bad_logs(change, message):
    with pytest.raises(DataError, match=message):
        evaluate_policy(bad(change), policy(2.0))


def test_bad_slates_and_catalogs():
    odds, random = np.array([[0.5, 0.5, 0.0]]), RowRandom.from_seeds([0])
    with pytest.raises(DataError, match="a slate needs 3 items with a chance, got fewer in 1 of 1"):
        slate_propensities(odds, np.array([[0, 1, 2]]), random)
    with pytest.raises(DataError, match="a slate must hold different items, got one twice in 1 of 1"):
        slate_propensities(odds, np.array([[0, 0]]), random)
    log = collect(policy(2.0), make_env(2), 30, seed=0)
    with pytest.raises(DataError, match="policy and log must have the same items and rewards, got 3 items"):
        evaluate_policy(log, SoftmaxPolicy(Popularity(np.arange(3), np.ones(3))))


def test_pseudo_inverse_where_some_items_are_not_allowed():
    allowed = np.array([[True, False, True, True, True]])
    shown = np.array(list(itertools.permutations(np.flatnonzero(allowed[0]), 2)))  # each as likely as any other
    odds = np.where(allowed, np.array([[0.4, 0.0, 0.3, 0.2, 0.1]]), 0.0)
    worth = np.random.default_rng(0).random((2, 5))  # of each item at each position
    marginals = slate_marginals(odds, 2, RowRandom.from_seeds([0]))
    truth = (marginals[0] * worth).sum()
    reward = worth[np.arange(2), shown].sum(axis=1)
    n = len(shown)
    values = reward * _pseudo_inverse(shown, np.repeat(marginals, n, axis=0), np.repeat(allowed, n, axis=0))
    assert values.mean() == pytest.approx(truth)


@pytest.mark.parametrize("step", [(-1.0, 2.0), (0.0, 1.0)])
def test_bounds_of_the_doubly_robust_values_are_met_and_never_passed(step):
    low, high = step
    can = estimators.Worth(step, 0.9, 2, 3.0)
    left = 1.0 + 0.9, 1.0
    extremes = []
    pi, beta = np.ones((1, 2)), np.full((1, 2), 1.0 / 3.0)  # the largest weight at every step
    for ends in itertools.product((low, high), repeat=6):
        r, q, v = (np.array([ends[i : i + 2]]) for i in (0, 2, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ope.OverlapWarning)
            extremes.append(ope.sequential_dr(r, pi, beta, q * left, v * left, 0.9)[0])
    assert (min(extremes), max(extremes)) == pytest.approx(can.modelled())
    assert can.session == pytest.approx((1.9 * low, 1.9 * high))
    assert can.weighed() == pytest.approx(((3 + 0.9 * 9) * low, (3 + 0.9 * 9) * high))
