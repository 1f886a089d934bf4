"""Static transition data sets (feature 11): read back with other people's readers and compared value by value."""

import doctest
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_catalog, make_log

from recgym import collect, export
from recgym.__main__ import main
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError, StoreError
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.export import hdf5, parquet
from recgym.export.rows import Rows
from recgym.scorers import Popularity

h5py = pytest.importorskip("h5py", reason="HDF5 needs recgym[hdf5]")
F = 5
WRITERS = {"compact": export.to_compact, "hdf5": export.to_hdf5, "parquet": export.to_parquet}


@pytest.fixture
def rich(log):
    """The toy log with propensities and further columns."""
    random = np.random.default_rng(5)
    mood = np.array(["calm", "wïld"])[random.integers(0, 2, log.n_events)]
    return replace(
        log,
        propensities=random.uniform(0.1, 1, log.n_events).astype(np.float32),
        extra={"mood": mood, "n": np.arange(log.n_events)},
    )


def naive_rows(log, frame_size, min_history):
    """Every decision of a log, one at a time."""
    rows = []
    for user in range(log.n_users):
        begin, end = log.offsets[user], log.offsets[user + 1]
        for event in range(begin + min_history, end):
            past = list(range(max(begin, event - frame_size), event))
            pad = frame_size - len(past)
            items = [log.n_items] * pad + log.items[past].tolist()
            rewards = [0.0] * pad + log.rewards[past].tolist()
            rows.append(
                {
                    "user": user,
                    "step": event - begin - min_history,
                    "items": items,
                    "rewards": rewards,
                    "action": log.items[event],
                    "reward": log.rewards[event],
                    "next_items": [*items[1:], log.items[event]],
                    "next_rewards": [*rewards[1:], log.rewards[event]],
                    "last": event == end - 1,
                    "time": log.times[event],
                    "event": event,
                }
            )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def joined(batches):
    batches = list(batches)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def assert_columns(found, expected):
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        assert found[name].dtype == column.dtype, name


@pytest.mark.parametrize("end_of_log", ["truncate", "terminal"])
@pytest.mark.parametrize("min_history", [0, 3, F, 8])
@pytest.mark.parametrize("form", ["compact", "parquet"])
def test_indices_come_back_value_by_value(form, min_history, end_of_log, rich, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_PART", 20)
    monkeypatch.setattr(parquet, "_GROUP", 7)
    monkeypatch.setattr(hdf5, "_BLOCK", 700)
    monkeypatch.setattr(hdf5, "_COMMIT", 1500)
    options = {"frame_size": F, "min_history": min_history, "end_of_log": end_of_log}
    path = WRITERS[form](rich, tmp_path / "out", make_catalog(), **options)
    naive = naive_rows(rich, F, min_history)
    event, last = naive["event"], naive["last"]
    expected = {name: naive[name].astype(np.int32) for name in ("user", "step", "items", "action")}
    expected |= {name: naive[name].astype(np.float32) for name in ("rewards", "reward")}
    expected |= {"terminated": last & (end_of_log == "terminal"), "truncated": last & (end_of_log == "truncate")}
    expected |= {"propensity": rich.propensities[event], "time": rich.times[event]}
    expected |= {f"extra/{name}": column[event] for name, column in rich.extra.items()}
    found = joined(export.read(path, batch_size=7))
    assert_columns(found, expected)
    next_items, next_rewards = export.next_frame(found)
    np.testing.assert_array_equal(next_items, naive["next_items"])
    np.testing.assert_array_equal(next_rewards, naive["next_rewards"].astype(np.float32))
    assert_columns(joined(export.read(path, batch_size=9, first=13)), {n: c[13:] for n, c in expected.items()})


def test_vectors_are_read_with_h5py_alone(log, tmp_path):
    catalog, naive = make_catalog(), naive_rows(log, F, F)
    export.to_hdf5(log, tmp_path / "static.h5", catalog, frame_size=F)

    def state(items, rewards):
        return np.stack([[*catalog.table[i].ravel(), *r] for i, r in zip(items, rewards, strict=True)]).astype("f4")

    with h5py.File(tmp_path / "static.h5") as file:
        np.testing.assert_array_equal(file["state"], state(naive["items"], naive["rewards"]))
        np.testing.assert_array_equal(file["next_state"], state(naive["next_items"], naive["next_rewards"]))
        np.testing.assert_array_equal(file["action"], catalog.embeddings[naive["action"]])
        np.testing.assert_array_equal(file["reward"], naive["reward"].astype("f4"))
        np.testing.assert_array_equal(file["truncated"], naive["last"])
        assert file["truncated"].dtype == np.bool_ and not np.any(file["terminated"])
        for name, other in {"user": "user", "step": "step", "item": "action"}.items():
            np.testing.assert_array_equal(file[name], naive[other])
        np.testing.assert_array_equal(file["embeddings"], catalog.table)
        assert file["item_ids"].asstr()[()].tolist() == log.item_ids.tolist()
        assert file["state"].chunks is None  # contiguous: it can be memory-mapped
        assert dict(file.attrs)["n_rows"] == len(naive["user"])


def test_parquet_is_read_with_pandas(log, tmp_path):
    catalog, naive = make_catalog(), naive_rows(log, F, F)
    export.to_parquet(log, tmp_path / "parts", catalog, frame_size=F)
    frame = pd.concat(map(pd.read_parquet, sorted((tmp_path / "parts" / "rows").iterdir())))
    np.testing.assert_array_equal(np.stack(frame["items"]), naive["items"])
    np.testing.assert_array_equal(frame["reward"], naive["reward"].astype("f4"))
    for folder in (tmp_path / "parts", tmp_path / "parts" / "rows"):
        assert pd.read_parquet(folder).equals(frame.reset_index(drop=True))
    items = pd.read_parquet(tmp_path / "parts" / "_items.parquet")
    np.testing.assert_array_equal(np.stack(items["vector"]), catalog.embeddings)
    assert items["item_id"].tolist() == log.item_ids.tolist()
    assert json.loads((tmp_path / "parts" / "_manifest.json").read_text())["about"]["n_rows"] == len(frame)


def test_parquet_of_earlier_releases_is_read(log, tmp_path):
    """Version 1: parts beside items.parquet, users.parquet and a manifest without a seal."""
    whole = tmp_path / "parts"
    export.to_parquet(log, whole, frame_size=F)
    wanted = next(export.read(whole, batch_size=10**6))
    manifest = json.loads((whole / "_manifest.json").read_text())
    (whole / "_manifest.json").unlink()
    for name in list(manifest["files"]):
        older = name.removeprefix("rows/").removeprefix("_")
        (whole / name).rename(whole / older)
        manifest["files"][older] = manifest["files"].pop(name)
    (whole / "rows").rmdir()
    del manifest["seal"]
    (whole / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
    found = next(export.read(whole, batch_size=10**6))
    assert set(found) == set(wanted) and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    part = whole / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"part-00000\.parquet"):
        next(export.read(whole))


def played(env, policy, n_sessions):
    """The decisions of sessions as the environment shows them, one step at a time: what `collect` logs, done again."""
    rows = []
    logged = collect(policy, env, n_sessions, seed=3)
    shown = {key: np.asarray(logged.extra[key]) for key in ("step", "position")}
    for session in range(n_sessions):
        begin, end = logged.offsets[session], logged.offsets[session + 1]
        row_env = RecVectorEnv(1, **env.made_of)
        observation, infos = row_env.reset(seed=(3 + 1) * (1 << 24) + session)
        for step in range(shown["step"][begin:end].max() + 1):
            rows_of = begin + np.flatnonzero((shown["step"][begin:end] == step) & (shown["position"][begin:end] >= 0))
            slate = logged.items[rows_of]
            before, user = {k: v[0].copy() for k, v in observation.items()}, int(infos["user"][0])
            observation, rewards, terminated, truncated, infos = row_env.step(slate[None] if env.k > 1 else slate)
            assert infos["user"][0] == user
            rows.append(
                {
                    "session": session,
                    "user": user,
                    "step": step,
                    "items": before["item_history"],
                    "rewards": before["reward_history"],
                    "action": slate if env.k > 1 else slate[0],
                    "reward": rewards[0],
                    "terminated": terminated[0],
                    "truncated": truncated[0],
                    "next_items": observation["item_history"][0].copy(),
                    "next_rewards": observation["reward_history"][0].copy(),
                    "item_rewards": infos["item_rewards"][0] if env.k > 1 else infos["item_rewards"][0, 0],
                    "propensity": logged.propensities[rows_of] if env.k > 1 else logged.propensities[rows_of[0]],
                }
            )
        assert rows[-1]["terminated"] or rows[-1]["truncated"]
    return logged, {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("form", list(WRITERS))
@pytest.mark.parametrize("k", [1, 3])
def test_collected_logs_keep_slates_and_propensities(form, k, world, log, tmp_path):
    options = world | {"action": "item", "observation": "history", "k": k, "autoreset_mode": "Disabled"}
    env = RecVectorEnv(4, **options)
    env.made_of = options
    policy = SoftmaxPolicy(Popularity.fit(log))
    logged, expected = played(env, policy, 9)
    path = WRITERS[form](logged, tmp_path / "out", world["catalog"], frame_size=F)
    found = joined(export.read(path, 4))
    further = {f"extra/{name}" for name in logged.extra} - {"extra/step", "extra/position", "extra/enters"}
    assert further >= {"extra/given_above", "extra/slate_propensity"} and further < set(found)
    table = world["catalog"].table
    if form == "hdf5":
        for name, part in (("state", ""), ("next_state", "next_")):
            vectors = table[expected[f"{part}items"]].reshape(len(expected["user"]), -1)
            np.testing.assert_array_equal(found[name], np.concatenate([vectors, expected[f"{part}rewards"]], axis=1))
        np.testing.assert_array_equal(found["action"], table[expected["action"]])
        np.testing.assert_array_equal(found["item"], expected["action"])
    skip = ("items", "rewards", "next_items", "next_rewards", "action") if form == "hdf5" else ()
    for name, column in expected.items():
        if name in skip:
            continue
        if column.dtype.kind == "f":  # a slate's reward is a sum, whose last bit depends on the order
            np.testing.assert_allclose(found[name], column, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], column, err_msg=name)
    first = found["extra/slate_propensity"].reshape(len(column), k)[:, 0]
    np.testing.assert_allclose(found["extra/given_above"].reshape(len(column), k).prod(axis=1), first)


def test_a_collected_log_with_half_a_slate_is_refused(world, log):
    env = RecVectorEnv(2, **world, action="item", observation="history", k=2)
    logged = collect(SoftmaxPolicy(Popularity.fit(log)), env, 4)
    keep = np.ones(logged.n_events, dtype=bool)
    keep[np.flatnonzero(logged.extra["position"] == 1)[2]] = False
    with pytest.raises(DataError, match=r"every slate of a collected log must be whole, got .* shown items for"):
        Rows(logged.select_events(keep), F)


# -- interruptions -----------------------------------------------------------------------------------------------------


def small_blocks(monkeypatch, large=1):
    monkeypatch.setattr(hdf5, "_BLOCK", 700 * large)
    monkeypatch.setattr(hdf5, "_COMMIT", 1500 * large)
    monkeypatch.setattr(parquet, "_PART", 16)
    monkeypatch.setattr(parquet, "_GROUP", 4)


def stop_after(monkeypatch, n):
    """Lets `n` blocks be made, then fails; returns the first rows of all blocks asked for."""
    asked, block = [], Rows.block

    def counted(self, first, end):
        asked.append(first)
        if len(asked) > n:
            raise KeyboardInterrupt
        return block(self, first, end)

    monkeypatch.setattr(Rows, "block", counted)
    return asked


@pytest.mark.parametrize("form", list(WRITERS))
def test_an_interrupted_export_goes_on_and_the_old_one_stays_until_then(form, log, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    catalog, path = make_catalog(), tmp_path / "out"
    whole = joined(export.read(WRITERS[form](log, tmp_path / "whole", catalog, frame_size=F)))
    old = log.select_users(np.array([1]))
    WRITERS[form](old, path, catalog, frame_size=F)
    before = joined(export.read(path))
    with monkeypatch.context() as patched:
        stop_after(patched, 8)
        with pytest.raises(KeyboardInterrupt):
            WRITERS[form](log, path, catalog, frame_size=F)
    assert_columns(joined(export.read(path)), before)
    with monkeypatch.context() as patched:
        asked = stop_after(patched, 10**6)
        WRITERS[form](log, path, catalog, frame_size=F)
    made = [first for first in asked if first > 0]
    assert made and min(made) >= 3  # what was there was not made again
    assert_columns(joined(export.read(path)), whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "whole"]


@pytest.mark.parametrize("form", list(WRITERS))
def test_what_is_left_of_another_export_is_not_taken(form, log, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    catalog, path = make_catalog(), tmp_path / "out"
    changed = replace(log, rewards=np.where(np.arange(log.n_events) == 6, 0.8, log.rewards).astype(np.float32))
    assert not np.array_equal(changed.rewards, log.rewards)
    with monkeypatch.context() as patched:
        stop_after(patched, 8)
        with pytest.raises(KeyboardInterrupt):
            WRITERS[form](log, path, catalog, frame_size=F)
    WRITERS[form](changed, path, catalog, frame_size=F)
    expected = joined(export.read(WRITERS[form](changed, tmp_path / "new", catalog, frame_size=F)))
    assert_columns(joined(export.read(path)), expected)


def n_safe(folder):
    """How much of an unfinished export need not be made again: rows, or parts."""
    unfinished = folder / ".out.unfinished"
    if (unfinished / "rows").exists():
        return json.loads((unfinished / "rows").read_text())["rows"]
    return len(list(unfinished.glob("part-*.parquet")))


@pytest.mark.parametrize("form", list(WRITERS))
def test_killed_exports_go_on(form, tmp_path):
    """`kill -9` at several moments of a slow export, then to the end."""
    large = 20 if form == "hdf5" else 1
    code = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from conftest import make_catalog, make_log
        from recgym import export
        from recgym.export import hdf5, parquet, rows
        hdf5._BLOCK, hdf5._COMMIT, parquet._PART, parquet._GROUP = 700 * {large}, 1500 * {large}, 16, 4
        block = rows.Rows.block
        def slow(self, first, end):
            time.sleep(0.03)
            return block(self, first, end)
        rows.Rows.block = slow
        print("begun", flush=True)
        export.to_{form}(make_log((30,) * 30), {str(tmp_path / "out")!r}, make_catalog(), frame_size=5)
    """)
    for _ in range(3):
        before = n_safe(tmp_path)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout.readline() == b"begun\n"
        while n_safe(tmp_path) <= before:  # the test's own time limit ends a wait that is in vain
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (tmp_path / "out").exists()
    log, catalog = make_log((30,) * 30), make_catalog()
    with pytest.MonkeyPatch.context() as patched:
        small_blocks(patched, large)
        asked = stop_after(patched, 10**6)
        WRITERS[form](log, tmp_path / "out", catalog, frame_size=F)
        assert min(first for first in asked if first) > 3
        WRITERS[form](log, tmp_path / "whole", catalog, frame_size=F)
    assert_columns(joined(export.read(tmp_path / "out")), joined(export.read(tmp_path / "whole")))


# -- size and memory ---------------------------------------------------------------------------------------------------


def on_disk(path):
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*"))


@pytest.mark.parametrize("form", list(WRITERS))
def test_the_size_is_predicted(form, tmp_path):
    log, catalog = make_log((39,) * 400), make_catalog()
    log = replace(log, item_ids=np.arange(log.n_items), user_ids=np.arange(log.n_users))
    catalog = replace(catalog, item_ids=log.item_ids)
    size = export.predicted_size(log, form, catalog)
    found = on_disk(WRITERS[form](log, tmp_path / "out", catalog))
    assert found <= size + 20_000
    assert form == "parquet" or found >= size


def test_a_compact_row_of_ten_events_has_98_bytes(log):
    row = Rows(log).block(0, 1)
    del row["time"]
    assert sum(column.nbytes for column in row.values()) == 98  # 88 are the frame and the decision


def test_memory_is_flat(tmp_path, monkeypatch):
    """50 MB of state vectors are written with a few megabytes."""
    monkeypatch.setattr(hdf5, "_BLOCK", 1 << 20)
    log, catalog = make_log((40,) * 2000), make_catalog()
    export.to_hdf5(log.select_users([0]), tmp_path / "first", catalog)  # imports
    tracemalloc.start()
    path = export.to_hdf5(log, tmp_path / "out", catalog)
    for batch in export.read(path, 1000):
        assert batch["state"].shape[1] == 130
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert on_disk(path) > 60e6
    assert peak < 12e6


def test_a_full_disk_is_refused_before_it_starts(log, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 0))
    with pytest.raises(StoreError, match="must have room for the export, got 0 MB free for about"):
        export.to_compact(log, tmp_path / "out", frame_size=F)
    assert not (tmp_path / "out").exists()


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_missing_library_names_its_extra(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r'needs h5py, got no such library .*; pip install "recgym\[hdf5\]"'):
        export.to_compact(log, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(DataError, match=r'needs minari, got no such library .*; pip install "recgym\[minari\]"'):
        export.to_minari(log, tmp_path / "out", "recgym/toy/train-v0")


def test_bad_input_is_refused(log, tmp_path):
    with pytest.raises(DataError, match=r"form must be one of \('compact', 'hdf5', 'parquet', 'minari'\), got 'csv'"):
        export.predicted_size(log, "csv")
    with pytest.raises(DataError, match="catalog and log must have the same items in the same order, got 20 and 40"):
        export.to_compact(log, tmp_path / "out", make_catalog(20))
    with pytest.raises(DataError, match="some user must have more than min_history=40 events, got 30 at most"):
        export.to_compact(log, tmp_path / "out", frame_size=F, min_history=40)
    odd = replace(log, extra={"odd": np.array([None] * log.n_events)})
    with pytest.raises(DataError, match="extra columns must hold numbers or text to be exported, got 'odd' of type"):
        export.to_compact(odd, tmp_path / "out")
    with pytest.raises(DataError, match="batch_size must be"):
        export.read(tmp_path / "out", 0)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no HDF5")
    with pytest.raises(StoreError, match="must be a readable HDF5 file, got"):
        next(export.read(tmp_path / "text"))
    with h5py.File(tmp_path / "other", "w") as file:
        file["a"] = 1
    with pytest.raises(StoreError, match="must hold 'recgym transitions' version 1, got None version None"):
        next(export.read(tmp_path / "other"))
    with pytest.raises(StoreError, match=r"must hold a readable manifest\.json"):
        next(export.read(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"an HDF5 export is a file, got the folder .*; give a name in it"):
        export.to_compact(make_log(), tmp_path, frame_size=F)
    with pytest.raises(StoreError, match="must be a folder one can write to, got"):
        export.to_parquet(make_log(), tmp_path / "file" / "out", frame_size=F)


@pytest.mark.parametrize("form", list(WRITERS))
def test_the_command_says_the_size_and_exports(form, log, tmp_path, capsys):
    log.save(tmp_path / "toy")
    command = ["export", "--dataset", str(tmp_path / "toy"), "--format", form, "--out", str(tmp_path / "out")]
    command += ["--dim", "4", "--frame-size", "5", "--test-size", "0.3", "--split", "test"]
    assert main([*command, "--dry-run"]) == 0
    assert f"MB as {form}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(command) == 0
    _, test = log.split_users(test_size=0.3)
    found = joined(export.read(tmp_path / "out"))
    np.testing.assert_array_equal(found["step"], naive_rows(test, 5, 5)["step"])
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_the_command_needs_vectors_for_states(log, tmp_path, capsys):
    log.save(tmp_path / "toy")
    command = ["export", "--dataset", str(tmp_path / "toy"), "--format", "hdf5", "--out", str(tmp_path / "out")]
    assert main([*command, "--dim", "0"]) == 1
    assert "the hdf5 format holds item vectors, got --dim 0" in capsys.readouterr().err


def test_help_and_examples_run(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0 and "--format" in capsys.readouterr().out
    assert doctest.testmod(export).failed == 0
