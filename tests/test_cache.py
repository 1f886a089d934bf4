"""The cache rebuilds what is damaged or foreign and nothing else, and two processes do not clash."""

import json
import logging
import os
import subprocess
import sys

import pytest

from recgym.__main__ import main
from recgym.errors import DataError, StoreError
from recgym.storage import cache, store


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder):
    (folder / "a.txt").write_text("a" * 1000)
    (folder / "b.txt").write_text("b" * 1000)


def never(folder):
    raise AssertionError("a whole entry was built again")


def make_entry(**key):
    return cache.entry("kind", "name", {"option": 1, **key}, build)


# -- two at once -------------------------------------------------------------------------------------------------------

SLOW = """
import sys, time
from pathlib import Path
from recgym import cache
def build(folder):
    Path(f"started-{sys.argv[1]}").touch()
    while len(list(Path(".").glob("started-*"))) < 2: time.sleep(0.01)  # both are building now
    while sys.argv[1] == "two" and not Path("one-is-done").exists(): time.sleep(0.01)
    (folder / "who").write_text(sys.argv[1])
print(cache.entry("kind", "name", {"option": 1}, build).joinpath("who").read_text())
Path(f"{sys.argv[1]}-is-done").touch()
"""


def test_of_two_processes_building_one_entry_the_second_takes_the_firsts(tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW, name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said == ["one", "one"]
    assert len(os.listdir(cache.cache_dir() / "entries")) == 1


# -- damage ------------------------------------------------------------------------------------------------------------


def cut(folder):
    (folder / "a.txt").write_text("a")


def drop(folder):
    (folder / "a.txt").unlink()


def no_manifest(folder):
    (folder / "manifest.json").unlink()


def half_manifest(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])


def foreign_manifest(folder):
    (folder / "manifest.json").write_text("[]")


def other_kind(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "recgym": "vectors"}))


def other_content(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "about": {"option": 2}}))


@pytest.mark.parametrize("damage", [cut, drop, no_manifest, half_manifest, foreign_manifest, other_kind, other_content])
def test_damaged_or_foreign_entry_is_built_again_with_a_message(damage, caplog):
    folder = make_entry()
    damage(folder)
    with caplog.at_level(logging.WARNING, "recgym"):
        assert make_entry() == folder
    assert "damaged or foreign and is built again" in caplog.text
    assert str(folder) in caplog.text
    assert (folder / "a.txt").read_text() == "a" * 1000
    store.verify(folder)


def test_whole_entry_is_not_built_again():
    folder = make_entry()
    assert cache.entry("kind", "name", {"option": 1}, never) == folder


def test_entry_depends_on_every_part_of_the_key():
    folders = {make_entry(), make_entry(more=1), cache.entry("kind", "name", {"option": 1}, build, version=2)}
    assert len(folders) == 3


def test_verify_sees_a_changed_byte_that_sizes_do_not_show():
    folder = make_entry()
    (folder / "a.txt").write_text("a" * 999 + "b")
    assert cache.entries()[0].problem == ""
    with pytest.raises(StoreError, match=r"a\.txt must have the recorded SHA-256, got another"):
        store.verify(folder)


# -- listing, clearing, keys -------------------------------------------------------------------------------------------


def test_list_and_clear(own_cache):
    make_entry()
    damaged = make_entry(other=1)
    cut(damaged)
    (own_cache / "downloads").mkdir()
    listed = {entry.path: entry for entry in cache.entries()}
    assert len(listed) == 2
    assert "must have 1000 bytes, got 1 bytes" in listed[damaged].problem
    assert all(entry.size > 1000 for entry in listed.values())
    assert cache.clear() == 2
    assert cache.entries() == []
    assert (own_cache / "downloads").is_dir()


def test_what_is_no_entry_is_shown_and_cleared_if_it_is_of_the_cache(own_cache, capsys):
    root = cache.cache_dir()
    ours = ("entries/.x.1.recgym-tmp/half", "unfinished/0123/members/state", "downloads/.a.zip.0.recgym-tmp")
    theirs = ("downloads/ml-1m.zip", "thesis.tex")
    for name in (*ours, *theirs):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * 3_000_000)
    assert cache.entries() == [] and len(cache.others()) == 5
    assert main(["cache", "list"]) == 0
    said = capsys.readouterr().out
    assert "3.0 MB  -                          unfinished/0123  unfinished: goes on when it is asked for again" in said
    assert "thesis.tex  not of the cache: `cache clear` leaves it" in said and "downloads/ml-1m.zip  a download" in said
    assert main(["cache", "verify"]) == 0 and "left     unfinished/0123" in capsys.readouterr().out
    assert cache.clear() == 0
    left = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    assert left == sorted(theirs)


def test_cache_dir_defaults_to_the_users_own(monkeypatch):
    monkeypatch.delenv("RECGYM_CACHE")
    assert cache.cache_dir().name == "recgym"


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001])
def test_fingerprint_sees_first_and_last_byte(size, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    before = cache.fingerprint(path)
    assert before == cache.fingerprint(path)
    for place in {0, size - 1} if size else ():
        content = bytearray(size)
        content[place] = 1
        path.write_bytes(content)
        os.utime(path, ns=(before["mtime_ns"], before["mtime_ns"]))
        assert cache.fingerprint(path)["sample"] != before["sample"]
    path.write_bytes(bytes(size + 1))
    assert cache.fingerprint(path) != before


# -- no permission -----------------------------------------------------------------------------------------------------


def test_unwritable_cache_names_folder_and_variable(own_cache):
    own_cache.write_text("a file where the folder should be")  # as root, permission bits stop nobody
    with pytest.raises(StoreError, match=r"cache/entries must be a folder one can write to, got .*set RECGYM_CACHE"):
        make_entry()


@pytest.mark.parametrize("name", ["mkdir", "rename"])
def test_no_permission_inside_the_cache(name, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(arguments[0]))

    (cache.cache_dir() / "entries").mkdir(parents=True)
    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(StoreError, match=r"Permission denied.*set RECGYM_CACHE to a folder you can write to"):
        make_entry()


def test_full_disk_while_building(monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        make_entry()
    assert os.listdir(cache.cache_dir() / "entries") == []


def test_our_own_errors_pass_through_unchanged():
    def broken(folder):
        raise DataError("line 3")

    with pytest.raises(DataError, match="line 3"):
        cache.entry("kind", "name", {}, broken)
