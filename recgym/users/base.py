"""What a user model is: parameters and two functions. The environment owns all that changes in a session."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from recgym.rng import RowRandom

START_STREAM = 0  # random stream that says who opens a session; models number their further streams from 1


class Opening(NamedTuple):
    """How R sessions begin."""

    user: Any  # (R,) int64 user index
    items: Any  # (R, F) int32: the first frame, oldest first, padded on the left with n_items
    rewards: Any  # (R, F) float32, 0 where padded


class Response(NamedTuple):
    """How B users answer a slate of k items."""

    answered: Any  # (B, k) bool: which places of the slate the user answered; never an empty place
    rewards: Any  # (B, k) float32: what each answer is worth; ignored where not answered
    enters: Any  # (B, m) bool: which of the m events happened
    enter_items: Any  # (B, m) int: the item of each event, which enters the frame in this order
    enter_rewards: Any  # (B, m) float32: the reward that enters with it
    left: Any  # (B,) bool: the user's story ended (`terminated`)
    ended: Any  # (B,) bool: nothing more is known of the user (`truncated`)
    behaviours: Any = None  # (B, k, m) bool: which of the model's `behaviours` go with each answer, where it has any


class Clock(NamedTuple):
    """What time it is for B users."""

    hour: Any  # (B,) int 0..23
    weekday: Any  # (B,) int 0..6, from Monday
    day: Any  # (B,) float: days since the session began


class UserModel(Protocol):
    """Users as parameters and functions; rewards, tastes and weights here, never the state of a session.

    `start` returns a state, a NamedTuple of arrays whose first axis is the row (drift, budget, a hidden vector). The
    environment keeps it, hands it back, and puts rows of a new session in their place, so a model never knows how many
    rows there are or which of them restart. It may be asked about a row whose session is over; that answer is ignored.
    Draws come from `random` at `rows`, from streams of the model's own numbering.

    Where the truth is known, a model also has the following, for `recgym.evaluation.planning`, `floors` and `compare`:

    - `expected_rewards(state, items)`: what each item would earn on average, shown alone and now (B, C);
    - `expected_answers(state, items, alone=False)`: of slates (B, k), how likely each place is answered, and what an
      answer there is worth on average; with `alone`, of items (B, C) shown each by itself;
    - `best_slates(state, items, k, miss_reward)`: the columns (B, k) of items (B, C) whose slate earns most now,
      n_items being no item and C no column; None, or no such method: slates are searched (`recgym.users.best_slates`);
    - `told(state)` and `measures(state)`: what infos say of the sessions, and evaluation at their end, by name (B,);
    - `memoryless = True`: no answer depends on what was shown before;
    - `greed_is_best(k, repeats)`: whether no policy earns more than a greedy one, where misses earn nothing.

    And where there is such a thing:

    - `when(state)`: the `Clock`, for `context=["time"]`;
    - `features` (n_users, m) float32: what is known of every user, for `context=["user"]`;
    - `behaviours`: names of what goes with an answer, which responses tell of;
    - `story(state)`: what a picture shows of every row, as `(name, value, lowest, highest)`.

    Attributes:
        n_items: Number of items.
        item_ids: Outside ids (n_items,), in index order.
        user_ids: Outside ids (n_users,), in index order.
        servable: User indices that can open a session (n,) int64.
        reward_range: Lowest and highest reward of an answer and of an event in a frame, both finite.
    """

    n_items: int
    item_ids: np.ndarray
    user_ids: np.ndarray
    servable: np.ndarray
    reward_range: tuple[float, float]

    def start(self, random: RowRandom, rows: Any, frame_size: int, users: Any = None) -> tuple[Any, Opening]:
        """Returns the state of R new sessions and how they open.

        Args:
            random: Streams of all rows.
            rows: The R rows that begin, an index array or slice.
            frame_size: F.
            users: Who opens each session (R,) int64, servable; None draws them.
        """
        ...

    def respond(
        self, random: RowRandom, rows: Any, state: Any, slate: Any, candidates: Any = None
    ) -> tuple[Any, Response]:
        """Returns the next state and the answer of each user.

        Args:
            random: Streams of all rows.
            rows: The B rows that answer, an index array or slice.
            state: What `start` or the last `respond` returned for these rows.
            slate: Items shown (B, k) int64; n_items is an empty place.
            candidates: What `candidates` returned for this step.
        """
        ...

    def candidates(self, random: RowRandom, rows: Any, state: Any) -> Any:
        """Returns the items that may be shown now (B, C) int, each once, padded with n_items; None means all."""
        ...
