"""The timings of environments: turns are taken, ratios mean what they say, and other simulators' figures are quoted."""

import time

import numpy as np
import pytest

from benchmarks import report, speed, speed_envs, turns
from benchmarks.results import Results


def test_everything_is_called_in_turn_and_the_first_round_does_not_count(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    order = []
    seconds = turns.in_turns({"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))}, 3)
    assert order == ["a", "b"] * 4
    assert seconds["a"].shape == seconds["b"].shape == (3,)
    assert (seconds["b"] > 0.009).all() and (seconds["a"] < 0.009).all()


def test_with_one_thread_the_processors_time_counts(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (turns.in_turns({"sleeps": lambda: time.sleep(0.02)}, 2)["sleeps"] < 0.01).all()
    assert turns.row("a", "b", 1.0, "times", 3)["threads"] == 1


def test_quoted_figures_name_their_version():
    rows = speed_envs._quoted()
    assert len(rows) > 8 and all(row["agent"].endswith("(quoted)") and row["config"]["quoted"] for row in rows)
    assert all(any(sign.isdigit() for sign in row["agent"]) for row in rows)
    assert len({(row["agent"], row["metric"]) for row in rows}) == len(rows)
    assert "envs" in speed.SUBJECTS


def test_the_readme_gets_a_table_without_a_plot(tmp_path):
    kept = Results(tmp_path / "speed_envs.csv")
    speed.store(speed_envs._quoted(), kept, "quiet")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:speed_envs -->\n<!-- /results:speed_envs -->\n")
    report.main(["--page", str(readme), "--results", str(tmp_path)])
    text = readme.read_text()
    assert "| SingleItem-Static-v0 | SARDINE 1.0.8 (quoted) | 6,920 steps/s |" in text
    assert "python -m benchmarks.speed envs" in text and ".png" not in text and "of a process of its own" not in text


@pytest.mark.slow
def test_all_of_it_runs():
    rows = speed_envs.rows(quick=True)
    assert all(np.isfinite(row["value"]) and row["value"] > 0 for row in rows)
    measured = {row["metric"] for row in rows}
    for part in ("SyncVectorEnv", "CartPole", "frames over history", "DummyVecEnv", "bare product", "recall@10"):
        assert any(part in metric for metric in measured), part
