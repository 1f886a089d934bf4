"""The ways that are timed make what they say, and what cannot be timed is told."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks import speed, speed_batches
from benchmarks.results import Results
from recgym.batches import FrameBatches


@pytest.fixture(scope="module")
def log():
    return speed_batches.made_log(4000)


@pytest.fixture(scope="module")
def table(log):
    return np.random.default_rng(0).normal(size=(log.n_items + 1, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def decisions(log):
    return np.concatenate([place.row for place in FrameBatches(log, 10, 64, drop_last=False).places()])


def test_log_has_the_statistics(log):
    assert (log.n_events, log.n_users, log.n_items) == (4000, 28, 500)
    assert log.lengths.min() >= 20 and set(np.round(log.rewards * 5 + 5).astype(int)) <= set(range(1, 11))
    (events,) = speed_batches.chunks(4000)
    own = np.flatnonzero(events.users == 3)
    own = own[np.argsort(events.times[own], kind="stable")]
    assert (log.item_ids[log.user(2).items] == events.items[own]).all() and len(own) == log.lengths[2]
    assert (log.user(2).rewards == (events.halves[own] / 5 - 1).astype(np.float32)).all()


def test_every_way_makes_whole_batches(log, table, decisions, tmp_path, monkeypatch):
    monkeypatch.setattr(speed_batches, "DIM", 8)
    ways = {
        **speed_batches.ours(log, table, 32),
        **speed_batches.indices(log, 32),
        **speed_batches.plain(log, table, decisions, 32),
        **speed_batches.stored(tmp_path, log, table, decisions[:512], 32),
    }
    assert len(ways) == 7 + 2 + 2 + 2
    for who, way in ways.items():
        n = len(decisions) // 32 + 2  # past the end of an epoch
        assert set(islice(way, n if "HDF5" not in who else 20)) == {32}, who
    (recnn,) = (way for who, way in speed_batches.recnn(log, table, 100).items() if who.endswith("0 workers"))
    assert all(n > 0 for n in islice(recnn, 30))


def test_stored_transitions_are_ours(log, table, decisions, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(speed_batches, "DIM", 8)
    speed_batches.stored(tmp_path, log, table, decisions[:1500], 32)["HDF5, in order"].close()
    batch = next(iter(speed_batches.VectorBatches(FrameBatches(log, 10, 1500), table, flat=True)))
    with h5py.File(tmp_path / "transitions.h5") as file:
        assert (file["state"][:] == batch.state).all() and (file["next_state"][:] == batch.next_state).all()
        assert (file["action"][:] == batch.action).all() and (file["reward"][:, 0] == batch.batch.reward).all()


def test_what_cannot_be_timed_is_told(log, table, decisions, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert speed_batches.stored(tmp_path, log, table, decisions, 32) == {}
    assert (
        "stored transitions are left out: h5py is not installed (pip install recgym[bench])" in capsys.readouterr().out
    )
    assert speed_batches.rows([200_000_000], quick=False) == []
    assert "batches are left out: no size asked for is below 100 million rows" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed_batches.on_gpu(log, table) == []
    assert "the pass on a GPU is left out: torch finds no CUDA device" in capsys.readouterr().out


def test_a_figure_is_the_median_round(monkeypatch):
    rates = iter([1.0, 5.0, 1.0, 9.0, 1.0, 6.0])  # warming up, then what counts
    monkeypatch.setattr(speed_batches, "_rate", lambda way, seconds: next(rates))
    (row,) = speed_batches._rated({"someone": iter([])}, "batches", "transitions/s", 7, 1.0, 3)
    assert (row["agent"], row["value"], row["low"], row["high"], row["n"]) == ("someone", 6.0, 5.0, 9.0, 7)


def test_memory_is_that_of_a_process_of_its_own(log, table):
    peak = speed_batches._peak_memory(log, table, 64, "views", 1000)
    assert 20 < peak < 400


@pytest.mark.slow
def test_all_of_it_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed", "data", "--quick", "--rows", "20000000"]
    subprocess.run([*command, "--only", "speed_batches", "--results", str(tmp_path)], check=True)
    found = {(row["agent"], row["metric"]) for row in Results(tmp_path / "speed_data.csv").rows()}
    assert ("recgym, views", "frame batches of 4096 @200000") in found and len(found) >= 36
    assert "benchmarks.speed_batches" in speed.SUBJECTS["data"]
