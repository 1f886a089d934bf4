"""Work shared out over processes: the same to the bit as by one, and what is said where it cannot be done."""

import csv
import os
import signal
import sys

import numpy as np
import pytest

import recgym
from agents import DDPG, EASE
from benchmarks import run
from recgym.errors import DataError, RecgymError
from recgym.evaluation import floors
from recgym.processes import in_processes, shares
from recgym.scorers import Uniform

SMALL = {"n_users": 60, "n_items": 40, "dim": 8}


def test_results_come_in_order_and_shares_cover_everything():
    here = os.getpid()
    assert in_processes(lambda number: (number**2, os.getpid() == here), 5, 2) == [(n * n, False) for n in range(5)]
    assert in_processes(lambda number: os.getpid(), 1, 8) == [here]  # one piece of work needs nobody else
    for n in range(7):
        for n_jobs in range(1, 9):
            parts = shares(n, n_jobs)
            assert [number for part in parts for number in part] == list(range(n)) and len(parts) <= n_jobs
            assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


def test_what_goes_wrong_in_a_process_is_said_here(monkeypatch):
    with pytest.raises(DataError, match="n_jobs must be an integer of at least 1, got 0"):
        in_processes(str, 3, 0)
    with pytest.raises(ZeroDivisionError):
        in_processes(lambda number: 1 // number, 3, 2)
    with pytest.raises(RecgymError, match="2 processes must live to the end of their work, got one that was killed"):
        in_processes(lambda number: os.kill(os.getpid(), signal.SIGKILL), 3, 2)
    with pytest.raises(RecgymError, match="n_jobs must be 1 where CUDA is in use, got 2"):
        monkeypatch.setattr(sys.modules["torch"].cuda, "is_initialized", lambda: True)
        in_processes(str, 3, 2)


@pytest.fixture(scope="module")
def parts():
    log = recgym.datasets.load("synthetic", n_users=60, n_items=40)
    train, test = log.split_users(test_size=0.5)
    return train, test, recgym.embeddings.svd(train, dim=8)


@pytest.mark.parametrize("learner", [True, False])
def test_rankings_and_sessions_are_equal_to_the_bit(parts, learner):
    train, test, catalog = parts
    scorer = DDPG(catalog, seed=3, device="cpu") if learner else EASE.fit(train)
    for options in ({}, {"n_negatives": 9}, {"n_last": 1, "repeats": "ask"}):
        one, many = (recgym.evaluate_ranking(scorer, test, batch_size=32, n_jobs=n, **options) for n in (1, 3))
        assert one.totals == many.totals and one.protocol == many.protocol
        for metric, values in one.by_question.items():
            np.testing.assert_array_equal(values, many.by_question[metric])
    env = recgym.RecVectorEnv(
        8,
        users=recgym.users.ReplayUsers(test, 10, clicks="position", attraction=0.5),
        catalog=catalog,
        action="item",
        observation="history",
        autoreset_mode="Disabled",
    )
    one, many = (recgym.evaluate_sessions(scorer, env, n_sessions=41, seed=5, n_jobs=n) for n in (1, 3))
    np.testing.assert_array_equal(one.items, many.items)
    np.testing.assert_array_equal(one.returns, many.returns)
    np.testing.assert_array_equal(one.users, many.users)
    with pytest.raises(DataError, match="NaN"):
        recgym.evaluate_ranking(lambda history: np.full((len(history.items), 40), np.nan), test, n_jobs=2)


def test_comparisons_and_floors_are_equal_to_the_bit():
    def odd(history):
        return np.broadcast_to(np.arange(40) % 7, (len(history.items), 40))

    chance = Uniform(np.arange(40), reward="raw")
    for policy in ("greedy", chance):
        chance._random = np.random.default_rng(0)  # whose answers go on where they were
        one = recgym.compare(odd, policy, "recgym/Boredom-v0", n_users=20, num_envs=4, options=SMALL)
        chance._random = np.random.default_rng(0)
        many = recgym.compare(odd, policy, "recgym/Boredom-v0", n_users=20, num_envs=4, options=SMALL, n_jobs=3)
        np.testing.assert_array_equal(one.a, many.a)
        np.testing.assert_array_equal(one.b, many.b)
        assert one.difference == many.difference and one.a.std() > 0
    only = ("random", "popularity", "greedy", "rotating")
    played = [floors.measure("recgym/Boredom-v0", n_sessions=30, only=only, n_jobs=n, **SMALL) for n in (1, 2)]
    assert played[0] == played[1] and {*only, "planning"} == {floor.policy for floor in played[0]}


def test_benchmark_rows_do_not_depend_on_the_number_of_processes(tmp_path):
    rows = []
    for n_jobs in ("1", "2"):
        asked = ["--suite", "quickstart", "--smoke", "--rows", "popularity,ease", "--n-jobs", n_jobs]
        run.main([*asked, "--out", str(tmp_path / n_jobs)])
        with next((tmp_path / n_jobs).glob("*.csv")).open() as file:
            names = ("agent", "metric", "value", "low", "high", "key")
            rows.append([[row[name] for name in names] for row in csv.DictReader(file)])
    assert rows[0] == rows[1] and len(rows[0]) > 4
