"""The quality suite: protocols that published figures exist for, their rows, and the tables made of them.

`python -m benchmarks.run --suite quality` runs every protocol of `PROTOCOLS`; a protocol more is one more line there.
`entries.py` holds the rows and their hyperparameters, `tasks.py` the protocols Q1 to Q4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """What the command line asks of a protocol."""

    folder: Path  # where rows go
    trained: Path  # where trained agents are kept
    rows: tuple[str, ...] = ()  # names of rows to run; none means all, or just `own`
    own: tuple[Any, ...] = ()  # rows of the caller's own, each a `benchmarks.suites.Entry`
    n_seeds: int | None = None  # seeds of each learner; None takes what its row says
    device: str = "auto"
    force: bool = False  # whether to run what has rows already
    small: bool = False  # a size that ends in seconds
    facts: Mapping[str, str] = field(default_factory=dict)  # commit, dirty, versions: columns of every row


def _later(module: str, *arguments: Any) -> Callable[[Options], None]:
    """Returns a function of options that imports its module when it is called."""
    return partial(_call, module, arguments)


def _call(module: str, arguments: tuple[Any, ...], options: Options) -> None:
    import_module(module).run(*arguments, options)


PROTOCOLS: Mapping[str, Callable[[Options], None]] = {  # name -> what runs it
    "Q1": _later("benchmarks.quality.ranking", "Q1"),
    "Q2": _later("benchmarks.quality.ranking", "Q2"),
    "Q3": _later("benchmarks.quality.ranking", "Q3"),
    "Q3 masked": _later("benchmarks.quality.ranking", "Q3 masked"),
    "Q4": _later("benchmarks.quality.ranking", "Q4"),
    "Q5": _later("benchmarks.longterm"),
}


def run(names: list[str], options: Options) -> None:
    """Runs protocols, all of them if none is named; "Q3" stands for both of its forms.

    Raises:
        SystemExit: if there is no such protocol.
    """
    for name in names:
        if name not in PROTOCOLS:
            raise SystemExit(f"a protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}; choose one of them")
    for name in PROTOCOLS:
        if not names or name in names or name.split()[0] in names:
            PROTOCOLS[name](options)
