"""`python -m recgym list`, `info`, `check` and `floors`: what there is, and what it is worth."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym import data_source
from recgym.commands.data import describe
from recgym.errors import DataError, MissingDataError
from recgym.options import check_sizes, nearest

if TYPE_CHECKING:
    from recgym.evaluation.floors import Floor


def add_id(parser: argparse.ArgumentParser) -> None:
    """Adds the id of one environment."""
    parser.add_argument("id", help="e.g. recgym/Synthetic-Frame-v0")


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Adds the id of an environment, or a data source."""
    parser.add_argument("id", nargs="?", help="e.g. recgym/Synthetic-Frame-v0; or a data set, with its columns")
    data_source.add_arguments(parser, required=False)
    parser.set_defaults(parser=parser)


def add_ids(parser: argparse.ArgumentParser) -> None:
    """Adds any number of ids."""
    parser.add_argument("id", nargs="*", help="by default all whose data are on this machine")
    parser.add_argument("--out", type=Path, help="file to keep them in (default: floors.csv in the cache folder)")
    parser.add_argument("--n-jobs", type=int, default=1, help="processes that share the policies (default: 1)")


def show_all(options: argparse.Namespace) -> int:
    """Lists environments and data sets: what each is, and whether its data are here."""
    import gymnasium

    from recgym.datasets.listing import listed

    sets = {one.name: one for one in listed()}
    print("environments")
    for name in sorted(_ids()):
        data = gymnasium.spec(name).kwargs.get("dataset")
        here = data is None or data not in sets or sets[data].is_here
        state = "" if here else f"; its data are not here: {data}"
        print(f"  {name:36}  {_about(gymnasium.spec(name).kwargs)}{state}")
    print("data sets")
    for one in sets.values():
        print(f"  {one.name:16}  {one.content}; {one.state}")
        if one.licence:
            print(f"  {'':16}  licence: {one.licence}; cite: {one.citation}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Prints the page of one environment, or what a log holds."""
    named = options.id or options.dataset
    if named is None or (options.id and options.dataset):
        options.parser.error(f"info needs one id or data source, got {options.id!r} and {options.dataset!r}")
    if options.dataset or (options.id not in _ids() and _is_data(options.id)):
        options.dataset = named
        return describe(data_source.source_of(options))
    import gymnasium

    from recgym.envs.pages import page
    from recgym.evaluation.floors import stored, verdict
    from recgym.users.replay import ReplayUsers
    from recgym.worlds.sim import only_fitted

    if not _is_id(options.id) and (hint := _other(options.id)):
        raise DataError(f"info needs an id, a data set or a file, got {options.id!r}; {hint}")
    print(page(_known(options.id)))  # fits nothing, and says where it would have to
    floors = stored(options.id)
    print("\nfloors and ceilings: mean return of a session, 95 % interval" if floors else "\nfloors were not measured")
    _show(floors)
    print(f"  {verdict(floors)}" if floors else "  python -m recgym floors ID does it")
    try:
        with only_fitted():
            env: Any = gymnasium.make(options.id, disable_env_checker=True)
    except MissingDataError:  # says where the data may be put
        raise
    except DataError:  # a table that is not named, users who are not fitted: the page says it
        return 0
    env.close()
    if isinstance(env.unwrapped.users, ReplayUsers):
        print(f"\n{env.unwrapped.users.served}")
    if hasattr(env.unwrapped.users, "fitted_on"):
        from recgym.fidelity.prepare import kept

        print("\nhow far to trust these users", *kept(env.unwrapped.users), sep="\n  ")
    return 0


def floors(options: argparse.Namespace) -> int:
    """Measures floors and ceilings and keeps them."""
    from recgym.evaluation.floors import measure, own_path, verdict, write

    check_sizes(n_jobs=options.n_jobs)
    asked = [_known(name) for name in options.id] or sorted(name for name in _ids() if "/Table-" not in name)
    for name in asked:
        try:
            floors = measure(name, n_jobs=options.n_jobs)
        except MissingDataError:
            if options.id:
                raise
            print(f"{name}: its data are not here")
            continue
        print(name)
        _show(floors)
        print(f"  {verdict(floors)}", flush=True)
        write(floors, options.out or own_path())
    return 0


def check(options: argparse.Namespace) -> int:
    """Runs Gymnasium's checker, and looks at what an id pays for: order, repeats, floors; returns 1 on a fault."""
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    from recgym.envs.env import RecEnv

    name = options.id if options.id in gymnasium.registry else _known(options.id)
    env = gymnasium.make(name, disable_env_checker=True)
    ours = isinstance(env.unwrapped, RecEnv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped)
        if ours:
            from recgym.testing.worth import check_worth

            print(*check_worth(name), sep="\n")
    except (AssertionError, UserWarning) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    finally:
        env.close()
    print(
        f"{name}: all checks passed" + ("" if ours else ", of Gymnasium's; what it pays was not looked at: no RecEnv")
    )
    return 0


def _about(kwargs: dict[str, Any]) -> str:
    """Returns the line that says what a kind of environment is: the first of its world's page."""
    from recgym.envs.registry import world_page

    first = world_page(kwargs["world"]).strip().splitlines()[0]
    return first.partition(": ")[2].rstrip(".") or first


def _is_data(name: str) -> bool:
    """Returns whether a name that is no id is a data set or something on the disk."""
    from recgym.datasets import names

    return name in names() or Path(name).expanduser().exists()


def _is_id(name: str) -> bool:
    """Returns whether a name reads like an id: `recgym/Something`, `package:id`, or one that Gymnasium knows."""
    return ("/" in name and not Path(name).suffix) or ":" in name or name in _ids()


def _other(name: str) -> str:
    """Returns what a name that is no id may have meant: a file, or the nearest data set; "" if an id is nearer."""
    from recgym.datasets import names

    if "/" in name or Path(name).suffix in (".csv", ".parquet", ".jsonl", ".json", ".txt", ".tsv", ".gz", ".dat"):
        return "there is no such file"
    return "" if re.search(r"-v\d+$", name) else nearest(name, names())  # an id without its namespace


def _show(floors: Iterable[Floor]) -> None:
    for floor in floors:
        if floor.policy != "planning":  # a difference, which the verdict tells
            people = f", {floor.n_people} people" if floor.n_people else ""
            known = f"known to {100 * floor.known_to:.1f} %" if floor.known_to < 1 else "hardly known to be above 0"
            print(f"  {floor.policy:12} {floor.interval}  {known} ({floor.n_sessions} sessions{people})")


def _ids() -> list[str]:
    from recgym.envs import registry

    registry.register_envs()
    return registry.ids()


def _known(name: str) -> str:
    """Returns an id that Gymnasium knows; a package before it, `package:id`, may lie in the current folder."""
    from recgym.envs import registry

    registry.register_envs()
    sys.path.insert(0, str(Path.cwd()))
    try:
        return registry.found_id(name)
    finally:
        sys.path.remove(str(Path.cwd()))
