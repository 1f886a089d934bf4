"""The rows of the off-policy suite, on a world small enough for a test."""

import csv

import numpy as np
import pytest

from benchmarks import ope as suite
from benchmarks import run


def test_selection_rewards_the_right_order_and_prices_the_wrong_choice():
    truth = {"a": 1.0, "b": 2.0, "c": 4.0}
    shared = {"data": "d", "behaviour": "u", "n": 9, "horizon": 1}
    right = [{**shared, "estimator": "right", "value": value} for value in (0.1, 0.2, 0.3)]
    wrong = [{**shared, "estimator": "wrong", "value": value} for value in (3.0, 2.0, np.nan)]
    found = {row["estimator"]: row for row in suite.selection(right + wrong, truth)}
    assert (found["right"]["policy"], found["right"]["rank_correlation"], found["right"]["regret"]) == ("c", 1.0, 0.0)
    assert (found["wrong"]["policy"], found["wrong"]["regret"]) == ("a", 0.75)
    assert found["wrong"]["rank_correlation"] == pytest.approx(-1.0)  # no estimate counts as the worst


def test_suite(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "WORLD", {"n_users": 120, "n_items": 60})
    monkeypatch.setattr(suite, "HORIZONS", (1, 2))
    monkeypatch.setattr(suite, "N_SESSIONS", 60)
    monkeypatch.setattr(suite, "N_TRUTH", 300)
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    run.main(["--suite", "ope", "--out", str(tmp_path)])
    with open(tmp_path / "ope.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == suite.COLUMNS
    estimates = [row for row in rows if row["kind"] == "estimate"]
    assert len(estimates) == 2 * 7 * (8 + 6) and len(rows) - len(estimates) == 2 * (8 + 6)
    on_policy = [row for row in estimates if row["behaviour"] == row["policy"] and row["estimator"].endswith("is")]
    assert on_policy and all(float(row["effective"]) == pytest.approx(60, abs=0.01) for row in on_policy)
    assert "left out, no obd/ under RECGYM_DATA" in capsys.readouterr().out
