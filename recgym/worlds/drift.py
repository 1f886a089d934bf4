"""`recgym/Drift-v0`: tastes wander, and become what is consumed.

**Users** have a taste of length 1; sessions open with items they chose by it. **Items** lie around the centres of
topics, and some topics have many more of good *quality* than others.

**Answer**: place i is answered with probability `0.85**i * sigmoid(6 * <u, v> - 3)`, each by itself, and is worth
`clip(2 + 1 * <u, v> + 0.8 * quality, 0, 5)` stars (`Ratings`). After answers, taste turns a little towards the items
(`Influence`), and at every slate it takes a small random step (`Wandering`). Users lose patience with slates that earn
too little (`Patience`). **Ends**: `terminated` when patience is spent, `horizon` truncates.

**Planning may pay**: a taste can be led to where good items are.

Source: SARDINE (Deffayet et al. 2024) for influence, RecLab (Krauth et al. 2020) for ratings, KuaiSim (Zhao et al.
2023) for patience; numbers of our own.
"""

from __future__ import annotations

from recgym.catalog import Catalog
from recgym.users.behaviours.choice import PositionBased
from recgym.users.behaviours.influence import Influence, Wandering
from recgym.users.behaviours.patience import Patience
from recgym.users.behaviours.ratings import Ratings
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import populate


def world(
    *,
    frame_size: int = 10,
    n_users: int = 2_000,
    n_items: int = 300,
    n_topics: int = 10,
    dim: int = 16,
    inertia: float = 0.9,
    deviation: float = 0.02,
    start_patience: float = 10.0,
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
        inertia: Share of the old direction that a taste keeps at an answer.
        deviation: Of a taste's random step, in each dimension.
        start_patience: What users can lose before they leave.
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
        (
            Ratings(mean=2.0, taste_weight=1.0, quality_weight=0.8, noise=0.3, low=0.0, high=5.0),
            Influence(inertia=inertia),
            Wandering(deviation=deviation),
            Patience(start_patience=start_patience, step=1.0),
        ),
        slope=6.0,
        intercept=-3.0,
        opening=frame_size,
        appetite=6.0,
        servable=crowd.servable,
    )
    vectors = crowd.items.vectors[:-1]
    return Catalog(vectors, users.item_ids, "raw", features={"topic": crowd.items.topic[:-1]}), users
