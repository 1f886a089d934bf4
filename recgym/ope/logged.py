"""A log seen as decisions: what was shown, how likely, and what a policy would have made of the same moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from recgym.batches import histories
from recgym.errors import DataError
from recgym.evaluation.policies import StochasticPolicy, check_policy
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.ope import importance_weights

_SESSIONS_AT_ONCE = 256


class Decisions(NamedTuple):
    """The decisions of n sessions of at most T steps; padded with reward 0, propensity 1, item n_items."""

    items: np.ndarray  # (n, T) int64
    rewards: np.ndarray  # (n, T) float64
    beta: np.ndarray  # (n, T) float64 propensities
    lengths: np.ndarray  # (n,) int64
    events: np.ndarray  # (n, T) int64: event of the log, -1 where padded

    @property
    def real(self) -> np.ndarray:
        """Which places hold a decision (n, T) bool."""
        return np.arange(self.items.shape[1]) < self.lengths[:, None]


def people_of(log: InteractionLog) -> np.ndarray | None:
    """Returns whose each session of a log is (n,), numbers from 0, by `log.users["user_id"]`.

    None where every session is somebody else's; one whose `user_id` is None is.
    """
    if "user_id" not in log.users:
        return None
    numbers: dict[Any, int] = {}
    ids = np.asarray(log.users["user_id"]).tolist()
    people = [numbers.setdefault((None, place) if one is None else one, len(numbers)) for place, one in enumerate(ids)]
    return None if len(numbers) == len(people) else np.array(people)


class Made(Protocol):
    """What decisions and slates share."""

    @property
    def lengths(self) -> np.ndarray:
        """Decisions of each session (n,) int64."""
        ...

    @property
    def events(self) -> np.ndarray:
        """The (first) event of each decision (n, T) int64, -1 where padded."""
        ...


class Moment(NamedTuple):
    """What was known when B decisions of one step were made."""

    sessions: np.ndarray  # (B,) session indices
    step: int
    history: History
    allowed: np.ndarray  # (B, n_items) bool
    masked: bool  # whether items met before are not allowed


def decisions(log: InteractionLog) -> Decisions:
    """Returns the decisions of a log with propensities, session by session; a "user" of the log is a session.

    In a log that `collect` made, decisions are the shown items; in any other, every event is one.

    Raises:
        DataError: if the log has no propensities or impossible ones, slates of several items, or a session without a
            decision.
    """
    if log.propensities is None:
        raise DataError(
            f"off-policy evaluation needs the propensity of every event, got the log {log.name!r} without "
            f"propensities; load them as a column (propensity=...), log them with recgym.collect, or have them "
            f"estimated (behaviour='logistic', --behaviour logistic)"
        )
    shown = _shown(log)
    if "step" in log.extra and int(np.max(log.extra["position"])) > 0:
        raise DataError(
            f"decisions must show one item each, got slates of {int(np.max(log.extra['position'])) + 1}; "
            f"use recgym.ope.slates, or recgym.evaluate_policy, which do"
        )
    users = log.event_users()[shown]
    lengths = np.bincount(users, minlength=log.n_users)
    if lengths.min(initial=1) < 1:
        raise DataError(
            f"every session must have a decision, got none in {np.count_nonzero(lengths == 0)} of {log.n_users}; "
            f"drop these sessions"
        )
    place = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # step of each decision
    shape = log.n_users, int(lengths.max())
    items, rewards, beta = np.full(shape, log.n_items), np.zeros(shape), np.ones(shape)
    events = np.full(shape, -1, dtype=np.int64)
    items[users, place] = log.items[shown]
    rewards[users, place] = log.rewards[shown]
    beta[users, place] = log.propensities[shown]
    events[users, place] = np.flatnonzero(shown)
    importance_weights(np.ones(shape), beta)  # refuses impossible propensities before anything is made of them
    return Decisions(items, rewards, beta, lengths, events)


def moments(log: InteractionLog, made: Made, max_history: int | None = None) -> Iterator[Moment]:
    """Yields the moments of all decisions (or slates), a few hundred sessions and one step at a time.

    Items met before in the session are allowed as `may_repeat` says; items that were no candidates
    (`extra["candidates"]`, as `collect` writes them) never are.

    Args:
        log: The log.
        made: Its decisions, or its slates.
        max_history: Events of the past that are shown to a policy; by default the frame size that the log was collected
            with (`users["frame_size"]`), or all of the past where the log does not tell.
    """
    event_users = log.event_users()
    enters = np.asarray(log.extra["enters"], dtype=bool) if "step" in log.extra else np.ones(log.n_events, dtype=bool)
    past = log.select_events(enters, drop_empty=False)
    before = np.concatenate([[0], np.cumsum(enters)])
    before = before[:-1] - before[log.offsets[event_users]]  # (n_events,) entered earlier in the session
    begun = _decisions_begun(log)
    if max_history is None and "frame_size" in log.users:
        max_history = int(np.max(log.users["frame_size"]))
    masked = not may_repeat(log)
    for first in range(0, log.n_users, _SESSIONS_AT_ONCE):
        sessions = np.arange(first, min(first + _SESSIONS_AT_ONCE, log.n_users))
        rows = slice(log.offsets[first], log.offsets[sessions[-1] + 1])
        allowed = np.ones((len(sessions), log.n_items), dtype=bool)
        for step in range(int(made.lengths[sessions].max())):
            if masked:
                met = begun[rows] == step  # since the decision before, and the opening
                allowed[event_users[rows][met] - first, log.items[rows][met]] = False
            live = sessions[made.lengths[sessions] > step]
            events = made.events[live, step]
            history = histories(past, live, before[events], max_history)
            may = allowed[live - first] & _candidates(log, events)
            yield Moment(live, step, history._replace(user=live), may, masked)


def evaluated_probabilities(
    policy: StochasticPolicy, log: InteractionLog, made: Decisions, max_history: int | None = None
) -> np.ndarray:
    """Returns pi (n, T): the probability of each logged item under the policy, 1 where padded.

    Raises:
        DataError: if the policy is none, is of another catalog or other rewards than the log, or returns no
            probabilities.
    """
    pi = np.ones(made.items.shape)
    for moment, probabilities in policy_moments(policy, log, made, max_history):
        items = made.items[moment.sessions, moment.step]
        pi[moment.sessions, moment.step] = probabilities[np.arange(len(items)), items]
    return pi


def policy_moments(
    policy: StochasticPolicy, log: InteractionLog, made: Made, max_history: int | None = None
) -> Iterator[tuple[Moment, np.ndarray]]:
    """Yields the moments of all decisions with the policy's probabilities (B, n_items), checked."""
    check_policy(policy)
    if not np.array_equal(policy.item_ids, log.item_ids) or policy.reward != log.reward:
        raise DataError(
            f"policy and log must have the same items and rewards, got {len(policy.item_ids)} items with "
            f"{policy.reward!r} and {log.n_items} with {log.reward!r}; this log is of another catalog, or was loaded "
            f"with another reward transform"
        )
    for moment in moments(log, made, max_history):
        yield moment, checked(policy.probabilities(moment.history, moment.allowed), moment.allowed)


def checked(given: Any, allowed: np.ndarray, whose: str = "policy") -> np.ndarray:
    """Returns probabilities (B, n_items) float64 after a look that they are such."""
    probabilities = np.asarray(given, dtype=np.float64)
    if probabilities.shape != allowed.shape:
        raise DataError(f"probabilities must have shape {allowed.shape}, got {probabilities.shape}; mend the {whose}")
    sums = probabilities.sum(axis=1)
    bad = ~(np.abs(sums - 1.0) < 1e-4) | (probabilities < 0.0).any(axis=1)
    if bad.any():
        raise DataError(
            f"probabilities of a {whose} must not be negative and sum to 1, got a sum of {sums[bad][0]:g} "
            f"({np.count_nonzero(bad)} of {len(bad)} histories); mend the {whose}"
        )
    return probabilities


def _shown(log: InteractionLog) -> np.ndarray:
    """Returns which events are decisions (n_events,) bool."""
    return np.asarray(log.extra["position"]) >= 0 if "step" in log.extra else np.ones(log.n_events, dtype=bool)


def _candidates(log: InteractionLog, events: np.ndarray) -> np.ndarray:
    """Returns which items could be shown at each event (B, n_items) bool."""
    if "candidates" not in log.extra:
        return np.ones((len(events), log.n_items), dtype=bool)
    listed = np.zeros((len(events), log.n_items + 1), dtype=bool)
    np.put_along_axis(listed, np.asarray(log.extra["candidates"])[events].astype(np.int64), True, axis=1)
    return listed[:, :-1]


def _decisions_begun(log: InteractionLog) -> np.ndarray:
    """Returns the decisions of the session up to and with each event (n_events,); a slate is one decision."""
    if "step" in log.extra:
        return np.asarray(log.extra["step"], dtype=np.int64) + 1
    return np.arange(1, log.n_events + 1) - log.offsets[log.event_users()]


def may_repeat(log: InteractionLog) -> bool:
    """Returns whether policies may show an item again in a session: `log.source["repeats"]`, or if the log does."""
    said = log.source.get("repeats")
    if said is not None:
        return bool(said)
    pairs = log.event_users().astype(np.int64) * log.n_items + log.items
    _, first, of = np.unique(pairs, return_index=True, return_inverse=True)
    return bool((_shown(log) & (first[of] < np.arange(log.n_events))).any())
