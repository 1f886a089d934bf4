"""`python -m recgym fetch` and `generate`: published logs, and generated ones to measure with."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recgym.data_source import DataSource


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
