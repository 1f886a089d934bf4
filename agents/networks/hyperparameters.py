"""What hyperparameters may be, said beside each field of a `Config`, and the presets of a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from difflib import get_close_matches
from functools import cache
from numbers import Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from recgym.errors import DataError, OptionError
from recgym.options import is_whole


def number(words: str, holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Returns what makes a field of a `Config`, with a default, that must `words`; `check` looks.

    Example:
        >>> from dataclasses import dataclass
        >>> even = number("be even", lambda x: x % 2 == 0)
        >>> @dataclass
        ... class Config:
        ...     precision: str = "fp32"
        ...     pairs: int = even(2)
        >>> check(1, Config(pairs=3))
        Traceback (most recent call last):
        recgym.errors.DataError: pairs must be even, got 3; leave it out for 2
    """
    return lambda default: field(default=default, metadata={"must": (words, holds)})


share = number("lie in 0..1", lambda x: 0 <= x <= 1)
below_one = number("lie in 0..1, 1 excluded", lambda x: 0 <= x < 1)
positive = number("be above 0", lambda x: x > 0)
not_negative = number("be at least 0", lambda x: x >= 0)
count = number("be a whole number of at least 0", lambda x: is_whole(x) and x >= 0)
at_least_one = number("be a whole number of at least 1", lambda x: is_whole(x) and x >= 1)
at_least_two = number("be a whole number of at least 2", lambda x: is_whole(x) and x >= 2)


def configured(agent: Any, preset: str | None, options: Mapping[str, Any]) -> Any:
    """Returns an agent's `Config` of the options given, on top of a preset of its class.

    Args:
        agent: An agent, or its class.
        preset: A name in its `presets`, or None for our own defaults.
        options: Fields of its `Config`.

    Raises:
        DataError: if it has no such preset.
        OptionError: if an option is no field.

    Example:
        >>> from agents.td3 import TD3
        >>> configured(TD3, "paper", {"gamma": 0.9}).bc_weight
        0.0
        >>> configured(TD3, None, {"lr": 0.1})
        Traceback (most recent call last):
        recgym.errors.OptionError: an option of TD3 must be one of actor_init, actor_lr, bc_reward, bc_weight, ...
    """
    name, presets = getattr(agent, "__name__", type(agent).__name__), agent.presets
    if preset is not None and preset not in presets:
        known = ", ".join(map(repr, presets)) or "there is none"
        raise DataError(f"preset of {name} must be one of: {known}; got {preset!r}; leave it out for our defaults")
    names = sorted(option.name for option in fields(agent.make_config))
    for option in options:
        if option not in names:
            short = option.replace("learning_rate", "lr")
            near = [known for known in names if f"_{known}".endswith(f"_{short}") or known.startswith(f"{short}_")]
            near = near or get_close_matches(short, names, n=1, cutoff=0.0)
            raise OptionError(
                f"an option of {name} must be one of {', '.join(names)}, got {option!r}; did you mean "
                f"{' or '.join(near)}?"
            )
    return agent.make_config(**{**(presets[preset] if preset else {}), **options})


def with_presets(doc: str | None, agent: Any) -> str | None:
    """Returns an agent's page with what each of its presets changes, and from what."""
    for preset, options in agent.presets.items():
        ours = {option.name: option.default for option in fields(agent.make_config)}
        changed = [
            f"`{name}={value!r}` (ours {ours[name]!r})" for name, value in options.items() if value != ours[name]
        ]
        doc = f"{doc or ''}\n\n    `preset={preset!r}` sets {', '.join(changed)}.\n    "
    return doc


def check(frame_size: int, config: Any) -> None:
    """Raises DataError if an option is out of what its field says; None is for those that may be None.

    Args:
        frame_size: Events of a history that are looked at, 1 or more.
        config: Hyperparameters, a dataclass: numbers say beside their default what must hold, see `number`, and the
            type of a choice names all there are.

    Example:
        >>> from agents.ddpg import Config
        >>> check(10, Config(gamma=1.5))
        Traceback (most recent call last):
        recgym.errors.DataError: gamma must lie in 0..1, got 1.5; leave it out for 0.5
    """
    if frame_size < 1:
        raise DataError(f"frame_size must be at least 1, got {frame_size}; give the events an agent looks at")
    choices = _choices(config.__class__)
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name in choices and value not in choices[option.name]:
            known = ", ".join(map(str, choices[option.name]))
            raise DataError(f"{option.name} must be one of {known}, got {value!r}; choose one of them")
        if value is None or "must" not in option.metadata:
            continue
        words, holds = option.metadata["must"]
        if not (isinstance(value, Real) and holds(value)):
            raise DataError(f"{option.name} must {words}, got {value!r}; leave it out for {option.default}")
    if getattr(config, "reward_range", None) is not None:
        _check_reward_range(config.reward_range, config.gamma)


@cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    """Returns what each field may be whose type is a `Literal`."""
    return {name: get_args(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal}


def _check_reward_range(given: Any, gamma: float) -> None:
    """Raises DataError unless there are two bounds in order, and what they add up to is finite."""
    low, high = given if len(given) == 2 else (1.0, 0.0)
    if not low < high:
        raise DataError(f"reward_range must be two numbers, the lower first, got {given!r}; give e.g. (-1.0, 1.0)")
    if gamma == 1:
        raise DataError(f"with reward_range={given!r} gamma must be below 1, got {gamma}; leave reward_range out")
