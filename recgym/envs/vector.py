"""The environment: sessions of users who are shown items, many at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from numbers import Integral
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from recgym.actions import ActionMapper, EmbeddingActions, ItemActions
from recgym.catalog import Catalog
from recgym.envs.context import Context
from recgym.envs.infos import Infos
from recgym.envs.render import METADATA, as_image, as_text
from recgym.envs.sessions import ALL, Sessions
from recgym.envs.spaces import OBSERVATIONS, observation_space, observe
from recgym.errors import ActionError, DataError
from recgym.options import (
    asked_users,
    check_choice,
    check_finite,
    check_items,
    check_sizes,
    check_slate,
    is_whole,
    reset_mask,
    row_seeds,
)

if TYPE_CHECKING:
    from recgym.users.base import UserModel

ACTIONS = ("embedding", "item")
REPEATS = ("mask", "zero", "allow")
_DERIVED = ("mapper", "_infos", "_beside")  # made of the parameters
Recipe = Callable[[], tuple[Catalog, "UserModel"]]  # makes the parameters anew, so that a pickle need not hold them


class RecVectorEnv(VectorEnv):
    """B sessions with users who answer what they are shown; row i equals a `RecEnv` seeded `s + i`.

    **Start.** The user model says who opens a session and with which frame, F events from before it. Items of the
    opening frame count as seen.

    **Step.** The action mapper turns each action into a slate of k items, the user model answers, and what the user
    consumed enters the frame from the right:

        reward = sum over the slate of: the answer's reward where answered, `miss_reward` where not, 0 where empty

    **Spaces**, for F = `frame_size`, d the width of an item vector and n items:

    | option | space of one row |
    |---|---|
    | `observation="frame"` | Box (F*(d+1),) float32: F item vectors oldest first, then F rewards oldest first |
    | `observation="history"` | Dict: `item_history` MultiDiscrete of F in 0..n (n pads), `reward_history` Box (F,) |
    | `observation="user_history"` | the same and `user` Discrete(n_users), the index of `infos["user"]` |
    | `observation="sequence"` | that of `"history"` and `length` Discrete(F+1): how many of the last are events |
    | `observation="sequence_embeddings"` | `embeddings` Box -1..1 (F, d) float32, `reward_history` and `length` |
    | any, and `context` | Dict: the same (a frame as `frame`), and what is asked for, see `context.Context` |
    | `action="embedding"` | Box -1..1 (d,) float32: the k nearest items by `mapper` are shown |
    | `action="item"` | Discrete(n), or MultiDiscrete of k of them |

    **Repeats**. An item earns once per slate: its second place there is empty, under every option. Items that were
    shown in an earlier slate of the session, or stood in a frame of it:

    | `repeats` | |
    |---|---|
    | `"mask"` | vectors never choose one; as an item action it earns zero; `action_masks()` tells |
    | `"zero"` | may be chosen, earns zero, is not answered |
    | `"allow"` | is like any other item |

    **Ends.** `terminated` when the user model says the user left; `truncated` after `horizon` steps, when the model
    knows no more of the user, or when fewer than k unseen items are left under `"mask"`; never both.

    **Infos**, the same keys at every reset and step: `user` (index), `user_id`, `items` (k,) (the slate; n before the
    first), `item_ids` (k,), `answered` (k,) bool, `item_rewards` (k,) (what each place earned); `candidates` (C,)
    under `candidate_infos`; `behaviours` (k, m) bool, which of the users' `behaviours` went with each answer, if they
    have any.

    **Delay.** With `delay` = n the answers to a slate arrive n steps later: the reward of a step, `answered`,
    `item_rewards` and what enters the frame are those of the slate shown n steps ago, which `items` names then (n_items
    before); `shown` is the one shown last. When a session ends all that is under way arrives at once: `late_rewards` of
    the reward are of it. So the rewards of a session sum to what they would without.

    **Reset options**: `user`, an index or one per row; `reset_mask` (B,) bool, the rows to reset.

    **Autoreset**: all three modes of Gymnasium. Under `"NextStep"` the step after an end ignores the action and returns
    reward 0 with the new session's first observation: drop those rows when learning, or use `"SameStep"`.

    **Source.** The frame's layout is RecNN's, the rest this project's own. **Versions**: see `recgym.envs.registry`.

    Args:
        num_envs: B.
        users: How users answer.
        catalog: The items; in the index order of `users`.
        frame_size: F.
        horizon: Steps after which a session is cut off.
        k: Items shown together.
        action: `"embedding"` or `"item"`.
        mapper: `"inner"`, `"cosine"`, `"l2"` or `"box"`; for vectors only (see `EmbeddingActions`).
        approximate_above: Items above which the search for the nearest is approximate; None: never.
        observation: One of the five above.
        old_keys: Whether `item_history` and `reward_history` are called `items` (a Box) and `rewards`, as in `-v0`.
        candidate_infos: Whether infos hold `candidates`, what may be shown next: `"index"` (C,), padded with n, or
            `"vector"` (C, d); None: not. For users who have candidates.
        context: What observations hold besides: some of `"user"`, `"time"`, `"candidates"` and `"candidate_vectors"`.
        delay: Steps until the answers to a slate arrive.
        repeats: `"mask"`, `"zero"` or `"allow"`.
        miss_reward: What an item earns that is shown for the first time and not answered.
        autoreset_mode: `"NextStep"`, `"SameStep"` or `"Disabled"`, or Gymnasium's enum.
        render_mode: None, `"ansi"` or `"rgb_array"`.
        max_episode_steps: Another name for a limit on steps; the smaller one counts. None or -1 is no limit.
        recipe: Makes (catalog, users) anew; if given, a pickle holds the recipe and not the data.

    Raises:
        DataError: if an option is unknown or out of range, or the users' items are not the catalog's.
    """

    metadata = METADATA

    def __init__(
        self,
        num_envs: int,
        *,
        users: UserModel,
        catalog: Catalog,
        frame_size: int = 10,
        horizon: int = 20,
        k: int = 1,
        action: str = "embedding",
        mapper: str = "inner",
        approximate_above: int | None = None,
        observation: str = "frame",
        old_keys: bool = False,
        candidate_infos: str | None = None,
        context: Sequence[str] = (),
        delay: int = 0,
        repeats: str = "mask",
        miss_reward: float = 0.0,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        check_choice("action", action, ACTIONS)
        check_choice("observation", observation, OBSERVATIONS)
        check_choice("repeats", repeats, REPEATS)
        check_choice("candidate_infos", candidate_infos, (None, "index", "vector"))
        check_choice("render_mode", render_mode, (None, *METADATA["render_modes"]))
        check_choice("autoreset_mode", autoreset_mode, [form for mode in AutoresetMode for form in (mode, mode.value)])
        limit = horizon if max_episode_steps in (None, -1) else max_episode_steps
        check_sizes(num_envs=num_envs, frame_size=frame_size, horizon=horizon, k=k, max_episode_steps=limit)
        check_finite(miss_reward=miss_reward)
        if not is_whole(delay) or delay < 0:
            raise DataError(f"delay must be a whole number of at least 0, got {delay!r}; give steps")
        check_items(users.item_ids, catalog.item_ids, k, frame_size if repeats == "mask" else 0)
        check_slate(k, getattr(users, "n_candidates", None))
        self.num_envs = num_envs
        self.users, self.catalog, self.recipe = users, catalog, recipe
        self.frame_size, self.k = frame_size, k
        self.horizon = min(horizon, limit)
        self.action, self.observation, self.repeats = action, observation, repeats
        self.old_keys, self.candidate_infos = old_keys, candidate_infos
        self.miss_reward, self.delay = miss_reward, delay
        self.context = [context] if isinstance(context, str) else context
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**METADATA, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._mapper_options: dict[str, Any] = {"mapper": mapper, "approximate_above": approximate_above}
        self._sessions = Sessions(users, num_envs, frame_size, k, self.horizon, repeats, miss_reward, delay)
        self._derive()
        self.single_observation_space = self._beside.space(
            observation_space(observation, catalog, frame_size, users.reward_range, len(users.user_ids), old_keys)
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.mapper.single_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.seeded = False  # whether the rows have keys
        self._ended = np.zeros(num_envs, dtype=bool)  # rows that wait for a reset

    _masked = True  # a single environment's infos have no masks

    def _derive(self) -> None:
        """Makes what follows from the parameters, and is not worth a place in a pickle."""
        self.mapper: ActionMapper = (
            ItemActions(self.catalog.n_items, self.k)
            if self.action == "item"
            else EmbeddingActions(self.catalog, self.k, **self._mapper_options)
        )
        self._sessions.users = self.users
        self._beside = Context(self.context, self.users, self.catalog, self.frame_size)
        self._infos = Infos(self.catalog, self.users.user_ids, self.candidate_infos, self._masked)

    # -- Gymnasium's interface -------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins sessions, in all rows or those of `options["reset_mask"]`; returns observations and infos.

        Args:
            seed: Row i gets seed `seed + i`, or `seed[i]`. A row whose seed is None goes on with its own stream, or
                gets one of fresh entropy where it has none yet.
            options: `user`: index, or one per row (B,), of who opens the session. `reset_mask`: rows to reset.
        """
        options = dict(options or {})
        mask = reset_mask(options.pop("reset_mask", None), self.num_envs)
        asked = asked_users(options.pop("user", None), self.num_envs, self.users.servable)
        if options:
            raise DataError(f"reset options must be 'user' or 'reset_mask', got {sorted(options)}; drop the others")
        if mask is not None and self._sessions.state is None:
            raise ResetNeeded("all rows must be reset before some of them, got a reset_mask first; reset without it")
        self._seed_rows(seed, mask)
        rows: Any = slice(None) if mask is None else np.flatnonzero(mask)
        self._sessions.begin(rows, None if asked is None else asked[rows])
        if self.candidate_infos is not None and self._sessions.candidates() is None:
            raise DataError(
                f"candidate_infos={self.candidate_infos!r} needs users who have candidates, got users to whom any item "
                "may be shown; leave it out, or give n_candidates where the id has it"
            )
        self._ended[rows] = False
        return self._observation(), self._infos.of(self._sessions, mask)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Shows what the actions ask for; returns observations, rewards, terminations, truncations and infos."""
        if self._sessions.state is None:
            raise ResetNeeded("an environment must be reset before its first step, got a step; call reset()")
        waiting = self._ended.nonzero()[0]
        if len(waiting) and self.autoreset_mode == AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"a session that has ended must be reset before the next step, got a step with {len(waiting)} of "
                f"{self.num_envs} rows ended, e.g. {waiting[:3].tolist()}; reset them (options={{'reset_mask': ...}})"
            )
        rewards, terminated, truncated = self._sessions.advance(*self._slates(actions, waiting))
        if len(waiting):  # only under NEXT_STEP: their action was ignored, they begin anew
            rewards[waiting], terminated[waiting], truncated[waiting] = 0.0, False, False
            self._sessions.begin(waiting)
        done = terminated | truncated
        last: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            if done.any():
                last = self._infos.last(self._sessions, done, self._observation(np.flatnonzero(done)))
                self._sessions.begin(np.flatnonzero(done))
        else:
            self._ended = done
        return self._observation(), rewards, terminated, truncated, self._infos.of(self._sessions) | last

    def render(self) -> tuple[Any, ...] | None:
        """Returns one picture (H, W, 3) uint8 or text per row, by `render_mode`."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode; pass render_mode='ansi' or 'rgb_array' when making the env")
            return None
        views = [self._infos.view(self._sessions, row) for row in range(self.num_envs)]
        if self.render_mode == "ansi":
            return tuple(as_text(view) for view in views)
        return tuple(as_image(view, self.frame_size, self.k) for view in views)

    def candidates(self) -> Any:
        """Returns the items that the user model lets be shown now (B, C), padded with n_items; None: all of them."""
        return self._sessions.candidates()

    def action_masks(self) -> np.ndarray:
        """Returns which items may be shown now (B, n_items) bool: candidates; under `repeats="mask"`, unseen ones."""
        return self._sessions.allowed()

    @property
    def user_state(self) -> Any:
        """What the user model remembers of every row: for policies that know the truth; None before the first reset."""
        return self._sessions.state

    def observe(self) -> Any:
        """Returns the observations of where every row stands now; asks for a reset first."""
        if self._sessions.state is None:
            raise ResetNeeded("an environment must be reset before it is observed, got none; call reset()")
        return self._observation()

    def state_dict(self) -> dict[str, Any]:
        """Returns where every row stands, as arrays and JSON values: put back, the same steps give the same answers."""
        return {"sessions": self._sessions.state_dict(), "seeded": self.seeded, "ended": self._ended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` of an environment made with the same options returned.

        Raises:
            DataError: if it is of another number of rows, or another user model.
        """
        if self._sessions.state is None:
            self.reset(seed=0)  # so that the user model says what it remembers
        self._sessions.load_state_dict(state["sessions"])
        self.seeded, self._ended = bool(state["seeded"]), np.array(state["ended"], dtype=bool)

    @property
    def steps(self) -> np.ndarray:
        """Steps taken in each row's session (B,) int64, as a copy."""
        return self._sessions.random.step.copy()

    @property
    def shown(self) -> np.ndarray:
        """Which items were shown in each row's session or stood in a frame (B, n_items + 1) bool, as a copy."""
        return self._sessions.seen.copy()

    # -- parts of a step -------------------------------------------------------------------------------------------

    def _slates(self, actions: Any, ignored: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns the slate of every row (B, k) and the candidates; rows `ignored` get any slate."""
        actions = np.asarray(actions)
        if actions.shape[:1] != (self.num_envs,):
            raise ActionError(
                f"actions must have one row per session, got shape {actions.shape} for {self.num_envs} rows; stack them"
            )
        if len(ignored):
            actions = actions.copy()
            actions[ignored] = 0
            self._sessions.seen[ignored] = False  # so that something is left to choose
        candidates = self._sessions.candidates()
        blocked = self._sessions.blocked() if self.mapper.masks else None
        return self.mapper.to_items(actions, blocked, candidates), candidates

    def _seed_rows(self, seed: Any, mask: np.ndarray | None) -> None:
        if isinstance(seed, Integral):
            super().reset(seed=int(seed))
        if seed is None and not self.seeded:
            seed = self.np_random_seed
        if seed is None:
            return
        for row, row_seed in enumerate(row_seeds(seed, self.num_envs)):
            if row_seed is None and not self.seeded:  # as in a row of its own that was never seeded: fresh entropy
                row_seed = int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
            if row_seed is not None and (mask is None or mask[row]):
                self._sessions.random.seed(row, row_seed)
        self.seeded = True

    def _observation(self, rows: Any = ALL) -> Any:
        plain = observe(self.observation, self.catalog, self._sessions, rows, self.old_keys)
        return self._beside.beside(plain, self._sessions, rows)

    # -- copies ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        left_out = {*_DERIVED} | ({"catalog", "users"} if self.recipe else set())
        state = {name: value for name, value in self.__dict__.items() if name not in left_out}
        return state | ({"made_of": self._made_of()} if self.recipe else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        made_of = state.pop("made_of", None)  # earlier releases kept none
        self.__dict__.update({"context": [], "delay": 0, **state})  # earlier releases had neither
        if self.recipe:
            self.catalog, self.users = self.recipe()
            changed = [] if made_of is None else [name for name, one in self._made_of().items() if one != made_of[name]]
            if changed:
                raise DataError(
                    f"an environment must find the data it was pickled with, got other {' and '.join(changed)}; put "
                    "the files back as they were, or make the environment anew"
                )
        self._derive()

    def _made_of(self) -> dict[str, str]:
        """Returns a hash of the items and one of the log, or of the ids where there is no log."""
        from recgym.users.fitted.provenance import log_hash

        items = hashlib.sha256(np.ascontiguousarray(self.catalog.table).data)
        log = getattr(self.users, "log", None)
        for ids in (self.catalog.item_ids, *(() if log is not None else (self.users.user_ids,))):
            items.update(json.dumps(ids.tolist(), default=str).encode())
        return {"items": items.hexdigest(), "users": "" if log is None else log_hash(log)}

    def __deepcopy__(self, memo: dict[int, Any]) -> RecVectorEnv:
        memo |= {id(shared): shared for shared in (self.catalog, self.users, self.recipe)}  # parameters are not copied
        made = memo[id(self)] = object.__new__(type(self))
        own = {name: value for name, value in self.__dict__.items() if name not in _DERIVED}
        made.__dict__.update(deepcopy(own, memo))
        made._derive()
        return made
