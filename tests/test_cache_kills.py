"""A cache build that is killed at any moment leaves nothing, or the whole entry; never a half one."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from recgym import datasets
from recgym.datasets import generator
from recgym.storage import cache, store

LOAD = """
import sys
from recgym import datasets
import duckdb, pandas, scipy, tqdm
from recgym.datasets import past_memory
options = {"memory_limit": "100MB"} if sys.argv[2] == "disk" else {}
print("ready", flush=True)
names = {"user": "userId", "item": "movieId", "reward": "rating", "time": "timestamp"}
log = datasets.load("table", path=sys.argv[1], **names, **options)
print(log.n_events, flush=True)
"""
NAMES = {"user": "userId", "item": "movieId", "reward": "rating", "time": "timestamp"}


def start(path, where):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", LOAD, str(path), where]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def survive(path, n_kills, where):
    """Kills a build n times, each at a random moment; returns how often nothing was there afterwards."""
    numbers, n_nothing = random.Random(7), 0
    begin = time.perf_counter()
    assert start(path, where).communicate(timeout=60)[0] == "200000\n"
    longest = time.perf_counter() - begin  # imports included: kills spread over all of the build and a little after
    expected = datasets.load("table", path=path, **NAMES)
    expected = {name: np.array(column) for name, column in expected.event_columns().items()}
    cache.clear()
    for _ in range(n_kills):
        process = start(path, where)
        time.sleep(numbers.uniform(0, longest / 2))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        listed = cache.entries()
        assert all(entry.problem == "" for entry in listed)
        for entry in listed:
            store.verify(entry.path)
        n_nothing += not listed
        datasets._opened.cache_clear()
        log = datasets.load("table", path=path, **NAMES)  # what the next process finds or makes
        for name, column in log.event_columns().items():
            np.testing.assert_array_equal(column, expected[name])
        cache.clear()
        assert os.listdir(cache.cache_dir() / "entries") == []
    return n_nothing


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    return generator.generate(tmp_path / "ratings.csv", 200_000)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_few_kills(where, path):
    survive(path, 2, where)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_twenty_five_kills_each(where, path):
    assert 3 <= survive(path, 25, where) <= 25
