"""What a user model answers when it is shown what real users consumed, and how long its sessions last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym.fidelity.held_out import Questions
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users.base import UserModel

_ROWS = 512  # sessions side by side


class Replayed(NamedTuple):
    """Real sequences and their simulated twins: the same users shown the same items in the same order."""

    users: np.ndarray  # (n,) int64: whose sequence it is, as the training log numbers them
    lengths: np.ndarray  # (n,) int64: events of each
    real: np.ndarray  # (n_events,) float64: rewards of all sequences, one after the other
    simulated: np.ndarray  # (n_events,) float64


def replay(model: UserModel, asked: Questions, *, n_users: int, longest: int, seed: int = 0) -> Replayed:
    """Returns what users really answered to held-out items, and what the model draws for the same items.

    Args:
        model: Whose users are numbered as in the training log; whether they leave is not looked at.
        asked: The held-out events.
        n_users: At most so many users, a random choice of those known.
        longest: At most so many of each one's events, the first ones.
        seed: Of the choice and of the users' luck.
    """
    first = np.flatnonzero(np.append(True, asked.begins[1:] != asked.begins[:-1]))
    lengths = np.minimum(np.diff(np.append(first, len(asked.users))), longest)
    known = np.flatnonzero(asked.users[first] >= 0)
    if len(known) > n_users:
        known = np.sort(np.random.default_rng(seed).choice(known, n_users, replace=False))
    first, lengths = first[known], lengths[known]
    simulated = []
    for begin in range(0, len(known), _ROWS):
        part = slice(begin, begin + _ROWS)
        simulated.append(_answers(model, asked, first[part], lengths[part], seed + begin))
    events = np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
    return Replayed(asked.users[first], lengths, asked.outcome[events], np.concatenate(simulated))


def _answers(model: UserModel, asked: Questions, first: np.ndarray, lengths: np.ndarray, seed: int) -> np.ndarray:
    random, rows = _luck(len(first), seed)
    state, _ = model.start(random, rows, 1, users=asked.users[first])
    worth = np.zeros((len(first), int(lengths.max())))
    for place in range(worth.shape[1]):
        here = place < lengths
        slate = np.where(here, asked.items[np.where(here, first + place, 0)], model.n_items)[:, None]
        state, response = model.respond(random, rows, state, slate)
        worth[:, place] = response.rewards[:, 0]
        random.step += 1
    return worth[np.arange(worth.shape[1]) < lengths[:, None]]


def session_lengths(model: UserModel, log: InteractionLog, *, n_users: int, longest: int, seed: int = 0) -> np.ndarray:
    """Returns how many answers users give before they leave, `longest` at most, one session per user (n,) int64.

    A session shows the user's own items in their order, again from the first when they run out.

    Args:
        model: Whose users are those of the log.
        log: What it was fitted on.
        n_users: At most so many users, a random choice.
        longest: Longest session.
        seed: Of the choice and of the users' luck.
    """
    some = np.flatnonzero(log.lengths > 0)
    if len(some) > n_users:
        some = np.sort(np.random.default_rng(seed).choice(some, n_users, replace=False))
    lasted = np.full(len(some), longest)
    for begin in range(0, len(some), _ROWS):
        users = some[begin : begin + _ROWS]
        random, rows = _luck(len(users), seed + begin)
        state, _ = model.start(random, rows, 1, users=users)
        for place in range(longest):
            own = users[rows]
            items = log.items[log.offsets[own] + place % log.lengths[own]].astype(np.int64)
            state, response = model.respond(random, rows, state, items[:, None])
            random.step += 1
            lasted[begin + rows[response.left]] = place + 1
            stay = ~response.left
            rows, state = rows[stay], type(state)(*(column[stay] for column in state))
            if not len(rows):
                break
    return lasted


def _luck(n: int, seed: int) -> tuple[RowRandom, np.ndarray]:
    """Returns the streams of n sessions that just began, and their rows."""
    random, rows = RowRandom.from_seeds([(seed << 32) + row for row in range(n)]), np.arange(n)
    random.begin(rows)
    return random, rows
