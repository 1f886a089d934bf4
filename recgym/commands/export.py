"""`python -m recgym export`: a data set by name, in any of the formats."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from recgym import data_source
from recgym.errors import DataError

FORMATS = ("compact", "hdf5", "parquet", "minari")
SPLITS = ("train", "test", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    data_source.add_arguments(parser)
    add("--format", required=True, choices=FORMATS, help="see recgym.export")
    add(
        "--out", required=True, type=Path, help="file (compact, hdf5), folder (parquet) or folder of data sets (minari)"
    )
    add("--split", default="train", choices=SPLITS, help="whose decisions (default: %(default)s)")
    add("--split-seed", type=int, default=0, help="which users are held out (default: %(default)s)")
    add("--test-size", type=float, default=0.05, help="share of users held out (default: %(default)s)")
    add("--frame-size", type=int, default=10, help="events of a frame (default: %(default)s)")
    add("--min-history", type=int, help="events before a user's first decision (default: a whole frame)")
    add("--end-of-log", default="truncate", choices=("truncate", "terminal"), help="(default: %(default)s)")
    add("--dim", type=int, help="width of item vectors; 0: none (default: 128, or all a smaller log can have)")
    add("--dry-run", action="store_true", help="only say how large it would be")


def run(options: argparse.Namespace) -> int:
    """Exports as asked and returns the exit code."""
    from recgym import embeddings, export
    from recgym.storage.store import check_place
    from recgym.users.replay import unserved

    if options.format == "parquet" and not options.dry_run:
        check_place(options.out)
    source = data_source.source_of(options)
    log = source.load()
    train, test = log.split_users(test_size=options.test_size, seed=options.split_seed)
    if options.format == "hdf5" and options.dim == 0:
        raise DataError("the hdf5 format holds item vectors, got --dim 0; give their width or take compact")
    catalog = None if options.dim == 0 else embeddings.svd(train, dim=options.dim)
    part = {"train": train, "test": test, "all": log}[options.split]
    rows: dict[str, Any] = {
        "frame_size": options.frame_size,
        "min_history": options.min_history,
        "end_of_log": options.end_of_log,
    }
    size = export.predicted_size(part, options.format, catalog, **rows)
    n_rows = len(export.Rows(part, **rows))
    print(f"{part!r}, {options.split}: {n_rows:,} decisions, about {size / 1e6:,.1f} MB as {options.format}")
    if left := unserved(part, options.frame_size, options.min_history):
        print(left)
    if options.dry_run:
        return 0
    if options.format == "minari":
        name = f"recgym/{_plain(source.label)}/{options.split}-v0"
        path = export.to_minari(part, options.out, name, catalog, env=_replaying(options, source, part), **rows)
    else:
        path = getattr(export, f"to_{options.format}")(part, options.out, catalog, **rows)
    print(path)
    return 0


def _replaying(options: argparse.Namespace, source: data_source.DataSource, log: Any) -> Any:
    """Returns the spec of the environment that replays these users event by event, or None where there is none.

    There is none where decisions begin only after more events than a frame holds.
    """
    import gymnasium as gym

    if (options.min_history or 0) > options.frame_size:
        return None
    found = [spec for spec in gym.registry.values() if spec.kwargs.get("dataset") in (source.dataset, "table")]
    found = [spec for spec in found if spec.id.startswith("recgym/") and "-Frame-v" in spec.id]
    if not found:
        return None
    spec = min(found, key=lambda spec: spec.kwargs["dataset"] != source.dataset)  # of this name, or else of any table
    names = ("split", "split_seed", "test_size", "frame_size", "min_history", "end_of_log")
    kwargs: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    kwargs |= {"dim": options.dim} if options.dim else {}
    kwargs |= {"advance": "log", "opening": "least", "horizon": int(log.lengths.max()), "repeats": "allow"}
    kwargs |= source.recipe()
    return replace(spec, kwargs=spec.kwargs | kwargs | {"action": "item", "observation": "history"})


def _plain(name: str) -> str:
    """Returns the name of a log as a part of a Minari id, which has no spaces or dots."""
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "log"
