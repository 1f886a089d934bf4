"""Processes that train together: replicas equal to the bit, one process with the whole batch up to rounding."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sharing import EXACT, one_of_two, trained

from agents import checkpoint
from agents.networks.whole_batch import even_weights, lowest_of, mean_of, shares_of
from agents.training.parallel import Replicas, _name_of_start, joined, present
from agents.training.worlds import WorldRun
from recgym.__main__ import main
from recgym.batches import FrameBatches, SequenceBatches
from recgym.commands.train import trainable
from recgym.errors import DataError


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    context = torch.multiprocessing.spawn(one_of_two, (folder,), nprocs=2, join=False)
    alone = {name: trained(name, chance=False) for name in EXACT if EXACT[name] is not None}
    while not context.join():
        pass
    return {"folder": folder, "alone": alone}


def test_every_learner_with_a_command_is_tried():
    alone = {"slateq", "gems"}  # learn in an environment, which they say to whoever asks for several processes
    assert len(EXACT) == len(set(trainable()) - alone)


def test_agents_that_learn_in_an_environment_refuse_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="an agent of slates must train in one process, got 2; leave --processes out"):
        WorldRun()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_replicas_are_equal_to_the_bit_and_their_luck_is_their_own(pair, name):
    first, second = (torch.load(pair["folder"] / f"{name}-{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second) and first.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXACT if EXACT[name] is not None])
def test_together_they_learn_what_one_does_from_the_whole_batch(pair, name):
    together, alone = torch.load(pair["folder"] / f"{name}-exact-0.pt"), pair["alone"][name]
    apart = float((together - alone).norm() / alone.norm())
    assert apart < 1e-5, apart  # rounding leaves 1e-8, of one that sums by its own maximum 2e-6


def command(folder, *more):
    words = ["train", "--processes", "2", "td3", "--data", "synthetic", "--device", "cpu", "--folder", str(folder)]
    words += ["--steps", "400", "--batch-size", "32", "--dim", "8", "--hidden", "16", "--validation-size", "0"]
    words += ["--save-every", "20"]
    return subprocess.Popen(
        [sys.executable, "-m", "recgym", *words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def after(folder, n):
    """Waits for the n-th checkpoint."""
    until = time.monotonic() + 400  # however busy the machine is
    while not any(checkpoint.saving.step_of(path) >= n for path in checkpoint.saved(folder)):
        assert time.monotonic() < until
        time.sleep(0.02)


def workers_of(process):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path):
    whole = command(tmp_path / "whole")
    text = whole.communicate()[0]
    assert whole.returncode == 0 and "by 2 processes" in text and text.count("hit_rate@10") == 1, text
    process = command(tmp_path / "killed")
    after(tmp_path / "killed", 60)
    os.kill(workers_of(process)[1], signal.SIGKILL)  # torchrun begins anew at the last checkpoint
    after(tmp_path / "killed", 160)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for worker in workers_of(process):
        os.kill(worker, signal.SIGKILL)
    process = command(tmp_path / "killed", "--resume")
    text = process.communicate()[0]
    assert process.returncode == 0, text
    ends = [checkpoint.saved(tmp_path / name)[-1] for name in ("whole", "killed")]
    assert ends[0].name == ends[1].name == "step-000000400"
    states = [checkpoint.saving.read_state(end)["agent"]["networks"] for end in ends]
    for net, tensors in states[0].items():
        assert all(torch.equal(tensor, states[1][net][name]) for name, tensor in tensors.items())
    losses = [(tmp_path / name / "losses.csv").read_text() for name in ("whole", "killed")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_new_start_hears_nothing_of_those_who_died_before(late):
    store, names = torch.distributed.HashStore(), []
    for _ in range(3):  # as after two restarts, in one store
        with ThreadPoolExecutor(3) as threads:
            waits = [threads.submit(_name_of_start, store, rank, 3) for rank in range(3) if rank != late]
            time.sleep(0.05)
            assert not any(wait.done() and wait.result() in names for wait in waits)
            waits.append(threads.submit(_name_of_start, store, late, 3))
            agreed = {wait.result() for wait in waits}
        assert len(agreed) == 1
        names += agreed
    assert len(set(names)) == 3


# -- alone -------------------------------------------------------------------------------------------------------------


def test_alone_all_is_as_ever(log, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some batch systems say of whatever they start
    with joined() as ranks:
        assert ranks == (0, 1) == present() and ranks.is_first
    values, real = torch.tensor([[1.0, 3.0], [5.0, 9.0]]), torch.tensor([1.0, 0.0])
    assert mean_of(values) == 4.5 and mean_of(values, real) == 3.0
    assert mean_of(values[:0]) == 0.0 == mean_of(values, 0 * real)
    assert torch.equal(shares_of(values[0]), torch.softmax(values[0], dim=0))
    assert even_weights(values).tolist() == [0.5, 0.5] and even_weights(values[:0]).tolist() == []
    assert lowest_of(values[0], 2.0) == 1.0 and lowest_of(values[0], 0.5) == 0.5
    replicas = Replicas(object(), "abc", 0)
    assert replicas.any(1) is True and replicas.any(None) is False


def test_batches_are_shared_later_as_from_the_start(log):
    for kind, options in ((FrameBatches, {"frame_size": 5, "batch_size": 8}), (SequenceBatches, {"batch_size": 8})):
        given, later = kind(log, rank=1, n_ranks=2, **options), kind(log, **options)
        next(iter(later)), next(iter(given))
        later.share(1, 2)
        assert later.sharing == (1, 2) == given.sharing
        for a, b in zip(given, later, strict=True):
            for one, other in zip(a, b, strict=True):
                assert (one is None and other is None) or (one == other).all()
        with pytest.raises(DataError, match="batch_size must be a multiple of n_ranks=3, which share every batch"):
            later.share(0, 3)
        with pytest.raises(DataError, match="rank must be 0 to n_ranks - 1, got rank=2 of n_ranks=2"):
            later.share(2, 2)


def test_what_cannot_be_trained_together_is_refused(log, monkeypatch, capsys):
    from agents.training import parallel

    monkeypatch.setattr(parallel, "present", lambda: parallel.Ranks(1, 2))
    batches = FrameBatches(log, frame_size=5, batch_size=8)
    with pytest.raises(DataError, match="batches must be shared by the 2 processes that train together, got rank 0"):
        Replicas(object(), batches, 0)
    batches.share(1, 2)
    with pytest.raises(DataError, match=r"must have its networks in agent.nets, got object without"):
        Replicas(object(), batches, 0)
    assert main(["train", "--processes", "0", "td3"]) == 1
    assert "processes must be an integer of at least 1, got 0" in capsys.readouterr().err
