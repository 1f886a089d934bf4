"""Learned users with parameters set by hand: what they answer, earn, remember and when they leave; files; guards."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.errors import DataError
from recgym.frames import History
from recgym.rng import RowRandom, normals, uniforms
from recgym.users import Guards, LearnedUsers
from recgym.users.fitted.churn import EDGES, Leaving
from recgym.users.fitted.factors import Factors, sigmoid
from recgym.users.fitted.penalties import next_entropy
from recgym.users.fitted.provenance import FittedOn

ALL = slice(None)
LEVELS = np.array([-0.5, 0.0, 1.0], dtype=np.float32)


def hand_made(log, *, leaving=None, levels=LEVELS, spread=1.0, misses=False, n_members=2):
    """Parameters from the project's own generator, so that they are the same on every machine."""
    shape = lambda n: (n, n_members, 4)  # noqa: E731
    vectors = [
        normals(5, n * n_members * 4, stream).reshape(shape(n)) for stream, n in enumerate((log.n_users, log.n_items))
    ]
    p, q = (spread * one.astype(np.float32) for one in vectors)
    p[..., -1], q[..., -2] = 1.0, 1.0
    thresholds = np.tile(np.linspace(-1, 1, len(levels) - 1, dtype=np.float32), (n_members, 1))
    events = log.offsets[1:, None] + np.arange(-6, 0)
    return LearnedUsers(
        Factors(p, q, thresholds),
        leaving or Leaving(np.zeros(0), np.zeros(2)),
        levels=levels,
        user_ids=log.user_ids,
        item_ids=log.item_ids,
        recent=(log.items[events], log.rewards[events]),
        misses=misses,
        reward_range=(-0.8, 1.0),
        fitted_on=FittedOn.of(log),
        about={"made": "by hand"},
    )


@pytest.fixture
def model(log):
    return hand_made(log)


def opened(model, people, frame_size=5):
    random = RowRandom.from_seeds(list(range(len(people))))
    random.begin(ALL)
    state, opening = model.start(random, ALL, frame_size, np.array(people))
    return random, state, opening


# -- what is predicted -------------------------------------------------------------------------------------------------


def test_a_prediction_by_hand(model):
    """Member by member, from the stated formula."""
    answers = model.answers
    means = []
    for member in range(2):
        score = float(answers.users[3, member] @ answers.items[7, member])
        below = 1 / (1 + np.exp(-(answers.thresholds[member].astype(float) - score)))
        chances = np.diff([0.0, *below, 1.0])
        means.append(chances @ LEVELS)
    mean, spread = model.predict([3], [7])
    assert mean[0] == pytest.approx(np.mean(means), abs=1e-6) and spread[0] == pytest.approx(np.std(means), abs=1e-6)
    assert np.allclose(model.member_means([3], [7]), [means], atol=1e-6)


def test_shapes_and_sums(model):
    people, items = np.array([0, 3, 5]), np.array([[1, 2], [3, 4], [5, 6]])
    wide = model.predict(people, items)
    assert wide[0].shape == wide[1].shape == (3, 2)
    assert np.array_equal(wide[0][:, 1], model.predict(people, items[:, 1])[0])
    chances = model.probabilities(people, items)
    assert chances.shape == (3, 2, 3) and np.allclose(chances.sum(2), 1) and (chances >= 0).all()
    assert np.allclose(chances @ LEVELS, wide[0], atol=1e-6)
    assert np.allclose(model.means_of_all(people)[np.arange(3)[:, None], items].mean(2), wide[0], atol=1e-5)


def test_many_pairs_are_predicted_in_parts(model, monkeypatch):
    everyone, items = np.repeat(np.arange(6), 40), np.tile(np.arange(40), 6)
    whole = model.predict(everyone, items)[0]
    monkeypatch.setattr("recgym.users.fitted.learned._CHUNK", 7)
    assert np.array_equal(model.predict(everyone, items)[0], whole)
    past = History(np.full((240, 3), 40), np.zeros((240, 3)), np.zeros(240, dtype=int))
    assert np.array_equal(model.predict(everyone, items, past)[0], whole)  # factorisations ignore it


@pytest.mark.parametrize(
    ("people", "items", "message"),
    [
        ([6], [0], "every user must be an index of 0 to 5, got 6 to 6; look ids up in user_ids"),
        ([-1], [0], "every user must be an index of 0 to 5, got -1 to -1"),
        ([0], [40], "every item must be an index of 0 to 39, got 40 to 40; look ids up in item_ids"),
        ([0, 1], [0], r"items must be \(B,\) or \(B, k\) for users \(B,\), got \(1,\) and \(2,\); align them"),
    ],
)
def test_bad_pairs(model, people, items, message):
    with pytest.raises(DataError, match=message):
        model.predict(people, items)


def test_sigmoid_at_the_ends():
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_opening_frames_are_the_last_events(log, model):
    _, state, opening = opened(model, [2, 0], frame_size=8)
    own = log.user(2)
    assert opening.items[0].tolist() == [40, 40, *own.items[-6:].tolist()]
    assert np.array_equal(opening.rewards[0, 2:], own.rewards[-6:]) and opening.rewards[0, :2].tolist() == [0, 0]
    assert state.user.tolist() == [2, 0] and state.place.tolist() == [0, 0]
    _, _, short = opened(model, [2], frame_size=2)
    assert short.items.tolist() == [own.items[-2:].tolist()]


def test_answers_come_as_often_as_the_model_says(log):
    model = hand_made(log, spread=0.7)
    n = 20_000
    random, state, _ = opened(model, np.full(n, 4))
    slate = np.full((n, 2), [[11, 40]])  # an item and an empty place
    _, response = model.respond(random, ALL, state, slate)
    shares = [(response.rewards[:, 0] == level).mean() for level in LEVELS]
    assert np.allclose(shares, model.probabilities([4], [11])[0], atol=0.015)
    assert response.answered[:, 0].all() and not response.answered[:, 1].any()
    assert np.array_equal(response.enters, response.answered) and np.array_equal(response.enter_items, slate)
    assert not response.left.any() and not response.ended.any()


def test_missed_items_are_not_answered(log):
    model = hand_made(log, levels=np.array([0.0, 1.0], dtype=np.float32), misses=True)
    n = 5000
    random, state, _ = opened(model, np.full(n, 4))
    after, response = model.respond(random, ALL, state, np.full((n, 1), 11))
    assert response.answered.mean() == pytest.approx(model.probabilities([4], [11])[0, 1], abs=0.03)
    assert (response.rewards[response.answered] == 1).all() and np.array_equal(response.enters, response.answered)
    assert np.array_equal(after.place, response.answered[:, 0])


def test_users_leave_by_their_hazard_and_what_they_earned(log):
    base = np.full(len(EDGES), -2.0)
    base[2] = 50.0  # nobody survives the third answer
    model = hand_made(log, leaving=Leaving(base, np.array([1.0, 2.0]), "one"))
    n = 20_000
    random, state, _ = opened(model, np.full(n, 1))
    state, response = model.respond(random, ALL, state, np.full((n, 1), 3))
    share = (response.rewards[:, 0] + 0.8) / 1.8  # of the range
    for worth in np.unique(share):
        rows = share == worth
        expected = 1 / (1 + np.exp(-(-2.0 + worth + 2.0 * worth)))
        assert response.left[rows].mean() == pytest.approx(expected, abs=0.02)
    assert np.allclose(state.earned, share) and (state.place == 1).all()
    random.step += 1
    state, response = model.respond(random, ALL, state, np.full((n, 2), [[4, 5]]))  # the second and third
    assert response.left.all() and (state.place == 1 + response.answered.sum(axis=1)).all()
    assert response.answered[:, 0].all() and 0.5 < response.answered[:, 1].mean() < 0.9  # who left gave no third answer


def test_rows_do_not_depend_on_the_batch(log, catalog):
    model = hand_made(log, leaving=Leaving(np.full(len(EDGES), -3.0), np.zeros(2), "one"))
    options = {"users": model, "catalog": catalog, "frame_size": 5, "action": "item", "k": 2, "observation": "history"}
    rows = RecVectorEnv(5, autoreset_mode="Disabled", **options)
    rows.action_space.seed(0)
    observation, _ = rows.reset(seed=20)
    singles = [RecEnv(**options) for _ in range(5)]
    for row, single in enumerate(singles):
        assert np.array_equal(single.reset(seed=20 + row)[0]["item_history"], observation["item_history"][row])
    actions = rows.action_space.sample()
    _, rewards, *_ = rows.step(actions)
    assert [single.step(actions[row])[1] for row, single in enumerate(singles)] == rewards.tolist()


def test_a_run_of_fixed_parameters_never_changes():
    """The golden run of `-Sim-v1`: ids themselves have none, since trained floats differ between machines."""
    log = make_log()
    leaving = Leaving(np.linspace(-4.0, -1.0, len(EDGES)), np.array([0.5, -0.5]), "one")
    entropy = np.linspace(0.0, 1.0, log.n_items)
    guarded = hand_made(log, leaving=leaving).guarded(Guards(0.5, 0.25, entropy))
    env = RecVectorEnv(
        8, users=guarded, catalog=make_catalog(), frame_size=5, k=2, action="item", observation="history",
        autoreset_mode="SameStep",
    )  # fmt: skip
    observation, infos = env.reset(seed=7)
    seen = [infos["user"], observation["item_history"]]
    for drawn in uniforms(3, 200 * 8 * 2).reshape(200, 8, 2):
        observation, rewards, terminated, truncated, infos = env.step((drawn * 40).astype(np.int64))
        seen += [
            infos["user"],
            rewards,
            terminated,
            truncated,
            observation["item_history"],
            observation["reward_history"],
        ]
    total = hashlib.sha256()
    for array in seen:
        total.update(np.ascontiguousarray(array).tobytes())
    assert total.hexdigest() == GOLDEN


GOLDEN = "6e968a802f06db53eda85de8d969987f17857d774d6934fef18ee74cbf43f0c6"


# -- guards ------------------------------------------------------------------------------------------------------------


def test_guards_change_what_is_paid_and_nothing_else(model):
    entropy = np.linspace(0.0, 1.0, 40)
    guarded = model.guarded(Guards(pessimism=2.0, entropy_bonus=0.5, entropy=entropy))
    slate = np.arange(6)[:, None] + [[0, 30]]
    answers = []
    for users_ in (model, guarded):
        random, state, _ = opened(users_, range(6))
        answers.append(users_.respond(random, ALL, state, slate)[1])
    plain, paid = answers
    assert np.array_equal(plain.enter_rewards, paid.enter_rewards) and np.array_equal(plain.left, paid.left)
    expected = plain.rewards - 2.0 * model.predict(np.arange(6), slate)[1] + 0.5 * entropy[slate]
    assert np.allclose(paid.rewards, expected, atol=2e-4) and paid.rewards.dtype == np.float32
    assert model.reward_range == (-0.8, 1.0) and guarded.reward_range == pytest.approx((-0.8 - 1.8, 1.5))
    low, high = guarded.reward_range
    assert (paid.rewards >= low).all() and (paid.rewards <= high).all()
    _, state, _ = opened(guarded, range(6))
    mean, spread = model.predict(np.arange(6), slate)
    greedy = guarded.expected_rewards(state, np.hstack([slate, np.full((6, 1), 40)]))
    assert (
        np.allclose(greedy[:, :2], mean - 2.0 * spread + 0.5 * entropy[slate], atol=2e-3) and (greedy[:, 2] == 0).all()
    )


def test_no_spread_is_larger_than_the_declared_range_allows(log):
    model = hand_made(log, spread=50.0, n_members=2)
    spread = model.predict(np.repeat(np.arange(6), 40), np.tile(np.arange(40), 6))[1]
    assert 0.7 < spread.max() <= 1.8 / 2


def test_entropy_of_what_follows():
    items = [0, 1] * 50 + [2, 3, 2, 1, 2, 0] * 5
    log = make_log([len(items)], n_items=130)
    log = replace(log, items=np.array(items, dtype=np.int32), item_ids=np.arange(130))
    entropy = next_entropy(log, 4)
    assert entropy[2] > entropy[0] + 0.2 and entropy[0] < 0.4
    assert (entropy >= 0).all() and (entropy <= 1 + 1e-12).all()
    assert entropy[100] == pytest.approx(entropy[129]) and entropy[100] > 0.5  # unseen: as varied as the whole log


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Guards(-1.0), "pessimism and entropy_bonus must be 0 or more, got -1.0 and 0.0; raise them"),
        (lambda: Guards(0.0, float("nan")), "pessimism and entropy_bonus must be 0 or more, got 0.0 and nan"),
        (
            lambda: Guards(0.0, 1.0),
            "an entropy bonus needs entropy, got none; give what penalties.next_entropy made",
        ),
        (lambda: next_entropy(make_log(), 1), "n_groups must be at least 2, got 1; entropy needs something"),
    ],
)
def test_bad_guards(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_who_leaves_in_the_middle_of_a_slate_answers_no_more(log):
    certain = Leaving(np.full(len(EDGES), 50.0), np.zeros(2), "one")
    model = hand_made(log, leaving=certain)
    random, state, _ = opened(model, [0, 1, 2])
    state, response = model.respond(random, ALL, state, np.array([[1, 2, 3]] * 3))
    assert response.left.all() and response.answered.tolist() == [[True, False, False]] * 3
    assert state.place.tolist() == [1, 1, 1] and response.enters.tolist() == response.answered.tolist()
