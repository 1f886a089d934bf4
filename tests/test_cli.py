"""Every command answers, says why when it cannot, and ends with the right exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import LAYOUTS, as_folder, as_zip

import recgym
from recgym import commands, datasets, export
from recgym.__main__ import main
from recgym.ope import choice as estimators
from recgym.storage import cache


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path / "data"))
    datasets._opened.cache_clear()
    return tmp_path / "data"


COMMANDS = [
    [],
    ["list"],
    ["info"],
    ["fetch"],
    ["generate"],
    ["check"],
    ["evaluate-policy"],
    ["export"],
    ["recommend"],
    ["export-model"],
    ["serve"],
    ["sweep"],
    ["data"],
    ["data", "prepare"],
    ["fidelity"],
    ["floors"],
    ["cache"],
    ["cache", "list"],
    ["cache", "verify"],
    ["cache", "clear"],
]


def test_commands_load_what_they_need_when_they_run():
    code = """if True:
        import sys
        from recgym.__main__ import main
        main(["cache", "list"])
        assert not any(name.split(".")[0] in ("torch", "pandas", "pyarrow", "scipy") for name in sys.modules), "heavy"
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_choices_are_those_of_the_functions():
    assert commands.export.FORMATS == export.FORMATS
    assert commands.evaluate_policy.INTERVALS == estimators.INTERVALS


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m recgym" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["cache"], ["sing"], ["fetch"], ["info"]], ids=" ".join)
def test_what_is_no_command_ends_with_2(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_list_says_what_is_here_and_what_is_not(data, capsys):
    as_folder(data / "ml-1m", LAYOUTS["ml-1m"]())
    as_zip(data / "ml-100k.zip", LAYOUTS["ml-100k"](), "ml-100k")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = {name: next(line for line in lines if line.startswith(f"  {name} ")) for name in datasets.names()}
    assert line["ml-1m"].endswith(f"at {data / 'ml-1m'}")
    assert line["ml-100k"].endswith(f"at {data / 'ml-100k.zip'}")
    assert line["ml-20m"].endswith("198.7 MB; not here: python -m recgym fetch ml-20m")
    assert any(line.startswith("  recgym/Synthetic-Frame-v0 ") for line in lines)


@pytest.mark.parametrize("command", ["info", "check"])
def test_unknown_id(command, capsys):
    assert main([command, "recgym/Nothing-v0"]) == 1
    assert "error: an id must be one of those" in capsys.readouterr().err


def test_info(capsys):
    assert main(["info", "recgym/Synthetic-Frame-v0"]) == 0
    said = capsys.readouterr().out
    assert "id: recgym/Synthetic-Frame-v0" in said
    assert "| action | `Box" in said


def test_info_on_an_id_whose_data_are_missing(capsys):
    assert main(["info", "recgym/ML20M-Frame-v0"]) == 1
    said = capsys.readouterr()
    assert "id: recgym/ML20M-Frame-v0" in said.out
    assert "error: ml-20m must be on this machine" in said.err


def test_check(capsys):
    assert main(["check", "recgym/Synthetic-Frame-v0"]) == 0
    assert "recgym/Synthetic-Frame-v0: all checks passed" in capsys.readouterr().out


def test_fetch_of_what_cannot_be_fetched(capsys, monkeypatch):
    assert main(["fetch", "table"]) == 1
    assert "can be downloaded, got 'table'" in capsys.readouterr().err
    monkeypatch.setenv("RECGYM_OFFLINE", "1")
    assert main(["fetch", "ml-100k"]) == 1
    assert "RECGYM_OFFLINE must be unset to download ml-100k.zip" in capsys.readouterr().err


def test_cache_commands(data, capsys):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    datasets.load("ml-20m")
    (entry,) = cache.entries()
    assert main(["cache", "list"]) == 0
    assert entry.path.name in capsys.readouterr().out
    assert main(["cache", "verify"]) == 0
    assert f"right    {entry.path.name}" in capsys.readouterr().out
    column = next(entry.path.rglob("00.npy"))
    content = bytearray(column.read_bytes())
    content[-1] ^= 1
    column.write_bytes(content)
    assert main(["cache", "verify"]) == 1
    assert f"damaged  {entry.path.name}: " in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0
    assert "removed 1 entries" in capsys.readouterr().out
    assert cache.entries() == []


def test_module_runs_without_torch():
    code = "import sys; from recgym.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)
    run = subprocess.run(
        [sys.executable, "-m", "recgym", "cache", "list"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "in " in run.stdout


def test_the_version_is_the_packages_own(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"recgym {recgym.__version__}\n"
