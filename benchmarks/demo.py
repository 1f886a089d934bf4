"""Trains and evaluates on the embedded data, prints the table and writes plots: `python -m benchmarks.demo`.

Exits with 1 unless DDPG beats popularity: the 95 % interval of every paired difference must lie above zero.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import plots
from benchmarks.results import Results, Row
from benchmarks.run import run
from benchmarks.suites import SUITES, Suite
from benchmarks.tables import in_order, table
from recgym.commands.ending import ended
from recgym.commands.words import Parser


def demo(suite: Suite, folder: Path, seed: int = 0) -> bool:
    """Runs a suite from the start, shows what came out and returns whether every paired difference is above zero."""
    results = Results(folder / "results.csv")
    results.path.unlink(missing_ok=True)
    run(suite, results, seed=seed)
    rows = results.rows()
    print(f"\n{table(in_order(suite, rows))}\n")
    pairs = [row for row in rows if row["unit"] == "pairs"]
    for row in pairs:
        print(verdict(row))
    written = [results.path, *plots(suite, results, folder)]
    print(f"written: {', '.join(str(path) for path in written)}")
    return bool(pairs) and all(float(row["low"]) > 0 for row in pairs)


def verdict(row: Row) -> str:
    """Returns in words whether a paired difference is above zero."""
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    above = "above zero" if low > 0 else "NOT above zero"
    return f"{row['agent']}, {row['metric']}: {value:+.4f} [{low:.4f}, {high:.4f}] over {row['n']} users: {above}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and runs the demo; returns 1 unless DDPG beats popularity."""
    parser = Parser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of training (default: %(default)s)")
    given = parser.parse_args(arguments)
    return 0 if demo(SUITES["quickstart"], given.out, given.seed) else 1


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.demo"))
