import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agents import checkpoint
from agents.ddpg import DDPG
from agents.dqn import DQN
from agents.training import saving
from agents.training.train import every, fit
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.frames import History
from recgym.storage.manifests import sealed

TESTS = Path(__file__).parent


def made(log, catalog, **config):
    config = {"hidden": 16, "n_negatives": 4} | config  # negatives are drawn: the random stream must come back too
    agent = DDPG(catalog, frame_size=5, device="cpu", seed=config.pop("seed", 0), **config)
    return agent, FrameBatches(log, frame_size=5, batch_size=8, seed=1)


def weights(agent):
    return torch.cat([parameter.detach().flatten() for net in agent.nets for parameter in net.parameters()])


@pytest.fixture
def run(log, catalog, tmp_path):
    """A run saved after 7 updates."""
    agent, batches = made(log, catalog)
    fit(agent, batches, 7)
    return checkpoint.save(tmp_path / "run", 7, agent, batches)


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_an_interrupted_run_ends_with_the_very_same_weights(log, catalog, tmp_path, stop):
    whole, batches = made(log, catalog)
    fit(whole, batches, 21)  # more than an epoch

    agent, batches = made(log, catalog)
    fit(agent, batches, stop)
    checkpoint.save(tmp_path, stop, agent, batches)
    torch.manual_seed(99)
    resumed, batches = made(log, catalog)
    fit(resumed, batches, 3)  # it has a history of its own; loading must leave none of it
    step = checkpoint.load(tmp_path, resumed, batches)
    assert step == stop
    fit(resumed, batches, 21, first_step=step)
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(weights(agent), weights(whole))


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from conftest import make_catalog, make_log
from test_checkpoint import made, weights
from agents import checkpoint, saving
from agents.training.train import fit
agent, batches = made(make_log(), make_catalog())
step = checkpoint.load(sys.argv[1], agent, batches)
fit(agent, batches, 13, first_step=step)
print(weights(agent).numpy().tobytes().hex())
"""


def test_another_process_goes_on_bit_for_bit(log, catalog, run):
    agent, batches = made(log, catalog)
    fit(agent, batches, 13)
    command = [sys.executable, "-c", CHILD.format(tests=str(TESTS)), str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS.parent).stdout
    assert printed.strip() == weights(agent).numpy().tobytes().hex()


def test_every_random_stream_comes_back(log, catalog, run):
    expected, _ = made(log, catalog)
    batches = FrameBatches(log, frame_size=5, batch_size=8, seed=1)
    checkpoint.load(run, expected, batches)
    drawn, own = torch.rand(3), torch.rand(3, generator=expected.generator)
    torch.manual_seed(1)
    expected.generator.manual_seed(1)
    checkpoint.load(run, expected, batches)
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(torch.rand(3, generator=expected.generator), own)


def test_an_agent_is_made_from_its_checkpoint_alone(log, catalog, run):
    agent, batches = made(log, catalog)
    checkpoint.load(run, agent, batches)
    again = checkpoint.load_agent(run, catalog, device="cpu")
    assert type(again) is DDPG
    assert again.config == agent.config
    assert torch.equal(weights(again), weights(agent))
    assert torch.equal(
        weights(checkpoint.load_agent(run.parent, catalog, agent_class=DDPG, device="cpu")), weights(agent)
    )


class OfCuda:
    """What a CUDA stream's state looks like: 8 bytes of seed, 8 of offset."""

    def get_state(self):
        return torch.zeros(16, dtype=torch.uint8)


@pytest.mark.parametrize("agent_class", [DDPG, DQN])
def test_a_run_of_another_device_goes_on_with_a_new_stream_and_says_so(log, catalog, tmp_path, agent_class):
    agent = agent_class(catalog, frame_size=5, device="cpu", hidden=8, seed=3)
    fit(agent, FrameBatches(log, frame_size=5, batch_size=8), 2)
    agent.generator = OfCuda()
    checkpoint.save(tmp_path, 2, agent)
    drawn = []
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"cannot go on on cpu: .* new stream begins from seed 3 and 2 updates"):
            loaded = checkpoint.load_agent(tmp_path, catalog, device="cpu")
        assert torch.equal(weights(loaded), weights(agent))
        assert loaded.updates == 2
        drawn.append(torch.rand(4, generator=loaded.generator))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], torch.rand(4, generator=torch.Generator().manual_seed(3)))


def test_constants_worked_out_from_data_are_saved(log, catalog, tmp_path):
    """Another processor may work them out otherwise; what counts is what the agent was trained with."""
    for agent in (
        DDPG(catalog, frame_size=5, device="cpu", hidden=8),
        DQN(catalog, frame_size=5, device="cpu", hidden=32, head="vectors"),
    ):
        agent.use_constants({"input_scale": 7.0})
        checkpoint.save(tmp_path / type(agent).__name__, 1, agent)
        loaded = checkpoint.load_agent(tmp_path / type(agent).__name__, catalog, device="cpu")
        assert loaded.constants == agent.constants
        assert torch.equal(loaded.table, torch.tensor(catalog.table) * 7.0)
        history = History(log.items[None, :5], log.rewards[None, :5], np.array([5]))
        assert torch.equal(loaded.scores(history), agent.scores(history))


def test_an_agent_without_batches_is_saved_too(log, catalog, tmp_path):
    agent, batches = made(log, catalog)
    checkpoint.save(tmp_path, 0, agent)
    other, _ = made(log, catalog)
    fit(other, batches, 2)
    assert checkpoint.load(tmp_path, other) == 0
    assert torch.equal(weights(other), weights(agent))


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_the_last_checkpoints_are_kept_and_the_newest_is_loaded(log, catalog, tmp_path):
    agent, batches = made(log, catalog)
    fit(agent, batches, 10, every(2, checkpoint.Checkpoints(tmp_path, agent, batches, keep=2), last=9))
    assert [path.name for path in checkpoint.saved(tmp_path)] == ["step-000000009", "step-000000010"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog", "step-000000009", "step-000000010"]
    assert checkpoint.load(tmp_path, agent, batches) == 10
    assert checkpoint.load(tmp_path / "step-000000009", agent, batches) == 9


def test_steps_are_ordered_as_numbers(log, catalog, tmp_path):
    agent, _ = made(log, catalog)
    for step in (999_999_999, 1_000_000_000):
        checkpoint.save(tmp_path, step, agent)
    assert checkpoint.load(tmp_path, agent) == 1_000_000_000


def test_nothing_is_pickled(run):
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json", "state.json", "tensors.safetensors"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["about"]["agent"] == "agents.ddpg:DDPG"
    assert manifest["about"]["step"] == 7
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())
    assert len(manifest["files"]) == 2


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(path, agent, batches, message):
    before = weights(agent)
    with pytest.raises(StoreError, match=message):
        checkpoint.load(path, agent, batches)
    assert torch.equal(weights(agent), before)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_changed_byte_is_named(log, catalog, run, name):
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run / name).write_bytes(content)
    refused(run, *made(log, catalog), rf"{name} must have the recorded SHA-256, got another; it is damaged")


def test_a_cut_file_and_a_missing_file_are_named(log, catalog, run):
    path = run / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    refused(run, *made(log, catalog), r"tensors\.safetensors must have \d+ bytes, got \d+ bytes; it is damaged")
    path.unlink()
    refused(run, *made(log, catalog), r"tensors\.safetensors must have \d+ bytes, got no such file")


def test_a_folder_of_something_else_is_refused(log, catalog, run, tmp_path):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"recgym": "log"}))
    refused(run, *made(log, catalog), r"must hold 'agent' version 1, got 'log' version 1")
    refused(tmp_path / "nothing", *made(log, catalog), r"nothing must hold a checkpoint, got none")


def test_another_agent_catalog_or_config_is_refused(log, catalog, run):
    refused(run, *made(log, catalog, hidden=8), r"must be a checkpoint of this agent, config .*got config")
    refused(run, *made(log, catalog, seed=5), r"must be a checkpoint of this agent, seed 5, got seed 0")
    other = Catalog(np.roll(catalog.embeddings, 1, axis=0), catalog.item_ids)
    refused(run, *made(log, other), r"must be a checkpoint of this agent, catalog '[0-9a-f]{64}', got catalog")
    with pytest.raises(StoreError, match=r"must be of this catalog, [0-9a-f]{16}, got one of [0-9a-f]{16}"):
        checkpoint.load_agent(run, other)


def test_batches_must_be_given_as_they_were_saved(log, catalog, run, tmp_path):
    agent, batches = made(log, catalog)
    refused(run, agent, None, r"was saved with batches, got none to load into")
    checkpoint.save(tmp_path / "bare", 1, agent)
    refused(tmp_path / "bare", agent, batches, r"was saved with no batches, got some to load into")


def test_a_class_run_as_a_command_is_known_by_its_own_name(log, catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(DDPG, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="agents.ddpg"))
    path = checkpoint.save(tmp_path, 1, made(log, catalog)[0])
    assert json.loads((path / "manifest.json").read_text())["about"]["agent"] == "agents.ddpg:DDPG"


def test_classes_from_elsewhere_are_not_imported_by_name(catalog, run):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["about"]["agent"] = "antigravity:fly"
    (run / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(
        StoreError, match=r"must hold an agent of this package, got 'antigravity:fly'; pass agent_class"
    ):
        checkpoint.load_agent(run, catalog)
    assert "antigravity" not in sys.modules


def test_a_new_run_does_not_mix_with_a_later_one(log, catalog, run):
    agent, batches = made(log, catalog)
    with pytest.raises(StoreError, match=r"must hold no checkpoint after step 3, got step-000000007 \(1 in all\)"):
        checkpoint.save(run.parent, 3, agent, batches)
    assert checkpoint.load(run.parent, agent, batches) == 7


def test_a_run_must_keep_a_checkpoint(log, catalog, tmp_path):
    with pytest.raises(StoreError, match=r"keep must be at least 1, got 0"):
        checkpoint.save(tmp_path, 1, made(log, catalog)[0], keep=0)


# -- crashes -----------------------------------------------------------------------------------------------------------

SAVING = """
import sys
sys.path.insert(0, {tests!r})
from conftest import make_catalog, make_log
from test_checkpoint import made
from agents import checkpoint, saving
from agents.training.train import fit
agent, batches = made(make_log(), make_catalog(), hidden=128)
print("ready", flush=True)
fit(agent, batches, 10**6, checkpoint.Checkpoints(sys.argv[1], agent, batches, keep=2))
"""


def test_a_killed_run_leaves_a_whole_checkpoint_and_goes_on_as_if_nothing_had_been(log, catalog, tmp_path):
    for delay in (0.02, 0.21, 0.4):
        folder = tmp_path / str(delay)
        command = [sys.executable, "-c", SAVING.format(tests=str(TESTS)), str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS.parent)
        child.stdout.readline()
        while not checkpoint.saved(folder):
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        agent, batches = made(log, catalog, hidden=128)
        step = checkpoint.load(folder, agent, batches)
        expected, batches = made(log, catalog, hidden=128)
        fit(expected, batches, step)
        assert torch.equal(weights(agent), weights(expected))


def test_a_failed_save_leaves_the_old_checkpoint(log, catalog, run, monkeypatch):
    agent, batches = made(log, catalog)
    monkeypatch.setattr(saving, "save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StoreError, match=r"must be a folder one can write to, got disk full"):
        checkpoint.save(run.parent, 8, agent, batches)
    assert sorted(path.name for path in run.parent.iterdir()) == ["catalog", run.name]
    assert checkpoint.load(run.parent, agent, batches) == 7


@pytest.mark.parametrize("change", [{"batches": ...}, {"agent": ...}, {"torch": ...}, {"torch": True}, {"agent": 3}])
def test_a_state_that_somebody_changed_is_refused(change, log, catalog, tmp_path, monkeypatch):
    agent, _ = made(log, catalog)
    path = checkpoint.save(tmp_path / "run", 1, agent)
    state = {name: value for name, value in (checkpoint.saving.read_state(path) | change).items() if value is not ...}
    monkeypatch.setattr(checkpoint.saving, "read_state", lambda path: state)
    with pytest.raises(
        StoreError, match=r"must hold the state that was saved, got .*; resume from an earlier checkpoint"
    ):
        checkpoint.load(path, made(log, catalog)[0])
