"""Every published layout loads from folder and zip, end to end, and a second load comes from the cache."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import LAYOUTS, as_folder, as_zip

from recgym import datasets
from recgym.datasets import sources
from recgym.errors import DataError
from recgym.storage import cache


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path / "data"))
    datasets._opened.cache_clear()
    return tmp_path / "data"


def events(log):
    """The events of a log as (user id, item id, reward, time), user by user, oldest first."""
    columns = (log.user_ids[log.event_users()], log.item_ids[log.items], log.rewards.round(3), log.times)
    return list(zip(*(column.tolist() for column in columns), strict=True))


# -- layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-latest-small"])
def test_csv_layout_from_folder(name, data):
    as_folder(data / name, LAYOUTS[name]())
    log = datasets.load(name, reward="raw")
    assert events(log) == [
        (1, 29, 3.5, 1112484676),
        (1, 131262, 0.5, 1112484819),
        (1, 2, 3.5, 1112486027),
        (2, 29, 4.0, 974820598),
        (138493, 2, 5.0, 1112484580),
        (138493, 68954, 4.5, 1258126920),
    ]
    assert log.item_ids.tolist() == [2, 29, 68954, 131262]  # the movie nobody rated is left out
    assert log.titles.tolist() == [
        "Jumanji (1995)",
        "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
        '"Up" (2009)',
        "Innocence (2014)",
    ]
    genres = ["Adventure|Children|Fantasy", "Adventure|Drama", "Animation", ""]
    assert log.item_features["genres"].tolist() == genres
    assert log.reward_range == (0.5, 5.0)
    assert log.name == name


def test_dat_layout_from_folder(data):
    as_folder(data / "ml-1m", LAYOUTS["ml-1m"]())
    log = datasets.load("ml-1m", reward="raw")
    assert events(log) == [
        (1, 1193, 5.0, 978300760),
        (1, 661, 3.0, 978302109),
        (2, 1193, 4.0, 978298413),  # one second: the order of the file
        (2, 2, 1.0, 978298413),
    ]
    assert log.titles.tolist() == ["Léon: The Professional", "A::B (1996)", "C (1975)"]
    assert log.item_features["genres"].tolist() == ["Drama", "Comedy", "War|Drama"]
    assert {name: column.tolist() for name, column in log.users.items()} == {
        "gender": ["F", "M"],
        "age": [1, 56],
        "occupation": [10, 16],
        "zip": ["48067", "70072"],
    }
    assert log.reward_range == (1.0, 5.0)


def test_tab_layout_from_folder(data):
    as_folder(data / "ml-100k", LAYOUTS["ml-100k"]())
    log = datasets.load("ml-100k", reward="raw")
    assert events(log) == [(186, 302, 3.0, 891717742), (196, 302, 5.0, 881250948), (196, 242, 3.0, 881250949)]
    assert log.titles.tolist() == ["Kolya (1996)", "L'éternité"]
    assert log.item_features["genres"].tolist() == ["Action", "Animation|Children's"]
    assert log.users["occupation"].tolist() == ["executive", "writer"]
    assert log.users["age"].tolist() == [39, 49]
    assert log.users["zip"].tolist() == ["00000", "55105"]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("place", ["beside", "inside", "downloaded"])
def test_zip_gives_the_same_log_as_the_folder(name, place, data):
    as_folder(data / name, LAYOUTS[name]())
    expected = datasets.load(name)
    shutil.rmtree(data / name)
    where = {"beside": data, "inside": data / name, "downloaded": sources.downloads_dir()}[place]
    as_zip(where / f"{name}.zip", LAYOUTS[name](), name)
    log = datasets.load(name)
    assert events(log) == events(expected)
    assert log.titles.tolist() == expected.titles.tolist()
    assert set(log.users) == set(expected.users)


@pytest.mark.parametrize("folder", ["ml-20m", "repacked by hand"])
def test_folder_name_inside_the_zip_may_differ(folder, data):
    as_zip(data / "ml-20m.zip", LAYOUTS["ml-20m"](), folder)
    assert datasets.load("ml-20m").n_events == 6


def test_unpacked_zip_inside_its_folder_is_found(data):
    as_folder(data / "ml-20m" / "ml-20m", LAYOUTS["ml-20m"]())
    assert datasets.load("ml-20m").n_events == 6


def test_set_without_its_list_of_movies_has_no_titles(data):
    as_folder(data / "ml-20m", {"ratings.csv": LAYOUTS["ml-20m"]()["ratings.csv"]})
    log = datasets.load("ml-20m")
    assert log.titles is None
    assert dict(log.item_features) == {}


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "expected", "bounds"),
    [
        (None, [0.4, -0.8, 0.4], (-0.8, 1.0)),
        ("scaled", [0.4, -0.8, 0.4], (-0.8, 1.0)),
        ("recnn", [2.0, -4.0, 2.0], (-4.0, 5.0)),
        ("binary:3", [1.0, 0.0, 1.0], (0.0, 1.0)),
        ("sign:3", [1.0, -1.0, 1.0], (-1.0, 1.0)),
    ],
)
def test_reward_transforms(reward, expected, bounds, data):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    log = datasets.load("ml-20m", reward=reward)
    np.testing.assert_allclose(log.user(0).rewards, expected, atol=1e-6)
    np.testing.assert_allclose(log.reward_range, bounds, atol=1e-6)
    assert log.reward == (reward or "scaled")


def test_filters(data):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    assert datasets.load("ml-20m", min_events=3).user_ids.tolist() == [1]
    assert datasets.load("ml-20m", top_items=2).item_ids.tolist() == [2, 29]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ml-2m", {}, "a data set must be one of those .*, got 'ml-2m'; did you mean 'ml-2"),
        ("ml-20m", {"color": 1}, "options of ml-20m must be among order, min_events, top_items, ties, got color"),
        ("ml-20m", {"order": "sasrec"}, "order must be 'time' or, for ml-1m, 'sasrec', got 'sasrec'"),
        ("ml-20m", {"reward": "label:a=1"}, "ml-20m needs a reward transform for numbers, got 'label:a=1'"),
        ("ml-20m", {"reward": "stars"}, "a reward transform must be .*, got 'stars'"),
    ],
)
def test_wrong_options(name, options, message, data):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    with pytest.raises(DataError, match=message):
        datasets.load(name, **options)


def test_only_published_sets_can_be_fetched():
    with pytest.raises(DataError, match=r"only ml-latest-small, .* can be downloaded, got 'table'"):
        datasets.fetch("table")


def test_synthetic_is_shared_within_a_process():
    one = datasets.load("synthetic", n_users=30, n_items=40)
    assert datasets.load("synthetic", n_items=40, n_users=30) is one
    assert datasets.load("synthetic", n_users=30, n_items=40, reward="raw") is not one


# -- cache -------------------------------------------------------------------------------------------------------------


def test_second_load_opens_the_columns_of_the_first(data, monkeypatch):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    first = datasets.load("ml-20m")
    monkeypatch.setattr(datasets, "read_log", lambda *arguments, **options: pytest.fail("parsed again"))
    assert datasets.load("ml-20m") is first  # one log for all environments of a process
    datasets._opened.cache_clear()  # as in another process
    second = datasets.load("ml-20m")
    assert isinstance(second.items, np.memmap)
    assert events(second) == events(first)
    assert second.titles.tolist() == first.titles.tolist()
    assert second.reward_range == first.reward_range


def test_changed_file_is_read_again(data):
    files = LAYOUTS["ml-20m"]()
    as_folder(data / "ml-20m", files)
    assert datasets.load("ml-20m").n_events == 6
    as_folder(data / "ml-20m", {"ratings.csv": files["ratings.csv"] + b"2,2,4.0,974820599\r\n"})
    assert datasets.load("ml-20m").n_events == 7
    as_folder(data / "ml-20m", {"movies.csv": files["movies.csv"].replace(b"Jumanji", b"Jumanjo")})
    assert datasets.load("ml-20m").titles[0] == "Jumanjo (1995)"


def test_damaged_cache_is_built_again(data, caplog):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    expected = events(datasets.load("ml-20m"))
    (entry,) = cache.entries()
    column = next(entry.path.rglob("*.npy"))
    column.write_bytes(column.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "recgym"):
        assert events(datasets.load("ml-20m")) == expected
    assert "damaged or foreign and is built again" in caplog.text


def test_loading_needs_no_torch(data):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    code = "import sys, recgym; recgym.datasets.load('ml-20m'); sys.exit('torch' in sys.modules)"
    root = str(Path(__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})
