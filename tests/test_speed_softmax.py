"""The benchmark of softmax heads gives its rows, and adaptive softmax is what it is for."""

from benchmarks import speed, speed_softmax


def test_rows_of_both_heads_have_all_they_need():
    rows = speed_softmax.rows([], quick=True)
    by_who = {(row["agent"], row["metric"]): row["value"] for row in rows}
    assert len(by_who) == len(rows) == 8
    assert all(row["value"] > 0 for row in rows if row["metric"] != "memory")
    assert by_who["full softmax", "memory"] > 1.0  # MB: 5,000 items by 64, their gradient and Adam's two averages
    assert by_who["adaptive softmax", "parameters"] < by_who["full softmax", "parameters"] / 4
    assert speed.complete(rows[0], "one run")["metric"] == "updates @5000"


def test_it_is_run_with_the_agents():
    assert "benchmarks.speed_softmax" in speed.SUBJECTS["agents"]
