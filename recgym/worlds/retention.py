"""`recgym/Retention-v0`: visits, and days away that depend on what they were worth. Who is baited stays away.

**Users** have a taste of length 1, and `days=60` of a calendar. **Items** lie around the centres of topics; their last
number is a bait, standard normal, which everybody falls for; their quality, which nothing shows, is
`-0.5 * bait` plus noise, of variance 1. Sessions open with items that users chose by taste.

**Answer**: at most one item of the three shown, by multinomial logit (`Logit`) over `4 * <u, v> + 1.5 * bait - 1`; it
is worth 1. **After it**: five slates are a visit. It was worth the mean quality of its slates, 0 where nothing was
answered, and the days until the next one are geometric with success `sigmoid(worth)`, ten at most (`Retention`).
Who stays away for ten days does not come back. **Ends**: `terminated` then, or when the calendar is over.

**Told** in infos: `day`, `days_away` (before this visit) and `visit_over` (whether the last slate ended one).
`evaluate_sessions` has, beside the return, `return_days`, the mean of days away after a visit, and `retention@1`, the
share of visits after which a person came back the next day.

**Planning pays**: baits are answered now, and paid for in days away, so that the calendar has fewer visits. Who shows
the best chance of an answer by the truth earns a third of who shows quality that is answered too.

Source: the cross-session retention of KuaiSim (Zhao et al. 2023) for return by geometric days; numbers of our own.
"""

from __future__ import annotations

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_within
from recgym.rng import normals
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.choice import Logit
from recgym.users.behaviours.returning import Retention
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import populate

_BAIT = 10  # random stream
_SLOPE = 4.0


def world(
    *,
    frame_size: int = 10,
    n_users: int = 2_000,
    n_items: int = 300,
    n_topics: int = 10,
    dim: int = 15,
    days: float = 60.0,
    bait: float = 1.5,
    cost: float = 0.5,
    seed: int = 0,
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.05,
) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file.

    Args:
        frame_size: F; opening frames are full.
        n_users: People.
        n_items: Items.
        n_topics: Topics.
        dim: Width of tastes; item vectors have one number more.
        days: The calendar.
        bait: How much baits appeal.
        cost: How much quality a bait lacks, from 0 to 1: minus their correlation.
        seed: Which world.
        split: Who is served: `"train"`, `"test"` or `"all"`.
        split_seed: Who is held out.
        test_size: How many are held out: a share between 0 and 1, or a count of people.
    """
    check_within(0.0, np.inf, bait=bait)
    check_within(0.0, 1.0, cost=cost)
    crowd = populate(
        n_users=n_users,
        n_items=n_items,
        n_topics=n_topics,
        dim=dim,
        seed=seed,
        split=split,
        split_seed=split_seed,
        test_size=test_size,
    )
    baits = normals(seed, n_items, _BAIT)
    vectors = np.column_stack([crowd.items.vectors[:-1], baits])
    quality = -cost * baits + np.sqrt(1.0 - cost**2) * crowd.items.quality[:-1]
    topic = crowd.items.topic[:-1]
    users = SimulatedUsers(
        Items.of(vectors, topic, quality),
        np.column_stack([crowd.tastes, np.full(n_users, bait / _SLOPE)]),
        Logit(),
        (Retention(days=days),),
        slope=_SLOPE,
        intercept=-1.0,
        opening=frame_size,
        appetite=6.0,
        servable=crowd.servable,
    )
    return Catalog(vectors, users.item_ids, "raw", features={"topic": topic}), users
