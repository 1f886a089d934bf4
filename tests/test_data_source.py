"""One address everywhere: names, files, folders, saved logs, tables in memory; for loaders, environments, commands."""

import argparse
import json
import os
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pandas as pd
import polars as pl
import pytest

import recgym
from recgym import datasets
from recgym.__main__ import main
from recgym.data_source import DataSource, add_arguments, source_of
from recgym.errors import DataError, MissingDataError, OptionError

COLUMNS = {"user": "listener", "item": "track", "time": "when"}
FLAGS = [word for name, column in COLUMNS.items() for word in (f"--{name}", column)]
SMALL = {"dim": 4, "frame_size": 2, "test_size": 0.3}


@pytest.fixture(scope="module")
def plays():
    """An implicit log: who played what, when."""
    random = np.random.default_rng(0)
    n = 900
    users, items = random.integers(40, size=n), random.zipf(1.5, n) % 20
    frame = {"listener": [f"p{user}" for user in users], "track": items, "when": 1_600_000_000 + 977 * np.arange(n)}
    return pd.DataFrame(frame)


@pytest.fixture(scope="module")
def places(plays, tmp_path_factory):
    """The same events at every kind of address, and the cache for all of them."""
    folder = tmp_path_factory.mktemp("places")
    plays.to_csv(folder / "plays.csv", index=False)
    plays.to_parquet(folder / "plays.parquet")
    plays.to_json(folder / "plays.jsonl.gz", orient="records", lines=True)
    for kind, write in (("parquet", pd.DataFrame.to_parquet), ("jsonl", _to_lines), ("csv", _to_csv)):
        (folder / f"{kind}-parts").mkdir()
        for number, part in enumerate(np.array_split(np.arange(len(plays)), 3)):
            write(plays.iloc[part], folder / f"{kind}-parts" / f"part-{number}.{kind}")
    log = datasets.load(plays, **COLUMNS)
    log.save(folder / "saved")
    log.to_parquet(folder / "log-parts", 2)
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    datasets._opened.cache_clear()


def _to_lines(frame, path):
    frame.to_json(path, orient="records", lines=True)


def _to_csv(frame, path):
    frame.to_csv(path, index=False)


TABLES = ["plays.csv", "plays.parquet", "plays.jsonl.gz", "parquet-parts", "jsonl-parts", "csv-parts"]
LOGS = ["saved", "log-parts"]


@pytest.mark.parametrize("name", [*TABLES, *LOGS])
def test_every_address_is_the_same_log(name, places, plays):
    options = {} if name in LOGS else COLUMNS
    wanted = datasets.load(plays, **COLUMNS)
    for log in (
        datasets.load(places / name, **options),
        datasets.load("table", path=str(places / name), **options),
        DataSource(str(places / name), **options).load(),
    ):
        for column in ("items", "rewards", "times", "offsets", "item_ids"):
            np.testing.assert_array_equal(getattr(log, column), getattr(wanted, column), column)
        assert log.user_ids.tolist() == wanted.user_ids.tolist()


@pytest.mark.parametrize("name", ["plays.csv", "jsonl-parts", "saved"])
def test_environments_take_paths(name, places):
    options = SMALL | ({} if name in LOGS else COLUMNS)
    env = gym.make("recgym/Table-Frame-v0", path=str(places / name), **options)
    env.reset(seed=0)
    assert env.unwrapped.catalog.n_items == 20
    other = gym.make("recgym/Table-Frame-v0", dataset=str(places / name), **options)
    assert other.unwrapped.catalog.n_items == 20


def test_tables_in_memory(plays):
    wanted = datasets.load(plays, **COLUMNS)
    for table in (pl.from_pandas(plays), pl.from_pandas(plays).to_arrow()):
        np.testing.assert_array_equal(datasets.load(table, **COLUMNS).items, wanted.items)


def test_saved_logs_take_filters_and_refuse_columns(places):
    log = datasets.load(places / "saved", min_events=10, top_items=5)
    assert log.n_items == 5 and log.lengths.min() >= 10 > datasets.load(places / "saved").lengths.min()
    with pytest.raises(OptionError, match=r"has its columns already: .* among min_events, top_items, got user; drop"):
        datasets.load("table", path=str(places / "saved"), user="listener")


def test_folders_that_are_no_log_say_so(places, tmp_path):
    datasets.load(places / "saved").save(tmp_path / "broken")
    (tmp_path / "broken" / "manifest.json").write_text("{")
    with pytest.raises(recgym.StoreError, match=r"must hold a readable manifest\.json"):
        datasets.load(tmp_path / "broken")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=r"must hold \.parquet files, or \.jsonl or \.csv ones, got none in"):
        datasets.load(tmp_path / "empty", **COLUMNS)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("ml100k", DataError, r"or a path, got 'ml100k'; did you mean 'ml-100k'\?"),
        ("MovieLens", DataError, "got 'MovieLens'; there is no such name and no such file"),
        ("nowhere/plays.csv", MissingDataError, "got no such file at nowhere/plays.csv"),
        ("plays.cvs", MissingDataError, "got no such file at plays.cvs"),
    ],
)
def test_what_is_no_address(address, error, message):
    with pytest.raises(error, match=message):
        datasets.load(address, **COLUMNS)


# -- JSON lines --------------------------------------------------------------------------------------------------------


def _lines(path, rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_json_lines_are_read_past_their_first_block(tmp_path):
    """Whole numbers that turn out to have fractions, and ids that look like dates, far below the first lines."""
    rows = [{"u": "2024-01-01", "i": k % 7, "t": 5000 + k, "other": {"a": [k]}} for k in range(80_000)]
    rows += [{"u": "later", "i": 3, "t": 10.5}, {"i": None, "u": "later", "t": 100_000}]
    options = {"user": "u", "item": "i", "time": "t", "missing": "drop", "time_unit": "s"}
    log = datasets.load(_lines(tmp_path / "e.jsonl", rows), **options)
    assert (log.n_events, log.user_ids.tolist()) == (80_001, ["2024-01-01", "later"])
    assert log.times.max() == 84_999


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["u,i", "1,2"], r"must hold one JSON object a line, .* got JSON parse error.*; mend that line"),
        ([{"u": 1, "i": 2}, {"u": "x", "i": 2}], "Column.*changed from number to string"),
        ([{"u": 1}], r"must have the column 'i', got 'u'"),
        ([[1, 2]], "changed from object to array"),
        ([""], "must hold one JSON object a line"),
        ([{"u": 1, "i": None}], r"column 'i' of .*must be filled in .* got nothing in line 1"),
        ([{"u": {"a": 1}, "i": 2}], "column 'u' of"),
    ],
)
def test_bad_json_lines(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        datasets.load(_lines(tmp_path / "e.jsonl", rows), user="u", item="i")


# -- the options of commands -------------------------------------------------------------------------------------------


def test_options_of_a_command():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--data", "a.tsv", "--separator", "tab", "--option", "quote=null", 'names=["u"]', "--min-events", "3"]
    source = source_of(parser.parse_args([*given, "--option", "order=sasrec"]))
    assert source.dataset == "a.tsv"
    further = {"quote": None, "names": ["u"], "order": "sasrec"}
    assert source.options == {"separator": "\t", "min_events": 3, **further}
    assert source_of(parser.parse_args(["--dataset", "ml-1m"])) == DataSource("ml-1m")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("order",), "option must read NAME=VALUE, got 'order'"),
        (("order=time", "order=sasrec"), "an option must be given once, got order twice"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises(DataError, match=message):
        _ = DataSource(option=option).options


def test_recipes_name_data_for_other_processes(places, monkeypatch):
    monkeypatch.chdir(places)
    assert DataSource("ml-1m", option=("order=sasrec",)).recipe() == {"dataset": "ml-1m", "order": "sasrec"}
    assert DataSource("plays.csv", user="listener").recipe() == {
        "dataset": str(places / "plays.csv"),
        "user": "listener",
    }
    assert DataSource("plays.csv").label == DataSource("saved/../plays.csv").label == "plays"


# -- the shell ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plays.csv", "saved"])
def test_a_csv_of_ones_own_from_the_shell_alone(name, places, tmp_path):
    flags = ["--data", name, *([] if name in LOGS else FLAGS)]
    commands = {
        "info": ["recgym", "info", *flags],
        "td3": ["agents.td3", *flags, "--steps", "3", "--dim", "8", "--folder", str(tmp_path / "run"), "--hidden", "8"],
        "train": ["recgym", "train", "ddpg", *flags, "--steps", "2", "--dim", "8", "--folder", str(tmp_path / "ddpg")],
        "fidelity": ["recgym", "fidelity", *flags, "--held-out", "0.3", "--out", str(tmp_path / "card")],
        "export": ["recgym", "export", *flags, "--dim", "8", "--format", "parquet", "--out", str(tmp_path / "rows")],
        "evaluate-policy": ["recgym", "evaluate-policy", *flags, "--policy", "recgym.policies:Popularity"],
    }
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    for command, words in commands.items():
        run = [sys.executable, "-m", *words]
        done = subprocess.run(run, cwd=places, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        if command == "evaluate-policy":  # understood, and honest: nobody said how likely each play was to be shown
            assert done.returncode == 1 and "needs the propensity of every event" in done.stderr
        else:
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert {path.name for path in (tmp_path / "run").glob("step-*")} == {"step-000000003"}
    assert (tmp_path / "card" / "card.html").exists() and (tmp_path / "rows" / "items.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["agents.ddpg", "--dataset", "ml100k"], 1, "error: a data set must be one of .* did you mean 'ml-100k'"),
        (["agents.ddpg", "--data", "no.csv", "--user", "u", "--item", "i"], 1, "error: a table must be a file, got no"),
        (["agents.ddpg", "--stepz", "4"], 2, "stepz"),
        (["agents.ddpg", "--steps", "0"], 1, "error: steps must be an integer of at least 1"),
        (["recgym", "train", "ddgp"], 1, r"error: an agent must be .* got 'ddgp'; did you mean 'ddpg'"),
        (
            ["benchmarks.run", "--suite", "quickstart", "--agent", "nowhere:Mine"],
            1,
            r"error: Python must find 'nowhere'",
        ),
        (["recgym", "export", "--data", "coast", "--format", "parquet", "--out", "x"], 1, "did you mean 'coat'"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_mistakes_of_commands_are_one_line(words, code, said, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "RECGYM_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert re.search(said, done.stderr + done.stdout), done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_interrupted_commands_say_how_to_go_on(monkeypatch, capsys):
    from recgym.commands import environments

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "_ids", interrupted)
    assert main(["info", "recgym/Synthetic-Frame-v0"]) == 130
    assert "interrupted; to go on, run the same command again" in capsys.readouterr().err
