"""Estimators whose parameter SLOPE chooses: their intervals leave out a bias, and the table says so."""

import warnings

import numpy as np
import pytest

from recgym import ope
from recgym.evaluation.metrics import Interval
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.log import InteractionLog
from recgym.ope import choice as estimators
from recgym.ope.choice import Estimate
from recgym.ope.report import _biases, evaluate_policy
from recgym.scorers import Popularity

LEFT_OUT = "the interval leaves out the bias of the parameter"


class Chance:
    """Shows every item equally often."""

    def __init__(self, log):
        self.item_ids, self.reward = log.item_ids, log.reward

    def probabilities(self, history, allowed):
        return allowed / allowed.sum(axis=1, keepdims=True)


def skewed_log(seed, n=400):
    """One decision among five items each; the item shown least is worth most, chance is worth 0.3."""
    random, beta = np.random.default_rng(seed), np.array([0.6, 0.2, 0.1, 0.05, 0.05])
    items = random.choice(5, n, p=beta)
    clicked = (random.random(n) < np.array([0.1, 0.2, 0.3, 0.4, 0.5])[items]).astype(float)
    return InteractionLog.from_events(
        np.arange(n), items, clicked, propensities=beta[items], item_ids=np.arange(5), reward_range=(0.0, 1.0)
    )


def test_intervals_of_a_chosen_parameter_say_that_its_bias_is_left_out():
    missed = 0
    for seed in range(6):
        log = skewed_log(seed)
        found = evaluate_policy(log, Chance(log))
        assert found["doubly_robust"].low < 0.3 < found["doubly_robust"].high
        for row in found.estimates:
            cut = row.estimator in {"clipped_ips", "switch_dr", "dr_os"}
            assert (LEFT_OUT in row.note) == cut == (row.kept < 1.0), row
        for name in ("switch_dr", "dr_os"):
            missed += not found[name].low < 0.3 < found[name].high
            assert any(text.startswith(f"do not believe the interval of {name}: its") for text in found.warnings)
    assert missed >= 6  # of 12 "95 %" intervals: what the words are there for
    near = SoftmaxPolicy(Popularity(log.item_ids, np.log([0.6, 0.2, 0.1, 0.05, 0.05]), log.reward), 1.0)
    found = evaluate_policy(log, near)  # the logged policy: every weight is 1, and no clip from 1 on cuts any
    clipped = next(row for row in found.estimates if row.estimator == "clipped_ips")
    assert clipped.kept == 1.0 and LEFT_OUT not in clipped.note and found["clipped_ips"].mean == found["ips"].mean


def test_the_share_of_weight_that_a_parameter_leaves():
    beta = np.array([0.5, 0.25, 0.125, 0.125])
    reward, pi, q = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.25]), np.full(4, 0.3)  # weights 1 2 4 2
    weighed, modelled = (reward, pi, beta), (reward, pi, beta, q, q)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.OverlapWarning)
        assert estimators._kept(ope.clipped_ips, weighed, 2.0) == 7 / 9
        assert estimators._kept(ope.switch_dr, modelled, 2.0) == 5 / 9
        assert estimators._kept(ope.switch_dr, modelled, 0.5) == 0.0
        shrunk = (4 / 5 + 8 / 8 + 16 / 20 + 8 / 8) / 9
        assert estimators._kept(ope.dr_os, modelled, 4.0) == pytest.approx(shrunk)
        for function, given in ((ope.clipped_ips, weighed), (ope.switch_dr, modelled), (ope.dr_os, modelled)):
            assert estimators._kept(function, given, np.inf) == 1.0


def test_what_is_said_of_a_bias():
    def row(name, mean, kept=1.0):
        return Estimate(name, Interval(mean, mean - 0.1, mean + 0.1), "", kept)

    none = Estimate("doubly_robust", Interval(np.nan, np.nan, np.nan))
    rows = (row("ips", 0.5), row("clipped_ips", 0.35, 0.8), none, row("switch_dr", 0.1, 0.2), row("snips", 0.0))
    assert _biases(rows) == [
        "do not believe the interval of clipped_ips: the estimate lies outside the interval of ips",
        "do not believe the interval of switch_dr: its parameter cuts 80% of the weight",
    ]
    rows = (row("doubly_robust", 0.5), row("switch_dr", 0.61, 0.49), row("dr_os", 0.59, 0.51))
    assert _biases(rows) == [
        "do not believe the interval of switch_dr: its parameter cuts 51% of the weight; "
        "the estimate lies outside the interval of doubly_robust"
    ]
