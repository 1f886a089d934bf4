"""`-Frame-v0`: users who replay a log, seen through the frame of their last F events."""

from __future__ import annotations

from typing import Any

from recgym.catalog import Catalog
from recgym.users.replay import ReplayUsers
from recgym.worlds.logs import load_parts


def world(
    *,
    frame_size: int = 10,
    advance: str = "answer",
    end_of_log: str = "truncate",
    min_history: int | None = None,
    answers: str = "all",
    **data: Any,
) -> tuple[Catalog, ReplayUsers]:
    """Returns items and users who replay a named log.

    Args:
        frame_size: F.
        advance: As in `ReplayUsers`, like the three options after it.
        end_of_log: See there.
        min_history: See there.
        answers: See there.
        **data: What `recgym.worlds.logs.load_parts` takes.
    """
    parts = load_parts(**data)
    users = ReplayUsers(
        parts.served, frame_size, advance=advance, end_of_log=end_of_log, min_history=min_history, answers=answers
    )
    return parts.catalog, users
