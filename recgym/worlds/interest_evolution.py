"""`recgym/InterestEvolution-v1`: RecSim's interest evolution. Interests follow what is watched; good videos buy time.

**Users** have an interest in each of 20 topics, uniform in -1..1, and 200 minutes. **Items** are on one topic, their
vector is its one-hot code; their quality, which nothing shows, is normal around the topic's: 14 topics from -3 to 0, 6
from 0 to 3. **Candidates**: 10 at each step.

**Answer**: at most one item of the slate is watched, by RecSim's proportional choice over interests; it is worth
`min(budget, 4)` minutes, changes interest in its topic and gives time back by its quality (`WatchBudget`,
`InterestEvolution`). **Ends**: `terminated` when the budget is spent.

**Planning pays**: topics of good quality lengthen the session; who matches interests only does hardly better than
chance. RecSim's own figures for 10 candidates and slates of 2: random 154, matching interests 165, quality alone 290.

**Differs** from RecSim 0.2.4: documents are drawn from a fixed catalog (its stratum by stratum, so that no candidate
stands twice), the user's interests are not shown, and every draw is seeded.

Source: Ie et al. (2019), SlateQ, section 6.1; RecSim 0.2.4 for constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_sizes, check_within, takes
from recgym.rng import normals, uniforms
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.choice import Proportional
from recgym.users.behaviours.evolution import InterestEvolution
from recgym.users.behaviours.watching import WatchBudget
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PeopleOptions, serve

N_TOPICS, _BAD_TOPICS = 20, 14
_QUALITY, _TASTES = 10, 11  # random streams


@dataclass(frozen=True, kw_only=True)
class InterestEvolutionOptions(PeopleOptions):
    """Options of this world."""

    n_items: int = 2_000  # videos
    n_candidates: int = 10  # how many may be shown at a step
    quality_noise: float = 0.1  # standard deviation of an item's quality around its topic's


@takes(InterestEvolutionOptions)
def world(options: InterestEvolutionOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    servable = serve(options)
    check_sizes(n_items=options.n_items, n_candidates=options.n_candidates)
    check_within(0.0, np.inf, quality_noise=options.quality_noise)
    topic = np.arange(options.n_items) % N_TOPICS
    means = np.concatenate([np.linspace(-3.0, 0.0, _BAD_TOPICS), np.linspace(0.0, 3.0, N_TOPICS - _BAD_TOPICS)])
    quality = means[topic] + options.quality_noise * normals(options.seed, options.n_items, _QUALITY)
    vectors = np.eye(N_TOPICS)[topic]
    tastes = 2.0 * uniforms(options.seed, options.n_users * N_TOPICS, _TASTES).reshape(options.n_users, N_TOPICS) - 1.0
    users = SimulatedUsers(
        Items.of(vectors, topic, quality),
        tastes,
        Proportional(minimum=-1.0, no_choice=1.0),
        (InterestEvolution(), WatchBudget()),
        n_candidates=options.n_candidates,
        servable=servable,
    )
    return Catalog(vectors, users.item_ids, "raw", features={"topic": topic}), users
