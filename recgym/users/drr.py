"""Users who like some of a set of candidates, as in DRR: a reward of 1 for a liked item, a memory of liked items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.derived import New, arrays
from recgym.options import check_choice, check_sizes
from recgym.rng import RowRandom
from recgym.users.base import START_STREAM, Opening, Response
from recgym.users.clicks import Clicks, clicks_of
from recgym.users.sampling import draw_in_turn

PROTOCOLS = ("fair", "published")
_LIKED_STREAM, _OTHER_STREAM, _ORDER_STREAM = 1, 2, 3


class DRRState(NamedTuple):
    """What B sessions are about."""

    user: Any  # (B,) int64
    liked: Any  # (B, n) int64: candidates the user likes, padded with n_items
    shown: Any  # (B, n + m) int64: all candidates in a drawn order, which says nothing, padded with n_items
    left: Any  # (B,) int64: liked candidates not answered yet
    steps: Any  # (B,) int64: slates until the data end


class DRRUsers:
    """Every session is one user with a set of candidate items, some of them liked.

    **Start.** A user is drawn uniformly from those with `min_liked` liked items. The frame holds the last F liked items
    of `before`, or nothing. Candidates are drawn:

    | `protocol` | candidates | liked among them | the others |
    |---|---|---|---|
    | `"fair"` | `n_candidates` | at most `share` of them, drawn | different items, none in `known` |
    | `"published"` | twice the liked items | all | as many draws with replacement, none in `log` |

    They stand in an order of their own luck, so that no place among them tells what is liked.

    **Answer.** A liked candidate is answered with reward 1 and enters the frame with it: a memory of the last F
    positive items. Every other item is a miss.

    **Ends.** When all liked candidates were answered the data end, which truncates; under `"published"` also after
    as many slates as there are liked candidates.

    Args:
        log: What users like: the liked events of the part that is served. Its users are all users, in index order.
        frame_size: F.
        known: Liked events that make an item no candidate beside the liked ones, e.g. those of all parts.
        before: Liked events from before the session, or None.
        protocol: `"fair"` or `"published"`.
        n_candidates: Of a session, under `"fair"`; fewer where there are not as many items.
        share: Of liked items among the candidates at most, in 0..1, under `"fair"`. A random policy earns about that.
        min_liked: Liked items a user must have.
        clicks: None or a model of `recgym.users.clicks.Clicks`, like the two options after it.
        attraction: See there.
        examination: See there.

    Attributes:
        memoryless: True: no answer depends on what was shown before, but for items being used up (`greed_is_best`).

    Raises:
        DataError: if an option is unknown or out of range, or no user likes enough.
    """

    memoryless = True
    reward_range = (0.0, 1.0)

    def __init__(
        self,
        log: InteractionLog,
        frame_size: int = 5,
        *,
        known: InteractionLog,
        before: InteractionLog | None = None,
        protocol: str = "fair",
        n_candidates: int = 200,
        share: float = 0.1,
        min_liked: int = 1,
        clicks: str | None = None,
        attraction: float = 1.0,
        examination: float = 0.85,
    ) -> None:
        check_choice("protocol", protocol, PROTOCOLS)
        check_sizes(n_candidates=n_candidates, min_liked=min_liked)
        if not 0.0 < share < 1.0 or round(share * n_candidates) < 1:
            raise DataError(
                f"share must leave room for a liked item and another among {n_candidates} candidates, got {share}; "
                "give e.g. share=0.1"
            )
        self.log, self.before, self.protocol = log, before, protocol
        self.frame_size = frame_size
        self.clicks = clicks_of(clicks, attraction, examination)
        self.n_items, self.item_ids, self.user_ids = log.n_items, log.item_ids, log.user_ids
        self._liked, self._offsets = _pairs(log)
        counts = np.diff(self._offsets)
        self.servable = np.flatnonzero(counts >= min_liked)
        if len(self.servable) == 0:
            raise DataError(
                f"some user must like at least {min_liked} items in the part served, got {counts.max(initial=0)} at "
                "most; lower min_liked or liked_above"
            )
        self._known, offsets = _pairs(known) if protocol == "fair" else (self._liked, self._offsets)
        if protocol == "fair":
            self._most = min(round(share * n_candidates), int(counts.max()))  # liked candidates of a session
            self._width = n_candidates - 1
            others = np.minimum(n_candidates - np.minimum(counts, self._most), self.n_items - np.diff(offsets))
        else:
            self._most = self._width = int(counts.max())
            others = np.where(counts < self.n_items, counts, 0)
        self._n_liked, self._n_others = np.minimum(counts, self._most), others  # (n_users,) candidates of each kind

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[DRRState, Opening]:
        """Returns the candidates of each session and its opening frame; see `UserModel`."""
        if users is None:
            users = self.servable[random.integers(rows, 1, START_STREAM, len(self.servable))[:, 0]]  # (R,)
        begin, end = self._offsets[users], self._offsets[users + 1]
        n_liked = self._n_liked[users]
        if self.protocol == "fair":
            place = draw_in_turn(random, rows, _LIKED_STREAM, (end - begin)[:, None], n_liked, self._most)
        else:
            place = np.where(np.arange(self._most) < n_liked[:, None], np.arange(self._most), -1)  # (R, n): all
        pairs = self._liked[np.maximum(begin[:, None] + place, 0)]
        liked = np.where(place < 0, self.n_items, pairs % self.n_items)
        others = draw_in_turn(
            random,
            rows,
            _OTHER_STREAM,
            self.n_items,
            self._n_others[users],
            self._width,
            allowed=lambda items: ~_holds(self._known, users[:, None] * self.n_items + items),
            again=self.protocol == "published",
        )
        others = np.where(others < 0, self.n_items, others)
        steps = n_liked if self.protocol == "published" else np.full(len(users), np.iinfo(np.int64).max)
        shown = np.concatenate([liked, others], axis=1)  # (R, n + m)
        place = random.uniform(rows, shown.shape[1], _ORDER_STREAM) + (shown == self.n_items)  # padding last
        shown = np.take_along_axis(shown, np.argsort(place, axis=1, kind="stable"), axis=1)
        return DRRState(users, liked, shown, n_liked, steps), self._opening(users, frame_size)

    def _opening(self, users: np.ndarray, frame_size: int) -> Opening:
        items = np.full((len(users), frame_size), self.n_items, dtype=np.int32)
        if self.before is not None:
            events = self.before.offsets[users + 1][:, None] + np.arange(-frame_size, 0)  # (R, F)
            real = events >= self.before.offsets[users][:, None]
            items[real] = self.before.items[events[real]]
        return Opening(users, items, (items != self.n_items).astype(np.float32))

    def respond(
        self, random: RowRandom, rows: Any, state: DRRState, slate: Any, candidates: Any = None
    ) -> tuple[DRRState, Response]:
        """Returns what is left to like, and which items of the slate are liked; see `UserModel`."""
        real = slate != self.n_items
        answered = (slate[:, :, None] == state.liked[:, None, :]).any(axis=2) & real  # (B, k)
        if self.clicks is not None:
            answered = self.clicks.draw(answered, random, rows)
        ones = np.ones(slate.shape, dtype=np.float32)
        left, steps = state.left - answered.sum(axis=1), state.steps - 1
        never = np.zeros(len(slate), dtype=bool)
        response = Response(answered, ones, answered, slate, ones, never, (left <= 0) | (steps <= 0))
        return state._replace(left=left, steps=steps), response

    def expected_rewards(self, state: DRRState, items: Any) -> np.ndarray:
        """Returns what each item would earn on average, shown alone and now (B, C): 1 or, with clicks, `attraction`.

        Args:
            state: Of B sessions.
            items: Item indices (B, C); n_items is an empty place, which earns 0.
        """
        return self.expected_answers(state, items, alone=True)[0]

    def expected_answers(self, state: DRRState, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each place is answered, and what an answer is worth (B, k) each; see `UserModel`."""
        wanted, law = self._wanted(state, np.asarray(items)), self.clicks or Clicks("independent")
        chance = np.where(wanted, law.attraction, 0.0) if alone else law.probabilities(wanted)
        return chance, np.ones(wanted.shape)

    def best_slates(self, state: DRRState, items: np.ndarray, k: int, miss_reward: float) -> np.ndarray:
        """Returns the columns of the slates that earn most now (B, k); see `UserModel`."""
        law = self.clicks or Clicks("independent")
        gain = np.full(items.shape, 1.0 - miss_reward)
        return law.best_slates(self._wanted(state, items), gain, items < self.n_items, k)

    def greed_is_best(self, k: int, repeats: str) -> bool:
        """Returns whether no policy earns more than greed, where misses earn nothing; see `UserModel`."""
        free = self.clicks is None or self.clicks.model == "independent"
        return k == 1 or (free and repeats != "allow")

    def _wanted(self, state: DRRState, items: np.ndarray) -> np.ndarray:
        """Returns which items (B, C) are liked candidates."""
        liked = np.zeros((len(items), self.n_items + 1), dtype=bool)
        np.put_along_axis(liked, state.liked, True, axis=1)
        liked[:, -1] = False
        return np.take_along_axis(liked, items, axis=1)

    def candidates(self, random: RowRandom, rows: Any, state: DRRState) -> np.ndarray:
        """Returns the candidates of each session (B, n + m) int64, each once, padded with n_items."""
        return state.shown


def _pairs(log: InteractionLog) -> tuple[np.ndarray, np.ndarray]:
    """Returns `user * n_items + item` of the events, sorted, each once (m,) int64, and users' places (n_users + 1,)."""

    def make(new: New) -> None:
        pairs = np.unique(log.event_users().astype(np.int64) * log.n_items + log.items)
        new("pairs", len(pairs), np.int64)[:] = pairs
        borders = np.searchsorted(pairs, np.arange(log.n_users + 1) * log.n_items)
        new("offsets", len(borders), np.int64)[:] = borders

    found = arrays(log, "pairs", make)
    return found["pairs"], found["offsets"]


def _holds(pairs: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Returns which of `asked`, of any shape, are among the sorted pairs."""
    if len(pairs) == 0:
        return np.zeros(asked.shape, dtype=bool)
    return pairs[np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)] == asked
