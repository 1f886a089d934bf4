"""How a table becomes a log: the names of its columns and the choices made, checked before anything is read."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any

from recgym.datasets.tables.streams import make_limits
from recgym.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_COLUMNS = ("user", "item", "reward", "time", "propensity")
TIES = ("file", "shuffle")
_Transform = Callable[["pd.DataFrame"], "pd.DataFrame"] | str


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table becomes a log. Everything but functions in `transforms` is plain JSON."""

    user: str  # column of user ids: whole numbers or text
    item: str  # column of item ids
    reward: str | None = None  # column of rewards; None: every event is worth 1
    time: str | None = None  # column of times; None: the order of the rows is the order of events
    propensity: str | None = None  # column of the probability with which each item was shown
    extra: Sequence[str] = ()  # further columns to keep with the events
    transform: str = "auto"  # what is made of the reward column: "auto" what fits it, else see `transform_rewards`
    transforms: Sequence[
        _Transform
    ] = ()  # functions DataFrame -> DataFrame applied first, or their names "module:function"
    duplicates: str = "keep"  # a user's several events with one item: "keep", "first", "last" or "error"
    missing: str = "error"  # rows without user, item, reward, time or propensity: "error" or "drop"
    missing_words: Sequence[str] = MISSING_WORDS  # what stands for a missing value in a CSV file
    min_events: int = 1  # users with fewer events are left out
    top_items: int | None = None  # only so many of the most frequent items are kept
    separator: str = ","  # of a CSV file: one character or several
    encoding: str = "utf-8"  # of a CSV file
    quote: str | None = '"'  # what a CSV file puts around fields that hold a separator; None: it is an ordinary letter
    escape: str | None = None  # what a CSV file puts before a letter that is to be ordinary
    comment: str | None = None  # lines of a CSV file that begin with this letter are left out
    decimal: str = "."  # of numbers in a CSV file: "." or ","
    header: int | None = 0  # None: a CSV file begins with its first event
    names: Sequence[str] = ()  # of the columns of a CSV file, instead of its header; without one "0", "1", ...
    ties: str = "file"  # order of a user's events of one time: as in the "file", or "shuffle", which no id can tell
    limits: Mapping[str, int] = field(default_factory=dict)  # what a file may ask of this machine, see `Limits`
    time_unit: str | None = None  # of numeric times: a unit of `Clock`; None tells it from their size
    time_format: str | None = None  # of dates as text, in the letters of strptime; None reads ISO 8601

    @property
    def needed(self) -> list[str]:
        """Names of the columns that must be there."""
        named = [self.user, self.item, self.reward, self.time, self.propensity, *self.extra]
        return list(dict.fromkeys(name for name in named if name is not None))


def make_options(options: dict[str, Any]) -> TableOptions:
    """Returns the options after checking their names and choices.

    Raises:
        DataError: if a name is unknown or missing, or a choice is none of those there are.
    """
    known = [field.name for field in fields(TableOptions)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(f"options of a table must be among {', '.join(known)}, got {', '.join(unknown)}; drop those")
    lacking = [name for name in ("user", "item") if name not in options]
    if lacking:
        raise DataError(
            f"a table needs user= and item=, the names of its columns, got no {' and no '.join(lacking)}; name it"
        )
    named = {name: str(value) for name, value in options.items() if name in _COLUMNS and isinstance(value, int)}
    made = TableOptions(**(options | named))
    _check_types(made)
    for name in ("extra", "transforms", "missing_words", "names"):
        if isinstance(getattr(made, name), str):
            raise DataError(f"{name} must be a list, got {getattr(made, name)!r}; put it in brackets")
    _check_dialect(made)
    make_limits(made.limits)
    try:
        codecs.lookup(made.encoding)
    except LookupError:
        raise DataError(f"encoding must be one Python knows, got {made.encoding!r}; use e.g. 'latin-1'") from None
    check_ties(made.ties)
    if made.ties == "shuffle" and made.time is None:
        raise DataError("ties='shuffle' needs times, got no time= column; name it, or drop ties")
    if made.missing not in ("error", "drop"):
        raise DataError(f"missing must be 'error' or 'drop', got {made.missing!r}; choose one of them")
    return made


def _check_types(made: TableOptions) -> None:
    """Raises a DataError unless each option is of a type that can be meant."""
    nothing = type(None)
    musts: dict[str, tuple[tuple[type, ...], str]] = {
        **dict.fromkeys(("user", "item", "separator", "encoding", "transform"), ((str,), "text")),
        **dict.fromkeys(("reward", "time", "propensity", "time_unit", "time_format"), ((str, nothing), "text")),
        **dict.fromkeys(("extra", "transforms", "missing_words", "names"), ((Iterable,), "a list")),
        **dict.fromkeys(("min_events", "top_items"), ((Real, nothing), "a whole number")),
        "limits": ((Mapping,), "a dictionary"),
    }
    for name, (types, called) in musts.items():
        value = getattr(made, name)
        if not isinstance(value, types):
            raise DataError(f"{name} must be {called}, got {value!r} ({type(value).__name__}); mend it")
    for function in made.transforms:
        if not callable(function) and not isinstance(function, str):
            raise DataError(f"transforms must be functions or their names, got {function!r}; mend that one")


def _check_dialect(made: TableOptions) -> None:
    """Raises a DataError unless the letters of a CSV file can be told apart."""
    if not made.separator or set(made.separator) & {"\n", "\r"}:
        raise DataError(f"separator must be one character or several, got {made.separator!r}; give e.g. a tab")
    single = {"quote": made.quote, "escape": made.escape, "comment": made.comment}
    for name, value in single.items():
        if value is not None and (not isinstance(value, str) or len(value) != 1 or value in "\n\r"):
            raise DataError(f"{name} must be one character or None, got {value!r}; give e.g. None")
    letters = [value for value in (*single.values(), *made.separator[:1]) if value is not None]
    if len(set(letters)) < len(letters):
        raise DataError(f"separator, quote, escape and comment must differ, got {letters}; change one of them")
    if made.decimal not in (".", ",") or made.decimal == made.separator:
        raise DataError(
            f"decimal must be '.' or ',' and not the separator, got {made.decimal!r} beside the separator "
            f"{made.separator!r}; name the separator of the file"
        )
    if made.header not in (0, None) or isinstance(made.header, bool):
        raise DataError(f"header must be 0 (the first line holds names) or None (none does), got {made.header!r}")
    if len(set(made.names)) < len(made.names):
        raise DataError(f"names must differ, got {list(made.names)}; name each column once")


def check_ties(ties: str) -> None:
    """Raises a DataError unless there is such an order of events of one time."""
    if ties not in TIES:
        raise DataError(f"ties must be 'file' or 'shuffle', got {ties!r}; choose one of them")
