"""Policies that know the truth about simulated users: the floors and ceilings that agents are measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from recgym.errors import DataError
from recgym.frames import History
from recgym.rng import RowRandom
from recgym.vector import RecVectorEnv

Score = Callable[[History], np.ndarray]


class KnownUsers(Protocol):
    """A user model that says what an item would earn on average; see `SimulatedUsers.expected_rewards`."""

    def expected_rewards(self, state: Any, items: Any) -> np.ndarray:
        """Returns (B, C) for items (B, C)."""
        ...


def greedy(env: RecVectorEnv) -> Score:
    """Returns the myopic policy of an environment: items score by what they would earn now, by the true state.

    It asks the environment itself about its present sessions, so it goes with this one only.

    Args:
        env: Whose users have `expected_rewards`.
    """
    every = np.broadcast_to(np.arange(env.catalog.n_items), (env.num_envs, env.catalog.n_items))

    def score(history: History) -> np.ndarray:
        return env.users.expected_rewards(env.user_state, every)  # type: ignore[attr-defined]

    return score


def rotating(env: RecVectorEnv, pause: int = 3) -> Score:
    """Returns the myopic policy that leaves out the topics of the last `pause` answers: variety without planning.

    Args:
        env: Whose users are `SimulatedUsers`; it asks the environment about its present sessions.
        pause: Answers that a topic has to wait.
    """
    users: Any = env.users
    myopic = greedy(env)
    lowest = users.reward_range[0] - users.reward_range[1] - 1.0

    def score(history: History) -> np.ndarray:
        recent = users.items.topic[history.items[:, -pause:]]  # (B, pause)
        stale = (users.items.topic[None, :-1, None] == recent[:, None, :]).any(axis=2)  # (B, n_items)
        return myopic(history) + np.where(stale, lowest, 0.0)

    return score


def knowing(name: str, env: RecVectorEnv) -> Score:
    """Returns the policy of that name: `"greedy"`, `"rotating"` or `"planner"`, as made with its own defaults.

    Raises:
        DataError: if there is none of that name, or the truth about the environment's users is not known.
    """
    made = {"greedy": greedy, "rotating": rotating, "planner": planner}
    if name not in made:
        raise DataError(f"a policy by name must be one of {', '.join(made)}, got {name!r}; give a scorer otherwise")
    needed = "items" if name == "rotating" else "expected_rewards"
    if not hasattr(env.users, needed):
        raise DataError(
            f"the policy {name!r} needs users with {needed}, got {type(env.users).__name__}, whose truth is not known; "
            "compare with another scorer"
        )
    return made[name](env)


class Imagined(NamedTuple):
    """What a planner imagines beyond the next step."""

    n_items: int = 10  # items considered at each step, spread over topics and over their present worth
    depth: int = 8  # steps looked ahead, the first included
    n_futures: int = 8  # futures per item


def planner(env: RecVectorEnv, imagined: Imagined | None = None, seed: int = 0) -> Score:
    """Returns a policy that plans with the true user model: one step of its own, then greedy ones.

    An item is shown instead of the greedy one where the mean return of imagined futures of `depth` steps is higher by
    more than a standard error of the difference. What it earns is a lower bound of what the best policy would: it
    improves on the greedy policy in one step at a time, and forgets that shown items cannot be shown again.

    Args:
        env: Whose users have `expected_rewards`; it asks the environment about its present sessions.
        imagined: How far and wide to look.
        seed: Luck of the imagined futures, which the real ones do not share.

    Source: the rollout algorithm, Bertsekas, Tsitsiklis and Wu (1997), Rollout algorithms for combinatorial
    optimization.
    """
    n_considered, depth, n_futures = imagined or Imagined()
    users: Any = env.users
    n_items = env.catalog.n_items
    every = np.arange(n_items)
    topic = users.items.topic[:-1] if hasattr(users, "items") else np.zeros(n_items)  # (n_items,)
    asked = 0

    def score(history: History) -> np.ndarray:
        nonlocal asked
        asked += 1
        state = env.user_state
        now = users.expected_rewards(state, np.broadcast_to(every, (env.num_envs, n_items)))  # (B, n_items)
        allowed = np.where(env.action_masks(), now, -np.inf)
        first = _spread(allowed, topic, n_considered)  # (B, m), the greedy choice first
        m, n = first.shape[1], n_futures
        random = RowRandom.from_seeds([(seed << 32) + asked] * (m * env.num_envs * n))
        random.episode += np.tile(np.arange(env.num_envs * n), m)  # the items of a session share its futures' luck
        futures = type(state)(*(np.concatenate([np.repeat(part, n, axis=0)] * m) for part in state))
        slate = np.repeat(first.T.reshape(-1), n)[:, None]  # (m * B * n, 1): items outermost, futures innermost
        values = _futures(users, random, futures, slate, depth).reshape(m, env.num_envs, n)
        gain = values - values[0]  # (m, B, n) over the greedy choice
        error = gain.std(axis=2) / max(n - 1, 1) ** 0.5
        sure = np.where(gain.mean(axis=2) > error, gain.mean(axis=2), 0.0).T  # (B, m), 0 for the greedy choice
        scores = now - now.max() - 1.0  # in greedy order, below all that are worth more than the greedy choice
        np.put_along_axis(scores, first, np.where(sure > 0, sure, np.take_along_axis(scores, first, axis=1)), axis=1)
        return scores

    return score


def _futures(users: Any, random: RowRandom, state: Any, slate: np.ndarray, depth: int) -> np.ndarray:
    """Returns what imagined sessions (R,) earn in `depth` steps, the first with `slate` (R, 1), then greedily."""
    total, stays = np.zeros(len(slate)), np.ones(len(slate), dtype=bool)
    rows = slice(None)
    every = np.broadcast_to(np.arange(users.n_items), (len(slate), users.n_items))
    for step in range(depth):
        if step:
            items = users.candidates(random, rows, state)
            items = every if items is None else items
            best = users.expected_rewards(state, items).argmax(axis=1)
            slate = np.take_along_axis(items, best[:, None], axis=1)
        state, response = users.respond(random, rows, state, slate)
        total += stays * (response.rewards * response.answered).sum(axis=1)
        stays = stays & ~response.left
        random.step += 1
    return total


def _spread(worth: np.ndarray, topic: np.ndarray, n: int) -> np.ndarray:
    """Returns items to consider (B, m): the greedy choice, then the best of every topic and others down its order."""
    topics = np.unique(topic)
    each = max(1, n // len(topics))
    chosen = [worth.argmax(axis=1)[:, None]]
    for one in topics:
        members = np.flatnonzero(topic == one)
        order = members[np.argsort(-worth[:, members], axis=1, kind="stable")]  # (B, members)
        chosen.append(order[:, np.linspace(0, len(members) - 1, min(each, len(members))).astype(np.int64)])
    return np.concatenate(chosen, axis=1)
