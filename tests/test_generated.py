"""Simulated worlds without data: who is held out, by a share or a count, and what is refused."""

from dataclasses import fields
from importlib import import_module

import numpy as np
import pytest

from recgym.envs.option_docs import own_options
from recgym.envs.registry import make_vector_env
from recgym.errors import DataError, OptionError
from recgym.worlds.generated import PeopleOptions
from recgym.worlds.generated import serve as serve_people

WORLDS = ["boredom", "drift", "slate", "slate_boredom", "retention", "interest_evolution", "long_term_satisfaction"]


def serve(n_users, split, split_seed, test_size):
    return serve_people(PeopleOptions(n_users=n_users, split=split, split_seed=split_seed, test_size=test_size))


@pytest.mark.parametrize(
    ("test_size", "n_test"), [(0.05, 10), (0.001, 1), (0.999, 199), (1, 1), (20, 20), (199, 199), (np.int64(7), 7)]
)
def test_a_share_or_a_count_is_held_out(test_size, n_test):
    train, test, everyone = (serve(200, split, 3, test_size) for split in ("train", "test", "all"))
    assert len(test) == n_test
    assert np.array_equal(np.sort(np.concatenate([train, test])), everyone)
    assert np.array_equal(everyone, np.arange(200)) and (np.diff(train) > 0).all()


def test_a_larger_part_holds_the_smaller_one_and_another_seed_others():
    assert set(serve(200, "test", 0, 5)) < set(serve(200, "test", 0, 20))
    assert set(serve(200, "test", 0, 20)) != set(serve(200, "test", 1, 20))


@pytest.mark.parametrize("test_size", [0, -1, 200, 0.0, 1.0, 2.0, -0.1, float("nan"), "x", None, True])
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_no_other_size_is_served(split, test_size):
    match = f"test_size must be a share between 0 and 1 or a count from 1 to 199, got {test_size!r} for 200 users; give"
    with pytest.raises(DataError, match=match):
        serve(200, split, 0, test_size)


def test_one_person_cannot_be_held_out():
    with pytest.raises(DataError, match="n_users must be at least 2 for someone to be held out, got 1 with split='te"):
        serve(1, "test", 0, 0.05)
    assert serve(1, "train", 0, 0.05).tolist() == serve(1, "all", 0, 0.05).tolist() == [0]


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_checks(world):
    assert len(make_vector_env(1, world=world, n_users=40, split="test", test_size=3).users.servable) == 3
    with pytest.raises(DataError, match="test_size must be a share between 0 and 1 or a count from 1 to 39, got 0 for"):
        make_vector_env(1, world=world, n_users=40, test_size=0)
    for name in ("seed", "split_seed"):
        with pytest.raises(DataError, match=f"{name} must be a whole number, got 'x'; give e.g. 0"):
            make_vector_env(1, world=world, n_users=40, **{name: "x"})
    with pytest.raises(DataError, match="n_items must be an integer of at least 1, got 0"):
        make_vector_env(1, world=world, n_items=0)


@pytest.mark.parametrize("name", WORLDS)
def test_options_of_a_world_are_fields_with_a_meaning(name):
    """What the page prints is the object the world is given; a misspelt one is refused with all there are."""
    world = import_module(f"recgym.worlds.{name}").world
    assert issubclass(world.takes, PeopleOptions)
    told = own_options(world)
    assert {one.name: one.default for one in fields(world.takes)} == {at: one.default for at, one in told.items()}
    assert all(len(one.meaning) > 3 for one in told.values())
    with pytest.raises(
        OptionError, match=rf"options of {name} must be among .*n_users.*, got n_user; did you mean 'n_u"
    ):
        world(n_user=3)
