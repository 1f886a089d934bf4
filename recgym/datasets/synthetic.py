"""The embedded default log: people with known tastes meet a catalog with a long tail, and leave one to five stars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards
from recgym.rng import normals, uniforms

GENRES = (
    *("action", "adventure", "animation", "comedy", "crime", "documentary", "drama", "family"),
    *("fantasy", "history", "horror", "music", "mystery", "romance", "thriller", "western"),
)
FIRST_ITEM_ID, FIRST_USER_ID = 10_001, 1_001  # ids differ from indices, so that mixing them up shows
_DIM = 16  # width of tastes and item vectors
_FOCUS = 0.6  # share of choices from the genre a person is presently interested in
_JUMP = 0.12  # chance per choice that this interest moves on
_APPETITE = 1.2  # how strongly taste decides which item of a genre is chosen
_NOISE = 0.6  # standard deviation of a rating given taste
_BLOCK = 1024  # users whose choice weights are in memory at a time
_EPOCH = 1_420_070_400  # 1 January 2015, seconds since 1970
_STREAMS = ("genre", "second", "vector", "quality", "fame", "taste", "mood", "activity", "start", "jump", "focus")
_EVENTS = ("source", "own", "item", "gap", "rating", "again", "back")  # the last two are the shop's
STREAM = {name: number for number, name in enumerate((*_STREAMS, *_EVENTS))}


@dataclass(frozen=True, eq=False)
class SyntheticTruth:
    """What made a synthetic log: the tastes, the items and the law of choice; the key to check answers with.

    At each choice a person's *focus* genre stays, or moves (probability 0.12) to a genre drawn from his interests. With
    probability 0.6 he chooses within the focus, else within a genre drawn from his interests; within a genre he takes
    item i in proportion to `fame[i] * exp(1.2 * tastes[u] @ vectors[i])`, never twice the same. He then gives
    `2.8 + mood[u] + 0.3 * quality[i] + 0.7 * tastes[u] @ vectors[i]` stars, plus normal noise of deviation 0.6, rounded
    and clipped to 1 to 5.

    Attributes:
        tastes: (n_users, 16).
        vectors: Items (n_items, 16), norms about 1; they lie near the centres of their one or two genres.
        quality: (n_items,) standard normal.
        fame: (n_items,) weights with a long tail; good items are a little more famous.
        mood: (n_users,) what a person adds to every rating.
        interests: Share of each genre in what a person turns to (n_users, n_genres).
        genre: First genre of each item (n_items,) int64.
        genres: Which genres an item has (n_items, n_genres) bool.
        focus: Focus genre at each event of the log (n_events,) int8.
    """

    tastes: np.ndarray
    vectors: np.ndarray
    quality: np.ndarray
    fame: np.ndarray
    mood: np.ndarray
    interests: np.ndarray
    genre: np.ndarray
    genres: np.ndarray
    focus: np.ndarray

    def expected_stars(self, users: Any) -> np.ndarray:
        """Returns the stars each user would give each item on average (m, n_items), rounding and clipping included."""
        from scipy.special import ndtr

        mean = self.mean_stars(users)
        passed = ndtr((mean[..., None] - np.array([1.5, 2.5, 3.5, 4.5])) / _NOISE)  # (m, n_items, 4) chance of more
        return np.asarray(1.0 + passed.sum(axis=-1))

    def mean_stars(self, users: Any) -> np.ndarray:
        """Returns the rating each user would give each item before noise, rounding and clipping (m, n_items)."""
        users = np.asarray(users)
        return 2.8 + self.mood[users, None] + 0.3 * self.quality + 0.7 * (self.tastes[users] @ self.vectors.T)

    def best_items(self, users: Any, k: int = 10) -> np.ndarray:
        """Returns the k items each user would rate highest (m, k), best first: what a perfect recommender shows."""
        return np.argsort(-self.mean_stars(users), axis=1, kind="stable")[:, :k]

    def choice_probabilities(self, users: Any, focus: Any = None) -> np.ndarray:
        """Returns the probability that each user's next choice is each item (m, n_items), before leaving out seen ones.

        Args:
            users: User indices (m,).
            focus: The focus genre of each (m,), or None for not knowing it.
        """
        users = np.asarray(users)
        share = self.interests[users]  # (m, G)
        if focus is not None:
            share = (1.0 - _FOCUS) * share
            share[np.arange(len(users)), np.asarray(focus)] += _FOCUS
        weights = self.choice_weights(users)  # (m, n_items)
        inside = weights @ np.eye(share.shape[1])[self.genre]  # (m, G) weight of each genre
        return weights * (share / inside)[:, self.genre]

    def choice_weights(self, users: Any) -> np.ndarray:
        """Returns how readily each user takes each item among those of its genre (m, n_items), up to a factor."""
        return self.fame * np.exp(_APPETITE * (self.tastes[np.asarray(users)] @ self.vectors.T))


def synthetic(n_users: int = 5000, n_items: int = 2000, seed: int = 0, reward: str = "scaled") -> InteractionLog:
    """Returns a generated log with known truth: long-tailed items and activity, genres, tastes, 1 to 5 stars.

    The numbers come from recgym's own counter-based generator, so a seed means the same log with every NumPy.

    Args:
        n_users: How many people, at least 1. Each has 20 events or more, 70 on average (fewer in a small catalog).
        n_items: How many items, at least 32.
        seed: Which world.
        reward: Name of the reward transform (see `transform_rewards`).

    Raises:
        DataError: if a size is too small.

    Example:
        >>> log = synthetic(n_users=100, n_items=50)
        >>> log.n_users, log.n_items, log.titles[0]
        (100, 50, 'action 10001')
    """
    return _generate(n_users, n_items, seed, reward)[0]


def synthetic_truth(n_users: int = 5000, n_items: int = 2000, seed: int = 0) -> SyntheticTruth:
    """Returns what made the log `synthetic(n_users, n_items, seed)`; its events and `focus` are in the same order."""
    return _generate(n_users, n_items, seed, "raw")[1]


def _generate(n_users: int, n_items: int, seed: int, reward: str) -> tuple[InteractionLog, SyntheticTruth]:
    if n_users < 1 or n_items < 2 * len(GENRES):
        given = f"n_users={n_users}, n_items={n_items}"
        raise DataError(f"n_users must be at least 1 and n_items at least {2 * len(GENRES)}, got {given}; ask for more")
    truth = _world(n_users, n_items, seed)
    offsets, items, focus, times = _choices(truth, seed)
    users = np.repeat(np.arange(n_users), np.diff(offsets))
    taste = (truth.tastes[users] * truth.vectors[items]).sum(axis=1)  # (n_events,)
    mean = 2.8 + truth.mood[users] + 0.3 * truth.quality[items] + 0.7 * taste
    stars = np.clip(np.rint(mean + _NOISE * normals(seed, len(items), STREAM["rating"])), 1, 5)
    item_ids = np.arange(FIRST_ITEM_ID, FIRST_ITEM_ID + n_items)
    possible = transform_rewards([1, 2, 3, 4, 5], reward)
    titles = [f"{GENRES[genre]} {item_id}" for genre, item_id in zip(truth.genre, item_ids, strict=True)]
    log = InteractionLog(
        items=items.astype(np.int32),
        rewards=transform_rewards(stars, reward),
        times=times,
        offsets=offsets,
        user_ids=np.arange(FIRST_USER_ID, FIRST_USER_ID + n_users),
        item_ids=item_ids,
        titles=np.array(titles, dtype=object),
        item_features={"genre": np.array(GENRES)[truth.genre], "genres": truth.genres},
        reward=reward,
        reward_range=(float(possible.min()), float(possible.max())),
        name="synthetic",
    )
    return log, replace(truth, focus=focus)


def _world(n_users: int, n_items: int, seed: int) -> SyntheticTruth:
    """Returns the truth but for the focus of each event."""
    n_genres = len(GENRES)

    def normal(name: str, *shape: int) -> np.ndarray:
        return normals(seed, int(np.prod(shape)), STREAM[name]).reshape(shape)

    genre = (n_genres * uniforms(seed, n_items, STREAM["genre"]) ** 1.3).astype(np.int64)
    genre[:n_genres] = np.arange(n_genres)  # no genre is empty
    second = (n_genres * uniforms(seed, 2 * n_items, STREAM["second"])).astype(np.int64)
    second = np.where(second[:n_items] < n_genres // 2, second[n_items:], genre)  # half have two, at most
    genres = np.zeros((n_items, n_genres), dtype=bool)
    genres[np.arange(n_items), genre] = genres[np.arange(n_items), second] = True
    noise = normal("vector", n_genres + n_items, _DIM)
    centres = _unit_rows(noise[:n_genres])
    vectors = _unit_rows(0.5 * (centres[genre] + centres[second]) + 0.6 * _unit_rows(noise[n_genres:]))
    quality = normal("quality", n_items)
    rank = np.argsort(np.argsort(-(0.5 * quality + normal("fame", n_items)), kind="stable"), kind="stable")
    fame = (rank + 5.0 + n_items / 200) ** -1.0
    tastes = normal("taste", n_users, _DIM)
    pull = np.exp(1.3 * tastes @ centres.T)
    interests = pull / pull.sum(axis=1, keepdims=True)
    mood = 0.3 * normal("mood", n_users)
    nothing = np.empty(0, dtype=np.int8)
    return SyntheticTruth(tastes, vectors, quality, fame, mood, interests, genre, genres, nothing)


def _choices(truth: SyntheticTruth, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns (offsets, items, focus, times): what everyone chose, drawn as `SyntheticTruth` says."""
    n_users, n_items = len(truth.tastes), len(truth.vectors)
    most = max(n_items // 4, min(20, n_items // 2))
    wanted = np.minimum(20 + np.exp(3.4 + normals(seed, n_users, STREAM["activity"])).astype(np.int64), most)
    tries = np.concatenate([[0], np.cumsum(2 * wanted + 60)])  # some tries hit an item taken before: they do not count
    users = np.repeat(np.arange(n_users), np.diff(tries))  # (n_tries,)

    def uniform(name: str) -> np.ndarray:
        return uniforms(seed, len(users), STREAM[name])

    def genre_of(drawn: np.ndarray) -> np.ndarray:
        return _pick(truth.interests, users, drawn)

    moves = uniform("jump") < _JUMP
    moves[tries[:-1]] = True
    since = np.maximum.accumulate(np.where(moves, np.arange(len(users)), 0))  # (n_tries,) when the focus came
    focus = genre_of(uniform("focus"))[since]
    genre = np.where(uniform("source") < _FOCUS, focus, genre_of(uniform("own")))
    items = _pick_items(truth, tries, genre, uniform("item"))
    gaps = 1 + (-np.log(1.0 - uniform("gap")) * np.where(moves, 4 * 86400.0, 600.0)).astype(np.int64)
    clock = np.cumsum(gaps)
    begins = _EPOCH + (uniforms(seed, n_users, STREAM["start"]) * 2 * 365 * 86400).astype(np.int64)
    times = begins[users] + clock - clock[tries[:-1]][users]

    fresh = np.zeros(len(users), dtype=bool)
    fresh[np.unique(users * n_items + items, return_index=True)[1]] = True
    taken = np.cumsum(fresh)
    taken -= (taken[tries[:-1]] - 1)[users]  # 1 for a user's first event: a first try is always fresh
    keep = fresh & (taken <= wanted[users])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users[keep], minlength=n_users))]).astype(np.int64)
    return offsets, items[keep], focus[keep].astype(np.int8), times[keep]


def _pick_items(truth: SyntheticTruth, tries: np.ndarray, genre: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Returns for each try an item of its genre, in proportion to its user's choice weights."""
    by_genre = np.argsort(truth.genre, kind="stable")
    ends = np.cumsum(np.bincount(truth.genre, minlength=len(GENRES)))
    items = np.empty(len(genre), dtype=np.int64)
    for begin in range(0, len(truth.tastes), _BLOCK):
        block = np.arange(begin, min(begin + _BLOCK, len(truth.tastes)))
        part = slice(tries[block[0]], tries[block[-1] + 1])
        rows = np.repeat(np.arange(len(block)), np.diff(tries)[block])
        total = np.cumsum(truth.choice_weights(block)[:, by_genre], axis=1)  # (block, n_items)
        total /= total[:, -1:]
        high = total[:, ends - 1]  # (block, G)
        low = np.concatenate([np.zeros((len(block), 1)), high[:, :-1]], axis=1)
        own, g = drawn[part], genre[part]
        place = low[rows, g] + own * (high - low)[rows, g]
        column = np.searchsorted((total + np.arange(len(block))[:, None]).ravel(), rows + place, side="right")
        column = np.clip(column - rows * len(by_genre), (ends - np.diff(ends, prepend=0))[g], ends[g] - 1)
        items[part] = by_genre[column]
    return items


def _pick(shares: np.ndarray, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Returns for each draw in [0, 1) a column of its row of `shares` (n, m), in proportion."""
    total = np.cumsum(shares, axis=1)
    total /= total[:, -1:]
    flat = (total + np.arange(len(shares))[:, None]).ravel()
    return np.minimum(np.searchsorted(flat, rows + drawn, side="right") - rows * shares.shape[1], shares.shape[1] - 1)


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
