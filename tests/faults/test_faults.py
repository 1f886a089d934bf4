"""Write errors, flipped bits, mutated files and kills: nothing is lost, mixed or silently wrong.

A seeded part of what there is to try; `RECGYM_FAULTS=full` tries all of it. It, and `seeded`, write `docs/faults.csv`.
"""

import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("h5py", reason="HDF5 needs recgym[hdf5]")
from fault_kinds import KINDS, READ_BY_OTHERS, TEXT, files_of, fresh, same

from benchmarks.results import Table
from recgym.errors import RecgymError
from recgym.storage import manifests

pytestmark = pytest.mark.faults
HERE = Path(__file__).parent
FULL = os.environ.get("RECGYM_FAULTS") == "full"
KEEPS = FULL or os.environ.get("RECGYM_FAULTS") == "seeded"
DOCS = HERE.parent.parent / "docs"
HEAD = ("test", "kind", "tries", "wrong", "raw")


def told(*row):
    """Keeps a row of the table, if one was asked for."""
    if KEEPS:
        new = dict(zip(HEAD, map(str, row), strict=True))
        rows = Table(DOCS / "faults.csv", HEAD)
        rows.change(
            lambda old: sorted([*(one for one in old if list(one.values())[:2] != list(row[:2])), new], key=str)
        )
        subprocess.run([sys.executable, str(HERE / "table.py")], check=True)


def tell(test, kind, tries, wrong, raw):
    """Keeps a row of the table; the test fails on anything wrong or raw."""
    told(test, kind, tries, len(wrong), len(raw))
    assert not wrong and not raw, (kind, wrong[:3], raw[:3])


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("failing writes are injected by a preloaded C library: needs Linux and a C compiler")
    path = tmp_path_factory.mktemp("shim") / "fail_writes.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", path, HERE / "fail_writes.c", "-ldl"], check=True)
    return path


def test_no_write_error_goes_unseen(shim, tmp_path):
    command = [sys.executable, str(HERE / "inject.py"), str(tmp_path), "24" if FULL else "8", "0"]
    done = subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(shim)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {one["kind"] for one in found} == set(KINDS) and all(one["tries"] > 3 for one in found)
    for one in found:
        told("write errors", one["kind"], one["tries"], len(one["wrong"]), len(one["raw"]))
    assert not [one for one in found if one["wrong"] or one["raw"]]


def look(path, read, expected):
    """Returns "right", "refused", "wrong" or what was raised raw; a reading without an end ends the process."""
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        return "right" if same(read(path), expected) else "wrong"
    except RecgymError:
        return "refused"
    except Exception as error:
        return repr(error)[:300]
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", sorted(set(KINDS) - TEXT))
def test_no_flipped_bit_goes_unseen(name, tmp_path):
    chance, read = random.Random(name), KINDS[name][1]
    path, wrong, raw = fresh(tmp_path / "x", name, "new"), [], []
    expected, files = read(path), files_of(path)
    tries = 240 if FULL else 24
    for number in range(tries):
        file = files[number % len(files)]
        content = file.read_bytes()
        place = chance.randrange(8 * len(content))
        if chance.random() < 0.3:
            place = chance.randrange(min(8 * len(content), 8 * 2048))  # heads, where a file says what it is
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        found = look(path, read, expected)
        if not file.exists():  # set aside
            path = fresh(tmp_path / "x", name, "new")
        else:
            file.write_bytes(content)
        wrong += [(file.name, place)] if found == "wrong" else []
        raw += [(file.name, place, found)] if found not in ("right", "refused", "wrong") else []
    assert look(path, read, expected) == "right"
    tell("flipped bits", name, tries, wrong, raw)


def mutated(content, others, chance):
    """Returns a content made of another: cut, empty, foreign, longer, with holes, or with other values."""
    content, kind = bytearray(content), chance.randrange(9)
    place = chance.randrange(len(content) + 1)
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        return b""
    if kind == 2:
        return chance.choice(others)
    if kind == 3:
        return bytes(content) + chance.randbytes(chance.randrange(1, 100))
    if kind == 4:
        return b"[" * 100_000
    if kind == 5:
        return chance.choice(
            [b"{}", b"[]", b"null", b"0", b'"x"', b"\xff\xfe", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"]
        )
    if kind == 6:
        return bytes(content[:place] + chance.randbytes(8) + content[place + 8 :])
    if kind == 7:
        return bytes(content[place:] + content[:place])
    return by_hand(bytes(content), chance)


def by_hand(content, chance):
    """Returns JSON with a value changed, or the content with a digit changed where it is none."""
    try:
        value = json.loads(content)
    except ValueError:
        digits = [place for place, one in enumerate(content) if chr(one).isdigit()] or [0]
        place = chance.choice(digits)
        return content[:place] + str(chance.randrange(10)).encode() + content[place + 1 :]
    node, junk = value, [None, -1, 10**13, "x", [], {}, 0.5, True, "../x", [[0]]]
    while isinstance(node, dict | list) and node:
        key = chance.choice(sorted(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or chance.random() < 0.4:
            if isinstance(node, dict) and chance.random() < 0.3:
                del node[key]
            else:
                node[key] = chance.choice(junk)
            break
        node = node[key]
    return json.dumps(value).encode()


def make_the_manifest_right(path):
    """Writes sizes and hashes of what is there now into the manifests, as somebody by hand would."""
    for manifest in sorted(path.rglob("*manifest.json"), key=lambda file: -len(file.parts)) if path.is_dir() else []:
        try:
            value = json.loads(manifest.read_bytes())
            for name in value["files"]:
                file = manifest.parent / name
                value["files"][name] = {"size": file.stat().st_size, "sha256": manifests.file_hash(file)}
            manifest.write_text(json.dumps(manifests.sealed(value)))
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
            pass


@pytest.mark.parametrize("name", sorted(set(KINDS) - TEXT - READ_BY_OTHERS))
def test_no_mutated_file_raises_anything_but_our_own_errors(name, tmp_path):
    chance, read, raw = random.Random(f"mutants {name}"), KINDS[name][1], []
    path = fresh(tmp_path / "x", name, "new")
    whole = {file: file.read_bytes() for file in files_of(path)}
    expected, files = read(path), list(whole)
    tries = 1000 if FULL else 50
    for number in range(tries):
        file = files[number % len(files)]
        file.write_bytes(mutated(whole[file], list(whole.values()), chance))
        if chance.random() < 0.7:
            make_the_manifest_right(path)
        found = look(path, read, expected)
        raw += [(file.name, number, found)] if found not in ("right", "refused", "wrong") else []
        if not file.exists():
            fresh(tmp_path / "x", name, "new")
        for one, content in whole.items():
            one.write_bytes(content)
    tell("mutated files", name, tries, [], raw)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_kill_loses_or_mixes_anything(name, tmp_path):
    chance, (write, read) = random.Random(f"kills {name}"), KINDS[name]
    old, new = (read(fresh(tmp_path / which, name, which)) for which in ("old", "new"))
    begin = time.perf_counter()
    fresh(tmp_path / "x", name, "new")
    longest, wrong, seen = time.perf_counter() - begin, [], set()
    tries = 50 if FULL else 8
    path = fresh(tmp_path / "x", name, "old")
    for number in range(tries):
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                write(path, "new")
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0, 1.2 * longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = look(path, read, new)
        if found == "right" or look(path, read, old) == "right":
            seen.add(found)
        else:
            wrong.append((number, found))
        if found == "right" or wrong:
            path = fresh(tmp_path / "x", name, "old")
    write(path, "new")
    left = [file.name for file in path.parent.rglob(".*") if not file.name.endswith(".lock")]
    tell("kills", name, tries, wrong + ([("litter", left)] if left else []), [])
    assert seen
