"""Folders from anybody, of runs, users, logs, exports and sweeps: reading one runs nothing that stands in it."""

import hashlib
import io
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import make_catalog, make_log

import agents
from agents import checkpoint
from agents.ddpg import DDPG
from benchmarks import sweep
from benchmarks.results import COLUMNS, Results
from benchmarks.suites import SUITES
from recgym import export, users
from recgym.errors import RecgymError, StoreError
from recgym.log import InteractionLog
from recgym.log.shown import ShownLists
from recgym.log.shown import read as read_shown
from recgym.storage import manifests
from recgym.users import LearnedUsers

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


class Trap:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def trapped(path):
    """A pickle, an array of objects, such arrays in a zip, and a file of torch: each runs when it is unpickled."""
    plain, array, archive, saved = pickle.dumps(Trap(path)), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Trap(path)], dtype=object), allow_pickle=True)
    np.savez(archive, ids=np.array([Trap(path)], dtype=object), vectors=np.zeros((1, 2)), allow_pickle=True)
    with zipfile.ZipFile(saved, "w") as file:
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3")
    return plain, array.getvalue(), archive.getvalue(), saved.getvalue()


def fit_the_manifests(folder):
    """Writes sizes and hashes of what is there now into the manifests of a folder, as whoever changed it would."""
    for manifest in sorted(folder.rglob("*manifest.json"), key=lambda path: -len(path.parts)):
        value = json.loads(manifest.read_text())
        for name in value["files"]:
            there = (manifest.parent / name).read_bytes()
            value["files"][name] = {"size": len(there), "sha256": hashlib.sha256(there).hexdigest()}
        manifest.write_text(json.dumps(manifests.sealed(value)))


def shown_lists(path):
    lists = ShownLists(path)
    lists.know("m", ["a", "b"], "raw", None, {})
    listed = {"list": "1", "user": 1, "time": 0, "model": "m", "history": [], "items": ["a"], "allowed": None}
    lists.write([listed | {"marginal": [1.0], "given": [1.0], "error": [0.0]}])
    lists.close()
    return path


FOLDERS = {
    "users": (
        lambda path: users.fit(make_log(), make_catalog(), dim=4, max_epochs=1, n_members=1).save(path),
        LearnedUsers.load,
    ),
    "sequential users": (
        lambda path: users.fit(make_log(), make_catalog(), model="sequential", dim=4, max_epochs=1, n_members=1).save(
            path
        ),
        LearnedUsers.load,
    ),
    "agent": (
        lambda path: agents.save(DDPG(make_catalog(), frame_size=5, device="cpu", hidden=8), path),
        lambda path: agents.load(path, device="cpu"),
    ),
    "log": (lambda path: make_log().save(path), InteractionLog.open),
    "parts": (lambda path: make_log().to_parquet(path), InteractionLog.from_parquet),
    "export": (
        lambda path: export.to_parquet(make_log(), path, make_catalog(), frame_size=5),
        lambda path: list(export.read(path)),
    ),
    "served lists": (shown_lists, read_shown),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_nothing_that_is_put_into_a_folder_is_unpickled(kind, tmp_path):
    make, read = FOLDERS[kind]
    make(tmp_path / "x")
    read(tmp_path / "x")
    files = [file for file in sorted((tmp_path / "x").rglob("*")) if file.is_file()]
    refused = 0
    for number, file in enumerate(files):
        for content in trapped(tmp_path / "ran"):
            path = tmp_path / str(number)
            shutil.copytree(tmp_path / "x", path)
            (path / file.relative_to(tmp_path / "x")).write_bytes(content)
            if not file.name.endswith("manifest.json"):
                fit_the_manifests(path)
            try:
                read(path)
            except RecgymError:
                refused += 1
            shutil.rmtree(path)
    assert refused > len(files) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["os:system", "trap:Agent", "agents.trap:Agent", "sequential", "../x", ["a"], None])
def test_learned_users_make_no_class_that_their_file_names(name, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(TRAP.format(path=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    users.fit(make_log(), make_catalog(), dim=4, max_epochs=1, n_members=1).save(tmp_path / "users")
    described = next(path for path in sorted((tmp_path / "users").glob("*.json")) if path.name != "manifest.json")
    content = json.loads(described.read_text())
    content["about"]["kind"] = name
    described.write_text(json.dumps(content))
    fit_the_manifests(tmp_path / "users")
    with pytest.raises(StoreError, match="hold learned users"):
        LearnedUsers.load(tmp_path / "users")
    assert "trap" not in sys.modules and not (tmp_path / "ran").exists()


def test_rows_of_a_sweep_are_text_and_numbers_alone(tmp_path):
    suite = SUITES["quickstart"].smoke()
    code = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    results = Results(tmp_path / f"{suite.name}.csv")
    results.put([dict.fromkeys(COLUMNS, code) | {"agent": code, "seed": str(seed)} for seed in range(2)])
    results.put_units("uniform", 0, {suite.headline: {1: 0.5}})
    kept = sweep.trials(suite, tmp_path, suite.entries[0])
    kept.change(lambda rows: [dict.fromkeys(sweep.COLUMNS, code)])

    def read():
        assert [row["agent"] for row in results.rows()] == [code, code] and results.finished() is not None
        assert [row["config"] for row in kept.rows()] == [code]
        return sweep.table(suite, tmp_path, ["uniform", code], 1)

    assert len(read()) == 1
    for file in [file for file in tmp_path.rglob("*.parquet") if file.is_file()]:
        for content in trapped(tmp_path / "ran"):
            file.write_bytes(content)
            with pytest.raises(RecgymError):
                read()
    assert not (tmp_path / "ran").exists()
