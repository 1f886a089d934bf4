"""What a fitted model has seen, kept so that a later look can tell whether it saw what it should not have."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recgym.ids import to_json
from recgym.log import InteractionLog


class Seen(NamedTuple):
    """How much of a log a model was fitted on."""

    users: float  # share of its users
    events: float  # share of its events: pairs of user and item
    same: bool  # whether it is the very log


@dataclass(frozen=True, eq=False)
class FittedOn:
    """Which log a model was fitted on.

    Attributes:
        name: What the log is called.
        log_hash: SHA-256 of its columns and ids.
        users_hash: SHA-256 of its user ids, whatever their order.
        n_events: How many events it has.
        users: A number per user (n_users,) uint64, ascending, made of the id.
        events: A number per pair of user and item (n,) uint32, ascending; another pair has the same one with a
            probability of n / 2**32.
    """

    name: str
    log_hash: str
    users_hash: str
    n_events: int
    users: np.ndarray
    events: np.ndarray

    @classmethod
    def of(cls, log: InteractionLog) -> FittedOn:
        """Returns what is kept of a log."""
        users = np.unique(_numbers(log.user_ids))
        users_hash = hashlib.sha256(users.tobytes()).hexdigest()
        return cls(log.name, log_hash(log), users_hash, log.n_events, users, np.unique(_pairs(log)))

    def saw(self, log: InteractionLog) -> Seen:
        """Returns how much of a log is among what is kept: 0 and 0 for people who were held out.

        Example:
            >>> from recgym.datasets.synthetic import synthetic
            >>> train, test = synthetic(n_users=60, n_items=40).split_users(0.2)
            >>> FittedOn.of(train).saw(test), FittedOn.of(train).saw(train)
            (Seen(users=0.0, events=0.0, same=False), Seen(users=1.0, events=1.0, same=True))
        """
        users = np.isin(_numbers(log.user_ids), self.users)
        events = np.isin(_pairs(log), self.events)
        known = users[log.event_users()] & events  # spares most of the accidents
        return Seen(float(users.mean()), float(known.mean()), log_hash(log) == self.log_hash)

    def about(self) -> dict[str, Any]:
        """Returns the attributes that are no arrays, as JSON."""
        return {name: getattr(self, name) for name in ("name", "log_hash", "users_hash", "n_events")}


def log_hash(log: InteractionLog) -> str:
    """Returns a SHA-256 of all that a user model is fitted on: columns, times and ids."""
    digest = hashlib.sha256()
    for ids in (log.user_ids, log.item_ids):
        digest.update(json.dumps(to_json(ids.astype(object))).encode())
    for column in (log.items, log.rewards, log.offsets, log.times, log.propensities):
        digest.update(b"none" if column is None else np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _numbers(ids: np.ndarray) -> np.ndarray:
    """Returns 64 bits per id (n,) uint64."""
    words = (json.dumps(one).encode() for one in to_json(ids.astype(object)))
    digests = b"".join(hashlib.blake2b(word, digest_size=8).digest() for word in words)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _pairs(log: InteractionLog) -> np.ndarray:
    """Returns 32 bits per event (n_events,) uint32, of its user's id and its item's."""
    users, items = _numbers(log.user_ids), _numbers(log.item_ids)
    mixed = (users[log.event_users()] ^ (items[log.items] << np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(32)).astype(np.uint32)
