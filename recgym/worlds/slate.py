"""`recgym/Slate-v1`: three places, items that stand in each other's way, and visits that joy brings on.

**Users** have a taste of length 1; sessions open with items they chose by it. **Items** lie around the centres of
topics.

**Answer**: up to two items of the slate, by repeated multinomial logit with no choice (`PlackettLuce`) over
`6 * <u, v> - 1`, less for lower places (`PositionPenalty`), for items like their neighbours (`SimilarityPenalty`) and
for topics of which there was much (`Satiation`). Each is worth 1. **Ends**: five slates are a visit; happy users come
back sooner (`Returning`); `terminated` when the month is over.

**Ceiling**: none is known above the best slate for the next step. Over people of the training part a planner that
imagines six futures of five slates earned 0.9 less [-2.3, 0.3] (32 sessions); greed that takes satiation for 1.5, 2 and
3 times as heavy 0.4 more [-1.3, 2.2], 0.2 less and 2.7 less (64 sessions), each paired with greed.

Source: RecSim NG (Mladenov et al. 2021) for the choice, KuaiSim (Zhao et al. 2023) for similarity and returning, Leqi
et al. (2021) for satiation; numbers of our own.
"""

from __future__ import annotations

from recgym.catalog import Catalog
from recgym.users.behaviours.choice import PlackettLuce
from recgym.users.behaviours.penalties import PositionPenalty, SimilarityPenalty
from recgym.users.behaviours.returning import Returning
from recgym.users.behaviours.satiation import Satiation
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import populate


def world(
    *,
    frame_size: int = 10,
    n_users: int = 2_000,
    n_items: int = 300,
    n_topics: int = 10,
    dim: int = 16,
    days: float = 30.0,
    satiation: float = 1.0,
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
        dim: Width of tastes and item vectors.
        days: The calendar within which visits count.
        satiation: How much a topic's satiation weighs.
        seed: Which world.
        split: Who is served: `"train"`, `"test"` or `"all"`.
        split_seed: Who is held out.
        test_size: How many are held out: a share between 0 and 1, or a count of people.
    """
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
    users = SimulatedUsers(
        crowd.items,
        crowd.tastes,
        PlackettLuce(n=2, no_choice=0.0),
        (PositionPenalty(0.3), SimilarityPenalty(2.0), Satiation(weight=satiation), Returning(days=days)),
        slope=6.0,
        intercept=-1.0,
        opening=frame_size,
        appetite=6.0,
        servable=crowd.servable,
    )
    vectors = crowd.items.vectors[:-1]
    return Catalog(vectors, users.item_ids, "raw", features={"topic": crowd.items.topic[:-1]}), users
