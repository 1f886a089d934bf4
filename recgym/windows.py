"""Numbering the decisions of a log without listing them, and visiting the numbers in a shuffled order.

A *window* is one logged decision: the event at `position` of a user, and the frame of events before it. Windows are
numbered 0..n-1, user after user, each user's oldest first; a number is turned into (user, position) by arithmetic.
"""

from __future__ import annotations

import hashlib

import numpy as np

from recgym.rng import key_words, philox

_MASK = 0xFFFFFFFF
_ROUNDS = 8
_AHEAD_STREAM = 0x61686561  # keeps these draws apart from the sessions' of the same seed


def window_starts(lengths: np.ndarray, min_history: int) -> np.ndarray:
    """Returns the number of each user's first window, and at the end how many there are (n_users + 1,) int64.

    Args:
        lengths: Events of each user (n_users,).
        min_history: Events that must come before a decision; n events make `max(n - min_history, 0)` windows.

    Example:
        >>> window_starts(np.array([5, 2, 4]), min_history=3).tolist()
        [0, 2, 2, 3]
    """
    counts = np.maximum(np.asarray(lengths, dtype=np.int64) - min_history, 0)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def locate_windows(starts: np.ndarray, windows: np.ndarray, min_history: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the user (B,) and the position of the decision among his events (B,), int64, for each window number.

    Args:
        starts: What `window_starts` returned.
        windows: Window numbers (B,).
        min_history: As given to `window_starts`.

    Example:
        >>> users, positions = locate_windows(np.array([0, 2, 2, 3]), np.array([0, 1, 2]), min_history=3)
        >>> users.tolist(), positions.tolist()  # user 0 has decisions 3 and 4, user 2 has decision 3
        ([0, 0, 2], [3, 4, 3])
    """
    users = np.searchsorted(starts, windows, side="right") - 1
    return users, windows - starts[users] + min_history


def shuffled(numbers: np.ndarray, n: int, seed: int, epoch: int = 0) -> np.ndarray:
    """Returns where each number goes (B,) int64 in a shuffle of 0..n-1: a bijection that is computed, never stored.

    Each seed and epoch gives another shuffle. A Feistel network of 8 rounds permutes a grid just larger than n; a
    number that lands outside 0..n-1 walks on along its cycle until it is back inside.

    Args:
        numbers: Numbers in 0..n-1 (B,).
        n: How many there are, at most 2**60.
        seed: Which family of shuffles.
        epoch: Which shuffle of the family.

    Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, sections 4 and 5.

    Example:
        >>> sorted(shuffled(np.arange(7), 7, seed=0).tolist())
        [0, 1, 2, 3, 4, 5, 6]
    """
    width = max(int(np.ceil(np.sqrt(n))), 1)
    height = -(-n // width)
    keys = np.frombuffer(hashlib.blake2b(f"{seed} {epoch}".encode(), digest_size=4 * _ROUNDS).digest(), dtype="<u4")
    placed = np.array(numbers, dtype=np.int64)
    walking = np.arange(len(placed))
    while len(walking):
        placed[walking] = _feistel(placed[walking], width, height, keys.astype(np.int64))
        walking = walking[placed[walking] >= n]
    return placed


def _feistel(numbers: np.ndarray, width: int, height: int, keys: np.ndarray) -> np.ndarray:
    """Returns a permutation of 0..width*height-1: each half is shifted, round about, by a hash of the other."""
    left, right = numbers // width, numbers % width  # (B,) in 0..height-1 and 0..width-1
    for even, odd in zip(keys[0::2], keys[1::2], strict=True):
        left = (left + _hash(right, even)) % height
        right = (right + _hash(left, odd)) % width
    return left * width + right


def _hash(numbers: np.ndarray, key: np.int64) -> np.ndarray:
    """Returns 32 well-mixed bits of each number, as int64; the finaliser of MurmurHash3, masked in int64 lanes."""
    mixed = (numbers * 0x9E3779B1 + key) & _MASK
    mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & _MASK
    mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & _MASK
    return mixed ^ (mixed >> 16)


def events_ahead(windows: np.ndarray, left: np.ndarray, share: float, seed: int, epoch: int = 0) -> np.ndarray:
    """Returns how many events after the decision the one lies that is taken for it (B,) int64, 0 to `left - 1`.

    A `share` of the windows draws evenly from all `left` events, the others give 0. A pure function of the window, the
    seed and the epoch, so that it does not depend on how windows are batched.

    Args:
        windows: Window numbers (B,).
        left: Events of the user from the decision on, itself included (B,).
        share: In 0..1.
        seed: Which family of draws.
        epoch: Which draws of the family.

    Example:
        >>> events_ahead(np.array([0, 1, 2]), np.array([1, 1, 1]), share=1.0, seed=0).tolist()
        [0, 0, 0]
    """
    windows = np.asarray(windows, dtype=np.int64)
    counter = (windows & _MASK, windows >> 32, np.int64(epoch), np.int64(_AHEAD_STREAM))
    chance, draw, _, _ = philox(counter, key_words(seed))  # (B,) each, 0..2**32-1
    return np.where(chance < share * 2.0**32, (draw * np.asarray(left, dtype=np.int64)) >> 32, 0)
