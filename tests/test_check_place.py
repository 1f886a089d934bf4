"""A folder is written only where nothing that is not recgym's would go, and what is refused is left as it was."""

import json
import os

import pytest
from test_learned_users import hand_made

from recgym import InteractionLog, datasets, export
from recgym.__main__ import main
from recgym.errors import StoreError
from recgym.fidelity.card import Card
from recgym.storage import cache, store

REFUSED = (
    r"{} must be free, empty or a folder with nothing but what recgym wrote, got {}; choose another folder or move"
)


def write(path, text="new", **options):
    """Writes a folder of recgym's, with another in it."""
    with store.atomic_folder(path, **options) as target:
        (target / "a.txt").write_text(text)
        with store.atomic_folder(target / "inner") as inner:
            (inner / "b.txt").write_text(text)
            store.write_manifest(inner, "inner", 1, {})
        store.write_manifest(target, "kind", 1, {})


def content(folder):
    """Returns every file below a folder with its bytes, and None for every folder."""
    return {str(part.relative_to(folder)): part.read_bytes() if part.is_file() else None for part in folder.rglob("*")}


# -- what is refused ---------------------------------------------------------------------------------------------------


def foreign(path, name="thesis.tex", text="years of work"):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(text)


def own_and(**given):
    def make(path):
        write(path)
        foreign(path, **given)

    return make


def a_file(path):
    path.write_text("years of work")


def empty_folder_inside(path):
    write(path)
    (path / "mine").mkdir()


def broken_manifest(path):
    foreign(path, "manifest.json", "{")


def manifest_of_something_else(path):
    foreign(path, "manifest.json", json.dumps({"name": "a web page", "version": 3, "files": []}))


REFUSALS = {
    foreign: "'thesis.tex' in it",
    own_and(): "'thesis.tex' in it",
    own_and(name="inner/thesis.tex"): "'inner/thesis.tex' in it",
    own_and(name="years/2025/thesis.tex"): "'years' in it",
    a_file: "a file",
    empty_folder_inside: "'mine' in it",
    broken_manifest: "'manifest.json' in it",
    manifest_of_something_else: "'manifest.json' in it",
}


@pytest.mark.parametrize(("make", "found"), REFUSALS.items())
def test_what_is_not_ours_is_refused_before_any_work_and_stays(make, found, tmp_path):
    path = tmp_path / "p"
    make(path)
    before = content(tmp_path)
    with pytest.raises(StoreError, match=REFUSED.format(path, found)), store.atomic_folder(path):
        raise AssertionError("the work began")
    with pytest.raises(StoreError, match=REFUSED.format(path, found)):
        store.check_place(path)
    assert content(tmp_path) == before


def test_what_comes_while_we_work_is_refused_and_stays(tmp_path):
    path = tmp_path / "p"
    with pytest.raises(StoreError, match=REFUSED.format(path, "'thesis.tex' in it")), store.atomic_folder(path):
        foreign(path)
    assert content(tmp_path) == {"p": None, "p/thesis.tex": b"years of work"}


@pytest.mark.parametrize("start", ["empty", "own"])
@pytest.mark.parametrize("path", [".", "", "../p", "inner/.."])
def test_the_current_folder_is_refused(start, path, tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    if start == "own":
        write(tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    before = content(tmp_path)
    with pytest.raises(StoreError, match=r"nothing but what recgym wrote, got the current folder; choose"):
        write(path)
    assert content(tmp_path) == before


def test_a_file_is_not_written_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, "."):
        refused = pytest.raises(StoreError, match="must be free or a file, got a folder; give the name of a file")
        with refused, store.atomic_file(path):
            raise AssertionError("the work began")
    assert content(tmp_path) == {}


def test_what_cannot_be_looked_at_is_refused(tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()

    def no_permission(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", no_permission)
    with pytest.raises(StoreError, match=r"must be a folder one can write to, got .*Permission denied"):
        store.check_place(tmp_path / "p")


# -- what is replaced --------------------------------------------------------------------------------------------------


def free(path):
    pass


def empty(path):
    path.mkdir()


def own(path):
    write(path, "old")


def own_damaged(path):
    write(path, "old")
    (path / "a.txt").write_text("other than it was")
    (path / "inner" / "b.txt").unlink()


@pytest.mark.parametrize("make", [free, empty, own, own_damaged])
def test_what_is_empty_or_ours_is_replaced(make, tmp_path):
    make(tmp_path / "p")
    write(tmp_path / "p")
    store.verify(tmp_path / "p")
    assert (tmp_path / "p" / "inner" / "b.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["p"]


def test_a_link_stays_and_the_folder_it_names_is_replaced(tmp_path):
    write(tmp_path / "p", "old")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(tmp_path / "p")
    write(link)
    assert link.is_symlink() and (tmp_path / "p" / "a.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "p"] and os.listdir(link.parent) == ["link"]
    (tmp_path / "p").rename(tmp_path / ".p.recgym-old")  # as a kill between two renames leaves it
    assert store.read_manifest(link, "kind", 1)["recgym"] == "kind"


def test_a_relative_folder_is_written_where_it_was_when_it_began(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with store.atomic_folder("p") as target:
        (target / "a.txt").write_text("new")
        os.chdir("other")
    assert content(tmp_path) == {"other": None, "p": None, "p/a.txt": b"new"}
    os.chdir("../p")
    with pytest.raises(StoreError, match=r"must hold a readable manifest\.json"):
        store.read_manifest(".", "kind", 1)


@pytest.mark.parametrize("error", [None, FileNotFoundError])
def test_what_another_process_replaces_meanwhile_is_looked_at_again(error, tmp_path, monkeypatch):
    path, look = tmp_path / "p", store._unlisted
    write(path, "old")

    def late(folder, own):
        monkeypatch.setattr(store, "_unlisted", look)
        path.rename(tmp_path / "old")
        write(path, "of the other")
        if error is not None:
            raise error
        return "'a.txt' in it"

    monkeypatch.setattr(store, "_unlisted", late)
    write(path)
    assert (path / "a.txt").read_text() == "new"


def test_a_kind_without_manifests_is_known_by_its_files(tmp_path):
    def page(**files):
        with store.atomic_folder(tmp_path / "p", own=("page.md", "page.png")) as target:
            for name, text in files.items():
                (target / f"page.{name}").write_text(text)

    page(md="old", png="old")
    page(md="new")
    assert content(tmp_path / "p") == {"page.md": b"new"}
    with pytest.raises(StoreError, match=REFUSED.format(tmp_path / "p", "'page.md' in it")):
        write(tmp_path / "p")  # a kind that has no such files
    foreign(tmp_path / "p")
    with pytest.raises(StoreError, match=REFUSED.format(tmp_path / "p", "'thesis.tex' in it")):
        page(md="newer")
    for name in ("thesis.tex", "page.md"):
        (tmp_path / "p" / name).unlink()
    foreign(tmp_path / "p", "page.png")  # what is always there is missing, so it is not ours
    with pytest.raises(StoreError, match=REFUSED.format(tmp_path / "p", "'page.png' in it")):
        page(md="newer")


@pytest.mark.parametrize("make", [foreign, a_file, empty_folder_inside, own])
def test_the_cache_replaces_whatever_stands_in_its_place(make, tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path))

    def entry():
        return cache.entry("kind", "name", {"option": 1}, lambda folder: (folder / "a.txt").write_text("new"))

    path = entry()
    (path / "a.txt").unlink()
    (path / "manifest.json").unlink()
    path.rmdir()
    make(path)
    assert entry() == path
    store.verify(path)
    assert set(content(path)) == {"a.txt", "manifest.json"} and os.listdir(path.parent) == [path.name]


# -- everything that writes folders ------------------------------------------------------------------------------------

WRITERS = {
    "log": lambda log, path: log.save(path),
    "parts": lambda log, path: log.to_parquet(path, 2),
    "transitions": lambda log, path: export.to_parquet(log, path, frame_size=5),
    "users": lambda log, path: hand_made(log).save(path),
    "card": lambda log, path: Card("title", "mf", {}, {}, ()).write(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_replaces_its_own_and_nothing_else(name, log, tmp_path, monkeypatch):
    path = tmp_path / "p"
    path.mkdir()
    WRITERS[name](log, path)
    WRITERS[name](log.select_users([0, 1]), path)
    assert os.listdir(tmp_path) == ["p"]
    if name == "log":
        assert InteractionLog.open(path).n_users == 2
    foreign(path)
    before = content(tmp_path)
    with pytest.raises(StoreError, match=REFUSED.format(path, "'thesis.tex' in it")):
        WRITERS[name](log, path)
    monkeypatch.chdir(path)
    with pytest.raises(StoreError, match="got the current folder; choose another folder"):
        WRITERS[name](log, ".")
    assert content(tmp_path) == before


@pytest.mark.parametrize("command", [["export", "--format", "parquet"], ["fidelity"]])
def test_commands_refuse_before_they_load_anything(command, tmp_path, monkeypatch, capsys):
    foreign(tmp_path / "p")

    def load(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr(datasets, "load", load)
    assert main([*command, "--dataset", "synthetic", "--out", str(tmp_path / "p")]) == 1
    assert "nothing but what recgym wrote, got 'thesis.tex' in it" in capsys.readouterr().err
    assert content(tmp_path) == {"p": None, "p/thesis.tex": b"years of work"}
