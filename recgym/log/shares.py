"""What a log is like where evaluation must know it: how often items repeat, times tie, and ids tell time."""

from __future__ import annotations

import numpy as np

from recgym.log.interaction_log import InteractionLog


def seen_before(log: InteractionLog) -> np.ndarray:
    """Returns which events are of an item that their user has an earlier event with (n_events,) bool.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 1, 2], ["a", "b", "a", "a"], [1.0] * 4)
        >>> seen_before(log).tolist()
        [False, False, True, False]
    """
    pairs = log.event_users().astype(np.int64) * log.n_items + log.items
    order = np.argsort(pairs, kind="stable")  # equal pairs stay in the order of events
    seen = np.zeros(log.n_events, dtype=bool)
    seen[order[1:]] = pairs[order[1:]] == pairs[order[:-1]]
    return seen


def repeat_share(log: InteractionLog) -> float:
    """Returns the share of events, a user's first left out, of an item that the user has taken before; 0 to 1."""
    n_later = log.n_events - int(np.count_nonzero(log.lengths))
    return float(np.count_nonzero(seen_before(log)) / n_later) if n_later else 0.0


def tied_share(log: InteractionLog) -> float | None:
    """Returns the share of a user's neighbouring events that have the same time, 0 to 1; None for a log without times.

    Their order is that of the source, which may itself tell what comes next (files sorted by item id do).
    """
    if log.times is None:
        return None
    inside = np.ones(max(log.n_events - 1, 0), dtype=bool)  # neighbours of one user
    ends = log.offsets[1:-1]
    inside[ends[(ends > 0) & (ends < log.n_events)] - 1] = False
    tied = inside & (np.diff(log.times) == 0)
    return float(tied.sum() / max(inside.sum(), 1))


def id_order(log: InteractionLog) -> float | None:
    """Returns the rank correlation of items' index and the time of their first event, -1 to 1; None without times.

    Near 1, an id tells when its item came into the catalog.

    Source: Spearman (1904), The proof and measurement of association between two things, Am. J. Psychology 15(1).
    """
    if log.times is None:
        return None
    items, first = first_times(log)
    if len(items) < 2 or first.min() == first.max():
        return 0.0
    ranks = np.unique(first, return_inverse=True, return_counts=True)
    upto = np.cumsum(ranks[2])
    mean_rank = (upto - (ranks[2] - 1) / 2.0)[ranks[1]]  # ties share their mean rank
    return float(np.corrcoef(np.arange(len(items)), mean_rank)[0, 1])


def first_times(log: InteractionLog) -> tuple[np.ndarray, np.ndarray]:
    """Returns the items that have an event, ascending (m,), and when each had its first (m,) int64 seconds."""
    first = np.full(log.n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, log.items, np.asarray(log.times))
    items = np.unique(log.items)
    return items, first[items]
