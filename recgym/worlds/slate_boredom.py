"""`recgym/SlateBoredom-v0`: slates of ten, and topics that bore who was given too much of them. GeMS's world.

**Items**, 1,000, have a share in each of 10 topics, two dimensions a topic: `abs(clip(0.4 * N(0, 1), -1, 1))` times
shares that are uniform and sum to 1, all to the power of `sharpness`; vectors have length 1. An item is *on* the topic
of its longest part. **Users** have a taste of the same kind, their shares to the power of 3 before they sum to 1; the
lengths of its topics sum to 1. Sessions open with empty frames, and last 100 slates.

**Answer**: place i is clicked with probability `look_i * sigmoid(100 * (<u, v> - 0.28))`, each by itself
(`PositionBased`), and a click is worth 1. The whole slate enters the frame, what was not clicked with reward 0: a
frame of 100 holds ten slates. **After it**, each clicked item in turn pulls taste, `u = 0.9 * u + 0.1 * v`
(`TopicInfluence`), and where 5 of the last 10 clicks, none of them older than 5 slates, were on one topic, taste for
that topic is felt as zero for 5 slates (`TopicBoredom`). **Ends**: `horizon=100` truncates.

| `setting` | items | `look_i` | slates with 4 items or more on a topic |
|---|---|---|---|
| `"topdown-focused"` | first draw | `0.85**i` | like others |
| `"topdown-diffuse"` | second draw | `0.85**i` | like others |
| `"mix-focused"` | first draw | `(0.85**i + 0.85**(9 - i)) / 2` | like others |
| `"mix-diffuse"` | second draw | the same | like others |
| `"divpen-focused"` | first draw | the same | a third of every probability (`CrowdPenalty`) |
| `"divpen-diffuse"` | second draw | the same | the same |

**Planning pays, threefold**: who shows the ten best items now is clicked on one topic until it bores; who spreads the
same knowledge over topics is not. Of the authors' own simulator and items (40 sessions): a random slate earns 33, the
ten best by the truth 111, the best item of each topic 411; somebody's run of SAC over a learned space of slates 322.

**Differs** from GeMS's simulator: people are a fixed crowd, some of them held out; no first slate is shown before the
session (there the longest item of each topic, clicks unpaid); a slate shows an item once; agents see item vectors
(there they learn some of their own from a log). The items of the authors' two files, focused and diffuse, follow one
law, that of `sharpness=1`: their code's 1.5 for focused ones gives other floors (72 for the ten best).

Source: Deffayet, Thonet, Renders and de Rijke (2023), Generative slate recommendation with reinforcement learning,
WSDM, section 5.1; constants of the code that it released.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.catalog import Catalog
from recgym.options import check_choice, check_sizes, check_within, takes
from recgym.rng import normals, uniforms
from recgym.users.behaviours.base import Items
from recgym.users.behaviours.boredom import TopicBoredom
from recgym.users.behaviours.choice import PositionBased
from recgym.users.behaviours.influence import TopicInfluence
from recgym.users.behaviours.penalties import CrowdPenalty
from recgym.users.simulated import SimulatedUsers
from recgym.worlds.generated import PeopleOptions, serve

N_TOPICS, _WIDTH = 10, 2
SETTINGS = tuple(f"{clicks}-{items}" for items in ("focused", "diffuse") for clicks in ("topdown", "mix", "divpen"))
_SLOPE, _OFFSET = 100.0, 0.28
_TASTES, _DRAWS = 10, {"focused": 12, "diffuse": 14}  # random streams, two each: parts and shares


@dataclass(frozen=True, kw_only=True)
class SlateBoredomOptions(PeopleOptions):
    """Options of this world."""

    n_items: int = 1_000  # items
    setting: str = "topdown-focused"  # one of the six above
    sharpness: float = 1.0  # power of the items' parts; above 1 they are more of one topic
    limit: int = 5  # clicks on a topic that bore
    answers: int = 10  # last clicks that are looked at
    window: int = 5  # slates after which a click is forgotten
    lasts: int = 5  # slates that boredom lasts


@takes(SlateBoredomOptions)
def world(options: SlateBoredomOptions) -> tuple[Catalog, SimulatedUsers]:
    """Returns the items and users described at the head of this file."""
    servable = serve(options)
    check_choice("setting", options.setting, SETTINGS)
    check_sizes(n_items=options.n_items)
    check_within(0.0, 100.0, sharpness=options.sharpness)
    clicks, draw = options.setting.split("-")
    parts = _parts(options.seed, options.n_items, _DRAWS[draw], 1.0) ** options.sharpness  # (n_items, topics, 2)
    vectors = parts.reshape(options.n_items, -1) / np.linalg.norm(parts, axis=(1, 2))[:, None]
    topic = np.linalg.norm(parts, axis=2).argmax(axis=1)
    tastes = _parts(options.seed, options.n_users, _TASTES, 3.0)
    tastes /= np.linalg.norm(tastes, axis=2).sum(axis=1)[:, None, None]
    law = {name: getattr(options, name) for name in ("limit", "answers", "window", "lasts")}
    items = Items.of(vectors, topic)._replace(n_topics=N_TOPICS)
    items.topic[-1] = N_TOPICS
    users = SimulatedUsers(
        items,
        tastes.reshape(options.n_users, -1),
        PositionBased(decay=0.85, both_ends=clicks != "topdown"),
        (
            TopicBoredom(**law, width=_WIDTH),
            TopicInfluence(width=_WIDTH),
            *([CrowdPenalty()] if clicks == "divpen" else []),
        ),
        slope=_SLOPE,
        intercept=-_SLOPE * _OFFSET,
        servable=servable,
        remembers="shown",
    )
    return Catalog(vectors, users.item_ids, "raw", features={"topic": topic}), users


def _parts(seed: int, n: int, stream: int, power: float) -> np.ndarray:
    """Returns the topics' parts (n, 10, 2) of items or tastes: 0 or more, shares to a `power` times positions."""
    position = np.abs(np.clip(0.4 * normals(seed, n * N_TOPICS * _WIDTH, stream), -1.0, 1.0))
    shares = uniforms(seed, n * N_TOPICS, stream + 1).reshape(n, N_TOPICS) ** power
    shares /= shares.sum(axis=1, keepdims=True)
    return position.reshape(n, N_TOPICS, _WIDTH) * shares[:, :, None]
