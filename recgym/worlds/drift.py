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

from dataclasses import dataclass

from recgym.catalog import Catalog
from recgym.options import takes
from recgym.users.behaviours.choice import PositionBased
from recgym.users.behaviours.influence import Influence, Wandering
from recgym.users.behaviours.patience import Patience
from recgym.users.behaviours.ratings import Ratings
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PopulationOptions, populate


@dataclass(frozen=True, kw_only=True)
class DriftOptions(PopulationOptions):
    """Options of this world."""

    inertia: float = 0.9  # share of the old direction that a taste keeps at an answer
    deviation: float = 0.02  # of a taste's random step, in each dimension
    start_patience: float = 10.0  # what users can lose before they leave


@takes(DriftOptions)
def world(options: DriftOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    return populate(options).world(
        options,
        PositionBased(decay=0.85),
        (
            Ratings(mean=2.0, taste_weight=1.0, quality_weight=0.8, noise=0.3, low=0.0, high=5.0),
            Influence(inertia=options.inertia),
            Wandering(deviation=options.deviation),
            Patience(start_patience=options.start_patience, step=1.0),
        ),
        slope=6.0,
        intercept=-3.0,
    )
