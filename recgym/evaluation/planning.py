"""Policies that know the truth about users: the floors and ceilings that agents are measured against.

All of them show whole slates: a score says the place of an item in the slate that is meant, first place highest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError
from recgym.frames import History
from recgym.rng import RowRandom
from recgym.users.best_slates import alone_values, best_slates, repeated

Score = Callable[[History], np.ndarray]
_ROWS = slice(None)


class KnownUsers(Protocol):
    """A user model that says what an item would earn on average; see `SimulatedUsers.expected_rewards`."""

    def expected_rewards(self, state: Any, items: Any) -> np.ndarray:
        """Returns (B, C) for items (B, C)."""
        ...


def greedy(env: RecVectorEnv) -> Score:
    """Returns the myopic policy of an environment: the slate of k that earns most at the next step, by the true state.

    It knows misses (`miss_reward`), repeats and candidates, and how places stand in each other's way; `best_slates`
    says where the slate is exact and how it is searched elsewhere. With k = 1 the scores are what each item would earn.

    It asks the environment itself about its present sessions, so it goes with this one only.

    Args:
        env: Whose users have `expected_rewards`; for slates `expected_answers`, see `recgym.users.base.UserModel`.
    """

    def score(history: History) -> np.ndarray:
        return _myopic(env)

    return score


def rotating(env: RecVectorEnv, pause: int = 3) -> Score:
    """Returns the myopic policy that leaves out the topics of the last `pause` answers: variety without planning.

    Args:
        env: Whose users are `SimulatedUsers`; it asks the environment about its present sessions.
        pause: Answers that a topic has to wait; it does not, where fewer than k items of other topics may be shown.
    """
    users: Any = env.users

    def score(history: History) -> np.ndarray:
        recent = users.items.topic[history.items[:, -pause:]]  # (B, pause)
        stale = (users.items.topic[None, :-1, None] == recent[:, None, :]).any(axis=2)  # (B, n_items)
        enough = (env.action_masks() & ~stale).sum(axis=1) >= env.k
        return _myopic(env, stale & enough[:, None])

    return score


def diverse(env: RecVectorEnv, most: int = 1) -> Score:
    """Returns the myopic policy that shows at most so many items of a topic in a slate: variety without planning.

    Args:
        env: Whose users are `SimulatedUsers`; it asks the environment about its present sessions.
        most: Items of a topic; any number, where fewer than k items would be left.
    """
    topic = env.users.items.topic[:-1]  # type: ignore[attr-defined]

    def score(history: History) -> np.ndarray:
        items = np.broadcast_to(np.arange(len(topic)), (env.num_envs, len(topic)))
        values = alone_values(env.users, env.user_state, items, env.miss_reward)
        values = np.where(env.action_masks(), values, -np.inf)
        place = np.zeros(values.shape, dtype=np.int64)  # of an item among those of its topic
        for one in np.unique(topic):
            members = np.flatnonzero(topic == one)
            order = members[np.argsort(-values[:, members], axis=1, kind="stable")]
            np.put_along_axis(place, order, np.broadcast_to(np.arange(len(members)), order.shape), axis=1)
        fits = place < most
        enough = (fits & np.isfinite(values)).sum(axis=1) >= env.k
        return _myopic(env, ~fits & enough[:, None])

    return score


def satisfying(env: RecVectorEnv) -> Score:
    """Returns the policy that shows what earns most by the true state times the items' quality: joy that lasts.

    Args:
        env: Whose users are `SimulatedUsers`; it asks the environment about its present sessions.
    """
    users: Any = env.users

    def score(history: History) -> np.ndarray:
        items = np.broadcast_to(np.arange(users.n_items), (env.num_envs, users.n_items))
        return alone_values(users, env.user_state, items, env.miss_reward) * users.items.quality[:-1]

    return score


def knowing(name: str, env: RecVectorEnv) -> Score:
    """Returns the policy of that name: `"greedy"`, `"rotating"`, `"diverse"` or `"planner"`, with its own defaults.

    Raises:
        DataError: if there is none of that name, or the truth about the environment's users is not known.
    """
    made = {"greedy": greedy, "rotating": rotating, "diverse": diverse, "planner": planner}
    if name not in made:
        raise DataError(f"a policy by name must be one of {', '.join(made)}, got {name!r}; give a scorer otherwise")
    needed = "items" if name in ("rotating", "diverse") else "expected_rewards"
    if not hasattr(env.users, needed):
        raise DataError(
            f"the policy {name!r} needs users with {needed}, got {type(env.users).__name__}, whose truth is not known; "
            "compare with another scorer"
        )
    return made[name](env)


def greed_is_best(env: RecVectorEnv) -> bool:
    """Returns whether no policy can earn more than the greedy one: only where the users say so, and misses are free.

    Where a miss costs or earns something, the length of a session counts, which greed does not look at.
    """
    says = getattr(env.users, "greed_is_best", None)
    return env.miss_reward == 0 and says is not None and bool(says(env.k, env.repeats))


class Imagined(NamedTuple):
    """What a planner imagines beyond the next step."""

    n_items: int = 10  # items considered at each step, spread over topics and over their present worth
    depth: int = 8  # steps looked ahead, the first included
    n_futures: int = 8  # futures per item
    width: int = 12  # items that an imagined slate of several is made of, where it must be searched


def planner(env: RecVectorEnv, imagined: Imagined | None = None, seed: int = 0) -> Score:
    """Returns a policy that plans with the true user model: one slate of its own, then greedy ones.

    The slates considered are the greedy one, for each of some items the best that shows it, and the best without an
    item of the greedy one, or without all of them. One is shown instead of the greedy one where the mean return of
    imagined futures of `depth` steps is higher by more than a standard error of the difference. Futures know misses,
    who leaves, what was shown before and the steps left. What it earns is a lower bound of what the best policy
    would: it improves on the greedy policy in one step at a time.

    Args:
        env: Whose users have `expected_rewards`; it asks the environment about its present sessions.
        imagined: How far and wide to look.
        seed: Luck of the imagined futures, which the real ones do not share.

    Source: the rollout algorithm, Bertsekas, Tsitsiklis and Wu (1997), Rollout algorithms for combinatorial
    optimization.
    """
    plan = imagined or Imagined()
    users: Any = env.users
    n_items, n_rows, n = env.catalog.n_items, env.num_envs, plan.n_futures
    topic = users.items.topic[:-1] if hasattr(users, "items") else np.zeros(n_items)  # (n_items,)
    asked = 0

    def score(history: History) -> np.ndarray:
        nonlocal asked
        asked += 1
        scores = _myopic(env)
        first = _considered(env, scores, topic, plan)  # (m, B, k), the greedy slate first
        m = len(first)
        random = RowRandom.from_seeds([(seed << 32) + asked] * (m * n_rows * n))
        random.episode += np.tile(np.arange(n_rows * n), m)  # the slates of a session share their futures' luck
        random.step += np.tile(np.repeat(env.steps, n), m)
        futures = type(env.user_state)(*(np.concatenate([part] * m) for part in repeated(env.user_state, n)))
        seen = np.concatenate([np.repeat(env.shown, n, axis=0)] * m)
        slates = np.repeat(first.reshape(m * n_rows, env.k), n, axis=0)  # (m * B * n, k): slates outermost
        values = _futures(env, random, futures, seen, slates, plan).reshape(m, n_rows, n)
        gain = values - values[0]  # (m, B, n) over the greedy slate
        error = gain.std(axis=2) / max(n - 1, 1) ** 0.5
        sure = np.where(gain.mean(axis=2) > error, gain.mean(axis=2), 0.0)  # (m, B), 0 for the greedy slate
        best = sure.argmax(axis=0)
        better = np.flatnonzero(best)
        scores[better] = _as_scores(first[best[better], better], scores[better])
        return scores

    vars(score)["in_order"] = True  # what is imagined depends on how often it was asked
    return score


def _myopic(env: RecVectorEnv, left_out: np.ndarray | None = None) -> np.ndarray:
    """Returns scores (B, n_items) whose best are the best slate; items `left_out` (B, n_items) bool come last."""
    items = _items_of(env)
    rows, n_items = np.arange(env.num_envs)[:, None], env.catalog.n_items
    void = _void(env, env.shown, items) if env.repeats == "zero" else None
    values = alone_values(env.users, env.user_state, items, env.miss_reward, void)
    lowest = min(0.0, float(values.min(initial=0.0))) - 1.0
    scores = np.full((env.num_envs, n_items + 1), lowest)
    scores[rows, items] = values
    scores = scores[:, :-1]
    if left_out is not None:
        scores = np.where(left_out, lowest + np.minimum(scores - scores.max() - 1.0, 0.0), scores)
    if env.k == 1:
        return scores
    may = env.action_masks() if left_out is None else env.action_masks() & ~left_out
    allowed = np.concatenate([may, np.zeros((env.num_envs, 1), dtype=bool)], axis=1)
    offered = np.where(allowed[rows, items], items, n_items)
    return _as_scores(best_slates(env.users, env.user_state, offered, env.k, env.miss_reward, void), scores)


def _items_of(env: RecVectorEnv) -> np.ndarray:
    """Returns the items that could be shown (B, C): the candidates, or all."""
    candidates = env.candidates()
    every = np.arange(env.catalog.n_items)
    return np.broadcast_to(every, (env.num_envs, len(every))) if candidates is None else np.asarray(candidates)


def _void(env: RecVectorEnv, seen: np.ndarray, items: np.ndarray) -> np.ndarray | None:
    """Returns which of items (B, C) would be an empty place, as they were `seen`; None: none of them."""
    return None if env.repeats == "allow" else np.take_along_axis(seen, items, axis=1)


def _as_scores(slates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns scores (B, n_items) as copies in which the items of slates (B, k) stand highest, in their order."""
    k = slates.shape[1]
    top = scores.max(axis=1, keepdims=True)
    padded = np.concatenate([scores, top], axis=1)
    np.put_along_axis(padded, slates, top + np.arange(k, 0, -1), axis=1)
    return padded[:, :-1]


def _considered(env: RecVectorEnv, scores: np.ndarray, topic: np.ndarray, plan: Imagined) -> np.ndarray:
    """Returns the slates to consider (m, B, k): the greedy one, and for some items each the best that shows it."""
    n_items, k = env.catalog.n_items, env.k
    allowed = np.where(env.action_masks(), scores, -np.inf)
    spread = _spread(allowed, topic, plan.n_items)  # (B, m), the greedy choice first
    if k == 1:
        return spread.T[:, :, None]
    order = np.argsort(-allowed, axis=1, kind="stable")[:, : max(plan.width, 2 * k)]
    pool = np.where(np.take_along_axis(allowed, order, axis=1) > -np.inf, order, n_items)  # (B, width)
    best = np.argsort(-np.take_along_axis(allowed, spread, axis=1), axis=1, kind="stable")[:, 1 : plan.n_items + 1]
    with_it = np.take_along_axis(np.where(np.isfinite(allowed), np.arange(n_items), n_items), spread, axis=1)
    slates = [pool[:, :k]]
    for item in np.take_along_axis(with_it, best, axis=1).T:
        slates.append(_best_of(env, np.where(pool == item[:, None], n_items, pool), item))
    for place in range(k):  # and those without one of its items, or without all of them
        slates.append(_best_of(env, np.where(pool == pool[:, [place]], n_items, pool)))
    slates.append(_best_of(env, pool[:, k:]))
    return np.stack(slates)


def _best_of(env: RecVectorEnv, items: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    void = _void(env, env.shown, items) if env.repeats == "zero" else None
    return best_slates(env.users, env.user_state, items, env.k, env.miss_reward, void, given=given)


def _futures(
    env: RecVectorEnv, random: RowRandom, state: Any, seen: np.ndarray, slates: np.ndarray, plan: Imagined
) -> np.ndarray:
    """Returns what imagined sessions (R,) earn in `depth` steps, the first with `slates` (R, k), then greedily."""
    users: Any = env.users
    k, n_items = env.k, users.n_items
    total, stays = np.zeros(len(slates)), np.ones(len(slates), dtype=bool)
    every = np.broadcast_to(np.arange(n_items), (len(slates), n_items))
    for step in range(plan.depth):
        listed = users.candidates(random, _ROWS, state)
        if step:
            items = every if listed is None else listed
            void = _void(env, seen, items)
            if env.repeats == "mask":
                items = np.where(np.take_along_axis(seen, items, axis=1), n_items, items)
            if k == 1:
                values = alone_values(users, state, items, env.miss_reward, void)
                best = np.where(items < n_items, values, -np.inf).argmax(axis=1)[:, None]
                slates = np.take_along_axis(items, best, axis=1)
            else:
                slates = best_slates(users, state, items, k, env.miss_reward, void, width=plan.width, rounds=0)
        void = _void(env, seen, slates)
        shown = slates if void is None else np.where(void, n_items, slates)
        state, response = users.respond(random, _ROWS, state, shown, listed)
        worth = np.where(response.answered, response.rewards, np.where(shown < n_items, env.miss_reward, 0.0))
        total += stays * worth.sum(axis=1)
        stays = stays & ~response.left & ~response.ended & (random.step + 1 < env.horizon)
        np.put_along_axis(seen, slates, True, axis=1)
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
