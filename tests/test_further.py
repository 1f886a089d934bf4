"""What every id takes beside its own options: leaving by repetition, pools, behaviours, delay, context."""

import pickle
from copy import deepcopy
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from recgym.catalog import Catalog
from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.envs.registry import make_env, make_vector_env
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.testing import assert_same, check_vector_env
from recgym.users import ReplayUsers, SimulatedUsers
from recgym.users.around import Funnel, Pool, Repetition
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.choice import PositionBased

SMALL = {"n_users": 60, "n_items": 40, "dim": 8, "action": "item"}


def three_items(**options):
    """One user, three items of topics 0, 0, 1; whatever is shown is answered, and worth 1."""
    items = Items.of(np.eye(3), topic=[0, 0, 1])
    users = SimulatedUsers(items, np.ones((1, 3)), PositionBased(decay=1.0), slope=50.0)
    catalog = Catalog(np.eye(3), users.item_ids, "raw", features={"topic": np.array([0, 0, 1])})
    return users, catalog, {"frame_size": 1, "action": "item", "repeats": "allow", "horizon": 9, **options}


def leaves(shown, window, most, k=1):
    """Returns after how many slates the user is gone."""
    users, catalog, options = three_items(k=k)
    topics = np.array([[True, False], [True, False], [False, True]])
    env = RecEnv(users=Repetition(users, 1, topics, window, most), catalog=catalog, **options)
    env.reset(seed=0)
    for step, slate in enumerate(shown, 1):
        _, reward, terminated, _, _ = env.step(slate)
        assert reward == k  # the slate they leave after still counts
        if terminated:
            return step
    return None


def test_users_leave_by_repetition():
    """Of a category that more than `most` of the last `window` items had; by hand, with topics 0, 0 and 1."""
    assert leaves([0, 2, 1, 2, 0], 1, 0) is None  # in turn
    assert leaves([0, 2, 2], 1, 0) == 3 and leaves([0, 1], 1, 0) == 2  # the same twice running
    assert leaves([0, 2, 1], 4, 0) == 3  # item 1 is of topic 0, as the item two before it
    assert leaves([0, 2, 1, 2, 0], 4, 1) == 5  # topic 0 stood twice among the four before
    assert leaves([0, 2, 2, 0], 2, 1) is None  # twice in the window only once the third comes
    assert leaves([[0, 1]], 1, 0, k=2) == 1 and leaves([[0, 2], [2, 0]], 1, 0, k=2) == 2


def test_what_worlds_tell_besides_is_told_through_traits():
    """The day that infos tell of a world of visits is the same with a trait around its users that changes nothing."""
    given = {"n_users": 20, "n_items": 40, "action": "item"}
    plain, around = (
        gym.make_vec("recgym/Retention-v0", num_envs=2, **given, **more) for more in ({}, {"leave_by": [40, 39]})
    )
    assert_same(plain.reset(seed=0)[1], around.reset(seed=0)[1], "infos of a reset")
    for _ in range(6):
        action = plain.action_space.sample()
        assert_same(plain.step(action)[1:], around.step(action)[1:], "a step")


def test_published_repetitions_stand_at_every_id():
    for name, gone in (("cirs", [1, 2]), ("easyrl4rec", [1, 3]), ([4, 1], None)):
        env = gym.make("recgym/Boredom-v0", disable_env_checker=True, **SMALL, n_topics=4, leave_by=name)
        env.reset(seed=0)
        topic = env.unwrapped.catalog.features["topic"]
        order = [np.flatnonzero(topic == one)[:2] for one in (0, 1)]
        shown = {"cirs": [order[0][0], order[0][1]], "easyrl4rec": [order[0][0], order[1][0], order[0][1]]}
        ends = [env.step(item)[2] for item in (shown[name] if gone else [order[0][0], order[1][0], order[0][1]])]
        assert ends == ([False] * (len(ends) - 1) + [bool(gone)])
    with pytest.raises(DataError, match=r"leave_by must be one of cirs, easyrl4rec, or \[window, most\], got 'dorl'"):
        make_vector_env(1, **SMALL, leave_by="dorl")
    with pytest.raises(DataError, match="most must be a whole number from 0 to window - 1 = 1, got 2; lower it"):
        make_vector_env(1, **SMALL, leave_by=[2, 2])
    with pytest.raises(
        DataError, match=r"leave_by needs items with categories, got 'genes' among.*did you mean 'genre"
    ):
        make_vector_env(1, **SMALL, leave_by="cirs", category="genes")


def test_a_pool_grows_and_turns():
    """Four items, by hand: two at first and one more at each of two steps; or always two, each for half of the span."""
    log = InteractionLog.from_events([0] * 4 + [1] * 4, [0, 1, 2, 3] * 2, [1.0] * 8)
    four = ReplayUsers(log, 1, min_history=0, opening="least")
    catalog = Catalog(np.eye(4), log.item_ids)
    made = {"catalog": catalog, "frame_size": 1, "action": "item", "horizon": 4}
    env = RecVectorEnv(2, users=Pool(four, 1, "growing", 0.5, 2), **made, autoreset_mode="SameStep")
    env.reset(seed=3)
    sizes = []
    for step in range(3):
        there = env.action_masks() | env.shown[:, :-1]
        sizes.append(there.sum(axis=1).tolist())
        away = np.flatnonzero(~there[0])
        if step == 0:  # what is not there is an empty place
            copy = deepcopy(env)
            assert not copy.step(np.repeat(away[:1], 2))[-1]["answered"].any()
        env.step(env.action_masks().argmax(axis=1))
    assert sizes == [[2, 2], [3, 3], [4, 4]]
    turning = RecVectorEnv(1, users=Pool(four, 1, "turning", 0.5, 4), **made, repeats="allow")
    turning.reset(seed=0)
    days = []
    for _ in range(4):
        days.append(np.flatnonzero(turning.action_masks()[0]).tolist())
        turning.step(np.zeros(1, dtype=np.int64))
    assert [len(day) for day in days] == [2] * 4 and all(len({*a} & {*b}) == 1 for a, b in pairwise(days))
    by_session = RecVectorEnv(1, users=Pool(four, 1, "growing", 0.5, 2, "session"), **made)
    assert [(by_session.reset(), int(by_session.action_masks().sum()))[1] for _ in range(3)] == [2, 3, 4]
    with pytest.raises(DataError, match="pool='growing' needs users to whom any item may be shown, got SimulatedUsers"):
        gym.make("recgym/InterestEvolution-v1", disable_env_checker=True, pool="growing")
    with pytest.raises(DataError, match=r"pool must be one of \('growing', 'turning'\), got 'grows'"):
        make_vector_env(1, **SMALL, pool="grows")


@pytest.mark.parametrize("env_id", ["recgym/Boredom-v0", "recgym/Synthetic-Session-v1", "recgym/Slate-v1"])
def test_late_answers_add_up(env_id):
    """The same actions earn the same in a session, whatever the delay, and the last observation tells all of it."""
    given = {**SMALL, "k": 3, "observation": "history", "autoreset_mode": "SameStep", "horizon": 6}
    random = np.random.default_rng(0)
    ends = []
    runs = []
    actions = random.integers(0, 40, (20, 5, 3))
    for delay in (0, 2, 50):
        env = gym.make_vec(env_id, num_envs=5, **given, delay=delay)
        env.reset(seed=1)
        total, run, steps = np.zeros(5), [], []
        for action in actions:
            _, reward, terminated, truncated, infos = env.step(action)
            total += reward
            done = terminated | truncated
            steps.append((reward, done))
            for row in np.flatnonzero(done):
                run.append((row, round(total[row], 6), infos["final_obs"][row]["item_history"].tolist()))
            if delay:
                last = infos["final_info"] if done.any() else infos
                late = np.where(done, infos["final_info"]["late_rewards"] if done.any() else 0.0, 0.0)
                now = np.where(done[:, None], last["item_rewards"], infos["item_rewards"]).sum(axis=1)
                assert np.allclose(now + late, reward)
                assert np.array_equal(np.where(done[:, None], last["shown"], infos["shown"]), action)
            total[done] = 0.0
        runs.append(run)
        ends.append(steps)
    assert runs[0] and runs[0] == runs[1] == runs[2]
    first = ends[0][0][0], ends[1][2][0]
    still = ~(ends[0][0][1] | ends[0][1][1] | ends[0][2][1])
    assert np.allclose(first[0][still], first[1][still])  # what the first slate earned, two steps later


def test_late_answers_are_kept_with_the_state():
    env = make_vector_env(3, **SMALL, delay=2, k=2, repeats="allow", observation="history", horizon=7)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 40, (12, 3, 2))
    for action in actions[:4]:
        env.step(action)
    other = make_vector_env(3, **SMALL, delay=2, k=2, repeats="allow", observation="history", horizon=7)
    other.load_state_dict(env.state_dict())
    copies = [other, deepcopy(env), pickle.loads(pickle.dumps(env))]
    for action in actions[4:]:
        step = env.step(action)
        for copy in copies:
            assert_same(copy.step(action), step, "a copy's step")
    with pytest.raises(DataError, match="sessions must be of 3 rows"):
        make_vector_env(3, **SMALL, k=2, repeats="allow", horizon=7).load_state_dict(env.state_dict())
    with pytest.raises(DataError, match="delay must be a whole number of at least 0, got -1; give steps"):
        make_vector_env(3, **SMALL, delay=-1)


def test_logged_behaviours(tmp_path):
    """Columns of a table, or the labels of one column; worth the sum of their weights."""
    table = pd.DataFrame({"u": np.repeat(range(4), 4), "i": [1, 2, 3, 4] * 4, "click": [1, 1, 0, 1] * 4})
    table["like"], table["t"] = [0, 1, 0, 1] * 4, range(16)
    table.to_csv(tmp_path / "t.csv", index=False)
    given = {"dataset": "table", "path": str(tmp_path / "t.csv"), "user": "u", "item": "i", "time": "t", "dim": 2}
    env = make_vector_env(
        1, **given, extra=["click", "like"], frame_size=1, behaviours={"click": 1.0, "like": 2.5}, action="item", k=3,
        observation="history",
    )  # fmt: skip
    assert env.users.behaviours == ("click", "like") and env.users.reward_range == (0.0, 3.5)
    observation, infos = env.reset(seed=0)
    assert observation["reward_history"].tolist() == [[1.0]] and not infos["behaviours"].any()
    _, reward, _, _, infos = env.step(np.array([[2, 1, 3]]))
    assert reward == 7.0 and infos["behaviours"].tolist() == [[[False, False], [True, True], [True, True]]]
    assert infos["item_rewards"].tolist() == [[0.0, 3.5, 3.5]]
    shop = make_vector_env(
        2, world="session", dataset="synthetic-shop", n_users=60, n_items=40, dim=8, action="item", repeats="allow",
        behaviours={"pv": 1.0, "buy": 4.0},
    )  # fmt: skip
    labels = shop.users.log.extra["behaviour"]
    worth = np.where(labels == "buy", 4.0, np.where(labels == "pv", 1.0, 0.0))
    assert np.array_equal(shop.users.log.rewards, worth.astype(np.float32))
    with pytest.raises(DataError, match=r"behaviours must be columns of the log or labels.*got .'wink'.; choose from"):
        make_vector_env(
            1, world="session", dataset="synthetic-shop", n_users=60, n_items=40, dim=8, behaviours={"wink": 1}
        )
    with pytest.raises(DataError, match=r"behaviours must be weights by name, got \{'click': 'much'}"):
        make_vector_env(1, **SMALL, world="boredom", behaviours={"click": "much"})


def test_simulated_behaviours_are_a_funnel():
    """With p = 0.6 of an answer and weights 1, 2, 4: an answer is worth 1 + 2 * .6 + 4 * .36 on average."""
    users = SimulatedUsers(
        Items.of(np.zeros((2, 1)) + 1.0), np.ones((1, 1)), PositionBased(decay=1.0), slope=np.log(1.5)
    )
    funnel = Funnel(users, 1, {"click": 1, "like": 2, "follow": 4})
    catalog = Catalog(np.ones((2, 1)), users.item_ids)
    env = RecVectorEnv(4000, users=funnel, catalog=catalog, frame_size=1, action="item", repeats="allow")
    env.reset(seed=0)
    chance, worth = funnel.expected_answers(env.user_state, np.zeros((4000, 1), dtype=int))
    assert np.allclose(chance, 0.6) and np.allclose(worth, 3.64)
    assert np.allclose(funnel.expected_rewards(env.user_state, np.zeros((4000, 1), dtype=int)), 0.6 * 3.64)
    _, reward, _, _, infos = env.step(np.zeros(4000, dtype=int))
    gone = infos["behaviours"][:, 0]
    assert np.array_equal(gone @ [1, 2, 4], reward) and np.array_equal(gone[:, 0], infos["answered"][:, 0])
    assert (gone[:, 0] >= gone[:, 1]).all() and (gone[:, 1] >= gone[:, 2]).all()
    assert np.abs(gone.mean(axis=0) - [0.6, 0.36, 0.216]).max() < 0.03
    assert abs(reward.mean() - 0.6 * 3.64) < 0.15


def test_context_of_logs(tmp_path):
    """Hour, weekday and days by hand; features mean the same in both parts; a frame stands under its name."""
    times = [0, 3600 * 5, 86400 * 3 + 7200] * 20
    rows = pd.DataFrame({"u": np.repeat(range(20), 3), "i": [1, 2, 3] * 20, "t": times})
    rows.to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"u": range(20), "age": range(20, 40), "city": list("ab" * 10)}).to_csv(
        tmp_path / "u.csv", index=False
    )
    given = {"dataset": "table", "path": str(tmp_path / "t.csv"), "user": "u", "item": "i", "time": "t", "dim": 2}
    given |= {"users": str(tmp_path / "u.csv"), "frame_size": 1, "action": "item", "test_size": 0.4}
    given |= {"context": ["time", "user"], "user_features": ["age", "city"], "advance": "log"}
    env = make_vector_env(2, **given)
    observation, _ = env.reset(seed=0)
    assert observation["hour"].tolist() == [5, 5] and observation["weekday"].tolist() == [3, 3]  # a Thursday
    assert observation["day"].tolist() == [[0.0], [0.0]] and observation["frame"].shape == (2, 3)
    observation, *_ = env.step(np.zeros(2, dtype=int))
    assert observation["hour"].tolist() == [2, 2] and observation["weekday"].tolist() == [6, 6]
    assert np.allclose(observation["day"], (86400 * 3 + 7200 - 5 * 3600) / 86400)
    ages = np.array([int(one) for one in env.users.user_ids[env.reset(seed=0)[1]["user"]]]) + 20
    known = np.array([int(one) for one in env.users.log.user_ids]) + 20  # of training users alone
    assert len(known) == 12
    expected = (ages - known.mean()) / known.std()
    assert np.allclose(observation["user_features"][:, 0], expected, atol=1e-6)
    test = make_vector_env(2, **given, split="test")
    held_out = np.array([int(one) for one in test.users.log.user_ids]) + 20
    clipped = (held_out.clip(known.min(), known.max()) - known.mean()) / known.std()
    assert np.allclose(test.users.features[:, 0], clipped, atol=1e-6)
    assert test.single_observation_space == env.single_observation_space
    assert env.observation_space.contains(env.reset(seed=1)[0])
    with pytest.raises(DataError, match=r"user_features must be features of users in the data, \['age', 'city'\], got"):
        make_vector_env(1, **given | {"user_features": ["aeg"]})
    with pytest.raises(DataError, match="context 'user' needs users with features, got none; name some with user_feat"):
        make_vector_env(1, **SMALL, context=["user"])
    with pytest.raises(DataError, match="context 'candidates' needs users who have candidates, got users to whom any"):
        make_vector_env(1, **SMALL, context="candidates")
    with pytest.raises(DataError, match="context 'time' needs users who count days, got none whose parts do"):
        make_vector_env(1, **SMALL, world="boredom", context="time")
    with pytest.raises(DataError, match="context must be one of"):
        make_vector_env(1, **SMALL, context=["weather"])


def test_learned_users_look_at_places():
    """Two places, chance 1 of an answer: the second is answered as often as it is looked at; so says the truth."""
    small = {"n_users": 40, "n_items": 40, "dim": 4, "max_epochs": 1, "n_members": 1, "action": "item", "k": 2}
    small |= {"sessions": "never"}
    runs = {}
    for clicks in (None, "position", "cascade"):
        given = {"clicks": clicks, "attraction": 0.8, "examination": 0.5} if clicks else {}
        env = make_vector_env(400, world="sim", dataset="synthetic", **small, **given, known="allow", repeats="allow")
        env.reset(seed=0)
        slates = np.tile([3, 4], (400, 1))
        runs[clicks] = env.users.expected_answers(env.user_state, slates)[0]
        alone = env.users.expected_answers(env.user_state, slates, alone=True)[0]
        assert np.allclose(alone, 0.8 if clicks else 1.0)
        assert np.abs(env.step(slates)[-1]["answered"].mean(axis=0) - runs[clicks][0]).max() < 0.08
    assert np.allclose(runs[None], 1.0) and np.allclose(runs["position"], [0.8, 0.4])
    assert np.allclose(runs["cascade"], [0.8, 0.16])


def test_logs_of_late_answers_are_refused():
    from recgym.evaluation.collection import collect
    from recgym.evaluation.policies import SoftmaxPolicy
    from recgym.scorers import Uniform

    env = make_vector_env(2, **SMALL, delay=1, observation="history")
    policy = SoftmaxPolicy(Uniform(env.catalog.item_ids, 0, env.catalog.reward))
    with pytest.raises(DataError, match="a log needs answers beside what was shown, got an environment of delay=1"):
        collect(policy, env, n_sessions=2)


BAD = [
    ({"leave_by": 5}, r"leave_by must be one of cirs, easyrl4rec, or \[window, most\], got 5"),
    ({"leave_by": ["a", 1]}, "window must be an integer of at least 1, got 'a'"),
    ({"context": 5}, r"context must be a list of some of \('user', .*\), got 5"),
    ({"user_features": 3}, "user_features must be 'all' or names, got 3"),
    ({"pool": "growing", "pool_start": 0}, "pool_start must be a number from .* to 1, got 0"),
    ({"pool": "growing", "pool_span": 2.5}, "pool_span must be an integer of at least 1, got 2.5"),
    ({"pool": "growing", "pool_by": "day"}, r"pool_by must be one of \('step', 'session'\), got 'day'"),
    ({"delay": 1.5}, "delay must be a whole number of at least 0, got 1.5"),
    ({"behaviours": ["click"], "world": "boredom"}, r"behaviours must be weights by name, got \['click'\]"),
    ({"category": 3, "leave_by": "cirs"}, "leave_by needs items with categories, got 3 among"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        make_vector_env(1, **SMALL, **options)


OPTIONS = {
    "all of a log": {
        "leave_by": [3, 1], "pool": "turning", "pool_start": 0.8, "delay": 2, "repeats": "allow", "k": 2,
        "context": ["time", "candidates", "candidate_vectors"], "observation": "sequence", "advance": "log",
    },
    "all of a world": {
        "world": "slate", "leave_by": "easyrl4rec", "pool": "growing", "delay": 1, "k": 2, "repeats": "zero",
        "behaviours": {"click": 1, "like": 2}, "context": ["time", "candidates"],
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("name", OPTIONS)
def test_conformance(name, mode):
    given = {**SMALL, "horizon": 8, **OPTIONS[name]}
    env = make_vector_env(3, **given, autoreset_mode=mode)
    check_vector_env(env, 40, single=lambda: make_env(**given))


def test_planners_reach_through():
    """Policies that know the truth ask it of the inner users; who leaves by repetition is left less by a planner."""
    from recgym.evaluation import planning
    from recgym.evaluation.evaluate import evaluate_sessions

    given = {**SMALL, "world": "boredom", "leave_by": "cirs", "n_topics": 2, "observation": "history", "horizon": 10}
    env = make_vector_env(20, **given, autoreset_mode="Disabled")
    assert not planning.greed_is_best(env)
    plan = planning.planner(env, planning.Imagined(n_items=6, depth=4, n_futures=4))
    earned = [evaluate_sessions(one, env, n_sessions=20, seed=0).returns for one in (planning.greedy(env), plan)]
    assert earned[1].mean() > earned[0].mean()
