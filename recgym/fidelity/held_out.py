"""Held-out events as questions to a user model: who, which item, and what came before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.users.fitted.fit_options import missed_of


class Questions(NamedTuple):
    """The held-out events in the order of their log, users and items as the training log numbers them."""

    users: np.ndarray  # (n,) int64; -1 for a user without a training event
    items: np.ndarray  # (n,) int64
    outcome: np.ndarray  # (n,) float64: the rewards
    rows: np.ndarray  # (n,) int64: index of the event in `past`
    begins: np.ndarray  # (n,) int64: index of the user's first event in `past`
    past: InteractionLog  # training and held-out events, user by user, training first

    def history(self, chosen: np.ndarray, length: int) -> History:
        """Returns what came before some of the questions (B,): their user's last `length` events."""
        ends, begins = self.rows[chosen], self.begins[chosen]
        place = ends[:, None] + np.arange(-length, 0)  # (B, length)
        real = place >= begins[:, None]
        place = np.where(real, place, 0)
        items = np.where(real, self.past.items[place], self.past.n_items).astype(np.int32)
        rewards = np.where(real, self.past.rewards[place], 0.0).astype(np.float32)
        return History(items, rewards, np.minimum(ends - begins, length), self.users[chosen])

    def batches(self, size: int = 8192) -> Iterator[np.ndarray]:
        """Yields the indices of the questions, some at a time."""
        for begin in range(0, len(self.users), size):
            yield np.arange(begin, min(begin + size, len(self.users)))


def questions(train: InteractionLog, held_out: InteractionLog) -> Questions:
    """Returns the held-out events as questions; each user's come after his training events.

    Raises:
        DataError: if the logs differ in items or in rewards.
    """
    if not np.array_equal(train.item_ids, held_out.item_ids) or train.reward != held_out.reward:
        raise DataError(
            f"training and held-out events must share items and rewards, got {train.n_items} and {held_out.n_items} "
            f"items, rewards {train.reward!r} and {held_out.reward!r}; split one log"
        )
    place = {user: index for index, user in enumerate(train.user_ids.tolist())}
    known = np.array([place.get(user, -1) for user in held_out.user_ids.tolist()], dtype=np.int64)
    before = np.where(known >= 0, train.lengths[known], 0)  # (held-out users,) training events of each
    after = held_out.lengths
    ends = np.cumsum(before + after)
    begins = ends - before - after
    of_train = np.repeat(train.offsets[known] - begins, before) + _ranges(begins, before)
    of_held = np.repeat(held_out.offsets[:-1] - begins - before, after) + (rows := _ranges(begins + before, after))
    items = np.empty(ends[-1], dtype=np.int32)
    rewards = np.empty(ends[-1], dtype=np.float32)
    slots = _ranges(begins, before)
    items[slots], rewards[slots] = train.items[of_train], train.rewards[of_train]
    items[rows], rewards[rows] = held_out.items[of_held], held_out.rewards[of_held]
    past = InteractionLog(
        items=items, rewards=rewards, offsets=np.append(0, ends).astype(np.int64), user_ids=held_out.user_ids,
        item_ids=train.item_ids, reward=train.reward, reward_range=train.reward_range, name=train.name,
    )  # fmt: skip
    users, outcome = np.repeat(known, after), np.asarray(held_out.rewards, dtype=np.float64)
    return Questions(users, held_out.items.astype(np.int64), outcome, rows, np.repeat(begins, after), past)


def with_misses(log: InteractionLog, misses: int, seed: int) -> InteractionLog:
    """Returns a log of what was taken with `misses` drawn items after each event, worth 0, less those taken."""
    missed = missed_of(log, misses, seed)  # (n_events, misses)
    beside, _ = np.nonzero(missed >= 0)
    source = np.append(np.arange(log.n_events), beside)
    order = np.argsort(source, kind="stable")
    users = log.event_users()[source]
    low, high = log.reward_range or (0.0, 0.0)
    return InteractionLog(
        items=np.append(log.items, missed[missed >= 0]).astype(np.int32)[order],
        rewards=np.append(log.rewards, np.zeros(len(beside), dtype=np.float32))[order],
        offsets=np.append(0, np.cumsum(np.bincount(users, minlength=log.n_users))).astype(np.int64),
        user_ids=log.user_ids,
        item_ids=log.item_ids,
        times=None if log.times is None else np.asarray(log.times)[source][order],
        reward=log.reward,
        reward_range=(min(low, 0.0), high),
        name=log.name,
    )


def and_misses(asked: Questions, misses: int, seed: int) -> Questions:
    """Returns the questions and, for each, `misses` about drawn items, less those its user is known to have taken."""
    taken = asked.past.event_users().astype(np.int64) * asked.past.n_items + asked.past.items
    owner = np.searchsorted(asked.past.offsets, asked.rows, side="right") - 1  # (n,) user of `past`
    drawn = np.random.default_rng(seed).integers(asked.past.n_items, size=(len(asked.users), misses))
    rows, places = np.nonzero(~np.isin(owner[:, None] * asked.past.n_items + drawn, taken))
    source = np.append(np.arange(len(asked.users)), rows)
    return asked._replace(
        users=asked.users[source],
        items=np.append(asked.items, drawn[rows, places]),
        outcome=np.append(asked.outcome, np.zeros(len(rows))),
        rows=asked.rows[source],
        begins=asked.begins[source],
    )


def _ranges(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns `begins[i], begins[i] + 1, ...`, `lengths[i]` of them, for every i, one after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.repeat(begins - starts, lengths) + np.arange(int(lengths.sum()))
