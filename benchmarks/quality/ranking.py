"""Runs the rows of a ranking protocol that have none yet, then the rows of paired differences."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.build import entry_point, is_agent, ranker
from benchmarks.quality import Options, entries
from benchmarks.quality.entry import Entry
from benchmarks.quality.learning import learned, learned_together
from benchmarks.quality.measure import METRICS, hierarchical_interval, values_of
from benchmarks.quality.store import Finished, Store
from benchmarks.quality.tasks import Task, load

FINAL, CHOSEN = "final", "chosen on validation"


def run(name: str, options: Options) -> None:
    """Runs what has no rows yet of one protocol, `Q1` to `Q4`, then its pairs."""
    task = load(name, options.small)
    store = Store(options.folder, name)
    print(f"{name}, {task.title}: {len(task.test.users):,} questions to {task.test.log.n_users:,} users", flush=True)
    for entry in chosen(name, options):
        seeds = range(entry.seeds if options.n_seeds is None or not entry.n_steps else options.n_seeds)
        fresh = [run_one(entry, task, seed, store, options) for seed in seeds]
        if any(fresh):
            store.put(entry.name, rows_of(entry, task, store))
        print("  " + "; ".join(f"{entry.name}, {line}" for line in _lines(store, entry.name)), flush=True)
    for one, other in entries.PAIRS.get(name, ()):
        if pair := paired_rows(one, other, task, store):
            store.put(f"{one} - {other}", pair, apart_from=("finished",))


def chosen(name: str, options: Options) -> list[Entry]:
    """Returns the entries to run: those named, and the caller's own; all of the protocol if neither is given.

    Raises:
        SystemExit: if a protocol has no row of that name.
    """
    known = {entry.name: entry for entry in entries.ROWS[name]}
    own = [Entry(e.name, e.build, e.config, "not stated", e.n_steps, e.batch_size, e.later) for e in options.own]
    unknown = [row for row in options.rows if row not in known]
    if unknown:
        raise SystemExit(f"a row of {name} must be one of {list(known)}, got {unknown}; choose among them")
    found = [known[row] for row in options.rows] or ([] if own else list(known.values()))
    return [entry.smoke() if options.small else entry for entry in [*found, *own]]


def run_one(entry: Entry, task: Task, seed: int, store: Store, options: Options) -> bool:
    """Runs one seed of one entry unless it is stored; returns whether it ran."""
    key = entry.key(task.hash, seed)
    if entry.serving:  # which training does not depend on
        key += f" {json.dumps(dict(entry.serving), sort_keys=True)}"
    before = store.runs(entry.name).get(seed)
    if before is not None and before.about["key"] == key and not options.force:
        print(f"  {entry.name}, seed {seed}: has rows already; --force makes them again", flush=True)
        return False
    maker = entry_point(entry.build)
    if is_agent(maker):
        values, facts = _of_learner(entry, task, seed, store, options)
    else:
        begun = time.perf_counter()
        scorer = ranker(maker, entry.config, task.fit, seed, lambda: task.catalog(entry.vectors, entry.dim))
        facts = {"seconds": time.perf_counter() - begun, "device": "cpu", "steps": {FINAL: 0}}
        values = {FINAL: values_of(scorer, task.test)}
    named = {f"{checkpoint} {metric}": of[metric] for checkpoint, of in values.items() for metric in METRICS}
    said = {**facts, "key": key, "seed": seed, "config": dict(entry.config) | dict(entry.serving)}
    said |= {"threads": _threads(), **options.facts}
    store.put_run(entry.name, seed, Finished(said, named))
    return True


def _of_learner(
    entry: Entry, task: Task, seed: int, store: Store, options: Options
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    learn = learned_together if entry.together is not None else learned
    found = learn(entry, task, seed, options.device, options.trained)
    values = {FINAL: values_of(found.agent, task.test)}
    step = found.choose()
    values[CHOSEN] = values_of(found.agent, task.test)
    store.put_curve(entry.name, seed, found.curve)
    steps = {FINAL: int(found.curve[-1]["step"]), CHOSEN: step}
    return values, {"seconds": found.seconds, "device": _device(found.agent.device), "steps": steps}


def _threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else 1


def _device(device: Any) -> str:
    torch = sys.modules["torch"]
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else str(device)


# -- rows -------------------------------------------------------------------------------------------------------------


def rows_of(entry: Entry, task: Task, store: Store) -> list[dict[str, object]]:
    """Returns the rows of an entry over all its stored seeds: a row per checkpoint and group."""
    runs = list(store.runs(entry.name).values())
    last = runs[-1].about
    common: dict[str, object] = {
        **{"agent": entry.name, "n_seeds": len(runs), "rl": "yes" if entry.rl else "no", "tuning": entry.trials},
        **{"seconds": float(np.mean([run.about["seconds"] for run in runs])), "device": last["device"]},
        **{name: last[name] for name in ("threads", "config", "commit", "dirty", "versions", "key")},
        "command": f'python -m benchmarks.run --suite quality --protocol "{task.name}" --rows "{entry.name}" --force',
    }
    rows = []
    for checkpoint in (name for name in (FINAL, CHOSEN) if name in last["steps"]):
        n_steps = " ".join(str(run.about["steps"][checkpoint]) for run in runs)
        per_seed = [{metric: run.values[f"{checkpoint} {metric}"] for metric in METRICS} for run in runs]
        rows += [
            common | {"checkpoint": checkpoint, "n_steps": n_steps, "unit": "questions"} | part
            for part in _numbers(per_seed, task)
        ]
    return rows


def paired_rows(one: str, other: str, task: Task, store: Store) -> list[dict[str, object]]:
    """Returns the rows of the difference one - other, paired by seed and question; none where a run is missing."""
    ours, theirs = store.runs(one), store.runs(other)
    seeds = sorted(set(ours) & set(theirs))
    rows: list[dict[str, object]] = []
    for checkpoint in (FINAL, CHOSEN) if seeds else ():
        names = {metric: f"{checkpoint} {metric}" for metric in METRICS}
        if any(name not in run[seed].values for name in names.values() for run in (ours, theirs) for seed in seeds):
            continue
        per_seed = [{m: ours[s].values[name] - theirs[s].values[name] for m, name in names.items()} for s in seeds]
        common = {"agent": f"{one} - {other}", "checkpoint": checkpoint, "unit": "pairs", "n_seeds": len(seeds)}
        rows += [common | part for part in _numbers(per_seed, task)]
    return rows


def _numbers(per_seed: list[dict[str, np.ndarray]], task: Task) -> list[dict[str, object]]:
    """Returns means and intervals of all metrics, for each group of questions."""
    groups = task.test.groups or {"all": np.ones(len(task.test.users), dtype=bool)}
    found = []
    for group, here in groups.items():
        row: dict[str, object] = {"protocol": task.name, "group": group, "n": int(here.sum())}
        row |= {"words": task.protocol, "data_hash": task.hash}
        row |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
        for metric in METRICS:
            interval = hierarchical_interval([of[metric][here] for of in per_seed], task.test.users[here])
            ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
            row |= {f"{metric}{end}": number for end, number in ends.items()}
        found.append(row)
    return found


def _lines(store: Store, agent: str) -> list[str]:
    return [
        f"{row['checkpoint']}, {row['group']}: "
        + " ".join(
            f"{float(row[m]):.4f} [{float(row[m + '_low']):.4f}, {float(row[m + '_high']):.4f}]" for m in METRICS
        )
        for row in store.rows()
        if row["agent"] == agent
    ]
