"""The timings of user models: all of it runs, names its goals, and is far above them."""

import numpy as np

from benchmarks import speed, speed_users


def test_all_of_it_runs(monkeypatch):
    monkeypatch.setattr(speed_users, "SMALL", {"n_users": 120, "n_items": 200, "dim": 8, "max_epochs": 1})
    rows = speed_users.rows(quick=True)
    value = {row["metric"]: row["value"] for row in rows}
    assert np.isfinite(list(value.values())).all() and "users" in speed.SUBJECTS
    assert value["sequential, 1 member (goal 8,000)"] > 8_000  # measured: 25 times as much
    assert sum(f"{env_id} (goal 100,000)" in value for env_id in speed_users.ANALYTIC) == 7
    assert any(row["agent"] == "VirtualTaobao (quoted)" and row["config"]["quoted"] for row in rows)
    assert all(row["device"] == "cpu" for row in rows if "CUDA" not in row["metric"] and "device" in row)
