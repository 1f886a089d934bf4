"""Data sets from outside this project: registered by a call, or by an installed package's entry points."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from recgym.errors import DataError, OptionError
from recgym.log import InteractionLog

GROUP = "recgym.datasets"  # of entry points: NAME = "package.module:loader"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


class Registered(NamedTuple):
    """Where a data set comes from, and the options it is loaded with."""

    source: Any  # a function that returns the log, an address for `recgym.datasets.load`, a log, or an entry point
    options: dict[str, Any]

    @property
    def about(self) -> str:
        """Where it comes from, in words."""
        if isinstance(self.source, EntryPoint):
            return f"the entry point {self.source.value}"
        return getattr(self.source, "__qualname__", None) or (
            self.source if isinstance(self.source, str) else f"a {type(self.source).__name__} in memory"
        )


_HERE: dict[str, Registered] = {}


def add(name: str, source: Any, options: dict[str, Any]) -> None:
    """Registers a data set in this process; the newest of one name counts.

    Raises:
        DataError: if the name has characters that ids and file names cannot have.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DataError(
            f"the name of a data set must be letters, digits, '.', '_' and '-', got {name!r}; choose e.g. 'my-plays'"
        )
    _HERE[name] = Registered(source, options)


def found() -> dict[str, Registered]:
    """Returns every registered data set by name; entry points are not loaded."""
    points = {point.name: Registered(point, {}) for point in entry_points(group=GROUP)}
    return points | _HERE


def load(name: str, given: dict[str, Any], by_address: Callable[..., InteractionLog]) -> InteractionLog:
    """Returns the log of a registered data set.

    Args:
        name: One of `found()`.
        given: Options, which count before those it was registered with.
        by_address: What loads an address, with its options.

    Raises:
        DataError: if an entry point cannot be imported, an option is unknown, or what is loaded is no log.
    """
    source, own = found()[name]
    options = own | given
    if isinstance(source, EntryPoint):
        source = loaded(source)
    if callable(source):
        _check_bound(name, source, options)
        source = source(**options)
    elif not isinstance(source, InteractionLog):
        source = by_address(source, **options)
    elif options:
        raise OptionError(
            f"{name} is a log that is made already and takes no option, got {', '.join(options)}; drop it"
        )
    if not isinstance(source, InteractionLog):
        raise DataError(
            f"what loads the data set {name!r} must return an InteractionLog, got {type(source).__name__}; mend it"
        )
    return replace(source, name=name)


def loaded(point: EntryPoint) -> Any:
    """Returns what an entry point stands for.

    Raises:
        DataError: if it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # whatever a foreign module does when it is imported
        raise DataError(
            f"the entry point {point.name} = {point.value} must be importable, got {type(error).__name__}: {error}; "
            f"mend or remove the package that brings it"
        ) from error


def _check_bound(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin that tells no signature
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise OptionError(
            f"options of {name} must be among {known}, got {', '.join(options)} ({error}); mend them"
        ) from None
