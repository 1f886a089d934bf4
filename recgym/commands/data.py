"""`python -m recgym fetch` and `generate`: published logs, and generated ones to measure with."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from recgym import data_source

if TYPE_CHECKING:
    from recgym.data_source import DataSource


HELP = "Prepares logs that are larger than one process, in parts."


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds the commands below `data`."""
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    text = "Makes a log of Parquet files in parts of users, by several processes or a cluster; goes on where it was."
    action = actions.add_parser("prepare", help=text, description=text)
    data_source.add_arguments(action)
    action.add_argument("--out", required=True, help="folder to write; `--data FOLDER --option part=3` opens one part")
    action.add_argument("--parts", type=int, default=64, help="of about equally many events (default: %(default)s)")
    action.add_argument("--n-jobs", type=int, default=1, help="processes that work at a time (default: %(default)s)")
    action.add_argument("--engine", default="processes", help="processes, or ray for a cluster (default: %(default)s)")
    action.set_defaults(run=prepare)


def prepare(options: argparse.Namespace) -> int:
    """Makes a log in parts."""
    from recgym.datasets.partitioned import prepare

    source = data_source.source_of(options)
    how = {"n_parts": options.parts, "n_jobs": options.n_jobs, "engine": options.engine, "tell": _said}
    print(f"{prepare(source.dataset, options.out, **how, **source.options)}: a log in {options.parts} parts")
    return 0


def _said(text: str) -> None:
    print(text, flush=True)


def add_name(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fetch`."""
    parser.add_argument("name", help="e.g. ml-20m; `list` names them all")


def fetch(options: argparse.Namespace) -> int:
    """Downloads a data set."""
    from recgym import datasets

    print(f"{datasets.fetch(options.name)}: there, and its hash is right")
    return 0


def describe(source: DataSource) -> int:
    """Prints what the log at an address holds, and who of it can be served."""
    import numpy as np

    from recgym.users.replay import unserved

    log = source.load()
    print(log)
    per_user, rewards = np.percentile(log.lengths, [0, 50, 100]), np.unique(log.rewards)
    print(f"events per user: {per_user[0]:,.0f} to {per_user[2]:,.0f}, half of the users have up to {per_user[1]:,.0f}")
    levels = ", ".join(f"{reward:g}" for reward in rewards) if len(rewards) <= 8 else f"{len(rewards):,} different"
    how = log.reward + (", which its values look like" if log.source.get("transform_is_guessed") else "")
    print(f"rewards ({how}): {rewards[0]:g} to {rewards[-1]:g}; {levels}")
    if log.times is None:
        print("times: none; the order of the rows is the order of events")
    else:
        first, last = (np.datetime64(int(time), "s") for time in (log.times.min(), log.times.max()))
        print(f"times: {first} to {last} (UTC)")
    columns = {"event columns": log.extra, "user features": log.users, "item features": log.item_features}
    for what, group in columns.items():
        if group:
            print(f"{what}: {', '.join(group)}")
    print(unserved(log, 10) or "every user has more than 10 events, so that every frame of 10 can be filled")
    return 0


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `generate`."""
    parser.add_argument("path", help="ratings.csv, or a name ending in .parquet")
    parser.add_argument("--rows", type=int, default=20_000_263, help="how many events (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another log (default: %(default)s)")


def generate(options: argparse.Namespace) -> int:
    """Writes a generated log."""
    from recgym.datasets import generator

    path = generator.generate(options.path, options.rows, options.seed)
    print(f"{path}: {options.rows:,} rows, {path.stat().st_size / 1e6:,.1f} MB")
    return 0
