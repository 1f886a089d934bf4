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

from dataclasses import dataclass

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_within, takes
from recgym.rng import normals
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.choice import Logit
from recgym.users.behaviours.returning import Retention
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PopulationOptions, populate

_BAIT = 10  # random stream
_SLOPE = 4.0


@dataclass(frozen=True, kw_only=True)
class RetentionOptions(PopulationOptions):
    """Options of this world."""

    dim: int = 15  # width of tastes; item vectors have one number more
    days: float = 60.0  # the calendar
    bait: float = 1.5  # how much baits appeal
    cost: float = 0.5  # how much quality a bait lacks, from 0 to 1: minus their correlation


@takes(RetentionOptions)
def world(options: RetentionOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    check_within(0.0, np.inf, bait=options.bait)
    check_within(0.0, 1.0, cost=options.cost)
    crowd = populate(options)
    baits = normals(options.seed, options.n_items, _BAIT)
    vectors = np.column_stack([crowd.items.vectors[:-1], baits])
    quality = -options.cost * baits + np.sqrt(1.0 - options.cost**2) * crowd.items.quality[:-1]
    tastes = np.column_stack([crowd.tastes, np.full(options.n_users, options.bait / _SLOPE)])
    crowd = crowd._replace(items=Items.of(vectors, crowd.items.topic[:-1], quality), tastes=tastes)
    return crowd.world(options, Logit(), [Retention(days=options.days)], slope=_SLOPE, intercept=-1.0)
