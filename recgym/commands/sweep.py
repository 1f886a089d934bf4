"""`python -m recgym sweep ...`: many runs at once by Ray Tune, see `benchmarks.sweep`."""

from __future__ import annotations

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recgym.commands.runs import package
from recgym.errors import RecgymError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("--suite", required=True, help="protocol and rows, e.g. quickstart or agents")
    add("--rows", default="", help="comma-separated names of rows; none means all")
    add("--seeds", type=int, default=1, help="seeds of every row (default: %(default)s)")
    add("--agent", help="package.module:Name whose hyperparameters are searched, then run with every seed")
    add("--ranges", type=Path, help="TOML file of what is varied, see benchmarks/ranges.py")
    add("--samples", type=int, default=16, help="settings tried (default: %(default)s)")
    add("--steps", type=int, default=2_000, help="updates of a trial (default: %(default)s)")
    add("--searcher", choices=("random", "optuna"), default="random")
    add("--asha", action="store_true", help="stop settings early that validation users like less than others")
    add("--seed", type=int, default=0, help="of the search: of settings and of training (default: %(default)s)")
    add("--device", default="auto")
    add("--cpus", type=float, default=1.0, help="of a trial (default: %(default)s)")
    add("--gpus", type=float, default=0.0, help="of a trial; shares such as 0.25 are allowed")
    add("--retries", type=int, default=3, help="times a trial begins anew after it died (default: %(default)s)")
    add("--address", help="of a Ray cluster, e.g. auto; by default this machine")
    add("--storage", default="runs/sweeps", help="where Ray keeps its state: a folder or an address")
    add(
        "--out",
        type=Path,
        help="folder of the rows, seen by all machines (default: as of bench)",
    )
    add("--smoke", action="store_true", help="a size that ends in seconds; rows go to runs/")
    add("--resume", action="store_true", help="go on where an interrupted sweep stopped")


def run(options: argparse.Namespace) -> int:
    """Runs the sweep and returns its exit code."""
    if find_spec("ray") is None:
        raise RecgymError('recgym sweep needs Ray, got no such module; pip install "recgym[ray]"')
    package("benchmarks", "suites")
    return int(import_module("benchmarks.sweep").main(options))
