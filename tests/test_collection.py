"""What is logged is what was played: histories, propensities by enumeration, and equal logs for any batch."""

import itertools

import numpy as np
import pytest

from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.collection import collect, true_value
from recgym.evaluation.policies import GaussianPolicy, SoftmaxPolicy, StochasticPolicy, choose_items, draw_slates
from recgym.frames import History
from recgym.ope.logged import decisions, evaluated_probabilities, moments
from recgym.ope.slates import slate_view, slates
from recgym.rng import RowRandom
from recgym.scorers import Popularity
from recgym.users import ReplayUsers


class Watched:
    """Prefers items near the last one of the history, and notes what it was asked."""

    def __init__(self, item_ids):
        self.item_ids, self.reward, self.asked = item_ids, "scaled", []

    def scores(self, history):
        self.asked.append(history)
        return -np.abs(np.arange(len(self.item_ids)) - history.items[:, -1:]) / 5.0 + history.rewards.mean(
            axis=1, keepdims=True
        )


@pytest.fixture
def policy(log):
    return SoftmaxPolicy(Watched(log.item_ids), temperature=0.7, epsilon=0.2)


def make_env(users, catalog, num_envs=4, **options):
    options = {"action": "item", "observation": "history", "frame_size": 5, "horizon": 6} | options
    return RecVectorEnv(num_envs, users=users, catalog=catalog, **options)


def columns(log):
    return log.event_columns() | dict(log.users) | {"offsets": log.offsets}


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("options", [{"num_envs": 1}, {"num_envs": 16}, {"autoreset_mode": "SameStep"}])
def test_same_log_for_any_batch_and_mode(users, catalog, policy, k, options):
    reference = collect(policy, make_env(users, catalog, autoreset_mode="Disabled", k=k), 10, seed=3)
    other = collect(policy, make_env(users, catalog, k=k, **options), 10, seed=3)
    for name, column in columns(reference).items():
        assert np.array_equal(column, columns(other)[name]), name
    assert not np.array_equal(collect(policy, make_env(users, catalog, k=k), 10, seed=4).items, reference.items)


@pytest.mark.parametrize("advance", ["answer", "log"])
def test_histories_and_propensities_can_be_made_again_from_the_log(log, catalog, policy, advance):
    env = make_env(ReplayUsers(log, frame_size=5, advance=advance), catalog, num_envs=12)
    collected = collect(policy, env, 12, seed=1)
    played = policy.scorer.asked
    made = decisions(collected)
    again = list(moments(collected, made))
    assert len(played) == len(again)
    for asked, moment in zip(played, again, strict=True):
        rows, width = moment.sessions, moment.history.items.shape[1]
        assert np.array_equal(asked.items[rows, -width:], moment.history.items)
        assert np.array_equal(asked.rewards[rows, -width:], moment.history.rewards)
        assert (asked.items[rows, :-width] == log.n_items).all()
    pi = evaluated_probabilities(policy, collected, made)
    assert pi == pytest.approx(made.beta, rel=1e-6)  # the policy that was logged


def test_columns(users, catalog, policy, log):
    collected = collect(policy, make_env(users, catalog, k=2), 20, seed=0)
    extra, shown = collected.extra, collected.extra["position"] >= 0
    assert (extra["step"][~shown] == -1).all() and (collected.propensities[~shown] == 1.0).all()
    assert set(extra["position"][shown]) == {0, 1}
    pairs = extra["given_above"][shown].reshape(-1, 2)
    assert pairs.prod(axis=1) == pytest.approx(extra["slate_propensity"][shown].reshape(-1, 2)[:, 0])
    assert collected.propensities[shown].reshape(-1, 2)[:, 0] == pytest.approx(pairs[:, 0])
    assert extra["enters"][~shown].all() and (collected.rewards[shown & ~extra["enters"]] == 0.0).all()
    assert list(collected.users["user_id"]) == list(np.asarray(log.user_ids)[collected.users["user"]])
    assert collected.reward_range == (-0.8, 1.0)


def test_propensities_are_frequencies(users, catalog, log):
    policy = SoftmaxPolicy(Popularity.fit(log), temperature=2.0)
    collected = collect(policy, make_env(users, catalog, num_envs=256, horizon=1, k=3), 6000, seed=0)
    shown = collected.extra["position"] >= 0
    session, place, item = collected.event_users()[shown], collected.extra["position"][shown], collected.items[shown]
    user = collected.users["user"][session]
    for of_user, of_place in itertools.product(np.unique(user)[:2], range(3)):
        rows = (user == of_user) & (place == of_place)
        n = rows.sum()
        for of_item in np.unique(item[rows])[:4]:
            claimed = collected.propensities[shown][rows & (item == of_item)].mean()
            seen = (item[rows] == of_item).mean()
            assert seen == pytest.approx(claimed, abs=4 * np.sqrt(claimed / n) + 0.01)


def test_slate_probabilities_by_enumeration():
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1]])
    exact = np.zeros((3, 4))
    for slate in itertools.permutations(range(4), 3):
        joint, left = 1.0, 1.0
        for item in slate:
            joint *= probabilities[0, item] / left
            left -= probabilities[0, item]
        for place, item in enumerate(slate):
            exact[place, item] += joint

    class Fixed:
        item_ids, reward = np.arange(4), "scaled"

        def probabilities(self, history, allowed):
            return np.tile(probabilities, (len(allowed), 1))

    assert isinstance(Fixed(), StochasticPolicy)
    random = RowRandom.from_seeds(list(range(200)))
    choice = choose_items(Fixed(), None, np.ones((200, 4), dtype=bool), 3, random, n_samples=2000)
    for place in range(3):
        off = np.abs(choice.marginal[:, place] - exact[place, choice.items[:, place]])
        assert (off <= (1e-12 if place < 2 else 5 * choice.error[:, place])).all()
    assert (choice.error[:, :2] == 0).all() and (choice.error[:, 2] < 0.01).all()


def test_true_value_is_independent_and_right(users, catalog, policy):
    env = make_env(users, catalog, num_envs=64)
    logged, returns = collect(policy, env, 3000, seed=0), true_value(policy, env, 3000, seed=0)
    sums = decisions(logged).rewards.sum(axis=1)
    assert not np.array_equal(sums, returns)
    spread = np.sqrt(sums.var() / len(sums) + returns.var() / len(returns))
    assert sums.mean() == pytest.approx(returns.mean(), abs=4 * spread)
    assert np.array_equal(returns, true_value(policy, make_env(users, catalog, num_envs=7), 3000, seed=0))


def test_proto_actions(users, catalog, log):
    actor_vector = catalog.embeddings[3] * 0.9
    policy = GaussianPolicy(
        lambda history: np.tile(actor_vector, (len(history.items), 1)), 0.2, log.item_ids, n_samples=400
    )
    collected = collect(policy, make_env(users, catalog, action="embedding", num_envs=200, horizon=1), 200, seed=0)
    shown = collected.extra["position"] >= 0
    claimed, error = collected.propensities[shown], collected.extra["propensity_error"][shown]
    assert (claimed > 0).all() and (error < 0.03).all()
    user, item = collected.users["user"], collected.items[shown]
    most = np.bincount(item).argmax()
    for of_user in np.unique(user):
        rows = user == of_user
        if (item[rows] == most).any():
            seen = (item[rows] == most).mean()
            assert seen == pytest.approx(claimed[rows][item[rows] == most].mean(), abs=4 * np.sqrt(0.25 / rows.sum()))
    # the density of the mean is the largest, (2 pi sigma^2)^(-d/2)
    largest = -0.5 * catalog.dim * np.log(2 * np.pi * 0.2**2)
    density = collected.extra["log_density"][shown]
    assert (density < largest).all()
    assert (largest - density).mean() == pytest.approx(catalog.dim / 2, rel=0.2)  # half a chi-square of d


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": object()}, "a policy for item actions must be a StochasticPolicy, got object"),
        ({"action": "embedding"}, "a policy for embedding actions must be a GaussianPolicy, got SoftmaxPolicy"),
        ({"observation": "frame"}, "the environment must have observation='history', got 'frame'"),
        ({"n_sessions": 0}, "n_sessions must be at least 1, got 0"),
        ({"ids": True}, "policy and environment must have the same items and rewards, got 3 items"),
    ],
)
def test_bad_input(users, catalog, policy, change, message):
    if "ids" in change:
        policy = SoftmaxPolicy(Popularity(np.array(["a", "b", "c"]), np.ones(3)))
    options = {name: change[name] for name in ("action", "observation") if name in change}
    with pytest.raises(DataError, match=message):
        collect(change.get("policy", policy), make_env(users, catalog, **options), change.get("n_sessions", 3))


def test_temperatures(log):
    popularity = Popularity(np.arange(3), np.array([5.0, 4.0, 1.0]))
    history, allowed = History(np.array([[3]]), np.zeros((1, 1)), np.array([0])), np.array([[False, True, True]])
    uniform = SoftmaxPolicy(popularity, np.inf).probabilities(history, allowed)
    assert uniform.tolist() == [[0.0, 0.5, 0.5]]
    assert SoftmaxPolicy(popularity, 1e-3, 0.1).probabilities(history, allowed) == pytest.approx(
        np.array([[0.0, 0.95, 0.05]])
    )
    scaled = Popularity(np.arange(3), 1000.0 + 10.0 * popularity.counts)
    by_scale = [
        SoftmaxPolicy(one, 0.7, standardise=True).probabilities(history, allowed) for one in (popularity, scaled)
    ]
    assert by_scale[0] == pytest.approx(by_scale[1], rel=1e-5)


def test_bad_policies(log):
    popularity = Popularity.fit(log)
    with pytest.raises(DataError, match=r"temperature must be above 0 and epsilon between 0 and 1, got 0.0 and 0.0"):
        SoftmaxPolicy(popularity, temperature=0.0)
    with pytest.raises(DataError, match=r"sigma must be above 0 and n_samples at least 1, got -1.0 and 256"):
        GaussianPolicy(lambda history: None, -1.0, log.item_ids)
    history = History(np.array([[log.n_items]]), np.zeros((1, 1)), np.array([0]))
    with pytest.raises(DataError, match="every history must have an allowed item of finite score, got none in 1 of 1"):
        SoftmaxPolicy(popularity).probabilities(history, np.zeros((1, log.n_items), dtype=bool))
    with pytest.raises(DataError, match="a slate needs 2 items with a chance, got fewer in 1 of 1"):
        draw_slates(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))


class TenCandidates(ReplayUsers):
    """Offers ten items at a time: those around the number of steps taken."""

    def candidates(self, random, rows, state):
        step = np.asarray(random.step)[rows]
        return (3 * step[:, None] + np.arange(10)) % self.n_items


@pytest.mark.parametrize("k", [1, 2])
def test_candidates_are_logged_and_bound_what_is_evaluated(log, catalog, policy, k):
    env = make_env(TenCandidates(log, frame_size=5), catalog, num_envs=8, k=k, horizon=3)
    collected = collect(policy, env, 20, seed=0)
    shown = collected.extra["position"] >= 0
    listed = collected.extra["candidates"]
    assert listed.shape == (collected.n_events, 10) and (listed[~shown] == log.n_items).all()
    assert (listed[shown] == collected.items[shown, None]).any(axis=1).all()
    if k == 1:
        made = decisions(collected)
        assert evaluated_probabilities(policy, collected, made) == pytest.approx(made.beta, rel=1e-6)
        assert all(moment.allowed.sum(axis=1).max() <= 10 for moment in moments(collected, made))
    else:
        made = slates(collected)
        assert slate_view(policy, collected, made).pi_slate == pytest.approx(made.beta_slate, rel=1e-5)
    assert "candidates" not in collect(policy, make_env(ReplayUsers(log, frame_size=5), catalog), 4).extra


@pytest.mark.parametrize("k", [1, 2])
def test_a_collected_log_keeps_its_columns_in_files(log, catalog, policy, k, tmp_path):
    env = make_env(TenCandidates(log, frame_size=5), catalog, num_envs=8, k=k, horizon=3)
    collected = collect(policy, env, 20, seed=0)
    collected.save(tmp_path / "saved")
    collected.to_parquet(tmp_path / "parts")
    for again in (type(log).open(tmp_path / "saved"), type(log).from_parquet(tmp_path / "parts")):
        assert set(again.extra) == set(collected.extra)
        for name, column in columns(collected).items():
            assert np.array_equal(columns(again)[name], column), name
