"""Users learned from a log: what they answer and when they leave, with how unsure the ensemble is."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.log.derived import different_items
from recgym.rng import RowRandom
from recgym.storage.store import readable
from recgym.users import assortment
from recgym.users.base import START_STREAM, Opening, Response
from recgym.users.clicks import Clicks
from recgym.users.fitted import files
from recgym.users.fitted.churn import Leaving
from recgym.users.fitted.ensemble import Answers
from recgym.users.fitted.factors import Factors
from recgym.users.fitted.penalties import Guards
from recgym.users.fitted.provenance import FittedOn, Seen

_ANSWER, _LEAVE = 1, 2  # random streams
_CHUNK = 1 << 15  # pairs that are predicted at a time


class LearnedState(NamedTuple):
    """Where B sessions stand."""

    user: Any  # (B,) int64
    place: Any  # (B,) int64: answers given in this session
    earned: Any  # (B,) float64: sum of what they were worth, each as a share of the range
    memory: Any  # (B, H) float32: what the answers depend on


class LearnedUsers:
    """Users who answer everything they are shown as a fitted ensemble expects; made by `recgym.users.fit`.

    **Start.** A user is drawn uniformly from those of the log it was fitted on. The opening frame holds their last F
    events, and the model knows all of them.

    **Answer.** Each item of the slate is answered with one of the rewards of the log, its *levels*, drawn with the
    ensemble's mean probabilities (under `misses`, the first of them means that it is not answered). Answered items
    enter the frame in slate order with these rewards. What the environment pays is the same, or less and more by the
    `Guards` put on with `guarded`.

    **Ends.** After every answer a user leaves with the probability of `Leaving`, and answers nothing further down the
    slate; nothing else ends a session but the environment's horizon.

    **History.** What a factorisation (`"mf"`) answers depends on nothing that was shown in the session: it is a bandit
    with a horizon, in which only leaving and the rule on repeats join one step to the next (`memoryless`). Answers of
    a sequential model follow from the history.

    **Places.** After `looking(clicks)` an item is answered only where that model of `Clicks` has it clicked, by its
    place in the slate; logs of answers do not tell of places, so nothing of it is fitted.

    **Known items.** After `knowing(log)` what a person has in that log counts as seen from the first step on: the model
    has learned these answers by heart.

    **Mind** that a model of logged answers prices policies badly even where it ranks them well: what was shown in the
    log was not drawn at random. Train and test with models fitted on different people.

    Args:
        answers: Parameters of the ensemble.
        leaving: Parameters of leaving.
        levels: Rewards an answer can be worth (L,) float32, ascending.
        user_ids: Outside ids (n_users,).
        item_ids: Outside ids (n_items,).
        recent: Last items (n_users, R) int32 of every user, padded on the left, and their rewards (n_users, R).
        misses: Whether the first level means that an item was not answered.
        reward_range: Lowest and highest reward of the log.
        fitted_on: What it saw.
        about: How it was fitted, as JSON.

    Attributes:
        log: The log whose users these are, where it is at hand; None after `load`.
        known: Items (n,) and offsets (n_users + 1,) of what each person knows before a session, or None.
    """

    def __init__(
        self,
        answers: Answers,
        leaving: Leaving,
        *,
        levels: np.ndarray,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        recent: tuple[np.ndarray, np.ndarray],
        misses: bool = False,
        reward_range: tuple[float, float],
        fitted_on: FittedOn,
        about: Mapping[str, Any],
    ) -> None:
        self.answers, self.leaving, self.levels = answers, leaving, levels
        self.user_ids, self.item_ids, self.n_items = user_ids, item_ids, len(item_ids)
        self.recent, self.fitted_on, self.about = recent, fitted_on, dict(about)
        self.misses = misses
        self.log: Any = None
        self.known: tuple[np.ndarray, np.ndarray] | None = None
        self.servable = np.flatnonzero((recent[0] < self.n_items).any(axis=1))
        self.log_range = self.reward_range = reward_range
        self.guards = Guards()
        self.clicks: Clicks | None = None
        self._gaps = np.diff(levels).astype(np.float64)

    @property
    def memoryless(self) -> bool:
        """Whether no answer depends on what was shown before; when a user leaves still may."""
        return self.answers.memory_size == 0

    # -- what it predicts ------------------------------------------------------------------------------------------

    def predict(self, users: Any, items: Any, history: History | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the expected reward and the ensemble's spread (its standard deviation), each of the shape of `items`.

        Args:
            users: User indices (B,).
            items: Item indices (B,) or (B, k).
            history: What each had done before (B, T); None: all that is known of them. Factorisations ignore it.
        """
        means = self.member_means(users, items, history)
        return means.mean(axis=-1), means.std(axis=-1)

    def member_means(self, users: Any, items: Any, history: History | None = None) -> np.ndarray:
        """Returns the expected reward by every member (B, M) or (B, k, M); arguments as of `predict`."""
        return np.concatenate([self._means(part) for part in self._parts(users, items, history)])

    def probabilities(self, users: Any, items: Any, history: History | None = None) -> np.ndarray:
        """Returns the probability of every level (B, L) or (B, k, L); arguments as of `predict`."""
        below = np.concatenate([part.mean(axis=-2) for part in self._parts(users, items, history)])
        edge = np.ones((*below.shape[:-1], 1))
        return np.diff(np.concatenate([0.0 * edge, below.astype(np.float64), edge], axis=-1), axis=-1)

    def expected_rewards(self, state: LearnedState, items: Any) -> np.ndarray:
        """Returns what each item would be paid on average, guards included (B, C): what a greedy policy maximises.

        Args:
            state: Of B sessions.
            items: Item indices (B, C); n_items is an empty place, which earns 0.
        """
        chance, worth = self.expected_answers(state, items, alone=True)
        return chance * worth

    def expected_answers(self, state: LearnedState, items: Any, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns how likely each place is answered, and what an answer is paid (B, k) each; see `UserModel`.

        Places are answered by themselves; that who leaves within a slate does not answer the rest is left out.
        """
        items = np.asarray(items)
        real = items < self.n_items
        wanted = np.where(real, items, 0)
        below = self.answers.below_all(state.memory, state.user)  # (B, n_items, M, L - 1)
        means = self._means(below)  # (B, n_items, M)
        paid = self.guards.paid(means.mean(axis=2), means.std(axis=2), np.arange(self.n_items))
        chance = np.ones(paid.shape)
        if self.misses:  # the first level is no answer
            chance = 1.0 - below[..., 0].mean(axis=2).astype(np.float64)
            paid = paid + (1.0 - chance) * (means.mean(axis=2) - self.levels[0]) / np.maximum(chance, 1e-12)
        taken = (np.take_along_axis(part, wanted, axis=1) for part in (chance, paid))
        chance, paid = (np.where(real, part, 0.0) for part in taken)
        if self.clicks is not None:
            chance = chance * self.clicks.attraction if alone else self.clicks.probabilities(chance)
        return chance, paid

    def best_slates(self, state: LearnedState, items: np.ndarray, k: int, miss_reward: float) -> np.ndarray:
        """Returns the columns of the slates that earn most now (B, k), leaving aside; see `UserModel`."""
        chance, worth = self.expected_answers(state, items, alone=True)
        in_cascade = self.clicks is not None and self.clicks.model == "cascade"
        best = assortment.in_cascade if in_cascade else assortment.by_place
        return best(chance, worth - miss_reward, items < self.n_items, k)

    def means_of_all(self, users: np.ndarray) -> np.ndarray:
        """Returns what every member expects of every item (B, n_items, M), of users (B,) as a session opens."""
        return self._means(self.answers.below_all(self.answers.opening(users), users))

    def saw(self, log: Any) -> Seen:
        """Returns how much of a log the model was fitted on, see `FittedOn.saw`."""
        return self.fitted_on.saw(log)

    # -- the user model --------------------------------------------------------------------------------------------

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[LearnedState, Opening]:
        """Returns the state of each session and its opening frame; see `UserModel`."""
        if users is None:
            users = self.servable[random.integers(rows, 1, START_STREAM, len(self.servable))[:, 0]]  # (R,)
        n = len(users)
        items = np.full((n, frame_size), self.n_items, dtype=np.int32)
        rewards = np.zeros((n, frame_size), dtype=np.float32)
        kept = min(frame_size, self.recent[0].shape[1])
        items[:, frame_size - kept :] = self.recent[0][users, -kept:]
        rewards[:, frame_size - kept :] = self.recent[1][users, -kept:]
        state = LearnedState(users, np.zeros(n, dtype=np.int64), np.zeros(n), self.answers.opening(users))
        return state, Opening(users, items, rewards)

    def respond(
        self, random: RowRandom, rows: Any, state: LearnedState, slate: Any, candidates: Any = None
    ) -> tuple[LearnedState, Response]:
        """Returns how sessions go on, and what users answer; see `UserModel`."""
        real = slate < self.n_items
        items = np.where(real, slate, 0)
        below = self.answers.below(state.memory, state.user, items)  # (B, k, M, L - 1)
        drawn = random.uniform(rows, slate.shape[1], _ANSWER)
        level = (drawn[:, :, None] >= below.mean(axis=2)).sum(axis=2)  # (B, k)
        worth = self.levels[level]
        luck = random.uniform(rows, slate.shape[1], _LEAVE)
        answered = real & (level > 0) if self.misses else real
        if self.clicks is not None:
            answered = self.clicks.draw(answered, random, rows)
        state, answered, left = self._on(state, items, level, answered, luck)
        paid = self.guards.paid(worth, self._means(below).std(axis=2), items) if self.guards.any else worth
        nobody = np.zeros(len(slate), dtype=bool)
        return state, Response(answered, paid, answered, slate, worth, left, nobody)

    def candidates(self, random: RowRandom, rows: Any, state: LearnedState) -> None:
        """Returns None: any item may be shown."""
        return None

    # -- guards ----------------------------------------------------------------------------------------------------

    def guarded(self, guards: Guards) -> LearnedUsers:
        """Returns the same users with guards on what the environment pays; parameters are shared."""
        made = copy(self)
        made.guards = guards
        made.reward_range = guards.reward_range(*self.log_range)
        return made

    def looking(self, clicks: Clicks) -> LearnedUsers:
        """Returns the same users, who answer what they would answer only where the click model has it clicked."""
        made = copy(self)
        made.clicks = clicks
        return made

    def knowing(self, log: InteractionLog) -> LearnedUsers:
        """Returns the same users, to whom their own items in a log of them are nothing new.

        Who would have fewer than half of all items left opens no session.

        Raises:
            DataError: if the log is of other users or items, or nobody is left to open a session.
        """
        if not (np.array_equal(log.user_ids, self.user_ids) and np.array_equal(log.item_ids, self.item_ids)):
            raise DataError("known items must come from a log of these users and items, got another; give their own")
        made = copy(self)
        made.known = (log.items, log.offsets)
        counts = different_items(log)
        made.servable = self.servable[2 * counts[self.servable] <= log.n_items]
        if len(made.servable) == 0:
            raise DataError(
                f"somebody must know at most half of the {log.n_items} items, got nobody of {log.n_users}; "
                "pass known='allow'"
            )
        return made

    # -- parts -----------------------------------------------------------------------------------------------------

    def level_of(self, rewards: Any) -> np.ndarray:
        """Returns the index of the nearest level of every reward, of any shape."""
        return np.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, np.asarray(rewards), side="left")

    def _on(
        self, state: LearnedState, items: np.ndarray, level: np.ndarray, answered: np.ndarray, luck: np.ndarray
    ) -> tuple[LearnedState, np.ndarray, np.ndarray]:
        """Returns the state after a slate, one place at a time, what was answered before leaving, and who left."""
        low, high = self.log_range
        share = (self.levels.astype(np.float64) - low) / max(high - low, 1e-12)
        place, earned, memory = state.place, state.earned, state.memory
        left, answered = np.zeros(len(items), dtype=bool), answered.copy()
        for column in range(items.shape[1]):
            answered[:, column] &= ~left
            here, worth = answered[:, column], share[level[:, column]]
            place, earned = place + here, earned + here * worth
            chance = self.leaving.chance(place, worth, earned / np.maximum(place, 1))
            left |= here & (luck[:, column] < chance)
            if self.answers.memory_size:
                moved = self.answers.after(memory, items[:, column], level[:, column])
                memory = np.where(here[:, None], moved, memory)
        return LearnedState(state.user, place, earned, memory), answered, left

    def _means(self, below: np.ndarray) -> np.ndarray:
        """Returns expected rewards (...) of chances to be at most each level but the last (..., L - 1)."""
        return self.levels[-1] - (below * self._gaps).sum(axis=-1)

    def _parts(self, users: Any, items: Any, history: History | None) -> Any:
        """Yields chances (b, ..., M, L - 1) of the pairs asked for, some at a time."""
        users, items = np.asarray(users), np.asarray(items)
        if items.shape[:1] != users.shape or items.ndim > 2:
            raise DataError(
                f"items must be (B,) or (B, k) for users (B,), got {items.shape} and {users.shape}; align them"
            )
        _check_indices("user", users, len(self.user_ids))
        _check_indices("item", items, self.n_items)
        wide = items if items.ndim == 2 else items[:, None]
        for begin in range(0, max(len(users), 1), max(1, _CHUNK // max(wide.shape[1], 1))):
            rows = slice(begin, begin + max(1, _CHUNK // max(wide.shape[1], 1)))
            if history is None or not self.answers.memory_size:
                memory = self.answers.opening(users[rows])
            else:
                past = (np.asarray(history.items)[rows], self.level_of(np.asarray(history.rewards)[rows]))
                memory = self.answers.of_history(*past, np.asarray(history.length)[rows])
            below = self.answers.below(memory, users[rows], wide[rows])
            yield below if items.ndim == 2 else below[:, 0]

    # -- files -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the model as one folder, safetensors and JSON; all or nothing. Guards are not written."""
        files.save(Path(folder), *self._contents())

    def write_into(self, folder: Path) -> None:
        """Writes the files of `save` into a folder that is there, for a cache that has a manifest of its own."""
        files.write(folder, *self._contents())

    def _contents(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
        seen = self.fitted_on
        arrays = {f"answers/{name}": array for name, array in self.answers.arrays().items()}
        arrays |= self.leaving.arrays() | {"seen users": seen.users, "seen events": seen.events}
        arrays |= {"levels": self.levels, "recent items": self.recent[0], "recent rewards": self.recent[1]}
        about = {
            "kind": self.answers.kind,
            "sessions": self.leaving.sessions,
            "misses": self.misses,
            "reward_range": self.log_range,
            "fitted_on": seen.about(),
            "about": self.about,
        }
        return arrays, {"user_ids": self.user_ids, "item_ids": self.item_ids}, about

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> LearnedUsers:
        """Returns the model that `save` wrote; a sequential one computes on `device`.

        Raises:
            StoreError: if the folder holds no such model, or one that is damaged.
        """
        arrays, ids, about = files.read(Path(folder))
        with readable(Path(folder), "hold learned users", "fit again"):
            own = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith("answers/")}
            low, high = about["reward_range"]
            return cls(
                _answers(about["kind"], own, about["about"], device),
                Leaving.from_arrays(arrays, about["sessions"]),
                levels=arrays["levels"],
                **ids,
                recent=(arrays["recent items"], arrays["recent rewards"]),
                misses=about["misses"],
                reward_range=(low, high),
                fitted_on=FittedOn(**about["fitted_on"], users=arrays["seen users"], events=arrays["seen events"]),
                about=about["about"],
            )


def _check_indices(name: str, index: np.ndarray, n: int) -> None:
    if index.size and not (index.min() >= 0 and index.max() < n):
        raise DataError(
            f"every {name} must be an index of 0 to {n - 1}, got {index.min()} to {index.max()}; look ids up in "
            f"{name}_ids"
        )


def _answers(kind: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], device: str) -> Answers:
    if kind == Factors.kind:
        return Factors.from_arrays(arrays, about, device)
    from recgym.users.fitted.recurrent import Recurrent

    return Recurrent.from_arrays(arrays, about, device)
