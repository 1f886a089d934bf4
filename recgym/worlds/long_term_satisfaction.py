"""`recgym/LongTermSatisfaction-v0`: what engages now may satisfy little. RecSim's chocolate and kale.

**Users** have a net positive exposure, standard normal at first, from which their satisfaction follows. **Items** have
a bait c, uniform in 0..1, which is what their vector shows: (c, 1 - c).

**Answer**: the first place of the slate is always answered, and worth the engagement of `LongTermSatisfaction`: more
for a bait now, but baits wear satisfaction down. **Ends**: never by itself; `horizon=60` truncates.

**Planning pays**: who shows the most engaging item now shows baits, and does worse than who never does.

**Differs** from RecSim 0.2.4, which `setting="recsim"` brings back:

| | here | RecSim 0.2.4 |
|---|---|---|
| `sensitivity` of satisfaction | 0.3 | 0.01: baits win for ever |
| `deviation` of log engagement | 0.1 | 1.0 |
| exposure at the start (`first`) | normal | uniform within +-1.67 |
| documents that may be shown (`n_candidates`) | all 200 | 20, new at each step |

Under both settings documents come from a catalog that is drawn once, one from each twentieth of it, whose baits are in
no order (RecSim draws new ones without end); 60 steps truncate (its budget of 60 terminates); observed is the past
(there, the bait of every candidate); every draw is seeded. RecSim's own figures over 60 steps: a random item 946, the
most bait of 20 1110, the least 765.

Source: Ie et al. (2019), RecSim, section 6; RecSim 0.2.4 for its constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_choice, check_sizes, takes
from recgym.rng import uniforms
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.choice import First
from recgym.users.behaviours.satisfaction import RECSIM, LongTermSatisfaction
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PeopleOptions, serve

_BAIT = 10  # random stream


@dataclass(frozen=True, kw_only=True)
class LongTermSatisfactionOptions(PeopleOptions):
    """Options of this world."""

    n_users: int = 1_000  # people; they differ in luck only
    n_items: int = 200  # items
    setting: str = "recgym"  # `"recgym"`, or `"recsim"`: the numbers of RecSim 0.2.4 for the four options that follow
    sensitivity: float | None = None  # how exposure tells on satisfaction; None: the setting's, as for the next three
    deviation: float | None = None  # standard deviation of log engagement
    first: str | None = None  # exposure at the start: `"normal"` or `"uniform"`
    n_candidates: int | None = None  # how many items may be shown at a step; by default all


@takes(LongTermSatisfactionOptions)
def world(options: LongTermSatisfactionOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    servable = serve(options)
    check_choice("setting", options.setting, ("recgym", "recsim"))
    check_sizes(n_items=options.n_items)
    bait = uniforms(options.seed, options.n_items, _BAIT)
    vectors = np.stack([bait, 1.0 - bait], axis=1)
    asked = {"sensitivity": options.sensitivity, "deviation": options.deviation, "first": options.first}
    given = {name: value for name, value in asked.items() if value is not None}
    recsim = options.setting == "recsim"
    users = SimulatedUsers(
        Items.of(vectors, None, bait),
        np.zeros((options.n_users, 2)),
        First(),
        (LongTermSatisfaction(**{**(RECSIM if recsim else {}), **given}),),
        n_candidates=20 if options.n_candidates is None and recsim else options.n_candidates,
        servable=servable,
    )
    return Catalog(vectors, users.item_ids, "raw"), users
