"""Evaluation of anything that scores items: next-item ranking of held-out users, and sessions in an environment.

A scorer is asked `scores(history) -> (B, n_items)`; a plain function of that signature serves too. All results hold one
value per user or session, so that two scorers can be compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym import metrics
from recgym.batches import histories
from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.metrics import Interval
from recgym.options import check_seed
from recgym.policies import Scorer
from recgym.scoring import ScoreFunction, as_scores, score_function, top_items, unseen_items

if TYPE_CHECKING:
    from recgym.env import RecVectorEnv

_SEEDS_APART = 1_000_000_000  # seeds of two evaluations do not meet below so many (user, visit)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One value per unit (user or session) and metric, and what the lists hold together.

    Attributes:
        values: Per metric, one value per unit (n,) float64.
        totals: Numbers that belong to all lists together, such as coverage; they have no interval.
        users: User index of each unit (n,) int64.
        protocol: How the values were made, in words.
    """

    values: dict[str, np.ndarray]
    totals: dict[str, float]
    users: np.ndarray
    protocol: str

    def mean_interval(self, metric: str, **options: Any) -> Interval:
        """Returns the mean of a metric over units and its bootstrap interval; options as `metrics.mean_interval`."""
        if metric in self.totals:
            return Interval(self.totals[metric], float("nan"), float("nan"))
        if metric not in self.values:
            known = [*self.values, *self.totals]
            raise DataError(f"the metric must be one of {known}, got {metric!r}; choose one of them")
        return metrics.mean_interval(self.values[metric], **options)

    def summary(self, **options: Any) -> dict[str, Interval]:
        """Returns the mean and interval of every metric by name; options as `metrics.mean_interval`."""
        return {metric: self.mean_interval(metric, **options) for metric in [*self.values, *self.totals]}

    def difference(self, other: Evaluation, metric: str, **options: Any) -> Interval:
        """Returns the paired mean difference this minus `other` over the same units, and its interval."""
        if not np.array_equal(self.users, other.users) or self.protocol != other.protocol:
            raise DataError(
                f"a paired difference needs the same units under the same protocol, got {len(self.users)} by "
                f"{self.protocol!r} and {len(other.users)} by {other.protocol!r}; evaluate both alike"
            )
        return metrics.paired_difference(self.values[metric], other.values[metric], **options)

    def __repr__(self) -> str:
        rows = [f"  {metric:<18} {interval}" for metric, interval in self.summary().items()]
        return "\n".join([f"{type(self).__name__}: {self.protocol}", *rows])


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Evaluation):
    """What `evaluate_ranking` returns; the values of a user are means over its positions."""

    n_positions: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (n,) int64, per user


@dataclass(frozen=True, eq=False, repr=False)
class SessionReturns(Evaluation):
    """What `evaluate_sessions` returns; metrics are `session_return` and `session_length`."""

    items: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))  # (n, steps, k), padded

    @property
    def returns(self) -> np.ndarray:
        """Sum of rewards of each session (n,) float64."""
        return self.values["session_return"]

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each session (n,) float64."""
        return self.values["session_length"]


# -- ranking the next item -------------------------------------------------------------------------------------------


def evaluate_ranking(
    scorer: Scorer | ScoreFunction,
    log: InteractionLog,
    k: int = 10,
    *,
    n_last: int = 10,
    min_history: int = 1,
    n_negatives: int | None = None,
    mask_seen: bool = True,
    seed: int = 0,
    batch_size: int = 256,
) -> Ranking:
    """Returns how a scorer ranks the item each user really took next: hit_rate@k, ndcg@k, mrr per user, and coverage.

    Of every user the last `n_last` positions are asked, as many as have `min_history` events before them. The history
    is everything before the position, the target is the event there; items taken later are candidates like any other.
    With `mask_seen` the items of the history are no candidates, except the target: an item taken again stays rankable.

    All items are ranked (the headline), or the target among `n_negatives` items the user never took, drawn without
    replacement and the same for every scorer. The latter are sampled metrics: not comparable with the former.

    Args:
        scorer: A `Scorer`, or a function from a `History` to scores (B, n_items); minus infinity means "never".
        log: Users to evaluate, with their whole past; held out from whatever the scorer was fitted on.
        k: Length of the list.
        n_last: Positions per user, the newest ones.
        min_history: Events a position must have before it.
        n_negatives: Candidates besides the target; None ranks all items.
        mask_seen: Whether items of the history are left out of the candidates.
        seed: Seed of the negatives, and of chance among equal scores at the end of a list (coverage and Gini only; hits
            and ranks count ties by expectation).
        batch_size: Histories scored at a time; no value depends on it, beyond rounding in the scorer's own arithmetic.

    Raises:
        DataError: if the scorer's items or rewards are not the log's, its scores have a wrong shape, hold NaN or plus
            infinity, or no user has a position to ask.
    """
    metrics.check_k(k)
    check_seed(seed)
    score = score_function(scorer, log.item_ids, log.reward, log.name)
    users, positions = _last_positions(log, n_last, min_history)  # (N,), grouped by user
    targets = log.items[log.offsets[users] + positions].astype(np.int64)  # (N,)
    negatives = None if n_negatives is None else _negatives(log, users, n_negatives, seed)  # (N, n_negatives)
    ranks, lists = [], []
    for first in range(0, len(users), batch_size):
        rows = slice(first, first + batch_size)
        history = histories(log, users[rows], positions[rows])
        scores = as_scores(score(history), len(history.items), log.n_items)  # (B, n_items)
        if negatives is not None:
            columns = np.concatenate([targets[rows, None], negatives[rows]], axis=1)  # (B, 1 + n_negatives)
            chosen = np.take_along_axis(scores, columns, axis=1)
            ranks.append(metrics.tie_ranks(chosen, np.zeros(len(chosen), dtype=np.int64)))
            continue
        seen = history.items if mask_seen else history.items[:, :0]
        allowed = unseen_items(seen, log.n_items)  # (B, n_items)
        keys = np.stack([np.full(len(scores), seed), users[rows], positions[rows]], axis=1)
        lists.append(top_items(scores, allowed, k, keys))
        np.put_along_axis(allowed, targets[rows, None], True, axis=1)
        ranks.append(metrics.tie_ranks(scores, targets[rows], allowed))
    all_ranks = metrics.Ranks(*(np.concatenate(part) for part in zip(*ranks, strict=True)))
    return _as_ranking(all_ranks, lists, users, k, log.n_items, _protocol(n_last, n_negatives, mask_seen))


def _as_ranking(
    ranks: metrics.Ranks, lists: list[np.ndarray], users: np.ndarray, k: int, n_items: int, protocol: str
) -> Ranking:
    by_position = {
        f"hit_rate@{k}": metrics.hit_rate(ranks, k),
        f"ndcg@{k}": metrics.gain(ranks, k),
        "mrr": metrics.mrr(ranks),
    }
    of_user, unit, n_positions = np.unique(users, return_inverse=True, return_counts=True)
    values = {name: np.bincount(unit, weights=column) / n_positions for name, column in by_position.items()}
    totals = {}
    if lists:
        shown = np.concatenate(lists)
        totals = {f"coverage@{k}": metrics.coverage(shown, n_items), f"gini@{k}": metrics.gini(shown, n_items)}
    return Ranking(values, totals, of_user, protocol, n_positions)


def _protocol(n_last: int, n_negatives: int | None, mask_seen: bool) -> str:
    seen = "seen items masked" if mask_seen else "seen items ranked too"
    among = f"all items ranked, {seen}" if n_negatives is None else f"sampled: 1 + {n_negatives} items ranked"
    return f"last {n_last} positions of each user, {among}, ties by expectation"


def _last_positions(log: InteractionLog, n_last: int, min_history: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns users (N,) and positions (N,) int64 of the newest events with enough history, grouped by user."""
    first = np.maximum(log.lengths - n_last, min_history)
    counts = np.maximum(log.lengths - first, 0)
    if n_last < 1 or min_history < 0 or not counts.any():
        raise DataError(
            f"some user must have a position to ask, got {log.n_users} users of at most {log.lengths.max(initial=0)} "
            f"events with n_last={n_last}, min_history={min_history}; give longer users or ask for less history"
        )
    users = np.repeat(np.arange(log.n_users), counts)
    return users, np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts - first, counts)


def _negatives(log: InteractionLog, users: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Returns n different items per row (N, n) that its user has nowhere in the log; every user has its own stream."""
    drawn = np.empty((len(users), n), dtype=np.int64)
    of_user, start, counts = np.unique(users, return_index=True, return_counts=True)
    for user, first, count in zip(of_user, start, counts, strict=True):
        unseen = np.setdiff1d(np.arange(log.n_items), log.user(user).items)
        if n < 1 or len(unseen) < n:
            raise DataError(
                f"n_negatives must be between 1 and the items a user never took, got {n} for user "
                f"{log.user_ids[user]!r} with {len(unseen)}; ask for fewer"
            )
        random = np.random.default_rng((seed, user))
        for row in range(first, first + count):
            drawn[row] = random.choice(unseen, n, replace=False)
    return drawn


# -- sessions in an environment ----------------------------------------------------------------------------------------


def evaluate_sessions(
    scorer: Scorer | ScoreFunction, env: RecVectorEnv, *, n_sessions: int | None = None, seed: int = 0
) -> SessionReturns:
    """Returns what sessions earn that show, at every step, the k allowed items of highest score.

    Every servable user opens one session. A session's luck depends on `seed`, the user and the visit alone: not on the
    scorer, on `env.num_envs` or on the order, so scorers can be compared in pairs. Chance decides among equal scores.

    Args:
        scorer: A `Scorer`, or a function from a `History` to scores (B, n_items). It sees frames: the last F events.
        env: With `action="item"`, `observation="history"` and autoreset `"Disabled"` or `"SameStep"`. Left mid-session.
        n_sessions: How many sessions; fewer than users are a seeded choice of them, more let users come again.
        seed: Seed of users' luck, of chance among equal scores, and of that choice.

    Raises:
        DataError: if the environment or the scorer is not as above.
    """
    env = env.unwrapped
    _check_env(env)
    check_seed(seed, bits=32)
    score = score_function(scorer, env.catalog.item_ids, env.catalog.reward, "the environment's catalog")
    users, seeds = _plan(env.users.servable, n_sessions, seed)  # (n,)
    n, n_items = len(users), env.catalog.n_items
    returns, lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
    items = np.full((n, env.horizon, env.k), n_items, dtype=np.int64)
    session = np.arange(env.num_envs)  # (B,) which session each row plays
    begun = min(n, env.num_envs)
    session[begun:] = -1  # rows without a session play on, and nobody looks
    observation, _ = env.reset(seed=seeds[session].tolist(), options={"user": users[session]})
    while (session >= 0).any():
        rows = np.flatnonzero(session >= 0)
        mine = session[rows]
        keys = np.stack([seeds[session], lengths[session]], axis=1)
        slate = _slate(score, env, observation, users[session], keys)  # (B, k)
        items[mine, lengths[mine]] = slate[rows]
        observation, rewards, terminated, truncated, _ = env.step(slate[:, 0] if env.k == 1 else slate)
        returns[mine] += rewards[rows]
        lengths[mine] += 1
        done = terminated | truncated
        if done.any():
            following = begun + np.arange(np.count_nonzero(done))
            session[done] = np.where(following < n, following, -1)
            begun = min(begun + len(following), n)
            options = {"user": users[session], "reset_mask": done}
            observation, _ = env.reset(seed=seeds[session].tolist(), options=options)
    values = {"session_return": returns, "session_length": lengths.astype(np.float64)}
    return SessionReturns(values, {}, users, f"{n} sessions of at most {env.horizon} steps, seed {seed}", items)


def _slate(
    score: ScoreFunction, env: RecVectorEnv, observation: Any, users: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    n_items = env.catalog.n_items
    length = np.count_nonzero(observation["items"] != n_items, axis=1)
    history = History(observation["items"], observation["rewards"], length, users)
    return top_items(as_scores(score(history), len(users), n_items), env.action_masks(), env.k, keys)


def _plan(servable: np.ndarray, n_sessions: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the user and the seed of each session (n,) int64; the seed is that of (seed, user, visit)."""
    n = len(servable) if n_sessions is None else n_sessions
    if n < 1:
        raise DataError(f"n_sessions must be at least 1, got {n_sessions}; leave it out for every user once")
    places = np.arange(n)
    chosen = servable
    if n < len(servable):
        chosen = np.sort(np.random.default_rng(seed).choice(servable, n, replace=False))
    visit, place = np.divmod(places, len(chosen))
    users = chosen[place].astype(np.int64)
    return users, seed * _SEEDS_APART + visit * (int(servable.max()) + 1) + users


def _check_env(env: RecVectorEnv) -> None:
    found = (env.action, env.observation, env.autoreset_mode.value)
    if found[:2] != ("item", "history") or found[2] not in ("Disabled", "SameStep"):
        raise DataError(
            f"sessions need an environment with action='item', observation='history' and autoreset_mode 'Disabled' or "
            f"'SameStep', got {found}; make it so"
        )
