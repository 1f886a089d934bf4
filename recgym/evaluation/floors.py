"""What chance, popularity, greed and known truth earn in every environment: kept as data, measured by one command.

`floors.csv` beside this file holds a row per id and policy. `python -m recgym floors` measures it anew.

| policy | what it knows |
|---|---|
| `random` | what may be shown (`action_masks()`), and nothing else |
| `popularity` | what training users consumed most (of simulated users: in random sessions, for k > 3 of single items) |
| `item mean` | what training users say of each item on average, damped by five events (of users learned from a log) |
| `greedy` | the truth about the next step, which for users who answer from a log is the log: the best slate for it |
| `rotating` | the same, and leaves out the topics of the last three answers |
| `diverse` | what `greedy` knows, and shows at most one item of a topic in a slate |
| `quality` | the items' hidden quality, where it plays a part, and nothing of the user |
| `satisfying` | the chance of an answer by the truth, times that quality |
| `planner` | the truth, and imagines futures (`recgym.evaluation.planning.planner`) |

All show slates of the environment's k. The ceiling is the best of them: a lower bound of what is possible. `planning`
is its difference from `greedy` over the same sessions, its interval as wide as picking the best of several asks for
(Bonferroni); planning pays where it lies above 0. Where `recgym.evaluation.planning.greed_is_best`, `greedy` is the
ceiling itself, and the difference is 0.

Intervals resample people. Each has one session, or up to four where there are fewer than 250 and sessions of one person
differ by luck; worlds that are generated hold out half of their people for this. Every row says of how many sessions
and people it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym.envs.registry import KINDS, make_batch, takes_split
from recgym.envs.vector import RecVectorEnv
from recgym.evaluation import planning
from recgym.evaluation.collection import collect
from recgym.evaluation.evaluate import SessionReturns, evaluate_sessions
from recgym.evaluation.metrics import Interval
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.evaluation.questions import ASK_ABOVE
from recgym.evaluation.recency import Recency
from recgym.log import InteractionLog
from recgym.log.shares import repeat_share
from recgym.processes import in_processes
from recgym.rng import RowRandom
from recgym.scorers import Popularity, Uniform
from recgym.storage import store
from recgym.storage.cache import cache_dir
from recgym.users.behaviours.returning import Retention
from recgym.users.playlist import PlaylistUsers
from recgym.users.replay import ReplayUsers
from recgym.users.simulated import SimulatedUsers

PATH = Path(__file__).with_suffix(".csv")
N_SESSIONS, SEED, ROWS = 500, 1, 64
_ASKED = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"}
_AS_MANY = "greedy over as many"  # sessions as the planner plays
_IMAGINED_SESSIONS = 64  # sessions of a planner, which is slow; greedy ones are compared over the same
_REPEATABLE = planning.Imagined(n_futures=1)  # of users without luck: one future is all futures
_SLATES = planning.Imagined(n_items=6, depth=5, n_futures=3, width=10)  # of slates, which are slow to imagine
_MOST = 3  # items of a slate that a planner can imagine
_DAMPED = 5.0  # events of mean worth that an item's mean has beside its own
_HALF = {"test_size": 0.5}  # of worlds that are generated: people cost nothing there
_BEST = "greed is the best there is"  # what a row `planning` says where that is known, not measured
_COLUMNS = ("env_id", "policy", "mean", "low", "high", "n", "people", "how")


class Floor(NamedTuple):
    """What one policy earns in one environment: the mean return of a session and its 95 % interval."""

    env_id: str
    policy: str
    mean: float
    low: float
    high: float
    n_sessions: int
    n_people: int = 0  # whose sessions they are; 0 where an older file does not say
    how: str = ""  # with which options, where they are not the id's own

    @property
    def known_to(self) -> float:
        """Half of the interval's width as a share of the mean; infinity where that is 0."""
        return (self.high - self.low) / 2.0 / abs(self.mean) if self.mean else float("inf")

    @property
    def interval(self) -> Interval:
        """The mean and its interval."""
        return Interval(self.mean, self.low, self.high)


def own_path() -> Path:
    """Returns where floors go that are measured here: `floors.csv` in the cache folder."""
    return cache_dir() / "floors.csv"


def stored(env_id: str) -> list[Floor]:
    """Returns the kept floors of an id: those measured here, or else those that came with recgym."""
    found = ([floor for floor in read(path) if floor.env_id == env_id] for path in (own_path(), PATH))
    return next((floors for floors in found if floors), [])


def read(path: Path = PATH) -> list[Floor]:
    """Returns all kept floors."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Floor(
            row["env_id"],
            row["policy"],
            float(row["mean"]),
            float(row["low"]),
            float(row["high"]),
            n_sessions=int(row["n"]),
            n_people=int(row.get("people") or 0),
            how=row.get("how") or "",
        )
        for row in rows
    ]


def write(floors: Iterable[Floor], path: Path = PATH) -> None:
    """Replaces the floors of the ids given in the file, and leaves the others."""
    floors = list(floors)
    measured = {floor.env_id for floor in floors}
    kept = [floor for floor in read(path) if floor.env_id not in measured]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for floor in sorted([*kept, *floors], key=lambda floor: floor.env_id):
        rows.writerow([*floor[:2], *(f"{value:.4f}" for value in floor[2:5]), *floor[5:]])
    with store.atomic_file(path) as temporary:
        temporary.write_text(text.getvalue())


def measure(
    env_id: str,
    *,
    plan: bool = True,
    n_sessions: int = N_SESSIONS,
    only: Sequence[str] | None = None,
    n_jobs: int = 1,
    **options: Any,
) -> list[Floor]:
    """Returns the floors of an id, measured on its held-out users where it has any; all policies meet the same ones.

    Args:
        env_id: A registered id.
        plan: Whether to run the planner too, which takes minutes.
        n_sessions: Sessions of each policy but the planner, at most.
        only: Names of the policies to play; None: all there are.
        n_jobs: Processes that share the policies; no number depends on it.
        **options: Options of the id, e.g. smaller data.

    Raises:
        DataError: if the id is unknown.
        MissingDataError: if its data set is not on this machine.
    """
    generated = any(env_id in kind.ids() for kind in KINDS if not kind.datasets)
    given = _ASKED | (_HALF if generated else {}) | options
    parts = ({"split": "test"}, {"split": "train"}) if takes_split(env_id) else ({}, {})
    env, train = (make_batch(env_id, ROWS, **given | part) for part in parts)
    if env.k > _MOST:  # what slates of so many show is slow to draw
        train = make_batch(env_id, ROWS, **given | parts[1] | {"k": 1})
    policies = known_policies(env, train)
    policies = {name: policy for name, policy in policies.items() if only is None or name in only}
    n_people = len(env.users.servable)
    visits = 1 if n_people >= N_SESSIONS / 4 or (isinstance(env.users, ReplayUsers) and env.users.clicks is None) else 4
    n_sessions = min(n_sessions, visits * n_people)
    few = min(n_sessions, _IMAGINED_SESSIONS)
    imagining = {"planner": policies.pop("planner")} if "planner" in policies else {}
    if plan and imagining:
        imagining[_AS_MANY] = policies["greedy"]
    runs = [(name, policy, n_sessions) for name, policy in policies.items()]
    runs += [(name, policy, few) for name, policy in imagining.items()] if plan else []

    def play(number: int) -> SessionReturns:
        _, policy, n = runs[number]
        return evaluate_sessions(policy, env, n_sessions=n, seed=SEED)

    played = in_processes(play, len(runs), n_jobs)
    found = {name: one for (name, *_), one in zip(runs, played, strict=True)}
    how = "half of the people held out" if generated and "test_size" not in options else ""
    return [*_rows(env_id, found, how), *_planning(env_id, found, how, planning.greed_is_best(env))]


def known_policies(env: RecVectorEnv, train: RecVectorEnv) -> dict[str, Any]:
    """Returns the policies of the table above that there are for an environment, by name.

    Args:
        env: With item actions and history observations; those that know the truth ask it about its present sessions.
        train: Of the training users, who make popularity.
    """
    users, ids, reward = env.users, env.catalog.item_ids, env.catalog.reward
    policies: dict[str, Any] = {"random": Uniform(ids, SEED, reward), "popularity": _popularity(train)}
    log = getattr(train.users, "log", None)
    if hasattr(users, "fitted_on") and log is not None:
        policies["item mean"] = _item_means(log)
    if env.repeats == "allow" and log is not None and repeat_share(log) > ASK_ABOVE:
        policies["recency"] = Recency.fit(log)
    if not hasattr(users, "expected_rewards"):
        return policies
    policies["greedy"] = planning.greedy(env)
    if isinstance(users, SimulatedUsers):
        if users.items.n_topics > 1:
            if users.remembers == "answered":
                policies["rotating"] = planning.rotating(env)
            if env.k > 1:
                policies["diverse"] = planning.diverse(env)
        quality = users.items.quality[:-1]
        if np.ptp(quality) > 0 and _quality_counts(users):
            policies["quality"] = lambda history: np.broadcast_to(quality, (env.num_envs, env.catalog.n_items))
            if any(isinstance(part, Retention) for part in users.parts):
                policies["satisfying"] = planning.satisfying(env)
    imaginable = isinstance(users, SimulatedUsers | PlaylistUsers) and env.k <= _MOST
    if imaginable:  # others need no planner, or are slow to imagine
        repeatable = isinstance(users, PlaylistUsers) and users.clicks is None
        imagined = _SLATES if env.k > 1 else None
        policies["planner"] = planning.planner(env, _REPEATABLE if repeatable else imagined)
    return policies


def verdict(floors: list[Floor]) -> str:
    """Returns in words whether planning pays, by the row `planning`."""
    gap = next((floor for floor in floors if floor.policy == "planning"), None)
    if gap is None:
        return f"whether planning pays was not measured{_of_everyone(floors)}"
    if gap.how == _BEST:
        return "planning does not pay: no answer depends on what was shown before, so greed is the best there is"
    if gap.low > 0:
        return f"planning pays: the best known policy earns {gap.interval} more than the greedy one"
    more = "nobody known earns more than greed" if gap.mean <= 0 else "hardly anybody known earns more than greed"
    return f"planning does not pay, as far as is known: {more}, the best by {gap.interval}"


def _of_everyone(floors: list[Floor]) -> str:
    """Returns in words how far one list for everyone goes, where that is known: what is left is personal."""
    means = {floor.policy: floor.mean for floor in floors}
    if not {"random", "item mean", "greedy"} <= set(means) or means["greedy"] <= means["random"]:
        return ""
    share = (means["item mean"] - means["random"]) / (means["greedy"] - means["random"])
    return f"; the same list for everyone, best items first, earns {100 * share:.0f} % of what greed does above chance"


def _popularity(env: RecVectorEnv) -> Popularity:
    """Returns the popularity of items among the users of an environment: of their log, or of random sessions."""
    log = getattr(env.users, "log", None)
    if log is not None:
        return Popularity.fit(log)
    chance = SoftmaxPolicy(Uniform(env.catalog.item_ids, SEED, env.catalog.reward), temperature=1e6)
    log = collect(chance, env, n_sessions=500, seed=SEED)
    shown = log.extra["step"] >= 0
    earned = np.bincount(log.items[shown], weights=log.rewards[shown], minlength=log.n_items)
    return Popularity(env.catalog.item_ids, earned, env.catalog.reward)


def _item_means(log: InteractionLog) -> Popularity:
    """Returns the ranking of items by the mean reward of their events, damped by some of the mean of all."""
    counts = np.bincount(log.items, minlength=log.n_items)
    sums = np.bincount(log.items, weights=log.rewards, minlength=log.n_items)
    return Popularity(log.item_ids, (sums + _DAMPED * log.rewards.mean()) / (counts + _DAMPED), log.reward)


def _quality_counts(users: SimulatedUsers) -> bool:
    """Returns whether users answer or go on otherwise where items have another quality; tried over a few steps."""
    other = copy(users)
    other.items = users.items._replace(quality=users.items.quality[::-1] + 1.0)
    runs = []
    for model in (users, other):
        random = RowRandom.from_seeds(list(range(16)))
        state, _ = model.start(random, slice(None), 1)
        run: list[Any] = []
        for step in range(8):
            slate = (np.arange(16)[:, None] * 7 + step) % users.n_items
            state, response = model.respond(random, slice(None), state, slate)
            random.step += 1
            run += [*state, *response]
        runs.append(run)
    return not all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


def _rows(env_id: str, found: dict[str, SessionReturns], how: str) -> list[Floor]:
    return [
        _floor(env_id, name, one.mean_interval("session_return"), one, how)
        for name, one in found.items()
        if name != _AS_MANY
    ]


def _floor(env_id: str, name: str, interval: Interval, one: SessionReturns, how: str) -> Floor:
    return Floor(env_id, name, *interval, n_sessions=len(one.returns), n_people=len(np.unique(one.who)), how=how)


def _planning(env_id: str, found: dict[str, SessionReturns], how: str, greed_is_best: bool) -> list[Floor]:
    """Returns the row of the best policy's difference from the greedy one, over the same sessions."""
    if greed_is_best and "greedy" in found:
        one = found["greedy"]
        return [_floor(env_id, "planning", one.difference(one, "session_return"), one, _BEST)]
    pairs: dict[str, tuple[SessionReturns, SessionReturns]]
    pairs = {
        name: (found[name], found["greedy"])
        for name in ("rotating", "diverse", "quality", "satisfying")
        if name in found
    }
    if "planner" in found:
        pairs["planner"] = (found["planner"], found[_AS_MANY])
    if not pairs:
        return []
    best = max(pairs, key=lambda name: float(np.mean(pairs[name][0].returns - pairs[name][1].returns)))
    one, other = pairs[best]
    confidence = 1.0 - 0.05 / len(pairs)  # the best of several was picked
    return [_floor(env_id, "planning", one.difference(other, "session_return", confidence=confidence), one, how)]
