"""Estimates against the truth of our own simulators; minutes long."""

import gymnasium as gym
import numpy as np
import pytest

import agents
import recgym.envs.registry
from agents.baselines import EASE
from recgym import FrameBatches, datasets, embeddings, ope
from recgym.envs.vector import RecVectorEnv
from recgym.evaluation.collection import collect, true_value
from recgym.evaluation.metrics import mean_interval
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.ope.logged import decisions
from recgym.ope.q_features import policy_view
from recgym.scorers import Popularity
from recgym.users import ReplayUsers

pytestmark = pytest.mark.slow
WORLD = {"n_users": 2000, "n_items": 200}


@pytest.fixture(scope="module")
def policies():
    train, _ = datasets.load("synthetic", **WORLD).split_users(test_size=0.5, seed=0)
    popularity, learned = Popularity.fit(train), EASE.fit(train)
    return {
        "uniform": SoftmaxPolicy(popularity, 1e9),
        "popular": SoftmaxPolicy(popularity, 1.0, 0.1, standardise=True),
        "popular, a little greedier": SoftmaxPolicy(popularity, 0.8, 0.1, standardise=True),
        "learned": SoftmaxPolicy(learned, 0.5, 0.05, standardise=True),
    }


def make_env(horizon):
    recgym.envs.registry.register_envs()
    options = {"split": "test", "test_size": 0.5, "dim": 8, "action": "item", "observation": "history"}
    return gym.make_vec(
        "recgym/Synthetic-Frame-v0",
        num_envs=256,
        vectorization_mode="vector_entry_point",
        horizon=horizon,
        **options,
        **WORLD,
    )


@pytest.mark.parametrize("horizon", [1, 4])
def test_doubly_robust_intervals_cover_the_truth(policies, horizon):
    env = make_env(horizon)
    evaluated = policies["popular, a little greedier"]
    truth = true_value(evaluated, env, 200_000, seed=0).mean()
    covered = 0
    for repetition in range(100):
        log = collect(policies["popular"], env, 400, seed=repetition)
        made = decisions(log)
        view = policy_view(evaluated, log, made, env.catalog)
        fitted = ope.fitted_q(
            made.rewards,
            view.features,
            view.pi_features,
            made.lengths,
            reward_range=log.reward_range,
            now_features=view.now_features,
            counts=ope.likeness(view.pi, made.beta),
        )
        values = ope.sequential_dr(made.rewards, view.pi, made.beta, fitted.q, fitted.v)
        interval = mean_interval(values, n_draws=1000, seed=repetition)
        covered += interval.low <= truth <= interval.high
    print(f"horizon {horizon}: {covered} of 100 intervals cover {truth:.4f}")
    assert 90 <= covered <= 98


@pytest.fixture(scope="module")
def fresh():
    """A world that nothing of fitted Q evaluation was developed on, and an agent that learned there."""
    train, test = datasets.load("synthetic", seed=7, **WORLD).split_users(test_size=0.5, seed=0)
    agent = agents.DDPG(embeddings.svd(train, dim=32), frame_size=10, seed=0, device="cpu")
    agents.fit(agent, FrameBatches(train, 10, 256, 0, later=0.7), 400)
    popularity = Popularity.fit(train)
    env = RecVectorEnv(
        256,
        users=ReplayUsers(test),
        catalog=embeddings.svd(train, dim=8),
        horizon=20,
        action="item",
        observation="history",
        autoreset_mode="SameStep",
    )
    behaviours = {
        "uniform": SoftmaxPolicy(popularity, np.inf),
        "popular": SoftmaxPolicy(popularity, 1.0, 0.1, standardise=True),
    }
    learned = SoftmaxPolicy(agent, 0.5, 0.05, standardise=True)
    truth = mean_interval(true_value(learned, env, 20_000, seed=0), n_draws=500)
    return env, behaviours, learned, truth


@pytest.mark.parametrize("behaviour", ["uniform", "popular"])
def test_fitted_q_of_a_learned_agent_where_weights_have_collapsed(fresh, behaviour):
    env, behaviours, learned, truth = fresh
    log = collect(behaviours[behaviour], env, 6000, seed=0)
    made = decisions(log)
    view = policy_view(learned, log, made, env.catalog)
    fitted = ope.fitted_q(
        made.rewards,
        view.features,
        view.pi_features,
        made.lengths,
        reward_range=log.reward_range,
        now_features=view.now_features,
        counts=ope.likeness(view.pi, made.beta),
    )
    weights = ope.session_weights(view.pi, made.beta)[:, -1]
    with pytest.warns(ope.OverlapWarning):
        by_weights = ope.trajectory_is(made.rewards, view.pi, made.beta).mean()
    print(
        f"{behaviour}: truth {truth}, fitted Q {mean_interval(fitted.values, n_draws=500)}, logged "
        f"{made.rewards.sum(axis=1).mean():.3f}, trajectory IS {by_weights:.3f}, "
        f"{ope.effective_samples(weights):.1f} effective of {len(weights)}"
    )
    assert ope.effective_samples(weights) < 0.01 * len(weights)
    assert abs(by_weights / truth.mean - 1.0) > 0.5
    assert fitted.values.mean() == pytest.approx(truth.mean, rel=0.05)


@pytest.mark.parametrize("behaviour", ["uniform", "popular"])
def test_fitted_q_where_weights_have_collapsed(policies, behaviour):
    env = make_env(20)
    truth = mean_interval(true_value(policies["learned"], env, 20_000, seed=0), n_draws=500)
    log = collect(policies[behaviour], env, 4000, seed=0)
    made = decisions(log)
    view = policy_view(policies["learned"], log, made, env.catalog)
    fitted = ope.fitted_q(
        made.rewards,
        view.features,
        view.pi_features,
        made.lengths,
        reward_range=log.reward_range,
        now_features=view.now_features,
        counts=ope.likeness(view.pi, made.beta),
    )
    weights = ope.session_weights(view.pi, made.beta)[:, -1]
    with pytest.warns(ope.OverlapWarning):
        by_weights = ope.trajectory_is(made.rewards, view.pi, made.beta).mean()
    print(
        f"{behaviour}: truth {truth}, fitted Q {mean_interval(fitted.values, n_draws=500)}, "
        f"trajectory IS {by_weights:.3f}, {ope.effective_samples(weights):.1f} effective of {len(weights)}"
    )
    assert ope.effective_samples(weights) < 0.01 * len(weights)
    assert abs(by_weights / truth.mean - 1.0) > 0.5
    assert fitted.values.mean() == pytest.approx(truth.mean, rel=0.05)
