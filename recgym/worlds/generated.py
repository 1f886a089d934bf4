"""What worlds of simulated users share: people and items drawn from a seed, some people held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log.splits import n_held_out
from recgym.options import check_choice, check_sizes, check_whole
from recgym.rng import normals, uniforms
from recgym.users.behaviours.base import Items
from recgym.worlds.logs import SPLITS

_CENTRES, _NOISE, _QUALITY, _TASTES, _SPLIT = range(5)  # random streams


class Population(NamedTuple):
    """Items on topics, people with tastes, and who of them is served."""

    items: Items
    tastes: np.ndarray  # (n_users, d)
    servable: np.ndarray  # (n,) int64


def serve(n_users: int, split: str, split_seed: int, test_size: float) -> np.ndarray:
    """Returns the users of one part (n,) int64, ascending.

    Args:
        n_users: People.
        split: The part: `"train"`, `"test"` or `"all"`.
        split_seed: Who is held out.
        test_size: How many are, as for `InteractionLog.split_users`: a share between 0 and 1, or a count from 1 on.

    Raises:
        DataError: if the split is unknown, a size is out of range, or nobody is in the part.
    """
    check_choice("split", split, SPLITS)
    check_sizes(n_users=n_users)
    check_whole(split_seed=split_seed)
    if n_users == 1 and split == "test":
        raise DataError("n_users must be at least 2 for someone to be held out, got 1 with split='test'; raise it")
    held_out = n_held_out(n_users, test_size, "users") if n_users > 1 else 0
    order = np.argsort(uniforms(split_seed, n_users, _SPLIT), kind="stable")
    parts = {"test": order[:held_out], "train": order[held_out:], "all": order}
    return np.sort(parts[split])


def populate(
    *,
    n_users: int,
    n_items: int,
    n_topics: int,
    dim: int,
    seed: int,
    split: str,
    split_seed: int,
    test_size: float,
    spread: float = 0.5,
) -> Population:
    """Returns items around the centres of topics and people with tastes, all of length 1.

    Args:
        n_users: People.
        n_items: Items, at least as many as topics.
        n_topics: Topics, taken in turn.
        dim: Width of vectors.
        seed: Which world.
        split: Who is served: `"train"`, `"test"` or `"all"`.
        split_seed: Who is held out.
        test_size: How many are held out, see `serve`.
        spread: Length of an item's own direction beside that of its topic.

    Raises:
        DataError: if a size is out of range or the split unknown.
    """
    servable = serve(n_users, split, split_seed, test_size)
    check_sizes(n_items=n_items, n_topics=n_topics, dim=dim)
    check_whole(seed=seed)
    if n_items < n_topics:
        raise DataError(f"n_items must be at least n_topics = {n_topics}, got {n_items}; lower n_topics")
    topic = np.arange(n_items) % n_topics
    centres = _unit(normals(seed, n_topics * dim, _CENTRES).reshape(n_topics, dim))
    own = _unit(normals(seed, n_items * dim, _NOISE).reshape(n_items, dim))
    items = Items.of(_unit(centres[topic] + spread * own), topic, normals(seed, n_items, _QUALITY))
    return Population(items, _unit(normals(seed, n_users * dim, _TASTES).reshape(n_users, dim)), servable)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
