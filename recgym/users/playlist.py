"""Listeners whose lists of songs have a spread of their own, and who like what brings the recent list nearer to it."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users.base import START_STREAM, Opening, Response
from recgym.users.clicks import Clicks, clicks_of

_PLACE_STREAM = 1  # random stream that says where in a listener's log a session opens


class PlaylistState(NamedTuple):
    """What B listeners have heard last."""

    user: Any  # (B,) int64
    recent: Any  # (B, F) int64: the last songs, oldest first, padded on the left with n_items


class PlaylistUsers:
    """Every session goes on with a stretch of one listener's log, and the songs that are shown are played.

    **Start.** A listener is drawn uniformly from those with `min_history` events or more, and a place in their log: the
    opening frame is the F events before it (all there are, padded on the left, and at least `min_history`). The songs
    of the opening frame were not picked, so their rewards are 0.

    **Answer.** Songs of a slate are played in its order. Let D be the Euclidean distances between all pairs of two
    lists: the last F - 1 songs *before* the pick, and the same with the pick *after* them; sd is the standard deviation
    of the distances (0 where there is none), and `sd_u` that of all the different songs in the listener's log:

        reward = abs(sd_u - sd(before)) - abs(sd_u - sd(after))

    So a pick earns what it moves the spread of the recent list toward the listener's own. What is played enters the
    frame with its reward: every song, or with `clicks` those that this model of `recgym.users.clicks.Clicks` has
    clicked. The same song twice is at distance 0 like any other equal vectors: repeats earn nothing extra.

    **Rewards** lie in -r to r, where r is the longest distance of a song from the mean of all: distances lie in 0 to
    2 r, so their standard deviation in 0 to r.

    **Ends.** Nobody leaves; `horizon` ends a session (1 for the single step of the source).

    **Source.** The intrinsic reward of "What Next?" (D. Wooten, 2020, github.com/ddwooten/insight_2020_ai), computed
    exactly. Its defects are not here: distances stand once for each pair, the pick joins the list, repeats are not
    rewarded, and padding is no song.

    Args:
        log: What the listeners heard.
        vectors: Coordinates of the songs in which distances are measured (n_items, m), finite.
        frame_size: F, which must be that of the environment; at least 3.
        min_history: Events of the listener an opening frame must have, 2 to F.
        clicks: None, `"independent"`, `"cascade"` or `"position"`.
        attraction: Of every song, see `Clicks`; with `clicks` only.
        examination: See there.

    Raises:
        DataError: if the vectors do not fit the log, a size is out of range, or no listener has enough events.
    """

    def __init__(
        self,
        log: InteractionLog,
        vectors: np.ndarray,
        frame_size: int = 10,
        *,
        min_history: int = 3,
        clicks: str | None = None,
        attraction: float = 1.0,
        examination: float = 0.85,
    ) -> None:
        vectors = np.asarray(vectors, dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != log.n_items or not np.isfinite(vectors).all():
            raise DataError(
                f"vectors must be finite and have shape ({log.n_items}, m), one row per song, got {vectors.shape} with "
                f"{np.count_nonzero(~np.isfinite(vectors))} numbers that are not; give every song its features"
            )
        if not 2 <= min_history <= frame_size or frame_size < 3:
            raise DataError(
                f"min_history must lie in 2..frame_size and frame_size be at least 3, got {min_history} and "
                f"{frame_size}; a list of one song has no distances"
            )
        self.log = log
        self.frame_size, self.min_history = frame_size, min_history
        self.clicks = clicks_of(clicks, attraction, examination)
        self.n_items, self.item_ids, self.user_ids = log.n_items, log.item_ids, log.user_ids
        self.servable = np.flatnonzero(log.lengths >= min_history)  # (n,) int64
        if len(self.servable) == 0:
            raise DataError(
                f"some listener must have at least min_history={min_history} events, got {log.n_users} listeners with "
                f"{log.lengths.max(initial=0)} at most; lower min_history"
            )
        self.table = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])  # (n_items + 1, m)
        self.spread = np.array([_spread_of(vectors[log.user(user).items]) for user in range(log.n_users)])  # (n_users,)
        longest = np.float32(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).max())
        self.reward_range = (-float(longest), float(longest))
        self._pairs = np.triu_indices(frame_size, 1)  # two (F * (F - 1) / 2,) places, the lower first

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[PlaylistState, Opening]:
        """Returns what each listener has heard, which is also the opening frame; see `UserModel`."""
        if frame_size != self.frame_size:
            raise DataError(
                f"the frame size must be the users' own, got {frame_size} and {self.frame_size}; give both the same"
            )
        if users is None:
            users = self.servable[random.integers(rows, 1, START_STREAM, len(self.servable))[:, 0]]  # (R,)
        begin = self.log.offsets[users][:, None]  # (R, 1)
        choices = self.log.lengths[users][:, None] - self.min_history + 1
        place = begin + self.min_history + random.integers(rows, 1, _PLACE_STREAM, choices)  # (R, 1)
        events = place + np.arange(-frame_size, 0)  # (R, F)
        padded = events < begin
        recent = np.where(padded, self.n_items, self.log.items[np.where(padded, 0, events)]).astype(np.int64)
        opening = Opening(users, recent.astype(np.int32), np.zeros(recent.shape, dtype=np.float32))
        return PlaylistState(users, recent), opening

    def respond(
        self, random: RowRandom, rows: Any, state: PlaylistState, slate: Any, candidates: Any = None
    ) -> tuple[PlaylistState, Response]:
        """Returns what each listener has heard then, and what each song of the slate was worth; see `UserModel`."""
        played = slate != self.n_items  # (B, k)
        if self.clicks is not None:
            played = self.clicks.draw(played, random, rows)
        rewards = np.zeros(slate.shape, dtype=np.float32)
        recent = state.recent
        for place in range(slate.shape[1]):
            longer = np.concatenate([recent[:, 1:], slate[:, place, None]], axis=1)  # (B, F)
            recent = np.where(played[:, place, None], longer, recent)
            rewards[:, place] = np.where(played[:, place], self._gains(state.user, recent), 0.0)
        never = np.zeros(len(slate), dtype=bool)
        return state._replace(recent=recent), Response(played, rewards, played, slate, rewards, never, never)

    def expected_rewards(self, state: PlaylistState, items: Any) -> np.ndarray:
        """Returns what each song would earn on average, shown alone and now (B, C).

        Args:
            state: Of B listeners.
            items: Songs (B, C); n_items is an empty place, which earns 0.
        """
        chance, worth = self.expected_answers(state, items, alone=True)
        return chance * worth

    def expected_answers(self, state: PlaylistState, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each song is played, and what it is worth then (B, k) each; see `UserModel`.

        What a song is worth depends on which above it were played, so its mean is taken over all ways they may be.
        """
        items = np.asarray(items)
        real, law = items != self.n_items, self.clicks or Clicks("independent")
        if alone:
            return np.where(real, law.attraction, 0.0), self._gains_of(state, items)
        chance, worth = np.zeros(items.shape), np.zeros(items.shape)
        for played in product((False, True), repeat=items.shape[1]):
            likely = self._likely(law, real, np.array(played))  # (B,)
            if not likely.any():
                continue
            recent = state.recent
            for place in np.flatnonzero(played):
                recent = np.concatenate([recent[:, 1:], items[:, place, None]], axis=1)
                worth[:, place] += likely * self._gains(state.user, recent)
                chance[:, place] += likely
        return chance, np.divide(worth, chance, out=np.zeros_like(worth), where=chance > 0)

    def _likely(self, law: Clicks, real: np.ndarray, played: np.ndarray) -> np.ndarray:
        """Returns how likely just those places are played (B,), of slates whose places hold songs (B, k) bool."""
        chance = law.probabilities(real)
        if law.model == "cascade":  # at most one
            one = chance[:, played].sum(axis=1) if played.any() else 1.0 - chance.sum(axis=1)
            return one if played.sum() <= 1 else np.zeros(len(real))
        return np.where(played, chance, 1.0 - chance).prod(axis=1)

    def _gains_of(self, state: PlaylistState, items: np.ndarray) -> np.ndarray:
        """Returns what each song is worth if it is played next (B, C)."""
        kept = state.recent[:, 1:]  # (B, F - 1): what stands before the pick
        real = kept != self.n_items
        lower, upper = np.triu_indices(kept.shape[1], 1)
        apart = self.table[kept[:, lower]] - self.table[kept[:, upper]]  # (B, pairs, m)
        among = np.sqrt((apart * apart).sum(axis=2)) * real[:, lower]  # (B, pairs): padding stands on the left only
        n, total, squares = real[:, lower].sum(axis=1), among.sum(axis=1), (among**2).sum(axis=1)  # (B,)
        to_pick = self._squares_to(items, kept) * real[:, None]  # (B, C, F - 1)
        after = _deviation_of(
            (n + real.sum(axis=1))[:, None],
            total[:, None] + np.sqrt(to_pick).sum(axis=2),
            squares[:, None] + to_pick.sum(axis=2),
        )  # (B, C)
        wanted, before = self.spread[state.user], _deviation_of(n, total, squares)
        gain = np.abs(wanted - before)[:, None] - np.abs(wanted[:, None] - after)
        return np.where(items != self.n_items, np.clip(gain, *self.reward_range), 0.0)

    def _squares_to(self, items: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Returns squared distances (B, C, F - 1) between songs (B, C) and (B, F - 1)."""
        lengths = (self.table * self.table).sum(axis=1)  # (n_items + 1,)
        products = self.table[items] @ self.table[kept].transpose(0, 2, 1)  # (B, C, F - 1)
        return np.maximum(lengths[items][:, :, None] + lengths[kept][:, None] - 2.0 * products, 0.0)

    def candidates(self, random: RowRandom, rows: Any, state: PlaylistState) -> None:
        """Returns None: any song may be shown."""
        return None

    def _gains(self, user: np.ndarray, recent: np.ndarray) -> np.ndarray:
        """Returns the reward (B,) float32 of the last song of each list (B, F)."""
        lower, upper = self._pairs
        apart = self.table[recent[:, lower]] - self.table[recent[:, upper]]  # (B, pairs, m)
        distances = np.sqrt((apart * apart).sum(axis=2))  # (B, pairs)
        after = recent[:, lower] != self.n_items  # (B, pairs): padding stands on the left only
        before = after & (upper < self.frame_size - 1)
        wanted = self.spread[user]
        gain = np.abs(wanted - _deviation(distances, before)) - np.abs(wanted - _deviation(distances, after))
        return np.clip(gain.astype(np.float32), *self.reward_range)


def _deviation(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns the standard deviation (B,) of the values (B, n) that are counted (B, n) bool, 0 where none is."""
    n = np.maximum(counted.sum(axis=1), 1)
    mean = np.where(counted, values, 0.0).sum(axis=1) / n
    return np.sqrt((np.where(counted, values - mean[:, None], 0.0) ** 2).sum(axis=1) / n)


def _deviation_of(n: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of n numbers from their sum and the sum of their squares, 0 where n is 0."""
    n = np.maximum(n, 1)
    return np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))


def _spread_of(vectors: np.ndarray) -> float:
    """Returns the standard deviation of the distances between all pairs of different vectors (n, m)."""
    from scipy.spatial.distance import pdist

    distances = pdist(np.unique(vectors, axis=0))
    return float(distances.std()) if len(distances) else 0.0
