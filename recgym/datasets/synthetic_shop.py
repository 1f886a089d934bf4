"""The embedded log of a shop: the synthetic people, and what they did with each item instead of stars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recgym.datasets.synthetic import synthetic
from recgym.datasets.tianchi import BEHAVIOURS
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards

_BY_STARS = np.array([["pv", "pv", "pv", "fav", "buy"], ["pv", "pv", "pv", "cart", "buy"]])  # in turn, of 1 to 5 stars


def synthetic_shop(n_users: int = 5000, n_items: int = 2000, seed: int = 0, reward: str = BEHAVIOURS) -> InteractionLog:
    """Returns the log of `synthetic` with behaviours: up to 3 stars was viewed, 4 liked or carted in turn, 5 bought.

    Args:
        n_users: As for `synthetic`, like the two arguments after it.
        n_items: See there.
        seed: See there.
        reward: What a behaviour is worth (see `transform_rewards`); `extra["behaviour"]` keeps its name.

    Raises:
        DataError: if a size is too small, or a behaviour has no worth.

    Example:
        >>> log = synthetic_shop(n_users=60, n_items=40)
        >>> log.extra["behaviour"][:3].tolist(), log.rewards[:3].tolist()
        (['fav', 'buy', 'buy'], [2.0, 3.0, 3.0])
    """
    log = synthetic(n_users, n_items, seed, reward="raw")
    behaviour = _BY_STARS[np.arange(log.n_events) % 2, log.rewards.astype(np.int64) - 1]
    worth = transform_rewards(np.unique(_BY_STARS), reward)
    return replace(
        log,
        rewards=transform_rewards(behaviour, reward),
        extra={"behaviour": behaviour},
        reward=reward,
        reward_range=(float(worth.min()), float(worth.max())),
        name="synthetic-shop",
    )
