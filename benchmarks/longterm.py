"""Q5, what agents earn where planning pays: `python -m benchmarks.run --suite quality --protocol Q5`.

Agents learn online, from sessions with people of the training part, and are judged in sessions with held-out people,
one each, by the same luck as everybody else: differences are paired by session (`recgym.compare`). `greedy` and
whatever is better know the truth about users; agents see histories. A finished run has rows and is not run again.

`python -m benchmarks.longterm WORLD [NAME ...]` makes a trial of hyperparameters, in another world of the same kind.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import recgym
from benchmarks.build import entry_point, is_agent
from benchmarks.longterm_suite import METRICS, NAME, TUNING_WORLD, Learner, World
from benchmarks.longterm_train import options_of, serving, train
from benchmarks.longterm_worlds import WORLDS
from benchmarks.quality import Options
from benchmarks.quality.measure import hierarchical_interval
from benchmarks.results import Results
from recgym.commands.ending import ended
from recgym.commands.words import Parser
from recgym.evaluation.floors import known_policies
from recgym.evaluation.metrics import Interval, paired_difference

_LUCK = 5  # seed of the held-out people's luck
_BASELINE = "greedy"


def run(options: Options) -> None:
    """Runs all worlds as the command line asks: those rows that there are none of yet.

    Raises:
        SystemExit: if no world has a row of a name that is asked for.
    """
    results = Results(options.folder / f"{NAME}.csv")
    check_rows(options.rows, list(WORLDS.values()))
    agents = [entry for entry in options.own if is_agent(entry_point(entry.build))]
    for entry in (entry for entry in options.own if entry not in agents):
        print(
            f"  {entry.name} is left out: who learns in these worlds must be an agent, see agents/base.py", flush=True
        )
    if options.own and not agents and not options.rows:
        return
    own = tuple(Learner(entry.name, entry.build, entry.config, max(1, entry.n_steps)) for entry in agents)
    for world in WORLDS.values():
        asked = replace(world, learners=own if own and not options.rows else (*world.learners, *own))
        run_world(
            asked.smoke() if options.small else asked,
            results,
            options.facts,
            rows=(*options.rows, *(learner.name for learner in own)) if options.rows else (),
            n_seeds=options.n_seeds,
            force=options.force,
        )


def check_rows(names: Sequence[str], worlds: Sequence[World]) -> None:
    """Raises SystemExit if a world has no learner of a name."""
    known = {learner.name for world in worlds for learner in world.learners}
    if unknown := set(names) - known:
        raise SystemExit(f"a row of Q5 must be one of {sorted(known)}, got {sorted(unknown)}; choose among them")


def run_world(
    world: World,
    results: Results,
    about: Mapping[str, Any],
    *,
    rows: Sequence[str] = (),
    world_seed: int = 0,
    n_seeds: int | None = None,
    force: bool = False,
) -> None:
    """Runs what has no rows yet: known policies, then every learner and seed, then means over seeds.

    Args:
        world: The environment and its learners.
        results: Where rows go.
        about: Commit and versions, as every row tells them.
        rows: Names of the learners to run; none means all.
        world_seed: Which world of the kind.
        n_seeds: Seeds of each learner; None takes its own number.
        force: Whether to run what has rows already.
    """
    place = _Place(world, results, about, world_seed)
    print(f"{world.name}: {place.protocol}", flush=True)
    place.known(force)
    for learner in world.learners:
        if rows and learner.name not in rows:
            continue
        seeds = range(learner.seeds if n_seeds is None else n_seeds)
        for seed in seeds:
            if not force and place.key(learner, seed) in results.finished():
                print(f"  {learner.name}, seed {seed}: has rows already; --force makes them again", flush=True)
                continue
            place.learner(learner, seed)
        place.over_seeds(learner)


class _Place:
    """Where the rows of one world go, and what they have in common."""

    def __init__(self, world: World, results: Results, about: Mapping[str, Any], world_seed: int) -> None:
        self.world, self.results, self.about, self.world_seed = world, results, about, world_seed
        self.env = serving(options_of(world, "test", world_seed))
        self.n = len(self.env.users.servable)
        self.protocol = (
            f"{world.env_id}, world {world_seed}: one session with each of {self.n} held-out people, luck "
            f"{_LUCK}; slates of {self.env.k}, horizon {self.env.horizon}" + (f"; {world.note}" if world.note else "")
        )

    def key(self, what: Learner | str, seed: int) -> str:
        """Returns what identifies a run."""
        text = json.dumps([self.protocol, what if isinstance(what, str) else repr(what), seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def known(self, force: bool) -> None:
        """Measures chance, popularity, and what knows the truth."""
        train_env, finished = serving(options_of(self.world, "train", self.world_seed)), self.results.finished()
        names = ("random", "popularity", *self.world.known)
        for name in names if force else [name for name in names if self.key(name, 0) not in finished]:
            start = time.perf_counter()
            returns = self.returns(known_policies(self.env, train_env)[name])
            seconds = time.perf_counter() - start
            self.put(name, 0, {"session_return": returns}, self.key(name, 0), seconds=seconds)

    def learner(self, learner: Learner, seed: int) -> None:
        """Trains a learner and measures it after its last step, and as it stood at its best validation."""
        import torch

        trained = train(self.world, learner, seed, self.world_seed)
        if trained.curve:
            self.results.put_curve(self.name(learner.name), seed, trained.curve)
        measured = {"session_return": self.returns(trained.agent)}
        step = trained.chosen()
        measured["chosen_return"] = self.returns(trained.agent)
        more = {"seconds": trained.seconds, "n_steps": learner.n_steps, "threads": torch.get_num_threads()}
        config = {**learner.config, "rows": learner.rows, "action": learner.action, "chosen_step": step}
        self.put(learner.name, seed, measured, self.key(learner, seed), config=config, **more)

    def returns(self, policy: Any) -> np.ndarray:
        """Returns what sessions with the held-out people earn (n,), in the order of their indices."""
        return recgym.evaluate_sessions(policy, self.env, seed=_LUCK).returns

    def name(self, name: str) -> str:
        """Returns a row's name: the world's and its own."""
        return f"{self.world.name}: {name}"

    def units(self, name: str, seed: int, metric: str = "session_return") -> np.ndarray:
        """Returns the stored values (n,) of a row."""
        return np.array([*self.results.units(self.name(name), seed, metric).values()])

    def gap(self) -> float:
        """Returns by how much the best policy that knows the truth earns more than the greedy one."""
        best = max(float(self.units(name, 0).mean()) for name in self.world.known)
        return best - float(self.units(_BASELINE, 0).mean())

    def put(self, name: str, seed: int, values: Mapping[str, np.ndarray], key: str, **more: Any) -> None:
        """Stores a row's values per session, and its rows of one seed."""
        users = range(self.n)
        by_user = {metric: dict(zip(users, one.tolist(), strict=True)) for metric, one in values.items()}
        self.results.put_units(self.name(name), seed, by_user)
        intervals = {metric: recgym.metrics.mean_interval(one) for metric, one in values.items()}
        if name not in ("random", "popularity", *self.world.known):
            intervals["over_greedy"] = paired_difference(values["session_return"], self.units(_BASELINE, 0))
        self.store(name, str(seed), intervals, key, **more)

    def over_seeds(self, learner: Learner) -> None:
        """Stores the means of a learner over its seeds, with intervals that draw seeds, then sessions."""
        mine = self.name(learner.name)
        own = [row for row in self.results.rows() if row["agent"] == mine and row["seed"].isdigit()]
        seeds = sorted({int(row["seed"]) for row in own})
        if not seeds:
            return
        users, greedy, gap = np.arange(self.n), self.units(_BASELINE, 0), self.gap()
        final, chosen = ([self.units(learner.name, s, metric) for s in seeds] for metric in METRICS[:2])
        over = hierarchical_interval([one - greedy for one in final], users)
        values = (hierarchical_interval(final, users), hierarchical_interval(chosen, users), over)
        intervals = dict(
            zip(METRICS, (*values, Interval(*(end / gap if gap > 0 else float("nan") for end in over))), strict=True)
        )
        seconds = float(np.mean([float(row["seconds"]) for row in own]))
        more = {
            "seconds": seconds,
            "n_steps": learner.n_steps,
            "config": {**learner.config, "rows": learner.rows, "seeds": len(seeds)},
        }
        self.store(learner.name, "all", intervals, self.key(learner, -len(seeds)), **more)

    def store(self, name: str, seed: str, intervals: Mapping[str, Interval], key: str, **more: Any) -> None:
        """Stores rows of intervals."""
        common: dict[str, Any] = {"agent": self.name(name), "seed": seed, "n": self.n, "key": key, "config": {}}
        common |= {"n_steps": 0, "device": "cpu", "threads": 1, "protocol": self.protocol, "data_hash": ""} | more
        common |= {**self.about, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        ends = {m: dict(zip(("value", "low", "high"), interval, strict=True)) for m, interval in intervals.items()}
        paired = {"over_greedy", "share_of_gap"}
        rows = [{**common, "metric": m, "unit": "pairs" if m in paired else "sessions", **ends[m]} for m in intervals]
        self.results.put(rows)
        print(f"  {name}, {seed}: " + ", ".join(f"{m} {interval}" for m, interval in intervals.items()), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and runs one world's trials, in the world where hyperparameters are chosen."""
    parser = Parser(prog="python -m benchmarks.longterm", description="Trials of hyperparameters.")
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("rows", nargs="*", help="names of learners; none means all")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each learner (default: %(default)s)")
    given = parser.parse_args(arguments)
    check_rows(given.rows, [WORLDS[given.world]])
    results = Results(Path("runs") / f"{NAME}-trials.csv")
    nothing = {"commit": "", "dirty": "", "versions": ""}
    run_world(WORLDS[given.world], results, nothing, rows=given.rows, world_seed=TUNING_WORLD, n_seeds=given.seeds)


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.longterm"))
