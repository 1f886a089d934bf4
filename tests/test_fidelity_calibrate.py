"""Users whose level of answers is put in order by what had not been seen."""

from dataclasses import replace

import numpy as np
import pytest

from recgym import DataError, InteractionLog, datasets, embeddings, users
from recgym.fidelity import calibrate

SMALL = {"dim": 4, "max_epochs": 3, "n_members": 3}


@pytest.fixture(scope="module")
def parts():
    return datasets.load("synthetic", n_users=150, n_items=40).split_ratio(0.3)


@pytest.fixture(scope="module")
def model(parts):
    return users.fit(parts[0], embeddings.svd(parts[0], dim=8), **SMALL)


@pytest.fixture(scope="module")
def self_selected():
    """People rate what they like: the log is too good, and its propensities tell how much."""
    random = np.random.default_rng(1)
    n_users, n_items = 120, 60
    chance = 1.0 / (1.0 + np.exp(-(random.normal(size=(n_users, 1)) + random.normal(size=n_items) - 0.5)))
    liked = random.random((n_users, n_items)) < chance
    propensity = np.where(liked, 0.6, 0.15)
    rated = random.random((n_users, n_items)) < propensity
    who, what = np.nonzero(rated)
    log = InteractionLog.from_events(
        who, what, liked[who, what].astype(float), propensities=propensity[who, what], item_ids=range(n_items)
    )
    who, what = np.nonzero(random.random((n_users, n_items)) < 0.3)
    return log, InteractionLog.from_events(who, what, liked[who, what].astype(float), item_ids=range(n_items))


def test_propensities_bring_the_level_down(self_selected):
    log, random_items = self_selected
    catalog = embeddings.svd(log, dim=8)
    off = {}
    for name, made in (
        ("plain", users.fit(log, catalog, **SMALL)),
        ("calibrated", calibrate.fit_calibrated(log, catalog, l2=(2.0,), **SMALL)),
        (
            "without propensities",
            calibrate.fit_calibrated(replace(log, propensities=None), catalog, l2=(2.0,), **SMALL),
        ),
    ):
        said = made.predict(random_items.event_users(), random_items.items)[0]
        off[name] = said.mean() / random_items.rewards.mean() - 1.0
        assert made.fitted_on.n_events == log.n_events
    assert off["plain"] > 0.2
    assert off["without propensities"] > 0.2
    assert abs(off["calibrated"]) < 0.1


def test_calibrated_users_are_saved_and_loaded(self_selected, tmp_path):
    log, _ = self_selected
    made = calibrate.fit_calibrated(log, embeddings.svd(log, dim=8), l2=(2.0,), **SMALL)
    made.save(tmp_path / "users")
    again = users.LearnedUsers.load(tmp_path / "users")
    assert again.about["calibration"] == made.about["calibration"]
    assert (again.predict([0, 1], [2, 3])[0] == made.predict([0, 1], [2, 3])[0]).all()


def test_the_pull_is_chosen_by_what_was_held_back(self_selected):
    log, _ = self_selected
    catalog, weights = embeddings.svd(log, dim=8), 1.0 / log.propensities
    found = calibrate.choose(log, catalog, weights, l2=(1.0, 1000.0), **SMALL)  # 1000: nothing is learned
    assert found.l2 == 1.0
    assert sorted(found.held.events) == list(range(log.n_events))  # each once
    assert found.moved.loss < calibrate.thresholds(calibrate.held_back(log, catalog, l2=1000.0, **SMALL), weights).loss


def test_moving_thresholds_is_what_it_says(model):
    moved = calibrate.recalibrated(model, calibrate.Moved(np.full(len(model.levels) - 1, 0.7), 1.3, 0.0))
    before = model.answers.below(np.zeros((2, 0)), np.array([0, 1]), np.array([[3], [4]]))
    after = moved.answers.below(np.zeros((2, 0)), np.array([0, 1]), np.array([[3], [4]]))
    logit = np.log(before.astype(float) / (1.0 - before))
    assert after == pytest.approx(1.0 / (1.0 + np.exp(-(1.3 * logit + 0.7))), abs=1e-4)


def test_calibration_refuses_what_it_cannot_do(self_selected):
    log, _ = self_selected
    catalog = embeddings.svd(log, dim=8)
    with pytest.raises(DataError, match="only matrix factorisations can be calibrated, got model='sequential'"):
        calibrate.fit_calibrated(log, catalog, model="sequential")
    rare = replace(log, rewards=np.where(np.arange(log.n_events) == 5, 7.0, log.rewards).astype(np.float32))
    with pytest.raises(DataError, match=r"every reward must be left when some events are held back, got 2 of 3"):
        calibrate.held_back(rare, catalog, **SMALL)
