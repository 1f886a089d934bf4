"""The rows of the off-policy suite, on a world small enough for a test."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import ope as suite
from benchmarks import report, run


def test_selection_rewards_the_right_order_and_prices_the_wrong_choice():
    truth = {"a": 1.0, "b": 2.0, "c": 4.0}
    shared = {"data": "d", "behaviour": "u", "n": 9, "horizon": 1}
    right = [{**shared, "estimator": "right", "value": value} for value in (0.1, 0.2, 0.3)]
    wrong = [{**shared, "estimator": "wrong", "value": value} for value in (3.0, 2.0, np.nan)]
    found = {row["estimator"]: row for row in suite.selection(right + wrong, truth)}
    assert found["(any policy at random)"]["regret"] == pytest.approx(1.0 - 7.0 / 12.0)
    assert (found["right"]["policy"], found["right"]["rank_correlation"], found["right"]["regret"]) == ("c", 1.0, 0.0)
    assert (found["wrong"]["policy"], found["wrong"]["regret"]) == ("a", 0.75)
    assert found["wrong"]["rank_correlation"] == pytest.approx(-1.0)  # no estimate counts as the worst


@pytest.fixture
def small(monkeypatch):
    entries = tuple(replace(entry, n_steps=min(entry.n_steps, 3)) for entry in suite.WORLD.entries)
    world = replace(suite.WORLD, options={"n_users": 120, "n_items": 60}, entries=entries, dim=8)
    monkeypatch.setattr(suite, "WORLD", world)
    monkeypatch.setattr(suite, "HORIZONS", (1, 2))
    monkeypatch.setattr(suite, "N_SESSIONS", 60)
    monkeypatch.setattr(suite, "N_TRUTH", 300)
    monkeypatch.delenv("RECGYM_DATA", raising=False)


def test_suite(small, tmp_path, capsys):
    run.main(["--suite", "ope", "--out", str(tmp_path)])
    with open(tmp_path / "ope.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == suite.COLUMNS
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("truth", "estimate", "selection")}
    agents = ("popularity", "item_knn", "ease", "ddpg")
    names = {"uniform"} | {f"{name} {temperature:g}" for name in agents for temperature, _ in suite.SOFTNESS}
    assert {row["policy"] for row in of_kind["truth"]} == names and len(of_kind["truth"]) == 2 * 9
    assert len(of_kind["estimate"]) == 2 * 9 * (8 + 6) and len(of_kind["selection"]) == 2 * (10 + 8)
    estimates = of_kind["estimate"]
    on_policy = [row for row in estimates if row["behaviour"] == row["policy"] and row["estimator"].endswith("is")]
    assert on_policy and all(float(row["effective"]) == pytest.approx(60, abs=0.01) for row in on_policy)
    printed = capsys.readouterr().out
    assert "left out, no obd/ under RECGYM_DATA" in printed and "| sequential_dr |" in printed


def test_the_readme_says_what_the_rows_say(tmp_path):
    shared = {"data": "synthetic", "behaviour": "uniform", "n": "9", "seed": "0", "protocol": "in a test"}
    shared |= {"commit": "abc", "dirty": "no"}

    def estimate(estimator, policy, value, low, high, horizon="1", **other):
        error = abs(float(value) / 2.0 - 1.0)
        return {
            **shared, "kind": "estimate", "estimator": estimator, "policy": policy, "value": value, "low": low,
            "high": high, "truth": "2", "relative_error": str(error), "horizon": horizon, **other,
        }  # fmt: skip

    rows = [
        {**shared, "kind": "truth", "policy": "uniform", "value": "1", "low": "0.9", "high": "1.1", "horizon": "1"},
        {**shared, "kind": "truth", "policy": "ddpg 1", "value": "2", "low": "1.9", "high": "2.1", "horizon": "1"},
        estimate("ips", "uniform", "2.2", "1.9", "2.5"),
        estimate("ips", "ddpg 1", "1.4", "1.3", "1.5"),
        estimate("ips", "ease 1", "2.6", "2.5", "2.7"),
        estimate("fqe", "ddpg 1", "2.1", "1.8", "2.4", horizon="5"),
        estimate("ips", "bts", "nan", "nan", "nan", data="obd men"),
        {
            **shared,
            "kind": "selection",
            "estimator": "ips",
            "rank_correlation": "0.5",
            "regret": "0.125",
            "horizon": "1",
        },
    ]
    with open(tmp_path / "ope.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, suite.COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    text = report.filled("a\n<!-- results:ope -->\n<!-- /results:ope -->\nb", tmp_path)
    lines = text.splitlines()
    assert "| estimator | synthetic, log uniform | obd men, log uniform |" in lines
    (errors,) = [line for line in lines if line.startswith("| ips | 23.3% [")]
    assert errors.endswith("; 1 of 3 | no estimate |")  # 10, 30 and 30 %; one interval holds 2
    assert "| fqe | +5.0% [-10.0%, +20.0%] |" in lines and "| ips | 0.50; 12.5% |" in lines
    assert "| uniform | 1 [0.9, 1.1] |" in lines and "| ddpg 1 | 2 [1.9, 2.1] |" in lines
    assert "in a test." in text and "commit abc." in text and "python -m benchmarks.run --suite ope" in text
    assert report.filled(text, tmp_path) == text
