"""The exact order of ml-1m's events, and what the published sets on this machine hold."""

import os
from pathlib import Path

import numpy as np
import pytest
from fakes import LAYOUTS, as_folder

from recgym import datasets
from recgym.datasets import movielens, sources
from recgym.datasets import movielens_sasrec_order as ordering
from recgym.errors import DataError, MissingDataError

REAL = Path(os.environ.get("RECGYM_DATA", "/nowhere"))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pairs(log):
    """User and item id of every event, user by user, oldest first."""
    return list(zip(log.user_ids[log.event_users()].tolist(), log.item_ids[log.items].tolist(), strict=True))


def exact_order_files(lines, users="1,1\n2,2\n", items="1,1193\n2,2\n3,5\n"):
    return {
        "ratings.dat": (
            b"1::1193::5::30\n1::661::3::20\n1::2::3::10\n1::5::3::40\n2::1193::4::50\n2::2::1::60\n1::7::2::5\n"
        ),
        "sasrec/ml-1m.txt": lines.encode(),
        "sasrec/user_map.csv": b"sasrec_user,user_id\n" + users.encode(),
        "sasrec/item_map.csv": b"sasrec_item,movie_id\n" + items.encode(),
    }


def test_exact_order_follows_the_file_and_places_the_rest_by_time(data):
    as_folder(data / "ml-1m", exact_order_files("1 1\n1 2\n1 3\n2 2\n2 1\n"))
    log = datasets.load("ml-1m", reward="raw", order="sasrec")
    assert pairs(log) == [
        (1, 7),  # time 5: before all of the file's
        (1, 1193),  # the file's first, though its time is 30
        (1, 661),  # time 20: one event of the file (item 2) is not later
        (1, 2),
        (1, 5),
        (2, 2),
        (2, 1193),
    ]
    assert log.user(0).times.tolist() == [5, 30, 30, 30, 40]  # raised where the file says later
    assert datasets.load("ml-1m", reward="raw").user(0).times.tolist() == [5, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (exact_order_files("1 1\n1 1\n"), r"sasrec/ml-1m\.txt must name events of ratings\.dat, each once, got 1 of 2"),
        (exact_order_files("2 3\n"), "must name events of ratings.dat, each once, got 1 of 1"),
        (exact_order_files("3 1\n"), r"user_map\.csv must map every user of .*, got 1 that it lacks"),
        (exact_order_files("1 9\n"), r"item_map\.csv must map every item of .*, got 1 that it lacks"),
    ],
)
def test_exact_order_that_does_not_fit_is_refused(files, message, data):
    as_folder(data / "ml-1m", files)
    with pytest.raises(DataError, match=message):
        datasets.load("ml-1m", order="sasrec")


def test_exact_order_needs_its_file(data):
    as_folder(data / "ml-1m", LAYOUTS["ml-1m"]())
    with pytest.raises(MissingDataError, match=r"ml-1m must hold sasrec/ml-1m\.txt"):
        datasets.load("ml-1m", order="sasrec")


# -- real data ---------------------------------------------------------------------------------------------------------


def real(name):
    published = sources.PUBLISHED[name]
    if not (REAL / name / published.events_file).is_file():
        pytest.skip(f"RECGYM_DATA does not hold {name}")
    return published, sources.Files(name, REAL / name)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ml-100k", (943, 1682, 100_000)),
        ("ml-1m", (6040, 3706, 1_000_209)),
        ("ml-latest-small", (610, 9724, 100_836)),
        ("ml-20m", (138_493, 26_744, 20_000_263)),
        ("ml-25m", (162_541, 59_047, 25_000_095)),
    ],
)
def test_real_set_has_its_published_counts(name, counts):
    log = movielens.read_log(*real(name), reward="raw")
    assert (log.n_users, log.n_items, log.n_events) == counts
    assert log.titles is not None
    assert not (log.item_features["genres"] == "").all()


def test_real_latest_small_zip_equals_its_folder():
    published, files = real("ml-latest-small")
    path = REAL / "ml-latest-small" / "ml-latest-small.zip"
    if not path.is_file():
        pytest.skip("RECGYM_DATA does not hold ml-latest-small.zip")
    from_zip = movielens.read_log(published, sources.Files("ml-latest-small", path))
    from_folder = movielens.read_log(published, files)
    for name, column in from_folder.event_columns().items():
        np.testing.assert_array_equal(from_zip.event_columns()[name], column)


def test_real_exact_order_is_the_files():
    published, files = real("ml-1m")
    if not files.has(ordering.ORDER_FILES[0]):
        pytest.skip("RECGYM_DATA does not hold ml-1m/sasrec/ml-1m.txt")
    log = movielens.read_log(published, files, order="sasrec")
    assert log.n_events == 1_000_209
    users, items = np.loadtxt(REAL / "ml-1m/sasrec/ml-1m.txt", dtype=np.int64).T
    user_of = dict(np.loadtxt(REAL / "ml-1m/sasrec/user_map.csv", dtype=np.int64, delimiter=",", skiprows=1).tolist())
    item_of = dict(np.loadtxt(REAL / "ml-1m/sasrec/item_map.csv", dtype=np.int64, delimiter=",", skiprows=1).tolist())
    listed = set(item_of.values())
    for number in (1, 17, 6040):
        expected = [item_of[item] for item in items[users == number].tolist()]
        user = int(np.flatnonzero(log.user_ids == user_of[number])[0])
        ours = [item for item in log.item_ids[log.user(user).items].tolist() if item in listed]
        assert ours == expected
