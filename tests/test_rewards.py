import doctest

import numpy as np
import pytest

from recgym import rewards
from recgym.errors import DataError
from recgym.rewards import Look, fitting_transform, takes_labels, transform_rewards

STARS = np.arange(1, 11) / 2  # half a star to five


def test_doctests():
    assert doctest.testmod(rewards).failed == 0


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("scaled:10", STARS / 5 - 1),
        ("scaled", [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("recnn", [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5]),
        ("raw", STARS),
        ("log1p", np.log(1 + STARS)),
        ("binary:4", [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]),
        ("sign:3.5", [-1, -1, -1, -1, -1, -1, 1, 1, 1, 1]),
    ],
)
def test_numbers(transform, expected):
    made = transform_rewards(STARS, transform)
    assert made.dtype == np.float32 and np.allclose(made, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (STARS, "scaled"),
        (2 * STARS, "scaled:10"),
        ([0, 1, 1, np.nan], "raw"),
        ([-0.8, 0.4, 1], "raw"),
        ([-10, 3, 9.5], "raw"),
        ([1, 1, 1, 2, 1, 5], "raw"),  # few of one's own: counts, or stars of a set nobody likes
        ([1, 1, 2, 3, 90], "log1p"),
        ([60, 170, 180, 300], "raw"),
        ([4.25, 4.5, 5], "raw"),
        ([0, 0, 0, 0, 7], "raw"),
        ([], "raw"),
        ([1, 1e300], "log1p"),
    ],
)
def test_what_numbers_look_like(numbers, expected):
    assert fitting_transform(numbers) == expected
    look = Look()
    for one in np.asarray(numbers, dtype=float):  # in whatever blocks they come
        look.add(np.array([one])[~np.isnan([one])])
    assert look.transform() == expected


def test_labels():
    assert takes_labels("label:pv=1") and not takes_labels("scaled")
    assert transform_rewards(["buy", "pv", "buy"], "label: pv=1, buy=3").tolist() == [3, 1, 3]
    assert transform_rewards([1, 2], "label:1=0.5,2=-1").tolist() == [0.5, -1]


def test_nothing_given_is_changed_r13():
    """Source defect R13: ratings were transformed in place, twice if asked twice."""
    given = STARS.copy()
    assert (transform_rewards(given, "recnn") == transform_rewards(given, "recnn")).all()
    assert (given == STARS).all()


@pytest.mark.parametrize(
    ("values", "transform", "match"),
    [
        ([1], "stars", "a reward transform must be .* got 'stars'"),
        ([1], "scaled:-3", "the highest star must be above 0, got 'scaled:-3'"),
        ([1], "scaled:ten", "'scaled:ten' needs a number after the colon, got 'ten'"),
        ([1], "log1p:2", "got 'log1p:2'"),
        ([3, -0.5, -2], "log1p", r"'log1p' needs numbers of at least 0, got -2 \(2 of 3 are below\)"),
        ([1], "binary", "'binary' needs a number after the colon, got ''"),
        ([1], "sign:high", "'sign:high' needs a number after the colon, got 'high'"),
        (["a"], "label:", "a label transform must read 'label:NAME=VALUE,...', got 'label:'"),
        (["a"], "label:a=much", "got 'label:a=much'"),
        (["a", "b", "c"], "label:a=1", r"every label must have a value, got \['b', 'c'\] without one"),
    ],
)
def test_bad_transforms(values, transform, match):
    with pytest.raises(DataError, match=match):
        transform_rewards(values, transform)
