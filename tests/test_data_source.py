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
from recgym import datasets, embeddings, fidelity, users
from recgym.__main__ import main
from recgym.data_source import DataSource, add_arguments, source_of
from recgym.errors import DataError, MissingDataError, OptionError
from recgym.fidelity.baselines import fit_ratings
from recgym.fidelity.held_out import and_misses, questions, with_misses
from recgym.fidelity.prepare import misses_of
from recgym.users.replay import ReplayUsers, unserved

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
        (["u,i", "1,2"], r"must hold one JSON object a line, got Expecting value.* in line 1; mend it"),
        ([{"u": 1}], r"must have the column 'i', got 'u'"),
        ([[1, 2]], r"must hold one JSON object a line, got \[1, 2\] in line 1; mend it"),
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
        "train": ["recgym", "train", "ddpg", *flags, "--steps", "2", "--folder", str(tmp_path / "ddpg")],
        "fidelity": ["recgym", "fidelity", *flags, "--held-out", "0.3", "--out", str(tmp_path / "card")],
        "export": ["recgym", "export", *flags, "--format", "parquet", "--out", str(tmp_path / "rows")],
        "evaluate-policy": ["recgym", "evaluate-policy", *flags, "--policy", "recgym.policies:Popularity"],
        "evaluate the run": ["recgym", "evaluate-policy", *flags, "--policy", str(tmp_path / "run")],
    }
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    for command, words in commands.items():
        run = [sys.executable, "-m", *words]
        done = subprocess.run(run, cwd=places, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        if command.startswith("evaluate"):  # honest: nobody said how likely each play was to be shown
            assert "propensities are estimated by 'logistic'" in done.stdout
    assert {path.name for path in (tmp_path / "run").glob("step-*")} == {"step-000000003"}
    assert (tmp_path / "card" / "card.html").exists() and (tmp_path / "rows" / "_items.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["agents.ddpg", "--dataset", "ml100k"], 1, "error: a data set must be one of .* did you mean 'ml-100k'"),
        (["agents.ddpg", "--data", "no.csv", "--user", "u", "--item", "i"], 1, "error: a table must be a file, got no"),
        (["agents.ddpg", "--stepz", "4"], 2, "stepz"),
        (["agents.ddpg", "--steps", "0"], 2, "steps must be an integer of at least 1"),
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
    assert "interrupted; to go on: python -m recgym info recgym/Synthetic-Frame-v0\n" in capsys.readouterr().err


# -- what is served, and what describes --------------------------------------------------------------------------------


def test_who_cannot_be_served_is_said(plays, capsys):
    log = datasets.load(plays, **COLUMNS)
    few = log.select_events(np.arange(log.n_events) % 2 == 0)
    left = int((few.lengths <= 10).sum())
    assert few.summary()["unserved"] == left and 0 < left < few.n_users and few.summary()["single"] == 0
    env = recgym.RecVectorEnv(1, users=ReplayUsers(few), catalog=embeddings.svd(few, dim=4))
    assert len(env.users.servable) == few.n_users - left
    served = f"{few.n_users - left} of {few.n_users} users of the log are served, {left} have too few events for an "
    assert env.users.served == f"{served}opening of 10 and one answer; min_history=1 serves {few.n_users}"
    assert ReplayUsers(few, min_history=1).served == f"{few.n_users} of {few.n_users} users of the log are served"
    said = unserved(few, 10)
    assert said.startswith(f"{left} of {few.n_users} users have 10 events or fewer and are not served (frame_size=10, ")
    assert said.endswith(f"; min_history=1 serves {few.n_users}") and unserved(few, 10, 0) == ""


def test_info_describes_a_log(places, monkeypatch, capsys):
    monkeypatch.chdir(places)
    assert main(["info", "plays.csv", *FLAGS]) == 0
    said = capsys.readouterr().out
    assert "InteractionLog('plays': 900 events, 40 users, 20 items)" in said
    assert "users have 10 events or fewer and are not served" in said
    with pytest.raises(SystemExit):
        main(["info", "plays.csv", "--data", "plays.csv"])


def test_titles_and_features_of_a_table(plays, tmp_path):
    items = pd.DataFrame({"track": [3.0, 0.0, 1.0, 99.0], "name": ["Drei", "Null", None, "x"]})
    items["year"] = [1993, 2000, 2001, 1]
    people = pd.DataFrame({"listener": ["p0", "p1"], "city": ["Oslo", "Rome"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    people.to_json(tmp_path / "users.jsonl", orient="records", lines=True)
    given = {"items": str(tmp_path / "items.csv"), "users": str(tmp_path / "users.jsonl")}
    for beside in (given, {"items": items, "users": people}):
        log = datasets.load(plays, **COLUMNS, **beside, title="name")
        assert log.titles[:4].tolist() == ["Null", "1", "2", "Drei"]  # without a title, the id
        np.testing.assert_array_equal(log.item_features["year"][:4], [2000, 2001, np.nan, 1993])
        assert log.users["city"][:2].tolist() == ["Oslo", "Rome"] and set(log.users["city"][2:]) == {""}
    with pytest.raises(DataError, match="must have the column 'label', got 'name', 'year'"):
        datasets.load(plays, **COLUMNS, items=items, title="label")
    with pytest.raises(DataError, match="must describe every track once, got '3' again"):
        datasets.load(plays, **COLUMNS, items=pd.concat([items, items[:1]]))
    with pytest.raises(DataError, match="title needs items=, the table it is a column of"):
        datasets.load(plays, **COLUMNS, title="name")
    with pytest.raises(MissingDataError, match="a table of items or users must be a file, got no such file"):
        datasets.load(plays, **COLUMNS, items="nowhere.csv")


def test_cards_of_implicit_logs_are_judged_with_misses(plays):
    train, later = datasets.load(plays, **COLUMNS).split_ratio(0.2)
    asked = questions(train, later)
    both = and_misses(asked, 2, seed=0)
    n, extra = len(asked.users), len(both.users) - len(asked.users)
    assert 0 < extra < 2 * n and both.outcome[:n].min() == 1.0 and not both.outcome[n:].any()
    taken = {(u, i) for log in (train, later) for u, i in zip(log.user_ids[log.event_users()], log.items, strict=True)}
    drawn = list(zip(train.user_ids[both.users[n:]], both.items[n:], strict=True))
    assert not taken & set(drawn)
    told = with_misses(train, 1, seed=0)
    assert told.n_users == train.n_users and set(np.unique(told.rewards)) == {0.0, 1.0}
    kept = told.select_events(told.rewards > 0)
    np.testing.assert_array_equal(kept.items, train.items)
    np.testing.assert_array_equal(kept.times, train.times)
    model = users.fit(train, embeddings.svd(train, dim=4), dim=4, max_epochs=2, n_members=2, misses=1)
    card = fidelity.report(model, train, later)
    assert 0.5 < card["AUC within users"].mean <= 1.0
    assert any("drawn items stand for what was not" in note for note in card.notes)
    with pytest.raises(DataError, match=r"pass misses=1"):
        users.fit(train, embeddings.svd(train, dim=4), dim=4, max_epochs=2)


def test_simple_models_of_rewards_all_alike_say_that_reward(plays):
    """A constant log left a singular matrix: the pull on factors was measured by the spread of rewards."""
    train = datasets.load(plays, **COLUMNS)
    model = fit_ratings(train, dim=2, bias_penalty=1.0, penalty=4.0)
    np.testing.assert_allclose(model.predict(np.arange(5), np.arange(5)), 1.0)


def test_misses_are_taken_where_all_rewards_are_alike(plays):
    log = datasets.load(plays, **COLUMNS)
    assert (misses_of(log, None), misses_of(log, 0), misses_of(log, 3)) == (1, 0, 3)
    assert misses_of(datasets.load("synthetic", n_users=50, n_items=40), None) == 0
