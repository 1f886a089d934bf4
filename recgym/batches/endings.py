"""Whose story ended with the log, and for whom only the log did: what stops bootstrapping, and what does not."""

from __future__ import annotations

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog

ENDS = ("truncate", "terminal", "known")


def stories_over(log: InteractionLog, end_of_log: str | None) -> np.ndarray:
    """Returns whether each user's story ended with the user's last event (n_users,) bool; else the log ended.

    Args:
        log: Whose users; `users["over"]` (sessions that were split, see `recgym.log.session_split`) or
            `users["terminated"]` (collected sessions) say who is known to have left, where they are bool columns.
        end_of_log: `"terminal"`: everybody; `"truncate"`: nobody; `"known"`: whom the log says; None: whom the log says
            if it says anything, else nobody.

    Raises:
        DataError: if the option is unknown, or `"known"` of a log that says nothing.

    Example:
        >>> log = InteractionLog.from_events([1, 2], [10, 20], [1.0, 1.0])
        >>> stories_over(log, None).tolist(), stories_over(log, "terminal").tolist()
        ([False, False], [True, True])
    """
    if end_of_log is not None and end_of_log not in ENDS:
        raise DataError(f"end_of_log must be one of {', '.join(ENDS)}, got {end_of_log!r}; choose one of them")
    if end_of_log in ("truncate", "terminal"):
        return np.full(log.n_users, end_of_log == "terminal")
    for column in (np.asarray(log.users[name]) for name in ("over", "terminated") if name in log.users):
        if column.dtype == np.bool_ and column.shape == (log.n_users,):
            return column
    if end_of_log == "known":
        raise DataError(
            f"end_of_log='known' needs a bool column users['over'] or users['terminated'], got {sorted(log.users)}; "
            "split the log into sessions, or choose 'truncate' or 'terminal' for all users"
        )
    return np.zeros(log.n_users, dtype=bool)
