"""An agent trained before learned users and judged before others: rows and what the README says of them."""

import pytest

from benchmarks import simulated
from benchmarks.results import COLUMNS, Results


@pytest.mark.timeout(120)
def test_rows_and_table_on_a_small_world(tmp_path, monkeypatch):
    small = {"n_users": 80, "n_items": 40, "dim": 8, "max_epochs": 2, "n_members": 2}
    constants = {"ENV_ID": "recgym/Synthetic-Sim-v0", "OPTIONS": small, "OFFLINE": 2, "ONLINE": 2, "ROWS": 4}
    for name, value in (constants | {"SESSIONS": {"random": 8, "popularity": 8, "greedy": 4}}).items():
        monkeypatch.setattr(simulated, name, value)
    simulated.run(tmp_path, {"commit": "c", "dirty": "no", "versions": "v"})
    assert simulated.present(tmp_path) == ["simulated"] and simulated.present(tmp_path / "none") == []
    rows = Results(tmp_path / "simulated.csv").rows()
    assert len(rows) == 9 and set(rows[0]) == set(COLUMNS)
    by_who = {(row["metric"], row["agent"]): float(row["value"]) for row in rows}
    ours, theirs, more = (by_who["return beside random", who] for who in ("ddpg", "random", "ddpg - random"))
    assert more == pytest.approx(ours - theirs, abs=1e-5)
    text = simulated.block("simulated", rows)
    assert "| popularity |" in text and f"{by_who['return beside greedy', 'ddpg - greedy']:.2f} [" in text
