"""Many runs on one machine or a cluster by Ray Tune: the rows of a suite over seeds, or an agent's hyperparameters.

`recgym sweep --suite agents --seeds 5` runs every row with seeds 0 to 4. With `--agent agents:TD3 --ranges td3.toml
--samples 32 --asha` it first tries 32 settings of the agent, judged by *validation* users alone, and then runs the best
of them with each seed for the table. Every finished trial writes its rows into the suite's own file, under its lock,
before Ray hears of it, so that whatever is killed loses no finished row; the same command with `--resume` goes on and
repeats none. On a cluster all machines must see the folder `--out`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import run
from benchmarks.build import Data, build, entry_point, is_agent
from benchmarks.quality.measure import hierarchical_interval
from benchmarks.ranges import drawn, read_ranges
from benchmarks.results import Results, Table, place
from benchmarks.suites import SUITES, Entry, Suite
from recgym.errors import DataError, RecgymError
from recgym.options import check_choice, check_sizes

COLUMNS = ("trial", "agent", "config", "step", "metric", "value", "seconds", "key")


@dataclass(frozen=True)
class Engine:
    """Where trials run, and how many at a time."""

    address: str | None = None  # of a cluster, e.g. "auto"; None is this machine
    storage: str = "runs/sweeps"  # where Ray keeps the state of a sweep: a folder, or an address such as s3://...
    cpus: float = 1.0  # of a trial
    gpus: float = 0.0  # of a trial; shares of one are allowed
    retries: int = 3  # times a trial begins anew after its process or machine died
    resume: bool = False

    def run(self, name: str, trial: Callable[..., None], params: Mapping[str, Any], **tuning: Any) -> Any:
        """Runs trials to their ends and returns Ray's results; Ray's own state stands under `name` in the storage."""
        ray, tune = _ray()
        if not ray.is_initialized():
            given = {} if self.address else {"include_dashboard": False}
            ray.init(address=self.address or "local", log_to_driver=False, ignore_reinit_error=True, **given)
        storage = self.storage if "://" in self.storage else str(Path(self.storage).resolve())
        runnable = tune.with_resources(trial, {"cpu": self.cpus, "gpu": self.gpus})
        path = f"{storage}/{name}"
        if self.resume and tune.Tuner.can_restore(path):
            tuner = tune.Tuner.restore(
                path, runnable, resume_unfinished=True, restart_errored=True, param_space=dict(params)
            )
            return tuner.fit()
        how = tune.RunConfig(
            name=name, storage_path=storage, verbose=1, failure_config=tune.FailureConfig(max_failures=self.retries)
        )
        setting = tune.TuneConfig(reuse_actors=True, **tuning)
        return tune.Tuner(runnable, param_space=dict(params), tune_config=setting, run_config=how).fit()


def _ray() -> tuple[Any, Any]:
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise RecgymError('recgym sweep needs Ray, got no such module; pip install "recgym[ray]"') from error
    return ray, tune


# -- rows of a suite ---------------------------------------------------------------------------------------------------


def row_trial(config: Mapping[str, Any], *, suite: Suite, out: Path, device: str, budget: Mapping[str, Any]) -> None:
    """Runs one row with one seed, unless the file has it."""
    _, tune = _ray()
    entry, seed = config["row"]
    data, results = _data_of(suite), Results(out / f"{suite.name}.csv")
    key = run.run_key(suite, entry, seed, data.hash)
    if key not in results.finished():
        run.evaluate(entry, data, results, seed, device, key, budget=budget)
    tune.report({"done": 1})


def _data_of(suite: Suite) -> Data:
    """Returns the data of a suite, which a process keeps for the trials to come."""
    key = suite.name
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = Data.load(suite)
    return _KEPT[key]


_KEPT: dict[str, Data] = {}


def run_rows(
    suite: Suite,
    entries: Sequence[Entry],
    seeds: int,
    out: Path,
    device: str,
    engine: Engine,
    budget: Mapping[str, Any],
) -> int:
    """Runs entries with seeds 0 to `seeds - 1`; returns how many trials failed."""
    _, tune = _ray()
    params = {"row": tune.grid_search([(entry, seed) for seed in range(seeds) for entry in entries])}
    trial = partial(row_trial, suite=suite, out=out, device=device, budget=budget)
    return int(engine.run(f"{suite.name}-rows", trial, params).num_errors)


def table(suite: Suite, out: Path, names: Sequence[str], seeds: int) -> list[str]:
    """Returns a line per agent and metric: the mean over seeds and users, its interval, how many seeds."""
    results = Results(out / f"{suite.name}.csv")
    lines = []
    for name in names:
        for metric in suite.metrics:
            found = [units for seed in range(seeds) if (units := results.units(name, seed, metric))]
            if not found:
                continue
            users = np.array(sorted(found[0]))
            values = [np.array([units[user] for user in users]) for units in found]
            lines.append(f"  {name:20} {metric:16} {hierarchical_interval(values, users)}  ({len(found)} seeds)")
    return lines


# -- hyperparameters ---------------------------------------------------------------------------------------------------


def setting_trial(
    config: Mapping[str, Any],
    *,
    suite: Suite,
    out: Path,
    device: str,
    entry: Entry,
    ranges: Mapping[str, Any],
    seed: int,
) -> None:
    """Trains an agent under one setting and reports what validation users say; writes a row of the sweep at its end."""
    _, tune = _ray()
    number = config.get("trial", -1)
    chosen = drawn(ranges, seed, number) if number >= 0 else dict(config)
    tried = replace(entry, config={**entry.config, **chosen})
    data, kept = _data_of(suite), trials(suite, out, entry)
    key, begun = run.run_key(suite, tried, seed, data.hash), time.perf_counter()
    known = next((row for row in kept.rows() if row["key"] == key), None)
    if known is not None:
        tune.report({"step": int(known["step"]), "validation": float(known["value"]), "config_chosen": chosen})
        return

    def tell(point: Mapping[str, float]) -> None:
        if 0 < point["step"] < entry.n_steps:
            tune.report({"step": int(point["step"]), "validation": point[suite.headline], "config_chosen": chosen})

    last = build(tried, data, seed, device, tell).curve[-1]
    row = {"trial": number, "agent": entry.name, "config": dict(tried.config), "step": entry.n_steps, "key": key}
    row |= {"metric": f"{suite.headline} of validation users", "value": last[suite.headline]}
    row["seconds"] = time.perf_counter() - begun
    kept.change(lambda rows: [*(old for old in rows if old["key"] != key), kept.as_text(row)])
    tune.report({"step": entry.n_steps, "validation": last[suite.headline], "config_chosen": chosen})


def trials(suite: Suite, out: Path, entry: Entry) -> Table:
    """Returns the file of an agent's finished trials."""
    name = "".join(letter if letter.isalnum() else "_" for letter in f"{suite.name}-{entry.name}")
    return Table(out / f"{name}-trials.csv", COLUMNS)


def search(
    suite: Suite, entry: Entry, ranges: Mapping[str, Any], given: argparse.Namespace, out: Path, engine: Engine
) -> tuple[Entry, dict[str, Any]]:
    """Tries settings of an agent; returns it with the one validation users liked best, and what the search has cost."""
    _, tune = _ray()
    tuning: dict[str, Any] = {"metric": "validation", "mode": "max"}
    if given.asha:
        grace = max(entry.n_steps // 8, 1)
        tuning["scheduler"] = tune.schedulers.ASHAScheduler("step", max_t=entry.n_steps, grace_period=grace)
    params: dict[str, Any] = {"trial": tune.grid_search(list(range(given.samples)))}
    if given.searcher == "optuna":
        tuning |= {"search_alg": _optuna(given.seed), "num_samples": given.samples}
        params = {name: _as_space(tune, one) for name, one in ranges.items()}
    trial = partial(
        setting_trial, suite=suite, out=out, device=given.device, entry=entry, ranges=ranges, seed=given.seed
    )
    grid = engine.run(f"{suite.name}-{entry.name.replace(':', '-')}-search", trial, params, **tuning)
    told = [result.metrics for result in grid if result.metrics and "validation" in result.metrics]
    whole = [one for one in told if one["step"] == entry.n_steps]
    if not whole:
        raise RecgymError(f"a search must have a trial that ended, got none of {len(grid)}; see {engine.storage}")
    best = max(whole, key=lambda one: one["validation"])
    budget = {
        "trials": len(told),
        "updates": int(sum(one["step"] for one in told)),
        "searcher": given.searcher + (", asha" if given.asha else ""),
        "chosen by": f"{suite.headline} of validation users, seed {given.seed}: {best['validation']:.6g}",
    }
    return replace(entry, config={**entry.config, **best["config_chosen"]}), budget


def _optuna(seed: int) -> Any:
    try:
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(seed=seed)
    except (ImportError, AssertionError) as error:
        raise RecgymError('--searcher optuna needs Optuna, got no such module; pip install "recgym[ray]"') from error


def _as_space(tune: Any, given: Any) -> Any:
    """Returns a range as Ray has it."""
    if isinstance(given, list):
        return tune.choice(given)
    low, high, whole, log = given["low"], given["high"], given.get("whole", False), given.get("log", False)
    if whole:
        return (tune.lograndint if log else tune.randint)(low, high + 1)
    return (tune.loguniform if log else tune.uniform)(low, high)


# -- the command line --------------------------------------------------------------------------------------------------


def main(given: argparse.Namespace) -> int:
    """Runs what was asked for, options as `recgym.commands.sweep` has them; returns 1 if a trial failed."""
    check_sizes(seeds=given.seeds, samples=given.samples, steps=given.steps)
    check_choice("suite", given.suite, sorted(SUITES))
    _ray()
    suite = SUITES[given.suite].smoke() if given.smoke else SUITES[given.suite]
    out = (given.out or (Path("runs") if given.smoke else place(own=bool(given.agent)))).resolve()
    engine = Engine(given.address, given.storage, given.cpus, given.gpus, given.retries, given.resume)
    budget: dict[str, Any] = {"trials": 1}
    if given.agent:
        if given.ranges is None:
            raise DataError("--agent needs --ranges, got none; name a TOML file of what is varied, or use --rows")
        if not is_agent(entry_point(given.agent)):
            raise DataError(f"--agent must be one that learns by updates, got {given.agent}; use --rows for others")
        entry = Entry(given.agent, given.agent, {}, given.steps, later=0.7)
        chosen, budget = search(suite, entry, read_ranges(given.ranges), given, out, engine)
        print(f"best by validation users: {dict(chosen.config)}; {budget}", flush=True)
        entries: Sequence[Entry] = [chosen]
    else:
        names = [name.strip() for name in given.rows.split(",") if name.strip()]
        entries = [suite.entry(name) for name in names] or suite.entries
    failed = run_rows(suite, entries, given.seeds, out, given.device, engine, budget)
    print(suite.title, *table(suite, out, [entry.name for entry in entries], given.seeds), sep="\n")
    if failed:
        print(f"{failed} trials failed; --resume tries them again", file=sys.stderr)
    return int(failed > 0)
