"""What chance, popularity, greed and known truth earn in every environment: kept as data, measured by one command.

`floors.csv` beside this file holds a row per id and policy. `python -m recgym floors` measures it anew.

| policy | what it knows |
|---|---|
| `random` | nothing |
| `popularity` | what training users consumed most (of simulated users: in random sessions) |
| `recency` | what this user took last, where items repeat and may be shown again |
| `greedy` | the truth about the next step, which for users who answer from a log is the log: the myopic optimum |
| `rotating` | the same, and leaves out the topics of the last three answers |
| `quality` | the items' hidden quality, and nothing of the user |
| `planner` | the truth, and imagines futures (`recgym.planning.planner`) |

The ceiling is the best of them: a lower bound of what is possible. `planning` is its difference from `greedy` over the
same sessions; planning pays where its interval lies above 0. Users who are `memoryless` answer alike whatever was shown
before: there `greedy` is the ceiling itself, and the difference is 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym import planning, store
from recgym.cache import cache_dir
from recgym.collection import collect
from recgym.evaluate import evaluate_sessions
from recgym.log.shares import repeat_share
from recgym.metrics import Interval, mean_interval, paired_difference
from recgym.policies import Popularity, Uniform
from recgym.questions import ASK_ABOVE
from recgym.recent import Recency
from recgym.registry import make_batch, takes_split
from recgym.stochastic import SoftmaxPolicy
from recgym.users.playlist import PlaylistUsers
from recgym.users.simulated import SimulatedUsers
from recgym.vector import RecVectorEnv

PATH = Path(__file__).with_suffix(".csv")
N_SESSIONS, SEED, ROWS = 256, 1, 64
_ASKED = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"}
_AS_MANY = "greedy over as many"  # sessions as the planner plays
_IMAGINED_SESSIONS = 64  # sessions of a planner, which is slow; greedy ones are compared over the same
_REPEATABLE = planning.Imagined(n_futures=1)  # of users without luck: one future is all futures


class Floor(NamedTuple):
    """What one policy earns in one environment: the mean return of a session and its 95 % interval."""

    env_id: str
    policy: str
    mean: float
    low: float
    high: float
    n_sessions: int

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
    numbers = [[float(row[name]) for name in ("mean", "low", "high")] for row in rows]
    return [
        Floor(row["env_id"], row["policy"], mean, low, high, int(row["n"]))
        for row, (mean, low, high) in zip(rows, numbers, strict=True)
    ]


def write(floors: Iterable[Floor], path: Path = PATH) -> None:
    """Replaces the floors of the ids given in the file, and leaves the others."""
    floors = list(floors)
    measured = {floor.env_id for floor in floors}
    kept = [floor for floor in read(path) if floor.env_id not in measured]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["env_id", "policy", "mean", "low", "high", "n"])
    for floor in sorted([*kept, *floors], key=lambda floor: floor.env_id):
        rows.writerow([*floor[:2], *(f"{value:.4f}" for value in floor[2:5]), floor.n_sessions])
    with store.atomic_file(path) as temporary:
        temporary.write_text(text.getvalue())


def measure(env_id: str, *, plan: bool = True, n_sessions: int = N_SESSIONS, **options: Any) -> list[Floor]:
    """Returns the floors of an id, measured on its held-out users where it has any; all policies meet the same ones.

    Args:
        env_id: A registered id.
        plan: Whether to run the planner too, which takes minutes.
        n_sessions: Sessions of each policy but the planner.
        **options: Options of the id, e.g. smaller data.

    Raises:
        DataError: if the id is unknown.
        MissingDataError: if its data set is not on this machine.
    """
    parts = ({"split": "test"}, {"split": "train"}) if takes_split(env_id) else ({}, {})
    env, train = (make_batch(env_id, ROWS, **options | part | _ASKED) for part in parts)
    policies = known_policies(env, train)
    n_sessions = min(n_sessions, 4 * len(env.users.servable))
    few = min(n_sessions, _IMAGINED_SESSIONS)
    imagining = {"planner": policies.pop("planner")} if "planner" in policies else {}
    if plan and imagining:
        imagining[_AS_MANY] = policies["greedy"]
    runs = [(name, policy, n_sessions) for name, policy in policies.items()]
    runs += [(name, policy, few) for name, policy in imagining.items()] if plan else []
    returns = {name: evaluate_sessions(policy, env, n_sessions=n, seed=SEED).returns for name, policy, n in runs}
    memoryless = getattr(env.users, "memoryless", False)
    return [*_rows(env_id, returns), *_planning(env_id, returns, memoryless)]


def known_policies(env: RecVectorEnv, train: RecVectorEnv) -> dict[str, Any]:
    """Returns the policies of the table above that there are for an environment, by name.

    Args:
        env: With item actions and history observations; those that know the truth ask it about its present sessions.
        train: Of the training users, who make popularity.
    """
    users, ids, reward = env.users, env.catalog.item_ids, env.catalog.reward
    policies: dict[str, Any] = {"random": Uniform(ids, SEED, reward), "popularity": _popularity(train)}
    log = getattr(train.users, "log", None)
    if env.repeats == "allow" and log is not None and repeat_share(log) > ASK_ABOVE:
        policies["recency"] = Recency.fit(log)
    if not hasattr(users, "expected_rewards"):
        return policies
    policies["greedy"] = planning.greedy(env)
    if isinstance(users, SimulatedUsers):
        if users.items.n_topics > 1:
            policies["rotating"] = planning.rotating(env)
        quality = users.items.quality[:-1]
        if np.ptp(quality) > 0:
            policies["quality"] = lambda history: np.broadcast_to(quality, (env.num_envs, env.catalog.n_items))
    if isinstance(users, SimulatedUsers | PlaylistUsers):  # others are memoryless, or learned and slow to imagine
        repeatable = isinstance(users, PlaylistUsers) and users.clicks is None
        policies["planner"] = planning.planner(env, _REPEATABLE if repeatable else None)
    return policies


def verdict(floors: list[Floor]) -> str:
    """Returns in words whether planning pays, by the row `planning`."""
    gap = next((floor for floor in floors if floor.policy == "planning"), None)
    if gap is None:
        return "whether planning pays was not measured"
    if gap.low == gap.high == 0:
        return "planning does not pay: no answer depends on what was shown before, so greed is the best there is"
    if gap.low > 0:
        return f"planning pays: the best known policy earns {gap.interval} more than the greedy one"
    more = "nobody known earns more than greed" if gap.mean <= 0 else "hardly anybody known earns more than greed"
    return f"planning does not pay, as far as is known: {more}, the best by {gap.interval}"


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


def _rows(env_id: str, returns: dict[str, np.ndarray]) -> list[Floor]:
    return [
        Floor(env_id, name, *mean_interval(values), len(values)) for name, values in returns.items() if name != _AS_MANY
    ]


def _planning(env_id: str, returns: dict[str, np.ndarray], memoryless: bool) -> list[Floor]:
    """Returns the row of the best policy's difference from the greedy one, over the same sessions."""
    better = [name for name in returns if name in ("rotating", "quality")]
    pairs = {name: (returns[name], returns["greedy"]) for name in better}
    if "planner" in returns:
        pairs["planner"] = (returns["planner"], returns[_AS_MANY])
    if memoryless:
        pairs["greedy"] = (returns["greedy"], returns["greedy"])
    if not pairs:
        return []
    best = max(pairs, key=lambda name: float(np.mean(pairs[name][0] - pairs[name][1])))
    a, b = pairs[best]
    return [Floor(env_id, "planning", *paired_difference(a, b), len(a))]
