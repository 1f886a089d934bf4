"""`python -m recgym evaluate RUN`: how a trained agent ranks for people it has not seen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym import data_source
from recgym.commands.runs import load_run
from recgym.errors import DataError
from recgym.options import check_sizes

if TYPE_CHECKING:
    from recgym.log import InteractionLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="folder of a training run, its best/, or of a saved agent")
    data_source.add_arguments(parser, required=False)
    add("--k", type=int, default=10, help="length of the lists (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    add("--n-jobs", type=int, default=1, help="processes that share the people (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Prints the metrics with their intervals; returns 0."""
    from recgym.evaluation.evaluate import evaluate_ranking
    from recgym.serving.served import OwnUsers

    check_sizes(k=options.k, n_jobs=options.n_jobs)
    agent = load_run(options.run_folder, options.device)
    log = data_source.source_of(options).load() if options.dataset else _held_out(options.run_folder)
    print(f"{log}, all of whose users are judged", flush=True)
    strangers = OwnUsers(agent, [None] * log.n_users)  # an agent that knows users was told of none of these
    print(evaluate_ranking(strangers, log, k=options.k, n_jobs=options.n_jobs))
    return 0


def _held_out(folder: Path) -> InteractionLog:
    """Returns the users that a run held out for its last numbers.

    Raises:
        DataError: if the folder does not say whose.
    """
    from recgym import datasets
    from recgym.storage.manifests import read_json, readable

    record = next((path for path in (folder / "run.json", folder.parent / "run.json") if path.is_file()), None)
    if record is None:
        raise DataError(f"evaluate needs people to judge by, got a folder without run.json ({folder}); give --data")
    with readable(record, "be the record of a run", "give --data, or train it again"):
        kept: dict[str, Any] = read_json(record)
        data, sizes = dict(kept["data"]), kept["split"]
        test = {"test_size": sizes["test_size"], "seed": sizes["seed"]}
    return datasets.load(data.pop("dataset"), **data).split_users(**test)[1]
