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

from dataclasses import dataclass
from typing import Any

from recgym.catalog import Catalog
from recgym.options import takes
from recgym.users.behaviours.boredom import Boredom
from recgym.users.behaviours.choice import PositionBased
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PopulationOptions, populate


@dataclass(frozen=True, kw_only=True)
class BoredomOptions(PopulationOptions):
    """Options of this world."""

    scope: Any = "everything"  # what a bored user turns away from: `"everything"` or `"topic"`
    limit: int = 4  # answers on a topic that bore
    window: int = 10  # slates within which they count
    lasts: int = 5  # slates that boredom lasts


@takes(BoredomOptions)
def world(options: BoredomOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    return populate(options).world(
        options,
        PositionBased(decay=0.85),
        (Boredom(limit=options.limit, window=options.window, lasts=options.lasts, scope=options.scope),),
        slope=4.0,
        intercept=-0.5,
    )
