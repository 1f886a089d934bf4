"""The Open Bandit and Coat loaders on small fakes of the published layouts, and on the data where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

import recgym
from recgym.datasets.coat import coat
from recgym.datasets.obd import obd
from recgym.errors import DataError, MissingDataError

DATA = Path(os.environ.get("RECGYM_DATA", ""))

EVENTS = """,timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,\
user-item_affinity_0,user-item_affinity_1
0,2019-11-24 00:03:13.442536+00:00,1,3,0,0.5,aa,x,0.0,2.0
1,2019-11-24 00:03:36+00:00,0,1,1,0.25,bb,x,1.0,0.0
2,2019-11-24 00:04:00.5+00:00,1,2,0,0.75,aa,y,0.0,0.0
"""
ITEMS = """,item_id,item_feature_0,item_feature_1
0,0,-0.5,red
1,1,0.25,blue
"""


@pytest.fixture
def obd_folder(tmp_path):
    place = tmp_path / "obd" / "random" / "men"
    place.mkdir(parents=True)
    (place / "men.csv").write_text(EVENTS)
    (place / "item_context.csv").write_text(ITEMS)
    return tmp_path / "obd"


def test_open_bandit(obd_folder):
    log = obd("men", "random", folder=obd_folder)
    assert (log.n_events, log.n_users, log.n_items, log.name) == (3, 3, 2, "obd-men-random")
    assert log.items.tolist() == [1, 0, 1] and log.rewards.tolist() == [0.0, 1.0, 0.0]
    assert log.propensities.tolist() == [0.5, 0.25, 0.75]
    assert log.extra["position"].tolist() == [2, 0, 1]
    assert log.extra["context"].tolist() == [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]  # bb, y
    assert log.extra["affinity"].tolist() == [[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]
    assert log.times.tolist() == [1574553793, 1574553816, 1574553840]
    assert log.users["user_feature_0"].tolist() == ["aa", "bb", "aa"]
    assert log.item_features["item_feature_0"].tolist() == [-0.5, 0.25]
    assert log.item_features["item_feature_1"].tolist() == ["red", "blue"]
    assert log.reward_range == (0.0, 1.0)
    assert obd(reward="sign:1", folder=obd_folder).rewards.tolist() == [-1.0, 1.0, -1.0]


def test_open_bandit_by_name(obd_folder, monkeypatch):
    monkeypatch.setenv("RECGYM_DATA", str(obd_folder.parent))
    log = recgym.datasets.load("obd", campaign="men", policy="random")
    assert log.rewards.tolist() == [0.0, 1.0, 0.0]  # clicks as they are, without asking


def test_open_bandit_under_the_name_of_its_documentation(obd_folder):
    path = obd_folder / "random" / "men" / "men.csv"
    path.write_text(EVENTS.replace("propensity_score", "action_prob"))
    assert obd(folder=obd_folder).propensities.tolist() == [0.5, 0.25, 0.75]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25,bb", "0.0,bb", r"propensities of .* above 0 and at most 1, got 0.0 \(1 of 3 rows, first row 1\)"),
        ("0.25,bb", "1.5,bb", r"propensities of .* above 0 and at most 1, got 1.5"),
        ("0.25,bb", ",bb", r"propensities of .* above 0 and at most 1, got nan"),
        ("00,0,1,1,", "00,7,1,1,", r"items of .* numbered 0 to n-1 .* got 2 described and shown items 1 to 7"),
        ("00,0,1,1,", "00,0,1,4,", r"clicks of .* must be 0 or 1, got \[0, 4\]"),
        ("click", "clack", r"must hold impressions with the columns .* without \['click'\]"),
        ("2019-11-24 00:03:36", "yesterday", "timestamps of .* must be ISO 8601"),
        (EVENTS, "", "must be comma-separated text"),
    ],
)
def test_bad_open_bandit(obd_folder, old, new, message):
    (obd_folder / "random" / "men" / "men.csv").write_text(EVENTS.replace(old, new))
    with pytest.raises(DataError, match=message):
        obd(folder=obd_folder)


def test_missing_open_bandit(obd_folder, monkeypatch):
    with pytest.raises(DataError, match="policy must be one of"):
        obd(policy="ucb", folder=obd_folder)
    with pytest.raises(DataError, match="campaign must be one of"):
        obd("children", folder=obd_folder)
    with pytest.raises(MissingDataError, match=r"must hold women.csv, got no such file at .*put it there"):
        obd("women", folder=obd_folder)
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    with pytest.raises(MissingDataError, match="must lie in a folder with random/ and bts/, got no RECGYM_DATA"):
        obd()


@pytest.fixture
def coat_folder(tmp_path):
    (tmp_path / "train.ascii").write_text("5 0 0\n0 1 3\n")
    (tmp_path / "test.ascii").write_text("0 2 0\n4 0 0\n")
    (tmp_path / "propensities.ascii").write_text("0.5 0.1 0.1\n0.1 0.25 0.2\n")
    features = tmp_path / "user_item_features"
    features.mkdir()
    (features / "user_features.ascii").write_text("1 0 0 1\n0 1 1 0\n")
    (features / "user_features_map.txt").write_text("gender:men\ngender:women\nage:20-30\nage:over 60")
    return tmp_path


def test_coat(coat_folder):
    chosen, random = coat(folder=coat_folder), coat("random", folder=coat_folder)
    assert chosen.items.tolist() == [0, 1, 2] and chosen.offsets.tolist() == [0, 1, 3] and chosen.times is None
    assert chosen.rewards == pytest.approx([1.0, -0.6, 0.2]) and chosen.reward_range == pytest.approx((-0.6, 1.0))
    assert chosen.propensities == pytest.approx([0.5, 0.25, 0.2])
    assert random.items.tolist() == [1, 0] and random.propensities == pytest.approx([1 / 3, 1 / 3])
    assert random.users["gender"].tolist() == ["men", "women"] and random.users["age"].tolist() == ["over 60", "20-30"]
    assert coat(reward="raw", folder=coat_folder).rewards.tolist() == [5.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train.ascii", "5 0 0\n0 1\n", r"train.ascii must hold lines of as many numbers each"),
        ("train.ascii", "7 0 0\n0 1 3\n", r"must be whole numbers 0 \(none\) to 5, got 0 to 7"),
        ("propensities.ascii", "0.5 0.1\n0.1 0.2\n", r"propensities.ascii must have shape \(2, 3\), got \(2, 2\)"),
        ("propensities.ascii", "0 0 0\n0 1 1\n", "above 0 and at most 1 for every rating, got 0 to 1"),
    ],
)
def test_bad_coat(coat_folder, file, text, message):
    (coat_folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        coat(folder=coat_folder)


def test_missing_coat(coat_folder, monkeypatch):
    (coat_folder / "test.ascii").unlink()
    with pytest.raises(MissingDataError, match=r"must hold test.ascii, got no such file"):
        coat("random", folder=coat_folder)
    with pytest.raises(DataError, match="part must be one of"):
        coat("train", folder=coat_folder)
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    with pytest.raises(MissingDataError, match=r"Coat must lie in a folder with train.ascii and test.ascii"):
        coat()


@pytest.mark.skipif(not (DATA / "obd").is_dir(), reason="needs obd/ under RECGYM_DATA")
@pytest.mark.parametrize(("campaign", "n_items"), [("men", 34), ("women", 46)])
def test_real_open_bandit(campaign, n_items):
    uniform, sampling = (recgym.datasets.load("obd", campaign=campaign, policy=policy) for policy in ("random", "bts"))
    assert uniform.n_items == sampling.n_items == n_items and uniform.n_events == sampling.n_events == 10_000
    assert uniform.propensities == pytest.approx(np.full(10_000, 1 / n_items))
    assert sampling.propensities.min() < 0.001 < 0.5 < sampling.propensities.max()


@pytest.mark.skipif(not (DATA / "coat").is_dir(), reason="needs coat/ under RECGYM_DATA")
def test_real_coat_and_what_propensities_are_for():
    chosen, random = recgym.datasets.load("coat"), recgym.datasets.load("coat", part="random")
    assert (chosen.n_events, random.n_events, chosen.n_users, chosen.n_items) == (6960, 4640, 290, 300)
    reweighted = float((chosen.rewards.astype(float) / chosen.propensities).sum() / (290 * 300))
    naive, truth = float(chosen.rewards.mean()), float(random.rewards.mean())
    assert abs(reweighted - truth) < 0.5 * abs(naive - truth)
