import numpy as np
import pytest

from recgym import Catalog, RecVectorEnv
from recgym.errors import DataError
from recgym.rng import RowRandom
from recgym.users import SimulatedUsers
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.boredom import Boredom
from recgym.users.behaviours.choice import First, Logit, PositionBased
from recgym.users.behaviours.patience import Patience
from recgym.users.behaviours.penalties import PositionPenalty
from recgym.users.behaviours.ratings import Ratings
from recgym.users.behaviours.satiation import Satiation

VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]])
TASTES = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])


def made(choice=None, parts=(), **options):
    items = Items.of(VECTORS, [0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0])
    return SimulatedUsers(items, TASTES, choice, parts, **options)


def env_of(users, num_envs=1, **options):
    catalog = Catalog(VECTORS, users.item_ids, "raw")
    return RecVectorEnv(
        num_envs, users=users, catalog=catalog, frame_size=2, action="item", observation="history",
        autoreset_mode="Disabled", repeats="allow", **options,
    )  # fmt: skip


def test_expected_rewards_are_what_items_earn_on_average():
    users = made(PositionBased(1.0), (Ratings(noise=0.3), Satiation(), PositionPenalty()), slope=0.5, intercept=-0.2)
    env = env_of(users, 2000, k=1)
    env.reset(seed=0, options={"user": 2})
    env.step(np.full(2000, 1))  # someone has answered topic 1, someone has not
    expected = users.expected_rewards(env.user_state, np.tile(np.arange(4), (2000, 1)))
    assert expected.shape == (2000, 4)
    earned = env.step(np.full(2000, 3))[1]
    assert abs(earned.mean() - expected[:, 3].mean()) < 4 * earned.std() / 2000**0.5
    assert len(np.unique(expected[:, 3])) == 2


def test_choice_follows_taste():
    env = env_of(made(Logit(no_choice=-np.inf)), 5000, k=2)
    env.reset(seed=0, options={"user": 0})
    answered = env.step(np.tile([0, 2], (5000, 1)))[4]["answered"]
    assert answered.sum(axis=1).tolist() == [1] * 5000
    assert abs(answered[:, 0].mean() - 1 / (1 + np.exp(-4.0))) < 0.01


def test_parts_keep_their_own_memories():
    users = made(First(), (Satiation(keeps=1.0), Patience(start_patience=2.0, step=0.5), Boredom()))
    env = env_of(users)
    env.reset(seed=0)
    env.step(np.array([0]))
    memory = env.user_state.memory[0]
    assert memory[:3].tolist() == [1.0, 0.0, 2.0] and len(memory) == 2 + 1 + 2 * (5 + 1)


def test_leaving_terminates():
    env = env_of(made(PositionBased(1.0), (Patience(start_patience=3.0),), intercept=-1e3), horizon=9)
    env.reset(seed=0)
    ends = [env.step(np.array([0]))[2][0] for _ in range(3)]
    assert ends == [False, False, True]


def test_rewards_stay_in_range():
    users = made(First(), (Ratings(noise=5.0, low=1.0, high=2.0),))
    assert users.reward_range == (1.0, 2.0)
    env = env_of(users, 500)
    env.reset(seed=0)
    rewards = env.step(np.zeros(500, dtype=np.int64))[1]
    assert rewards.min() == 1.0 and rewards.max() == 2.0


def test_opening_frames_follow_taste_or_stay_empty():
    env = env_of(made(opening=2, appetite=20.0), 200)
    items = env.reset(seed=0, options={"user": 0})[0]["item_history"]
    assert (items == 0).all()
    empty = env_of(made(), 3).reset(seed=0)[0]
    assert (empty["item_history"] == 4).all() and (empty["reward_history"] == 0).all()


def test_candidates_are_different_items_drawn_evenly():
    users = made(n_candidates=3)
    random = RowRandom.from_seeds(list(range(6000)))
    state = users.start(random, slice(None), 2)[0]
    drawn = users.candidates(random, slice(None), state)
    assert drawn.shape == (6000, 3) and (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    whole = made(n_candidates=4).candidates(random, slice(None), state)
    assert (whole == np.arange(4)).all()
    counts = np.bincount(made(n_candidates=1).candidates(random, slice(None), state)[:, 0], minlength=4)
    assert np.abs(counts / 6000 - 0.25).max() < 0.03
    assert made().candidates(random, slice(None), state) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_candidates": 5}, r"n_candidates must lie in 1\.\.4, got 5; leave it out for all items"),
        ({"n_candidates": 0}, r"n_candidates must lie in 1\.\.4, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        made(**options)


def test_tastes_must_have_the_width_of_items():
    with pytest.raises(DataError, match=r"tastes must be \(n_users, 2\) like the items' vectors, got \(3, 5\); give"):
        SimulatedUsers(Items.of(VECTORS), np.ones((3, 5)))
