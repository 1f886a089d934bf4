"""When users leave: a hazard for every event of a session, fitted on where logged sessions end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.session_split import check_gap, split_sessions
from recgym.options import check_choice

SESSIONS = ("one", "interval", "never", "auto")
_EXACT, _GROWTH, _LONGEST = 64, 1.1, 1e6  # places with a number of their own; beyond, groups that grow
_ROUNDS, _PULL = 12, 1.0  # Newton steps, and the pull of every number towards the mean


def _edges() -> np.ndarray:
    beyond = _EXACT * _GROWTH ** np.arange(1, np.log(_LONGEST / _EXACT) / np.log(_GROWTH))
    return np.concatenate([np.arange(1, _EXACT + 1), np.unique(beyond.astype(np.int64))])


EDGES = _edges()  # (G,) first place of every group, places counted from 1


@dataclass(frozen=True, eq=False)
class Leaving:
    """After its j-th answer a session is over with probability `sigmoid(a_j + w_1 * r + w_2 * m)`.

    r is what the answer was worth and m the mean so far, both as a share of the range of rewards. Places j up to 64
    have an `a_j` each, further ones share it with their neighbours.

    `sessions` says what it was fitted on:

    | `sessions` | a session is | its end is |
    |---|---|---|
    | `"one"` | all that a user did | the user's last event: as if nobody came back after the log ends |
    | `"interval"` | events with pauses of at most so many seconds | as `split_sessions` says; the last is not known |
    | `"never"` | | nothing was fitted, nobody leaves |

    `"auto"` is `"interval"` where the log has times and tells of some session that it is over, else `"one"`.

    Source: discrete-time hazards, Singer and Willett, "It's about time", Journal of Educational Statistics 1993.

    Attributes:
        base: a (G,) float64; empty where nobody leaves.
        weights: w (2,) float64.
        sessions: See above.
    """

    base: np.ndarray
    weights: np.ndarray
    sessions: str = "never"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], sessions: str) -> Leaving:
        """Returns what `arrays` gave."""
        return cls(arrays["leaving base"], arrays["leaving weights"], sessions)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all parameters by name."""
        return {"leaving base": self.base, "leaving weights": self.weights}

    def chance(self, place: np.ndarray, last: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Returns the probability to leave (...) after answers at places (...), counted from 1.

        Args:
            place: How many answers were given.
            last: What the last one was worth, as a share of the range.
            mean: What all were worth on average, likewise.
        """
        if len(self.base) == 0:
            return np.zeros(np.shape(place))
        group = np.searchsorted(EDGES, place, side="right") - 1
        logit = self.base[np.maximum(group, 0)] + self.weights[0] * last + self.weights[1] * mean
        return 1.0 / (1.0 + np.exp(-logit))


def fit_leaving(log: InteractionLog, sessions: str = "one", gap_seconds: int = 3600) -> Leaving:
    """Returns the hazards of a log's sessions.

    Args:
        log: Whose users leave.
        sessions: `"one"`, `"interval"` (the log needs times), `"never"` or `"auto"`, see `Leaving`.
        gap_seconds: Longest pause within a session, for `"interval"`.

    Raises:
        DataError: if `sessions` is unknown, there are no times, or no session is known to be over.
    """
    check_choice("sessions", sessions, SESSIONS)
    check_gap(gap_seconds)
    if sessions == "never":
        return Leaving(np.zeros(0), np.zeros(2))
    if sessions == "auto":
        by_time = log.times is not None and split_sessions(log, "interval", gap_seconds).users["over"].any()
        sessions = "interval" if by_time else "one"
    cut = split_sessions(log, sessions, gap_seconds)
    over = np.ones(cut.n_users, dtype=bool) if sessions == "one" else np.asarray(cut.users["over"])
    if not over.any():
        raise DataError(
            f"some session must be known to be over, got none of {cut.n_users} with gap_seconds={gap_seconds}; lower it"
        )
    low, high = log.reward_range or (0.0, 0.0)
    worth = (np.asarray(cut.rewards, dtype=np.float64) - low) / max(high - low, 1e-12)  # (n_events,)
    begin = np.repeat(cut.offsets[:-1], cut.lengths)
    place = np.arange(cut.n_events) - begin + 1
    total = np.cumsum(worth)
    mean = (total - (total - worth)[begin]) / place
    last = cut.offsets[1:] - 1
    ended = np.zeros(cut.n_events)
    ended[last[over]] = 1.0
    known = np.ones(cut.n_events, dtype=bool)
    known[last[~over]] = False  # whether the session went on after these is not known
    base, weights = _fitted(place[known], np.stack([worth, mean], axis=1)[known], ended[known])
    return Leaving(base, weights, sessions)


def _fitted(place: np.ndarray, features: np.ndarray, ended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (a, w) of the logistic regression of `ended` (n,) on groups of places and features (n, 2).

    Newton's method. The Hessian is diagonal but for the last two rows and columns, so it is solved by elimination.
    """
    group = np.searchsorted(EDGES, place, side="right") - 1
    n = len(EDGES)
    share = (ended.sum() + 1.0) / (len(ended) + 2.0)
    centre = np.log(share / (1.0 - share))
    base, weights = np.full(n, centre), np.zeros(2)
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(base[group] + features @ weights, -30.0, 30.0)))
        error, steep = ended - chance, chance * (1.0 - chance)
        uphill = np.bincount(group, error, n) - _PULL * (base - centre)
        uphill_w = features.T @ error - _PULL * weights
        diagonal = np.bincount(group, steep, n) + _PULL
        mixed = np.stack([np.bincount(group, steep * column, n) for column in features.T], axis=1)  # (G, 2)
        rest = (features * steep[:, None]).T @ features + _PULL * np.eye(2) - mixed.T @ (mixed / diagonal[:, None])
        step_w = np.linalg.solve(rest, uphill_w - mixed.T @ (uphill / diagonal))
        base = base + np.clip((uphill - mixed @ step_w) / diagonal, -4.0, 4.0)
        weights = weights + step_w
    return base, weights
