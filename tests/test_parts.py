import numpy as np
import pytest

from recgym.rng import RowRandom
from recgym.users.behaviours.base import Items, Luck, Part, Shown
from recgym.users.behaviours.boredom import Boredom
from recgym.users.behaviours.choice import (
    Cascade,
    DependentClick,
    First,
    Logit,
    PlackettLuce,
    PositionBased,
    Proportional,
)
from recgym.users.behaviours.evolution import InterestEvolution
from recgym.users.behaviours.influence import Influence, Wandering
from recgym.users.behaviours.patience import Distraction, Patience
from recgym.users.behaviours.penalties import PositionPenalty, SimilarityPenalty
from recgym.users.behaviours.ratings import Ratings
from recgym.users.behaviours.returning import Returning
from recgym.users.behaviours.satiation import Satiation
from recgym.users.behaviours.satisfaction import LongTermSatisfaction
from recgym.users.behaviours.watching import WatchBudget

CHOICES = [
    First(),
    Logit(no_choice=0.5),
    Logit(no_choice=-np.inf),
    Proportional(),
    Cascade(attention=0.8),
    PositionBased(decay=0.7),
    DependentClick(go_on=0.4),
    PlackettLuce(n=2, no_choice=0.3),
    PlackettLuce(n=1),
]
ITEMS = Items.of(np.eye(3)[[0, 0, 1, 2]], [0, 0, 1, 2], [0.0, 1.0, 2.0, -3.0])


def luck(n_rows, stream=3, seed=0):
    return Luck(RowRandom.from_seeds([seed + row for row in range(n_rows)]), slice(None), stream)


def shown(slate, answered, worth=1.0, taste=None):
    slate = np.asarray(slate)
    taste = np.full((len(slate), 3), 0.5) if taste is None else np.asarray(taste, dtype=float)
    return Shown(
        user=np.zeros(len(slate), dtype=np.int64),
        taste=taste,
        slate=slate,
        real=slate < 4,
        vectors=ITEMS.vectors[slate],
        topic=ITEMS.topic[slate],
        quality=ITEMS.quality[slate],
        answered=np.asarray(answered, dtype=bool),
        worth=np.full(slate.shape, worth),
    )


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_answers_come_as_often_as_their_probabilities_say(choice):
    appeal = np.array([0.7, -0.4, -np.inf, 1.1])
    n = 40_000
    answered = choice.choose(np.tile(appeal, (n, 1)), luck(n))
    expected = choice.probabilities(appeal[None])[0]
    assert answered.dtype == bool and not answered[:, 2].any() and expected[2] == 0
    assert np.abs(answered.mean(axis=0) - expected).max() < 4.5 * 0.5 / n**0.5
    if isinstance(choice, (First, Logit, Proportional, Cascade)):
        assert answered.sum(axis=1).max() == 1
    if isinstance(choice, PlackettLuce):
        assert answered.sum(axis=1).max() == choice.n


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_an_empty_slate_is_never_answered(choice):
    nothing = np.full((5, 3), -np.inf)
    assert not choice.choose(nothing, luck(5)).any() and not choice.probabilities(nothing).any()


def test_probabilities_by_hand():
    s = np.array([[np.log(2.0), np.log(3.0)]])
    half, third = 2 / 3, 3 / 4  # sigmoids of the two
    assert np.allclose(Logit(no_choice=np.log(5.0)).probabilities(s), [[0.2, 0.3]])
    assert np.allclose(Proportional(-1.0, 1.0).probabilities(np.array([[0.0, 1.0]])), [[1 / 5, 2 / 5]])
    assert np.allclose(Cascade().probabilities(s), [[half, (1 - half) * third]])
    assert np.allclose(PositionBased(0.5).probabilities(s), [[half, 0.5 * third]])
    assert np.allclose(DependentClick(0.25).probabilities(s), [[half, third * (1 - half * 0.75)]])
    one, two = 2 / 10, 3 / 10  # first draws against an outside of 5
    assert np.allclose(PlackettLuce(2, np.log(5.0)).probabilities(s), [[one + two * 2 / 7, two + one * 3 / 8]])


def test_huge_appeal_does_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        for choice in CHOICES:
            assert np.isfinite(choice.probabilities(np.array([[1e4, -1e4]]))).all()


def test_watch_budget_pays_minutes_and_gets_time_back_for_quality():
    budget = WatchBudget(start_budget=10.0, length=4.0, refund=0.25, idle=0.5)
    own = budget.start(ITEMS, np.zeros(3, dtype=np.int64), luck(3))
    own[2] = 3.0  # less than an item's length
    slate = [[2, 3], [3, 4], [2, 4]]
    minutes = budget.worth(own, shown(slate, [[0, 0], [0, 0], [0, 0]]), np.ones((3, 2)), None)
    assert minutes.tolist() == [[4, 4], [4, 4], [3, 3]]
    after = budget.update(own, shown(slate, [[0, 0], [1, 0], [1, 0]])._replace(worth=minutes), luck(3))
    # nothing watched: 10 - 0.5; quality -3: 10 - 4 - 0.25 * 4 * 3; quality 2: 3 - 3 + 0.25 * 3 * 2
    assert after.ravel().tolist() == [9.5, 3.0, 1.5]
    assert budget.leaves(np.array([[0.0], [0.1], [-1.0]])).tolist() == [True, False, True]


def test_interest_evolution_moves_the_topics_interest_alone():
    taste = np.array([[0.5, -0.2, 0.9]] * 2000)
    after = InterestEvolution().move(
        np.zeros((2000, 0)), shown([[0]] * 2000, [[1]] * 2000, taste=taste), taste, luck(2000)
    )
    step = 0.3 * (1 - 0.5) * (1 - 0.5)
    assert (after[:, 1:] == taste[:, 1:]).all()
    up = np.isclose(after[:, 0], 0.5 + step)
    assert (up | np.isclose(after[:, 0], 0.5 - step)).all() and abs(up.mean() - 0.75) < 0.04
    still = InterestEvolution().move(np.zeros((2, 0)), shown([[0]] * 2, [[0]] * 2, taste=taste[:2]), taste[:2], luck(2))
    assert (still == taste[:2]).all()


def test_influence_turns_taste_towards_the_mean_item_and_keeps_its_length():
    taste = np.array([[0.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
    asked = shown([[0, 3], [0, 3]], [[1, 1], [0, 0]], taste=taste)
    after = Influence(inertia=0.5).move(np.zeros((2, 0)), asked, taste, luck(2))
    direction = np.array([0.25, 0.5, 0.25])  # the mean is a vector, not a number added to all dimensions
    assert np.allclose(after[0], 2 * direction / np.linalg.norm(direction)) and (after[1] == taste[1]).all()


def test_wandering_keeps_the_length():
    taste = np.array([[0.0, 2.0, 0.0]] * 50)
    after = Wandering(0.1).move(np.zeros((50, 0)), shown([[0]] * 50, [[0]] * 50, taste=taste), taste, luck(50))
    assert np.allclose(np.linalg.norm(after, axis=1), 2.0) and 0.1 < np.abs(after - taste).max() < 1.0


def play(part, slates, answers, n_rows=1):
    own = part.start(ITEMS, np.zeros(n_rows, dtype=np.int64), luck(n_rows))
    for slate, answered in zip(slates, answers, strict=True):
        own = part.update(own, shown([slate] * n_rows, [answered] * n_rows), luck(n_rows))
    return own


def test_boredom_begins_at_the_limit_within_the_window_and_wears_off():
    part = Boredom(limit=2, window=3, lasts=2, drop=7.0)
    question = shown([[0, 2]], [[0, 0]])
    appeal = np.array([[1.0, 1.0]])
    once = play(part, [[0, 4]], [[1, 0]])
    twice = play(part, [[0, 4], [1, 4]], [[1, 0], [1, 0]])
    far = play(part, [[0, 4], [2, 4], [2, 4], [1, 4]], [[1, 0], [0, 0], [0, 0], [1, 0]])
    over = play(part, [[0, 4], [1, 4], [2, 4], [2, 4]], [[1, 0], [1, 0], [0, 0], [0, 0]])
    together = play(part, [[0, 1]], [[1, 1]])
    assert part.appeal(once, question, appeal).tolist() == [[1, 1]]
    assert part.appeal(twice, question, appeal).tolist() == [[-6, 1]]
    assert part.appeal(far, question, appeal).tolist() == [[1, 1]]
    assert part.appeal(over, question, appeal).tolist() == [[1, 1]]
    assert part.appeal(together, question, appeal).tolist() == [[-6, 1]]
    everything = Boredom(limit=2, window=3, lasts=2, drop=7.0, scope="everything")
    assert everything.appeal(twice, question, appeal).tolist() == [[-6, -6]]


def test_satiation_grows_with_answers_and_fades():
    part = Satiation(keeps=0.5, weight=2.0)
    own = play(part, [[0, 1], [2, 4]], [[1, 1], [1, 0]])
    assert own.tolist() == [[0.5, 0.5, 0.0]]  # (2 * 0.5) * 0.5, 1 * 0.5
    after = part.appeal(own, shown([[0, 3, 4]], [[0, 0, 0]]), np.ones((1, 3)))
    assert after.tolist() == [[0.0, 1.0, 1.0]]


def test_satisfaction_falls_with_baits_and_pays_by_it():
    part = LongTermSatisfaction(sensitivity=1.0, noise=0.0, deviation=0.0)
    own = np.array([[1.0]])
    bait = shown([[1]], [[1]])  # quality 1
    good = shown([[0]], [[1]])  # quality 0
    assert part.update(own, bait, luck(1)).item() == pytest.approx(0.7 - 1.0)
    assert part.update(own, good, luck(1)).item() == pytest.approx(0.7 + 1.0)
    assert part.update(own, shown([[1]], [[0]]), luck(1)).item() == 1.0
    satisfied = 1 / (1 + np.exp(-1.0))
    assert part.worth(own, bait, np.ones((1, 1)), None).item() == pytest.approx(np.exp(5 * satisfied))
    assert part.worth(own, good, np.ones((1, 1)), None).item() == pytest.approx(np.exp(4 * satisfied))


def test_mean_worth_is_the_mean():
    for part in (LongTermSatisfaction(deviation=0.5), Ratings(noise=0.2)):
        own = np.zeros((50_000, 1))
        question = shown([[1]] * 50_000, [[0]] * 50_000)
        drawn = part.worth(own, question, np.ones((50_000, 1)), luck(50_000))
        mean = part.worth(
            own[:1],
            question._replace(vectors=question.vectors[:1], taste=question.taste[:1], quality=question.quality[:1]),
            np.ones((1, 1)),
            None,
        )
        assert abs(drawn.mean() / mean.item() - 1) < 0.02


def test_patience_is_lost_at_poor_slates_only():
    part = Patience(start_patience=2.5, step=1.0)
    own = np.array([[2.5], [2.5]])
    after = part.update(own, shown([[0, 1], [0, 1]], [[1, 1], [0, 0]], worth=3.0), luck(2))
    assert after.ravel().tolist() == [2.5, 1.5] and part.leaves(after - 1.0).tolist() == [False, True]


def test_distraction_takes_its_share():
    part = Distraction(probability=0.3)
    gone = part.leaves(part.update(np.zeros((20_000, 1)), shown([[0]] * 20_000, [[0]] * 20_000), luck(20_000)))
    assert abs(gone.mean() - 0.3) < 0.015


def test_joy_brings_users_back_sooner():
    part = Returning(days=30.0, visit=2, base=0.1, weight=0.4)
    happy = play(part, [[0], [0]], [[1], [1]], n_rows=20_000)
    sad = play(part, [[0], [0]], [[0], [0]], n_rows=20_000)
    assert (happy[:, :2] == 0).all() and happy[:, 2].min() == 1 and sad[:, 2].max() == 10
    assert abs(happy[:, 2].mean() - 2.0) < 0.05  # geometric of 0.5, cut at 10
    cut = sum(min(day, 10) * 0.1 * 0.9 ** (day - 1) for day in range(1, 400))
    assert abs(sad[:, 2].mean() - cut) < 0.1
    assert (play(part, [[0]], [[1]])[0] == [1, 1, 0]).all()
    assert part.leaves(np.array([[0, 0, 29.0], [0, 0, 30.0]])).tolist() == [False, True]


def test_penalties():
    question = shown([[0, 1, 2]], [[0, 0, 0]])
    appeal = np.ones((1, 3))
    assert PositionPenalty(0.5).appeal(np.zeros((1, 0)), question, appeal).tolist() == [[1.0, 0.5, 0.0]]
    mean = np.array([2.0, 1.0, 0.0]) / 3
    cosines = np.array([2, 2, 1]) / 3 / np.linalg.norm(mean)
    assert np.allclose(SimilarityPenalty(2.0).appeal(np.zeros((1, 0)), question, appeal), 1 - 2 * cosines)
    for part in (PositionPenalty(0.5), SimilarityPenalty(2.0)):
        assert (part.appeal(np.zeros((1, 0)), question._replace(alone=True), appeal) == appeal).all()


def test_a_part_is_neutral():
    part, question, appeal = Part(), shown([[0, 4]], [[1, 0]]), np.array([[0.3, -np.inf]])
    own = part.start(ITEMS, np.zeros(1, dtype=np.int64), luck(1))
    assert own.shape == (1, 0) and part.update(own, question, luck(1)).shape == (1, 0) and not part.leaves(own).any()
    assert part.appeal(own, question, appeal) is appeal and part.worth(own, question, appeal, luck(1)) is appeal
    assert part.move(own, question, question.taste, luck(1)) is question.taste
