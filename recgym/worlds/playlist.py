"""`-Playlist-v1`: songs for listeners who have a spread of taste of their own.

**Data.** Listeners' logs and songs with audio features. The features are standardised (mean 0 and deviation 1 over the
songs that training listeners played) and are the item vectors; distances are measured in them. `env.users.spread` holds
each listener's own standard deviation of the distances between all their different songs.

**Start.** A stretch of a listener's log: see `recgym.users.playlist.PlaylistUsers`.

**Answer.** Every song that is shown is played, and earns what it moves the spread of the recent list toward the
listener's own, with the last F - 1 songs before the pick, and the pick after them:

    reward = abs(sd_u - sd(distances before)) - abs(sd_u - sd(distances after))

**Spaces.** Those of `RecVectorEnv`, for d features (9 by default):

| option | space |
|---|---|
| `observation="frame"` | Box (F*(d+1),): the songs' vectors oldest first, then what each earned |
| `observation="history"` | Dict of `items` and `rewards` (F,), padded on the left with n_items |
| `action="embedding"` | Box (d,): with `mapper="box"` (the default here) the song in the smallest box around it |
| `action="item"` | Discrete(n_items) |

**Ends.** `truncated` after `horizon` steps, or when all songs were played; nobody leaves.

**Options** beside those of every id: `features` (names; default the nine on a scale, so neither mode nor key),
`min_history` (songs an opening frame must have, default 3), `split`, `split_seed`, `test_size`.

**Source.** "What Next?" (D. Wooten, 2020, github.com/ddwooten/insight_2020_ai; one step a session, 10 recent songs).
Not inherited: see `PlaylistUsers`, and boxes that never hold a song but by equality.

**Versions.** v1: an item earns once per slate; v0 is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recgym import datasets
from recgym.catalog import Catalog
from recgym.datasets.nowplaying import AUDIO
from recgym.errors import DataError
from recgym.options import check_choice
from recgym.users.clicks import Clicks
from recgym.users.playlist import PlaylistUsers
from recgym.worlds.logs import SPLITS

FURTHER: dict[Any, Any] = {PlaylistUsers: (), Clicks: ()}  # as in `recgym.worlds.frame`


def world(
    *,
    dataset: str = "synthetic-songs",
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.05,
    features: Sequence[str] = AUDIO,
    frame_size: int = 10,
    min_history: int = 3,
    clicks: str | None = None,
    attraction: float = 1.0,
    examination: float = 0.85,
    **load_options: Any,
) -> tuple[Catalog, PlaylistUsers]:
    """Returns songs and their listeners.

    Args:
        dataset: A name for `recgym.datasets.load` of a log with the features; `load_options` are its further arguments.
        split: Listeners served: `"train"`, `"test"` or `"all"`.
        split_seed: Which listeners are held out.
        test_size: How many, see `InteractionLog.split_users`.
        features: Names of the songs' features that are the vectors.
        frame_size: F.
        min_history: As in `PlaylistUsers`, like the three options after it.
        clicks: See there.
        attraction: See there.
        examination: See there.
        **load_options: See `dataset`.
    """
    check_choice("split", split, SPLITS)
    log = datasets.load(dataset, **load_options)
    lacking = [name for name in features if name not in log.item_features]
    if lacking or not features:
        raise DataError(
            f"features must be some of those of the songs, {sorted(log.item_features)}, got {list(features)} with "
            f"{len(lacking)} that are not; choose from them"
        )
    train, test = log.split_users(test_size=test_size, seed=split_seed)
    vectors = np.stack([np.asarray(log.item_features[name], dtype=np.float64) for name in features], axis=1)
    known = vectors[np.unique(train.items)]
    deviation = known.std(axis=0)
    vectors = (vectors - known.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)  # (n_items, d)
    served = {"train": train, "test": test, "all": log}[split]
    catalog = Catalog(vectors, log.item_ids, log.reward, log.titles, log.item_features)
    users = PlaylistUsers(
        served,
        vectors,
        frame_size,
        min_history=min_history,
        clicks=clicks,
        attraction=attraction,
        examination=examination,
    )
    return catalog, users
