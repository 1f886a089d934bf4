"""`recgym/LongTermSatisfaction-v0`: what engages now may satisfy little. RecSim's chocolate and kale.

**Users** have a net positive exposure, standard normal at first, from which their satisfaction follows. **Items** have
a bait c, uniform in 0..1, which is what their vector shows: (c, 1 - c).

**Answer**: the first place of the slate is always answered, and worth the engagement of `LongTermSatisfaction`: more
for a bait now, but baits wear satisfaction down. **Ends**: never by itself; `horizon=60` truncates.

**Planning pays**: who shows the most engaging item now shows baits, and does worse than who never does.

**Differs** from RecSim 0.2.4: satisfaction is 30 times as sensitive (0.3 for 0.01), because at its own setting baits
win for ever; `sensitivity=0.01` brings that back. Items are drawn once; all may be shown.

Source: Ie et al. (2019), RecSim, section 6.
"""

from __future__ import annotations

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_sizes, check_whole
from recgym.rng import uniforms
from recgym.users.parts.base import Items
from recgym.users.parts.choice import First
from recgym.users.parts.satisfaction import LongTermSatisfaction
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import serve

_BAIT = 10  # random stream


def world(
    *,
    frame_size: int = 10,
    n_users: int = 1_000,
    n_items: int = 200,
    sensitivity: float = 0.3,
    seed: int = 0,
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.05,
) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file.

    Args:
        frame_size: Of the environment; sessions open with empty frames.
        n_users: People; they differ in luck only.
        n_items: Items.
        sensitivity: How fast exposure tells on satisfaction.
        seed: Which world.
        split: Who is served: `"train"`, `"test"` or `"all"`.
        split_seed: Who is held out.
        test_size: How many are held out: a share between 0 and 1, or a count of people.
    """
    servable = serve(n_users, split, split_seed, test_size)
    check_sizes(n_items=n_items)
    check_whole(seed=seed)
    bait = uniforms(seed, n_items, _BAIT)
    vectors = np.stack([bait, 1.0 - bait], axis=1)
    users = SimulatedUsers(
        Items.of(vectors, None, bait),
        np.zeros((n_users, 2)),
        First(),
        (LongTermSatisfaction(sensitivity=sensitivity),),
        servable=servable,
    )
    return Catalog(vectors, users.item_ids, "raw"), users
