"""Click models, by enumeration of everything that can happen."""

from itertools import product

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.rng import RowRandom
from recgym.users import Clicks, ReplayUsers

ALL = slice(None)
WANTED = np.array([[True, True, False, True]])


def enumerated(clicks, wanted):
    """Probability of every pattern of clicks: each place is a hit or not, by chance of its own."""
    look = clicks.examination ** np.arange(wanted.shape[1]) if clicks.model == "position" else np.ones(wanted.shape[1])
    chance = np.where(wanted[0], clicks.attraction * look, 0.0)
    patterns = {}
    for hits in product([False, True], repeat=wanted.shape[1]):
        clicked = tuple(clicks.of_hits(np.array([hits]))[0].tolist())
        weight = np.prod([c if hit else 1 - c for c, hit in zip(chance, hits, strict=True)])
        patterns[clicked] = patterns.get(clicked, 0.0) + weight
    return patterns


def by_the_formulas(model, a, gamma):
    """Marginal probabilities for four places of which the third is not wanted."""
    return {
        "independent": [a, a, 0, a],
        "position": [a, gamma * a, 0, gamma**3 * a],
        "cascade": [a, (1 - a) * a, 0, (1 - a) ** 2 * a],
    }[model]


@pytest.mark.parametrize("model", ["independent", "cascade", "position"])
@pytest.mark.parametrize(("attraction", "examination"), [(0.6, 0.7), (1.0, 0.5), (0.25, 1.0)])
def test_enumerated_probabilities(model, attraction, examination):
    clicks = Clicks(model, attraction, examination)
    patterns = enumerated(clicks, WANTED)
    assert sum(patterns.values()) == pytest.approx(1.0)
    marginal = np.sum([np.multiply(pattern, weight) for pattern, weight in patterns.items()], axis=0)
    assert marginal == pytest.approx(by_the_formulas(model, attraction, examination))
    assert clicks.probabilities(WANTED)[0] == pytest.approx(marginal)
    if model == "cascade":
        assert all(sum(pattern) <= 1 for pattern, weight in patterns.items() if weight > 0)
    else:  # the places are independent of each other
        for pattern, weight in patterns.items():
            assert weight == pytest.approx(np.prod(np.where(pattern, marginal, 1 - marginal)), abs=1e-12)


@pytest.mark.parametrize("model", ["independent", "cascade", "position"])
def test_drawn_clicks_have_these_probabilities(model):
    n = 20_000
    clicks, random = Clicks(model, 0.6, 0.7), RowRandom.from_seeds(list(range(n)))
    random.begin(ALL)
    drawn = clicks.draw(np.repeat(WANTED, n, axis=0), random, ALL)
    found, expected = drawn.mean(axis=0), clicks.probabilities(WANTED)[0]
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)).all()
    assert not drawn[:, 2].any()
    alone = clicks.draw(WANTED, RowRandom(random.key[7:8], random.episode[7:8], random.step[7:8]), ALL)
    assert np.array_equal(alone, drawn[7:8])  # what a row draws does not depend on the others


def shown_liked(advance="answer", **options):
    """Sessions that are shown three items their users would answer, and one they would not."""
    users = ReplayUsers(make_log((30,)), 5, advance=advance, **options)
    env = RecVectorEnv(
        400, users=users, catalog=make_catalog(), frame_size=5, k=4, action="item", observation="history"
    )
    env.reset(seed=0)
    items = users.log.user(0).items
    other = next(item for item in range(40) if item not in items)
    slate = [items[7], items[8], other, items[9]]
    return env, env.step(np.tile(slate, (400, 1)))


def test_replaying_users_click_by_the_model():
    for model in ("independent", "cascade", "position"):
        env, (observation, rewards, *_, infos) = shown_liked(clicks=model, attraction=0.6, examination=0.7)
        expected = Clicks(model, 0.6, 0.7).probabilities(WANTED)[0]
        found = infos["answered"].mean(axis=0)
        assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / 400)).all()
        log = env.users.log.user(0)
        worth = np.array([log.rewards[7], log.rewards[8], 0, log.rewards[9]])
        assert rewards == pytest.approx(infos["answered"] @ worth, abs=1e-6)
        clicked = infos["answered"].sum(axis=1)
        assert np.array_equal(observation["item_history"][:, -1] != log.items[4], clicked > 0)


def test_without_a_model_what_the_log_holds_is_answered():
    _, (*_, infos) = shown_liked()
    assert (infos["answered"] == WANTED).all()
    _, (*_, infos) = shown_liked(clicks="cascade")
    assert (infos["answered"] == [True, False, False, False]).all()
    _, (*_, infos) = shown_liked(clicks="position", examination=1.0)
    assert (infos["answered"] == WANTED).all()


def test_under_log_advance_a_click_needs_a_hit_and_luck():
    users = ReplayUsers(make_log((30,)), 5, advance="log", clicks="independent", attraction=0.5)
    env = RecVectorEnv(400, users=users, catalog=make_catalog(), frame_size=5, action="item", observation="history")
    env.reset(seed=0)
    observation, *_, infos = env.step(np.full(400, users.log.user(0).items[5]))
    assert 150 < np.count_nonzero(infos["answered"]) < 250
    assert (observation["item_history"][:, -1] == users.log.user(0).items[5]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "dbn"}, r"clicks must be one of \('independent', 'cascade', 'position'\), got 'dbn'; choose one"),
        ({"model": "cascade", "attraction": 0.0}, "attraction must be above 0 and at most 1, got 0.0; give a prob"),
        ({"model": "position", "examination": 1.5}, "examination must be above 0 and at most 1, got 1.5"),
        ({"model": "position", "examination": [1, 0.5]}, r"examination must be above 0 and at most 1, got \[1, 0.5\]"),
        ({"model": "cascade", "attraction": "all"}, "attraction must be above 0 and at most 1, got 'all'; give a prob"),
    ],
)
def test_errors(options, message):
    with pytest.raises(DataError, match=message):
        Clicks(**options)
