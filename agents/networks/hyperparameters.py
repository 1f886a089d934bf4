"""The ranges that hyperparameters must lie in: one table for every agent, by the names of their `Config` fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from numbers import Real
from typing import Any

from agents.networks.layers import PRECISIONS
from recgym.errors import DataError, OptionError
from recgym.options import is_whole

_Holds = Callable[[Any], bool]
_RANGES: Mapping[str, tuple[_Holds, str]] = {  # what must hold of an option, how that is seen, and of which
    "lie in 0..1": (lambda x: 0 <= x <= 1, "gamma epsilon priority_beta smaller tau theta unnamed"),
    "lie in 0..1, 1 excluded": (lambda x: 0 <= x < 1, "dropout"),
    "be above 0": (
        lambda x: x > 0,
        "alpha_init input_scale latent_clip lr max_norm reward_scale temperature weight_cap",
    ),
    "be at least 0": (
        lambda x: x >= 0,
        "actor_init actor_lr alpha_lr bc_weight beta_lr conservative critic_init critic_lr encoder_lr generator_lr "
        "kl_weight click_weight noise noise_clip phi priority_alpha q_weight target_noise weight_decay",
    ),
    "be a whole number of at least 0": (
        lambda x: is_whole(x) and x >= 0,
        "advantage_after n_negatives n_users policy_negatives value_after",
    ),
    "be a whole number of at least 1": (
        lambda x: is_whole(x) and x >= 1,
        "beta_steps generator_hidden hidden k latent_dim max_length n_heads n_layers n_samples policy_delay width",
    ),
}
BOUNDS = {name: (words, holds) for words, (holds, names) in _RANGES.items() for name in names.split()}


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
    names = sorted(field.name for field in fields(agent.make_config))
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
        ours = {field.name: field.default for field in fields(agent.make_config)}
        changed = [
            f"`{name}={value!r}` (ours {ours[name]!r})" for name, value in options.items() if value != ours[name]
        ]
        doc = f"{doc or ''}\n\n    `preset={preset!r}` sets {', '.join(changed)}.\n    "
    return doc


def check(frame_size: int, config: Any) -> None:
    """Raises DataError if an option that agents share is unknown or out of range; None is for those that may be None.

    Args:
        frame_size: Events of a history that are looked at, 1 or more.
        config: Hyperparameters, a dataclass. Those without an entry here are not looked at.

    Example:
        >>> from agents.ddpg import Config
        >>> check(10, Config(gamma=1.5))
        Traceback (most recent call last):
        recgym.errors.DataError: gamma must lie in 0..1, got 1.5; leave it out for 0.5
    """
    if frame_size < 1:
        raise DataError(f"frame_size must be at least 1, got {frame_size}; give the events an agent looks at")
    if config.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise DataError(f"precision must be one of {known}, got {config.precision!r}; choose one of them")
    for field in fields(config):
        value = getattr(config, field.name)
        if value is None or field.name not in BOUNDS:
            continue
        words, holds = BOUNDS[field.name]
        if not (isinstance(value, Real) and holds(value)):
            raise DataError(f"{field.name} must {words}, got {value!r}; leave it out for {field.default}")
    if getattr(config, "reward_range", None) is not None:
        _check_reward_range(config.reward_range, config.gamma)


def _check_reward_range(given: Any, gamma: float) -> None:
    """Raises DataError unless there are two bounds in order, and what they add up to is finite."""
    low, high = given if len(given) == 2 else (1.0, 0.0)
    if not low < high:
        raise DataError(f"reward_range must be two numbers, the lower first, got {given!r}; give e.g. (-1.0, 1.0)")
    if gamma == 1:
        raise DataError(f"with reward_range={given!r} gamma must be below 1, got {gamma}; leave reward_range out")
