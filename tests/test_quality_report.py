"""What README and leaderboard.md say of the quality suite is what the rows say."""

import numpy as np
import pytest

from benchmarks import report
from benchmarks.quality import entries
from benchmarks.quality import report as quality_report
from benchmarks.quality.ranking import CHOSEN, FINAL, METRICS
from benchmarks.quality.store import COLUMNS, Finished, Store

MARKERS = "before\n<!-- results:quality -->\n<!-- /results:quality -->\nafter\n"


def row(agent, value, checkpoint=FINAL, group="all", **more):
    numbers = {f"{m}{end}": value + by for m in METRICS for end, by in (("", 0.0), ("_low", -0.1), ("_high", 0.1))}
    plain = {"agent": agent, "checkpoint": checkpoint, "group": group, "n": 20, "unit": "questions", "n_seeds": 2}
    about = {"seconds": 7.4, "tuning": "8 trials", "words": "in words", "rl": "no", "command": f"make {agent}"}
    return dict.fromkeys(COLUMNS, "x") | plain | numbers | about | more


@pytest.fixture
def folder(tmp_path):
    store = Store(tmp_path, "Q2")
    store.put("sqn", [row("sqn", 0.5, rl="yes"), row("sqn", 0.25, CHOSEN, rl="yes")])
    store.put("ease", [row("ease", 0.125)])
    store.put_curve("sqn", 0, [{"step": step, "seconds": 1.0, "ndcg@10": 0.1 * step} for step in range(3)])
    store = Store(tmp_path, "Q4")
    store.put("sqn", [row("sqn", 0.5, group="liked"), row("sqn", 0.75)])
    store.put("sqn - other", [row("sqn - other", 0.015, group="liked", unit="pairs")])
    return tmp_path


def test_rows_and_runs_come_back_and_replace_only_their_own(folder):
    store = Store(folder, "Q2")
    store.put("sqn", [row("sqn", 0.75)])
    assert [(found["agent"], found["ndcg@10"]) for found in store.rows()] == [("ease", "0.125"), ("sqn", "0.75")]
    for seed in (10, 2):
        store.put_run("sqn", seed, Finished({"seed": seed}, {"final ndcg@10": np.array([0.5, seed])}))
    assert [(seed, run.values["final ndcg@10"].tolist()) for seed, run in store.runs("sqn").items()] == [
        (2, [0.5, 2.0]),
        (10, [0.5, 10.0]),
    ]
    assert store.runs("sq") == {} and Store(folder, "Q1").rows() == []
    assert [point["step"] for point in store.curve("sqn", 0)] == [0.0, 1.0, 2.0]


def test_the_table_shows_the_chosen_checkpoint_what_is_quoted_and_what_is_missing(folder):
    text = quality_report.table("Q2", folder)
    assert "| ease | 0.125 [0.025, 0.225] | 0.125 [0.025, 0.225] | 2 | 7 s |" in text
    assert "| sqn (RL) | 0.250 [0.150, 0.350] |" in text and "0.500" not in text
    assert "| *SASRec, cross-entropy (antklen)* | *.315* | *.182* | | |" in text
    missing = next(line for line in text.splitlines() if line.startswith("Not run yet: "))
    names = missing.removeprefix("Not run yet: ").removesuffix(".").split(", ")
    assert "popularity" in names and not {"sqn", "ease"} & set(names)
    assert text.index("| ease") < text.index("| sqn")  # the order of the suite, not of the file
    assert "20 questions" in text and "in words" in text


def test_groups_are_columns_and_pairs_are_lines(folder):
    text = quality_report.table("Q4", folder)
    assert "| agent | hit_rate@10, liked | ndcg@10, liked | hit_rate@10, all | ndcg@10, all |" in text
    assert "- sqn minus other, final, liked: hit_rate@10 +0.015 [-0.085, 0.115]" in text


def test_the_page_has_both_checkpoints_commands_and_plots(folder):
    drawn = quality_report.plot(folder)
    assert {path.name for path in drawn} == {
        *("quality_q2.png", "quality_q2-time.png", "quality_q2-curves.png", "quality_q4.png", "quality_q4-time.png"),
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    page = quality_report.page(folder)
    assert "| sqn | final | x | 0.500" in page and "| sqn | chosen on validation | x | 0.250" in page
    assert "`make ease`" in page and "![Q2: learning curves](../benchmarks/results/quality_q2-curves.png)" in page


def test_readme_and_page_are_filled_and_checked(folder, tmp_path_factory, capsys):
    readme = tmp_path_factory.mktemp("pages") / "README.md"
    first = readme.parent / "docs" / "benchmarks.md"
    page = first.parent / report.LEADERBOARD
    first.parent.mkdir()
    for path in (first, readme, page):
        path.write_text(MARKERS)
    with pytest.raises(SystemExit, match="1"):
        report.main(["--check", "--page", str(first), "--results", str(folder)])
    report.main(["--page", str(first), "--results", str(folder)])
    assert "| sqn (RL) | 0.250 [0.150, 0.350] |" in readme.read_text() and "## Q2:" in page.read_text()
    report.main(["--check", "--page", str(first), "--results", str(folder)])
    page.write_text(page.read_text().replace("0.250", "0.350"))
    with pytest.raises(SystemExit, match="1"):
        report.main(["--check", "--page", str(first), "--results", str(folder)])
    assert "leaderboard.md differs from the rows" in capsys.readouterr().err
    page.write_text("no markers")
    with pytest.raises(SystemExit, match=r"leaderboard.md must have the lines <!-- results:quality --> and .* got 0"):
        report.main(["--page", str(first), "--results", str(folder)])


def test_without_rows_nothing_is_said(tmp_path):
    assert quality_report.present(tmp_path) == []


def test_every_pair_and_quotation_is_of_a_protocol_that_has_the_rows():
    for name, pairs in entries.PAIRS.items():
        assert {agent for pair in pairs for agent in pair} <= {entry.name for entry in entries.ROWS[name]}
    assert set(entries.QUOTED) <= set(entries.ROWS)
