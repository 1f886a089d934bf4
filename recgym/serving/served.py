"""A scorer as it is served: its items by the ids that JSON can say, filters on their features, lists and reasons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError, RecgymError
from recgym.evaluation.scoring import as_scores, best_lists, padded
from recgym.frames import History
from recgym.options import nearest
from recgym.rewards import check_ratings, transform_rewards
from recgym.scorers import Popularity, check_scorer
from recgym.serving.exploring import Explorer, Shown


class Asked(NamedTuple):
    """One list that is asked for, in a served scorer's own indices."""

    served: Served
    items: list[int]  # the history, oldest first
    rewards: list[float]
    user: int  # the scorer's own index, -1 for nobody it knows
    k: int
    allowed: np.ndarray | None  # (n_items,) bool: what may be listed beside all else; None: all
    exclude_seen: bool
    explorer: Explorer | None  # draws the list and tells its propensities; None: the best


class Listed(NamedTuple):
    """One list, best first."""

    items: np.ndarray  # (n,) int64 item indices, n at most k
    scores: np.ndarray  # (n,) float
    shown: Shown  # how likely that was
    n_allowed: int  # items it was chosen from


class Served:
    """What one process serves: a scorer with what is known of its items; it is never changed, only replaced.

    Args:
        scorer: What ranks the items.
        about: What is to be told of it, as JSON values.

    Attributes:
        item_ids: Outside ids (n_items,), as a list.
        catalog: The scorer's catalog, or None.
        popularity: Events of each item (n_items,) in the log it learned from, or None.
        mark: 16 hexadecimal digits that tell it from others.

    Raises:
        DataError: if `scorer` is none.
    """

    def __init__(self, scorer: Any, about: Mapping[str, Any] | None = None) -> None:
        check_scorer(scorer)
        self.scorer, self.about = scorer, dict(about or {})
        self.item_ids: list[Any] = np.asarray(scorer.item_ids).tolist()
        self.reward: str = scorer.reward
        self.catalog = getattr(scorer, "catalog", None)
        known = getattr(scorer, "popularity", None)
        self.popularity = None if known is None else np.asarray(known)
        told = json.dumps([self.about, self.item_ids[:100], len(self.item_ids)], sort_keys=True, default=str)
        self.mark = hashlib.sha256(told.encode()).hexdigest()[:16]
        self._index_of = {item_id: index for index, item_id in enumerate(self.item_ids)}

    @property
    def n_items(self) -> int:
        """Number of items; also the index of padding."""
        return len(self.item_ids)

    @cached_property
    def titles(self) -> list[str] | None:
        """Titles (n_items,), or None."""
        found = getattr(self.catalog, "titles", None)
        return None if found is None else [str(title) for title in found]

    @cached_property
    def _by_text(self) -> dict[str, int]:
        """Item index by its id as text; ids that read alike are left out."""
        places: dict[str, int] = {}
        twice = set()
        for index, item_id in enumerate(self.item_ids):
            if places.setdefault(str(item_id), index) != index:
                twice.add(str(item_id))
        return {text: index for text, index in places.items() if text not in twice}

    @cached_property
    def _users(self) -> dict[Any, int]:
        theirs = getattr(self.scorer, "user_ids", None)
        return {} if theirs is None else {one: place for place, one in enumerate(np.asarray(theirs).tolist())}

    def find(self, item_id: Any) -> int | None:
        """Returns the index of an id, or None; what is no id itself is looked for as text, as JSON's "50" for 50."""
        found = self._index_of.get(item_id)
        return self._by_text.get(str(item_id)) if found is None else found

    def user(self, user_id: Any) -> int:
        """Returns the scorer's own index of a user, -1 where it has none."""
        return -1 if user_id is None else self._users.get(user_id, -1)

    def rewards(self, ratings: Sequence[Any]) -> list[float]:
        """Returns the rewards of ratings as a source file has them; None is that of a liked item.

        Raises:
            DataError: if a rating is none that the log's transform takes.
        """
        if not ratings:
            return []
        liked = liked_rating(self.reward)
        given = [liked if rating is None else rating for rating in ratings]
        labels = self.reward.startswith("label:")
        wrong = [one for one in given if isinstance(one, str) != labels]
        if wrong:
            what = "labels" if labels else "numbers"
            raise DataError(
                f"ratings must be {what}, got {wrong[0]!r} ({len(wrong)} of {len(given)}); this run was trained with "
                f"rewards {self.reward!r}"
            )
        check_ratings(given, self.reward, "every rating")
        found: list[float] = transform_rewards(given, self.reward).tolist()
        return found

    # -- which items may be listed -------------------------------------------------------------------------------------

    def allowed(
        self, exclude: Sequence[int], candidates: Sequence[int] | None, where: Mapping[str, Any]
    ) -> np.ndarray | None:
        """Returns which items a request leaves (n_items,) bool, or None where it leaves all.

        Raises:
            DataError: if a filter names a feature that the items do not have, or asks for what it cannot hold.
        """
        if not exclude and candidates is None and not where:
            return None
        left = np.ones(self.n_items, dtype=bool)
        if candidates is not None:
            left[:] = False
            left[list(candidates)] = True
        left[list(exclude)] = False
        for name, wanted in where.items():
            left &= self._having(name, wanted)
        return left

    def _having(self, name: str, wanted: Any) -> np.ndarray:
        """Returns which items have a feature (n_items,) bool."""
        features = getattr(self.catalog, "features", {})
        if name not in features:
            has = nearest(name, list(features)) or (
                f"they have {', '.join(features)}" if features else "they have none"
            )
            raise DataError(f"where must name features of the items, got {name!r}; {has}")
        column = np.asarray(features[name])
        if column.ndim > 1:
            raise DataError(f"where must name features of one value, got {name!r} of {column.shape[1]}; use candidates")
        is_number = column.dtype.kind in "biuf"
        if isinstance(wanted, dict):
            if not is_number:
                raise DataError(
                    f"min and max must be of a feature of numbers, got {name!r}, which is text; name values"
                )
            return (column >= wanted.get("min", -np.inf)) & (column <= wanted.get("max", np.inf))
        values = wanted if isinstance(wanted, list) else [wanted]
        if is_number != all(not isinstance(value, str) for value in values):
            kind = "numbers" if is_number else "text"
            raise DataError(f"where[{name!r}] must be {kind}, got {values[0]!r}; give values as the items have them")
        if is_number:
            return np.isin(column, values)
        parts = {text for text in np.unique(column.astype(str)).tolist() if set(text.split("|")) & {*values}}
        return np.isin(column.astype(str), [*parts, *values])

    def search(self, query: str, limit: int) -> list[int]:
        """Returns items whose title (or id) holds every word of a query, more popular first."""
        words = query.casefold().split()
        found = [index for index, text in enumerate(self._searched) if all(word in text for word in words)]
        fame = self.popularity
        return sorted(found, key=lambda index: 0.0 if fame is None else -float(fame[index]))[:limit]

    @cached_property
    def _searched(self) -> list[str]:
        return [text.casefold() for text in self.titles or map(str, self.item_ids)]

    # -- what is told of them ------------------------------------------------------------------------------------------

    def title(self, index: int) -> str | None:
        """Returns the title of an item, or None."""
        return None if self.titles is None else self.titles[index]

    def reasons(self, items: Sequence[int], history: Sequence[int], rewards: Sequence[float]) -> list[int | None]:
        """Returns for each item the nearest one of the history by the cosine of their vectors, a liked one if any."""
        liked = [item for item, reward in zip(history, rewards, strict=True) if reward > 0] or list(history)
        if self.catalog is None or not liked:
            return [None] * len(items)
        vectors = np.asarray(self.catalog.embeddings)
        norms = np.linalg.norm(vectors[liked], axis=1) + 1e-12
        nearest_of = (vectors[list(items)] @ vectors[liked].T / norms).argmax(axis=1)  # (n,)
        return [liked[place] for place in nearest_of.tolist()]

    @cached_property
    def by_popularity(self) -> Served | None:
        """Returns the same items ranked by popularity, or None where the scorer does not know it."""
        if self.popularity is None:
            return None
        made = Popularity(np.asarray(self.scorer.item_ids), self.popularity, self.reward)
        made.catalog = self.catalog  # type: ignore[attr-defined]  # for titles and features
        return Served(made, {"agent": "popularity", "of": self.mark})


def liked_rating(reward: str) -> Any:
    """Returns the rating that stands for "liked" where a request gives none: the best the transform names, or 5, or 1.

    Example:
        >>> liked_rating("scaled"), liked_rating("binary:4"), liked_rating("label:pv=1,buy=3"), liked_rating("raw")
        (5.0, 4.0, 'buy', 1.0)
    """
    kind, _, argument = reward.partition(":")
    if kind in ("scaled", "recnn"):
        return float(argument or 5)
    if kind in ("binary", "sign"):
        return float(argument)
    if kind == "label":
        return max((pair.split("=") for pair in argument.split(",")), key=lambda pair: float(pair[1]))[0].strip()
    return 1.0


def rank(asked: Sequence[Asked]) -> list[Listed | RecgymError]:
    """Returns a list for each, those of one scorer scored together; what cannot be made is an error in its place."""
    made: list[Listed | RecgymError | None] = [None] * len(asked)
    for served in {id(one.served): one.served for one in asked}.values():
        rows = [row for row, one in enumerate(asked) if one.served is served]
        for row, listed in zip(rows, _ranked(served, [asked[row] for row in rows]), strict=True):
            made[row] = listed
    return [one for one in made if one is not None]


def _ranked(served: Served, asked: list[Asked]) -> list[Listed | RecgymError]:
    known = any(one.user >= 0 for one in asked)
    users = np.array([one.user for one in asked], dtype=np.int64) if known else None
    history = padded([(one.items, one.rewards) for one in asked], served.n_items, users)
    try:
        scores = as_scores(served.scorer.scores(history), len(asked), served.n_items)
    except RecgymError as error:
        if len(asked) == 1:
            return [error]
        return [_ranked(served, [one])[0] for one in asked]  # who is at fault is told so, and nobody else
    allowed = np.ones(scores.shape, dtype=bool)
    for row, one in enumerate(asked):
        if one.allowed is not None:
            allowed[row] = one.allowed
        if one.exclude_seen:
            allowed[row, one.items] = False
    n_allowed = [int(np.count_nonzero(row)) for row in allowed]
    k = [min(one.k, n) for one, n in zip(asked, n_allowed, strict=True)]
    best = [row for row, one in enumerate(asked) if one.explorer is None]
    chosen = slice(None) if len(best) == len(asked) else best  # without a copy
    lists = best_lists(scores[chosen], allowed[chosen], [k[row] for row in best], served.popularity, errors=True)
    found: dict[int, Any] = dict(zip(best, lists, strict=True))
    return [
        _listed(one, row_scores, may, *amounts, found.get(row))
        for row, (one, row_scores, may, amounts) in enumerate(
            zip(asked, scores, allowed, zip(k, n_allowed, strict=True), strict=True)
        )
    ]


def _listed(
    asked: Asked, scores: np.ndarray, allowed: np.ndarray, k: int, n_allowed: int, best: Any
) -> Listed | RecgymError:
    """Returns one list: the `best` that was found, or what is drawn."""
    if isinstance(best, RecgymError):
        return best
    items, shown = best, Shown.certain(k)
    try:
        if asked.explorer is not None:
            items, shown = asked.explorer.draw(scores, allowed, k) if k else (np.zeros(0, dtype=np.int64), shown)
    except RecgymError as error:
        return error
    return Listed(items, scores[items], shown, n_allowed)


class OwnUsers:
    """A served scorer for a log of what was served: sessions of the log become the scorer's own users.

    Args:
        scorer: What ranks the items.
        user_ids: Outside ids of the people of the log's sessions (n,), by session.
    """

    def __init__(self, scorer: Any, user_ids: Sequence[Any]) -> None:
        self.scorer, self.item_ids, self.reward = scorer, scorer.item_ids, scorer.reward
        served = Served(scorer)
        self._own = np.array([served.user(one) for one in user_ids], dtype=np.int64)

    def scores(self, history: History) -> Any:
        """Returns the scorer's scores (B, n_items) of the people whose sessions these are."""
        return self.scorer.scores(history._replace(user=self._own[np.asarray(history.user)]))
