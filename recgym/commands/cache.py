"""`python -m recgym cache list|verify|clear`: what was parsed or fitted and kept."""

from __future__ import annotations

import argparse

from recgym.errors import StoreError
from recgym.storage import cache, store

HELP = "Lists, verifies or clears what was parsed and kept; RECGYM_CACHE names the folder."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands below `cache`."""
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, text, run in (
        ("list", "Lists all that is under the cache folder: size, time, name.", _list),
        ("verify", "Compares every file of every entry with its recorded hash.", _verify),
        ("clear", "Removes every entry and unfinished work; downloads stay.", _clear),
    ):
        actions.add_parser(name, help=text, description=text).set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    for entry in [*cache.entries(), *cache.others()]:
        name = entry.path.relative_to(cache.cache_dir()).as_posix().removeprefix("entries/")
        print(f"{entry.size / 1e6:10.1f} MB  {entry.created or '-':25}  {name}  {entry.problem}".rstrip())
    print(f"in {cache.cache_dir()}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    damaged = 0
    for entry in cache.entries():
        try:
            store.verify(entry.path)
            print(f"right    {entry.path.name}")
        except StoreError as error:
            damaged += 1
            print(f"damaged  {entry.path.name}: {error}")
    for other in cache.others():
        print(f"left     {other.path.relative_to(cache.cache_dir()).as_posix()}: {other.problem}")
    return 1 if damaged else 0


def _clear(options: argparse.Namespace) -> int:
    print(f"removed {cache.clear()} entries from {cache.cache_dir()}")
    return 0
