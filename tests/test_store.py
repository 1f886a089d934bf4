"""Files, folders and cache entries survive a kill at any moment: old or new, never half."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recgym.errors import StoreError
from recgym.storage import cache, locks, manifests, store

BUILD = """
import io, os, signal, sys
from pathlib import Path
from recgym import cache, store

def killed_at(wanted):
    # Kills this process, as kill -9 does, just before or just after a call of a function that changes the disk.
    seen = 0
    def moment():
        nonlocal seen
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
    def watched(function):
        def call(*arguments, **options):
            moment()
            result = function(*arguments, **options)
            moment()
            return result
        return call
    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, watched(getattr(os, name)))
    io.open = watched(io.open)  # just after it, a file is there and empty
    write = Path.write_text
    def in_two_halves(self, text, **options):
        write(self, text[: len(text) // 2], **options)
        moment()
        return write(self, text, **options)
    Path.write_text = in_two_halves

def build(folder):
    (folder / "a.txt").write_text("a" * 1000)
    (folder / "b.txt").write_text("b" * 1000)
"""
ENTRY = BUILD + "killed_at(int(sys.argv[1])); cache.entry('kind', 'name', {'option': 1}, build); print('whole')"
FILE = BUILD + "killed_at(int(sys.argv[1]))\nwith store.atomic_file('f.txt') as path: path.write_text('new' * 100)\n"
FOLDER = (
    BUILD
    + """
killed_at(int(sys.argv[1]))
with store.atomic_folder('f') as target:
    build(target)
    store.write_manifest(target, 'kind', 1, {'made': 'new'})
"""
)


def run(code, *arguments, cwd):
    """Runs code in a process of its own and returns its exit status: negative if a signal ended it."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": root}, capture_output=True).returncode


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder):
    (folder / "a.txt").write_text("a" * 1000)
    (folder / "b.txt").write_text("b" * 1000)


def make_entry(**key):
    return cache.entry("kind", "name", {"option": 1, **key}, build)


# -- a crash at any moment ---------------------------------------------------------------------------------------------


def kills(code, tmp_path, before=lambda: None, after=None):
    """Kills the code at its first, second, ... disk operation until it gets through; returns the number of kills."""
    for moment in range(1, 200):
        before()
        status = run(code, moment, cwd=tmp_path)
        after()
        if status == 0:
            return moment - 1
        assert status == -signal.SIGKILL
    raise AssertionError("the code never got through")


def test_cache_build_killed_at_every_moment_leaves_nothing_or_the_whole(tmp_path, own_cache):
    def after():
        listed = cache.entries()
        assert all(entry.problem == "" for entry in listed)
        for entry in listed:
            store.verify(entry.path)
        folder = make_entry()  # the next process gets a whole entry whatever happened
        assert (folder / "b.txt").read_text() == "b" * 1000
        cache.clear()

    assert kills(ENTRY, tmp_path, after=after) >= 30


def test_file_killed_at_every_moment_is_old_or_new(tmp_path):
    path, seen = tmp_path / "f.txt", set()

    def after():
        seen.add(path.read_text())

    n_kills = kills(FILE, tmp_path, before=lambda: path.write_text("old"), after=after)
    assert seen == {"old", "new" * 100}
    assert n_kills >= 8


def test_folder_replaced_under_kills_is_old_or_new(tmp_path):
    folder, seen = tmp_path / "f", set()
    with store.atomic_folder(folder) as target:
        (target / "x").write_text("x")
        store.write_manifest(target, "kind", 1, {"made": "old"})

    def after():
        seen.add(store.read_manifest(folder, "kind", 1, full=True)["about"]["made"])

    assert kills(FOLDER, tmp_path, after=after) >= 30
    assert seen == {"old", "new"}


def test_what_a_crash_left_of_an_earlier_release_is_swept_after_an_hour(tmp_path):
    folder = make_entry().parent
    left = folder / ".kind-name.000000000000.recgym-tmp"
    left.mkdir()
    (left / "half").write_text("half")
    make_entry(other=1)
    assert left.exists()  # another process may still be writing it
    aged(left)
    make_entry(other=2)
    assert not left.exists()


def aged(folder, seconds=7200):
    for part in (*folder.rglob("*"), folder):
        os.utime(part, (time.time() - seconds, time.time() - seconds))


def test_what_a_dead_process_left_is_swept_at_once_and_what_a_live_one_writes_never(tmp_path):
    code = BUILD + "held = store.atomic_folder(sys.argv[1]); print(held.__enter__(), flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "f")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    left = Path(child.stdout.readline().strip())
    aged(left, 10**6)  # a fit that computes for days before it writes
    with store.atomic_file(tmp_path / "other") as file:
        file.write_text("x")
    assert left.is_dir()
    child.kill()
    child.communicate()
    with store.atomic_file(tmp_path / "other") as file:
        file.write_text("x")
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize(
    ("mark", "silence", "alive"),
    [
        ("", 3500, True),  # an earlier release
        ("", 3700, False),
        ("other-HOST-1-1", 80_000, True),  # another machine
        ("other-HOST-1-1", 90_000, False),
        ("HOST-VIEW-PID-1", 0, False),  # a number taken again by another process
        ("HOST-other-PID-1", 3500, True),  # another container
        ("HOST-other-PID-1", 3700, False),
    ],
)
def test_who_may_be_alive(mark, silence, alive):
    host, view, process, _ = locks.own_mark().split("-")
    mark = mark.replace("other-HOST", "other-x") if mark.startswith("other") else mark.replace("HOST", host)
    assert locks.may_be_alive(mark.replace("VIEW", view).replace("PID", process), silence) is alive
    assert locks.may_be_alive(locks.own_mark(), 10**9)


def test_a_lock_keeps_others_out_and_dies_with_its_holder(tmp_path):
    lock = tmp_path / "deep" / ".lock"
    with locks.locked(lock), pytest.raises(StoreError, match="must be free to lock, got a lock that is held: so it is"):
        locks.locked(lock, wait=False, held="so it is").__enter__()
    code = (
        "import sys; from recgym import locks; h = locks.locked(sys.argv[1]); h.__enter__(); print(flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    with pytest.raises(StoreError, match="must be free to lock"):
        locks.locked(lock, wait=False).__enter__()
    child.kill()
    child.communicate()
    with locks.locked(lock, wait=False):
        pass
    assert not lock.exists()


def test_an_error_in_the_body_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), store.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), store.atomic_folder(tmp_path / "f") as target:
        (target / "half").write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f.txt"]


# -- manifests --------------------------------------------------------------------------------------------------------


def test_manifest_of_a_folder_inside_a_folder_covers_its_files(tmp_path):
    with store.atomic_folder(tmp_path / "outer") as outer:
        with store.atomic_folder(outer / "inner") as inner:
            np.save(inner / "a.npy", np.arange(5))
            store.write_manifest(inner, "inner", 1, {})
        store.write_manifest(outer, "outer", 1, {})
    files = store.read_manifest(tmp_path / "outer", "outer", 1, full=True)["files"]
    assert sorted(files) == ["inner/a.npy", "inner/manifest.json"]


@pytest.mark.parametrize(
    ("kind", "version", "message"),
    [("log", 1, "must hold 'log' version 1, got 'kind' version 1"), ("kind", 2, "must hold 'kind' version 2")],
)
def test_reading_another_kind_or_version_is_refused(kind, version, message):
    with pytest.raises(StoreError, match=message):
        store.read_manifest(make_entry(), kind, version)


def test_reading_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"must hold a readable manifest\.json, got FileNotFoundError"):
        store.read_manifest(tmp_path / "nothing", "kind", 1)


def test_a_changed_manifest_and_names_that_lead_outside_are_refused(tmp_path):
    path = make_entry() / "manifest.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"about": {"option": 2}}))
    with pytest.raises(StoreError, match="must hold the manifest that was written, got a changed one"):
        store.verify(path.parent)
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "seal"}))
    store.verify(path.parent)  # of an earlier release
    for name in ("../x", "/etc/passwd", "a/../../x", "C:x", "a\\b"):
        path.write_text(json.dumps(manifests.sealed(whole | {"files": {name: {"size": 1, "sha256": ""}}})))
        with pytest.raises(StoreError, match="must list files of its own folder, got"):
            store.verify(path.parent)
    for text in ("", "[" * 100_000, "{}", "[]", '{"files": 3}', "\xff", json.dumps(whole | {"about": 3})):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(StoreError, match="must hold a readable manifest"):
            store.verify(path.parent)


def test_bytes_that_are_not_those_written_are_refused(tmp_path):
    with (
        pytest.raises(StoreError, match="must hold what was written, got other bytes"),
        store.atomic_folder(tmp_path / "f") as target,
    ):
        (target / "x").write_text("x")
        store.write_manifest(target, "kind", 1, {}, written={"x": "0" * 64})
    assert os.listdir(tmp_path) == []
