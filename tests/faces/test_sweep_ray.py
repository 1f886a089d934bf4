"""Sweeps on two nodes of a Ray cluster: every row once, whatever dies; settings chosen by validation users alone."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("ray.tune", reason="sweeps need recgym[ray]")
import ray
from ray.cluster_utils import Cluster

from benchmarks import sweep
from benchmarks.results import Results
from benchmarks.suites import SUITES
from recgym.__main__ import _parser

ROOT = Path(__file__).parent.parent.parent
RANGES = "actor_lr = {low = 1e-4, high = 1e-2, log = true}\nhidden = [8, 16]\n"


@pytest.fixture(scope="module")
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    env = {"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    ray.init(address=made.address, log_to_driver=False, runtime_env=env)
    yield made
    ray.shutdown()
    made.shutdown()


def asked(folder, *words):
    given = [
        "sweep",
        "--suite",
        "quickstart",
        "--smoke",
        "--out",
        str(folder),
        "--storage",
        str(folder / "ray"),
        *words,
    ]
    return _parser().parse_args(given)


def rows_of(folder):
    with (folder / "quickstart-smoke.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_looks_at_validation_users_and_its_budget_stands_in_the_rows(cluster, tmp_path, capsys):
    (tmp_path / "ranges.toml").write_text(RANGES)
    words = ["--agent", "agents:TD3", "--ranges", str(tmp_path / "ranges.toml"), "--samples", "2", "--steps", "4"]
    assert sweep.main(asked(tmp_path, *words, "--seeds", "2")) == 0
    with next(tmp_path.glob("*-trials.csv")).open() as file:
        tried = list(csv.DictReader(file))
    assert len(tried) == 2 and {row["metric"] for row in tried} == {"hit_rate@10 of validation users"}
    best = max(tried, key=lambda row: float(row["value"]))
    rows = [row for row in rows_of(tmp_path) if row["metric"] == "hit_rate@10"]
    assert sorted(row["seed"] for row in rows) == ["0", "1"]
    for row in rows:
        config = json.loads(row["config"])
        budget = config.pop("budget")
        assert budget["trials"] == 2 and budget["updates"] == 8 and "validation users" in budget["chosen by"]
        assert float(best["value"]) == pytest.approx(float(budget["chosen by"].split(":")[-1]))
        assert config.keys() == {"actor_lr", "hidden"}
    assert "(2 seeds)" in capsys.readouterr().out
    before = rows_of(tmp_path)
    assert sweep.main(asked(tmp_path, *words, "--seeds", "2", "--resume")) == 0
    assert rows_of(tmp_path) == before  # nothing was done twice


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_node(cluster, tmp_path):
    lost = cluster.add_node(num_cpus=1)
    results = Results(tmp_path / "quickstart-smoke.csv")

    def lose():
        while len(results.rows()) < 10:
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    assert sweep.main(asked(tmp_path, "--rows", "uniform,popularity,item_knn,ease", "--seeds", "4")) == 0
    thread.join()
    metrics = len(SUITES["quickstart"].metrics)
    found = Counter((row["agent"], row["seed"]) for row in rows_of(tmp_path))
    assert len(found) == 16 and set(found.values()) == {metrics}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n_rows", [1, 30])
def test_a_killed_sweep_goes_on_and_repeats_nothing(tmp_path, n_rows):
    words = ["--suite", "quickstart", "--smoke", "--rows", "uniform,popularity,item_knn,ease", "--seeds", "4"]
    words += ["--out", str(tmp_path), "--storage", str(tmp_path / "ray")]
    command = [sys.executable, "-m", "recgym", "sweep", *words]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    results = Results(tmp_path / "quickstart-smoke.csv")
    while len(results.rows()) < n_rows and driver.poll() is None:
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(3.0)  # Ray's own processes notice
    before = {(row["agent"], row["seed"], row["metric"]): row for row in results.rows()}
    subprocess.run([*command, "--resume"], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    after = {(row["agent"], row["seed"], row["metric"]): row for row in results.rows()}
    assert len(after) == len(results.rows()) == 16 * len(SUITES["quickstart"].metrics)
    assert {place: after[place] for place in before} == before  # to the second they were finished at
