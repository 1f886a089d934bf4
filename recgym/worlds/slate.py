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

from dataclasses import dataclass

from recgym.catalog import Catalog
from recgym.options import takes
from recgym.users.behaviours.choice import PlackettLuce
from recgym.users.behaviours.penalties import PositionPenalty, SimilarityPenalty
from recgym.users.behaviours.returning import Returning
from recgym.users.behaviours.satiation import Satiation
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PopulationOptions, populate


@dataclass(frozen=True, kw_only=True)
class SlateOptions(PopulationOptions):
    """Options of this world."""

    days: float = 30.0  # the calendar within which visits count
    satiation: float = 1.0  # how much a topic's satiation weighs


@takes(SlateOptions)
def world(options: SlateOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    return populate(options).world(
        options,
        PlackettLuce(n=2, no_choice=0.0),
        (
            PositionPenalty(0.3),
            SimilarityPenalty(2.0),
            Satiation(weight=options.satiation),
            Returning(days=options.days),
        ),
        slope=6.0,
        intercept=-1.0,
    )
