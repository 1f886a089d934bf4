"""The report of a CUDA device runs as a whole on a processor, so that it does where there is a card."""

import pytest
import torch

from benchmarks import speed, speed_gpu


def test_all_of_the_report_runs_without_a_card():
    rows = speed_gpu.rows([], quick=True)
    by_who = {(row["agent"], row["metric"]): row for row in rows}
    assert len(by_who) == len(rows) == 6 and all(row["value"] > 0 for row in rows)
    assert {metric for _, metric in by_who} == {"DDPG updates", "TD3 updates", "DDPG pass"}
    passed = by_who["recgym", "DDPG pass"]
    assert passed["n"] >= 4 * (speed_gpu.EVENTS - speed_gpu.FRAME) - 64  # all but a last short batch
    assert speed.complete(passed, "one run")["device"] == rows[0]["device"]
    assert "benchmarks.speed_gpu" in speed.SUBJECTS["gpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_no_row_is_made_up(capsys):
    assert speed_gpu.rows([], quick=False) == [] and "no CUDA device" in capsys.readouterr().out
