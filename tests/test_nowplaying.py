"""#nowplaying-RS on a small fake of its layout, and the generated listeners."""

import numpy as np
import pytest
from fakes import as_folder, nowplaying_layout

from recgym.datasets import load
from recgym.datasets.nowplaying import AUDIO, nowplaying
from recgym.datasets.synthetic_shop import synthetic_shop
from recgym.datasets.synthetic_songs import synthetic_songs
from recgym.errors import DataError, MissingDataError
from recgym.log.shares import seen_before


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    return as_folder(tmp_path / "nowplaying", nowplaying_layout())


def test_events_and_features(folder):
    log = nowplaying(folder=folder)
    assert log.user_ids.tolist() == ["1", "2"] and log.item_ids.tolist() == ["a", "b", "c", "d"]  # 3 plays at least
    assert log.user(0).items.tolist() == [2, 1, 0, 2]  # in time order; the tweet with two hashtags once
    assert log.times[0] == 1_388_555_640 and log.rewards.tolist() == [1.0] * 7
    assert log.item_features["liveness"].tolist() == np.float32([0.11, 0.21, 0.31, 0.41]).tolist()
    assert log.item_features["key"].tolist() == [1, 2, 3, 4] and set(AUDIO) < set(log.item_features)
    everyone = nowplaying(folder=folder, min_events=1)
    assert everyone.n_users == 3 and "e" not in everyone.item_ids.tolist()  # it has no features


def test_by_name_and_what_is_wrong(folder, monkeypatch):
    monkeypatch.setenv("RECGYM_DATA", str(folder.parent))
    assert load("nowplaying").n_events == 7
    file = folder / "context_content_features.csv"
    text = file.read_text()
    file.write_text(text.replace("valence", "mood"))
    with pytest.raises(DataError, match="must have the column 'valence', got"):
        nowplaying(folder=folder)
    file.write_text(text.splitlines()[0] + "\n" + text.splitlines()[-1] + "\n")
    with pytest.raises(DataError, match="must hold events with all audio features, got none; get it again"):
        nowplaying(folder=folder)
    file.unlink()
    with pytest.raises(MissingDataError, match=r"nowplaying must hold context_content_features\.csv, got no such file"):
        nowplaying()
    monkeypatch.setenv("RECGYM_DATA", str(folder))
    with pytest.raises(
        MissingDataError, match=r"#nowplaying-RS must lie in a folder with context_content_features\.csv"
    ):
        nowplaying()


def test_generated_listeners_differ_in_breadth():
    log = synthetic_songs(n_users=200, n_items=300, seed=3)
    again = synthetic_songs(n_users=200, n_items=300, seed=3)
    assert np.array_equal(log.items, again.items) and np.array_equal(log.times, again.times)
    assert not np.array_equal(log.items[:500], synthetic_songs(n_users=200, n_items=300, seed=4).items[:500])
    assert log.lengths.min() >= 20 and log.lengths.max() <= 120
    songs = np.stack([log.item_features[name] for name in AUDIO], axis=1)
    songs = (songs - songs.mean(axis=0)) / songs.std(axis=0)
    breadth = [songs[log.user(user).items].std(axis=0).mean() for user in range(log.n_users)]
    assert np.quantile(breadth, 0.9) > 1.3 * np.quantile(breadth, 0.1)
    with pytest.raises(DataError, match="must be at least 1 and n_items at least 32, got n_users=1, n_items=31"):
        synthetic_songs(n_users=1, n_items=31)


def test_generated_shop_has_all_behaviours_and_their_worth():
    log = synthetic_shop(n_users=100, n_items=60)
    worth = {"pv": 1.0, "fav": 2.0, "cart": 2.0, "buy": 3.0}
    assert set(log.extra["behaviour"]) == set(worth) and log.reward_range == (1.0, 3.0)
    assert log.rewards.tolist() == [worth[behaviour] for behaviour in log.extra["behaviour"]]
    plain = load("synthetic", n_users=100, n_items=60)
    assert np.array_equal(synthetic_shop(n_users=100, n_items=60, repeats=0.0).items, plain.items)
    seen = seen_before(log)
    later = np.ones(log.n_events, dtype=bool)
    later[log.offsets[:-1]] = False
    assert seen[later].mean() == pytest.approx(0.4, abs=0.03) and not seen[~later].any()
    assert np.array_equal(log.items[~seen], plain.items[~seen])  # what is new is what it would have been
    with pytest.raises(DataError, match=r"repeats must be a share of at least 0 and below 1, got 1\.0"):
        synthetic_shop(n_users=100, n_items=60, repeats=1.0)
    given = load("synthetic-shop", n_users=100, n_items=60, reward="label:pv=0,cart=1,fav=0,buy=4")
    assert given.reward_range == (0.0, 4.0) and given.rewards.sum() > 0
