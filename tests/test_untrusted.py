"""A run folder from anybody: loading it runs nothing that it names, and opens nothing outside itself."""

import json
import sys

import pytest

import agents
from agents import checkpoint
from agents.ddpg import DDPG
from recgym.errors import StoreError
from recgym.storage import manifests

TRAP = "import pathlib\npathlib.Path({path!r}).write_text('it ran')\n\nclass Agent:\n    scores = None\n"
NAMES = [
    *(
        "trap:Agent",
        "agents.trap:Agent",
        "os:system",
        "builtins:eval",
        "agents.training.train:fit",
        "agents.training.saving:load_file",
    ),
    *(
        "agents.checkpoint:Path",
        "agents.ddpg:Config",
        "agents.ddpg:DDPG.act",
        "agents.ddpg",
        "",
        ":",
        "recgym.storage.store:discard",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_loading_a_run_folder_executes_nothing_it_names(name, log, catalog, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(TRAP.format(path=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    for path in (
        agents.save(DDPG(catalog, frame_size=5, device="cpu", hidden=8), tmp_path / "agent"),
        checkpoint.save(tmp_path / "run", 1, DDPG(catalog, frame_size=5, device="cpu", hidden=8)),
    ):
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["about"]["agent"] = name
        (path / "manifest.json").write_text(json.dumps(manifests.sealed(manifest)))  # as whoever made it would
        with pytest.raises(StoreError):
            agents.load(path, device="cpu")
    assert "trap" not in sys.modules and not (tmp_path / "ran").exists()
