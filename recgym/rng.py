"""Random numbers as a pure function of where they are used: counter-based 32-bit Philox in int64 lanes.

One code serves NumPy arrays and torch tensors, on any device, and gives the same bits. Nothing is consumed by drawing:
the word at (key, episode, step, stream, index) is always the same, so rows of a batch never disturb one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Returns the four 32-bit words of Philox4x32-10 for each counter, as int64 arrays in 0..2**32-1.

    Products wrap modulo 2**64 in int64 lanes, and masking after the shift undoes the sign, so every bit is that of the
    unsigned computation.

    Args:
        counter: Four int64 arrays (or ints) of 32-bit words that broadcast against each other; not all are ints.
        key: Two int64 arrays (or ints) of 32-bit words.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
    """
    x0, x1, x2, x3 = counter
    xp = array_namespace(*(word for word in (*counter, *key) if not isinstance(word, int)))
    # 0-d arrays, since NumPy is twice as quick with them as with Python's own integers
    m0, m1, w0, w1, mask, half = (xp.asarray(number, dtype=xp.int64) for number in (*_MULTIPLIERS, *_WEYL, _MASK, 32))
    k0, k1 = key
    for _ in range(10):
        left, right = x0 * m0, x2 * m1
        x0, x1, x2, x3 = (
            ((right >> half) & mask) ^ x1 ^ k0,
            right & mask,
            ((left >> half) & mask) ^ x3 ^ k1,
            left & mask,
        )
        k0, k1 = (k0 + w0) & mask, (k1 + w1) & mask
    return x0, x1, x2, x3


def key_words(seed: int) -> tuple[int, int]:
    """Returns the two 32-bit words of the key that a seed stands for: its lower 64 bits."""
    return seed & _MASK, (seed >> 32) & _MASK


def uniforms(key: int, n: int, stream: int = 0) -> np.ndarray:
    """Returns n numbers (n,) float64 in [0, 1), multiples of 2**-32; the first m are the same for any n >= m.

    Args:
        key: Seed; its lower 64 bits count.
        n: How many.
        stream: Names independent sequences of one key, 0..2**32-1.

    Example:
        >>> bool((uniforms(7, 3) == uniforms(7, 5)[:3]).all()), bool((uniforms(7, 3) == uniforms(7, 3, stream=1)).any())
        (True, False)
    """
    return _unit(_words(key_words(key), n, np.zeros((1, 1), dtype=np.int64), 0, stream))[0]


def normals(key: int, n: int, stream: int = 0) -> np.ndarray:
    """Returns n standard normal numbers (n,) float64, made of `uniforms(key, 2 * n, stream)` by Box and Muller."""
    return _normal(uniforms(key, 2 * n, stream)[None])[0]


class RowRandom:
    """Independent random streams, one per row of a batch; what a row draws does not depend on the other rows.

    Every draw is a pure function of (key, episode, step, stream, index), whatever was drawn before. `uniforms` is what
    episode 0 would draw, so data and sessions made from one seed share nothing.

    Attributes:
        key: The two 32-bit key words of each row (B, 2) int64.
        episode: Sessions each row has begun (B,) int64.
        step: Steps taken in the session (B,) int64.

    Example:
        >>> one, many = RowRandom.from_seeds([5]), RowRandom.from_seeds([4, 5, 6])
        >>> bool((one.uniform([0], 3, stream=0)[0] == many.uniform([1], 3, stream=0)[0]).all())
        True
    """

    def __init__(self, key: Any, episode: Any, step: Any) -> None:
        self.key = key
        self.episode = episode
        self.step = step

    @classmethod
    def from_seeds(cls, seeds: list[int]) -> RowRandom:
        """Returns the streams whose keys are the lower 64 bits of the seeds, before their first session."""
        n_rows = len(seeds)
        key = np.array([key_words(int(seed)) for seed in seeds], dtype=np.int64).reshape(n_rows, 2)
        return cls(key, np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows, dtype=np.int64))

    def seed(self, row: int, seed: int) -> None:
        """Gives one row the key of a seed and no sessions, as if it were new."""
        self.key[row] = np.array(key_words(int(seed)), dtype=np.int64)
        self.episode[row] = 0
        self.step[row] = 0

    def begin(self, rows: Any) -> None:
        """Counts a new session in the rows (an index array or slice)."""
        self.episode[rows] += 1
        self.step[rows] = 0

    def uniform(self, rows: Any, n: int, stream: int) -> Any:
        """Returns (R, n) float64 in [0, 1) for R rows (an index array or slice)."""
        return _unit(self.words(rows, n, stream))

    def integers(self, rows: Any, n: int, stream: int, high: Any) -> Any:
        """Returns (R, n) int64 in 0..high-1; `high` is a number below 2**31 or one per row (R, 1)."""
        return (self.words(rows, n, stream) * high) >> 32

    def normal(self, rows: Any, n: int, stream: int) -> Any:
        """Returns (R, n) standard normal float64."""
        return _normal(self.uniform(rows, 2 * n, stream))

    def words(self, rows: Any, n: int, stream: int) -> Any:
        """Returns (R, n) int64 in 0..2**32-1: what everything else here is made of."""
        key = self.key[rows]  # (R, 2)
        return _words((key[:, :1], key[:, 1:]), n, self.step[rows][:, None], self.episode[rows][:, None], stream)


def _words(key: tuple[Any, Any], n: int, step: Any, episode: Any, stream: int) -> Any:
    """Returns (R, n) words: block i // 4 of the counter, lane i % 4, for index i."""
    xp = array_namespace(step)
    block = xp.arange(-(-n // 4), dtype=xp.int64, device=device(step))[None, :]  # (1, n / 4)
    lanes = philox((block, step, episode, stream), key)
    return xp.reshape(xp.stack(xp.broadcast_arrays(*lanes), axis=-1), (step.shape[0], -1))[:, :n]


def _unit(words: Any) -> Any:
    """Returns words as float64 in [0, 1), exactly."""
    xp = array_namespace(words)
    return xp.astype(words, xp.float64) * 2.0**-32


def _normal(uniform: Any) -> Any:
    """Returns (R, n) normals from (R, 2 n) uniforms; `1 - u` keeps the logarithm finite."""
    xp = array_namespace(uniform)
    radius = xp.sqrt(-2.0 * xp.log(1.0 - uniform[:, 0::2]))
    return radius * xp.cos(2.0 * np.pi * uniform[:, 1::2])
