"""How far two learned simulators of the same items differ, such as one of training and one of test users."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.users.fitted.learned import LearnedUsers


class Difference(NamedTuple):
    """What two simulators expect of every item, on average over their people."""

    mean_a: float  # expected reward over all items and people of the first
    mean_b: float  # of the second
    gap: float  # root of the mean squared difference of items' expected rewards
    rank_correlation: float  # Spearman's, over items
    top_overlap: float  # share of the first's best tenth of the items that is in the second's

    def __str__(self) -> str:
        return (
            f"expected reward of an item: {self.mean_a:.4f} and {self.mean_b:.4f} on average\n"
            f"difference of an item's: {self.gap:.4f} (root mean square)\n"
            f"rank correlation over items: {self.rank_correlation:.4f}\n"
            f"of the best tenth of the items, in both: {self.top_overlap:.2%}"
        )


def difference(a: LearnedUsers, b: LearnedUsers, *, n_people: int = 500) -> Difference:
    """Returns how two simulators of the same items differ in what their people expect of each item.

    What differs between simulators of different people is what an agent can exploit in one and does not find in the
    other. An item's expected reward is averaged over people, who are taken at equal distances from all, as their
    sessions open.

    Args:
        a: One.
        b: The other; its people may be others, its items must be the same.
        n_people: People of each, at most.

    Raises:
        DataError: if the items differ.
    """
    if not np.array_equal(a.item_ids, b.item_ids):
        raise DataError(
            f"two simulators must have the same items, got {a.n_items} and {b.n_items} that differ; fit both on parts "
            "of one log"
        )
    mean_a, mean_b = _item_means(a, n_people), _item_means(b, n_people)  # (n_items,)
    n_top = max(1, a.n_items // 10)
    best = [set(np.argsort(-means, kind="stable")[:n_top].tolist()) for means in (mean_a, mean_b)]
    return Difference(
        float(mean_a.mean()),
        float(mean_b.mean()),
        float(np.sqrt(((mean_a - mean_b) ** 2).mean())),
        float(np.corrcoef(_ranks(mean_a), _ranks(mean_b))[0, 1]),
        len(best[0] & best[1]) / n_top,
    )


def _item_means(model: LearnedUsers, n_people: int) -> np.ndarray:
    """Returns what is expected of every item, on average over people (n_items,)."""
    n = len(model.servable)
    people = model.servable[np.linspace(0, n - 1, min(n_people, n)).astype(np.int64)]
    parts = np.array_split(people, max(1, len(people) // 32))
    totals = [model.means_of_all(part).mean(axis=2).sum(axis=0) for part in parts]  # (n_items,) each
    return np.asarray(np.sum(totals, axis=0) / len(people))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks (n,), those of ties averaged."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[place])
