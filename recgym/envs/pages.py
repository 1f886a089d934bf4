"""The page of every environment id, as Markdown, made from docstrings and from the environment itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from recgym.envs.option_docs import Option, own_options, world_options
from recgym.envs.registry import world_of, world_page
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError, MissingDataError
from recgym.worlds.sim import only_fitted


def page(env_id: str) -> str:
    """Returns the page of a registered id: what it is, spaces, users, options, rewards, ends and versions.

    Where the data of an id are not on this machine, its page says so in place of the spaces.

    Example:
        >>> print(page("recgym/Synthetic-Frame-v0")[:27])
        # recgym/Synthetic-Frame-v0
    """
    spec = gym.spec(env_id)
    world = spec.kwargs.get("world")  # None of an id that others registered
    further = world_options(world_of(world), spec.kwargs) if world else {}
    parts = [
        f"# {env_id}",
        world_page(world) if world else "",
        "## Made by",
        f"- id: {env_id}\n" + _fields({name: getattr(spec, name) for name in ("entry_point", "vector_entry_point")}),
        "## Registered with",
        _fields(spec.kwargs),
        *_made(env_id),
        *(["## Options of its users and data", _listed(further, spec.kwargs)] if world else []),
        "## Options of the environment",
        _listed(own_options(RecVectorEnv), spec.kwargs),
        "## The environment",
        inspect.cleandoc(RecVectorEnv.__doc__ or "").split("\nArgs:\n")[0],
        "## Versions",
        f"This is {env_id.rsplit('-', 1)[-1]}. A number goes up when the same seed and item actions would give "
        "other users, items, rewards or ends; the old one stays, unless it was simply wrong.",
    ]
    return "\n\n".join(parts) + "\n"


def _made(env_id: str) -> list[str]:
    """Returns what only an environment itself can tell; nothing is fitted for it."""
    try:
        with only_fitted():
            env: Any = gym.make(env_id, disable_env_checker=True).unwrapped
    except (DataError, MissingDataError) as error:  # a table needs to be told which
        return ["## Spaces", f"Unknown here: {error}"]
    rows = [("observation", env.observation_space), ("action", env.action_space)]
    lines = ["| part | space |", "|---|---|", *(f"| {name} | `{line}` |" for name, line in _flat(rows))]
    users = type(env.users)
    text = inspect.cleandoc(users.__doc__ or "").split("\nArgs:\n")[0].strip()
    env.close()
    return ["## Spaces", "\n".join(lines), f"## Users: {users.__name__}", text, *_fitted(env.users)]


def _fitted(users: Any) -> list[str]:
    """Returns of learned users what they were fitted on, and what that makes of the environment."""
    if not hasattr(users, "fitted_on"):
        return []
    said = (
        "No answer depends on what was shown before: a bandit with a horizon, where planning can gain only from who "
        "leaves when."
        if users.memoryless
        else "Answers follow from the history of the session."
    )
    leaving = {
        "one": "all that a user did",
        "interval": "events without a long pause",
        "never": "nothing: nobody leaves",
    }
    return [
        f"**This model** was fitted on {len(users.user_ids):,} people and {users.fitted_on.n_events:,} events of "
        f"{users.fitted_on.name}, its leaving on {leaving[users.leaving.sessions]}; {len(users.servable):,} people "
        f"open sessions. {said}"
    ]


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


def _listed(options: Mapping[str, Option], given: Mapping[str, Any]) -> str:
    """Returns options one a line, with the defaults they have at an id."""
    values = {name: given.get(name, one.default) for name, one in options.items()}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}  # of an enum
    return "\n".join(f"- {name} = `{plain[name]!r}`: {one.meaning}" for name, one in options.items())
