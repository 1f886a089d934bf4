"""Tianchi's three tables on a small fake of their layout, and DBRL's preparation as options."""

import numpy as np
import pytest
from fakes import as_folder, tianchi_layout

from recgym.datasets import load
from recgym.datasets.tianchi import drop_repeats, sample_users, tianchi
from recgym.errors import DataError, MissingDataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    return as_folder(tmp_path / "tianchi", tianchi_layout())


def test_three_tables_become_one_log(folder):
    log = tianchi(folder=folder)
    assert (log.n_users, log.n_items, log.n_events) == (3, 4, 9)
    assert log.user_ids.tolist() == [7, 8, 9] and log.item_ids.tolist() == [100, 101, 102, 103]
    assert log.user(0).items.tolist() == [0, 1, 0, 2] and log.user(0).times.tolist() == [10, 20, 30, 9000]
    assert log.extra["behaviour"][:4].tolist() == ["pv", "cart", "pv", "buy"]
    assert log.rewards[:4].tolist() == [1, 2, 1, 3] and log.reward_range == (1.0, 3.0)
    assert log.users["age"].tolist() == [30, 29, -1]  # user 9 is in no table
    assert log.users["sex"].tolist() == [0, 1, -1] and log.users["pur_power"].tolist() == [5, 3, -1]
    assert log.item_features["category"].tolist() == [4, 4, 5, -1]
    assert log.item_features["shop"].tolist() == [40, 41, 50, -1]
    assert log.item_features["brand"].tolist() == [400, 401, 500, -1]


def test_given_worth(folder):
    log = tianchi(folder=folder, reward="label:pv=0,cart=1,fav=1,buy=5")
    assert log.rewards[:4].tolist() == [0, 1, 0, 5]


def test_dedupe_keeps_the_first_of_user_item_and_behaviour(folder):
    log = tianchi(folder=folder, dedupe=True)
    assert log.user(0).items.tolist() == [0, 1, 2] and log.user(0).times.tolist() == [10, 20, 9000]
    log = tianchi(folder=folder)
    assert drop_repeats(log.top_items(3), "behaviour").n_events == 7  # pv twice by user 7; user 8's and 9's 103 is out


def test_sample_by_activity(folder):
    log = tianchi(folder=folder, sample=[[3, 4, 1], [1, 2, 1]])
    assert log.n_users == 2 and 8 in log.user_ids and set(log.lengths) <= {2, 3, 4}
    assert set(np.unique(log.items)) == set(range(log.n_items))  # items nobody is left with are no items
    chosen = {tuple(tianchi(folder=folder, sample=[[3, 4, 1]], seed=seed).user_ids) for seed in range(8)}
    assert chosen == {(7,), (9,)}
    with pytest.raises(DataError, match=r"a sample of 2 users with 1 to 2 events needs as many, got 1 of 3 users; ask"):
        sample_users(tianchi(folder=folder), [[1, 2, 2]])


def test_age_buckets(folder):
    log = tianchi(folder=folder, age_bounds=[30, 40, 50])
    assert log.users["age"].tolist() == [2, 1, -1]  # 30 begins the second bucket


def test_the_second_time_it_comes_from_the_cache(folder):
    first = tianchi(folder=folder)
    (folder / "user_behavior.csv").touch()
    again = tianchi(folder=folder)
    assert isinstance(again.items, np.memmap) or not again.items.flags.owndata
    assert np.array_equal(first.items, again.items) and again.users["age"].tolist() == first.users["age"].tolist()


def test_by_name(folder, monkeypatch):
    monkeypatch.setenv("RECGYM_DATA", str(folder.parent))
    assert load("tianchi", dedupe=True).n_events == 8
    with pytest.raises(
        DataError, match=r"options of tianchi must be among reward, dedupe, .*, got min_age; drop those"
    ):
        load("tianchi", min_age=3)


def test_what_is_wrong_is_named(folder, monkeypatch):
    with pytest.raises(DataError, match=r"every label must have a value, got .*fav.* without one"):
        tianchi(folder=folder, reward="label:pv=1,cart=2,buy=3")
    (folder / "user.csv").write_bytes(b"8,1,29,3\n7,0,thirty,5\n")
    with pytest.raises(DataError, match=r"column 'age' of .*user.csv must hold whole numbers, got 'thirty' in line 2"):
        tianchi(folder=folder)
    (folder / "user.csv").write_bytes(tianchi_layout()["user.csv"])
    (folder / "item.csv").unlink()
    with pytest.raises(MissingDataError, match=r"tianchi must hold item.csv, got no such file at"):
        tianchi(folder=folder)
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    with pytest.raises(MissingDataError, match=r"Tianchi's log must lie in a folder with user_behavior.csv, user.csv"):
        tianchi()
