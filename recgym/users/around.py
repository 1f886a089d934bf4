"""Users with a trait of any user model put around them: leaving by repetition, a pool that changes, several behaviours.

Each is a user model that asks another one, and keeps what it remembers behind what that one does.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.options import check_choice, check_sizes, check_within, is_number, is_whole
from recgym.rng import RowRandom, uniforms
from recgym.users.base import Opening, Response, UserModel

_POOL, _FUNNEL = 1 << 20, 1 << 21  # random streams: of the items, and of the answers
REPETITIONS = {
    "cirs": (1, 0),
    "easyrl4rec": (4, 0),
}  # published: items looked back at, how many may be alike


class Beside(tuple):
    """The state of a model and of one around it: arrays, the inner model's first."""

    def __new__(cls, *parts: Any) -> Beside:
        """Returns the state made of arrays (B, ...)."""
        return super().__new__(cls, parts)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


class Around:
    """A user model around another; all but what is said here is the inner one's.

    Args:
        users: The inner model.
        frame_size: F of the environment.
    """

    n_own = 1  # arrays of its own at the end of the state

    def __init__(self, users: UserModel, frame_size: int) -> None:
        self.users = users
        one = RowRandom.from_seeds([0])
        state, _ = users.start(one, np.zeros(1, dtype=np.int64), frame_size, users.servable[:1])
        self._kind = type(state)
        self._listed = users.candidates(one, np.zeros(1, dtype=np.int64), state)

    def __getattr__(self, name: str) -> Any:
        if name == "users" or name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.users, name)
        return partial(self._of_inner, found) if callable(found) else found

    def _of_inner(self, asked: Any, *given: Any, **options: Any) -> Any:
        """Returns what a method of the inner model says, which knows its own states only."""
        return asked(*(self.inner(one) if isinstance(one, Beside) else one for one in given), **options)

    def inner(self, state: Beside) -> Any:
        """Returns the state of the inner model."""
        return self._kind(*state[: len(state) - self.n_own])

    def greed_is_best(self, k: int, repeats: str) -> bool:
        """Returns False: what is shown now may count later."""
        return False

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[Beside, Opening]:
        """Returns the state of each session and its opening frame; see `UserModel`."""
        state, opening = self.users.start(random, rows, frame_size, users)
        return Beside(*state, *self._opens(random, rows, opening)), opening

    def respond(
        self, random: RowRandom, rows: Any, state: Beside, slate: Any, candidates: Any = None
    ) -> tuple[Beside, Response]:
        """Returns how sessions go on, and what users answer; see `UserModel`."""
        inner = self.inner(state)
        after, response = self.users.respond(random, rows, inner, slate, candidates)
        own, response = self._after(random, rows, inner, state[len(state) - self.n_own :], slate, response)
        return Beside(*after, *own), response

    def candidates(self, random: RowRandom, rows: Any, state: Beside) -> Any:
        """Returns the items that may be shown now, or None for all; see `UserModel`."""
        return self.users.candidates(random, rows, self.inner(state))

    def _opens(self, random: RowRandom, rows: Any, opening: Opening) -> tuple[Any, ...]:
        """Returns the own part of the state (R, ...) as sessions open."""
        return (np.zeros(len(opening.user)),)

    def _after(
        self, random: RowRandom, rows: Any, inner: Any, own: tuple[Any, ...], slate: Any, response: Response
    ) -> tuple[tuple[Any, ...], Response]:
        """Returns the own part of the state, and what becomes of the answer."""
        return own, response


class Repetition(Around):
    """Users leave when an item is shown of a category that more than `most` of the last `window` items shown had.

    Items of a slate come one after another, from the top; empty places are none. The answers to that slate still count.

    Source: Gao et al. (2023), CIRS (ACM TOIS 42(1)), section 5.1, and EasyRL4Rec (SIGIR 2024): `REPETITIONS`.

    Args:
        users: The inner model.
        frame_size: F of the environment.
        categories: Which categories every item has (n_items, m) bool.
        window: Items looked back at.
        most: How many of them may have a category of the item shown.

    Raises:
        DataError: if a number is out of range, or the categories are of other items.
    """

    def __init__(
        self, users: UserModel, frame_size: int, categories: np.ndarray, window: int = 1, most: int = 0
    ) -> None:
        check_sizes(window=window)
        if not is_whole(most) or not 0 <= most < window:
            raise DataError(f"most must be a whole number from 0 to window - 1 = {window - 1}, got {most!r}; lower it")
        if categories.ndim != 2 or len(categories) != users.n_items:
            raise DataError(f"categories must be ({users.n_items}, m) as items are, got {categories.shape}; align them")
        super().__init__(users, frame_size)
        self.window, self.most = window, most
        self._categories = np.concatenate([categories > 0, np.zeros((1, categories.shape[1]), dtype=bool)])

    def _opens(self, random: RowRandom, rows: Any, opening: Opening) -> tuple[Any, ...]:
        return (np.full((len(opening.user), self.window), self.n_items, dtype=np.int64),)  # (R, window), newest last

    def _after(
        self, random: RowRandom, rows: Any, inner: Any, own: tuple[Any, ...], slate: Any, response: Response
    ) -> tuple[tuple[Any, ...], Response]:
        recent, left = own[0], np.array(response.left)
        for item in np.asarray(slate).T:
            alike = self._categories[recent].sum(axis=1) > self.most  # (B, m)
            left |= (self._categories[item] & alike).any(axis=1)
            moved = np.concatenate([recent[:, 1:], item[:, None]], axis=1)
            recent = np.where((item < self.n_items)[:, None], moved, recent)
        return (recent,), response._replace(left=left, ended=response.ended & ~left)


class Pool(Around):
    """Items come and go: only those of the pool may be shown, and what else is shown is an empty place.

    | `pool` | |
    |---|---|
    | `"growing"` | a `start` of the items is there at first, the others come one by one; after `span` all are there |
    | `"turning"` | a `start` of the items is there at any time; each stays for `start * span`, and comes every `span` |

    Time counts steps of the session, or sessions of the row. Which item comes when is drawn once, for everyone.

    Args:
        users: The inner model; to whom any item may be shown.
        frame_size: F of the environment.
        pool: See above.
        start: Share of the items, above 0 and at most 1.
        span: Units of time.
        by: `"step"` or `"session"`.
        seed: Of the order in which items come.

    Raises:
        DataError: if an option is out of range, or the users have candidates already.
    """

    def __init__(
        self,
        users: UserModel,
        frame_size: int,
        pool: str = "growing",
        start: float = 0.5,
        span: int = 20,
        by: str = "step",
        seed: int = 0,
    ) -> None:
        check_choice("pool", pool, ("growing", "turning"))
        check_choice("pool_by", by, ("step", "session"))
        check_sizes(pool_span=span)
        check_within(np.nextafter(0.0, 1.0), 1.0, pool_start=start)
        super().__init__(users, frame_size)
        if self._listed is not None:
            raise DataError(
                f"pool={pool!r} needs users to whom any item may be shown, got {type(users).__name__} with candidates "
                "of their own; leave it out"
            )
        self.pool, self.span, self.by = pool, span, by
        n = users.n_items
        self._comes: np.ndarray  # (n_items,) when each item comes
        rank = np.argsort(np.argsort(uniforms(seed, n, _POOL), kind="stable"), kind="stable")  # (n_items,)
        there = max(1, round(start * n))
        if pool == "growing":
            self._comes = np.ceil(np.maximum(rank - there + 1, 0) * span / max(n - there, 1)).astype(np.int64)
        else:
            self._comes, self._stays = rank / n * span, max(there / n * span, 1.0)

    def candidates(self, random: RowRandom, rows: Any, state: Beside) -> np.ndarray:
        """Returns the items of the pool (B, n_items), padded with n_items where they are not there."""
        time = state[-1][:, None]  # (B, 1)
        there = self._comes <= time if self.pool == "growing" else (time - self._comes) % self.span < self._stays
        return np.where(there, np.arange(self.n_items), self.n_items)

    def _opens(self, random: RowRandom, rows: Any, opening: Opening) -> tuple[Any, ...]:
        return (random.episode[rows] - 1 if self.by == "session" else np.zeros(len(opening.user), dtype=np.int64),)

    def _after(
        self, random: RowRandom, rows: Any, inner: Any, own: tuple[Any, ...], slate: Any, response: Response
    ) -> tuple[tuple[Any, ...], Response]:
        return (own[0] + (self.by == "step"),), response


class Funnel(Around):
    """Answers of several behaviours: each is one step further, taken by the fewer the less an item is wanted.

    An answer is always the first behaviour; behaviour j, counted from 0, goes with it with probability `p ** j`, where
    p is the probability of the answer times the share of the reward range that it is worth on average; who goes further
    has gone all the way before. An answer earns the sum of the weights of its behaviours, and enters the frame
    with it. Of opening events the first behaviour alone is known.

    Source: a rule of our own; the vector of behaviours with weights is KuaiSim's (Zhao et al. 2023).

    Args:
        users: The inner model, which has `expected_answers`.
        frame_size: F of the environment.
        weights: What each behaviour is worth, by name, in order.

    Raises:
        DataError: if there is no behaviour, a weight is no number, or the users do not say how likely an answer is.
    """

    n_own = 0

    def __init__(self, users: UserModel, frame_size: int, weights: dict[str, float]) -> None:
        check_weights(weights)
        if not hasattr(users, "expected_answers"):
            raise DataError(
                f"behaviours need users with expected_answers, got {type(users).__name__}; see "
                "recgym.users.base.UserModel"
            )
        super().__init__(users, frame_size)
        self.behaviours = tuple(weights)
        self._weights = np.array(list(weights.values()), dtype=np.float64)  # (m,)
        low, high = users.reward_range
        self._span = low, max(high - low, 1e-12)
        self.reward_range = range_of(weights)

    def __getattr__(self, name: str) -> Any:
        if name == "best_slates":  # of what answers were worth before; slates are searched
            raise AttributeError(name)
        return super().__getattr__(name)

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[Beside, Opening]:
        """Returns the state of each session and its opening frame; see `UserModel`."""
        state, opening = super().start(random, rows, frame_size, users)
        rewards = np.where(opening.items < self.n_items, self._weights[0], 0.0).astype(np.float32)
        return state, opening._replace(rewards=rewards)

    def expected_answers(self, state: Beside, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each place is answered, and what an answer is worth (B, k) each; see `UserModel`."""
        chance, worth = self.users.expected_answers(self.inner(state), items, alone)  # type: ignore[attr-defined]
        return chance, (self._further(chance, worth) * self._weights).sum(axis=2)

    def expected_rewards(self, state: Beside, items: Any) -> np.ndarray:
        """Returns what each item would earn on average, shown alone and now (B, C)."""
        chance, worth = self.expected_answers(state, items, alone=True)
        return chance * worth

    def _opens(self, random: RowRandom, rows: Any, opening: Opening) -> tuple[Any, ...]:
        return ()

    def _after(
        self, random: RowRandom, rows: Any, inner: Any, own: tuple[Any, ...], slate: Any, response: Response
    ) -> tuple[tuple[Any, ...], Response]:
        chance = self._further(*self.users.expected_answers(inner, slate))  # type: ignore[attr-defined]  # (B, k, m)
        drawn = random.uniform(rows, slate.shape[1], _FUNNEL)[:, :, None] < chance
        given = drawn & response.answered[:, :, None]
        worth = (given * self._weights).sum(axis=2).astype(np.float32)
        as_shown = np.shape(response.enter_rewards) == worth.shape
        entered = worth if as_shown else response.enter_rewards
        return own, response._replace(rewards=worth, enter_rewards=entered, behaviours=given)

    def _further(self, chance: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """Returns how likely each behaviour goes with an answer (B, k, m)."""
        low, span = self._span
        wanted = chance * np.clip((worth - low) / span, 0.0, 1.0)
        return np.asarray(wanted[:, :, None] ** np.arange(len(self._weights)))


def check_weights(weights: Any) -> None:
    """Raises DataError unless weights of behaviours are numbers by name."""
    fine = isinstance(weights, dict) and weights and all(map(is_number, weights.values()))
    if not fine:
        raise DataError(f"behaviours must be weights by name, got {weights!r}; give e.g. {{'click': 1, 'like': 2}}")


def range_of(weights: dict[str, float]) -> tuple[float, float]:
    """Returns the least and most that an answer of several behaviours can be worth."""
    return sum(min(one, 0.0) for one in weights.values()), sum(max(one, 0.0) for one in weights.values())
