"""Forty and more mistakes of users: an exit code of 1 or 2, a message that says what to do, and never a traceback."""

import os
import signal
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import recgym
from recgym import datasets
from recgym.__main__ import main
from recgym.commands.ending import ended
from recgym.errors import DataError

PLAYS = "--data plays.csv --user user --item item"
TINY = "--option n_users=60 n_items=40 --device cpu"
MISTAKES = [  # words, exit code, what is said
    ("", 2, "the following arguments are required: COMMAND"),
    ("lst", 2, "COMMAND must be one there is, got 'lst'; did you mean 'list'?"),
    ("list --al", 2, "every word must be an argument of the command, got --al; see --help"),
    ("info", 2, "info needs one id or data source"),
    ("info recgym/ML100K-Fram-v1", 1, "did you mean 'recgym/ML100K-Frame-v0' or"),
    ("info ml100k", 1, "info needs an id, a data set or a file, got 'ml100k'; did you mean 'ml-100k'?"),
    ("info nothere.csv", 1, "got 'nothere.csv'; there is no such file"),
    ("info empty.csv", 1, "a table needs user= and item=, the names of its columns"),
    ("info ml-100k", 1, "ml-100k must be on this machine"),
    ("info --data plays.csv --user usr --item item", 1, "must have the column 'usr', got 'user', 'item'"),
    ("info --data plays.csv --usr user", 2, "got --usr; did you mean '--user'?"),
    ("fetch ml100k", 1, "can be downloaded, got 'ml100k'; did you mean 'ml-100k'?"),
    ("check Synthetic-Frame-v0", 1, "did you mean 'recgym/Synthetic-Frame-v0'?"),
    ("data prepar", 2, "got 'prepar'; did you mean 'prepare'?"),
    (f"data prepare {PLAYS} --out p --engine rays", 1, "got 'rays'; did you mean 'ray'?"),
    ("generate x.csv --rows ten", 2, "argument --rows: invalid int value: 'ten'"),
    ("generate /proc/x/y.csv --rows 3000", 1, "a folder one can write to"),
    ("train", 2, "train needs the name of an agent, got none; they are bcq, ddpg"),
    ("train ddgp", 1, "an agent must be one that trains by a command, got 'ddgp'; did you mean 'ddpg'?"),
    ("train --processes 0 ddpg", 1, "processes must be an integer of at least 1, got 0"),
    ("train ddpg --stps 5", 2, "--steps INT"),
    ("train ddpg --data nothere.csv", 1, "a table must be a file, got no such file at nothere.csv"),
    (f"train ddpg {TINY} --dim 1000 --steps 1", 1, "dim must lie between 1 and 40"),
    (f"train ddpg {TINY} --folder plays.csv --steps 1", 1, "plays.csv must be a folder one can write to"),
    (f"train ddpg {TINY} --folder run --steps 1", 1, "run must be free, got a run with checkpoints; pass --resume"),
    ("evaluate nowhere", 1, "nowhere must hold a checkpoint, got none"),
    ("evaluate run --k 0", 1, "k must be an integer of at least 1, got 0"),
    (f"evaluate run {PLAYS}", 1, "must rank the items of 'plays' in the same order"),
    (f"recommend nowhere {PLAYS} --out r.parquet", 1, "nowhere must hold a checkpoint, got none"),
    ("recommend run --data synthetic", 2, "the following arguments are required: --out"),
    ("serve nowhere", 1, "nowhere must hold a checkpoint, got none"),
    ("serve run --port web", 2, "argument --port: invalid int value: 'web'"),
    (f"export {PLAYS} --format hdf --out x", 2, "--format must be one there is, got 'hdf'; did you mean 'hdf5'?"),
    (f"export {PLAYS} --format parquet --out occupied", 1, "occupied must be free, empty or a folder with nothing"),
    (f"export {PLAYS} --format minari --out m --dim 4 --frame-size 2", 1, 'pip install "recgym[minari]"'),
    ("export-model nowhere --out m", 1, "nowhere must hold a checkpoint, got none"),
    (f"fidelity {PLAYS} --out occupied", 1, "occupied must be free, empty or a folder with nothing"),
    ("fidelity --data ml1m --model mf", 1, "a data set must be one of those `python -m recgym list` shows"),
    (f"evaluate-policy {PLAYS} --policy mine:Nothing", 1, "a policy must be named as package.module:Name"),
    (f"evaluate-policy {PLAYS} --policy agents.ddpg:DDPG", 1, "which refuses it (AttributeError: "),
    (f"evaluate-policy {PLAYS} --policy broken:A", 1, "a policy must be named as package.module:Name, got 'broken:A'"),
    ("floors recgym/Synthetic-Frame-v9", 1, "did you mean 'recgym/Synthetic-Frame-v0' or"),
    ("cache lis", 2, "got 'lis'; did you mean 'list'?"),
    ("sweep --suite quickstart", 1, 'needs Ray, got no such module; pip install "recgym[ray]"'),
    ("bench quikstart", 1, "a suite must be one there is, got 'quikstart'; did you mean 'quickstart'?"),
    ("bench quickstart --rows eas", 1, "a row must be one of"),
    ("bench speed dat", 2, "got 'dat'; did you mean 'data'?"),
    ("bench quality --protocol Q17", 1, "a protocol must be one of Q1, Q2"),
    ("bench rl-gain Retentoin", 2, "got 'Retentoin'; did you mean 'Retention'?"),
    ("bench report", 1, "report writes the pages of a checkout, got none here"),
    ("bench --agent nopkg.mine:A", 1, "Python must find 'nopkg.mine', got no such module"),
    ("bench --agent broken:A", 1, "broken must be importable, got SyntaxError"),
    ("bench --agent lacking:A", 1, "No module named 'no_such_module_at_all'"),
    ("bench --agent mine:three --smoke", 1, "an entry point must name a class, a function or a scorer, got int"),
    ("bench --agent mine:A --config {x", 2, "must be a JSON object"),
    ("bench --agent mine:A --steps 0", 1, "steps must be an integer of at least 1, got 0"),
    ("bench demo --sed 1", 2, "did you mean '--seed'?"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stranger's folder: a table, files that are none, modules that do not work, and a run."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "occupied").mkdir()
    (folder / "occupied" / "mine.txt").write_text("mine")
    (folder / "empty.csv").write_text("")
    rows = [f"{u},{(u * 7 + 3 * n) % 30}" for u in range(40) for n in range(15)]
    (folder / "plays.csv").write_text("\n".join(["user,item", *rows]))
    (folder / "broken.py").write_text("def (:\n")
    (folder / "lacking.py").write_text("import no_such_module_at_all\n")
    (folder / "mine.py").write_text(
        "three = 3\n\nclass A:\n    @classmethod\n    def fit(cls, log):\n        return None\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECGYM_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["train", "ddpg", *TINY.split(), "--dim", "4", "--steps", "1", "--folder", "run"]) == 0
    return folder


@pytest.fixture(autouse=True)
def stranger(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("RECGYM_CACHE", str(place / "cache"))
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    for name in ("minari", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    datasets._opened.cache_clear()
    yield
    for name in ("mine", "broken", "lacking"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES, ids=[words or "nothing" for words, _, _ in MISTAKES])
def test_a_mistake_is_told_in_few_lines(words, code, said, capsys):
    try:
        found = main(words.split())
    except SystemExit as end:  # a command line that is not understood
        found = end.code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    assert found == code
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert words.startswith("train ddpg --stps") or (len(errors) == 1 and errors[0] == err.splitlines()[-1])


def test_debug_shows_where_and_is_no_option_of_anybody(capsys, monkeypatch):
    monkeypatch.delenv("RECGYM_DEBUG", raising=False)
    assert main(["info", "--debug", "ml100k"]) == 1
    assert "Traceback" in capsys.readouterr().err and "RECGYM_DEBUG" not in os.environ


def raises(error, words):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("a must be b,\ngot c"), 1, "error: a must be b, got c\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "got Permission denied (/x/y)"),
        (MemoryError(), 1, "memory must hold what was asked for"),
        (SystemExit("rows must agree"), 1, "error: rows must agree"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_the_one_place_where_commands_end(error, code, said, capfd):
    assert ended(partial(raises, error), []) == code
    assert said in capfd.readouterr().err
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        ended(partial(raises, ZeroDivisionError()), [])


@pytest.mark.parametrize("words", [["--data", "a b.csv"], ["--resume"]])
def test_an_interruption_says_the_command_that_goes_on(words, capsys):
    assert ended(partial(raises, KeyboardInterrupt()), words, called="python -m agents.ddpg", go_on="--resume") == 130
    said = "--data 'a b.csv' --resume" if len(words) == 2 else "--resume"
    assert capsys.readouterr().err.endswith(f"interrupted; to go on: python -m agents.ddpg {said}\n")


def test_who_interrupts_a_training_keeps_all_of_it(place, capsys, monkeypatch):
    callbacks, saving = (import_module(f"agents.training.{name}") for name in ("callbacks", "saving"))
    words = ["train", "ddpg", *TINY.split(), "--dim", "4", "--folder", "whole", "--steps", "9"]
    assert main(words) == 0
    words[words.index("whole")] = "cut"
    own = callbacks.Progress.__call__

    def press(self, step, metrics):
        own(self, step, metrics)
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Progress, "__call__", press)
        assert main(words) == 130
    err = capsys.readouterr().err
    assert "saved after step 4 of 9, in cut" in err and "--folder cut --steps 9 --resume" in err
    assert [path.name for path in saving.checkpoints(place / "cut")] == ["step-000000004"]
    assert main([*words, "--resume"]) == 0
    nets = [next((place / name / "step-000000009").glob("*.safetensors")).read_bytes() for name in ("whole", "cut")]
    assert nets[0] == nets[1]
    assert main(["evaluate", "cut"]) == 0
    assert "hit_rate@10" in capsys.readouterr().out


def test_a_reader_who_has_seen_enough_is_left_quietly(place):
    environment = {**os.environ, "PYTHONPATH": str(Path(recgym.__file__).parents[1])}
    command = f"{sys.executable} -m recgym list | head -1"
    done = subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True)
    assert done.stdout == "environments\n" and done.stderr == ""


def test_a_strangers_row_stands_among_all_others_and_beside_the_stranger(place, capsys):
    run = import_module("benchmarks.run")
    own = [run.Entry("mine", "mine:A", {}, 0)]
    stored = import_module("benchmarks.results").Results(run.FOLDER / "quickstart.csv").rows()
    results = run.Results(place / "runs" / "bench" / "quickstart.csv")
    results.put([{**row, "agent": "mine", "config": {}, "key": "k"} for row in stored if row["agent"] == "ease"])
    table = run.among_others(run.SUITES["quickstart"], results, own)
    assert "yours: mine" in table and "| ease | " in table and table.splitlines()[-1].startswith("| mine | ")
    assert import_module("benchmarks.results").place() == Path("runs", "bench")  # as this folder is no checkout
