"""The page of every environment id, as Markdown, made from docstrings and from the environment itself."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from recgym.datasets.table import TableOptions
from recgym.errors import DataError, MissingDataError
from recgym.registry import world_of, world_page
from recgym.users.replay import ReplayUsers
from recgym.vector import RecVectorEnv
from recgym.worlds.logs import load_parts


def page(env_id: str) -> str:
    """Returns the page of a registered id: what it is, spaces, users, options, rewards, ends and versions.

    Where the data of an id are not on this machine, its page says so in place of the spaces.

    Example:
        >>> print(page("recgym/Synthetic-Frame-v0")[:27])
        # recgym/Synthetic-Frame-v0
    """
    spec = gym.spec(env_id)
    world = spec.kwargs.get("world")  # None of an id that others registered
    parts = [
        f"# {env_id}",
        world_page(world) if world else "",
        "## Made by",
        f"- id: {env_id}\n" + _fields({name: getattr(spec, name) for name in ("entry_point", "vector_entry_point")}),
        "## Registered with",
        _fields(spec.kwargs),
        *_made(env_id),
        *(["## Options of its data and users", *_options_of(world_of(world))] if world else []),
        "## The environment",
        re.sub(r"\nArgs:\n", "\n**Options**:\n\n", inspect.cleandoc(RecVectorEnv.__doc__ or "")),
        "## Versions",
        f"{env_id.rsplit('-', 1)[-1]}: the first. A number goes up when the same seed and item actions would give "
        "other users, items, rewards or ends; the old one stays.",
    ]
    return "\n\n".join(parts) + "\n"


def _options_of(world: Any) -> list[str]:
    """Returns the options of a world, and of what it hands on the others to."""
    parts = [_arguments(world)]
    if any(one.kind is one.VAR_KEYWORD for one in inspect.signature(world).parameters.values()):
        parts += ["Of users who replay a log (`recgym.users.ReplayUsers`), where the text above names them:"]
        parts += [_arguments(ReplayUsers), "Of the data, its split and its vectors (`recgym.worlds.logs.load_parts`):"]
        parts += [_arguments(load_parts), "Of a table (`recgym.datasets.load`):"]
        parts += [_fields({one.name: one.default for one in fields(TableOptions) if one.default is not MISSING})]
    return parts


def _made(env_id: str) -> list[str]:
    """Returns what only an environment itself can tell."""
    try:
        env: Any = gym.make(env_id, disable_env_checker=True).unwrapped
    except (DataError, MissingDataError) as error:  # a table needs to be told which
        return ["## Spaces", f"Unknown here: {error}"]
    rows = [("observation", env.observation_space), ("action", env.action_space)]
    lines = [f"- {name}_space: {space}" for name, space in rows]
    lines += ["", "| part | space |", "|---|---|", *(f"| {name} | `{line}` |" for name, line in _flat(rows))]
    users = type(env.users)
    text = inspect.cleandoc(users.__doc__ or "").split("\nArgs:\n")[0].strip()
    env.close()
    return ["## Spaces", "\n".join(lines), f"## Users: {users.__name__}", text]


def _flat(rows: list[tuple[str, spaces.Space]]) -> list[tuple[str, str]]:
    flat = []
    for name, space in rows:
        if isinstance(space, spaces.Dict):
            flat += _flat([(f'{name}["{key}"]', part) for key, part in space.spaces.items()])
        elif isinstance(space, spaces.Box):
            bounds = f"{space.low.min():g}, {space.high.max():g}"
            flat.append((name, f"Box({bounds}, {space.shape}, {space.dtype})"))
        else:
            flat.append((name, str(space)))
    return flat


def _fields(fields: Any) -> str:
    return "\n".join(f"- {name}: `{value!r}`" for name, value in fields.items())


def _arguments(function: Any) -> str:
    """Returns the arguments of a function as its docstring lists them, one a line, with their defaults."""
    listed = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[2].split("\nRaises:")[0]
    parameters = inspect.signature(function).parameters
    lines = []
    for line in inspect.cleandoc(listed).splitlines():
        name = line.partition(":")[0]
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            line = f"{name} = `{parameters[name].default!r}`{line[len(name) :]}"
        lines.append(f"- {line}" if line[:1].strip() else line)
    return "\n".join(lines)
