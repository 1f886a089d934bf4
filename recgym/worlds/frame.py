"""`-Frame-v0`: users who replay a log, seen through the frame of their last F events."""

from __future__ import annotations

from typing import Any

from recgym.catalog import Catalog
from recgym.options import accepted
from recgym.users.clicks import Clicks
from recgym.users.replay import ReplayUsers
from recgym.worlds.logs import load_parts

# whose options `world` takes too (None: all that have a default); those of () say what options mean
FURTHER: dict[Any, Any] = {ReplayUsers: None, load_parts: None, Clicks: ()}


def world(*, frame_size: int = 10, **options: Any) -> tuple[Catalog, ReplayUsers]:
    """Returns items and users who replay a named log.

    Args:
        frame_size: F.
        **options: What `ReplayUsers` takes (`advance`, `end_of_log`, `min_history`, `answers`, `opening`, `clicks`,
            `attraction`, `examination`); all others go to `recgym.worlds.logs.load_parts`.
    """
    of_users = set(accepted(ReplayUsers).defaults) - {"log", "frame_size"}
    parts = load_parts(**{name: value for name, value in options.items() if name not in of_users})
    chosen = {name: value for name, value in options.items() if name in of_users}
    return parts.catalog, ReplayUsers(parts.served, frame_size, **chosen)
