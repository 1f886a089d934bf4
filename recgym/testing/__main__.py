"""Runs every id through `check_vector_env`: each action, observation and autoreset mode, and prints a table.

`python -m recgym.testing`, or with a part of the ids' names: `python -m recgym.testing DRR`. Ids whose data are not on
this machine are listed as skipped. Exit code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode
from tqdm import tqdm

from recgym.envs.registry import KINDS, register_envs
from recgym.envs.spaces import OBSERVATIONS
from recgym.envs.vector import ACTIONS
from recgym.errors import MissingDataError
from recgym.testing import check_vector_env

_ROWS, _HORIZON = 3, 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, runs the checks and prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m recgym.testing", description=__doc__)
    parser.add_argument("part", nargs="?", default="", help="only ids whose name holds this")
    parser.add_argument("--steps", type=int, default=25, help="random steps of a check (default: %(default)s)")
    given = parser.parse_args(arguments)
    register_envs()
    ids = [env_id for kind in KINDS for env_id in kind.ids() if given.part in env_id]
    lines, skipped, failed = [], [], 0
    for env_id in tqdm(ids, unit="id", disable=None):
        try:
            gym.make(env_id, **_data_of(env_id), disable_env_checker=True).close()
        except MissingDataError as error:
            skipped.append(f"skipped {env_id}: {error}")
            continue
        for action, observation, found in _checked(env_id, given.steps):
            failed += sum(one != "ok" for one in found)
            lines.append(f"| {env_id} | {action} | {observation} | {' | '.join(found)} |")
    modes = [mode.value for mode in AutoresetMode]
    print(f"| id | action | observation | {' | '.join(modes)} |\n|{'---|' * (3 + len(modes))}")
    print("\n".join([*lines, *skipped]))
    print(f"{len(lines) * len(modes)} checks, {failed} failed; {len(skipped)} of {len(ids)} ids skipped")
    return 1 if failed else 0


def _checked(env_id: str, n_steps: int) -> Iterator[tuple[str, str, list[str]]]:
    """Yields action, observation and what each autoreset mode's check found."""
    for action in ACTIONS:
        for observation in OBSERVATIONS:
            options = _data_of(env_id) | {"action": action, "observation": observation, "horizon": _HORIZON}
            yield action, observation, [_found(env_id, mode, n_steps, options) for mode in AutoresetMode]


def _found(env_id: str, mode: AutoresetMode, n_steps: int, options: dict[str, Any]) -> str:
    """Returns "ok", or what is wrong."""
    env = gym.make_vec(env_id, num_envs=_ROWS, autoreset_mode=mode.value, **options)
    try:
        check_vector_env(env, n_steps, single=lambda: gym.make(env_id, disable_env_checker=True, **options))
    except AssertionError as error:
        return f"FAILED: {error}".replace("\n", " ").replace("|", "/")
    finally:
        env.close()
    return "ok"


def _data_of(env_id: str) -> dict[str, Any]:
    """Returns the options that an id of a table of one's own needs: a small table."""
    if gym.spec(env_id).kwargs.get("dataset") != "table":
        return {}
    path = Path(_folder().name) / "plays.csv"
    if not path.exists():
        rows = [f"{u},{(u * 7 + 3 * n) % 70},{1 + (u + n) % 5},{10**9 + 60 * n}" for u in range(60) for n in range(25)]
        path.write_text("\n".join(["user,item,stars,when", *rows]))
    columns = {"user": "user", "item": "item", "reward": "stars", "time": "when"}
    return {"path": str(path), **columns, "transform": "scaled", "dim": 8}


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a folder that is removed when the process ends."""
    return tempfile.TemporaryDirectory()


if __name__ == "__main__":
    sys.exit(main())
