"""`-DRR-v1`: the interactive environment of DRR: the user's index and a memory of liked items, among candidates.

The observation is `user` and the last F = 5 liked items (`observation="user_history"`); an embedding action is scored
against the session's candidates (`mapper`), and a liked item earns 1. A user is one of all users, in training as in
testing; what is held out is events, so that an agent may learn a vector per user.

| | `protocol="fair"` (default) | `protocol="published"` |
|---|---|---|
| test events | the last `test_size` of each user's, in time | a random `test_size` of the liked events |
| candidates | 200, of which at most a tenth liked | the liked items and as many others |
| the others | all different, never liked, in neither part | drawn with replacement; may be liked in the other part |
| a random policy earns a step | about 0.1 | about 0.5 |
| a session lasts | `horizon` steps or until all liked ones were shown | one step per liked item, if `horizon` allows |

`split="train"` opens with an empty memory, `"test"` with the last F liked items of the training part, `"all"` serves
both parts as one, with an empty memory. No memory outlives its session: that part of the published protocol, by which
a user's memory went from one session to the next and into the test, is not reproduced.

Item vectors are fitted on the events that are not held out. Users are `recgym.users.drr.DRRUsers`.

Source: Liu et al., "Deep reinforcement learning based recommendation with explicit user-item interactions modeling",
2018; the environment is that of the public notebook shashist/recsys-rl (2020), its two leaks repaired by default.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from recgym import datasets
from recgym.catalog import Catalog
from recgym.log import InteractionLog, splits
from recgym.log.derived import derived
from recgym.options import check_choice
from recgym.users.clicks import Clicks
from recgym.users.drr import PROTOCOLS, DRRUsers
from recgym.users.replay import ReplayUsers
from recgym.worlds.logs import SPLITS, fitted_catalog, given_vectors

FURTHER: dict[Any, Any] = {DRRUsers: (), ReplayUsers: (), Clicks: ()}  # as in `recgym.worlds.frame`


def world(
    *,
    frame_size: int = 5,
    dataset: str = "synthetic",
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.2,
    protocol: str = "fair",
    liked_above: float = 0.2,
    n_candidates: int = 200,
    share: float = 0.1,
    min_liked: int = 1,
    clicks: str | None = None,
    attraction: float = 1.0,
    examination: float = 0.85,
    embeddings: str = "svd",
    dim: int | None = None,
    normalise: bool = False,
    missing_vectors: str = "error",
    **load_options: Any,
) -> tuple[Catalog, DRRUsers]:
    """Returns items and users of DRR's environment.

    Args:
        frame_size: F, the liked items that are remembered.
        dataset: A name for `recgym.datasets.load`; `load_options` are its further arguments.
        split: Events served: `"train"`, `"test"` or `"all"`.
        split_seed: Which events are held out, under `"published"`.
        test_size: Share of them.
        protocol: `"fair"` or `"published"`: a column of the table above.
        liked_above: Reward above which an item is liked; 0.2 is a rating of 3 under `reward="scaled"`.
        n_candidates: As in `DRRUsers`, like the five options after it.
        share: See there.
        min_liked: See there; the published runs used 20.
        clicks: See there.
        attraction: See there.
        examination: See there.
        embeddings: `"svd"`, `"als"`, or a file of vectors.
        dim: Width of fitted vectors; None: 128, or as many as the log has users or items.
        normalise: Whether fitted vectors get length 1 each.
        missing_vectors: What becomes of items the file lacks, `missing` of `recgym.embeddings.load_vectors`.
        **load_options: See `dataset`.
    """
    check_choice("split", split, SPLITS)
    check_choice("protocol", protocol, PROTOCOLS)
    given, log = given_vectors(datasets.load(dataset, **load_options), embeddings, missing_vectors)
    part = _Parts(log, liked_above, protocol, test_size, split_seed)
    catalog = given or fitted_catalog(part("kept"), embeddings, dim=dim, normalise=normalise)
    users = DRRUsers(
        part(split),
        frame_size,
        known=part("all"),
        before=part("train") if split == "test" else None,
        protocol=protocol,
        n_candidates=n_candidates,
        share=share,
        min_liked=min_liked,
        clicks=clicks,
        attraction=attraction,
        examination=examination,
    )
    return catalog, users


class _Parts:
    """The parts of a log, made when they are asked for: `"kept"`, all that is not held out, and the liked events."""

    def __init__(self, log: InteractionLog, liked_above: float, protocol: str, test_size: float, seed: int) -> None:
        self.log, self.liked_above = log, liked_above
        self.how: dict[str, Any] = {"protocol": protocol, "test_size": test_size, "seed": seed}

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Which events belong to each part (n_events,) bool."""
        liked = self.log.rewards > np.float32(self.liked_above)
        held = held_out(self.log, liked, **self.how)
        return {"kept": ~held, "train": liked & ~held, "test": liked & held, "all": liked}

    def __call__(self, name: str) -> InteractionLog:
        """Returns one part; users without events stay in the liked ones."""
        how = {"drr": name, "liked_above": self.liked_above, **self.how}
        return derived(self.log, how, lambda: self.log.select_events(self.masks[name], drop_empty=name == "kept"))


def held_out(log: InteractionLog, liked: np.ndarray, protocol: str, test_size: float, seed: int) -> np.ndarray:
    """Returns which events are held out (n_events,) bool.

    Args:
        log: All events.
        liked: Which of them are liked (n_events,) bool.
        protocol: `"fair"`: the last of every user's; `"published"`: a random part of the liked ones.
        test_size: Share held out.
        seed: Which, under `"published"`.
    """
    if protocol == "fair":
        return splits.last_share_of_users(log.offsets, test_size)
    held = np.zeros(log.n_events, dtype=bool)
    held[liked] = splits.held_out_events(int(np.count_nonzero(liked)), test_size, seed)
    return held
