"""`python -m recgym recommend RUN --data plays.csv --out recs.parquet`: lists for everybody in a log."""

from __future__ import annotations

import argparse
from pathlib import Path

from recgym import data_source
from recgym.commands.runs import load_served


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="folder of a trained agent")
    data_source.add_arguments(parser)
    add("--out", required=True, type=Path, help="a .parquet file: user_id, place, item_id, score")
    add("--k", type=int, default=10, help="items for each user (default: %(default)s)")
    add("--include-seen", action="store_true", help="list items of a user's past too")
    add("--batch", type=int, default=256, help="users scored together (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Writes the lists; returns 0."""
    from recgym.options import check_sizes
    from recgym.serving.whole_log import recommend_log

    check_sizes(k=options.k, batch=options.batch)
    served = load_served(options.run_folder, options.device)
    log = data_source.source_of(options).load()
    wishes = {"exclude_seen": not options.include_seen, "batch_size": options.batch}
    n_rows = recommend_log(served, log, options.out, options.k, **wishes)
    print(f"{options.out}: {n_rows:,} rows for {log.n_users:,} users")
    return 0
