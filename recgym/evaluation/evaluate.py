"""Evaluation of anything that scores items: next-item ranking of held-out users, and sessions in an environment.

A scorer is asked `scores(history) -> (B, n_items)`; a plain function of that signature serves too. All results hold one
value per user or session, so that two scorers can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym.batches import histories
from recgym.errors import DataError
from recgym.evaluation import metrics
from recgym.evaluation.metrics import Interval
from recgym.evaluation.questions import Questions, held_out_sets, next_items
from recgym.evaluation.scoring import ScoreFunction, as_scores, score_function, top_items, unseen_items
from recgym.frames import History, observed
from recgym.log import InteractionLog
from recgym.options import check_seed
from recgym.processes import in_processes, jobs_for, shares
from recgym.scorers import Scorer

if TYPE_CHECKING:
    from recgym.envs.env import RecVectorEnv

_SCORES_AT_ONCE = 1 << 24  # scores that questions are ranked by at a time
_SEEDS_APART = 1_000_000_000  # seeds of two evaluations do not meet below so many (user, visit)
_EVALUATING = 1 << 62  # no seed below it, which is where training's lie, gives a session's luck


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One value per unit (user or session) and metric, and what the lists hold together.

    Attributes:
        values: Per metric, one value per unit (n,) float64.
        totals: Numbers that belong to all lists together, such as coverage; they have no interval.
        users: User index of each unit (n,) int64.
        protocol: How the values were made, in words.
        people: Whose each unit is (n,), where that is not the user (a user of a log of sessions is one session).
    """

    values: dict[str, np.ndarray]
    totals: dict[str, float]
    users: np.ndarray
    protocol: str
    people: np.ndarray | None = field(default=None, kw_only=True)

    @property
    def who(self) -> np.ndarray:
        """Whose each unit is (n,): who is resampled for intervals."""
        return self.users if self.people is None else self.people

    def mean_interval(self, metric: str, **options: Any) -> Interval:
        """Returns the mean of a metric over units and its bootstrap interval; people are resampled.

        Options are those of `metrics.mean_interval`.
        """
        if metric in self.totals:
            return Interval(self.totals[metric], float("nan"), float("nan"))
        if metric not in self.values:
            known = [*self.values, *self.totals]
            raise DataError(f"the metric must be one of {known}, got {metric!r}; choose one of them")
        return metrics.mean_interval(self.values[metric], **{"people": self.who, **options})

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
        return metrics.paired_difference(self.values[metric], other.values[metric], **{"people": self.who, **options})

    def __repr__(self) -> str:
        rows = [f"  {metric:<18} {interval}" for metric, interval in self.summary().items()]
        return "\n".join([f"{type(self).__name__}: {self.protocol}", *rows])


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Evaluation):
    """What `evaluate_ranking` returns; the values of a user are means over its positions."""

    n_positions: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (n,) int64, per user
    by_question: dict[str, np.ndarray] = field(default_factory=dict)  # per metric, one value per question (N,)
    groups: Mapping[str, Ranking] = field(default_factory=dict)  # the same for named parts of the questions

    def __repr__(self) -> str:
        parts = [f"{name}, {sum(part.n_positions):,} questions\n{part}" for name, part in self.groups.items()]
        return "\n".join([super().__repr__(), *(part.replace(f"Ranking: {self.protocol}\n", "") for part in parts)])


@dataclass(frozen=True, eq=False, repr=False)
class SessionReturns(Evaluation):
    """What `evaluate_sessions` returns; metrics are `session_return`, `session_length` and those of the users."""

    items: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))  # (n, steps, k), padded

    @property
    def returns(self) -> np.ndarray:
        """Sum of rewards of each session (n,) float64."""
        return self.values["session_return"]

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each session (n,) float64."""
        return self.values["session_length"]


# -- ranking ---------------------------------------------------------------------------------------------------------


def evaluate_ranking(
    scorer: Scorer | ScoreFunction,
    log: InteractionLog | Questions,
    k: int = 10,
    *,
    past: InteractionLog | None = None,
    n_last: int = 10,
    min_history: int = 1,
    n_negatives: int | None = None,
    repeats: str = "auto",
    mask_seen: bool | None = None,
    sets: bool = False,
    by: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
    n_jobs: int = 1,
) -> Ranking:
    """Returns how a scorer ranks the item each user really took next: hit_rate@k, ndcg@k, mrr per user, and coverage.

    Of every user the last `n_last` positions are asked, as many as have `min_history` events before them. The history
    is everything before the position, the target is the event there; items taken later are candidates like any other.

    Items of the history are candidates like any other (`repeats="ask"`), or none of them is, and then a position whose
    target was seen before is not asked (`repeats="mask"`): never is the target alone spared, which would tell it.
    `"auto"` masks where at most 5 % of events repeat an item of their user, as in MovieLens, where none does; the
    protocol line says what was done, and how many events repeat an item.

    All items are ranked (the headline), or the target among `n_negatives` items drawn without replacement and the same
    for every scorer: items the user never took, or any where repeats are asked for. The latter are sampled metrics: not
    comparable with the former.

    With `sets` the items of each user in `log` are one set, asked for after all his events in `past`: recall@k and
    ndcg@k, the protocol of collaborative filtering.

    Args:
        scorer: A `Scorer`, or a function from a `History` to scores (B, n_items); minus infinity means "never".
        log: Users to evaluate; held out from whatever the scorer was fitted on. Or `Questions` of one's own: other
            candidates, other histories; then the options about questions are left alone.
        k: Length of the list.
        past: Earlier events of the same users, where `log` is only the newest part of a split; a log that knows what
            it was split from needs none.
        n_last: Positions per user, the newest ones.
        min_history: Events a position must have before it.
        n_negatives: Candidates besides the target; None ranks all items.
        repeats: `"auto"`, `"ask"` or `"mask"`, see above.
        mask_seen: Older name: True for `repeats="mask"`, False for `"ask"`.
        sets: Whether the items of each user are one set.
        by: An event column, such as `"behaviour"`: each of its values has results of its own in `groups`.
        seed: Seed of the negatives, and of chance among equal scores at the end of a list (coverage and Gini only; hits
            and ranks count ties by expectation).
        batch_size: Histories scored at a time; no value depends on it, beyond rounding in the scorer's own arithmetic.
        n_jobs: Processes that share the batches, see `recgym.processes`. Values are the same to the bit for a scorer
            that depends on the history alone and computes in one thread (`OMP_NUM_THREADS=1`); more threads may round
            otherwise. One that says `in_order` is asked by one process.

    Raises:
        DataError: if the scorer's items or rewards are not the log's, its scores have a wrong shape, hold NaN or plus
            infinity, no user has a position to ask, or the log is a tail without its past.
    """
    metrics.check_k(k)
    check_seed(seed)
    if not isinstance(log, Questions):
        repeats = repeats if mask_seen is None else "mask" if mask_seen else "ask"
        options: dict[str, Any] = {"past": past, "min_history": min_history, "repeats": repeats, "by": by}
        if sets and n_negatives is not None:
            raise DataError(f"sets are ranked among all items, got n_negatives={n_negatives}; drop one of them")
        if sets:
            log = held_out_sets(log, **options)
        else:
            log = next_items(log, n_last=n_last, n_negatives=n_negatives, seed=seed, **options)
    source, totals = log.log, {}
    score = score_function(scorer, source.item_ids, source.reward, source.name, source.user_ids)
    ranks, lists = _ranked(score, log, k, seed, batch_size, jobs_for(scorer, n_jobs))
    if len(lists):
        n_items = source.n_items
        totals = {f"coverage@{k}": metrics.coverage(lists, n_items), f"gini@{k}": metrics.gini(lists, n_items)}
    groups = {name: _as_ranking(ranks, log, rows, k, {}) for name, rows in log.groups.items() if rows.any()}
    return replace(_as_ranking(ranks, log, np.ones(len(log.users), dtype=bool), k, totals), groups=groups)


def _ranked(
    score: ScoreFunction, asked: Questions, k: int, seed: int, batch_size: int, n_jobs: int
) -> tuple[metrics.Ranks, np.ndarray]:
    """Returns the ranks of all targets (N,), and a list after each history (M, k) unless candidates are given."""
    log, starts = asked.log, np.append(asked.starts, len(asked.users))

    def batch(number: int) -> tuple[list[metrics.Ranks], np.ndarray]:
        first, lists = number * batch_size, np.empty((0, k), dtype=np.int64)
        begin = starts[first : first + batch_size + 1]  # of the questions of these histories, and the end
        users, positions = asked.users[begin[:-1]], asked.positions[begin[:-1]]
        history = histories(log, users, positions)
        scores = as_scores(score(history), len(users), log.n_items)  # (B, n_items)
        whose = np.repeat(np.arange(len(users)), np.diff(begin))  # history of each question
        allowed = None
        if asked.candidates is None:
            allowed = unseen_items(history.items if asked.masked else history.items[:, :0], log.n_items)
            keys = np.stack([np.full(len(users), seed), users, positions], axis=1)
            lists = top_items(scores, allowed, k, keys)
        at_once = max(1, _SCORES_AT_ONCE // log.n_items)
        blocks = (np.arange(row, min(row + at_once, begin[-1])) for row in range(begin[0], begin[-1], at_once))
        return [_ranks_of(scores, whose[rows - begin[0]], asked, rows, allowed) for rows in blocks], lists

    found = in_processes(batch, -(-(len(starts) - 1) // batch_size), n_jobs)
    ranks = [part for parts, _ in found for part in parts]
    return (
        metrics.Ranks(*(np.concatenate(part) for part in zip(*ranks, strict=True))),
        np.concatenate([np.empty((0, k), dtype=np.int64), *(lists for _, lists in found)]),
    )


def _ranks_of(
    scores: np.ndarray, whose: np.ndarray, asked: Questions, rows: np.ndarray, allowed: np.ndarray | None
) -> metrics.Ranks:
    targets, n_items = asked.targets[rows], scores.shape[1]
    if allowed is not None:
        if n_seen := int(np.count_nonzero(~allowed[whose, targets])):
            raise DataError(
                f"with items of the history masked no target may be one of them, got {n_seen} of {len(rows)} questions "
                f"where it is; leave those out, or set masked=False"
            )
        return metrics.tie_ranks(scores[whose], targets, allowed[whose])
    assert asked.candidates is not None
    others = np.where(asked.candidates[rows] == targets[:, None], n_items, asked.candidates[rows])
    columns = np.concatenate([targets[:, None], others], axis=1)  # (n, 1 + C)
    chosen = scores[whose[:, None], np.minimum(columns, n_items - 1)]
    return metrics.tie_ranks(chosen, np.zeros(len(rows), dtype=np.int64), columns < n_items)


def _as_ranking(ranks: metrics.Ranks, asked: Questions, rows: np.ndarray, k: int, totals: dict[str, float]) -> Ranking:
    """Returns the values of the questions `rows` (N,) bool by question, and by user."""
    ranks = metrics.Ranks(*(part[rows] for part in ranks))
    of_user, unit, n_positions = np.unique(asked.users[rows], return_inverse=True, return_counts=True)
    hits, gains = metrics.hit_rate(ranks, k), metrics.gain(ranks, k)
    by_question = {f"hit_rate@{k}": hits, f"ndcg@{k}": gains, "mrr": metrics.mrr(ranks)}
    if asked.sets:
        size = n_positions[unit]  # of the set that each question is of
        by_question = {f"recall@{k}": hits, f"ndcg@{k}": gains * size / metrics.ideal_gain(size, k)}
    values = {name: np.bincount(unit, weights=column) / n_positions for name, column in by_question.items()}
    return Ranking(values, totals, of_user, asked.words, n_positions, by_question)


# -- sessions in an environment ----------------------------------------------------------------------------------------


def evaluate_sessions(
    scorer: Scorer | ScoreFunction,
    env: RecVectorEnv,
    *,
    n_sessions: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
) -> SessionReturns:
    """Returns what sessions earn that show, at every step, the k allowed items of highest score.

    A scorer whose attribute `k` is that of the environment, above 1, says its slates itself: it is asked for
    `slates(history, allowed)` (B, k), with `allowed` (B, n_items) bool.

    Every servable user opens one session. A session's luck depends on `seed`, the user and the visit alone: not on the
    scorer, on `env.num_envs` or on the order, so scorers can be compared in pairs; no `reset(seed=...)` below 2**62
    gives it. Chance decides among equal scores. Intervals resample people, with all the sessions that each had.

    Args:
        scorer: A `Scorer`, or a function from a `History` to scores (B, n_items). It sees frames: the last F events.
        env: With `action="item"`, `observation="history"` and autoreset `"Disabled"` or `"SameStep"`. Left mid-session.
        n_sessions: How many sessions; fewer than users are a seeded choice of them, more let users come again.
        seed: Seed of users' luck, of chance among equal scores, and of that choice.
        n_jobs: Processes that share the sessions, each with an environment like this; no result depends on it, as none
            does on `env.num_envs`. Where it is above 1, `env` may be left as it was. A scorer that says `in_order`, as
            what depends on the calls before must, is asked by one process.

    Raises:
        DataError: if the environment or the scorer is not as above.
    """
    env = env.unwrapped
    _check_env(env)
    check_seed(seed, bits=32)
    score = score_function(
        scorer, env.catalog.item_ids, env.catalog.reward, "the environment's catalog", env.users.user_ids
    )
    users, seeds = _plan(env.users.servable, n_sessions, seed)  # (n,)
    n, n_jobs = len(users), jobs_for(scorer, n_jobs)
    parts = shares(n, n_jobs)
    own = scorer.slates if env.k > 1 and getattr(scorer, "k", None) == env.k else None  # type: ignore[union-attr]
    play = partial(_play, score, env, slates=own)
    played = in_processes(lambda part: play(users[parts[part]], seeds[parts[part]]), len(parts), n_jobs)
    *played_parts, measured = zip(*played, strict=True)
    returns, lengths, items = (np.concatenate(part) for part in played_parts)
    values = {"session_return": returns, "session_length": lengths.astype(np.float64)}
    values |= {name: np.concatenate([part[name] for part in measured]) for name in measured[0]}
    protocol = f"{n} sessions of at most {env.horizon} steps, seed {seed}"
    return SessionReturns(values, {}, users, protocol, items, people=people_of(env.users, users))


def _play(
    score: ScoreFunction, env: RecVectorEnv, users: np.ndarray, seeds: np.ndarray, slates: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Plays a session of each user.

    Returns what they earned (n,), their steps (n,), what was shown (n, steps, k), and what the users measure (n,).
    """
    n, n_items = len(users), env.catalog.n_items
    returns, lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
    items = np.full((n, env.horizon, env.k), n_items, dtype=np.int64)
    session = np.arange(env.num_envs)  # (B,) which session each row plays
    begun = min(n, env.num_envs)
    session[begun:] = -1  # rows without a session play on, and nobody looks
    observation, _ = env.reset(seed=seeds[session].tolist(), options={"user": users[session]})
    measures: Any = getattr(env.users, "measures", lambda state: {})  # at the end, which "SameStep" drops
    names = () if env.autoreset_mode.value == "SameStep" else measures(env.user_state)
    measured = {name: np.zeros(n) for name in names}
    while (session >= 0).any():
        rows = np.flatnonzero(session >= 0)
        mine = session[rows]
        keys = np.stack([seeds[session], lengths[session]], axis=1)
        slate = _slate(score, env, observation, users[session], keys, slates)  # (B, k)
        items[mine, lengths[mine]] = slate[rows]
        observation, rewards, terminated, truncated, _ = env.step(slate[:, 0] if env.k == 1 else slate)
        returns[mine] += rewards[rows]
        lengths[mine] += 1
        done = terminated | truncated
        if done.any():
            ended = np.flatnonzero(done & (session >= 0))
            for name, column in measured.items():
                column[session[ended]] = measures(env.user_state)[name][ended]
            following = begun + np.arange(np.count_nonzero(done))
            session[done] = np.where(following < n, following, -1)
            begun = min(begun + len(following), n)
            options = {"user": users[session], "reset_mask": done}
            observation, _ = env.reset(seed=seeds[session].tolist(), options=options)
    return returns, lengths, items, measured


def _slate(
    score: ScoreFunction, env: RecVectorEnv, observation: Any, users: np.ndarray, keys: np.ndarray, slates: Any
) -> np.ndarray:
    n_items = env.catalog.n_items
    items, rewards = observed(observation)
    history = History(items, rewards, np.count_nonzero(items != n_items, axis=1), users)
    if slates is not None:
        said = slates(history, env.action_masks())
        return np.asarray(said.cpu() if hasattr(said, "cpu") else said, dtype=np.int64)
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
    return users, _EVALUATING + seed * _SEEDS_APART + visit * (int(servable.max()) + 1) + users


def people_of(users: Any, index: np.ndarray) -> np.ndarray | None:
    """Returns whose the users of a model (n,) are, where each user is one of a person's sessions; else None."""
    log = getattr(users, "log", None)
    return log.users["person"][index] if log is not None and "person" in log.users else None


def _check_env(env: RecVectorEnv) -> None:
    found = (env.action, env.observation, env.autoreset_mode.value)
    if found[:2] != ("item", "history") or found[2] not in ("Disabled", "SameStep"):
        raise DataError(
            f"sessions need an environment with action='item', observation='history' and autoreset_mode 'Disabled' or "
            f"'SameStep', got {found}; make it so"
        )
