"""The command line: environments, data, training, evaluation, serving, export, fidelity, benchmarks and the cache.

Exit codes: 0 when all is well, 1 when a check fails or something is missing, 2 when the command is not understood, 130
after Ctrl-C. `--debug` shows where a mistake was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import recgym
from recgym.commands import (
    bench,
    cache,
    data,
    environments,
    evaluate,
    evaluate_policy,
    export,
    export_model,
    fidelity,
    recommend,
    serve,
    sweep,
    train,
)
from recgym.commands.ending import ended
from recgym.commands.words import Parser, parsed

COMMANDS = (  # name, what it does in a line, its options, what runs it
    (
        "list",
        "Lists every environment id and data set, and which data are on this machine.",
        None,
        environments.show_all,
    ),
    (
        "info",
        "Shows the page of one environment (spaces, users, rewards, ends, options), or what a log holds.",
        environments.add_subject,
        environments.info,
    ),
    ("fetch", "Downloads a published data set into the cache folder and checks its hash.", data.add_name, data.fetch),
    ("data", data.HELP, data.add_actions, None),
    (
        "generate",
        "Writes a log of the shape of MovieLens-20M, of any size, to measure with.",
        data.add_shape,
        data.generate,
    ),
    (
        "check",
        "Runs Gymnasium's environment checker on one id; a warning counts as a failure.",
        environments.add_id,
        environments.check,
    ),
    (
        "evaluate",
        "Ranks for people a trained agent has not seen: those its run held out, or all of another log.",
        evaluate.add_arguments,
        evaluate.run,
    ),
    (
        "evaluate-policy",
        "Estimates from a log with propensities what a policy would have earned.",
        evaluate_policy.add_arguments,
        evaluate_policy.run,
    ),
    (
        "train",
        "Trains an agent on a log: `train td3 ...` is `python -m agents.td3 ...`.",
        train.add_arguments,
        train.run,
    ),
    (
        "serve",
        "Serves a trained agent over HTTP, with a page to try it.",
        serve.add_arguments,
        serve.run,
    ),
    (
        "recommend",
        "Writes a list for everybody in a log as Parquet, streamed and resumable.",
        recommend.add_arguments,
        recommend.run,
    ),
    (
        "sweep",
        "Runs a suite's rows over seeds, or searches an agent's hyperparameters, by Ray Tune.",
        sweep.add_arguments,
        sweep.run,
    ),
    (
        "export",
        "Writes the decisions of a data set as HDF5, Parquet or Minari.",
        export.add_arguments,
        export.run,
    ),
    (
        "export-model",
        "Writes a trained agent as ONNX or TorchScript, compared with the agent itself.",
        export_model.add_arguments,
        export_model.run,
    ),
    (
        "fidelity",
        "Fits users to a log and says how far to trust them.",
        fidelity.add_arguments,
        fidelity.run,
    ),
    (
        "floors",
        "Measures what chance, popularity, greed and known truth earn, and keeps it.",
        environments.add_ids,
        environments.floors,
    ),
    (
        "bench",
        "Runs a suite of the benchmarks: rows, speed, what RL gains; or an agent of yours among all others.",
        bench.add_arguments,
        bench.run,
    ),
    ("cache", cache.HELP, cache.add_arguments, None),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""

    def run(words: list[str]) -> int:
        options = parsed(_parser(), words)
        return int(options.run(options))

    return ended(run, arguments, called="python -m recgym")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m recgym", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"recgym {recgym.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where a mistake was found; for every command")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, text, add_arguments, run in COMMANDS:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, parser=command)
        if add_arguments is not None:
            add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
