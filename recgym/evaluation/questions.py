"""What a ranking is asked: about whom, after which history, for which item, among which.

Two protocols are made from logs, `next_items` and `held_out_sets`; any other is a `Questions` of one's own. What must
never happen is that the candidates tell the target: items of the history are masked for all questions or for none, and
with masking a target that was seen before is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.shares import repeat_share, seen_before, tied_share
from recgym.options import check_choice, check_seed

REPEATS = ("auto", "ask", "mask")
ASK_ABOVE = 0.05  # share of events that repeat an item, above which "auto" asks for repeats


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions to a ranker: an item each, after the first events of a user.

    Attributes:
        log: Holds the histories.
        users: Whom each question is about (N,) int64, in ascending order.
        positions: How many of his events in `log` are the history (N,) int64, ascending for each user.
        targets: The item that counts (N,) int64.
        candidates: Items it is ranked among beside itself (N, C) int64, padded with n_items, each as often as it stands
            there; None ranks all items.
        masked: Whether items of the history are no candidates.
        sets: Whether the targets after one history are one set, whose recall counts.
        groups: Named subsets of the questions (N,) bool, which are told apart in the result.
        words: The protocol in words.

    Raises:
        DataError: if the columns do not fit together.
    """

    log: InteractionLog
    users: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    candidates: np.ndarray | None = None
    masked: bool = False
    sets: bool = False
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: str = "given questions, ties by expectation"

    def __post_init__(self) -> None:
        n = len(self.users)
        columns = {"positions": self.positions, "targets": self.targets, **self.groups}
        columns |= {} if self.candidates is None else {"candidates": self.candidates}
        if wrong := [name for name, column in columns.items() if len(column) != n]:
            raise DataError(
                f"questions must have a value per user in every column, got {n} users and others in {wrong}"
            )
        if n == 0:
            raise DataError(f"there must be a question to ask, got none in {self.log.name!r}; ask for less")
        step = np.diff(self.users)
        if (step < 0).any() or (np.diff(self.positions)[step == 0] < 0).any():
            raise DataError("questions must be in the order of users and positions, got some that are not; sort them")
        items = self.targets if self.candidates is None else np.concatenate([self.targets, self.candidates.ravel()])
        top = self.log.n_items - (self.candidates is None)
        if self.targets.max() >= self.log.n_items or items.min() < 0 or items.max() > top:
            raise DataError(
                f"targets must be item indices 0 to {self.log.n_items - 1}, and candidates too or n_items as padding, "
                f"got {items.min()} to {items.max()}; take them from {self.log.name!r}"
            )

    @property
    def starts(self) -> np.ndarray:
        """Number of the first question after each different history (M,) int64."""
        new = (np.diff(self.users) != 0) | (np.diff(self.positions) != 0)
        return np.concatenate([[0], np.flatnonzero(new) + 1])


def next_items(
    log: InteractionLog,
    *,
    past: InteractionLog | None = None,
    n_last: int = 10,
    min_history: int = 1,
    n_negatives: int | None = None,
    repeats: str = "auto",
    by: str | None = None,
    seed: int = 0,
) -> Questions:
    """Returns questions for the items each user really took last, each after all events before it.

    Arguments and errors are those of `recgym.evaluate_ranking`.
    """
    check_choice("repeats", repeats, REPEATS)
    check_seed(seed)
    whole, n_before = with_past(log, past)  # n_before (n_users,): events of the past
    share = repeat_share(whole)
    masked = repeats == "mask" or (repeats == "auto" and share <= ASK_ABOVE)
    users, positions = _last_positions(whole.lengths, n_before, n_last, min_history)
    n_all = len(users)
    if masked:
        fresh = ~seen_before(whole)[whole.offsets[users] + positions]
        users, positions = users[fresh], positions[fresh]
        if not fresh.any():
            raise DataError(
                f"with repeats='mask' some user must take an item for the first time, got {n_all} questions for items "
                f"seen before; pass repeats='ask'"
            )
    targets = whole.items[whole.offsets[users] + positions].astype(np.int64)
    negatives = None if n_negatives is None else _negatives(whole, users, targets, n_negatives, seed, masked)
    groups = {} if by is None else _groups(log, by, log.offsets[users] + positions - n_before[users])
    words = f"last {n_last} positions of each user, {_among(n_negatives, masked, n_all - len(users), n_all)}"
    words += f", ties by expectation; {_shares(whole, share)}"
    return Questions(whole, users, positions, targets, negatives, masked and negatives is None, False, groups, words)


def held_out_sets(
    log: InteractionLog,
    *,
    past: InteractionLog | None = None,
    min_history: int = 1,
    repeats: str = "auto",
    by: str | None = None,
) -> Questions:
    """Returns questions for all items of each user in `log` as one set, after all his events in `past`.

    It is the protocol of recall@20 in collaborative filtering, where order is not looked at: each item counts once.

    Source: He et al. (2020), LightGCN: simplifying and powering graph convolution network for recommendation, SIGIR,
    section 4.1.

    Raises:
        DataError: if there is no past, or nobody has enough of it.
    """
    check_choice("repeats", repeats, REPEATS)
    whole, n_before = with_past(log, past, in_order=False)
    users = log.event_users().astype(np.int64)
    pairs, rows = np.unique(users * log.n_items + log.items, return_index=True)
    asked = n_before[pairs // log.n_items] >= max(min_history, 1)
    if not asked.any():
        raise DataError(
            f"held-out sets need the events that they are held out from, got {log.name!r} with at most "
            f"{n_before.max(initial=0)} of them per user; pass past=train"
        )
    known = np.isin(pairs, _pairs_of_past(whole, n_before))
    share = float(known[asked].mean())
    masked = repeats == "mask" or (repeats == "auto" and share <= ASK_ABOVE)
    n_all = int(np.count_nonzero(asked))
    asked &= ~known if masked else True
    users, targets = np.divmod(pairs[asked], log.n_items)
    groups = {} if by is None else _groups(log, by, rows[asked])
    words = f"held-out items of each user as one set, {_among(None, masked, n_all - len(users), n_all)}"
    words += f", ties by expectation; {share:.1%} of held-out items stand in the past"
    return Questions(whole, users, n_before[users], targets, None, masked, True, groups, words)


def with_past(
    log: InteractionLog, past: InteractionLog | None, in_order: bool = True
) -> tuple[InteractionLog, np.ndarray]:
    """Returns the users of `log` with their events of `past` before their own, and how many those are (n_users,).

    Raises:
        DataError: if `log` is what was split off from its past and has none, `past` has other items or users, or, where
            `in_order`, has later events.
    """
    given, past = past, log.past if past is None else past
    if past is None:
        if log.is_tail:
            raise DataError(
                f"histories must be whole, got {log.name!r}, the newest events of users whose earlier ones were split "
                f"off; pass past=train"
            )
        return log, np.zeros(log.n_users, dtype=np.int64)
    if not np.array_equal(past.item_ids, log.item_ids) or past.reward != log.reward:
        raise DataError(
            f"past must have the items and the reward transform of {log.name!r}, got {past.n_items} items, "
            f"{past.reward!r} against {log.n_items}, {log.reward!r}; split both from one log"
        )
    place = {user_id: user for user, user_id in enumerate(past.user_ids.tolist())}
    known = np.array([place.get(user_id, -1) for user_id in log.user_ids.tolist()], dtype=np.int64)
    here = np.flatnonzero(known >= 0)
    if given is not None and not len(here):
        raise DataError(
            f"past must have events of users of {log.name!r}, got none of {log.n_users}; pass what is before"
        )
    before = past.select_users(known[here])
    n_before = np.zeros(log.n_users, dtype=np.int64)
    n_before[here] = before.lengths
    offsets = np.concatenate([[0], np.cumsum(n_before + log.lengths)]).astype(np.int64)
    earlier = np.repeat(offsets[here] - before.offsets[:-1], before.lengths) + np.arange(before.n_events)
    own = np.repeat(offsets[:-1] + n_before - log.offsets[:-1], log.lengths) + np.arange(log.n_events)

    def joined(name: str) -> np.ndarray | None:
        parts = getattr(before, name), getattr(log, name)
        if parts[0] is None or parts[1] is None:
            return None
        column = np.empty(offsets[-1], dtype=parts[1].dtype)
        column[earlier], column[own] = parts
        return column

    columns = {name: joined(name) for name in ("items", "rewards", "times")}
    times, first = columns["times"], (offsets[:-1] + n_before)[here[log.lengths[here] > 0]]
    n_late = 0 if times is None else int(np.count_nonzero(times[first - 1] > times[first]))
    if n_late and in_order:
        raise DataError(
            f"events of past must come before those of {log.name!r}, got {n_late} of {len(here)} users where some come "
            f"later; split by time or order, or pass sets=True"
        )
    columns["times"] = None if n_late else times
    about = {"item_ids": log.item_ids, "reward": log.reward, "reward_range": log.reward_range, "name": log.name}
    return InteractionLog(**columns, offsets=offsets, user_ids=log.user_ids, **about), n_before  # type: ignore[arg-type]


def _last_positions(
    lengths: np.ndarray, n_before: np.ndarray, n_last: int, min_history: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns users (N,) and positions (N,) int64 of the newest events with enough history, grouped by user."""
    first = np.maximum(np.maximum(lengths - n_last, n_before), min_history)
    counts = np.maximum(lengths - first, 0)
    if n_last < 1 or min_history < 0 or not counts.any():
        raise DataError(
            f"some user must have a position to ask, got {len(lengths)} users of at most {lengths.max(initial=0)} "
            f"events with n_last={n_last}, min_history={min_history}; give longer users or ask for less history"
        )
    users = np.repeat(np.arange(len(lengths)), counts)
    return users, np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts - first, counts)


def _negatives(
    log: InteractionLog, users: np.ndarray, targets: np.ndarray, n: int, seed: int, unseen: bool
) -> np.ndarray:
    """Returns n different items per row (N, n): of those its user never took, or of all but the target.

    Where targets may have been seen, negatives may too: else a candidate that was seen would be the target.
    """
    drawn = np.empty((len(users), n), dtype=np.int64)
    of_user, start, counts = np.unique(users, return_index=True, return_counts=True)
    for user, first, count in zip(of_user, start, counts, strict=True):
        items = np.arange(log.n_items)
        pool = np.setdiff1d(items, log.user(user).items) if unseen else items[:-1]
        if n < 1 or len(pool) < n:
            raise DataError(
                f"n_negatives must be between 1 and the items a user never took, got {n} for user "
                f"{log.user_ids[user]!r} with {len(pool)}; ask for fewer"
            )
        random = np.random.default_rng((seed, user))
        for row in range(first, first + count):
            drawn[row] = random.choice(pool, n, replace=False)
            drawn[row] += 0 if unseen else drawn[row] >= targets[row]  # passes over the target
    return drawn


def _pairs_of_past(whole: InteractionLog, n_before: np.ndarray) -> np.ndarray:
    place = np.arange(whole.n_events) - np.repeat(whole.offsets[:-1], whole.lengths)
    users = whole.event_users().astype(np.int64)
    return (users * whole.n_items + whole.items)[place < n_before[users]]


def _groups(log: InteractionLog, by: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    if by not in log.extra:
        raise DataError(
            f"by must name an event column of {log.name!r}, got {by!r} and {sorted(log.extra)}; keep it as extra"
        )
    column = np.asarray(log.extra[by])[rows]
    return {str(value): column == value for value in np.unique(column)}


def _among(n_negatives: int | None, masked: bool, n_left_out: int, n_all: int) -> str:
    seen = "seen items masked" if masked else "seen items ranked too"
    if n_left_out:
        seen += f" ({n_left_out:,} of {n_all:,} questions for an item seen before not asked)"
    return f"all items ranked, {seen}" if n_negatives is None else f"sampled: 1 + {n_negatives} items ranked, {seen}"


def _shares(log: InteractionLog, repeats: float) -> str:
    tied = tied_share(log)
    times = "no times" if tied is None else f"{tied:.1%} of neighbours tied in time"
    return f"{repeats:.1%} of events repeat an item, {times}"
