"""The command line: which environments and data sets there are, downloads, and the cache.

Exit codes: 0 when all is well, 1 when a check fails or data are missing, 2 when the command is not understood.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from recgym import cache, store
from recgym.errors import RecgymError, StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except RecgymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recgym", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, text: str, run: object, into: Any = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = into.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("list", "Lists every environment id and data set, and which data are on this machine.", _list)
    info = add("info", "Shows the page of one environment: spaces, users, rewards, ends, options.", _info)
    info.add_argument("id", help="e.g. recgym/Synthetic-Frame-v0")
    fetch = add("fetch", "Downloads a published data set into the cache folder and checks its hash.", _fetch)
    fetch.add_argument("name", help="e.g. ml-20m; `list` names them all")
    generate = add("generate", "Writes a log of the shape of MovieLens-20M, of any size, to measure with.", _generate)
    generate.add_argument("path", help="ratings.csv, or a name ending in .parquet")
    generate.add_argument("--rows", type=int, default=20_000_263, help="how many events (default: %(default)s)")
    generate.add_argument("--seed", type=int, default=0, help="another seed gives another log (default: %(default)s)")
    check = add("check", "Runs Gymnasium's environment checker on one id; a warning counts as a failure.", _check)
    check.add_argument("id", help="e.g. recgym/Synthetic-Frame-v0")
    from recgym.ope.command import add_arguments

    judge = add("evaluate-policy", "Estimates from a log with propensities what a policy would have earned.", _evaluate)
    add_arguments(judge)
    from recgym.export.command import add_arguments as add_export_arguments

    add_export_arguments(add("export", "Writes the decisions of a data set as HDF5, Parquet or Minari.", _export))
    from recgym.fidelity.command import add_arguments as add_fidelity_arguments

    add_fidelity_arguments(add("fidelity", "Fits users to a log and says how far to trust them.", _fidelity))
    floors = add("floors", "Measures what chance, popularity, greed and known truth earn, and keeps it.", _floors)
    floors.add_argument("id", nargs="*", help="by default all whose data are on this machine")
    text = "Lists, verifies or clears what was parsed and kept; RECGYM_CACHE names the folder."
    kept = commands.add_parser("cache", help=text, description=text)
    actions = kept.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add("list", "Lists every entry: size, time, name.", _cache_list, actions)
    add("verify", "Compares every file of every entry with its recorded hash.", _cache_verify, actions)
    add("clear", "Removes every entry; downloads stay.", _cache_clear, actions)
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    from recgym.ope.command import run

    return run(options)


def _export(options: argparse.Namespace) -> int:
    from recgym.export.command import run

    return run(options)


def _fidelity(options: argparse.Namespace) -> int:
    from recgym.fidelity.command import run

    return run(options)


def _list(options: argparse.Namespace) -> int:
    from recgym.datasets import names
    from recgym.datasets.sources import PUBLISHED, data_dir, find

    print("environments")
    for name in sorted(_ids()):
        print(f"  {name}")
    print("data sets")
    embedded = [name for name in names() if name.startswith("synthetic")]
    for name in embedded:
        print(f"  {name:16}  embedded, always there")
    for published in PUBLISHED.values():
        found = find(published)
        state = f"at {found.path}" if found else f"not here: python -m recgym fetch {published.name}"
        print(f"  {published.name:16}  {published.content:18}  {published.remote.size / 1e6:6.1f} MB  {state}")
        print(f"  {'':16}  {published.remote.licence}")
    data = data_dir()
    for name in sorted(set(names()) - {*PUBLISHED, *embedded, "table"}):  # sets that come as a folder only
        here = data is not None and (data / name).is_dir()
        state = f"at {data}/{name}" if here else f"not here: put it at RECGYM_DATA/{name}"
        print(f"  {name:16}  {'folder only':18}  {'':9}  {state}")
    print("  table             any CSV, Parquet file or DataFrame: path=, user=, item=, reward=, time=")
    return 0


def _info(options: argparse.Namespace) -> int:
    import gymnasium

    from recgym.pages import page

    print(page(_known(options.id)))
    from recgym.floors import stored, verdict

    floors = stored(options.id)
    print("\nfloors and ceilings: mean return of a session, 95 % interval" if floors else "\nfloors were not measured")
    for floor in floors:
        print(f"  {floor.policy:12} {floor.interval}")
    print(f"  {verdict(floors)}" if floors else "  python -m recgym floors does it")
    env: Any = gymnasium.make(options.id, disable_env_checker=True)  # the error says where missing data may be put
    env.close()
    if hasattr(env.unwrapped.users, "fitted_on"):
        from recgym.fidelity.command import kept

        print("\nhow far to trust these users", *kept(env.unwrapped.users), sep="\n  ")
    return 0


def _floors(options: argparse.Namespace) -> int:
    from recgym.errors import MissingDataError
    from recgym.floors import measure, verdict, write

    asked = [_known(name) for name in options.id] or sorted(name for name in _ids() if "/Table-" not in name)
    for name in asked:
        try:
            floors = measure(name)
        except MissingDataError:
            if options.id:
                raise
            print(f"{name}: its data are not here")
            continue
        write(floors)
        print(name)
        for floor in floors:
            print(f"  {floor.policy:12} {floor.interval}")
        print(f"  {verdict(floors)}")
    return 0


def _check(options: argparse.Namespace) -> int:
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(_known(options.id), disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check_env(env.unwrapped)
        except (AssertionError, UserWarning) as error:
            print(f"{options.id}: {error}", file=sys.stderr)
            return 1
        finally:
            env.close()
    print(f"{options.id}: all checks passed")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from recgym.datasets import fetch

    print(f"{fetch(options.name)}: there, and its hash is right")
    return 0


def _generate(options: argparse.Namespace) -> int:
    from recgym.datasets.generator import generate

    path = generate(options.path, options.rows, options.seed)
    print(f"{path}: {options.rows:,} rows, {path.stat().st_size / 1e6:,.1f} MB")
    return 0


def _cache_list(options: argparse.Namespace) -> int:
    for entry in cache.entries():
        print(f"{entry.size / 1e6:10.1f} MB  {entry.created or '-':25}  {entry.path.name}  {entry.problem}".rstrip())
    print(f"in {cache.cache_dir()}")
    return 0


def _cache_verify(options: argparse.Namespace) -> int:
    damaged = 0
    for entry in cache.entries():
        try:
            store.verify(entry.path)
            print(f"right    {entry.path.name}")
        except StoreError as error:
            damaged += 1
            print(f"damaged  {entry.path.name}: {error}")
    return 1 if damaged else 0


def _cache_clear(options: argparse.Namespace) -> int:
    print(f"removed {cache.clear()} entries from {cache.cache_dir()}")
    return 0


def _ids() -> list[str]:
    import gymnasium

    from recgym.registry import register_envs

    register_envs()
    return [name for name in gymnasium.registry if name.startswith("recgym/")]


def _known(name: str) -> str:
    if name not in _ids():
        raise RecgymError(f"an id must be one of {', '.join(sorted(_ids()))}, got {name!r}; choose one of them")
    return name


if __name__ == "__main__":
    sys.exit(main())
