"""A training killed at ten random moments and resumed each time ends where the uninterrupted one ends."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TESTS = Path(__file__).parent
TRAINING = """
import sys
sys.path.insert(0, {tests!r})
from conftest import make_log
from agents import td3, train
from pathlib import Path
train.datasets.load = lambda name: make_log((14, 18, 9, 25, 30, 12, 16, 20))
options = dict(batch_size=8, frame_size=5, dim=4, test_size=0.25, device="cpu", save_every=7, log_every=20)
run = train.Run(steps=1500, folder=Path(sys.argv[1]), resume=True, later=0.5, **options)
td3.main(run, td3.Config(hidden=128, n_negatives=4))
"""


def newest(folder):
    return max((path.name for path in folder.glob("step-*") if (path / "manifest.json").exists()), default="none")


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    chance = random.Random(0)

    def command(folder):
        return [sys.executable, "-c", TRAINING.format(tests=str(TESTS)), str(tmp_path / folder)]

    subprocess.run(command("whole"), check=True, capture_output=True, cwd=TESTS.parent)
    reached = []
    for _ in range(10):
        child = subprocess.Popen(
            command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=TESTS.parent
        )
        before = newest(tmp_path / "killed")
        while newest(tmp_path / "killed") == before and child.poll() is None:  # it trains again
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.15))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        reached.append(newest(tmp_path / "killed"))
    assert len(set(reached)) == 10, reached  # each got somewhere
    assert "step-000001500" not in reached
    subprocess.run(command("killed"), check=True, capture_output=True, cwd=TESTS.parent)
    whole, killed = (
        load_file(tmp_path / folder / "step-000001500" / "tensors.safetensors") for folder in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    drawn_from_nowhere = {"/torch"}  # the process's own random stream: unseeded, and no agent draws from it
    assert len(whole) > 40
    assert all(torch.equal(whole[name], killed[name]) for name in whole.keys() - drawn_from_nowhere)
