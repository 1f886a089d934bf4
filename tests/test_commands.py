"""`python -m agents.NAME` trains, saves, ranks and resumes, for every agent whose action is a vector."""

from importlib import import_module

import pytest
import tyro
from conftest import make_log

from agents import checkpoint
from agents.training import train

SMALL = {"bcq": ["--generator-hidden", "16", "--n-samples", "2"]}


@pytest.mark.parametrize("name", ["ddpg", "td3", "td3_bc", "sac", "bcq", "drr"])
def test_a_command_trains_and_resumes(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(train.datasets, "load", lambda name: make_log((14, 18, 9, 25, 30, 12, 16, 20)))
    main = import_module(f"agents.{name}").main
    data = ["--dataset", "synthetic", "--batch-size", "8", "--frame-size", "5", "--dim", "4", "--test-size", "0.25"]
    toy = [*data, "--device", "cpu", "--hidden", "8"]

    def run(*more):
        arguments = [*toy, *SMALL.get(name, []), "--folder", str(tmp_path), *more]
        tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), args=arguments)

    run("--steps", "3", "--save-every", "3", "--precision", "bf16")
    run("--steps", "5", "--resume", "--precision", "bf16")
    assert [path.name for path in checkpoint.saved(tmp_path)] == ["step-000000003", "step-000000005"]
    assert "hit_rate@10" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["td3", "bcq"])
def test_shared_and_own_options_stand_in_the_help_with_what_they_mean(name, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(import_module(f"agents.{name}").main, config=(tyro.conf.OmitArgPrefixes,), args=["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    own = {"td3": ("--policy-delay", "the actor and all targets move at every such update")}
    own["bcq"] = ("--phi", "how far a number of an action may be moved")
    for text in ("--temperature", "sharpness of the softmax over scores", "--resume", *own[name]):
        assert text in shown, text
