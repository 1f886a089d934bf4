"""All that changes while users are shown items, B sessions at a time, and how it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.rng import RowRandom

if TYPE_CHECKING:
    from recgym.users.base import UserModel

ALL = slice(None)
_CHANGING = ("user", "items", "rewards", "seen", "slate", "answered", "worth", "total")


class Feedback(NamedTuple):
    """What is known of a slate once its answers are: the slate, and its answers' names as in `Response`."""

    slate: np.ndarray
    answered: np.ndarray
    worth: np.ndarray
    behaviours: np.ndarray
    enters: np.ndarray
    enter_items: np.ndarray
    enter_rewards: np.ndarray


class Late:
    """Answers under way: each arrives `delay` steps after its slate was shown.

    Attributes:
        arrays: The fields of `Feedback` of the last slates (B, delay, ...), oldest first; empty before the first slate.
    """

    def __init__(self, n_rows: int, delay: int, n_items: int) -> None:
        self.n_rows, self.delay, self.n_items = n_rows, delay, n_items
        self.arrays: list[np.ndarray] = []

    def forget(self, rows: Any) -> None:
        """Empties the rows (an index array or slice) of sessions that begin."""
        for number, array in enumerate(self.arrays):
            array[rows] = 0 if number else self.n_items  # the first is the slate

    def exchange(self, new: Feedback) -> Feedback:
        """Takes what will be known of the slate shown now, returns what is of the one shown `delay` steps ago."""
        parts = [np.asarray(part) for part in new]
        if not self.arrays:
            self.arrays = [np.zeros((self.n_rows, self.delay, *part.shape[1:]), part.dtype) for part in parts]
            self.forget(slice(None))
        known = Feedback(*(array[:, 0].copy() for array in self.arrays))
        for array, part in zip(self.arrays, parts, strict=True):
            array[:, :-1] = array[:, 1:].copy()
            array[:, -1] = part
        return known

    def waiting(self) -> Iterator[Feedback]:
        """Yields what will be known of the slates that have no answer yet, oldest first."""
        for place in range(self.delay if self.arrays else 0):
            yield Feedback(*(array[:, place] for array in self.arrays))


class Sessions:
    """B sessions: who they are with, the frame, what was seen, the last slate. Ending and restarting is the caller's.

    Attributes:
        users: The user model; not part of a copy or pickle, whoever makes one puts it back.
        random: Streams of the rows; their `step` is the number of slates shown in the session.
        state: The user model's own arrays, None before the first session.
        user: User indices (B,) int64.
        items: Frames (B, F) int32, oldest first, padded on the left with n_items.
        rewards: Rewards of the frames (B, F) float32.
        seen: Items shown or in a frame (B, n_items + 1) bool; the last column means nothing.
        slate: What was shown last, and its answers are known (B, k) int64; n_items before the first step.
        answered: Which of it was answered (B, k) bool.
        worth: What each place of it earned (B, k) float64; the step's reward is their sum.
        behaviours: Which behaviours went with each answer (B, k, m) bool; m is 0 where there are none.
        total: Sum of rewards in the session (B,) float64.
        late: Answers that have not arrived; None where they come at once, as the two after it are of no use then.
        shown: What was shown last (B, k) int64, whether its answers have arrived or not.
        rest: What came at the end of a session for the slates still to be answered (B,) float64.
    """

    def __init__(
        self,
        users: UserModel,
        n_rows: int,
        frame_size: int,
        k: int,
        horizon: int,
        repeats: str,
        miss_reward: float,
        delay: int = 0,
    ) -> None:
        n_items = users.n_items
        self.users = users
        self.frame_size, self.horizon, self.repeats, self.miss_reward = frame_size, horizon, repeats, miss_reward
        self.random = RowRandom.from_seeds([0] * n_rows)
        self.state: Any = None
        self.user = np.zeros(n_rows, dtype=np.int64)
        self.items = np.full((n_rows, frame_size), n_items, dtype=np.int32)
        self.rewards = np.zeros((n_rows, frame_size), dtype=np.float32)
        self.seen = np.zeros((n_rows, n_items + 1), dtype=bool)
        self.slate = np.full((n_rows, k), n_items, dtype=np.int64)
        self.answered = np.zeros((n_rows, k), dtype=bool)
        self.worth = np.zeros((n_rows, k), dtype=np.float64)
        self.total = np.zeros(n_rows, dtype=np.float64)
        self.behaviours = np.zeros((n_rows, k, len(getattr(users, "behaviours", ()))), dtype=bool)
        self.shown, self.rest = self.slate.copy(), self.total.copy()
        self.late = Late(n_rows, delay, n_items) if delay else None
        self._everyone = np.arange(n_rows)
        self._may_run_out = repeats == "mask" and n_items < frame_size + horizon * (k + 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "users": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nothing = np.zeros((*state["slate"].shape, 0), dtype=bool)
        everyone = np.arange(len(state["slate"]))
        self.__dict__.update(
            {"late": None, "behaviours": nothing, "_everyone": everyone, **state}
        )  # of earlier releases

    @property
    def n_items(self) -> int:
        """Number of items; as an item index it means padding or an empty place."""
        return self.seen.shape[1] - 1

    def begin(self, rows: Any, users: np.ndarray | None = None) -> None:
        """Begins new sessions in R rows (an index array or slice; at first all), with given users or drawn ones."""
        self.random.begin(rows)
        state, opening = self.users.start(self.random, rows, self.frame_size, users)
        if self.state is None:
            self.state = state
        else:
            self.state = type(state)(*(_put(old, rows, new) for old, new in zip(self.state, state, strict=True)))
        self.user[rows] = opening.user
        self.items[rows] = opening.items
        self.rewards[rows] = opening.rewards
        self.seen[rows] = False
        self.seen[np.arange(len(self.user))[rows][:, None], self.items[rows]] = True
        known = getattr(self.users, "known", None)
        if known is not None:  # as if they had been shown before
            begin = known[1][self.user[rows]]
            counts = known[1][self.user[rows] + 1] - begin  # (R,)
            events = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            self.seen[np.repeat(np.arange(len(self.user))[rows], counts), known[0][events]] = True
        self.slate[rows] = self.n_items
        self.answered[rows] = False
        self.worth[rows] = 0.0
        self.total[rows] = 0.0
        self.behaviours[rows] = False
        if self.late is not None:
            self.late.forget(rows)
            self.shown[rows], self.rest[rows] = self.n_items, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Returns all that changes, as arrays; what the user model remembers under `state`, in its order."""
        own = {name: getattr(self, name) for name in self._changing}
        if self.late is not None:
            own["late"] = self.late.arrays
        random = {name: getattr(self.random, name) for name in ("key", "episode", "step")}
        return own | {"random": random, "state": None if self.state is None else list(self.state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned; there has been a first session.

        Raises:
            DataError: if it is of another number of rows, or another user model.
        """
        given, remembered = {name: np.array(state[name]) for name in self._changing if name in state}, state["state"]
        own = [getattr(self, name).shape for name in self._changing]
        late = [np.shape(array)[:2] for array in state.get("late", ())]
        as_late = {(len(self.user), self.late.delay)} if self.late is not None and late else set()
        other = [array.shape for array in given.values()] != own or {*late} != as_late
        if other or (remembered and len(remembered) != len(self.state)):
            raise DataError(
                f"sessions must be of {len(self.user)} rows, {self.n_items} items and the same user model, got "
                f"{len(given['user'])} rows and {given['seen'].shape[1] - 1} items; make the environment as it was"
            )
        for name, array in given.items():
            setattr(self, name, array)
        if self.late is not None:
            self.late.arrays = [np.array(array) for array in state.get("late", ())]
        for name, array in state["random"].items():
            setattr(self.random, name, np.array(array))
        kept = [None if part is None else np.array(part) for part in remembered or ()]
        self.state = type(self.state)(*kept) if remembered else None

    @property
    def _changing(self) -> tuple[str, ...]:
        """Names of the arrays that change, where they are of use."""
        further = ("behaviours",) if self.behaviours.shape[2] else ()
        return (*_CHANGING, *further, *(("shown", "rest") if self.late is not None else ()))

    def candidates(self) -> Any:
        """Returns the items that the user model lets be shown now (B, C) int, or None for all."""
        return self.users.candidates(self.random, ALL, self.state)

    def blocked(self) -> np.ndarray | None:
        """Returns which items must not be chosen again (B, n_items) bool, a view, or None where any may."""
        return self.seen[:, :-1] if self.repeats == "mask" else None

    def allowed(self) -> np.ndarray:
        """Returns which items may be shown now (B, n_items) bool."""
        allowed = ~self.seen if self.repeats == "mask" else np.ones_like(self.seen)
        candidates = self.candidates()
        return (allowed if candidates is None else allowed & self._listed(candidates))[:, :-1]

    def advance(self, slate: np.ndarray, candidates: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shows a slate (B, k) int64 in every row; returns rewards (B,) float64, terminated and truncated (B,) bool."""
        void = self._void(slate, candidates)
        offered = np.where(void, self.n_items, slate)
        self.state, response = self.users.respond(self.random, ALL, self.state, offered, candidates)
        worth = np.where(response.answered, response.rewards.astype(np.float64), self.miss_reward)  # (B, k)
        worth[void] = 0.0
        gone_with = self.behaviours[:, :, :0] if response.behaviours is None else response.behaviours
        now = Feedback(slate, response.answered, worth, gone_with, *response[2:5])
        if self.late is not None:
            self.shown, now = slate, self.late.exchange(now)
        self._enter(now)
        self.slate, self.answered, self.worth, self.behaviours = now[:4]
        rewards = now.worth.sum(axis=1) if now.worth.shape[1] > 1 else now.worth[:, 0].copy()
        self.random.step += 1
        terminated = response.left
        truncated = response.ended | (self.random.step >= self.horizon)
        if self.repeats == "mask":
            truncated |= self._left_to_show() < slate.shape[1]
        if self.late is not None:
            self.rest = self._all_that_is_late(terminated | truncated)
            rewards = rewards + self.rest
        self.total += rewards
        return rewards, terminated, truncated & ~terminated

    def _all_that_is_late(self, done: np.ndarray) -> np.ndarray:
        """Lets all answers arrive in rows that are done (B,) bool; returns what they earn (B,)."""
        rest = np.zeros(len(done))
        for one in self.late.waiting() if self.late is not None and done.any() else ():
            self._enter(one._replace(enters=one.enters & done[:, None]))
            rest += np.where(done, one.worth.sum(axis=1), 0.0)
        return rest

    def _left_to_show(self) -> Any:
        """Returns how many unseen items each row could show now (B,), or n_items where no row can run out of them."""
        candidates = self.candidates()
        if candidates is not None:
            unseen = ~self.seen[np.arange(len(candidates))[:, None], candidates]
            return np.count_nonzero(unseen & (candidates != self.n_items), axis=1)
        return np.count_nonzero(~self.seen[:, :-1], axis=1) if self._may_run_out else self.n_items

    def _void(self, slate: np.ndarray, candidates: Any) -> np.ndarray:
        """Returns which places count as empty (B, k) bool, repeats and no candidates; notes what was shown as seen.

        An item earns once per slate whatever `repeats` says, so of two places that show it the lower one is void.
        """
        void = slate == self.n_items
        everyone = self._everyone
        for place in range(slate.shape[1]):  # in turn, so that an item is a repeat of its like in the same slate
            if self.repeats != "allow":
                void[:, place] |= self.seen[everyone, slate[:, place]]
                self.seen[everyone, slate[:, place]] = True
            elif place:
                void[:, place] |= (slate[:, :place] == slate[:, place, None]).any(axis=1)
        return void if candidates is None else void | ~self._listed(candidates)[everyone[:, None], slate]

    def _listed(self, candidates: Any) -> np.ndarray:
        listed = np.zeros_like(self.seen)
        listed[np.arange(len(candidates))[:, None], candidates] = True
        return listed

    def _enter(self, known: Feedback) -> None:
        """Pushes what happened into the frames from the right, one event of each row at a time."""
        for place in range(known.enters.shape[1]):
            rows = known.enters[:, place].nonzero()[0]
            if len(rows):
                item = known.enter_items[rows, place]
                self.items[rows] = np.concatenate([self.items[rows, 1:], item[:, None]], axis=1)
                reward = known.enter_rewards[rows, place]
                self.rewards[rows] = np.concatenate([self.rewards[rows, 1:], reward[:, None]], axis=1)
                self.seen[rows, item] = True


def _put(old: np.ndarray, rows: Any, new: np.ndarray) -> np.ndarray:
    """Returns `old` with `new` at `rows`, as a new array: a model may have given one array for two fields."""
    both = old.copy()
    both[rows] = new
    return both
