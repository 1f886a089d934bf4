"""`python -m recgym train NAME ...`: trains an agent on any log; `python -m agents.NAME` with the same options.

`train --processes 2 NAME ...` is `torchrun --standalone --nproc-per-node=2 -m agents.NAME ...`; on several machines use
torchrun itself.
"""

from __future__ import annotations

import argparse
import runpy
import sys

from recgym.commands.runs import agents_package
from recgym.errors import DataError
from recgym.options import check_sizes, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command: the agent, and everything else is its own."""
    parser.add_argument("--processes", type=int, default=1, help="how many share every batch (default: %(default)s)")
    parser.add_argument(
        "--restarts", type=int, default=3, help="times they go on after one died (default: %(default)s)"
    )
    parser.add_argument("agent", nargs="?", help="e.g. td3; `train NAME --help` shows its options")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="options of the agent, e.g. --data plays.csv --user ...")


def run(options: argparse.Namespace) -> int:
    """Runs the agent's own command and returns its exit code."""
    names = trainable()
    if options.agent is None:
        options.parser.error(f"train needs the name of an agent, got none; they are {', '.join(names)}")
    name = options.agent.replace("-", "_").lower()
    if name not in names:
        hint = nearest(name, names) or f"they are {', '.join(names)}"
        raise DataError(f"an agent must be one that trains by a command, got {options.agent!r}; {hint}")
    check_sizes(processes=options.processes)
    if options.processes == 1:  # by its own name, which a checkpoint remembers
        run_words = agents_package("agents.training.train").run_words
        return int(run_words(agents_package(f"agents.{name}").main, options.rest))
    how = ["--standalone", f"--nproc-per-node={options.processes}", f"--max-restarts={options.restarts}"]
    before, sys.argv = sys.argv, ["torchrun", *how, "-m", f"agents.{name}", *options.rest]
    try:
        runpy.run_module("torch.distributed.run", run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        sys.argv = before
    return 0


def trainable() -> list[str]:
    """Returns the names of agents that have a command of their own.

    Raises:
        RecgymError: if the agents are not installed beside recgym.
    """
    from pathlib import Path

    files = sorted(Path(agents_package().__file__).parent.glob("*.py"))
    return [file.stem for file in files if '__name__ == "__main__"' in file.read_text(encoding="utf-8")]
