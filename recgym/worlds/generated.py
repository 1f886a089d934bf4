"""What worlds of simulated users share: options, people and items drawn from a seed, some people held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log.splits import n_held_out
from recgym.options import check_choice, check_sizes, check_whole
from recgym.rng import normals, uniforms
from recgym.users.behaviours.base import Items
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.logs import SPLITS

_CENTRES, _NOISE, _QUALITY, _TASTES, _SPLIT = range(5)  # random streams


@dataclass(frozen=True, kw_only=True)
class PeopleOptions:
    """Options of every world without data."""

    frame_size: int = 10  # F, that of the environment; sessions open with empty frames, where the page says no other
    n_users: int = 2_000  # people
    seed: int = 0  # which world
    split: str = "train"  # who is served: `"train"`, `"test"` or `"all"`
    split_seed: int = 0  # who is held out
    test_size: float = 0.05  # how many are held out: a share between 0 and 1, or a count of people


@dataclass(frozen=True, kw_only=True)
class PopulationOptions(PeopleOptions):
    """Options of worlds of items around the centres of topics, where opening frames are full."""

    n_items: int = 300  # items
    n_topics: int = 10  # topics
    dim: int = 16  # width of tastes and item vectors


class Population(NamedTuple):
    """Items on topics, people with tastes, and who of them is served."""

    items: Items
    tastes: np.ndarray  # (n_users, d)
    servable: np.ndarray  # (n,) int64

    def world(
        self, options: PopulationOptions, choice: Any, behaviours: Sequence[Any], *, slope: float, intercept: float
    ) -> tuple[Catalog, SimulatedUsers]:
        """Returns items, and users who open with what they chose by taste; as for `SimulatedUsers`."""
        users = SimulatedUsers(
            self.items,
            self.tastes,
            choice,
            tuple(behaviours),
            slope=slope,
            intercept=intercept,
            opening=options.frame_size,
            appetite=6.0,
            servable=self.servable,
        )
        features = {"topic": self.items.topic[:-1]}
        return Catalog(self.items.vectors[:-1], users.item_ids, "raw", features=features), users


def serve(options: PeopleOptions) -> np.ndarray:
    """Returns the users of the part that is served (n,) int64, ascending.

    Raises:
        DataError: if the split is unknown, a size is out of range, or nobody is in the part.
    """
    n_users, split = options.n_users, options.split
    check_choice("split", split, SPLITS)
    check_sizes(n_users=n_users)
    check_whole(split_seed=options.split_seed, seed=options.seed)
    if n_users == 1 and split == "test":
        raise DataError("n_users must be at least 2 for someone to be held out, got 1 with split='test'; raise it")
    held_out = n_held_out(n_users, options.test_size, "users") if n_users > 1 else 0
    order = np.argsort(uniforms(options.split_seed, n_users, _SPLIT), kind="stable")
    parts = {"test": order[:held_out], "train": order[held_out:], "all": order}
    return np.sort(parts[split])


def populate(options: PopulationOptions, spread: float = 0.5) -> Population:
    """Returns items around the centres of topics and people with tastes, all of length 1.

    Args:
        options: Sizes and seeds; topics are taken in turn, so that there are at least as many items.
        spread: Length of an item's own direction beside that of its topic.

    Raises:
        DataError: if a size is out of range or the split unknown.
    """
    servable = serve(options)
    seed, n_users, n_items, n_topics, dim = (
        options.seed,
        options.n_users,
        options.n_items,
        options.n_topics,
        options.dim,
    )
    check_sizes(n_items=n_items, n_topics=n_topics, dim=dim)
    if n_items < n_topics:
        raise DataError(f"n_items must be at least n_topics = {n_topics}, got {n_items}; lower n_topics")
    topic = np.arange(n_items) % n_topics
    centres = _unit(normals(seed, n_topics * dim, _CENTRES).reshape(n_topics, dim))
    own = _unit(normals(seed, n_items * dim, _NOISE).reshape(n_items, dim))
    items = Items.of(_unit(centres[topic] + spread * own), topic, normals(seed, n_items, _QUALITY))
    return Population(items, _unit(normals(seed, n_users * dim, _TASTES).reshape(n_users, dim)), servable)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
