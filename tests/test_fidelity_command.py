"""`python -m recgym fidelity`: the card beside the model, halves of named and saved logs, and what is refused."""

import json
from functools import partial

import pytest

from recgym import datasets
from recgym.__main__ import main
from recgym.fidelity import answers, prepare
from recgym.worlds import sim

SMALL = {"dim": 4, "max_epochs": 3, "n_members": 3}


def test_command_writes_the_card_beside_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(answers.CHOICES, "als")
    for name, more in (("fitted_users", SMALL), ("fit_calibrated", SMALL | {"l2": (2.0,)})):
        monkeypatch.setattr(prepare, name, partial(getattr(prepare, name), **more))
    datasets.load("synthetic", n_users=80, n_items=40).save(tmp_path / "log")
    asked = ["fidelity", "--dataset", str(tmp_path / "log"), "--held-out", "0.3", "--out", str(tmp_path / "card")]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "Simulator card: mf users of synthetic" in said
    assert "trust: " in said
    (kept,) = (tmp_path / "cache" / "entries").glob("users-*/card/card.html")
    assert kept.read_bytes() == (tmp_path / "card" / "card.html").read_bytes()
    assert main(["cache", "verify"]) == 0  # a card does not make the entry look damaged
    stored = json.loads((tmp_path / "card" / "card.json").read_text())["fitted"]
    assert main([*asked, "--calibrate"]) == 0
    calibrated = json.loads((tmp_path / "card" / "card.json").read_text())["fitted"]
    assert {name for name in stored if stored[name] != calibrated[name]} == {"calibrated", "l2"}
    assert "calibrated True" in (tmp_path / "card" / "card.md").read_text()
    assert len(list((tmp_path / "cache" / "entries").glob("users-*"))) == 2


def test_command_compares_the_simulators_of_two_halves(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(sim, "world", partial(sim.world, n_users=60, n_items=40, dim=4, n_members=1, max_epochs=1))
    assert main(["fidelity", "--dataset", "synthetic", "--halves"]) == 0
    assert "rank correlation over items" in capsys.readouterr().out


def test_command_compares_halves_of_a_saved_log_as_of_a_named_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sim, "fit", partial(sim.fit, n_members=1, max_epochs=1))
    small = {"n_users": 60, "n_items": 40}
    datasets.load("synthetic", **small).save(tmp_path / "log")
    monkeypatch.chdir(tmp_path / "log")
    said = [str(sim.compare_halves(dim=4, **small, **more)) for more in ({}, {"fit_seed": 1})]
    assert said[0] != said[1]
    for name, seed in ((str(tmp_path / "log"), 0), (".", 1)):
        assert main(["fidelity", "--dataset", name, "--halves", "--seed", str(seed)]) == 0
        assert capsys.readouterr().out.strip() == said[seed]


@pytest.mark.parametrize(
    "more, named",
    [
        (["--out", "hh"], "--out; drop it, or"),
        (["--held-out", "0.1"], "--held-out; drop it, or"),
        (["--out", "hh", "--calibrate"], "--calibrate, --out; drop them, or"),
    ],
)
def test_halves_refuse_what_they_would_not_heed(more, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fidelity", "--dataset", "synthetic", "--halves", *more]) == 1
    said = "error: --halves must stand without --calibrate, --held-out and --out, got "
    assert f"{said}{named} --halves" in capsys.readouterr().err
    assert not (tmp_path / "hh").exists()


@pytest.mark.parametrize("more", [[], ["--halves"]])
def test_command_refuses_a_bare_table(more, capsys):
    assert main(["fidelity", "--dataset", "table", *more]) == 1
    assert "a table needs path=, a file of events or a table in memory, got none" in capsys.readouterr().err
