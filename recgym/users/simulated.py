"""Users put together from parts: taste, a model of choice, and traits with a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.options import check_choice
from recgym.rng import RowRandom
from recgym.users.base import START_STREAM, Clock, Opening, Response
from recgym.users.behaviours.base import Bar, Items, Luck, Part, Shown
from recgym.users.behaviours.choice import Choice, Logit

_CANDIDATES, _CHOICE, _OPENING, _FIRST_PART = 1, 2, 3, 4  # random streams; each part has four
_START, _WORTH, _UPDATE, _MOVE = range(4)


class SimulatedState(NamedTuple):
    """What B sessions remember."""

    user: np.ndarray  # (B,) int64
    taste: np.ndarray  # (B, d) float64
    memory: np.ndarray  # (B, m) float64: the memories of all parts side by side


class SimulatedUsers:
    """Users with known laws. Nothing here is learned from a log, so truth is known: floors and ceilings can be had.

    **Start.** Each session opens with the user's own taste and new memories. With `opening` events the frame holds
    items that the user chose without a recommender, by `exp(appetite * <u, v>)`, each worth what it is before noise;
    without, it is empty.

    **Answer.** Place i of the slate appeals by `slope * <u, v_i> + intercept`, changed by the parts in turn; the choice
    model says which places are answered, and the parts what an answer is worth (1, if none of them says) and how
    memory and taste go on.

    **Ends.** `left` as soon as a part says so. Nothing else: the environment's `horizon` does the rest.

    **Frame.** Answers enter it, or, with `remembers="shown"`, the whole slate: what was not answered with reward 0.

    Args:
        items: What is true of the items.
        tastes: Of all users (n_users, d).
        choice: How answers follow from appeal.
        parts: Traits, applied in this order.
        slope: What an inner product of taste and item is multiplied by.
        intercept: What is added to it.
        n_candidates: Items that may be shown at a step, drawn anew each time without repetition; None means all.
        opening: Events of an opening frame that are filled.
        appetite: How strongly taste decides them.
        item_ids: Outside ids (n_items,), by default 0, 1, ...
        user_ids: Outside ids (n_users,), by default 0, 1, ...
        servable: Users who can open a session (n,), by default all.
        remembers: What enters the frame: `"answered"` or `"shown"`.

    Attributes:
        reward_range: Of an answer; every answer is clipped to it.

    Raises:
        DataError: if shapes do not fit, or there are fewer items than candidates.
    """

    def __init__(
        self,
        items: Items,
        tastes: np.ndarray,
        choice: Choice | None = None,
        parts: Sequence[Part] = (),
        *,
        slope: float = 1.0,
        intercept: float = 0.0,
        n_candidates: int | None = None,
        opening: int = 0,
        appetite: float = 3.0,
        item_ids: Any = None,
        user_ids: Any = None,
        servable: Any = None,
        remembers: str = "answered",
    ) -> None:
        check_choice("remembers", remembers, ("answered", "shown"))
        tastes = np.asarray(tastes, dtype=np.float64)
        self.n_items = len(items.vectors) - 1
        if tastes.ndim != 2 or tastes.shape[1] != items.vectors.shape[1]:
            raise DataError(
                f"tastes must be (n_users, {items.vectors.shape[1]}) like the items' vectors, got {tastes.shape}; "
                "give both the same width"
            )
        if n_candidates is not None and not 1 <= n_candidates <= self.n_items:
            raise DataError(
                f"n_candidates must lie in 1..{self.n_items}, got {n_candidates}; leave it out for all items"
            )
        self.items, self.tastes = items, tastes
        self.choice: Choice = Logit() if choice is None else choice
        self.parts = tuple(parts)
        self.slope, self.intercept = slope, intercept
        self.n_candidates, self.opening, self.appetite, self.remembers = n_candidates, opening, appetite, remembers
        self.item_ids = np.arange(self.n_items) if item_ids is None else np.asarray(item_ids)
        self.user_ids = np.arange(len(tastes)) if user_ids is None else np.asarray(user_ids)
        self.servable = np.arange(len(tastes)) if servable is None else np.asarray(servable, dtype=np.int64)
        one, anyone = RowRandom.from_seeds([0]), self.servable[:1]
        sizes = [part.start(items, anyone, Luck(one, [0], 0)).shape[1] for part in self.parts]
        self._cuts = np.cumsum(sizes)[:-1]  # where one part's memory ends and the next begins
        bounds = [part.bounds for part in self.parts if part.bounds is not None]
        self.reward_range: tuple[float, float] = bounds[-1] if bounds else (0.0, 1.0)

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[SimulatedState, Opening]:
        """Returns the state of each session and its opening frame; see `UserModel`."""
        if users is None:
            users = self.servable[random.integers(rows, 1, START_STREAM, len(self.servable))[:, 0]]  # (R,)
        memories = [
            part.start(self.items, users, self._luck(random, rows, number, _START))
            for number, part in enumerate(self.parts)
        ]
        memory = np.concatenate([np.zeros((len(users), 0)), *memories], axis=1)
        state = SimulatedState(users, self.tastes[users], memory)
        items, rewards = self._opening_frame(random, rows, state, frame_size)
        return state, Opening(users, items, rewards)

    def respond(
        self, random: RowRandom, rows: Any, state: SimulatedState, slate: Any, candidates: Any = None
    ) -> tuple[SimulatedState, Response]:
        """Returns how sessions go on, and what users answer; see `UserModel`."""
        own = self._memories(state)
        shown = self._shown(state, slate)
        answered = self.choice.choose(self._appeal(own, shown), Luck(random, rows, _CHOICE)) & shown.real
        lucks = [[self._luck(random, rows, number, use) for use in range(4)] for number in range(len(self.parts))]
        worth = self._worth(own, shown, [luck[_WORTH] for luck in lucks])
        shown = shown._replace(answered=answered, worth=worth)
        taste, memories = state.taste, []
        for part, mine, luck in zip(self.parts, own, lucks, strict=True):
            taste = part.move(mine, shown, taste, luck[_MOVE])
            memories.append(part.update(mine, shown, luck[_UPDATE]))
        left = np.zeros(len(slate), dtype=bool)
        for part, mine in zip(self.parts, memories, strict=True):
            left |= part.leaves(mine)
        memory = np.concatenate([np.zeros((len(slate), 0)), *memories], axis=1)
        rewards = worth.astype(np.float32)
        enters, enter_rewards = answered, rewards
        if self.remembers == "shown":
            enters, enter_rewards = shown.real, np.where(answered, rewards, np.float32(0))
        response = Response(answered, rewards, enters, shown.slate, enter_rewards, left, np.zeros_like(left))
        return SimulatedState(state.user, taste, memory), response

    def candidates(self, random: RowRandom, rows: Any, state: SimulatedState) -> Any:
        """Returns the items that may be shown (B, C), one from each of C stretches of the catalog, or None for all."""
        if self.n_candidates is None:
            return None
        edges = np.arange(self.n_candidates + 1) * self.n_items // self.n_candidates
        place = random.uniform(rows, self.n_candidates, _CANDIDATES) * np.diff(edges)
        return edges[:-1] + place.astype(np.int64)

    def expected_rewards(self, state: SimulatedState, items: Any) -> np.ndarray:
        """Returns what each item would earn on average, shown alone and now (B, C): the truth behind a greedy policy.

        Args:
            state: Of B sessions.
            items: Item indices (B, C); n_items is an empty place, which earns 0.
        """
        chance, worth = self.expected_answers(state, items, alone=True)
        return chance * worth

    def expected_answers(self, state: SimulatedState, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each place is answered, and what an answer is worth (B, k) each; see `UserModel`."""
        own, shown = self._memories(state), self._shown(state, np.asarray(items))._replace(alone=alone)
        appeal = self._appeal(own, shown)
        chance = (
            self.choice.probabilities(appeal.reshape(-1, 1)).reshape(appeal.shape)
            if alone
            else self.choice.probabilities(appeal)
        )
        return chance, self._worth(own, shown, [None] * len(self.parts))

    def best_slates(self, state: SimulatedState, items: np.ndarray, k: int, miss_reward: float) -> np.ndarray | None:
        """Returns the columns of the slates that earn most now, or None: to be searched; see `UserModel`."""
        if not hasattr(self.choice, "best_slates") or any(part.of_slate for part in self.parts):
            return None
        own, shown = self._memories(state), self._shown(state, items)._replace(alone=True)
        gain = self._worth(own, shown, [None] * len(self.parts)) - miss_reward
        return self.choice.best_slates(self._appeal(own, shown), gain, k)

    def when(self, state: SimulatedState) -> Clock:
        """Returns the day, where a part counts days; see `UserModel`.

        Raises:
            DataError: if none does.
        """
        days = [part.day(mine) for part, mine in zip(self.parts, self._memories(state), strict=True)]
        counted = [day for day in days if day is not None]
        if not counted:
            raise DataError(
                "context 'time' needs users who count days, got none whose parts do; leave it out, or see Returning"
            )
        nothing = np.zeros(len(state.user), dtype=np.int64)
        return Clock(nothing, nothing, counted[0])

    def story(self, state: SimulatedState) -> list[Bar]:
        """Returns what the parts have to show of every session."""
        parts = zip(self.parts, self._memories(state), strict=True)
        return [bar for part, mine in parts for bar in part.story(mine)]

    def told(self, state: SimulatedState) -> dict[str, np.ndarray]:
        """Returns what infos say of the sessions beside what they always say, by name (B,)."""
        own = self._memories(state)
        return {name: of for part, mine in zip(self.parts, own, strict=True) for name, of in part.told(mine).items()}

    def measures(self, state: SimulatedState) -> dict[str, np.ndarray]:
        """Returns what evaluation says of sessions beside their return and length, by name (B,) float64."""
        own = self._memories(state)
        return {
            name: of for part, mine in zip(self.parts, own, strict=True) for name, of in part.measures(mine).items()
        }

    # -- parts of a step -------------------------------------------------------------------------------------------

    def _luck(self, random: RowRandom, rows: Any, number: int, use: int) -> Luck:
        return Luck(random, rows, _FIRST_PART + 4 * number + use)

    def _memories(self, state: SimulatedState) -> list[np.ndarray]:
        return np.split(state.memory, self._cuts, axis=1)[: len(self.parts)]

    def _shown(self, state: SimulatedState, slate: np.ndarray) -> Shown:
        items = self.items
        return Shown(
            user=state.user,
            taste=state.taste,
            slate=slate,
            real=slate < self.n_items,
            vectors=items.vectors[slate],
            topic=items.topic[slate],
            quality=items.quality[slate],
            answered=np.zeros(slate.shape, dtype=bool),
            worth=np.ones(slate.shape),
        )

    def _appeal(self, own: list[np.ndarray], shown: Shown) -> np.ndarray:
        taste = shown.taste
        for part, mine in zip(self.parts, own, strict=True):
            taste = part.felt(mine, taste)
        appeal = self.slope * (shown.vectors @ taste[:, :, None])[:, :, 0] + self.intercept
        for part, mine in zip(self.parts, own, strict=True):
            appeal = part.appeal(mine, shown, appeal)
        return np.where(shown.real, appeal, -np.inf)

    def _worth(self, own: list[np.ndarray], shown: Shown, lucks: Sequence[Luck | None]) -> np.ndarray:
        worth = shown.worth
        for part, mine, luck in zip(self.parts, own, lucks, strict=True):
            worth = part.worth(mine, shown, worth, luck)
        return np.where(shown.real, np.clip(worth, *self.reward_range), 0.0)

    def _opening_frame(
        self, random: RowRandom, rows: Any, state: SimulatedState, frame_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns items (R, F) int32 and rewards (R, F) float32 of what users chose before they met a recommender."""
        n = min(self.opening, frame_size)
        items = np.full((len(state.user), frame_size), self.n_items, dtype=np.int32)
        rewards = np.zeros(items.shape, dtype=np.float32)
        if n == 0:
            return items, rewards
        appeal = self.appetite * (state.taste @ self.items.vectors[:-1].T)  # (R, n_items)
        weights = np.exp(appeal - appeal.max(axis=1, keepdims=True))
        reached = np.cumsum(weights, axis=1)
        points = random.uniform(rows, n, _OPENING) * reached[:, -1:]  # (R, n)
        chosen = np.stack([(reached <= points[:, place, None]).sum(axis=1) for place in range(n)], axis=1)
        shown = self._shown(state, chosen)
        items[:, frame_size - n :] = chosen
        rewards[:, frame_size - n :] = self._worth(self._memories(state), shown, [None] * len(self.parts))
        return items, rewards
