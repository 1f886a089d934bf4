"""Speed rows are stored beside each other, and the README's block says what they say."""

import subprocess
import sys

import pytest

from benchmarks import report, speed, speed_data, speed_report
from benchmarks.results import COLUMNS, Results

LOAD = "one run on 2 cores"


def figures(who, what, n, seconds, memory=100.0):
    about = {"agent": who, "n": n, "seconds": seconds, "config": {"load": 0.5}}
    values = {what: (seconds, "s"), f"{what}, peak memory": (memory, "MB"), f"{what}, new memory": (memory, "MB")}
    return [{**about, "metric": metric, "value": value, "unit": unit} for metric, (value, unit) in values.items()]


@pytest.fixture
def results(tmp_path):
    kept = Results(tmp_path / "speed_data.csv")
    rows = [*figures("polars (reads only)", "read", 1000, 2.0), *figures("recgym", "ingest", 1000, 3.0, 250.0)]
    batches = {
        "agent": "recgym",
        "metric": "frame batches, views",
        "value": 690_000.0,
        "unit": "transitions/s",
        "n": 256,
    }
    speed.store([*rows, *figures("recgym", "ingest", 5000, 9.0), batches], kept, LOAD)
    return kept


def test_rows_have_every_column_and_replace_only_their_own(results):
    before = results.rows()
    assert all(set(row) == set(COLUMNS) and row["value"] for row in before)
    speed.store(figures("recgym", "ingest", 1000, 4.0), results, LOAD)
    after = {(row["agent"], row["metric"]): row["value"] for row in results.rows()}
    assert len(after) == len(before)
    assert after["recgym", "ingest @1000"] == "4"
    assert after["recgym", "ingest @5000"] == "9"
    assert after["recgym", "frame batches, views @256"] == "690000"


def test_block_shows_ratios_to_the_fastest_reader_of_that_size(results):
    text = speed_report.block("speed_data", results.rows())
    assert "| 1,000 | ingest | recgym | 3.00 | 1.5 |  | 250 | 0.5 |" in text
    assert "| 5,000 | ingest | recgym | 9.00 |  |  | 100 | 0.5 |" in text  # no reader was measured there
    assert "| frame batches, views | recgym | 690,000 transitions/s |" in text
    assert "python -m benchmarks.speed data" in text


def test_readme_gets_the_block_and_the_plot(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# x\n<!-- results:speed_data -->\n<!-- /results:speed_data -->\nafter\n")
    report.main(["--page", str(readme), "--results", str(tmp_path)])
    assert "| 1,000 | ingest | recgym | 3.00 | 1.5 |" in readme.read_text()
    assert readme.read_text().endswith("<!-- /results:speed_data -->\nafter\n")
    assert (tmp_path / "speed_data.png").stat().st_size > 5_000
    report.main(["--check", "--page", str(readme), "--results", str(tmp_path)])
    speed.store(figures("recgym", "ingest", 1000, 4.0), results, LOAD)
    with pytest.raises(SystemExit):
        report.main(["--check", "--page", str(readme), "--results", str(tmp_path)])


def test_too_little_disk_is_told_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(speed_data.shutil, "disk_usage", lambda path: speed_data.shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(SystemExit, match="2,000 rows need 0 GB of disk, got 0 GB free"):
        speed_data.rows([2000], quick=True)


@pytest.mark.slow
def test_all_of_it_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed", "data", "--quick", "--rows", "300000", "--only", "speed_data"]
    said = subprocess.run([*command, "--results", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert "past memory" in said
    tasks = {(row["agent"], row["metric"]) for row in Results(tmp_path / "speed_data.csv").rows()}
    assert {("recgym", "ingest @3000"), ("recgym", "second load @3000"), ("pandas tuned", "ingest @3000")} <= tasks
