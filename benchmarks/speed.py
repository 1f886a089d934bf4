"""Measures speed: `python -m benchmarks.speed data`. Every figure stands beside those of alternatives in the same run.

A subject is modules `benchmarks.speed_NAME` with `rows(sizes, quick) -> list of dict`, each with `agent` (who),
`metric` (doing what), `value`, `unit` and `n` (of how many rows), and any other column of `benchmarks.results`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import run
from benchmarks.results import Results, place
from recgym.commands.ending import ended
from recgym.commands.words import Parser

SUBJECTS = {  # subject -> modules that make its rows
    "agents": ("benchmarks.speed_agents", "benchmarks.speed_softmax"),
    "data": ("benchmarks.speed_data", "benchmarks.speed_batches"),
    "envs": ("benchmarks.speed_envs",),
    "gpu": ("benchmarks.speed_gpu",),
    "processes": ("benchmarks.speed_processes",),
    "serving": ("benchmarks.speed_serving",),
    "users": ("benchmarks.speed_users",),
}
SIZES = (1_000_000, 5_000_000, 20_000_263)
HUGE = 200_000_000


def complete(measured: Mapping[str, Any], load: str) -> dict[str, Any]:
    """Returns a row with every column of `benchmarks.results`, filling in those that a subject left out."""
    plain = {"low": float("nan"), "high": float("nan"), "seed": 0, "n_steps": 0, "seconds": 0.0, "device": "cpu"}
    plain |= {"threads": os.cpu_count(), "config": {}, "data_hash": "generated", "protocol": load}
    row = {**plain, **measured, "versions": run._versions(), **run._commit()}
    row["metric"] = f"{row['metric']} @{row['n']}"
    row["key"] = hashlib.sha256(f"{row['agent']} {row['metric']}".encode()).hexdigest()[:16]
    return row | {"finished": datetime.now(UTC).isoformat(timespec="seconds")}


def store(measured: Sequence[Mapping[str, Any]], results: Results, load: str) -> None:
    """Stores rows in place of earlier ones of the same agent and metric; all others stay."""
    results.put([complete(row, load) for row in measured], same_metric=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures and stores the rows."""
    parser = Parser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("subject", choices=sorted(SUBJECTS))
    parser.add_argument("--rows", type=int, nargs="*", default=list(SIZES), help="sizes of the table")
    parser.add_argument(
        "--huge", action="store_true", help=f"{HUGE:,} rows too, out of core: 20 GB of disk and an hour"
    )
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows, to see that all of it runs")
    parser.add_argument("--only", default="", help="only the rows of modules whose name holds this")
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the rows (default: of a checkout, else runs/bench)",
    )
    given = parser.parse_args(arguments)
    sizes = [n // 100 for n in given.rows] if given.quick else [*given.rows, *([HUGE] if given.huge else [])]
    before = os.getloadavg()[0]
    measured: list[dict[str, Any]] = []
    for name in SUBJECTS[given.subject]:
        if given.only in name:
            measured += import_module(name).rows(sizes=sizes, quick=given.quick)
    load = f"one run on {os.cpu_count()} cores; other work kept {before:.1f} processes running when it began"
    store(measured, Results((given.results or place()) / f"speed_{given.subject}.csv"), load)


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.speed"))
