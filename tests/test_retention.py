"""Days away that depend on what visits were worth: the part by hand, what is told and measured, and who stays."""

import numpy as np
import pytest
from scipy import stats

from recgym import evaluate_sessions
from recgym.envs.registry import make_vector_env
from recgym.evaluation import planning
from recgym.rng import RowRandom
from recgym.users.behaviours.base import Items, Luck, Shown
from recgym.users.behaviours.returning import Retention

ITEMS = Items.of(np.eye(2), None, [2.0, -1.0])
OPTIONS = {"world": "retention", "k": 3, "repeats": "allow", "horizon": 150, "days": 30, "n_users": 200, "n_items": 60}
PLAYED = {"action": "item", "observation": "history", "autoreset_mode": "Disabled", "split": "test", "test_size": 0.5}


def shown(item, answered, n):
    slate = np.full((n, 1), item)
    return Shown(
        user=np.zeros(n, dtype=np.int64),
        taste=np.zeros((n, 2)),
        slate=slate,
        real=slate < 2,
        vectors=ITEMS.vectors[slate],
        topic=ITEMS.topic[slate],
        quality=ITEMS.quality[slate],
        answered=np.full((n, 1), answered),
        worth=np.ones((n, 1)),
    )


def after(part, answers, n):
    own = part.start(ITEMS, np.zeros(n, dtype=np.int64), None)
    random = RowRandom.from_seeds(list(range(n)))
    for step, (item, answered) in enumerate(answers):
        random.step[:] = step
        own = part.update(own, shown(item, answered, n), Luck(random, slice(None), 4))
    return own


def test_days_away_are_geometric_by_the_worth_of_the_visit():
    part, n = Retention(visit=2, base=-0.5, weight=1.0, most=10), 4_000
    midway = part.told(after(part, [(0, True)], 3))
    assert not midway["visit_over"].any() and (midway["day"] == 0).all()
    own = after(part, [(0, True), (1, True)], n)
    success = 1 / (1 + np.exp(-(-0.5 + (2.0 - 1.0) / 2)))
    days = part.told(own)["days_away"]
    expected = stats.geom(success).pmf(np.arange(1, 10))
    seen = np.array([(days == day).mean() for day in range(1, 10)])
    assert np.abs(seen - expected).max() < 4 * np.sqrt(0.25 / n)
    assert np.array_equal(part.told(own)["day"], days) and part.told(own)["visit_over"].all()
    assert np.array_equal(part.leaves(own), days >= 10)
    missed = part.told(after(part, [(0, False), (1, False)], n))["days_away"]
    assert (missed == 1).mean() == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.04)  # nothing answered is worth 0


def test_sessions_are_measured_as_they_are_told():
    env = make_vector_env(20, **OPTIONS, **PLAYED)
    policy = planning.satisfying(env)
    found = evaluate_sessions(policy, env, n_sessions=20, seed=4)
    env.reset(seed=0)
    away, alive = [[] for _ in range(20)], np.ones(20, bool)
    while alive.any():
        slates = np.argsort(-policy(None), axis=1, kind="stable")[:, :3]
        _, _, terminated, truncated, infos = env.step(slates)
        for row in np.flatnonzero(alive & infos["visit_over"]):
            away[row].append(infos["days_away"][row])
        alive &= ~(terminated | truncated)
        if not alive.all() and alive.any():
            env.reset(options={"reset_mask": ~alive})
    means = np.array([np.mean(row) for row in away])
    assert abs(found.values["return_days"].mean() - means.mean()) < 4 * means.std() / 20**0.5 + 0.05
    assert ((found.values["retention@1"] >= 0) & (found.values["retention@1"] <= 1)).all()
    assert (found.values["return_days"] >= 1).all()


def test_who_is_baited_stays_away_and_who_is_pleased_comes_back():
    env = make_vector_env(32, **OPTIONS, **PLAYED)
    greedy, pleased = (
        evaluate_sessions(policy, env, n_sessions=32, seed=2)
        for policy in (planning.greedy(env), planning.satisfying(env))
    )
    assert pleased.difference(greedy, "session_return").low > 0.5 * np.mean(greedy.returns)
    assert pleased.difference(greedy, "return_days").high < -1.0
    per_step = [one.returns.sum() / one.lengths.sum() for one in (greedy, pleased)]
    assert per_step[0] > per_step[1]  # greed answers more of what it shows
