"""`python -m recgym bench ...`: one door to the suites under benchmarks/, from a checkout or an installed wheel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from recgym.commands.runs import package
from recgym.errors import DataError
from recgym.options import nearest

_DOORS = {  # name -> module, what it does
    "speed": ("benchmarks.speed", "data, environments, agents, users, serving: e.g. `bench speed data --quick`"),
    "rl-gain": ("benchmarks.rl_gain", "worlds where planning pays: `bench rl-gain Retention`"),
    "longterm": ("benchmarks.longterm", "trials of learners where sessions have memory"),
    "simulated": ("benchmarks.simulated", "an agent trained in learned users' sessions"),
    "demo": ("benchmarks.demo", "the quickstart suite with its table and plots, into demo/"),
    "report": ("benchmarks.report", "tables and plots of a checkout's rows, into its pages"),
}
EPILOG = """\
  quickstart, quality, ope, fidelity, ...   suites of rows: `bench SUITE --help`
  {doors}

`bench --agent mypkg.mine:MyAgent` trains an agent of yours in the suite quickstart and shows its row among all others;
rows go to runs/bench in the current folder, never into the package. What has rows already is not run again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing but the page of help: every suite has options of its own."""
    doors = "\n  ".join(f"{name:40}  {text}" for name, (_, text) in _DOORS.items())
    parser.epilog, parser.formatter_class = EPILOG.format(doors=doors), argparse.RawDescriptionHelpFormatter
    parser.usage = f"{parser.prog} [SUITE] [options of the suite]"
    parser.set_defaults(takes_any=True, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Runs a suite's own command and returns its exit code."""
    name, *rest = options.rest if options.rest and not options.rest[0].startswith("-") else ["", *options.rest]
    if not name and not rest:
        options.parser.print_help()
        return 2
    package("benchmarks", "suites")
    known = [*_DOORS, *import_module("benchmarks.run").suite_names()]
    if name and name not in known:
        hint = nearest(name, known) or f"they are {', '.join(known)}"
        raise DataError(f"a suite must be one there is, got {name!r}; {hint}")
    main: Callable[[list[str]], Any] = import_module(_DOORS[name][0] if name in _DOORS else "benchmarks.run").main
    if name not in _DOORS and not any(word.split("=")[0] == "--suite" for word in rest):
        rest = ["--suite", name or "quickstart", *rest]
    sys.path.insert(0, str(Path.cwd()))  # where one's own agent may lie, as for `python -m`
    try:
        code = main(rest)
    finally:
        sys.path.remove(str(Path.cwd()))
    return code if isinstance(code, int) else 0
