import datetime

import numpy as np
import pytest

from recgym.errors import DataError
from recgym.log import InteractionLog


@pytest.fixture
def big():
    """300 users of 1 to 60 events; an event is known by its reward."""
    random = np.random.default_rng(3)
    users = np.repeat(np.arange(300), random.integers(1, 60, 300))
    n = len(users)
    return InteractionLog.from_events(
        users + 1000, random.integers(0, 90, n), np.arange(n), random.integers(0, 10**6, n), item_ids=np.arange(100)
    )


SPLITS = {
    "users": lambda log, seed=0: log.split_users(0.2, seed),
    "last": lambda log, seed=0: log.split_last(3),
    "ratio": lambda log, seed=0: log.split_ratio(0.25),
    "time": lambda log, seed=0: log.split_time(0.1),
    "random": lambda log, seed=0: log.split_random(0.1, seed),
}


@pytest.mark.parametrize("name", SPLITS)
def test_parts_are_disjoint_and_make_up_the_whole(name, big):
    train, test = SPLITS[name](big)
    assert not set(train.rewards.tolist()) & set(test.rewards.tolist())
    assert sorted([*train.rewards.tolist(), *test.rewards.tolist()]) == sorted(big.rewards.tolist())
    for part in (train, test):
        assert part.item_ids is big.item_ids and part.n_items == 100  # the index space stays
        assert part.reward_range == big.reward_range and (part.lengths > 0).all()
        user_of = dict(zip(big.rewards.tolist(), big.user_ids[big.event_users()].tolist(), strict=True))
        item_of = dict(zip(big.rewards.tolist(), big.items.tolist(), strict=True))
        place_of = {reward: place for place, reward in enumerate(big.rewards.tolist())}
        users = part.user_ids[part.event_users()].tolist()
        assert users == [user_of[reward] for reward in part.rewards.tolist()]
        assert part.items.tolist() == [item_of[reward] for reward in part.rewards.tolist()]
        for user in range(part.n_users):  # each user's order stays
            places = [place_of[reward] for reward in part.user(user).rewards.tolist()]
            assert places == sorted(places)


@pytest.mark.parametrize("name", ["users", "random"])
def test_seeds_decide_r13(name, big):
    """Source defect R13: the split had no seed."""
    again, other = SPLITS[name](big), SPLITS[name](big, seed=1)
    assert (SPLITS[name](big)[1].rewards == again[1].rewards).all()
    assert set(other[1].rewards.tolist()) != set(again[1].rewards.tolist())


def test_split_is_the_same_for_ever():
    log = InteractionLog.from_events(np.arange(12), np.arange(12), np.ones(12))
    assert log.split_users(4, seed=0)[1].user_ids.tolist() == [1, 2, 3, 11]
    assert log.split_random(4, seed=7)[1].user_ids.tolist() == [3, 4, 6, 11]


def test_train_keeps_the_longest_users_r13(big):
    """Source defect R13: the training part dropped its two longest users."""
    train, test = big.split_users(0.2)
    assert train.n_users + test.n_users == big.n_users == 300 and test.n_users == 60
    assert max(train.lengths.max(), test.lengths.max()) == big.lengths.max()
    assert big.split_users(7)[1].n_users == 7
    assert (np.diff(train.user_ids) > 0).all()  # users keep their relative order


def test_split_last(big):
    _, test = big.split_last(3)
    assert (test.lengths == 3).all() and test.n_users == (big.lengths > 3).sum()
    user = int(np.argmax(big.lengths))
    found = test.user_ids.tolist().index(big.user_ids[user])
    assert test.user(found).rewards.tolist() == big.user(user).rewards[-3:].tolist()


def test_split_ratio(big):
    train, test = big.split_ratio(0.25)
    held = dict(zip(test.user_ids.tolist(), test.lengths.tolist(), strict=True))
    expected = np.minimum(np.rint(big.lengths * 0.25), big.lengths - 1).tolist()
    assert [held.get(user, 0) for user in big.user_ids.tolist()] == expected
    assert train.n_users == 300


def test_split_time(big):
    train, test = big.split_time(0.1)
    assert train.times.max() < test.times.min()
    assert abs(test.n_events - 0.1 * big.n_events) <= 2
    for when in (
        86400,
        "1970-01-02",
        datetime.date(1970, 1, 2),
        "1970-01-02T01:00:00+01:00",
        np.datetime64("1970-01-02"),
    ):
        assert big.split_time(when=when)[1].times.min() >= 86400
        assert big.split_time(when=when)[1].n_events == (big.times >= 86400).sum()


def test_events_of_one_second_stay_together():
    log = InteractionLog.from_events([1] * 10, np.arange(10), np.ones(10), [0] + [5] * 9)
    train, test = log.split_time(0.3)
    assert (train.n_events, test.n_events) == (1, 9)


def test_split_random_share(big):
    assert big.split_random(0.1)[1].n_events == round(0.1 * big.n_events)
    assert big.split_random(13)[1].n_events == 13


def test_top_items_r11(big):
    """Source defect R11: keeping the top items made a table of copies of two rows and kept the old ids."""
    log = InteractionLog.from_events(
        [1, 1, 1, 2, 2, 3], ["c", "a", "b", "c", "b", "d"], [1, 2, 3, 4, 5, 6], titles={"b": "Bee", "c": "Sea"}
    )
    top = log.top_items(2)
    assert top.item_ids.tolist() == ["b", "c"] and top.titles.tolist() == ["Bee", "Sea"]
    assert top.items.tolist() == [1, 0, 1, 0] and top.rewards.tolist() == [1, 3, 4, 5]
    assert top.user_ids.tolist() == [1, 2]  # user 3 has nothing left
    kept = big.top_items(10)
    counts = np.bincount(big.items, minlength=100)
    assert kept.n_events == np.sort(counts)[-10:].sum() and kept.items.max() == 9
    assert set(kept.item_ids.tolist()) == set(np.argsort(-counts, kind="stable")[:10].tolist())


def test_filter_users(big):
    kept = big.filter_users(30)
    assert kept.lengths.min() >= 30 and kept.n_users == (big.lengths >= 30).sum() and kept.n_items == 100


@pytest.mark.parametrize(
    ("split", "match"),
    [
        (
            lambda log: log.split_users(1.5),
            r"test_size must be a share between 0 and 1 or a count from 1 to 299, got 1\.5",
        ),
        (lambda log: log.split_users(-0.1), r"got -0\.1 for 300 users"),
        (lambda log: log.split_users(0), "got 0 for 300 users"),
        (lambda log: log.split_users(300), "got 300 for 300 users"),
        (lambda log: log.split_users(True), "got True for 300 users"),
        (lambda log: log.split_users("a few"), "got 'a few' for 300 users"),
        (lambda log: log.split_users(0.1, seed=-1), "seed must be a whole number of at least 0, got -1"),
        (lambda log: log.split_users(0.1, seed=0.5), r"seed must be a whole number of at least 0, got 0\.5"),
        (lambda log: log.select_users([0]).split_users(0.5), "a split needs at least 2 users, got 1"),
        (lambda log: log.split_last(0), "n must be a whole number of at least 1, got 0"),
        (lambda log: log.split_last(1.5), r"n must be a whole number of at least 1, got 1\.5"),
        (lambda log: log.split_last(100), r"both parts of a split must hold events, got \d+ for training and 0 .*more"),
        (lambda log: log.split_ratio(2), "test_size must lie between 0 and 1, got 2"),
        (lambda log: log.split_time(), "give test_size or when, got test_size=None and when=None"),
        (lambda log: log.split_time(0.1, "2001-01-01"), "give test_size or when, got test_size=0.1"),
        (lambda log: log.split_time(1.2), r"test_size must lie between 0 and 1, got 1\.2"),
        (lambda log: log.split_time(when="May"), "when must be seconds since 1970, a date or a date string, got 'May'"),
        (lambda log: log.split_time(when=0), "got 0 for training and .* hold out less"),
        (lambda log: log.split_random(1.0), r"got 1\.0 for \d+ events"),
        (lambda log: log.filter_users(1000), "some user must have min_events=1000 events, got 58 at most"),
        (lambda log: log.top_items(0), "n must lie between 1 and 100, the number of items, got 0"),
        (lambda log: log.top_items(101), "n must lie between 1 and 100, the number of items, got 101"),
    ],
)
def test_bad_arguments(split, match, big):
    with pytest.raises(DataError, match=match):
        split(big)


def test_time_split_needs_times():
    log = InteractionLog.from_events([1, 2], [1, 2], [1, 1])
    with pytest.raises(DataError, match="a split by time needs times, got a log without them"):
        log.split_time(0.5)


@pytest.mark.parametrize(
    "split", [lambda log: log.split_last(3), lambda log: log.split_ratio(0.3), lambda log: log.split_time(0.3)]
)
def test_the_tail_of_a_split_keeps_its_past(split, big, tmp_path):
    train, test = split(big)
    assert (train.is_tail, train.past) == (False, None)
    assert test.is_tail and test.past is train
    some = test.select_users([1, 4]).select_events(np.ones(test.select_users([1, 4]).n_events, dtype=bool))
    assert some.past is train and some.is_tail
    fewer = test.select_items([5, 3, 70])
    assert fewer.past.item_ids.tolist() == fewer.item_ids.tolist() == [5, 3, 70]
    assert fewer.past.n_events == np.isin(train.items, [5, 3, 70]).sum()
    test.save(tmp_path / "saved")
    test.to_parquet(tmp_path / "parts")
    for log in (InteractionLog.open(tmp_path / "saved"), InteractionLog.from_parquet(tmp_path / "parts")):
        assert log.is_tail and log.past is None
    again = test.split_last(1)
    assert again[0].past is train and again[1].is_tail and again[1].past is None  # it would lack the middle


def test_whole_users_and_random_events_are_no_tails(big):
    for train, test in (big.split_users(0.2), big.split_random(0.2)):
        assert not train.is_tail and not test.is_tail and test.past is None
