"""`python -m recgym fetch` and `generate`: published logs, and generated ones to measure with."""

from __future__ import annotations

import argparse


def add_name(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fetch`."""
    parser.add_argument("name", help="e.g. ml-20m; `list` names them all")


def fetch(options: argparse.Namespace) -> int:
    """Downloads a data set."""
    from recgym import datasets

    print(f"{datasets.fetch(options.name)}: there, and its hash is right")
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
