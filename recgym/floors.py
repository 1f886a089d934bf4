"""What chance, popularity, greed and known truth earn in every environment: kept as data, measured by one command.

`floors.csv` beside this file holds a row per id and policy. `python -m recgym floors` measures it anew.

| policy | what it knows |
|---|---|
| `random` | nothing |
| `popularity` | what training users consumed most (of simulated users: in random sessions) |
| `greedy` | the truth about the next step: the myopic optimum |
| `rotating` | the same, and leaves out the topics of the last three answers |
| `planner` | the truth, and imagines futures (`recgym.planning.planner`) |

The ceiling is the best of them: a lower bound of what is possible. `planning` is its difference from `greedy` over the
same sessions; planning pays where its interval lies above 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym import planning, store
from recgym.collection import collect
from recgym.evaluate import evaluate_sessions
from recgym.metrics import Interval, mean_interval, paired_difference
from recgym.policies import Popularity, Uniform
from recgym.registry import make_vector_env, registered
from recgym.stochastic import SoftmaxPolicy
from recgym.users.simulated import SimulatedUsers
from recgym.vector import RecVectorEnv

PATH = Path(__file__).with_suffix(".csv")
N_SESSIONS, SEED, ROWS = 256, 1, 64
_IMAGINED_SESSIONS = 64  # sessions of a planner, which is slow; greedy ones are compared over the same


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


def stored(env_id: str) -> list[Floor]:
    """Returns the kept floors of an id; none where it was never measured."""
    return [floor for floor in read() if floor.env_id == env_id]


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
    given = registered(env_id) | options
    env = _make(given | {"split": "test"})
    train = _make(given | {"split": "train"})
    scorers: dict[str, Any] = {
        "random": Uniform(env.catalog.item_ids, SEED, env.catalog.reward),
        "popularity": _popularity(train),
    }
    simulated = isinstance(env.users, SimulatedUsers)
    if hasattr(env.users, "expected_rewards"):
        scorers["greedy"] = planning.greedy(env)
    if simulated and len(np.unique(env.users.items.topic)) > 2:  # type: ignore[attr-defined]  # one is padding's
        scorers["rotating"] = planning.rotating(env)
    n_sessions = min(n_sessions, 4 * len(env.users.servable))
    returns = {name: evaluate_sessions(s, env, n_sessions=n_sessions, seed=SEED).returns for name, s in scorers.items()}
    if simulated and plan:
        few = min(n_sessions, _IMAGINED_SESSIONS)
        both = {"greedy over as many": planning.greedy(env), "planner": planning.planner(env)}
        returns |= {name: evaluate_sessions(s, env, n_sessions=few, seed=SEED).returns for name, s in both.items()}
    return [*_rows(env_id, returns), *_planning(env_id, returns)]


def verdict(floors: list[Floor]) -> str:
    """Returns in words whether planning pays, by the row `planning`."""
    gap = next((floor for floor in floors if floor.policy == "planning"), None)
    if gap is None:
        return "whether planning pays was not measured"
    if gap.low > 0:
        return f"planning pays: the best known policy earns {gap.interval} more than the greedy one"
    return f"planning does not pay, as far as is known: the best known policy earns {gap.interval} more than greed"


def _make(options: dict[str, Any]) -> RecVectorEnv:
    return make_vector_env(ROWS, **options | {"action": "item", "observation": "history", "autoreset_mode": "Disabled"})


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
        Floor(env_id, name, *mean_interval(values), len(values))
        for name, values in returns.items()
        if name != "greedy over as many"
    ]


def _planning(env_id: str, returns: dict[str, np.ndarray]) -> list[Floor]:
    """Returns the row of the best policy's difference from the greedy one, over the same sessions."""
    pairs = {name: (returns[name], returns["greedy"]) for name in ("rotating",) if name in returns}
    if "planner" in returns:
        pairs["planner"] = (returns["planner"], returns["greedy over as many"])
    if not pairs:
        return []
    best = max(pairs, key=lambda name: float(np.mean(pairs[name][0] - pairs[name][1])))
    a, b = pairs[best]
    return [Floor(env_id, "planning", *paired_difference(a, b), len(a))]
