"""From a scorer to scores one can rank, from scores to lists, and the list for one user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.metrics import check_scores
from recgym.policies import Scorer, check_scorer, kind_of
from recgym.rewards import transform_rewards

ScoreFunction = Callable[[History], Any]


def score_function(scorer: Scorer | ScoreFunction, item_ids: np.ndarray, reward: str, name: str) -> ScoreFunction:
    """Returns the function to ask, after checking that a scorer speaks of the same items and rewards."""
    if not isinstance(scorer, Scorer):
        if not callable(scorer) or isinstance(scorer, type):
            raise DataError(
                f"a scorer must have item_ids, reward and scores(history), or be a function of a history, "
                f"got {kind_of(scorer)}; give one of the two"
            )
        return scorer
    theirs = np.asarray(scorer.item_ids)
    if not np.array_equal(theirs, item_ids):
        raise DataError(
            f"the scorer must rank the items of {name!r} in the same order, got {len(theirs)} item ids against "
            f"{len(item_ids)} ({_n_different(theirs, item_ids)} places differ); split one log, so that indices agree"
        )
    if scorer.reward != reward:
        raise DataError(
            f"the scorer must know rewards as {name!r} has them, got {scorer.reward!r} against {reward!r}; "
            f"load both with the same reward transform"
        )
    return scorer.scores


def _n_different(a: np.ndarray, b: np.ndarray) -> int:
    shared = min(len(a), len(b))
    return int(np.count_nonzero(a[:shared] != b[:shared])) + abs(len(a) - len(b))


def as_scores(scores: Any, n_rows: int, n_items: int) -> np.ndarray:
    """Returns NumPy scores (B, n_items), a torch tensor brought to the host; NaN and plus infinity are refused."""
    array = np.asarray(scores.detach().cpu() if hasattr(scores, "detach") else scores)
    if array.shape != (n_rows, n_items):
        raise DataError(
            f"scores must have shape ({n_rows}, {n_items}), one row per history and one column per item, "
            f"got {array.shape}; mend the scorer"
        )
    check_scores(array)
    return array


def unseen_items(items: np.ndarray, n_items: int) -> np.ndarray:
    """Returns which items are not in each history (B, n_items) bool, writable."""
    unseen = np.ones((len(items), n_items + 1), dtype=bool)  # the last column takes the padding
    np.put_along_axis(unseen, np.asarray(items, dtype=np.int64), False, axis=1)
    return unseen[:, :n_items]


def top_items(scores: np.ndarray, allowed: np.ndarray, k: int, keys: np.ndarray | None = None) -> np.ndarray:
    """Returns the k allowed items of highest score per row, best first (B, k) int64; n_items where fewer are allowed.

    Args:
        scores: Scores (B, n_items); minus infinity is the lowest score, not a ban.
        allowed: Which items may be listed (B, n_items) bool.
        k: Length of the lists.
        keys: Seeds (B, m) of chance among the equal scores that a list's end cuts through; None takes the lowest index.
    """
    n_items = scores.shape[1]
    k_found = min(k, n_items)
    values = scores.astype(np.result_type(scores.dtype, np.float32), copy=False)
    values = np.where(allowed, np.maximum(values, np.finfo(values.dtype).min), -np.inf)  # (B, n_items)
    cut = np.partition(values, n_items - k_found, axis=1)[:, n_items - k_found]  # (B,) the k-th largest
    lists = np.full((len(values), k), n_items, dtype=np.int64)
    for row, (value, lowest) in enumerate(zip(values, cut, strict=True)):
        best = np.flatnonzero(value > lowest)
        listed = [best[np.argsort(-value[best], kind="stable")]]
        if lowest > -np.inf:
            equal = np.flatnonzero(value == lowest)
            if keys is not None and len(equal) > k_found - len(best):
                equal = np.random.default_rng(keys[row]).permutation(equal)
            listed.append(equal[: k_found - len(best)])
        found = np.concatenate(listed)
        lists[row, : len(found)] = found
    return lists


def recommend(
    scorer: Scorer, history: Sequence[tuple[Any, float]] = (), k: int = 10, *, exclude_seen: bool = True
) -> list[Any]:
    """Returns the ids of the k items a scorer puts first for one user, best first.

    Args:
        scorer: What ranks the items.
        history: The user's past, oldest first: pairs of item id and rating as in the source file. May be short or emp
        k: Length of the list.
        exclude_seen: Whether items of the history are left out.

    Raises:
        DataError: if the scorer is none, an item id is unknown to it, k is out of range, or scores are NaN or have a
            wrong shape.

    Example:
        >>> from recgym.policies import Popularity
        >>> recommend(Popularity(np.array(["a", "b", "c"]), np.array([5, 9, 7])), [("b", 4.0)], k=2)
        ['c', 'a']
    """
    check_scorer(scorer)
    item_ids = np.asarray(scorer.item_ids).tolist()
    index_of = {item_id: index for index, item_id in enumerate(item_ids)}
    unknown = [item_id for item_id, _ in history if item_id not in index_of]
    if unknown:
        raise DataError(
            f"every item of the history must be one the scorer knows, got {len(unknown)} of {len(history)} unknown, "
            f"e.g. {unknown[:3]!r}; leave them out or fit on a log that has them"
        )
    n_items, length = len(item_ids), len(history)
    items = np.full((1, max(length, 1)), n_items, dtype=np.int32)
    rewards = np.zeros(items.shape, dtype=np.float32)
    if length:
        items[0] = [index_of[item_id] for item_id, _ in history]
        rewards[0] = transform_rewards([rating for _, rating in history], scorer.reward)
    allowed = unseen_items(items, n_items) if exclude_seen else np.ones((1, n_items), dtype=bool)
    if not 1 <= k <= allowed.sum():
        raise DataError(f"k must be between 1 and the {allowed.sum()} items left to recommend, got {k}; ask for fewer")
    scores = as_scores(scorer.scores(History(items, rewards, np.array([length]))), 1, n_items)
    return [item_ids[item] for item in top_items(scores, allowed, k)[0]]
