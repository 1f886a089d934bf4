"""`recgym/Boredom-v0`: users tire of a topic they have had too much of, and for a while of everything.

**Users** have a taste of length 1; sessions open with items they chose by it. **Items** lie around the centres of
topics.

**Answer**: place i is answered with probability `0.85**i * sigmoid(4 * <u, v> - 0.5)`, each by itself
(`PositionBased`), and is worth 1. Four answers on one topic within ten slates bore a user for five slates (`Boredom`):
of everything, so that nothing is answered meanwhile, or of the topic alone, with `scope="topic"`.
**Ends**: `horizon` truncates.

**Planning pays**: who always shows the best match bores; who varies in time does not.

Source: SARDINE (Deffayet et al. 2024) for the kind of boredom; numbers of our own.
"""

from __future__ import annotations

from typing import Any

from recgym.catalog import Catalog
from recgym.users.behaviours.boredom import Boredom
from recgym.users.behaviours.choice import PositionBased
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import populate


def world(
    *,
    frame_size: int = 10,
    n_users: int = 2_000,
    n_items: int = 300,
    n_topics: int = 10,
    dim: int = 16,
    scope: Any = "everything",
    limit: int = 4,
    window: int = 10,
    lasts: int = 5,
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
        scope: What a bored user turns away from: `"everything"` or `"topic"`.
        limit: Answers on a topic that bore.
        window: Slates within which they count.
        lasts: Slates that boredom lasts.
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
        PositionBased(decay=0.85),
        (Boredom(limit=limit, window=window, lasts=lasts, scope=scope),),
        slope=4.0,
        intercept=-0.5,
        opening=frame_size,
        appetite=6.0,
        servable=crowd.servable,
    )
    vectors = crowd.items.vectors[:-1]
    return Catalog(vectors, users.item_ids, "raw", features={"topic": crowd.items.topic[:-1]}), users
