"""Numbering the decisions of a log without listing them, visiting the numbers shuffled, and reading events behind one.

A *window* is one logged decision: the event at `position` of a user, and the frame of events before it. Windows are
numbered 0..n-1, user after user, each user's oldest first; a number is turned into (user, position) by arithmetic.
Arrays are NumPy or torch, on any device, with the same bits; NumPy has its own quicker way where it matters.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from recgym.errors import DataError
from recgym.rng import key_words, philox

_MASK = 0xFFFFFFFF
_ROUNDS = 8
_AHEAD_STREAM = 0x61686561  # keeps these draws apart from the sessions' of the same seed
_STRIDE = 16  # windows from one signpost to the next


class Windows(NamedTuple):
    """Decisions as rows of F + 1 events: the frame, and at the end the action. NumPy or torch."""

    user: Any  # (B,) int64 user index
    items: Any  # (B, F+1) int64, oldest first, padded on the left with n_items
    rewards: Any  # (B, F+1) float32
    terminated: Any  # (B,) bool: the user's story ended
    truncated: Any  # (B,) bool: the log ended here
    length: Any = None  # (B,) int64 real events in the frame; None means all F
    returns: Any = None  # (B,) float32 discounted return from the action on, where asked for
    propensity: Any = None  # (B,) float32 probability with which the action was shown, where logged


class Places(NamedTuple):
    """Where decisions stand in a log, for whoever reads its columns himself. NumPy or torch."""

    user: Any  # (B,) int64 user index
    row: Any  # (B,) int64 row of the decision in the log's event columns
    position: Any  # (B,) int64 events of the user before it


def on_host(device: Any) -> bool:
    """Returns whether NumPy makes the batches of a device: of None, and of torch's CPU, which can share its memory."""
    return str(device or "cpu").startswith("cpu")


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


def signposts(starts: np.ndarray) -> np.ndarray:
    """Returns the user of every 16th window, int32: with them `locate_windows` need not search all users."""
    return (np.searchsorted(starts, np.arange(0, starts[-1], _STRIDE), side="right") - 1).astype(np.int32)


def locate_windows(starts: Any, windows: Any, min_history: int, posts: np.ndarray | None = None) -> tuple[Any, Any]:
    """Returns the user (B,) and the position of the decision among his events (B,), int64, for each window number.

    Args:
        starts: What `window_starts` returned, NumPy or torch.
        windows: Window numbers (B,), of the same kind.
        min_history: As given to `window_starts`.
        posts: What `signposts` returned, which makes it several times quicker on NumPy arrays.

    Example:
        >>> users, positions = locate_windows(np.array([0, 2, 2, 3]), np.array([0, 1, 2]), min_history=3)
        >>> users.tolist(), positions.tolist()  # user 0 has decisions 3 and 4, user 2 has decision 3
        ([0, 0, 2], [3, 4, 3])
    """
    xp = array_namespace(windows)
    if posts is None:
        users = xp.searchsorted(starts, windows, side="right") - 1
    else:
        users, ends = posts[windows // _STRIDE].astype(np.int64), starts[1:]
        behind = np.flatnonzero(ends[users] <= windows)  # one in four, where users have 50 windows
        users[behind] += 1
        behind = behind[ends[users[behind]] <= windows[behind]]
        users[behind] = np.searchsorted(starts, windows[behind], side="right") - 1
    return users, windows - starts[users] + min_history


def shuffled(numbers: Any, n: int, seed: int, epoch: int = 0) -> Any:
    """Returns where each number goes (B,) int64 in a shuffle of 0..n-1: a bijection that is computed, never stored.

    Each seed and epoch gives another shuffle. A Feistel network of 8 rounds permutes a grid just larger than n; a
    number that lands outside 0..n-1 walks on along its cycle until it is back inside.

    Args:
        numbers: Numbers in 0..n-1 (B,), NumPy or torch.
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
    feistel = _feistel32 if isinstance(numbers, np.ndarray) else _feistel
    placed = feistel(numbers, width, height, keys.tolist())
    xp = array_namespace(numbers)
    outside = xp.nonzero(placed >= n)[0]
    while outside.shape[0]:
        placed[outside] = feistel(placed[outside], width, height, keys.tolist())
        outside = outside[placed[outside] >= n]
    return placed


def _feistel(numbers: Any, width: int, height: int, keys: list[int]) -> Any:
    """Returns a permutation of 0..width*height-1: each half is shifted, round about, by a hash of the other."""
    left, right = numbers // width, numbers % width  # (B,) in 0..height-1 and 0..width-1
    for even, odd in zip(keys[0::2], keys[1::2], strict=True):
        left = (left + _hash(right, even)) % height
        right = (right + _hash(left, odd)) % width
    return left * width + right


def _hash(numbers: Any, key: int) -> Any:
    """Returns 32 well-mixed bits of each number, as int64; the finaliser of MurmurHash3, masked in int64 lanes."""
    mixed = (numbers * 0x9E3779B1 + key) & _MASK
    mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & _MASK
    mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & _MASK
    return mixed ^ (mixed >> 16)


def _feistel32(numbers: np.ndarray, width: int, height: int, keys: list[int]) -> np.ndarray:
    """Returns what `_feistel` does, four times as fast: in uint32 lanes, which wrap by themselves."""
    numbers = numbers.astype(np.int64, copy=False)
    left = numbers // width
    right = (numbers - left * width).astype(np.uint32)
    left = left.astype(np.uint32)
    for even, odd in zip(keys[0::2], keys[1::2], strict=True):
        _shift32(left, right, even, height)
        _shift32(right, left, odd, width)
    return left.astype(np.int64) * width + right


def _shift32(half: np.ndarray, other: np.ndarray, key: int, size: int) -> None:
    """Adds the hash of `other` to `half` modulo `size`, in place; NumPy divides by a number quickly, unlike `%`."""
    mixed = other * np.uint32(0x9E3779B1)
    mixed += np.uint32(key)
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    mixed -= mixed // np.uint32(size) * np.uint32(size)
    half += mixed
    np.minimum(half, half - np.uint32(size), out=half)  # below `size` the difference wraps to something larger


def events_ahead(windows: Any, left: Any, share: float, seed: int, epoch: int = 0) -> Any:
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
    xp = array_namespace(windows)
    counter = (windows & _MASK, windows >> 32, epoch, _AHEAD_STREAM)
    chance, draw, _, _ = philox(counter, key_words(seed))  # (B,) each, 0..2**32-1
    return xp.where(chance < share * 2.0**32, (draw * left) >> 32, xp.zeros_like(left))


def events_until(column: Any, rows: Any, width: int, real: Any = None, padding: Any = 0) -> Any:
    """Returns the `width` events of a column that end at each row (B, width), oldest first, in fresh memory.

    Args:
        column: One event column of a log (n_events,), NumPy or torch.
        rows: Row of the newest event (B,), of the same kind.
        width: Events wanted.
        real: How many of them are the user's own (B,); those before are replaced by `padding`. None promises that all
            are.
        padding: What stands before a user's first event.

    Example:
        >>> events_until(np.array([5, 6, 7, 8]), np.array([3, 1]), 3, real=np.array([3, 1]), padding=-1).tolist()
        [[6, 7, 8], [-1, -1, 6]]
    """
    xp = array_namespace(rows)
    steps = xp.arange(1 - width, 1, device=device_of(rows))[None, :]  # (1, W)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf" and len(column) >= width:
        values = _copied(column, rows, width)
    else:
        values = column[xp.clip(rows[:, None] + steps, 0, None)]
    if real is not None and not (isinstance(real, np.ndarray) and (real >= width).all()):
        values = xp.where(steps > -real[:, None], values, xp.asarray(padding, dtype=values.dtype))
    return values


def _copied(column: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """Returns the events that end at each row (B, W), each row copied as one piece; before the log stands its begin."""
    first = rows - (width - 1)
    early = np.flatnonzero(first < 0)
    shape, kind = (len(column) - width + 1,), f"V{width * column.itemsize}"
    pieces = np.ndarray(shape, kind, np.ascontiguousarray(column), strides=(column.itemsize,))  # they overlap
    values = pieces[np.maximum(first, 0)].view(column.dtype).reshape(-1, width)
    if len(early):
        values[early] = column[np.maximum(rows[early, None] + np.arange(1 - width, 1), 0)]
    return values


def discounted_returns(rewards: np.ndarray, offsets: np.ndarray, gamma: float) -> np.ndarray:
    """Returns for each event the discounted sum of its reward and those after it of the user (n_events,) float32.

    Args:
        rewards: Rewards (n_events,).
        offsets: Where each user begins (n_users + 1,).
        gamma: Discount per event.

    Raises:
        DataError: if gamma is outside 0..1.

    Source: Sutton and Barto (2018), Reinforcement Learning, equation 3.9.

    Example:
        >>> discounted_returns(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, 3, 4]), gamma=0.5).tolist()
        [3.0, 4.0, 4.0, 8.0]
    """
    if not 0.0 <= gamma <= 1.0:
        raise DataError(f"gamma must lie in 0..1, got {gamma}; give the discount of a return, or None for no returns")
    from scipy.signal import lfilter

    returns = np.empty(len(rewards), dtype=np.float32)
    borders = np.searchsorted(offsets, np.arange(0, offsets[-1], 1 << 20))  # users, about a million events apart
    borders = np.unique([*borders, len(offsets) - 1])
    for first, last in pairwise(borders):
        begin, end = offsets[first], offsets[last]
        backwards = np.asarray(rewards[begin:end], dtype=np.float64)[::-1]
        total = np.append(lfilter([1.0], [1.0, -gamma], backwards)[::-1], 0.0)  # of all users behind, too
        ends = np.repeat(offsets[first + 1 : last + 1], np.diff(offsets[first : last + 1])) - begin  # (n,)
        returns[begin:end] = total[:-1] - gamma ** (ends - np.arange(end - begin)) * total[ends]
    return returns
