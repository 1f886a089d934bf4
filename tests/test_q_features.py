"""Features for fitted Q evaluation: what is imagined to be shown next."""

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.envs.vector import RecVectorEnv
from recgym.evaluation.collection import collect
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.ope.logged import decisions, moments
from recgym.ope.q_features import _luck, _shown_next, _softmax_shown_next, policy_view
from recgym.ope.report import evaluate_policy
from recgym.scorers import Popularity
from recgym.users import ReplayUsers


class Plain:
    """A policy of which nothing is known but its probabilities."""

    def __init__(self, policy):
        self.item_ids, self.reward, self.policy = policy.item_ids, policy.reward, policy

    def probabilities(self, history, allowed):
        return self.policy.probabilities(history, allowed)


@pytest.fixture(scope="module")
def logged():
    log = make_log(lengths=(14, 18, 9, 25, 30, 12) * 5)
    options = {"frame_size": 5, "horizon": 4, "action": "item", "observation": "history"}
    env = RecVectorEnv(20, users=ReplayUsers(log, frame_size=5), catalog=make_catalog(), **options)
    return collect(SoftmaxPolicy(Popularity.fit(log), np.inf), env, 60, seed=0), Popularity.fit(log)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("temperature", "epsilon", "off"), [(np.inf, 0.0, 1e-9), (1.0, 0.0, 1e-9), (0.05, 0.0, 1e-9), (0.5, 0.1, 0.05)]
)
@pytest.mark.parametrize("m", [1, 3, 12])
def test_all_steps_at_once_are_the_steps_one_by_one(logged, temperature, epsilon, off, m):
    log, popularity = logged
    policy = SoftmaxPolicy(popularity, temperature, epsilon, standardise=True)
    for moment in moments(log, decisions(log)):
        luck = _luck(moment.sessions, 0, log.n_items)
        first = policy.probabilities(moment.history, moment.allowed)
        one_by_one = _shown_next(policy, moment, first, m, luck)
        at_once = _softmax_shown_next(policy, policy.scores(moment.history), moment, first, m, luck)
        assert one_by_one.sum(axis=1) == pytest.approx(np.full(len(first), float(m)))
        assert at_once.sum(axis=1) == pytest.approx(np.full(len(first), float(m)), rel=0.02)
        assert np.abs(at_once - one_by_one).mean() <= off
        assert (at_once[~moment.allowed] == 0.0).all()


def test_what_is_known_of_a_softmax_changes_nothing_else(logged):
    log, popularity = logged
    policy, made = SoftmaxPolicy(popularity, 0.7, standardise=True), decisions(log)
    quick = policy_view(policy, log, made, make_catalog())
    slow = policy_view(SlowSoftmax(policy), log, made, make_catalog())
    assert quick.features == pytest.approx(slow.features, abs=1e-5)
    assert quick.pi_features == pytest.approx(slow.pi_features, abs=1e-5)


class SlowSoftmax(Plain):
    """The same opinion of items, but the items of the next steps must be asked for one by one."""

    def scores(self, history):
        return self.policy.scores(history)


def test_more_steps_than_items(logged):
    log, popularity = logged
    policy = SoftmaxPolicy(popularity, 1.0, 0.1)
    moment = next(moments(log, decisions(log)))
    first = policy.probabilities(moment.history, moment.allowed)
    shown = _softmax_shown_next(
        policy, policy.scores(moment.history), moment, first, 500, _luck(moment.sessions, 0, 40)
    )
    assert np.isfinite(shown).all() and (shown.sum(axis=1) <= 41.0).all()


def test_vectors_that_are_all_alike_stay_within_arithmetic(logged):
    log, popularity = logged
    catalog = make_catalog()
    alike = type(catalog)(np.ones((log.n_items, 1)), log.item_ids, log.reward)
    view = policy_view(SoftmaxPolicy(popularity, 1.0), log, decisions(log), alike)
    assert np.abs(view.features).max() <= 1e6
    evaluated = evaluate_policy(log, SoftmaxPolicy(popularity, 1.0, standardise=True), catalog=alike)
    assert np.isfinite(evaluated["fqe"].mean)
