"""GeMS's world of slates: its parts by hand, and its floors by a simulation that shares no code with recgym."""

from itertools import permutations

import numpy as np
import pytest

from recgym import evaluate_sessions
from recgym.envs.registry import make_batch
from recgym.evaluation import planning
from recgym.rng import RowRandom
from recgym.scorers import Uniform
from recgym.users.behaviours.base import Items, Luck, Shown
from recgym.users.behaviours.boredom import TopicBoredom
from recgym.users.behaviours.choice import PositionBased
from recgym.users.behaviours.influence import TopicInfluence
from recgym.users.behaviours.penalties import CrowdPenalty

ID = "recgym/SlateBoredom-v0"
LUCK = Luck(RowRandom.from_seeds([0]), slice(None), 3)
ITEMS = Items.of(np.eye(4), [0, 0, 1, 1])
PLAYED = {"action": "item", "observation": "history", "autoreset_mode": "Disabled", "split": "test", "test_size": 0.5}


def shown(slate, answered=None, taste=(0.5, 0.0, 0.0, 0.5)):
    slate = np.array([slate])
    return Shown(
        user=np.zeros(1, dtype=np.int64),
        taste=np.array([taste]),
        slate=slate,
        real=slate < 4,
        vectors=ITEMS.vectors[slate],
        topic=ITEMS.topic[slate],
        quality=ITEMS.quality[slate],
        answered=np.zeros(slate.shape, bool) if answered is None else np.array([answered], bool),
        worth=np.ones(slate.shape),
    )


def test_topics_bore_by_the_last_answers_and_are_felt_again():
    part = TopicBoredom(limit=2, answers=3, window=2, lasts=2)
    taste = np.array([[0.5, 0.1, 0.2, 0.3]])

    def felt(*slates):
        own = part.start(ITEMS, np.zeros(1, dtype=np.int64), LUCK)
        for slate, answered in slates:
            own = part.update(own, shown(slate, answered), LUCK)
        return part.felt(own, taste)[0].tolist()

    whole, first = [0.5, 0.1, 0.2, 0.3], [0, 0, 0.2, 0.3]
    none = ([0, 2], [0, 0])
    assert felt(([0, 2], [1, 0])) == whole
    assert felt(([0, 1], [1, 1])) == first  # two at once
    assert felt(([0, 2], [1, 0]), none, ([1, 2], [1, 0])) == first  # the older one still counts
    assert felt(([0, 2], [1, 0]), none, none, ([1, 2], [1, 0])) == whole  # and now no longer
    assert felt(([0, 2], [1, 0]), ([2, 3], [1, 1]), ([1, 4], [1, 0])) == [
        0.5,
        0.1,
        0,
        0,
    ]  # of the last 3 one is on the first
    assert felt(([0, 1], [1, 1]), none) == first
    assert felt(([0, 1], [1, 1]), none, none) == first  # bored anew: at the end of boredom both still count
    assert felt(([0, 1], [1, 1]), none, none, none, none) == whole


def test_answers_pull_taste_one_after_the_other():
    moved = TopicInfluence(inertia=0.5).move(
        np.zeros((1, 0)), shown([2, 0, 1], [1, 0, 1]), np.array([[1.0, 0, 0, 0]]), LUCK
    )
    once = np.array([0.5, 0, 0.5, 0])  # topics' lengths sum to 1 already
    twice = 0.5 * once + [0, 0.5, 0, 0]
    assert np.allclose(moved, twice / (np.hypot(0.25, 0.5) + 0.25))


def test_crowded_slates_lose_a_share_of_every_probability():
    part, appeal = CrowdPenalty(limit=2, divisor=3.0), np.array([[2.0, -40.0, 0.5]])
    sigmoid = 1 / (1 + np.exp(-appeal))
    crowded = part.appeal(np.zeros((1, 0)), shown([0, 1, 2]), appeal)
    assert np.allclose(1 / (1 + np.exp(-crowded)), sigmoid / 3)
    assert part.appeal(np.zeros((1, 0)), shown([0, 2, 4]), appeal) is not None
    assert np.array_equal(part.appeal(np.zeros((1, 0)), shown([0, 2, 4]), appeal), appeal)
    assert np.array_equal(part.appeal(np.zeros((1, 0)), shown([0, 1, 2])._replace(alone=True), appeal), appeal)


@pytest.mark.parametrize("both_ends", [False, True])
def test_the_best_items_stand_where_users_look(both_ends):
    choice, appeal = PositionBased(decay=0.5, both_ends=both_ends), np.array([[0.3, 2.0, -1.0, 0.9, 0.1]])
    best = choice.best_slates(appeal, np.ones((1, 5)), 4)[0]
    earned = {order: choice.probabilities(appeal[:, list(order)]).sum() for order in permutations(range(5), 4)}
    assert earned[tuple(best.tolist())] == pytest.approx(max(earned.values()), abs=1e-12)


def played_apart(vectors, policy, n, horizon, both_ends=False, divisor=1.0, seed=0):
    """Returns what n sessions earn, by the published equations alone: per person, in plain loops."""
    draw = np.random.default_rng(seed)
    parts = vectors.reshape(-1, 10, 2)
    topic = np.sqrt((parts**2).sum(2)).argmax(1)
    look = [0.85**i if not both_ends else (0.85**i + 0.85 ** (9 - i)) / 2 for i in range(10)]
    earned = []
    for _ in range(n):
        shares = draw.random(10) ** 3
        taste = np.abs(np.clip(0.4 * draw.standard_normal((10, 2)), -1, 1)) * (shares / shares.sum())[:, None]
        taste = (taste / np.sqrt((taste**2).sum(1)).sum()).ravel()
        clicks, until, total = [], np.zeros(10), 0  # (topic, step) of clicks; step at which a topic is felt again
        for step in range(1, horizon + 1):
            recent = [t for t, at in clicks[-10:] if at >= step - 6]
            for one in range(10):
                if until[one] <= step and recent.count(one) >= 5:
                    until[one] = step + 5
            score = vectors @ np.where(np.repeat(until > step, 2), 0.0, taste)
            slate = policy(score, topic, draw)
            crowded = np.bincount(topic[slate]).max() >= 4
            for place, item in enumerate(slate):
                chance = look[place] / (1 + np.exp(-100 * (score[item] - 0.28)))
                if draw.random() < (chance / divisor if crowded else chance):
                    total += 1
                    clicks.append((topic[item], step))
                    taste = 0.9 * taste + 0.1 * vectors[item]
                    taste = taste / np.sqrt((taste.reshape(10, 2) ** 2).sum(1)).sum()
        earned.append(total)
    return np.array(earned)


def best_ten(score, topic, draw):
    return np.argsort(-score)[:10]


def best_of_each(score, topic, draw):
    best = [np.flatnonzero(topic == one)[score[topic == one].argmax()] for one in range(10)]
    return sorted(best, key=lambda item: -score[item])


def any_ten(score, topic, draw):
    return draw.choice(len(score), 10, replace=False)


def earned_here(policy, n, **options):
    env = make_batch(ID, n, **PLAYED, **options)
    made = {"random": lambda: Uniform(env.catalog.item_ids, 1, env.catalog.reward)}.get(policy)
    score = made() if made else planning.knowing(policy, env)
    return evaluate_sessions(score, env, n_sessions=n, seed=2).returns, np.array(env.users.items.vectors[:-1])


def alike(here, there, n_errors=4.0):
    error = np.hypot(here.std() / len(here) ** 0.5, there.std() / len(there) ** 0.5)
    return abs(here.mean() - there.mean()) < n_errors * error


APART = {"random": any_ten, "greedy": best_ten, "diverse": best_of_each}


@pytest.mark.parametrize("policy", APART)
def test_floors_are_those_of_an_independent_simulation(policy):
    here, vectors = earned_here(policy, 40, n_items=200, horizon=40)
    assert alike(here, played_apart(vectors, APART[policy], 40, 40))


@pytest.mark.parametrize("setting", ["mix-focused", "divpen-diffuse"])
def test_random_slates_of_other_settings_earn_what_they_should(setting):
    here, vectors = earned_here("random", 60, n_items=200, horizon=40, setting=setting)
    assert alike(here, played_apart(vectors, any_ten, 60, 40, True, 3.0 if "divpen" in setting else 1.0))


@pytest.mark.slow
def test_floors_are_those_of_the_authors_simulator():
    """Measured in it over 40 sessions: 33.0 +- 2.3, 110.9 +- 15 and 411 +- 7 (95 %), with its draw of items."""
    for policy, measured in {"random": (33.0, 2.3), "greedy": (110.9, 15.0), "diverse": (411.0, 7.0)}.items():
        here, vectors = earned_here(policy, 96)
        assert alike(here, played_apart(vectors, APART[policy], 96, 100))
        assert abs(here.mean() - measured[0]) < 1.96 * here.std() / 96**0.5 + measured[1] + 0.03 * measured[0]


def test_items_follow_the_law_of_the_released_ones():
    """Mean lengths of an item's topics in falling order: of the authors' two files .633/.636 .466/.464 .365/.364 ..."""
    lengths = []
    for draw in ("focused", "diffuse"):
        env = make_batch(ID, 1, setting=f"topdown-{draw}")
        vectors = np.array(env.users.items.vectors[:-1])
        lengths.append(np.sort(np.linalg.norm(vectors.reshape(-1, 10, 2), axis=2), axis=1)[:, ::-1].mean(axis=0))
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
        assert np.allclose(lengths[-1][:5], [0.635, 0.465, 0.365, 0.291, 0.235], atol=0.01)
    assert not np.array_equal(*lengths)


def test_what_was_not_clicked_enters_the_frame_with_nothing():
    env = make_batch(ID, 4, **PLAYED | {"split": "train"}, n_items=60, frame_size=20)
    env.reset(seed=1)
    for step in range(3):
        slates = np.arange(10)[None] + 10 * np.arange(4)[:, None]
        observation, *_, infos = env.step(slates)
        assert np.array_equal(observation["item_history"][:, -10:], slates)
        assert np.array_equal(observation["reward_history"][:, -10:] > 0, infos["answered"])
        assert (observation["item_history"][:, :10] == 60).all() == (step == 0)
