"""The embedded log of a shop: the synthetic people, and what they did with each item instead of stars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recgym.datasets.synthetic import STREAM, synthetic
from recgym.datasets.tianchi import BEHAVIOURS
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards
from recgym.rng import uniforms

_BY_STARS = np.array([["pv", "pv", "pv", "fav", "buy"], ["pv", "pv", "pv", "cart", "buy"]])  # in turn, of 1 to 5 stars
_BACK = 3.0  # mean of how many events further back than the last one a repeat reaches


def synthetic_shop(
    n_users: int = 5000,
    n_items: int = 2000,
    seed: int = 0,
    reward: str = BEHAVIOURS,
    repeats: float = 0.4,
) -> InteractionLog:
    """Returns the log of `synthetic` with behaviours and repeats, as shops have them.

    Up to 3 stars was viewed, 4 liked or carted in turn, 5 bought. Each event after a person's first comes, with
    probability `repeats`, back to the item of an event before it: the last one, or one further back by a geometric
    number of mean 3. All other events are of items that the person has not had.

    Args:
        n_users: As for `synthetic`, like the two arguments after it.
        n_items: See there.
        seed: See there.
        reward: What a behaviour is worth (see `transform_rewards`); `extra["behaviour"]` keeps its name.
        repeats: Share of events that repeat an item, 0 to 1 (not included).

    Raises:
        DataError: if a size is too small, `repeats` out of range, or a behaviour has no worth.

    Example:
        >>> log = synthetic_shop(n_users=60, n_items=40)
        >>> log.extra["behaviour"][:3].tolist(), log.rewards[:3].tolist()
        (['fav', 'buy', 'buy'], [2.0, 3.0, 3.0])
    """
    if not 0.0 <= repeats < 1.0:
        raise DataError(f"repeats must be a share of at least 0 and below 1, got {repeats!r}; give e.g. 0.4")
    log = synthetic(n_users, n_items, seed, reward="raw")
    origin = _origin(log, seed, repeats)
    behaviour = _BY_STARS[np.arange(log.n_events) % 2, log.rewards[origin].astype(np.int64) - 1]
    worth = transform_rewards(np.unique(_BY_STARS), reward)
    return replace(
        log,
        items=log.items[origin],
        rewards=transform_rewards(behaviour, reward),
        extra={"behaviour": behaviour},
        reward=reward,
        reward_range=(float(worth.min()), float(worth.max())),
        name="synthetic-shop",
    )


def _origin(log: InteractionLog, seed: int, repeats: float) -> np.ndarray:
    """Returns of each event the event of `log` whose item it takes (n_events,): itself, or an earlier one's."""
    rows = np.arange(log.n_events)
    before = rows - np.repeat(log.offsets[:-1], log.lengths)  # events of the user so far
    again = (uniforms(seed, log.n_events, STREAM["again"]) < repeats) & (before > 0)
    further = np.floor(np.log(1.0 - uniforms(seed, log.n_events, STREAM["back"])) / np.log(_BACK / (1.0 + _BACK)))
    back = 1 + further.astype(np.int64) % np.maximum(before, 1)
    origin = np.where(again, rows - back, rows)
    while (origin[origin] != origin).any():  # a repeat of a repeat
        origin = origin[origin]
    return origin
