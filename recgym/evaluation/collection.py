"""Logging a policy in an environment as a careful shop would: with the propensity of everything that was shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode

from recgym.actions import EmbeddingActions
from recgym.errors import DataError
from recgym.evaluation.policies import Choice, GaussianPolicy, StochasticPolicy, choose_items, choose_vectors
from recgym.frames import History, observed
from recgym.log import InteractionLog
from recgym.rng import RowRandom

if TYPE_CHECKING:
    from recgym.envs.vector import RecVectorEnv

_SESSIONS_PER_SEED = 1 << 24
_TRUTH = 1 << 30  # how far the seeds of `true_value` lie from those of `collect`

Frames = tuple[np.ndarray, np.ndarray]  # items and rewards (B, F)


class Step(NamedTuple):
    """One step of B sessions played side by side."""

    live: np.ndarray  # (B,) bool: rows whose session still ran
    choice: Choice
    item_rewards: np.ndarray  # (B, k) what each place earned
    before: Frames
    after: Frames
    terminated: np.ndarray  # (B,) bool
    user: np.ndarray  # (B,) user index
    candidates: np.ndarray | None  # (B, C) items that could be shown, padded with n_items; None: any


def collect(
    policy: StochasticPolicy | GaussianPolicy, env: RecVectorEnv, n_sessions: int = 1000, seed: int = 0
) -> InteractionLog:
    """Returns the log of sessions under a policy, one "user" of the log per session, with the propensity of all shown.

    Events of a session: the opening frame, then, step by step, the slate in order and what else entered the frame.

    | column | of a shown item | of an event that was not shown |
    |---|---|---|
    | `rewards` | what its place earned | the reward it entered the frame with |
    | `propensities` | its probability at its position | 1 |
    | `extra["step"]` | 0, 1, ... | the same, or -1 in the opening frame |
    | `extra["position"]` | its place in the slate | -1 |
    | `extra["enters"]` | whether it is part of the user's history from then on | true |
    | `extra["given_above"]` | its probability given the items above it | 1 |
    | `extra["slate_propensity"]` | the probability of the whole slate | 1 |
    | `extra["propensity_error"]` | standard error of `propensities` where estimated, else 0 | 0 |
    | `extra["candidates"]` | the items that could be shown (C,), padded with n_items, where not all could | padding |
    | `extra["log_density"]` | log density of the proto-action, for a `GaussianPolicy` | 0 |

    `users` holds `user`, `user_id`, `terminated` and `frame_size` of each session. Session i of a seed is the same for
    every `num_envs`, up to rounding in the policy's own arithmetic.

    Args:
        policy: For item actions a `StochasticPolicy`, for embedding actions a `GaussianPolicy`.
        env: With `observation="history"`; its rows are played side by side and left anywhere.
        n_sessions: How many sessions; the environment draws the users.
        seed: Seed of the sessions and of the policy's choices.

    Raises:
        DataError: if the policy is of another catalog, other rewards or another kind than the environment.
    """
    blocks = list(_blocks(policy, env, n_sessions, seed))
    parts = [_events(steps, first, env.catalog.n_items) for first, steps in blocks]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns.pop("order"), columns["session"]))
    columns = {name: column[order] for name, column in columns.items()}
    counts = np.bincount(columns.pop("session"), minlength=n_sessions)
    low, high = env.users.reward_range
    return InteractionLog(
        items=columns.pop("items").astype(np.int32),
        rewards=columns.pop("rewards").astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        user_ids=np.arange(n_sessions),
        item_ids=env.catalog.item_ids,
        propensities=columns.pop("propensities").astype(np.float32),
        extra=columns,
        users=_sessions(env, blocks, n_sessions),
        titles=env.catalog.titles,
        reward=env.catalog.reward,
        reward_range=(min(low, env.miss_reward, 0.0), max(high, env.miss_reward, 0.0)),
        name="collected",
    )


def true_value(
    policy: StochasticPolicy | GaussianPolicy, env: RecVectorEnv, n_sessions: int = 1000, seed: int = 0
) -> np.ndarray:
    """Returns the returns (n_sessions,) float64 of sessions under a policy, independent of all that `collect` logs.

    Their mean is the policy's true value but for chance; `mean_interval` says how much. Arguments and errors are those
    of `collect`; equal seeds mean equal users and luck for every policy, so that policies can be compared in pairs.
    """
    returns = []
    for _, steps in _blocks(policy, env, n_sessions, seed + _TRUTH):
        earned = sum(np.where(step.live[:, None], step.item_rewards, 0.0).sum(axis=1) for step in steps)
        returns.append(np.asarray(earned)[steps[0].live])
    return np.concatenate(returns)


def _blocks(policy: Any, env: RecVectorEnv, n_sessions: int, seed: int) -> Iterator[tuple[int, list[Step]]]:
    """Yields the number of the first session and the steps of every block of `num_envs` sessions."""
    _check(policy, env, n_sessions)
    for first in range(0, n_sessions, env.num_envs):
        start = (seed + 1) * _SESSIONS_PER_SEED + first
        yield first, list(_play(policy, env, start, min(env.num_envs, n_sessions - first)))


def _play(policy: Any, env: RecVectorEnv, start: int, n_live: int) -> Iterator[Step]:
    """Yields the steps of sessions seeded `start`, `start + 1`, ... until the first `n_live` have ended."""
    observation, infos = env.reset(seed=start)  # row i: start + i
    random = RowRandom.from_seeds([start + row for row in range(env.num_envs)])
    random.begin(slice(None))
    live = np.arange(env.num_envs) < n_live
    while live.any():
        items, rewards = observed(observation)
        before = items.copy(), rewards.copy()
        user = infos["user"].copy()
        length = (before[0] != env.catalog.n_items).sum(axis=1)
        candidates = env.candidates()
        candidates = None if candidates is None else np.array(candidates, dtype=np.int32)
        allowed = env.action_masks() | ~live[:, None]  # what ended rows show does not count
        choice = _choose(policy, env, History(*before, length, user), allowed, random)
        observation, _, terminated, truncated, infos = env.step(choice.actions)
        random.step += 1
        done = terminated | truncated
        after, item_rewards = _outcome(observation, infos)
        yield Step(live.copy(), choice, item_rewards, before, after, terminated, user, candidates)
        live &= ~done
        if env.autoreset_mode == AutoresetMode.DISABLED and done.any() and live.any():
            observation, infos = env.reset(options={"reset_mask": done})
            infos["user"] = np.where(done, infos["user"], user)


def _choose(policy: Any, env: RecVectorEnv, history: History, allowed: np.ndarray, random: RowRandom) -> Choice:
    if isinstance(env.mapper, EmbeddingActions):
        return choose_vectors(policy, env.mapper, history, allowed, random)
    return choose_items(policy, history, allowed, env.k, random)


def _outcome(observation: Any, infos: dict[str, Any]) -> tuple[Frames, np.ndarray]:
    """Returns the frames after a step and what each place earned, of the ended session where a new one has begun."""
    items, rewards = (part.copy() for part in observed(observation))
    earned = infos["item_rewards"].copy()
    for row in np.flatnonzero(infos.get("_final_obs", np.zeros(len(items), dtype=bool))):
        items[row], rewards[row] = observed(infos["final_obs"][row])
        earned[row] = infos["final_info"]["item_rewards"][row]
    return (items, rewards), earned


# -- from steps to events ----------------------------------------------------------------------------------------------


def _sessions(env: RecVectorEnv, blocks: list[tuple[int, list[Step]]], n_sessions: int) -> dict[str, np.ndarray]:
    """Returns what is known of each session as a whole."""
    user = np.concatenate([steps[0].user[steps[0].live] for _, steps in blocks])
    terminated = [np.any([step.live & step.terminated for step in steps], axis=0) for _, steps in blocks]
    return {
        "user": user,
        "user_id": np.asarray(env.users.user_ids)[user],
        "terminated": np.concatenate(terminated)[:n_sessions],
        "frame_size": np.full(n_sessions, env.frame_size),
    }


def _events(steps: list[Step], first: int, n_items: int) -> dict[str, np.ndarray]:
    """Returns the event columns of a block, and `session` and `order` (place in the session) of each event."""
    frame_size, k = steps[0].before[0].shape[1], steps[0].choice.items.shape[1]
    items, rewards = steps[0].before
    rows, places = np.nonzero((items != n_items) & steps[0].live[:, None])
    parts = [_unshown(rows, places - frame_size, -1, items[rows, places], rewards[rows, places], steps[0], n_items)]
    for number, step in enumerate(steps):
        start = number * (k + frame_size)
        enters, (rows, places) = _entered(step)
        parts.append(_shown(step, number, start, enters))
        items, rewards = step.after
        order = start + k + places
        parts.append(_unshown(rows, order, number, items[rows, places], rewards[rows, places], step, n_items))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | {"session": columns["session"] + first}


def _shown(step: Step, number: int, start: int, enters: np.ndarray) -> dict[str, np.ndarray]:
    choice, k = step.choice, step.choice.items.shape[1]
    columns = {
        "items": choice.items,
        "rewards": step.item_rewards,
        "propensities": choice.marginal,
        "session": np.repeat(np.arange(len(step.live))[:, None], k, axis=1),
        "order": np.broadcast_to(start + np.arange(k), choice.items.shape),
        "step": np.full(choice.items.shape, number, dtype=np.int32),
        "position": np.broadcast_to(np.arange(k, dtype=np.int32), choice.items.shape),
        "enters": enters,
        "given_above": choice.given_above,
        "slate_propensity": np.repeat(choice.given_above.prod(axis=1, keepdims=True), k, axis=1),
        "propensity_error": choice.error,
    }
    if choice.log_density is not None:
        columns["log_density"] = np.repeat(choice.log_density[:, None], k, axis=1)
    if step.candidates is not None:
        columns["candidates"] = np.repeat(step.candidates[:, None], k, axis=1)
    return {name: column[step.live].reshape(-1, *column.shape[2:]) for name, column in columns.items()}


def _unshown(
    rows: np.ndarray, order: np.ndarray, number: int, items: np.ndarray, rewards: np.ndarray, step: Step, n_items: int
) -> dict[str, np.ndarray]:
    ones = np.ones(len(rows))
    columns = {
        "items": items,
        "rewards": rewards,
        "propensities": ones,
        "session": rows,
        "order": order,
        "step": np.full(len(rows), number, dtype=np.int32),
        "position": np.full(len(rows), -1, dtype=np.int32),
        "enters": np.ones(len(rows), dtype=bool),
        "given_above": ones,
        "slate_propensity": ones,
        "propensity_error": 0.0 * ones,
    }
    if step.candidates is not None:
        columns["candidates"] = np.full((len(rows), step.candidates.shape[1]), n_items, step.candidates.dtype)
    return columns if step.choice.log_density is None else columns | {"log_density": 0.0 * ones}


def _entered(step: Step) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns which shown items entered the frame (B, k) bool, and rows and columns of the other new events in it."""
    (old_items, old_rewards), (items, rewards) = step.before, step.after
    n_rows, frame_size = old_items.shape
    n_new = np.full(n_rows, frame_size)
    for count in range(frame_size - 1, -1, -1):  # the fewest events whose entering explains the new frame
        kept = frame_size - count
        same = (items[:, :kept] == old_items[:, count:]) & (rewards[:, :kept] == old_rewards[:, count:])
        n_new[same.all(axis=1)] = count
    new = (np.arange(frame_size) >= frame_size - n_new[:, None]) & step.live[:, None]  # (B, F)
    enters: np.ndarray = np.zeros(step.choice.items.shape, dtype=bool)
    for place in range(enters.shape[1]):
        item, worth = step.choice.items[:, place, None], step.item_rewards[:, place, None]
        match = new & (items == item) & (np.abs(rewards - worth) < 1e-6)
        column = match.argmax(axis=1)
        enters[:, place] = match.any(axis=1)
        new[enters[:, place], column[enters[:, place]]] = False
    rows, columns = np.nonzero(new)
    return enters, (rows, columns)


def _check(policy: Any, env: RecVectorEnv, n_sessions: int) -> None:
    wanted = GaussianPolicy if isinstance(env.mapper, EmbeddingActions) else StochasticPolicy
    if not isinstance(policy, wanted):
        raise DataError(
            f"a policy for {env.action} actions must be a {wanted.__name__}, got {type(policy).__name__}; "
            f"wrap a scorer as SoftmaxPolicy(scorer), an actor as GaussianPolicy(actor, ...)"
        )
    if env.observation != "history":
        raise DataError(
            f"the environment must have observation='history', got {env.observation!r}; make it with that option"
        )
    if env.delay:
        raise DataError(
            f"a log needs answers beside what was shown, got an environment of delay={env.delay}; make it without"
        )
    if n_sessions < 1:
        raise DataError(f"n_sessions must be at least 1, got {n_sessions}; ask for some")
    if not np.array_equal(policy.item_ids, env.catalog.item_ids) or policy.reward != env.catalog.reward:
        raise DataError(
            f"policy and environment must have the same items and rewards, got {len(policy.item_ids)} items with "
            f"{policy.reward!r} and {env.catalog.n_items} with {env.catalog.reward!r}; make both from one log"
        )
