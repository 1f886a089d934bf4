"""Guards against an agent that finds the mistakes of a learned user model: pessimism, and a bonus for variety."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog

_GRID = 4096.0  # what is added is rounded to its parts, so that a batch's size does not show in rewards


@dataclass(frozen=True, eq=False)
class Guards:
    """What an environment pays for an answer: `reward - pessimism * spread + entropy_bonus * entropy`.

    Source: pessimism as in MOPO, Yu et al., "Model-based offline policy optimization", NeurIPS 2020, with the standard
        deviation of the members' expected rewards as the penalty; the bonus after DORL, Gao et al., "Alleviating
        Matthew effect of offline reinforcement learning in interactive recommendation", SIGIR 2023, with the entropy
        that `next_entropy` defines.

    Raises:
        DataError: if a number is negative, or there is a bonus without entropies.
    """

    pessimism: float = 0.0  # standard deviations of the ensemble that are taken off
    entropy_bonus: float = 0.0  # what the greatest entropy adds
    entropy: np.ndarray | None = None  # of every item (n_items,), 0 to 1; for the bonus

    def __post_init__(self) -> None:
        if not (0.0 <= self.pessimism < np.inf and 0.0 <= self.entropy_bonus < np.inf):
            raise DataError(
                f"pessimism and entropy_bonus must be 0 or more, got {self.pessimism} and {self.entropy_bonus}; "
                "raise them"
            )
        if self.entropy_bonus > 0 and self.entropy is None:
            raise DataError("an entropy bonus needs entropy, got none; give what penalties.next_entropy made")

    @property
    def any(self) -> bool:
        """Whether they change anything."""
        return self.pessimism > 0 or self.entropy_bonus > 0

    def reward_range(self, low: float, high: float) -> tuple[float, float]:
        """Returns the least and most that is paid where answers are worth `low` to `high`."""
        return low - self.pessimism * (high - low) / 2, high + self.entropy_bonus  # no spread is above half the range

    def paid(self, worth: np.ndarray, spread: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns what is paid (B, k) in the type of `worth`.

        Args:
            worth: Of answers (B, k).
            spread: Of the ensemble (B, k).
            items: Items (B, k), below n_items.
        """
        extra = -self.pessimism * spread
        if self.entropy is not None:
            extra = extra + self.entropy_bonus * self.entropy[items]
        return np.asarray(worth + (np.rint(extra * _GRID) / _GRID).astype(worth.dtype))


def next_entropy(log: InteractionLog, n_groups: int = 10) -> np.ndarray:
    """Returns how varied the log is right after every item (n_items,) float64: 0, always the same, to 1.

    Items are put in `n_groups` groups by their number of events, so that each group has about as many events. Of an
    item, this is Shannon's entropy of the group of the event after one of its own, as a share of the greatest; counts
    are smoothed by the log's overall shares, weighing one event. An agent paid for it is drawn to where logged users
    went on in many ways, which is where a model knows more than one answer.

    Args:
        log: Training events.
        n_groups: 2 or more.

    Source: the entropy penalty of DORL (Gao et al. 2023), with one item of history and groups by popularity.

    Raises:
        DataError: if there are fewer than two groups.

    Example:
        >>> log = InteractionLog.from_events([1] * 4 + [2] * 4, ["a", "b", "a", "c"] + ["a", "b", "a", "a"], [1] * 8)
        >>> next_entropy(log, 2).round(2).tolist()
        [0.88, 0.65, 1.0]
    """
    if n_groups < 2:
        raise DataError(f"n_groups must be at least 2, got {n_groups}; entropy needs something to choose from")
    counts = np.bincount(log.items, minlength=log.n_items)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    group = np.empty(log.n_items, dtype=np.int64)
    group[order] = before * n_groups // max(log.n_events, 1)
    follows = np.ones(log.n_events, dtype=bool)
    follows[log.offsets[:-1][log.lengths > 0]] = False
    place = np.flatnonzero(follows)
    pair = log.items[place - 1].astype(np.int64) * n_groups + group[log.items[place]]
    seen = np.bincount(pair, minlength=log.n_items * n_groups).reshape(log.n_items, n_groups).astype(np.float64)
    seen += (seen.sum(axis=0) + 1e-9) / (seen.sum() + n_groups * 1e-9)
    share = seen / seen.sum(axis=1, keepdims=True)
    return np.asarray(-(share * np.log(np.maximum(share, 1e-300))).sum(axis=1) / np.log(n_groups))
