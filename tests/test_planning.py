import numpy as np
import pytest

import recgym
from recgym.envs.registry import KINDS, make_vector_env, registered
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_sessions
from recgym.evaluation.floors import Floor, _quality_counts, measure, read, stored, verdict, write
from recgym.evaluation.planning import Imagined, greedy, planner, rotating
from recgym.scorers import Uniform

TINY = {"n_users": 60, "n_items": 20}
SIMULATED = [name for kind in KINDS if not kind.datasets for name in kind.ids()]


def env_of(env_id, n=8, **options):
    given = registered(env_id) | {**TINY, **options}
    return make_vector_env(n, **given, action="item", observation="history", autoreset_mode="Disabled")


def earn(policy, env, n_sessions=16):
    return evaluate_sessions(policy, env, n_sessions=n_sessions, seed=1).returns


def test_greedy_shows_the_best_of_the_next_step():
    env = env_of("recgym/Boredom-v0")
    env.reset(seed=0)
    worth = env.users.expected_rewards(env.user_state, np.tile(np.arange(20), (8, 1)))
    assert (greedy(env)(None) == worth).all()


def test_planning_pays_where_it_should():
    env = env_of("recgym/LongTermSatisfaction-v0", horizon=20)
    assert earn(planner(env, Imagined(6, 6, 2)), env).mean() > 2 * earn(greedy(env), env).mean()
    bored = env_of("recgym/Boredom-v0", n_items=100)
    assert earn(rotating(bored), bored).mean() > earn(greedy(bored), bored).mean() + 2


@pytest.mark.parametrize(("setting", "bait", "last"), [("recgym", 0.0, 3), ("recsim", 1.0, 0)])
def test_no_policy_of_long_term_satisfaction_beats_the_best_constant_one_before_its_end(setting, bait, last):
    # Dynamic programming over the exposure by the equations of RecSim's section 6, not by the world's code.
    sensitivity, deviation = {"recgym": (0.3, 0.1), "recsim": (0.01, 1.0)}[setting]
    exposure, baits, value = np.linspace(-4, 4, 401), np.linspace(0, 1, 11), np.zeros(401)
    mean = (5 * baits + 4 * (1 - baits)) / (1 + np.exp(-sensitivity * exposure[:, None]))
    later = 0.7 * exposure[:, None] - 2 * (baits - 0.5)
    for left in range(1, 61):  # steps to go
        worth = np.exp(mean + deviation**2 / 2) + np.interp(later, exposure, value)
        value = worth.max(axis=1)
        if left > last:  # whatever the exposure: what is worth most does not depend on the state
            assert (baits[worth.argmax(axis=1)] == bait).all()


def test_a_planner_that_sees_one_step_is_greedy():
    env = env_of("recgym/LongTermSatisfaction-v0", horizon=5)
    short = earn(planner(env, Imagined(n_items=6, depth=1, n_futures=2)), env, 8)
    assert np.allclose(short, earn(greedy(env), env, 8))


def test_floors_of_a_small_world():
    floors = measure("recgym/LongTermSatisfaction-v0", n_sessions=8, horizon=10, **TINY)
    by_policy = {floor.policy: floor for floor in floors}
    assert list(by_policy) == ["random", "popularity", "greedy", "quality", "planner", "planning"]
    assert by_policy["planner"].mean > by_policy["greedy"].mean and "planning pays" in verdict(floors)
    gap = by_policy["planning"]
    assert gap.low <= gap.mean <= gap.high and gap.mean == pytest.approx(
        by_policy["planner"].mean - by_policy["greedy"].mean, rel=0.01
    )


def test_floors_are_kept_and_replaced(tmp_path):
    path = tmp_path / "floors.csv"
    write([Floor("b", "random", 1.0, 0.5, 1.5, 8), Floor("a", "random", 2.0, 1.0, 3.0, 8)], path)
    write([Floor("b", "greedy", 4.0, 3.0, 5.0, 9)], path)
    assert read(path) == [Floor("a", "random", 2.0, 1.0, 3.0, 8), Floor("b", "greedy", 4.0, 3.0, 5.0, 9)]
    assert read(tmp_path / "none.csv") == []


def test_verdicts():
    assert "was not measured" in verdict([])
    assert "does not pay" in verdict([Floor("a", "planning", 1.0, -0.5, 2.0, 8)])
    assert "no answer depends" not in verdict([Floor("a", "planning", 0.0, 0.0, 0.0, 8)])  # no difference by chance


def test_slates_are_what_greed_and_the_ceiling_of_the_slate_world_are_measured_with():
    """An independent search over slates of three, forty lines, earned 89.5 [85.7, 93.4]; items ranked alone 72.0."""
    kept = {floor.policy: floor for floor in stored("recgym/Slate-v1")}
    assert kept["greedy"].mean > 86 and kept["greedy"].low > 80
    assert max(floor.mean for name, floor in kept.items() if name != "planning") >= kept["greedy"].mean
    assert kept["greedy"].n_people >= 100 and kept["greedy"].known_to < 0.05


def test_rows_say_how_well_they_are_known_and_older_files_are_read(tmp_path):
    floor = Floor("a", "random", 10.0, 9.0, 11.0, 8, 4, "half of the people held out")
    assert floor.known_to == pytest.approx(0.1)
    write([floor], tmp_path / "new.csv")
    assert read(tmp_path / "new.csv") == [floor]
    (tmp_path / "old.csv").write_text("env_id,policy,mean,low,high,n\na,random,1.0,0.5,1.5,8\n")
    assert read(tmp_path / "old.csv") == [Floor("a", "random", 1.0, 0.5, 1.5, 8, 0, "")]


def test_quality_is_a_row_only_where_it_plays_a_part():
    ids = ("recgym/Boredom-v0", "recgym/Slate-v1", "recgym/Drift-v0", "recgym/LongTermSatisfaction-v0")
    assert [_quality_counts(env_of(env_id).users) for env_id in ids] == [False, False, True, True]


@pytest.mark.parametrize("env_id", SIMULATED)
def test_every_simulated_id_has_floors(env_id):
    kept = {floor.policy: floor for floor in stored(env_id)}
    assert {"random", "popularity", "greedy"} <= set(kept)
    if registered(env_id).get("k", 1) == 1:  # of slates, no ceiling and no verdict that was not measured with slates
        assert {"planner", "planning"} <= set(kept)
    assert max(floor.mean for name, floor in kept.items() if name != "planning") > kept["random"].high


def test_planning_pays_in_at_least_two_ids():
    gaps = [floor for name in SIMULATED for floor in stored(name) if floor.policy == "planning"]
    assert sum(gap.low > 0 for gap in gaps) >= 2


def test_interest_evolution_earns_what_recsim_measured():
    """RecSim with 10 candidates and slates of 2: random 154.2, matching 165.2, quality 290.2; s.e. 1.0, 2.1, 4.3."""
    env = make_vector_env(
        64, **registered("recgym/InterestEvolution-v1"), split="all",
        action="item", observation="history", autoreset_mode="Disabled",
    )  # fmt: skip
    means = np.concatenate([np.linspace(-3, 0, 14), np.linspace(0, 3, 6)])[env.users.items.topic[:-1]]
    vectors = env.users.items.vectors[:-1]
    policies = {
        (154.2, 1.0): Uniform(env.catalog.item_ids, 0, "raw"),
        (165.2, 2.1): lambda history: env.user_state.taste @ vectors.T,
        (290.2, 4.3): lambda history: np.broadcast_to(means, (len(history.items), len(means))),
    }
    for (theirs, error), policy in policies.items():
        ours = evaluate_sessions(policy, env, n_sessions=300, seed=2).returns
        spread = (error**2 + ours.var() / len(ours)) ** 0.5
        assert abs(ours.mean() - theirs) < 2 * spread


def test_compare_pairs_sessions_by_user_and_luck():
    def low(history):
        return np.broadcast_to(-np.arange(20.0), (len(history.items), 20))

    options = {**TINY, "n_users": 100}
    same = recgym.compare(low, low, "recgym/Drift-v0", n_users=40, options=options)
    assert (same.a == same.b).all() and same.difference.mean == 0 and same.variance_reduction == np.inf
    few = recgym.compare(low, lambda history: -low(history), "recgym/Drift-v0", n_users=40, num_envs=3, options=options)
    many = recgym.compare(
        low, lambda history: -low(history), "recgym/Drift-v0", n_users=40, num_envs=64, options=options
    )
    assert (few.a == many.a).all() and (few.b == many.b).all()
    assert "paired sessions" in str(many)


def test_common_luck_narrows_the_difference_of_like_policies():
    """A policy against itself with one item in fifty swapped: pairs agree where independent runs would not."""
    options = {"n_items": 100}
    order = -np.arange(100.0)
    other = order.copy()
    other[[3, 40]] = other[[40, 3]]

    def fixed(scores):
        return lambda history: np.broadcast_to(scores, (len(history.items), len(scores)))

    paired = recgym.compare(fixed(order), fixed(other), "recgym/Boredom-v0", n_users=200, seed=1, options=options)
    apart = recgym.compare(fixed(order), fixed(other), "recgym/Boredom-v0", n_users=200, seed=2, options=options)
    independent = np.var(paired.a - apart.b)  # the same users, luck of another seed
    assert independent > 1.5 * np.var(paired.a - paired.b) and paired.variance_reduction > 1.5


def test_compare_refuses_what_it_chooses_itself():
    with pytest.raises(DataError, match=r"compare chooses action, .*, got \['action'\]; leave them out"):
        recgym.compare(None, None, "recgym/Drift-v0", options={"action": "item"})
    with pytest.raises(DataError, match=r"an id must be one of .*, got 'recgym/Nothing-v0'"):
        recgym.compare(None, None, "recgym/Nothing-v0")
