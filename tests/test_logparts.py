"""A log written as Parquet parts comes back, whole or part by part, and each part keeps all items."""

from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.dataset
import pytest

from recgym import InteractionLog, datasets
from recgym.errors import DataError, StoreError
from recgym.log import parts as logparts_module
from recgym.storage import store


def assert_same(one, other):
    for name in ("items", "rewards", "offsets", "user_ids", "item_ids", "times", "propensities", "titles"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    for group in ("extra", "users", "item_features"):
        ours, theirs = getattr(one, group), getattr(other, group)
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert (one.name, one.reward, one.reward_range) == (other.name, other.reward, other.reward_range)


@pytest.fixture
def rich(log):
    """The toy log with every kind of column there is."""
    random = np.random.default_rng(5)
    return replace(
        log,
        propensities=random.uniform(0.1, 1, log.n_events).astype(np.float32),
        extra={
            "mood": np.array(["calm", "wild"])[random.integers(0, 2, log.n_events)],
            "n": np.arange(log.n_events),
            "clicks": random.random((log.n_events, 2)) < 0.5,
            "slate": np.array(["a", "bc"])[random.integers(0, 2, (log.n_events, 3))],
        },
        users={
            "age": np.arange(log.n_users),
            "pair": np.array([("a", u) for u in range(log.n_users)] + [None], dtype=object)[:-1],
            "likes": random.random((log.n_users, 3)) < 0.5,
        },
        titles=np.array([f"Title {i}" for i in range(log.n_items)], dtype=object),
        item_features={
            "vector": random.normal(size=(log.n_items, 3)).astype(np.float32),
            "genre": np.array(["x"] * log.n_items),
            "genres": random.random((log.n_items, 5)) < 0.3,
            "one": np.arange(log.n_items)[:, None] % 2 == 0,
            "words": np.array(["", "höher", "x"])[random.integers(0, 3, (log.n_items, 2))],
        },
    )


@pytest.mark.parametrize("n_parts", [1, 2, 4, 6])
def test_parts_together_are_the_log(n_parts, rich, tmp_path, monkeypatch):
    monkeypatch.setattr(logparts_module, "_ROWS", 7)
    rich.to_parquet(tmp_path / "parts", n_parts)
    assert_same(InteractionLog.from_parquet(tmp_path / "parts"), rich)
    parts = [InteractionLog.from_parquet(tmp_path / "parts", part) for part in range(n_parts)]
    first = 0
    for part in parts:
        assert part.n_users > 0
        assert_same(part, rich.select_users(np.arange(first, first + part.n_users)))
        first += part.n_users
    assert first == rich.n_users
    with pytest.raises(DataError, match=f"part must lie between 0 and {n_parts - 1}, got {n_parts}"):
        InteractionLog.from_parquet(tmp_path / "parts", n_parts)


@pytest.mark.parametrize("name", sorted(datasets._MADE))
def test_embedded_sets_come_back(name, tmp_path):
    log = datasets.load(name)
    log.to_parquet(tmp_path / "parts", 2)
    assert_same(InteractionLog.from_parquet(tmp_path / "parts"), log)
    second = InteractionLog.from_parquet(tmp_path / "parts", part=1)
    assert_same(second, log.select_users(np.arange(log.n_users - second.n_users, log.n_users)))


def test_parts_have_about_equally_many_events(tmp_path):
    lengths = np.array([90, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 40, 30, 20])
    log = InteractionLog.from_events(np.repeat(np.arange(14), lengths), np.arange(190), np.ones(190))
    log.to_parquet(tmp_path / "parts", 2)
    assert [InteractionLog.from_parquet(tmp_path / "parts", part).n_events for part in (0, 1)] == [95, 95]


def test_any_reader_can_read_a_part(rich, tmp_path):
    rich.to_parquet(tmp_path / "parts", 3)
    events = pd.read_parquet(tmp_path / "parts")
    items = pd.read_parquet(tmp_path / "parts" / "_items.parquet")
    users = pd.read_parquet(tmp_path / "parts" / "_users")
    assert users["user_id"].to_numpy()[events["user"]].tolist() == rich.user_ids[rich.event_users()].tolist()
    assert items["item_id"].to_numpy()[events["item"]].tolist() == rich.item_ids[rich.items].tolist()
    assert events["time"].tolist() == rich.times.tolist()


def test_other_libraries_read_the_events_of_all_parts(rich, tmp_path):
    rich.to_parquet(tmp_path / "parts", 3)
    expected = pd.read_parquet(tmp_path / "parts" / "events")
    assert expected["item"].tolist() == rich.items.tolist()
    with_polars = polars.read_parquet(tmp_path / "parts" / "events")
    with_duckdb = duckdb.sql(f"SELECT * FROM '{tmp_path}/parts/events/*.parquet'").df()
    assert with_polars["item"].to_list() == with_duckdb["item"].tolist() == rich.items.tolist()
    assert pyarrow.dataset.dataset(tmp_path / "parts").to_table()["user"].to_pylist() == rich.event_users().tolist()


@pytest.mark.parametrize("part", [None, 0, 1])
def test_parts_of_version_1_are_read(part, rich, tmp_path):
    """All files beside each other, and a manifest that does not begin with an underscore."""
    new, old = tmp_path / "new", tmp_path / "old"
    rich.to_parquet(new, 2)
    about = store.parsed_manifest(new)["about"]
    with store.atomic_folder(old) as target:
        for name in store.parsed_manifest(new)["files"]:
            flat = name.replace("events/part", "part").replace("_users/part", "users").replace("_items", "items")
            (target / flat).write_bytes((new / name).read_bytes())
        store.write_manifest(target, "log parts", 1, about)
    assert sorted(path.name for path in old.iterdir())[:2] == ["items.parquet", "manifest.json"]
    assert_same(InteractionLog.from_parquet(old, part), InteractionLog.from_parquet(new, part))
    assert datasets.load(old).n_events == rich.n_events
    rich.to_parquet(old, 3)  # is replaced whole
    assert sorted(path.name for path in old.iterdir()) == ["_items.parquet", "_manifest.json", "_users", "events"]


@pytest.mark.parametrize("n_parts", [0, 7])
def test_wrong_number_of_parts(n_parts, log, tmp_path):
    with pytest.raises(DataError, match=f"n_parts must lie between 1 and 6, the number of users, got {n_parts}"):
        log.to_parquet(tmp_path / "parts", n_parts)


def test_damage_is_seen(log, tmp_path):
    log.to_parquet(tmp_path / "parts", 2)
    path = tmp_path / "parts" / "events" / "part-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"part-00001\.parquet must have .* bytes"):
        InteractionLog.from_parquet(tmp_path / "parts")
    path.write_bytes(b"x" * len(content))
    with pytest.raises(StoreError, match="must hold readable parts, got"):
        InteractionLog.from_parquet(tmp_path / "parts")
    with pytest.raises(StoreError, match=r"must hold a readable manifest\.json"):
        InteractionLog.from_parquet(tmp_path / "nothing")
