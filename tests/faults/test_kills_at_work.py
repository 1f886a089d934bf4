"""Kills at random moments of long work: trainings, sweeps and serving logs lose nothing that was told of, and go on."""

import os
import random
import signal
import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

pytest.importorskip("h5py", reason="the leg of faults needs recgym[hdf5]")
import torch
from conftest import make_catalog, make_log
from test_checkpoint import made, weights
from test_faults import FULL, tell

from agents import checkpoint
from agents.training.callbacks import every
from agents.training.train import fit
from benchmarks import sweep
from benchmarks.results import Results
from benchmarks.suites import SUITES
from recgym.log import shown
from recgym.storage import store

pytestmark = pytest.mark.faults
TRIES = 50 if FULL else 8


def killed(work, moment):
    """Runs work(tell) in a process that is killed after a moment; returns the lines it told, in their order."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work(lambda line: os.write(write, f"{line}\n".encode()))
        finally:
            os._exit(0)
    os.close(write)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read().splitlines()


def left_over(folder):
    """What a dead process left after another has written there."""
    return [file.name for file in folder.rglob(f".*{store.TEMPORARY}")]


def test_killed_trainings_go_on_as_if_nothing_had_been(tmp_path):
    chance, folder, wrong = random.Random(3), tmp_path / "run", []
    whole, whole_batches = made(make_log(), make_catalog())

    def train(_):
        agent, batches = made(make_log(), make_catalog())
        step = checkpoint.load(folder, agent, batches) if checkpoint.saved(folder) else 0
        fit(agent, batches, 10**6, every(2, checkpoint.Checkpoints(folder, agent, batches, keep=2)), first_step=step)

    reached = [0]
    for number in range(TRIES):
        killed(train, chance.uniform(0.02, 0.5))
        agent, batches = made(make_log(), make_catalog())
        step = checkpoint.load(folder, agent, batches) if checkpoint.saved(folder) else 0
        fit(whole, whole_batches, step, first_step=reached[-1])
        if step < reached[-1] or not torch.equal(weights(agent), weights(whole)):
            wrong.append((number, step))
        reached.append(step)
    checkpoint.Checkpoints(folder, agent, batches, keep=2)(step + 1, {})
    wrong += [("litter", name) for name in left_over(folder)]
    assert len(list(folder.glob("step-*"))) <= 2
    tell("kills", "training", TRIES, wrong, [])
    assert len(set(reached)) > TRIES // 2, reached


def served(number):
    listed = {"list": f"list {number}", "user": number, "time": 1_700_000_000 + number, "model": "m", "at": number}
    listed |= {"history": [["b", 1.0]], "items": ["a", "c"], "allowed": None}
    return listed | {"marginal": [0.5, 0.25], "given": [0.5, 0.5], "error": [0.0, 0.0]}


def test_killed_servers_lose_no_list_and_no_answer_that_was_told_of(tmp_path):
    chance, folder, wrong, raw, told = random.Random(4), tmp_path / "log", [], [], set()
    for number in range(TRIES):

        def serve(tell_of, begin=number * 10**6):
            lists = shown.ShownLists(folder)
            lists.know("m", ["a", "b", "c"], "raw", None, {})
            for one in count(begin):
                lists.write([served(one)])
                tell_of(f"list {one}")
                lists.write([{"answer": f"list {one}", "item": "a", "reward": 1.0, "at": one}])
                tell_of(f"answer {one}")

        told |= set(killed(serve, chance.uniform(0.002, 0.15)))
        if not told:
            continue
        try:
            log = shown.read(folder)
        except Exception as error:
            raw.append((number, repr(error)))
            continue
        answered = {user for user in range(log.n_users) if log.user(user).rewards[-2] == 1.0}
        found = set(log.user_ids.tolist()) | {f"answer {log.user_ids[user].split()[1]}" for user in answered}
        wrong += [(number, sorted(told - found)[:3])] if told - found else []
    shown.ShownLists(folder).know("m", ["a", "b", "c"], "raw", None, {})
    wrong += [("litter", name) for name in left_over(folder)]
    tell("kills", "serving log", TRIES, wrong, raw)
    assert told


def test_killed_sweeps_lose_no_row_and_repeat_none(tmp_path, monkeypatch):
    chance, wrong, raw = random.Random(5), [], []
    suite = SUITES["quickstart"].smoke()
    entries = [entry for entry in suite.entries if entry.name in ("uniform", "popularity", "item_knn", "ease")]
    suite, results = replace(suite, entries=tuple(entries)), Results(tmp_path / f"{suite.name}.csv")
    monkeypatch.setattr(sweep, "_ray", lambda: (None, SimpleNamespace(report=lambda values: None)))  # it deals trials
    sweep._data_of(suite)

    def trials(tell_of):
        for seed in count():
            for entry in entries:
                given = {"suite": suite, "out": tmp_path, "device": "cpu", "budget": {"tries": 1}}
                sweep.row_trial({"row": (entry, seed)}, **given)
                tell_of(f"{entry.name} {seed}")

    def rows():
        return {(row["agent"], row["seed"], row["metric"]): row for row in results.rows()}

    before = {}
    for number in range(TRIES):
        told = killed(trials, chance.uniform(0.1, 1.2))
        try:
            after = rows()
        except Exception as error:
            raw.append((number, repr(error)))
            continue
        lost = [place for place in before if after.get(place) != before[place]]
        lost += [line for line in told for metric in suite.metrics if (*line.rsplit(" ", 1), metric) not in after]
        lost += [place for place in after if not results.units(place[0], int(place[1]), suite.headline)]
        wrong += [(number, lost[:3])] if lost or len(after) != len(results.rows()) else []
        before = after
    results.put([{**next(iter(before.values())), "agent": "the next"}])
    results.put_units("the next", 0, {suite.headline: {0: 1.0}})
    wrong += [("litter", name) for name in left_over(tmp_path)]
    tell("kills", "sweep", TRIES, wrong, raw)
    assert before
