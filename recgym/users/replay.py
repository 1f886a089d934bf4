"""Users who answer from their log."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.arrange import on_all_cores, small_order, whole_users
from recgym.log.derived import New, arrays
from recgym.options import check_choice
from recgym.rng import RowRandom
from recgym.users.around import check_weights, range_of
from recgym.users.base import START_STREAM, Clock, Opening, Response
from recgym.users.clicks import Clicks, clicks_of, first_only


def unserved(log: InteractionLog, frame_size: int, min_history: int | None = None) -> str:
    """Returns in words how many users `ReplayUsers` cannot serve, and what serves them; "" where everyone is served."""
    needed = frame_size if min_history is None else min_history
    n_left = int(np.count_nonzero(log.lengths <= needed))
    if not n_left:
        return ""
    more = f"; min_history=1 serves {int(np.count_nonzero(log.lengths > 1)):,}" if needed > 1 else ""
    return (
        f"{n_left:,} of {log.n_users:,} users have {needed} events or fewer and are not served "
        f"(frame_size={frame_size}, min_history={needed}){more}"
    )


class ReplayState(NamedTuple):
    """Where B sessions stand in the log."""

    user: Any  # (B,) int64
    first: Any  # (B,) int64: event of the log from which on answers count
    next: Any  # (B,) int64: event of the log that comes next, under `advance="log"`
    left: Any  # (B,) int64: answers the user can still give, under `advance="answer"`


class ReplayUsers:
    """Every session is one logged user, who answers with what the log says and nothing else.

    **Start.** A user is drawn uniformly from the servable ones. Their first F events are the opening frame; the events
    after it are the answers they can give. Users with F events or fewer are served when `min_history` is below F: they
    open with their first `min_history` events, padded on the left; under `opening="least"` everyone does. With `reach`,
    events that stand before a user's first in the log may fill the frame too, and count as history: a person's earlier
    sessions, where each user of the log is one session.

    **Answer**, for a user u, a shown item i and r(u, i) the logged reward after the opening frame (the latest, if
    i stands there twice):

    | `advance` | answered | reward | enters the frame |
    |---|---|---|---|
    | `"answer"` | u has r(u, i) | r(u, i) | the answered items, in slate order, with their rewards |
    | `"log"` | i is the item of u's next event | its reward | the next event, whatever was shown |

    Under `answers="first"` only the first answered item of a slate counts. With `clicks`, an item that would be
    answered is only where that model of `recgym.users.clicks.Clicks` has it clicked.

    **Ends.** Under `"answer"` a user who has given as many answers as there are different items after the opening frame
    has none left; under `"log"` the log ends with the user's last event. Either ends the data, not the user's story,
    so it truncates; `end_of_log="terminal"` makes it terminate, and `over` says of each user which it is.

    **Mind** that this is no unbiased simulator: an item the user never rated counts as a miss, liked or not.

    Args:
        log: Who answers; its rewards are the answers.
        frame_size: F, which must be that of the environment; it decides who is servable.
        advance: `"answer"` or `"log"`.
        end_of_log: `"truncate"` or `"terminal"`.
        min_history: Events an opening frame must have; None means `frame_size`. A user needs one more.
        answers: `"all"` or `"first"`.
        opening: `"full"`, or `"least"`: the opening frame has `min_history` events even where there are more.
        clicks: None, `"independent"`, `"cascade"` or `"position"`.
        attraction: Of an item that would be answered, see `Clicks`; with `clicks` only.
        examination: See there.
        reach: How many events before each user's first a frame may hold (n_users,) int; None: none.
        over: Whose story is known to end with the log (n_users,) bool; None: `end_of_log` says it of all.

    Attributes:
        memoryless: True: no answer depends on what was shown before, but for items being used up (`greed_is_best`).

    Raises:
        DataError: if an option is unknown, or no user has enough events.
    """

    memoryless = True

    def __init__(
        self,
        log: InteractionLog,
        frame_size: int = 10,
        *,
        advance: str = "answer",
        end_of_log: str = "truncate",
        min_history: int | None = None,
        answers: str = "all",
        opening: str = "full",
        clicks: str | None = None,
        attraction: float = 1.0,
        examination: float = 0.85,
        reach: np.ndarray | None = None,
        over: np.ndarray | None = None,
    ) -> None:
        check_choice("advance", advance, ("answer", "log"))
        check_choice("end_of_log", end_of_log, ("truncate", "terminal"))
        check_choice("answers", answers, ("all", "first"))
        check_choice("opening", opening, ("full", "least"))
        self.log = log
        self.frame_size = frame_size
        self.min_history = frame_size if min_history is None else min_history
        if not 0 <= self.min_history <= frame_size:
            raise DataError(f"min_history must lie in 0..frame_size={frame_size}, got {min_history}; choose in between")
        self.advance = advance
        self.end_of_log = end_of_log
        self.answers = answers
        self.opening = opening
        self.clicks = clicks_of(clicks, attraction, examination)
        self.n_items = log.n_items
        self.item_ids = log.item_ids
        self.user_ids = log.user_ids
        reach = np.zeros(log.n_users, dtype=np.int64) if reach is None else np.asarray(reach)
        if reach.shape != (log.n_users,) or not ((reach >= 0) & (reach <= log.offsets[:-1])).all():
            raise DataError(
                f"reach must be one number per user ({log.n_users},), from 0 to the events before each, got shape "
                f"{reach.shape} up to {reach.max(initial=0)}; see recgym.log.session_split.events_before"
            )
        self._floor = log.offsets[:-1] - reach  # (n_users,) event a frame reaches back to
        needed = np.where((log.lengths + reach > frame_size) & (opening == "full"), frame_size, self.min_history)
        self._first = log.offsets[:-1] + np.maximum(needed - reach, 0)  # (n_users,) event from which on answers count
        self._terminal = np.full(log.n_users, end_of_log == "terminal") if over is None else np.asarray(over)
        self.servable = np.flatnonzero(log.offsets[1:] > self._first)  # (n,) int64
        if len(self.servable) == 0:
            raise DataError(
                f"some user must have at least {self.min_history + 1} events (the opening frame and one answer), got "
                f"{log.n_users} users with {log.lengths.max(initial=0)} at most; lower frame_size or min_history"
            )
        self.reward_range = _checked_range(log)
        self.behaviours: tuple[str, ...] = ()
        self._given_with = np.zeros((0, 0), dtype=bool)  # (n_events, m)
        if advance == "answer":
            index = arrays(log, "answers", partial(_index_answers, log))
            self._order, self._keys, self._different = index["order"], index["keys"], index["different"]
            self._strides = _strides(log)

    @property
    def served(self) -> str:
        """Returns in words how many users (or sessions, where each is one user of the log) can open a session."""
        left = self.log.n_users - len(self.servable)
        said = f"{len(self.servable):,} of {self.log.n_users:,} users of the log are served"
        if not left:
            return said
        more = int(np.count_nonzero(self.log.lengths > 1))
        hint = f"; min_history=1 serves {more:,}" if self.min_history > 1 and more > len(self.servable) else ""
        return f"{said}, {left:,} have too few events for an opening of {self.min_history} and one answer{hint}"

    def _latest(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the latest event of items (B, k) by users (B,), and whether there is one.

        Halving strides through the user's own stretch of the keys; all rows at once, so that cache misses overlap.
        """
        key = user[:, None] * (self.n_items + 1) + item  # (B, k); an empty place, item n_items, is no key
        if len(user) == 1:
            begin, end = self.log.offsets[user[0]], self.log.offsets[user[0] + 1]
            place = self._keys[begin:end].searchsorted(key, "right") + (begin - 1)
            return self._order[place], self._keys[place] == key
        place = np.broadcast_to(self.log.offsets[user][:, None] - 1, key.shape)  # last key known not to be above
        for stride in self._strides:
            further = place + stride
            place = np.where(self._keys[further] <= key, further, place)
        return self._order[place], self._keys[place] == key

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[ReplayState, Opening]:
        """Returns where each session stands in the log, and its opening frame; see `UserModel`."""
        if frame_size != self.frame_size:
            raise DataError(
                f"the frame size must be the users' own, got {frame_size} and {self.frame_size}; give both the same"
            )
        if users is None:
            users = self.servable[random.integers(rows, 1, START_STREAM, len(self.servable))[:, 0]]  # (R,)
        log = self.log
        first, end = self._first[users], log.offsets[users + 1]
        events = first[:, None] + np.arange(-frame_size, 0)  # (R, F)
        padded = events < self._floor[users][:, None]
        events = np.where(padded, 0, events)
        items = np.where(padded, self.n_items, log.items[events]).astype(np.int32)
        rewards = np.where(padded, 0, log.rewards[events]).astype(np.float32)
        left = self._different[end] - self._different[first] if self.advance == "answer" else end - first
        return ReplayState(users, first, first, left), Opening(users, items, rewards)

    def respond(
        self, random: RowRandom, rows: Any, state: ReplayState, slate: Any, candidates: Any = None
    ) -> tuple[ReplayState, Response]:
        """Returns where each session stands next, and what the log answers; see `UserModel`."""
        if self.advance == "log":
            return self._respond_next(random, rows, state, slate)
        event, rated = self._latest(state.user, slate)
        answered = self._given(rated & (event >= state.first[:, None]), random, rows)  # (B, k)
        rewards = self.log.rewards[event]
        left = state.left - answered.sum(axis=1)
        ends = self._ends(state.user, left <= 0)
        response = Response(answered, rewards, answered, slate, rewards, *ends, self._gone_with(event, answered))
        return state._replace(left=left), response

    def expected_rewards(self, state: ReplayState, items: Any) -> np.ndarray:
        """Returns what each item would earn on average, shown alone and now (B, C): the log is the truth.

        Args:
            state: Of B sessions.
            items: Item indices (B, C); n_items is an empty place, which earns 0 as a miss does.
        """
        chance, worth = self.expected_answers(state, items, alone=True)
        return chance * worth

    def expected_answers(self, state: ReplayState, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each place is answered, and what an answer is worth (B, k) each; see `UserModel`."""
        wanted, worth = self._logged(state, np.asarray(items))
        law = self.clicks or Clicks("independent")
        if alone:
            return np.where(wanted, law.attraction, 0.0), worth
        chance = law.probabilities(wanted)
        return first_only(chance) if self.answers == "first" and law.model != "cascade" else chance, worth

    def best_slates(self, state: ReplayState, items: np.ndarray, k: int, miss_reward: float) -> np.ndarray | None:
        """Returns the columns of the slates that earn most now, or None: to be searched; see `UserModel`."""
        law = self.clicks or Clicks("independent")
        if self.answers == "first":
            if law.model == "position":
                return None
            law = Clicks("cascade", law.attraction)
        wanted, worth = self._logged(state, items)
        return law.best_slates(wanted, worth - miss_reward, items < self.n_items, k)

    def _logged(self, state: ReplayState, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which items (B, C) the log would answer now, and what an answer is worth (B, C)."""
        log = self.log
        if self.advance == "answer":
            event, rated = self._latest(state.user, items)
            return rated & (event >= state.first[:, None]), log.rewards[event].astype(np.float64)
        end = log.offsets[state.user + 1]
        event = np.minimum(state.next, end - 1)[:, None]  # (B, 1)
        wanted = (items == log.items[event]) & (state.next < end)[:, None]
        return wanted, np.broadcast_to(log.rewards[event].astype(np.float64), items.shape)

    def greed_is_best(self, k: int, repeats: str) -> bool:
        """Returns whether no policy earns more than greed, where misses earn nothing; see `UserModel`.

        Under `advance="answer"` every item is shown once: what is shown now is not shown later, so greed is the best
        there is where places do not stand in each other's way. Under `"log"` time goes on whatever is shown, but an
        item that fills a place may be the next event's; so it is where items may come again.
        """
        if self.advance == "log":
            return repeats == "allow"
        free = self.answers == "all" and (self.clicks is None or self.clicks.model == "independent")
        return k == 1 or (free and repeats != "allow")

    def _given(self, answered: np.ndarray, random: RowRandom, rows: Any) -> np.ndarray:
        """Returns which of the answers (B, k) bool that the log holds are given."""
        if self.clicks is not None:
            answered = self.clicks.draw(answered, random, rows)
        return answered & (np.cumsum(answered, axis=1) == 1) if self.answers == "first" else answered

    def _respond_next(
        self, random: RowRandom, rows: Any, state: ReplayState, slate: Any
    ) -> tuple[ReplayState, Response]:
        end = self.log.offsets[state.user + 1]
        event = np.minimum(state.next, end - 1)[:, None]  # (B, 1); rows past their end are about to restart
        item, reward = self.log.items[event], self.log.rewards[event]
        answered = self._given(slate == item, random, rows)  # (B, k)
        response = Response(
            answered,
            np.broadcast_to(reward, slate.shape),
            np.ones(item.shape, dtype=bool),
            item,
            reward,
            *self._ends(state.user, state.next + 1 >= end),
            self._gone_with(event, answered),
        )
        return state._replace(next=state.next + 1), response

    def _gone_with(self, event: np.ndarray, answered: np.ndarray) -> np.ndarray | None:
        """Returns the behaviours of events (B, k) or (B, 1) where they answer (B, k, m), or None without any."""
        return self._given_with[event] & answered[:, :, None] if self.behaviours else None

    def when(self, state: ReplayState) -> Clock:
        """Returns the time of the event that is asked for: the next one, or under `advance="answer"` the first.

        Raises:
            DataError: if the log has no times.
        """
        log = self.log
        if log.times is None:
            raise DataError(f"context 'time' needs a log with times, got {log.name!r} without; load them")
        event = np.minimum(state.next, log.offsets[state.user + 1] - 1)
        now, opened = log.times[event], log.times[state.first]
        return Clock(now // 3600 % 24, (now // 86400 + 3) % 7, (now - opened) / 86400.0)  # 1970 began on a Thursday

    def behaving(self, weights: dict[str, float]) -> ReplayUsers:
        """Returns the same users, whose answers are vectors of behaviours, worth the sum of their weights.

        Args:
            weights: By name: of columns of `log.extra` that say whether an event has the behaviour (not 0), or else of
                labels of its column `"behaviour"`.

        Raises:
            DataError: if a name is neither, or a weight is no number.
        """
        check_weights(weights)
        labels = self.log.extra.get("behaviour")
        columns = {name: column for name, column in self.log.extra.items() if column.dtype.kind in "biuf"}
        known = [*columns, *(() if labels is None else np.unique(labels).tolist())]
        unknown = [name for name in weights if name not in known]
        if unknown:
            raise DataError(
                f"behaviours must be columns of the log or labels of its column 'behaviour', got {unknown}; choose "
                f"from {known}"
            )
        made = copy(self)
        made.behaviours = tuple(weights)
        given = [columns[name] != 0 if name in columns else labels == name for name in weights]
        made._given_with = np.stack(given, axis=1)  # (n_events, m)
        worth = (made._given_with * np.array(list(weights.values()))).sum(axis=1).astype(np.float32)
        made.reward_range = range_of(weights)
        made.log = replace(self.log, rewards=worth, reward_range=made.reward_range)
        return made

    def _ends(self, user: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (left, ended) for users (B,) whose log is used up where `done` (B,) bool."""
        left = done & self._terminal[user]
        return left, done & ~left

    def candidates(self, random: RowRandom, rows: Any, state: ReplayState) -> None:
        """Returns None: any item may be shown."""
        return None


def _strides(log: InteractionLog) -> list[int]:
    """Returns the strides of a search through a user's events, each half of the one before."""
    return [1 << bit for bit in reversed(range(int(log.lengths.max()).bit_length()))]


def _index_answers(log: InteractionLog, new: New) -> None:
    """Sorts events by (user, item), earlier first, so that a search finds the latest event of an item.

    `keys` holds user * (n_items + 1) + item of every event by sorted place, and numbers above all of them after it,
    since a search may look that far; `order` (n_events,) the event; `different` (n_events + 1,) how many events before
    each are the latest of their user and item.
    """
    number = np.int32 if log.n_events < 2**31 - 1 else np.int64
    keys = new("keys", log.n_events + 2 * _strides(log)[0], np.int64)
    order, different = new("order", log.n_events, number), new("different", log.n_events + 1, number)
    latest = np.zeros(log.n_events, dtype=bool)

    def sort(first: int, last: int) -> None:
        low, high = np.searchsorted(log.offsets, [first, last])
        own = np.repeat(np.arange(low, high), np.diff(log.offsets[low : high + 1]))
        rows = small_order(own, log.items[first:last])
        rows = np.arange(last - first) if rows is None else rows
        own = (own * (log.n_items + 1) + log.items[first:last])[rows]
        keys[first:last], order[first:last] = own, rows + first
        latest[first:last][rows[np.append(own[1:] != own[:-1], True)]] = True

    on_all_cores(sort, whole_users(log.offsets[1:]))
    keys[log.n_events :] = np.iinfo(np.int64).max
    different[0] = 0
    np.cumsum(latest, dtype=number, out=different[1:])


def _range(log: InteractionLog, new: New) -> None:
    """Finds the lowest and highest reward."""
    new("range", 2, np.float64)[:] = np.min(log.rewards), np.max(log.rewards)


def _checked_range(log: InteractionLog) -> tuple[float, float]:
    """Returns the log's declared reward range after checking that its rewards are finite and inside it."""
    low, high = log.reward_range or (0.0, 0.0)
    found_low, found_high = arrays(log, "rewards", partial(_range, log))["range"].tolist()
    inside = np.float32(low) <= found_low and found_high <= np.float32(high)
    if not (np.isfinite([low, high]).all() and inside):
        raise DataError(
            f"rewards must be finite and lie in reward_range, got {found_low} to {found_high} for a range {low} to "
            f"{high}; give the log's true reward_range"
        )
    return low, high
