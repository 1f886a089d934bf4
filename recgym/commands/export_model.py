"""`python -m recgym export-model RUN --format onnx`: a trained agent as a file that other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path

from recgym.commands.runs import agents_package, load_run

FORMATS = ("onnx", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="folder of a trained agent whose scoring is a network")
    add("--format", default="onnx", choices=FORMATS, help="ONNX, or TorchScript (default: %(default)s)")
    add("--out", type=Path, required=True, help="folder of the model, the ids of its items and a README")
    add(
        "--k",
        type=int,
        default=10,
        help="items of the lists beside the scores; 0 leaves them out (default: %(default)s)",
    )
    add("--checks", type=int, default=1_000, help="random histories that must be ranked alike (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Exports and says what was compared; returns 0."""
    agent = load_run(options.run_folder)
    export = agents_package("agents.integrations.exporting").export_model
    found = export(agent, options.out, options.format, k=options.k or None, n_checks=options.checks)
    print(f"{options.out}: {found}")
    return 0
