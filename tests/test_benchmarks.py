"""Rows, tables and the run that makes them, on a suite small enough for a test."""

import csv
import os
import signal
import time

import numpy as np
import pytest

from benchmarks import demo, report, run, suites
from benchmarks.plots import apart
from benchmarks.quality.store import Store
from benchmarks.results import COLUMNS, Results
from benchmarks.suites import Entry, Suite

MICRO = Suite(
    name="micro",
    title="A micro suite",
    dataset="synthetic",
    options={"n_users": 90, "n_items": 40},
    entries=(Entry("uniform", "benchmarks.build:uniform"), Entry("popularity", "recgym.policies:Popularity")),
    pairs=(("popularity", "uniform"),),
    pair_metrics=("hit_rate@10", "session_return"),
    test_size=0.3,
    dim=8,
    horizon=5,
    n_last=3,
)
README = "# x\n\n<!-- results:micro -->\n<!-- /results:micro -->\n\nafter\n"


def row(agent="ddpg", metric="hit_rate@10", value=0.25, seed=0, **other):
    plain = dict.fromkeys(COLUMNS, "")
    numbers = {"agent": agent, "metric": metric, "value": value, "low": 0.2, "high": 0.3, "n": 20, "seed": seed}
    about = {"unit": "users", "n_steps": 0, "seconds": 1.0, "protocol": "p", "data_hash": "d", "config": {"a": 1}}
    return plain | numbers | about | {"key": f"key {agent} {seed}", "commit": "abc", "dirty": "no"} | other


# -- rows -------------------------------------------------------------------------------------------------------------


def test_rows_come_back_and_replace_only_their_own(tmp_path):
    results = Results(tmp_path / "micro.csv")
    assert results.rows() == []
    results.put([row(), row(metric="mrr", value=float("nan"))])
    results.put([row("ease"), row(seed=1)])
    results.put([row(value=0.5)])  # run again with fewer metrics: the old mrr goes too
    found = [(r["agent"], r["metric"], r["seed"], r["value"]) for r in results.rows()]
    assert found == [
        ("ease", "hit_rate@10", "0", "0.25"),
        ("ddpg", "hit_rate@10", "1", "0.25"),
        ("ddpg", "hit_rate@10", "0", "0.5"),
    ]
    assert results.rows()[0]["config"] == '{"a": 1}'
    assert results.finished() == {"key ease 0", "key ddpg 1", "key ddpg 0"}


def write_forty(folder, number):
    """Puts forty rows into each of two files in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for seed in range(40):
                Results(folder / "micro.csv").put([row(f"agent {number}", seed=seed)])
                if seed % 10 == 0:
                    name = f"agent {number} {seed}"
                    Store(folder, "Q1").put(name, [{"agent": name, "seconds": 1.5}])
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eight_writers_at_once_lose_no_row_and_a_killed_one_only_its_own(tmp_path):
    children = [write_forty(tmp_path, number) for number in range(9)]
    while ("agent 8", "5") not in {(row["agent"], row["seed"]) for row in Results(tmp_path / "micro.csv").rows()}:
        time.sleep(0.01)
    os.kill(children[8], signal.SIGKILL)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ended[:8] == [0] * 8
    wanted = {(f"agent {number}", str(seed)) for number in range(8) for seed in range(40)}
    found = [(row["agent"], row["seed"]) for row in Results(tmp_path / "micro.csv").rows()]
    assert set(found) >= wanted | {("agent 8", str(seed)) for seed in range(6)} and len(found) == len(set(found))
    agents = [row["agent"] for row in Store(tmp_path, "Q1").rows() if row["seconds"] == "1.5"]
    assert set(agents) >= {f"{name} {seed}" for name, seed in wanted if int(seed) % 10 == 0}


def test_a_write_that_fails_leaves_the_old_rows(tmp_path):
    results = Results(tmp_path / "micro.csv")
    results.put([row()])
    before = results.path.read_bytes()
    incomplete = row("ease")
    del incomplete["device"]
    with pytest.raises(KeyError, match="device"):
        results.put([incomplete])
    assert results.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["micro.csv"]


def test_values_per_user_and_curves_come_back(tmp_path):
    results = Results(tmp_path / "micro.csv")
    results.put_units("item_knn", 3, {"mrr": {4: 0.5, 9: 0.25}, "session_return": {4: 1.5}})
    assert results.units("item_knn", 3, "mrr") == {4: 0.5, 9: 0.25}
    assert results.units("item_knn", 3, "session_return") == {4: 1.5}
    assert results.units("item_knn", 3, "ndcg@10") == {} == results.units("item_knn", 4, "mrr")
    results.put_curve("ddpg", 0, [{"step": 10, "mrr": 0.125}, {"step": 20, "mrr": 0.25}])
    assert results.curve("ddpg", 0) == [{"step": 10.0, "mrr": 0.125}, {"step": 20.0, "mrr": 0.25}]
    assert results.curve("ease", 0) == []


# -- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A README and a folder of rows of the micro suite."""
    monkeypatch.setattr(report, "SUITES", {"micro": MICRO})
    results = Results(tmp_path / "results" / "micro.csv")
    sessions = {"metric": "session_return", "value": 4.0, "unit": "sessions", "n": 18}
    coverage = row(metric="coverage@10", value=0.75, low=float("nan"), high=float("nan"))
    results.put([row(n_steps=100), row(**sessions), coverage])
    results.put([row("uniform", value=0.1, low=0.05, high=0.15), row("uniform", **sessions)])
    results.put([row("ddpg - uniform", unit="pairs", value=0.15, low=0.05, high=0.25)])
    results.put_curve("ddpg", 0, [{"step": 50, "hit_rate@10": 0.2, "low": 0.1, "high": 0.3}])
    readme = tmp_path / "README.md"
    readme.write_text(README)
    return readme, results


def test_report_writes_what_check_then_accepts(written):
    readme, results = written
    arguments = ["--page", str(readme), "--results", str(results.path.parent)]
    with pytest.raises(SystemExit, match="1"):
        report.main([*arguments, "--check"])
    assert readme.read_text() == README
    report.main(arguments)
    text = readme.read_text()
    report.main([*arguments, "--check"])
    assert "| uniform | 0.100 [0.050, 0.150] | 4.000 [0.200, 0.300] |  | 1 s |" in text
    assert "| ddpg | 0.250 [0.200, 0.300] | 4.000 [0.200, 0.300] | 0.750 | 1 s |" in text
    assert "- ddpg minus uniform, hit_rate@10: +0.150 [0.050, 0.250] over 20 users" in text
    assert "python -m benchmarks.run --suite micro" in text
    assert text.endswith("<!-- /results:micro -->\n\nafter\n")
    assert text.index("| uniform |") < text.index("| ddpg |")  # as in the suite, not as they were run
    for name in ("micro.png", "micro-curves.png"):
        assert (results.path.parent / name).read_bytes().startswith(b"\x89PNG")
        assert f"benchmarks/results/{name}" in text
    report.main(arguments)
    assert readme.read_text() == text


def test_check_sees_a_changed_row_and_a_changed_table(written):
    readme, results = written
    arguments = ["--page", str(readme), "--results", str(results.path.parent)]
    report.main(arguments)
    text = readme.read_text()
    readme.write_text(text.replace("0.250 [", "0.350 ["))
    with pytest.raises(SystemExit, match="1"):
        report.main([*arguments, "--check"])
    readme.write_text(text)
    results.put([row(value=0.26)])
    with pytest.raises(SystemExit, match="1"):
        report.main([*arguments, "--check"])


def test_report_refuses_a_readme_without_markers_and_rows_of_two_protocols(written):
    _, results = written
    with pytest.raises(SystemExit, match=r"must have the lines <!-- results:micro -->.*got 0 and 0"):
        report.filled("# x\n", results.path.parent)
    results.put([row("ease", protocol="q")])
    with pytest.raises(SystemExit, match="rows of micro must share one protocol and data, got 2"):
        report.filled(README, results.path.parent)


def test_several_seeds_have_lines_of_their_own():
    lines = report.table([{name: str(value) for name, value in row(seed=seed).items()} for seed in (0, 1)]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ddpg (seed 0)", "| ddpg (seed 1)"]


# -- running ----------------------------------------------------------------------------------------------------------


def test_suites_are_sound():
    for name, suite in suites.SUITES.items():
        assert suite.name == name
        entries = [entry.name for entry in suite.entries]
        assert len(set(entries)) == len(entries)
        assert {"uniform", "popularity", "recent popularity", "item_knn", "ease", "ddpg"} <= set(entries)
        assert ("ddpg", "popularity") in suite.pairs
    assert MICRO.entry("a.b:C") == Entry("a.b:C", "a.b:C")
    with pytest.raises(SystemExit, match=r"must be one of \['uniform', 'popularity'\].*got 'no'"):
        MICRO.entry("no")


def test_key_depends_on_what_changes_the_result_only():
    entry = MICRO.entries[0]
    key = run.run_key(MICRO, entry, 0, "data")
    assert key == run.run_key(MICRO, entry, 0, "data")
    others = [
        run.run_key(MICRO, entry, 1, "data"),
        run.run_key(MICRO, entry, 0, "other data"),
        run.run_key(MICRO, Entry("uniform", entry.build, {"a": 1}), 0, "data"),
        run.run_key(Suite("micro", "", "synthetic", (), options=MICRO.options, n_last=4), entry, 0, "data"),
    ]
    assert len({key, *others}) == 5


def test_run_writes_rows_once_and_pairs(tmp_path, capsys):
    results = Results(tmp_path / "micro.csv")
    run.run(MICRO, results)
    rows = results.rows()
    metrics = MICRO.metrics
    assert [(r["agent"], r["metric"]) for r in rows] == [
        *[("uniform", metric) for metric in metrics],
        *[("popularity", metric) for metric in metrics],
        *[("popularity - uniform", metric) for metric in MICRO.pair_metrics],
    ]
    assert {name for name in COLUMNS if not rows[0][name]} == set()
    for r in rows:
        if r["low"]:
            assert float(r["low"]) <= float(r["value"]) <= float(r["high"])
    value = {(r["agent"], r["metric"]): float(r["value"]) for r in rows}
    assert value["popularity - uniform", "hit_rate@10"] == pytest.approx(
        value["popularity", "hit_rate@10"] - value["uniform", "hit_rate@10"], abs=1e-5
    )
    before = results.path.read_bytes()
    capsys.readouterr()
    run.run(MICRO, results)
    assert results.path.read_bytes() == before
    assert capsys.readouterr().out.count("has rows already") == 2


def test_an_interrupted_run_keeps_its_rows_and_goes_on(tmp_path, monkeypatch):
    results = Results(tmp_path / "micro.csv")
    evaluate = run.evaluate

    def stops_at_popularity(entry, *rest):
        if entry.name == "popularity":
            raise KeyboardInterrupt
        evaluate(entry, *rest)

    monkeypatch.setattr(run, "evaluate", stops_at_popularity)
    with pytest.raises(KeyboardInterrupt):
        run.run(MICRO, results)
    finished = results.rows()
    assert {r["agent"] for r in finished} == {"uniform"}
    monkeypatch.setattr(run, "evaluate", evaluate)
    run.run(MICRO, results)
    assert results.rows()[: len(finished)] == finished
    assert {r["agent"] for r in results.rows()} == {"uniform", "popularity", "popularity - uniform"}


def test_one_row_of_ones_own_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SUITES", {"micro": MICRO})
    (tmp_path / "my_own_ranker.py").write_text(
        "import numpy as np\n"
        "class Loved:\n"
        "    def __init__(self, item_ids, total, reward):\n"
        "        self.item_ids, self.total, self.reward = item_ids, total, reward\n"
        "    @classmethod\n"
        "    def fit(cls, log):\n"
        "        total = np.bincount(log.items, weights=log.rewards, minlength=log.n_items)\n"
        "        return cls(log.item_ids, total, log.reward)\n"
        "    def scores(self, history):\n"
        "        return np.broadcast_to(self.total, (len(history.items), len(self.total)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run.main(["--suite", "micro", "--rows", "my_own_ranker:Loved", "--out", str(tmp_path / "out")])
    with open(tmp_path / "out" / "micro.csv", newline="") as file:
        assert {r["agent"] for r in csv.DictReader(file)} == {"my_own_ranker:Loved"}


def test_an_agent_learns_along_a_curve(tmp_path):
    suite = Suite(
        **{
            name: getattr(MICRO, name)
            for name in ("title", "dataset", "options", "test_size", "dim", "horizon", "n_last")
        },
        name="micro",
        entries=(Entry("ddpg", "agents:DDPG", n_steps=4, batch_size=32),),
        curve_points=2,
        frame_size=4,
    )
    results = Results(tmp_path / "micro.csv")
    run.run(suite, results)
    assert [point["step"] for point in results.curve("ddpg", 0)] == [0, 2, 4]
    assert {r["n_steps"] for r in results.rows()} == {"4"}


def test_demo_says_whether_the_difference_is_above_zero(tmp_path, capsys):
    below = Suite(
        **{
            name: getattr(MICRO, name)
            for name in ("title", "dataset", "options", "test_size", "dim", "horizon", "n_last")
        },
        name="micro",
        entries=MICRO.entries,
        pairs=(("uniform", "popularity"),),
        pair_metrics=("session_return",),
    )
    assert demo.demo(below, tmp_path / "demo") is False
    assert "NOT above zero" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"results.csv", "micro.png", "units"}
    as_text = {name: str(value) for name, value in row("a - b", low=0.1).items()}
    assert demo.verdict(as_text).endswith(": above zero")


def test_the_readme_says_what_the_rows_say():
    report.main(["--check"])


@pytest.mark.parametrize("values", [[0.1, 0.1, 0.1], [0.0, 0.5, 1.0], [0.98, 0.99, 1.0], [0.5]])
def test_names_of_lines_do_not_overlap(values):
    heights = apart(values, 0.06, 1.0)
    assert np.all(np.diff(heights) >= 0.06 - 1e-12) and max(heights) <= 1.0
    assert np.abs(np.subtract(heights, values)).max() <= 0.06 * (len(values) - 1) + 1e-12
