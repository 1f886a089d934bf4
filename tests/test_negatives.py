import doctest

import numpy as np
import pytest

from recgym.batches import negatives
from recgym.batches.negatives import Unconsumed
from recgym.errors import DataError
from recgym.log import InteractionLog

LOG = InteractionLog.from_events(
    [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3], [4, 0, 4, 2, 3, 0, 1, 2, 3, 4, 0], np.ones(11), item_ids=range(5)
)


def test_doctests():
    extra = {"np": np, "InteractionLog": InteractionLog}
    assert doctest.testmod(negatives, extraglobs=extra).failed == 0


def test_every_item_a_user_lacks_is_drawn_equally_often_and_no_other():
    unconsumed = Unconsumed(LOG)
    assert unconsumed.left.tolist() == [2, 4, 0, 4]
    uniforms = (np.arange(1200) + 0.5) / 1200
    for user, lacking in ((0, [1, 3]), (1, [0, 1, 2, 4]), (3, [1, 2, 3, 4])):
        found, counts = np.unique(unconsumed.items(np.full(1200, user), uniforms), return_counts=True)
        assert found.tolist() == lacking and set(counts) == {1200 // len(lacking)}


def test_equals_a_plain_search_on_a_larger_log():
    random = np.random.default_rng(0)
    log = InteractionLog.from_events(random.integers(30, size=900), random.integers(50, size=900), np.ones(900))
    users = random.integers(log.n_users, size=(4, 500))
    drawn = Unconsumed(log).items(users, random.random(users.shape))
    assert drawn.shape == users.shape
    for user, item in zip(users.ravel(), drawn.ravel(), strict=True):
        assert item not in log.user(user).items and 0 <= item < log.n_items


def test_the_ends_of_the_unit_interval():
    below_one = np.nextafter(1.0, 0.0)
    assert Unconsumed(LOG).items(np.array([0, 0]), np.array([0.0, below_one])).tolist() == [1, 3]


def test_a_user_who_consumed_everything():
    with pytest.raises(DataError, match=r"every user must lack some item, got \[2\] with all 5 consumed; leave such"):
        Unconsumed(LOG).items(np.array([0, 2]), np.array([0.5, 0.5]))
