"""Answers known by hand in worlds of a few items, where planted faults in users, sessions and floors survived."""

import numpy as np
import pytest
from conftest import make_catalog, make_log
from test_learned_users import hand_made

from recgym.catalog import Catalog
from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation import floors, planning
from recgym.evaluation.evaluate import SessionReturns
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users import DRRUsers, ReplayUsers, SimulatedUsers, assortment
from recgym.users.behaviours.base import Items, Luck, Part, Shown
from recgym.users.behaviours.boredom import Boredom
from recgym.users.behaviours.choice import PositionBased
from recgym.users.behaviours.influence import Influence
from recgym.users.behaviours.patience import Patience
from recgym.users.behaviours.penalties import SimilarityPenalty
from recgym.users.behaviours.ratings import Ratings
from recgym.users.behaviours.watching import WatchBudget

ONE = Luck(RowRandom.from_seeds([0]), slice(None), 5)


def certain(n_items, parts=(), n_users=1, **options):
    """Users who answer whatever they are shown, with an environment's options."""
    items = Items.of(np.ones((n_items, 1)), np.arange(n_items) % 2, np.arange(n_items, dtype=float))
    users = SimulatedUsers(items, np.ones((n_users, 1)), PositionBased(decay=1.0), parts, slope=60.0)
    catalog = Catalog(np.arange(1.0, n_items + 1)[:, None], users.item_ids, "raw")
    return {"users": users, "catalog": catalog, "frame_size": 1, "action": "item", **options}


def test_a_session_ends_before_a_slate_cannot_be_filled():
    """Of five items slates of two can be shown twice: one is left then, and no slate of two."""
    env = RecEnv(**certain(5, k=2, horizon=9))
    env.reset(seed=0)
    assert env.step([0, 1])[3] is False and env.step([2, 3])[3] is True
    env = RecEnv(**certain(4, k=2, horizon=9))  # of four, all are shown
    env.reset(seed=0)
    assert [env.step(slate)[3] for slate in ([0, 1], [2, 3])] == [False, True]


def test_frames_count_where_items_run_out():
    """Seven items, horizon 2, slates of 2, frames of 2 from the log: 2 + 4 shown, one left, although 2 * 2 < 7."""
    log = InteractionLog.from_events([0] * 7 + [1] * 7, [*range(7)] * 2, [1.0] * 14)
    users = ReplayUsers(log, 2, advance="log")
    env = RecEnv(users=users, catalog=Catalog(np.eye(7), log.item_ids), frame_size=2, k=2, action="item", horizon=3)
    env.reset(seed=0)  # 0 and 1 are in the frame, and 2 enters whatever is shown
    assert not env.step([5, 6])[3]
    assert set(np.flatnonzero(env.action_masks())) == {3, 4}
    assert env.step([3, 4])[3]


def test_who_leaves_at_the_horizon_has_left():
    class Gone(Part):
        def leaves(self, own):
            return np.ones(len(own), dtype=bool)

    env = RecEnv(**certain(3, (Gone(),), horizon=1))
    env.reset(seed=0)
    assert env.step(0)[2:4] == (True, False)


def test_budgets_and_patience_end_exactly():
    assert WatchBudget().leaves(np.array([[0.0], [1e-9]])).tolist() == [True, False]
    assert Patience().leaves(np.array([[1.0], [0.999]])).tolist() == [False, True]
    worth = WatchBudget(length=4.0).worth(np.array([[3.0], [-1.0]]), None, np.ones((2, 2)), None)
    assert worth.tolist() == [[3.0, 3.0], [0.0, 0.0]]  # no more minutes than are left


def test_the_last_part_that_pays_says_the_range():
    users = certain(3, (WatchBudget(length=4.0), Ratings(low=1.0, high=5.0)))["users"]
    assert users.reward_range == (1.0, 5.0)


def test_empty_places_are_never_answered():
    env = RecVectorEnv(1, **certain(3, k=2, repeats="allow", horizon=3))
    env.reset(seed=0)
    env._sessions.state, response = env.users.respond(
        env._sessions.random, slice(None), env.user_state, np.array([[3, 1]])
    )
    assert response.answered.tolist() == [[False, True]]


@pytest.mark.parametrize(("repeats", "may"), [("mask", False), ("zero", True), ("allow", True)])
def test_few_items_do_where_frames_do_not_block(repeats, may):
    """Three items and frames of ten, padded; only where what stood in a frame is blocked are they too few."""
    log = InteractionLog.from_events([0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, [1.0] * 6)
    users = ReplayUsers(log, 10, min_history=1)
    given = {"users": users, "catalog": Catalog(np.eye(3), log.item_ids), "frame_size": 10, "action": "item"}
    if may:
        env = RecEnv(**given, repeats=repeats)
        env.reset(seed=0, options={"user": 0})
        assert env.step(1)[1] == 1.0 and env.step(1)[1] == (0.0 if repeats == "zero" else 1.0)
        with pytest.raises(DataError, match="n_items must be at least k = 4, got 3; lower k"):
            RecEnv(**given, repeats=repeats, k=4)
    else:
        with pytest.raises(
            DataError, match=r"n_items must be at least frame_size \+ k = 11, got 3; lower frame_size or k"
        ):
            RecEnv(**given, repeats=repeats)


# -- floors ------------------------------------------------------------------------------------------------------------


def returns(values):
    return SessionReturns({"session_return": np.asarray(values, dtype=float)}, {}, np.arange(len(values)), "by hand")


def test_item_means_are_damped_by_five_events():
    """Rewards 1 and 0 of item a, 1 of item b; the mean of all is 2/3: (1 + 10/3) / 7 and (1 + 10/3) / 6."""
    log = InteractionLog.from_events([0, 1, 2], ["a", "a", "b"], [1.0, 0.0, 1.0])
    ranking = floors._item_means(log)
    from recgym.frames import History

    scores = ranking.scores(History(np.array([[2]]), np.zeros((1, 1)), np.array([0])))[0]
    assert scores[0] / scores[1] == pytest.approx((1 + 10 / 3) / 7 / ((1 + 10 / 3) / 6), rel=1e-6)


def test_the_verdict_says_how_far_one_list_for_everyone_goes():
    """Chance 2, the item mean 5, greed 6: three quarters."""
    rows = [
        floors.Floor("x", name, mean, mean, mean, 9) for name, mean in (("random", 2), ("item mean", 5), ("greedy", 6))
    ]
    said = "; the same list for everyone, best items first, earns 75 % of what greed does above chance"
    assert floors.verdict(rows) == f"whether planning pays was not measured{said}"
    assert floors.verdict(rows[::2]) == "whether planning pays was not measured"


def test_the_best_of_several_has_a_wider_interval():
    """Bonferroni: of two policies beside greed the interval is of 97.5 %, of one alone of 95 %."""
    random = np.random.default_rng(0)
    base = random.normal(size=400)
    found = {"greedy": returns(base), "rotating": returns(base + random.normal(0.1, 1.0, 400))}
    one = floors._planning("x", found, "", False)[0]
    two = floors._planning("x", {**found, "quality": returns(base - 9.0)}, "", False)[0]
    assert one.mean == two.mean and two.high - two.low > 1.05 * (one.high - one.low)


def test_nobody_is_played_more_often_than_asked():
    rows = floors.measure("recgym/Boredom-v0", plan=False, n_sessions=500, only=("random",), n_users=12, n_items=30)
    assert rows[0].n_people == 6 and rows[0].n_sessions == 24  # luck: four visits each
    few = floors.measure("recgym/Boredom-v0", plan=False, n_sessions=7, only=("random",), n_users=60, n_items=30)
    assert few[0].n_sessions == 7


# -- planning ----------------------------------------------------------------------------------------------------------


def planned(users, catalog, n_rows=2, **options):
    fixed = {"action": "item", "observation": "history", "autoreset_mode": "Disabled", "frame_size": 1}
    return RecVectorEnv(n_rows, users=users, catalog=catalog, **fixed, **options)


class Poison(Part):
    """Items of topic 1 earn 1 each; after one of topic 0, worth 1.5, a user leaves."""

    bounds = (0.0, 2.0)

    def start(self, items, users, luck):
        return np.zeros((len(users), 1))

    def worth(self, own, shown, worth, luck):
        return np.where(shown.topic == 0, 1.5, 1.0) + 0.0 * worth

    def update(self, own, shown, luck):
        return own + ((shown.topic == 0) & shown.answered).any(axis=1, keepdims=True)

    def leaves(self, own):
        return own[:, 0] > 0


def test_a_planner_counts_nothing_after_who_has_left_nor_after_the_end():
    """By hand: now 1.5 and gone; or 1 each until the end. The horizon decides, and who is gone earns no more."""
    given = certain(4, (Poison(),), 2)
    for horizon, best in ((1, 0), (2, 1), (4, 1)):
        env = planned(given["users"], given["catalog"], horizon=horizon, repeats="allow")
        env.reset(seed=0)
        scores = planning.planner(env, planning.Imagined(n_items=4, depth=6, n_futures=2))(None)
        assert (scores.argmax(axis=1) % 2 == best).all()
    env = planned(given["users"], given["catalog"], horizon=3, repeats="allow")
    env.reset(seed=0)
    env.step(np.array([1, 1]))
    env.step(np.array([3, 3]))  # one step is left: the bait earns more
    assert (planning.planner(env, planning.Imagined(4, 6, 2))(None).argmax(axis=1) % 2 == 0).all()


def test_misses_that_cost_are_counted_in_thought_but_not_at_empty_places():
    """A slate of two under "zero": what was shown is an empty place, which costs nothing where a miss costs 1."""
    items = Items.of(np.array([[1.0], [-1.0], [-1.0]]))
    users = SimulatedUsers(items, np.ones((1, 1)), PositionBased(decay=1.0), slope=60.0)
    catalog = Catalog(np.array([[3.0], [2.0], [1.0]]), users.item_ids, "raw")
    env = planned(users, catalog, 1, k=1, horizon=3, miss_reward=-1.0, repeats="zero")
    env.reset(seed=0)
    values = planning._futures(
        env, RowRandom.from_seeds([0, 1]), type(env.user_state)(*(np.repeat(p, 2, axis=0) for p in env.user_state)),
        np.repeat(env.shown, 2, axis=0), np.array([[0], [1]]), planning.Imagined(3, 3, 1),
    )  # fmt: skip
    assert values.tolist() == pytest.approx(
        [1.0, 0.0]
    )  # the good one and then nothing; a miss first, then the good one


@pytest.mark.parametrize(("clicks", "shown"), [(None, {0, 1}), ("cascade", {0, 1})])
def test_a_poor_answer_is_shown_where_a_miss_is_worse(clicks, shown):
    """Items 0 and 1 are worth -0.5, and a miss costs 1: a slate of two shows both, not two misses."""
    log = InteractionLog.from_events([0] * 5, [4, 0, 1, 5, 6], [0.0, -0.5, -0.5, -2.0, -2.0])
    users = ReplayUsers(log, 1, clicks=clicks, attraction=0.9 if clicks else 1.0)
    n_items = log.n_items  # 4, 0, 1, 5, 6 and nothing else
    state, _ = users.start(RowRandom.from_seeds([0]), slice(None), 1)
    items = np.arange(n_items)[None]
    found = users.best_slates(state, items, 2, -1.0)
    assert {int(log.item_ids[column]) for column in found[0]} == shown


def test_liked_candidates_are_hidden_where_misses_earn_more():
    """A miss that earns 2 is better than a like that earns 1: the slate leaves the liked ones out."""
    log = make_log()
    users = DRRUsers(log, 5, known=log, n_candidates=24, share=0.5)
    state, _ = users.start(RowRandom.from_seeds([0]), slice(None), 5)
    for miss_reward, liked in ((0.0, True), (2.0, False)):
        columns = users.best_slates(state, state.shown, 2, miss_reward)
        found = np.isin(np.take_along_axis(state.shown, columns, axis=1), state.liked)
        assert (found == liked).all()


@pytest.mark.parametrize("law", [assortment.by_place, assortment.in_cascade])
def test_what_is_not_offered_leaves_a_place_empty(law):
    """Of three items one is offered: it stands on top, and no column, 3, in the second place."""
    chance, gain = np.array([[0.9, 0.5, 0.8]]), np.ones((1, 3))
    assert law(chance, gain, np.array([[False, True, False]]), 2).tolist() == [[1, 3]]
    assert assortment.by_first(gain, np.array([[False, True, False]]), 2).tolist() == [[1, 3]]
    share = assortment.by_share(chance, np.ones((1, 1)), gain, np.array([[False, True, False]]), 2)
    assert share.tolist() == [[1, 3]]


def test_boredom_begins_anew_and_does_not_add_up():
    """Bored for 3 slates of a topic, and bored again at the next: 3 slates are left, not 5."""
    part = Boredom(limit=1, window=9, lasts=3)
    items = Items.of(np.ones((2, 1)), [0, 1])
    own = part.start(items, np.zeros(1, dtype=np.int64), ONE)
    slate = np.array([[0]])
    said = {"vectors": np.ones((1, 1, 1)), "topic": items.topic[slate], "quality": np.zeros((1, 1))}
    shown = Shown(np.zeros(1), np.ones((1, 1)), slate, slate < 2, answered=slate == 0, worth=np.ones((1, 1)), **said)
    left = []
    for answered in (True, True, False, False, False):
        own = part.update(own, shown._replace(answered=np.array([[answered]])), ONE)
        left.append(own[0, -2:].tolist())
    assert left == [[3, 0], [3, 0], [2, 0], [1, 0], [0, 0]]
    assert [bar.value.tolist() for bar in part.story(own)] == [[0.0], [0]]


def test_one_item_is_like_nobody_and_who_answers_nothing_stays_the_same():
    """A slate of one item and an empty place has no penalty of likeness; taste moves by answers alone, to the bit."""
    items = Items.of(np.eye(3), [0, 1, 2])
    slate = np.array([[0, 3]])
    said = {"vectors": items.vectors[slate], "topic": items.topic[slate], "quality": np.zeros((1, 2))}
    taste = np.array([[0.1, 0.2, 0.7]])
    shown = Shown(np.zeros(1), taste, slate, slate < 3, answered=slate > 9, worth=np.ones((1, 2)), **said)
    appeal = np.array([[0.3, -np.inf]])
    assert SimilarityPenalty(2.0).appeal(np.zeros((1, 0)), shown, appeal).tolist() == appeal.tolist()
    assert Influence(0.9).move(np.zeros((1, 0)), shown, taste, ONE).tolist() == taste.tolist()


def test_who_knows_more_than_half_opens_no_session():
    """Of 40 items; the people of the log have 14, 18, 9, 25, 30 and 12."""
    log = make_log()
    assert hand_made(log).knowing(log).servable.tolist() == [0, 1, 2, 5]


def test_what_an_answer_is_worth_where_the_lowest_level_is_a_miss():
    """Levels -0.5 (a miss), 0 and 1: an item earns P(1), and is answered with probability 1 - P(-0.5)."""
    log = make_log()
    model = hand_made(log, misses=True)
    state, _ = model.start(RowRandom.from_seeds([0, 1]), slice(None), 5, np.array([0, 3]))
    items = np.tile(np.arange(40), (2, 1))
    chance, worth = model.expected_answers(state, items)
    levels = model.probabilities(np.array([0, 3]), items)  # (2, 40, 3)
    assert np.allclose(chance, 1.0 - levels[..., 0], atol=1e-6)
    assert np.allclose(chance * worth, levels[..., 2], atol=1e-5)
    assert np.allclose(model.expected_rewards(state, items), levels[..., 2], atol=1e-5)


def test_greed_is_not_the_ceiling_where_misses_cost():
    users = ReplayUsers(make_log(), 5)
    for miss_reward, best in ((0.0, True), (-0.5, False)):
        env = RecVectorEnv(1, users=users, catalog=make_catalog(), frame_size=5, action="item", miss_reward=miss_reward)
        assert planning.greed_is_best(env) is best
