"""Several policies and one log: verdicts, what would decide, and the command."""

import numpy as np
import pytest
from test_behaviour import N_ITEMS, WORTH, bandit

from recgym.__main__ import main
from recgym.errors import DataError
from recgym.ope.candidates import compare_candidates


class Fixed:
    """Shows items with fixed probabilities."""

    item_ids, reward = np.arange(N_ITEMS), "raw"

    def __init__(self, odds):
        self.odds = np.array(odds, dtype=float)

    def probabilities(self, history, allowed):
        odds = self.odds * allowed
        return odds / odds.sum(axis=1, keepdims=True)


def test_verdicts_and_what_would_decide():
    log, _ = bandit(4000)
    logged = float(log.rewards.mean())
    given = {
        "best": Fixed([0.05, 0.05, 0.1, 0.8]),
        "worst": Fixed([0.8, 0.1, 0.05, 0.05]),
        "much like it": Fixed([0.24, 0.2, 0.26, 0.30]),
    }
    table = compare_candidates(log, given, behaviour="logistic", context=["kind"])
    rows = {row.name: row for row in table.rows}
    assert [row.name for row in table.rows] == ["best", "much like it", "worst"]
    assert rows["best"].verdict == "yes" and rows["worst"].verdict == "no" and rows["best"].gamma > 1.0
    assert rows["best"].value.mean == pytest.approx(WORTH @ given["best"].odds, abs=0.04)
    near = rows["much like it"]
    assert near.verdict == "cannot be told" and near.needed > log.n_users
    sides = [(one.high - one.low) / 2 for one in (near.value, table.logged)]
    expected = log.n_users * (np.hypot(*sides) / (near.value.mean - logged)) ** 2
    assert near.needed == pytest.approx(max(expected, log.n_users + 1), abs=1.0)
    assert f"some {near.needed:,.0f} sessions like these would decide" in str(table)
    assert "down to Gamma" in str(table)
    with pytest.raises(DataError, match="candidates must be at least one policy"):
        compare_candidates(log, {})


def test_the_command_takes_several_policies(tmp_path, capsys):
    log, _ = bandit(600)
    lines = [f"{i},{item},{int(reward)}" for i, (item, reward) in enumerate(zip(log.items, log.rewards, strict=True))]
    (tmp_path / "shown.csv").write_text("\n".join(["who,what,clicked", *lines]))
    names = ["--user", "who", "--item", "what", "--reward", "clicked"]
    policies = ["--policy", "recgym.policies:Popularity", "agents.baselines:ItemKNN"]
    assert main(["evaluate-policy", "--data", str(tmp_path / "shown.csv"), *policies, *names]) == 0
    printed = capsys.readouterr().out
    assert "does it earn more than the logged policy" in printed and "agents.baselines:ItemKNN" in printed
    assert "fitted on every second session, evaluated on the 300 others" in printed


def test_verdict_and_gamma_agree_and_what_is_needed_is_more_than_there_is():
    for seed in range(4):
        log, _ = bandit(400, seed=seed)
        given = {
            "a": Fixed([0.2, 0.2, 0.25, 0.35]),
            "b": Fixed([0.3, 0.25, 0.25, 0.2]),
            "c": Fixed([0.1, 0.1, 0.2, 0.6]),
        }
        for row in compare_candidates(log, given, behaviour="popularity").rows:
            assert (row.verdict == "cannot be told") == (row.gamma == 1.0) == (row.needed > log.n_users)
            assert row.verdict != "yes" or row.value.mean > log.rewards.mean()
            assert row.verdict != "no" or row.value.mean < log.rewards.mean()
