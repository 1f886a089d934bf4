"""Floors and ceilings of every id, and the truth about users that makes them."""

from itertools import product

import numpy as np
import pytest
from conftest import make_catalog, make_log
from kinds import DATASET_OF, KIND_OF, data_of

import recgym
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError, MissingDataError
from recgym.evaluation.evaluate import evaluate_sessions
from recgym.evaluation.floors import Floor, measure, stored, verdict
from recgym.evaluation.planning import Imagined, greedy, planner
from recgym.rng import RowRandom
from recgym.users import DRRUsers, PlaylistUsers, ReplayUsers

EVERY = np.arange(41)  # items of the toy catalog, and an empty place
LOGGED = [env_id for env_id in KIND_OF if DATASET_OF[env_id] and KIND_OF[env_id] != "Sim"]
MEMORYLESS = [env_id for env_id in LOGGED if KIND_OF[env_id] != "Playlist"]
HERE = [env_id for env_id in LOGGED if data_of(env_id) == "Synthetic"]


def made(kind, **options):
    log = make_log()
    if kind == "playlist":
        return PlaylistUsers(log, make_catalog().embeddings, 5, **options)
    if kind == "drr":
        return DRRUsers(log, 5, known=log, n_candidates=24, share=0.5, **options)  # one user likes fewer than 12
    return ReplayUsers(log, 5, advance=kind, **options)


def serving(users, n=6, **options):
    fixed = {"action": "item", "observation": "history", "autoreset_mode": "Disabled", "frame_size": 5}
    return RecVectorEnv(n, users=users, catalog=make_catalog(), **fixed, **options)


def earned(users, state, item, n_rows):
    """What a slate of one item earns, in the mean over luck, of every row (B,)."""
    total = np.zeros(n_rows)
    for seed in range(n_lucks := 200 if getattr(users, "clicks", None) else 1):
        random = RowRandom.from_seeds(range(seed * n_rows, (seed + 1) * n_rows))
        _, response = users.respond(random, slice(None), state, np.full((n_rows, 1), item))
        total += (response.rewards * response.answered)[:, 0]
    return total / n_lucks


@pytest.mark.parametrize("kind", ["answer", "log", "drr", "playlist"])
@pytest.mark.parametrize("options", [{}, {"clicks": "position", "attraction": 0.6}])
def test_expected_rewards_are_what_answers_earn(kind, options):
    users = made(kind, **options)
    env = serving(users)
    env.reset(seed=3)
    for step in range(3):
        state = env.user_state
        expected = users.expected_rewards(state, np.tile(EVERY, (6, 1)))
        assert expected.shape == (6, 41) and not expected[:, -1].any() and expected.any()
        for item in (0, 7, 20, 39, *(np.unique(expected[:, :-1].argmax(axis=1)))):
            slack = 0.12 if options else 1e-5
            assert np.allclose(expected[:, item], earned(users, state, item, 6), atol=slack), (step, item)
        env.step(expected[:, :-1].argmax(axis=1))


def test_an_item_that_stands_twice_is_worth_its_latest_event():
    log = recgym.InteractionLog.from_events([0] * 5, [0, 1, 2, 3, 1], [1, 2, 3, 4, 5])
    users = ReplayUsers(log, 1)
    state, _ = users.start(RowRandom.from_seeds([0]), slice(None), 1)
    assert users.expected_rewards(state, np.array([[1, 0, 2]])).tolist() == [[5.0, 0.0, 3.0]]


@pytest.mark.parametrize("kind", ["answer", "log", "drr"])
def test_no_two_items_earn_more_than_greed_where_users_are_memoryless(kind):
    users = made(kind)
    env = serving(users, horizon=2)
    assert users.memoryless
    best = evaluate_sessions(greedy(env), env, seed=0).returns
    most = np.full(len(best), -np.inf)
    every = [(a, b) for a, b in product(range(40), repeat=2) if a != b]
    for pair in every[:: 7 if kind == "drr" else 1]:

        def fixed(history, pair=pair):
            scores = np.zeros((len(history.items), 40))
            scores[:, list(pair)] = 2.0, 1.0
            return scores

        most = np.maximum(most, evaluate_sessions(fixed, env, seed=0).returns)
    assert (most <= best + 1e-6).all() and (kind == "drr" or np.allclose(most, best))


def test_planning_pays_with_playlists():
    env = serving(made("playlist", min_history=5), n=6, horizon=8)
    plan, greed = (evaluate_sessions(p, env, seed=2).returns for p in (planner(env, Imagined(8, 4, 1)), greedy(env)))
    assert plan.mean() > greed.mean()


def test_verdict_where_users_are_memoryless():
    floors = measure("recgym/Synthetic-DRR-v1", n_sessions=8, n_users=80, n_items=60, dim=4)
    assert [floor.policy for floor in floors] == ["random", "popularity", "greedy", "planning"]
    assert floors[-1] == Floor("recgym/Synthetic-DRR-v1", "planning", 0.0, 0.0, 0.0, 8, 8, "greed is the best there is")
    assert "planning does not pay: no answer depends on what was shown before" in verdict(floors)


@pytest.mark.parametrize("env_id", [env_id for env_id in LOGGED if data_of(env_id) != "Table"])
def test_every_id_of_a_log_has_floors_where_its_data_is_here(env_id):
    kept = {floor.policy: floor for floor in stored(env_id)}
    if not kept:
        try:
            recgym.datasets.load(DATASET_OF[env_id])
        except MissingDataError:
            pytest.skip(f"the data of {DATASET_OF[env_id]} is not on this machine, and never was")
    assert {"random", "popularity", "greedy", "planning"} <= set(kept)
    assert kept["greedy"].low > max(kept["random"].high, kept["popularity"].high)
    if env_id == "recgym/Synthetic-Session-v1":  # where people come back, popularity is no floor
        assert kept["recency"].low > kept["popularity"].high
    assert ("planner" in kept) == (KIND_OF[env_id] == "Playlist") == (kept["planning"].high > 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("env_id", [*HERE, *(env_id for env_id in KIND_OF if not DATASET_OF[env_id])])
def test_the_kept_floors_are_those_of_this_tree(env_id):
    """Two policies of each exactly, the quicker ones: what measures the others is the same code."""
    kept = {floor.policy: floor for floor in stored(env_id)}
    chosen = ("random", "popularity")
    for floor in measure(env_id, plan=False, only=chosen):
        assert floor.interval == pytest.approx(kept[floor.policy].interval, rel=1e-3, abs=1e-3), "recgym floors"
        assert floor[5:] == kept[floor.policy][5:]


@pytest.mark.parametrize("env_id", ["recgym/Synthetic-DRR-v1", "recgym/Boredom-v0", "recgym/LongTermSatisfaction-v0"])
def test_sessions_played_now_earn_what_the_kept_floors_say(env_id):
    kept = {floor.policy: floor for floor in stored(env_id)}
    for floor in measure(env_id, plan=False, n_sessions=64, only=("random", "popularity", "greedy", "rotating")):
        if floor.policy != "planning":
            error = np.hypot(floor.high - floor.low, kept[floor.policy].high - kept[floor.policy].low) / 3.92
            assert abs(floor.mean - kept[floor.policy].mean) < 4 * error, "python -m recgym floors"


def test_compare_with_what_knows_the_truth():
    options = {"n_users": 60, "n_items": 20, "horizon": 10}
    found = recgym.compare("planner", "greedy", "recgym/LongTermSatisfaction-v0", n_users=6, options=options)
    assert found.difference.low > 0
    with pytest.raises(
        DataError, match="a policy by name must be one of greedy, rotating, diverse, planner, got 'best'"
    ):
        recgym.compare("best", "greedy", "recgym/Boredom-v0", n_users=2, options=options)
    small = {"n_users": 60, "n_items": 40, "dim": 4}
    with pytest.raises(DataError, match="the policy 'rotating' needs users with items, got ReplayUsers, whose truth"):
        recgym.compare("rotating", "greedy", "recgym/Synthetic-Frame-v0", n_users=2, options=small)
