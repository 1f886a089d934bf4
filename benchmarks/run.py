"""Runs the entries of a suite that have no rows yet: `python -m benchmarks.run --suite quickstart`.

A run that stops half way keeps the rows of what finished; the same command goes on with the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import recgym
from benchmarks import fidelity, ope, quality
from benchmarks.build import Data, build, entry_point, is_agent
from benchmarks.results import FOLDER, Results, place
from benchmarks.suites import SUITES, Entry, Suite
from benchmarks.tables import in_order, table
from recgym.commands.ending import ended
from recgym.commands.words import Parser
from recgym.evaluation.metrics import Interval, paired_difference
from recgym.options import check_seed, check_sizes

ROOT = Path(__file__).parent.parent
GENERATED = (  # changes here do not make a working tree dirty
    "benchmarks/results",
    "README.md",
    "docs/benchmarks.md",
    "docs/leaderboard.md",
    "demo",
)


def run(
    suite: Suite,
    results: Results,
    *,
    rows: Sequence[str | Entry] = (),
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    n_jobs: int = 1,
) -> None:
    """Runs the entries of a suite that have no rows yet, then the paired differences.

    Args:
        suite: The protocol and its entries.
        results: Where rows go.
        rows: Names of the entries to run, or entries of your own; none means all of the suite.
        seed: Seed of training.
        device: Where agents learn.
        force: Whether to run what has rows already.
        n_jobs: Processes that share the people of every evaluation; no value depends on it.
    """
    data = Data.load(suite)
    print(f"{suite.title}: {data.train} for training, {data.test.n_users:,} users for the table", flush=True)
    for entry in [suite.entry(row) if isinstance(row, str) else row for row in rows] or suite.entries:
        key = run_key(suite, entry, seed, data.hash)
        if not force and key in results.finished():
            print(f"  {entry.name}: has rows already; --force makes them again", flush=True)
            continue
        evaluate(entry, data, results, seed, device, key, n_jobs)
    for a, b in suite.pairs:
        compare(a, b, data, results, seed, force)


def evaluate(
    entry: Entry,
    data: Data,
    results: Results,
    seed: int,
    device: str,
    key: str,
    n_jobs: int = 1,
    budget: Mapping[str, Any] | None = None,
) -> None:
    """Builds one entry, evaluates it and stores its rows, values per user and learning curve.

    `budget` says what choosing the entry's config has cost; it stands in the rows beside that.
    """
    suite = data.suite
    built = build(entry, data, seed, device)
    asked: dict[str, Any] = {"n_last": suite.n_last, "repeats": suite.repeats}
    ranking = recgym.evaluate_ranking(built.scorer, data.test, suite.k, n_jobs=n_jobs, **asked)
    sessions = recgym.evaluate_sessions(built.scorer, data.env(), n_jobs=n_jobs) if suite.plays else ranking
    about = {
        **{"agent": entry.name, "seed": seed, "n_steps": entry.n_steps, "seconds": built.seconds, "key": key},
        **{
            "device": _device_name(built.device),
            "threads": _threads(),
            "config": dict(entry.config) | ({"budget": dict(budget)} if budget else {}),
        },
    }
    found = {metric: sessions if metric in sessions.values else ranking for metric in suite.metrics}
    results.put_units(
        entry.name,
        seed,
        {
            metric: dict(zip(result.users.tolist(), result.values[metric].tolist(), strict=True))
            for metric, result in found.items()
            if metric in result.values
        },
    )
    if built.curve:
        results.put_curve(entry.name, seed, built.curve)
    intervals = {metric: result.mean_interval(metric) for metric, result in found.items()}
    results.put(
        [
            _row(
                about, data, metric, intervals[metric], len(result.users), "users" if result is ranking else "sessions"
            )
            for metric, result in found.items()
        ]
    )
    summary = ", ".join(f"{metric} {interval}" for metric, interval in intervals.items())
    print(f"  {entry.name}: {summary} ({built.seconds:.0f} s)", flush=True)


def compare(a: str, b: str, data: Data, results: Results, seed: int, force: bool) -> None:
    """Stores the rows of the paired differences a - b, where both entries have rows."""
    suite = data.suite
    keys = [run_key(suite, suite.entry(name), seed, data.hash) for name in (a, b)]
    key = _digest([*keys, *suite.pair_metrics])
    finished = results.finished()
    if not finished.issuperset(keys) or (key in finished and not force):
        return
    rows = []
    about = {"agent": f"{a} - {b}", "seed": seed, "n_steps": 0, "seconds": 0.0, "key": key, "config": {}}
    about |= {"device": "cpu", "threads": _threads()}
    for metric in suite.pair_metrics:
        ours, theirs = (results.units(name, seed, metric) for name in (a, b))
        if set(ours) != set(theirs) or not ours:
            raise SystemExit(
                f"{a} and {b} must have {metric} of the same users, got {len(ours)} and {len(theirs)}; "
                f"run both with --force"
            )
        interval = paired_difference([ours[user] for user in ours], [theirs[user] for user in ours])
        rows.append(_row(about, data, metric, interval, len(ours), "pairs"))
        print(f"  {a} - {b}: {metric} {interval}", flush=True)
    results.put(rows)


def _row(about: Mapping[str, Any], data: Data, metric: str, interval: Interval, n: int, unit: str) -> dict[str, object]:
    numbers = {
        "metric": metric,
        "value": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": n,
        "unit": unit,
    }
    place = {"protocol": protocol(data.suite), "data_hash": data.hash, "versions": _versions(), **_commit()}
    return {**about, **numbers, **place, "finished": datetime.now(UTC).isoformat(timespec="seconds")}


# -- what a row says of where it comes from --------------------------------------------------------------------------


def protocol(suite: Suite) -> str:
    """Returns the protocol of a suite in words; rows under different protocols do not share a table."""
    seen = "seen items masked" if suite.repeats == "mask" else "seen items ranked too"
    words = (
        f"{suite.dataset}{json.dumps(dict(suite.options), sort_keys=True) if suite.options else ''}: "
        f"{suite.test_size:.0%} of users held out (seed {suite.split_seed}), a further {suite.valid_size:.0%} for "
        f"validation; last {suite.n_last} positions of each, all items ranked, {seen}, ties by expectation"
    )
    if not suite.plays:
        return words
    steps = f"sessions of at most {suite.horizon} steps after {suite.frame_size} events"
    return f"{words}; {steps}, one per user, no item twice"


def run_key(suite: Suite, entry: Entry, seed: int, data_hash: str) -> str:
    """Returns what identifies a run: protocol, entry, seed and data, but not the commit."""
    what = [
        protocol(suite),
        suite.k,
        suite.dim,
        suite.metrics,
        entry.name,
        entry.build,
        dict(entry.config),
        entry.n_steps,
    ]
    return _digest([*what, entry.batch_size, seed, data_hash])


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def facts() -> dict[str, str]:
    """Returns the commit, whether the tree differs from it, and the versions, as every row tells them."""
    return {**_commit(), "versions": _versions()}


def _commit() -> dict[str, str]:
    """Returns the commit and whether files other than generated ones differ from it."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD").strip()
        changes = _git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in GENERATED))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "none", "dirty": "unknown"}  # not a clone, or no git
    return {"commit": commit, "dirty": "yes" if changes.strip() else "no"}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _versions() -> str:
    names = ("gymnasium", "numpy", "scipy", "torch")
    ours = [f"recgym={recgym.__version__}", f"python={platform.python_version()}"]
    return " ".join([*ours, *(f"{name}={version(name)}" for name in names)])


def _threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def _device_name(device: str) -> str:
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(device) if torch and device.startswith("cuda") else device


def own_entries(names: Sequence[str], n_steps: int, config: Mapping[str, Any]) -> list[Entry]:
    """Returns the entries of agents and rankers named by entry point; only agents make updates."""
    learns = {name: is_agent(entry_point(name)) for name in names}
    return [Entry(name, name, config, n_steps if learns[name] else 0, later=0.7) for name in names]


def suite_names() -> list[str]:
    """Returns the names `--suite` takes."""
    return sorted([*SUITES, "fidelity", "ope", "quality"])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _object(text: str) -> dict[str, Any]:
    """Returns the JSON object that an option's text stands for."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object such as '{{\"hidden\": 64}}', got {text!r}")
    return found


def among_others(suite: Suite, results: Results, own: Sequence[Entry]) -> str:
    """Returns a table of one's own rows among those of a checkout or wheel that share protocol and data with them."""
    mine = [row for row in results.rows() if row["agent"] in {entry.name for entry in own}]
    alike = {(row["protocol"], row["data_hash"]) for row in mine}
    stored = Results(FOLDER / f"{suite.name}.csv").rows() if results.path.parent != FOLDER else []
    others = [row for row in stored if (row["protocol"], row["data_hash"]) in alike]
    names = {row["agent"] for row in mine}
    rows = [row for row in others if row["agent"] not in names] + mine
    title = "" if others else "no stored rows share this protocol and data; "
    return f"\n{title}yours: {', '.join(sorted(names))}\n{table(in_order(suite, rows))}"


def _quality_options(
    given: argparse.Namespace, folder: Path, own: tuple[Entry, ...], about: Mapping[str, str]
) -> quality.Options:
    small = folder / "quality-smoke"
    return quality.Options(
        folder=small if given.smoke else folder,
        trained=small / "trained" if given.smoke else (ROOT if folder == FOLDER else Path()) / "runs" / "quality",
        rows=tuple(_names(given.rows)),
        own=own,
        n_seeds=given.seeds,
        device=given.device,
        force=given.force,
        small=given.smoke,
        facts=about,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and runs."""
    parser = Parser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--suite", choices=suite_names(), required=True)
    parser.add_argument("--protocol", default="", help="of the suite quality: comma-separated, none means all")
    parser.add_argument("--seeds", type=int, help="of the suite quality: seeds of each learner (default: its row's)")
    parser.add_argument("--rows", default="", help="comma-separated names of rows; none means all, or just --agent")
    parser.add_argument("--agent", action="append", default=[], help="package.module:Name, see CONTRIBUTING.md")
    parser.add_argument("--steps", type=int, default=2_000, help="updates of each --agent (default: %(default)s)")
    parser.add_argument("--config", type=_object, default={}, help="JSON arguments of --agent: '{\"hidden\": 64}'")
    parser.add_argument("--smoke", action="store_true", help="a size that ends in seconds; rows go to runs/")
    parser.add_argument("--seed", type=int, default=0, help="of training (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes that share the people of every evaluation")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the rows (default: of a checkout, else, and with --agent, runs/bench)",
    )
    parser.add_argument("--force", action="store_true", help="run again what has rows already")
    given = parser.parse_args(arguments)
    folder = given.out or (Path("runs") if given.smoke else place(own=bool(given.agent)))
    check_sizes(steps=given.steps, n_jobs=given.n_jobs)
    check_seed(given.seed)
    own = own_entries(given.agent, 3 if given.smoke else given.steps, given.config)
    if given.suite == "ope":  # estimators, not agents: rows of another shape
        path = folder / ("ope-smoke.csv" if given.smoke else "ope.csv")
        ope.run(path, facts(), given.seed, own, small=given.smoke)
        return
    if given.suite == "fidelity":  # learned users, not agents: likewise
        if own:
            parser.error(
                "--agent is for suites that judge agents, got it with fidelity, which judges users; leave it out"
            )
        path = folder / ("fidelity-smoke.csv" if given.smoke else "fidelity.csv")
        fidelity.run(path, facts(), given.seed, small=given.smoke)
        return
    if given.suite == "quality":  # protocols of published figures, with rows of their own shape
        quality.run(_names(given.protocol), _quality_options(given, folder, tuple(own), facts()))
        return
    suite = SUITES[given.suite].smoke() if given.smoke else SUITES[given.suite]
    rows: list[str | Entry] = [*_names(given.rows), *own]
    results = Results(folder / f"{suite.name}.csv")
    how = {"seed": given.seed, "device": given.device, "force": given.force, "n_jobs": given.n_jobs}
    run(suite, results, rows=rows, **how)
    if own:
        print(among_others(suite, results, own))
        print(f"written: {results.path}")


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.run"))
