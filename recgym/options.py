"""Checks of what one may ask an environment or user model for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from recgym.errors import DataError, OptionError

P = ParamSpec("P")
Given = TypeVar("Given")  # a dataclass of options
R = TypeVar("R")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises DataError unless `value` is one of the choices.

    Example:
        >>> check_choice("repeats", "never", ("mask", "zero"))
        Traceback (most recent call last):
        recgym.errors.DataError: repeats must be one of ('mask', 'zero'), got 'never'; choose one of them
    """
    if value not in choices:
        hint = nearest(value, map(str, choices)) or "choose one of them"
        raise DataError(f"{name} must be one of {choices}, got {value!r}; {hint}")


def nearest(name: Any, known: Iterable[str], most: int = 3) -> str:
    """Returns, for the end of a message, the known names most like a mistyped one: "did you mean 'a' or 'b'?", or "".

    Letters' case and whatever stands between letters do not count.

    Example:
        >>> nearest("ml100k", ["ml-1m", "ml-100k", "coat"])
        "did you mean 'ml-100k'?"
    """
    plain = {"".join(filter(str.isalnum, one.lower())): one for one in reversed(list(known))}
    asked = "".join(filter(str.isalnum, str(name).lower()))
    close = [asked] if asked in plain else get_close_matches(asked, plain, n=most, cutoff=0.7)
    found = [plain[one] for one in close]
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""


def check_sizes(**sizes: int) -> None:
    """Raises DataError unless every size is an integer of at least 1."""
    for name, size in sizes.items():
        if not is_whole(size):
            raise DataError(f"{name} must be an integer of at least 1, got {size!r}; give a whole number")
        if size < 1:
            raise DataError(f"{name} must be an integer of at least 1, got {size!r}; raise it")


def check_finite(**numbers: float) -> None:
    """Raises DataError unless every number is one, and finite.

    Example:
        >>> check_finite(miss_reward=float("nan"))
        Traceback (most recent call last):
        recgym.errors.DataError: miss_reward must be a finite number, got nan; give e.g. 0.0
    """
    for name, number in numbers.items():
        if not is_number(number):
            raise DataError(f"{name} must be a finite number, got {number!r}; give e.g. 0.0")


def check_within(low: float, high: float, /, **numbers: float) -> None:
    """Raises DataError unless every number lies between `low` and `high`, or is finite where they are not.

    Example:
        >>> check_within(0.0, 1.0, inertia=5)
        Traceback (most recent call last):
        recgym.errors.DataError: inertia must be a number from 0 to 1, got 5; choose one of these
    """
    for name, number in numbers.items():
        if not is_number(number) or not low <= number <= high:
            span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
            raise DataError(f"{name} must be a number {span}, got {number!r}; choose one of these")


def check_whole(**numbers: int) -> None:
    """Raises DataError unless every number is a whole one."""
    for name, number in numbers.items():
        if not is_whole(number):
            raise DataError(f"{name} must be a whole number, got {number!r}; give e.g. 0")


def check_seed(seed: int, bits: int = 62) -> None:
    """Raises DataError unless a seed is a whole number of at least 0, and below 2**bits: NumPy and torch take these."""
    if not is_whole(seed) or not 0 <= seed < 2**bits:
        raise DataError(f"seed must be a whole number of at least 0 and below 2**{bits}, got {seed!r}; give e.g. 0")


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number, true and false not being numbers."""
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number, true and false not being numbers."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_items(user_items: np.ndarray, catalog_items: np.ndarray, k: int, frame_size: int = 0) -> None:
    """Raises DataError unless both item ids are the same (n_items,), and enough for a slate beside those of a frame.

    Args:
        user_items: Of the users.
        catalog_items: Of the catalog.
        k: Items of a slate.
        frame_size: Items that must not be shown; 0 where any may.
    """
    if not np.array_equal(user_items, catalog_items):
        raise DataError(
            f"users and catalog must have the same items in the same order, got {len(user_items)} and "
            f"{len(catalog_items)} items that differ; make the vectors from the log the users come from"
        )
    if len(catalog_items) < frame_size + k:
        least, lower = (f"frame_size + k = {frame_size + k}", "frame_size or k") if frame_size else (f"k = {k}", "k")
        more = "; or pass repeats='allow' or 'zero', where what stood in a frame may be shown" if frame_size else ""
        raise DataError(f"n_items must be at least {least}, got {len(catalog_items)}; lower {lower}{more}")


def check_slate(k: int, n_candidates: int | None) -> None:
    """Raises DataError if a slate has more places than there are candidates (None: all items are)."""
    if n_candidates is not None and k > n_candidates:
        raise DataError(f"k must be at most n_candidates = {n_candidates}, got {k}; lower k or raise n_candidates")


def reset_mask(mask: Any, n_rows: int) -> np.ndarray | None:
    """Returns the rows to reset (n_rows,) bool as a copy, or None for all.

    Raises:
        DataError: unless it is a NumPy bool array of that shape with a True in it.
    """
    if mask is None:
        return None
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (n_rows,) or not mask.any():
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise DataError(
            f"reset_mask must be a NumPy bool array ({n_rows},) with at least one True, got {got}; mark rows to reset"
        )
    return mask.copy()


def asked_users(user: Any, n_rows: int, servable: np.ndarray) -> np.ndarray | None:
    """Returns who opens each session (n_rows,) int64, or None where nobody is asked for.

    Args:
        user: A user index, one per row, or None.
        n_rows: Number of rows.
        servable: User indices that can open a session.

    Raises:
        DataError: if it is no index, of a wrong shape, or not servable.
    """
    if user is None:
        return None
    users = np.asarray(user)
    if users.dtype.kind not in "iu" or users.shape not in ((), (1,), (n_rows,)):
        raise DataError(f"option 'user' must be a user index or one per row ({n_rows},), got {user!r}; give indices")
    known = np.isin(users, servable)
    if not known.all():
        raise DataError(
            f"every asked user must be servable, got {users[~known][:3].tolist()} ({np.count_nonzero(~known)} of "
            f"{users.size}) not among the {len(servable)} that are; choose from env.users.servable"
        )
    return np.broadcast_to(users, (n_rows,)).astype(np.int64)


def row_seeds(seed: Any, n_rows: int) -> list[int | None]:
    """Returns the seed of each row: `seed + i` for an int, the list itself for a list; None goes on without.

    Raises:
        DataError: if a list has not one entry per row, or one that is no seed.
    """
    if isinstance(seed, Integral):
        return [int(seed) + row for row in range(n_rows)]
    if np.ndim(seed) != 1 or len(seed) != n_rows:
        raise DataError(f"seeds must be one per row ({n_rows}), got {seed!r:.60}; give an int or a full list")
    bad = [one for one in seed if one is not None and not (is_whole(one) and one >= 0)]
    if bad:
        raise DataError(
            f"every seed must be a whole number of at least 0, or None, got {bad[:3]!r} ({len(bad)} of {n_rows}); "
            "give e.g. 0"
        )
    return list(seed)


class Accepted(NamedTuple):
    """The options something takes."""

    defaults: Mapping[str, Any]  # by name; None where there is none
    others: bool = False  # whether it hands further ones on


def takes(options: Callable[P, Given]) -> Callable[[Callable[[Given], R]], Callable[P, R]]:
    """Declares what a function is asked for: the fields of a dataclass, given to it as one object.

    Callers give keyword arguments, which editors and type checkers know as those of the dataclass; `accepted` and the
    pages of environments read its fields.

    Raises:
        OptionError: at a call with a name that is no field; it says which there are, and the nearest.
    """

    def declare(function: Callable[[Given], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **given: P.kwargs) -> R:
            check_known(function.__module__.rpartition(".")[2], given, accepted(options).defaults)
            return function(options(*args, **given))

        call.takes = options  # type: ignore[attr-defined]
        call.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        return call

    return declare


def accepted(source: Any) -> Accepted:
    """Returns the options that a function or class takes by name: declared by `takes`, fields, or its parameters."""
    source = getattr(source, "takes", source)
    if is_dataclass(source):
        return Accepted({one.name: None if one.default is MISSING else one.default for one in fields(source)})
    named = inspect.signature(source).parameters.values()
    return Accepted(
        {
            one.name: None if one.default is one.empty else one.default
            for one in named
            if one.kind is not one.VAR_KEYWORD
        },
        any(one.kind is one.VAR_KEYWORD for one in named),
    )


def check_known(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises OptionError, which names all there are and the nearest, if some option is not among those known."""
    known = list(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        words = f"unexpected keyword argument {', '.join(map(repr, unknown))}"  # what TorchRL's GymEnv listens for
        raise OptionError(
            f"options of {name} must be among {', '.join(known)}, got {', '.join(unknown)}; "
            f"{nearest(unknown[0], known) or 'drop those'} ({words})"
        )
