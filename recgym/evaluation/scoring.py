"""From a scorer to scores one can rank, from scores to lists, and the list for one user."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.evaluation.metrics import check_scores
from recgym.frames import History
from recgym.options import check_choice
from recgym.rewards import check_ratings, transform_rewards
from recgym.scorers import Scorer, check_scorer, kind_of

ScoreFunction = Callable[[History], Any]
_GROUP = 32  # items that the search for the highest scores looks at together


def score_function(
    scorer: Scorer | ScoreFunction, item_ids: np.ndarray, reward: str, name: str, user_ids: np.ndarray | None = None
) -> ScoreFunction:
    """Returns the function to ask, after checking that a scorer speaks of the same items and rewards.

    A scorer that knows users by their ids (`user_ids`) is told its own index of a user, not that of this log: whoever
    it does not know is nobody to it.
    """
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
    own = None if user_ids is None else own_users(scorer, user_ids)
    if own is None:
        return scorer.scores
    return lambda history: scorer.scores(
        history if history.user is None else history._replace(user=own[np.asarray(history.user)])
    )


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
    scorer: Scorer,
    history: Sequence[tuple[Any, float]] = (),
    k: int = 10,
    *,
    user: Any = None,
    exclude_seen: bool = True,
    exclude: Sequence[Any] = (),
    candidates: Sequence[Any] | None = None,
    unknown: str = "error",
    with_scores: bool = False,
) -> list[Any]:
    """Returns the ids of the k items a scorer puts first for one user, best first.

    Items of equal scores stand in the order of the scorer's `popularity`, where it knows that.

    Args:
        scorer: What ranks the items.
        history: The user's past, oldest first: pairs of item id and rating as in the source file. May be short or
            empty; of a person without a past an agent trained by `fit` gives what was popular in its log.
        k: Length of the list.
        user: Outside id of the user, for agents that have vectors for users; all others do not look at it.
        exclude_seen: Whether items of the history are left out.
        exclude: Ids of other items to leave out; those the scorer does not know are out anyway.
        candidates: Ids of the items to choose from; None means all.
        unknown: What becomes of items of history or candidates that the scorer does not know: `"error"`, or `"skip"`,
            which leaves them out and warns of how many there were.
        with_scores: Whether to return pairs of id and score.

    Raises:
        DataError: if the scorer is none, a history is no list of pairs, an item id is unknown to the scorer, a rating
            cannot stand in its log (see `recgym.rewards.check_ratings`), k is out of range, scores are NaN or have a
            wrong shape, or all are equal and nothing says which item is popular.

    Example:
        >>> from recgym.scorers import Popularity
        >>> recommend(Popularity(np.array(["a", "b", "c"]), np.array([5, 9, 7])), [("b", 4.0)], k=2)
        ['c', 'a']
    """
    options: dict[str, Any] = {"exclude_seen": exclude_seen, "exclude": exclude, "candidates": candidates}
    users = None if user is None else [user]
    options |= {"unknown": unknown, "with_scores": with_scores}
    return recommend_batch(scorer, [history], k, users=users, **options)[0]


def recommend_batch(
    scorer: Scorer,
    histories: Sequence[Sequence[tuple[Any, float]]],
    k: int = 10,
    *,
    users: Sequence[Any] | None = None,
    exclude_seen: bool = True,
    exclude: Sequence[Any] = (),
    candidates: Sequence[Any] | None = None,
    unknown: str = "error",
    with_scores: bool = False,
) -> list[list[Any]]:
    """Returns what `recommend` does for B users at once, a list each: the scorer is asked one time.

    Args:
        scorer: What ranks the items.
        histories: A past for each user, as of `recommend`.
        k: Length of the lists.
        users: Outside ids of the users (B,), or None.
        exclude_seen: Whether items of a history are left out of its list.
        exclude: As of `recommend`, for all.
        candidates: As of `recommend`, for all.
        unknown: As of `recommend`.
        with_scores: Whether to return pairs of id and score.

    Raises:
        DataError: as `recommend`.
    """
    check_scorer(scorer)
    check_choice("unknown", unknown, ("error", "skip"))
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise DataError(f"k must be a whole number, got {k!r}; give the length of the list")
    item_ids = np.asarray(scorer.item_ids).tolist()
    index_of = {item_id: index for index, item_id in enumerate(item_ids)}
    past = [_known(_pairs(history), index_of, unknown, "the history") for history in histories]
    n_items = len(item_ids)
    allowed = np.ones((len(past), n_items), dtype=bool)
    if candidates is not None:
        chosen = _known([(item_id, 0.0) for item_id in candidates], index_of, unknown, "the candidates")
        allowed[:] = False
        allowed[:, [index for index, _ in chosen]] = True
    allowed[:, [index_of[item_id] for item_id in exclude if _is_in(item_id, index_of)]] = False
    pasts = [([item for item, _ in one], _rewards([rating for _, rating in one], scorer.reward)) for one in past]
    history = padded(pasts, n_items, _indices_of(users, scorer, len(past)))
    if exclude_seen:
        allowed &= unseen_items(history.items, n_items)
    fewest = int(allowed.sum(axis=1).min(initial=n_items))
    if not 1 <= k <= fewest:
        raise DataError(f"k must be between 1 and the {fewest} items left to recommend, got {k}; ask for fewer")
    scores = as_scores(scorer.scores(history), len(past), n_items)
    popularity = getattr(scorer, "popularity", None)
    lists = best_lists(scores, allowed, [k] * len(past), popularity)
    if with_scores:
        return [[(item_ids[item], float(row[item])) for item in best] for row, best in zip(scores, lists, strict=True)]
    return [[item_ids[item] for item in best] for best in lists]


def best_lists(
    scores: np.ndarray, allowed: np.ndarray, k: Sequence[int], popularity: Any, errors: bool = False
) -> list[Any]:
    """Returns of each row (B, n_items) the k allowed items of highest score (k,), best first.

    Of equal ones the more popular comes first, then the lower.

    Args:
        scores: Scores (B, n_items), finite.
        allowed: Which may be listed (B, n_items) bool.
        k: How many of each row (B,), at most as many as are allowed.
        popularity: Events of each item (n_items,), or None.
        errors: Whether a row's error stands in its place rather than being raised.

    Raises:
        DataError: if all scores of a row are equal and nothing says which item is popular.
    """
    lists: list[Any] = []
    for row, items in enumerate(_near_the_top(scores, allowed, max(k, default=0))):
        try:
            lists.append(_best(scores[row], items, k[row], popularity, allowed[row]))
        except DataError as error:
            if not errors:
                raise
            lists.append(error)
    return lists


def _best(scores: np.ndarray, items: np.ndarray, k: int, popularity: Any, allowed: np.ndarray) -> np.ndarray:
    """Returns the k best of `items`, which are in index order and hold them with all ties."""
    values = scores[items]
    if popularity is None and len(items) > k and values.min() == values.max() and items.size == allowed.sum():
        raise DataError(
            f"scores must tell items apart, got {values[0]:g} for all {len(items)} that may be recommended; give a "
            "history, or a scorer that knows what is popular (an agent trained by agents.fit does)"
        )
    if len(items) > k > 0:
        cut = np.partition(values, len(items) - k)[len(items) - k]
        items, values = items[values >= cut], values[values >= cut]
    by_fame = np.zeros(len(items)) if popularity is None else -np.asarray(popularity)[items]
    return items[np.lexsort((by_fame, -values))[:k]]  # a stable sort: what is left goes by index


def _near_the_top(scores: np.ndarray, allowed: np.ndarray, k: int) -> list[np.ndarray]:
    """Returns for each row a few of the allowed items, in index order: the k of highest score with all ties, and more.

    The k-th largest of the largest scores of many groups of items is no larger than the k-th largest score. All rows at
    once: a thread that serves gives way to others at every NumPy call, and waits for its turn.
    """
    n_rows, n_items = scores.shape
    n_groups = n_items // _GROUP
    may = allowed
    if n_groups > 4 * k > 0:
        values = np.where(allowed, scores, -np.inf)
        largest = values[:, : n_groups * _GROUP].reshape(n_rows, _GROUP, n_groups).max(axis=1)
        bound = np.partition(largest, n_groups - k, axis=1)[:, n_groups - k]
        may = (values >= bound[:, None]) & allowed
    places = np.flatnonzero(may)
    ends = np.searchsorted(places, np.arange(1, n_rows) * n_items)
    return [part % n_items for part in np.split(places, ends)] if n_rows else []


def _pairs(history: Any) -> list[tuple[Any, Any]]:
    """Returns a history as pairs of id and rating."""
    pairs = list(history)
    wrong = [one for one in pairs if isinstance(one, str | bytes) or not hasattr(one, "__len__") or len(one) != 2]
    if wrong:
        raise DataError(
            f"a history must be pairs of item id and rating, got {wrong[0]!r} ({len(wrong)} of {len(pairs)} entries); "
            "give e.g. [(50, 4.0), (172, 5.0)]"
        )
    return [(item_id, rating) for item_id, rating in pairs]


def _is_in(item_id: Any, index_of: dict[Any, int]) -> bool:
    try:
        return item_id in index_of
    except TypeError:  # no id at all: it has no hash
        return False


def _known(pairs: list[tuple[Any, Any]], index_of: dict[Any, int], unknown: str, where: str) -> list[tuple[int, Any]]:
    """Returns pairs with item indices for ids; those of unknown items are an error or are skipped, and counted."""
    lacking = [item_id for item_id, _ in pairs if not _is_in(item_id, index_of)]
    if lacking:
        found = f"{len(lacking)} of {len(pairs)} unknown, e.g. {lacking[:3]!r}"
        if unknown == "error":
            raise DataError(
                f"every item of {where} must be one the scorer knows, got {found}; leave them out, pass "
                "unknown='skip' or fit on a log that has them"
            )
        warnings.warn(f"items of {where} were skipped: {found}", UserWarning, stacklevel=4)
    return [(index_of[item_id], rating) for item_id, rating in pairs if _is_in(item_id, index_of)]


def padded(pasts: Sequence[tuple[Sequence[int], Any]], n_items: int, user: np.ndarray | None) -> History:
    """Returns B pasts, each item indices and rewards, as arrays padded on the left."""
    length = np.array([len(indices) for indices, _ in pasts], dtype=np.int64)
    items = np.full((len(pasts), max(int(length.max(initial=0)), 1)), n_items, dtype=np.int32)
    rewards = np.zeros(items.shape, dtype=np.float32)
    for row, (indices, worth) in enumerate(pasts):
        if len(indices):
            items[row, -len(indices) :], rewards[row, -len(indices) :] = indices, worth
    return History(items, rewards, length, user)


def _rewards(ratings: list[Any], reward: str) -> np.ndarray:
    """Returns the rewards of ratings as one would type them."""
    if not ratings:
        return np.zeros(0, dtype=np.float32)
    check_ratings(ratings, reward, "every rating of a history")
    return transform_rewards(ratings, reward)


def _indices_of(users: Sequence[Any] | None, scorer: Any, n: int) -> np.ndarray | None:
    """Returns the scorer's own indices (B,) of users, -1 of those it does not know; None if it knows no users."""
    if users is None:
        return None
    if len(users) != n:
        raise DataError(f"users must be one per history, got {len(users)} for {n} histories; align them")
    return own_users(scorer, np.fromiter(users, dtype=object, count=n))


def own_users(scorer: Any, user_ids: np.ndarray) -> np.ndarray | None:
    """Returns a scorer's own indices (n,) int64 of outside user ids, -1 of unknown ones; None if it knows no users."""
    theirs = getattr(scorer, "user_ids", None)
    if theirs is None:
        return None
    places = {user_id: place for place, user_id in enumerate(np.asarray(theirs).tolist())}
    return np.array([places.get(user_id, -1) for user_id in user_ids.tolist()], dtype=np.int64)
