"""Turning what a file holds (stars, counts, labels) into rewards, by a name that travels as a string."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recgym.errors import DataError

_NAMES = '"scaled", "recnn", "raw", "log1p", "binary:T", "sign:T" or "label:NAME=VALUE,..."'


def transform_rewards(values: object, transform: str = "scaled") -> np.ndarray:
    """Returns rewards (n,) float32 for raw file values (n,), by the named transform.

    | name | reward |
    |---|---|
    | `"scaled"` | `2 * (r - 2.5) / 5`: half stars 0.5 to 5 become -0.8 to 1 (the default) |
    | `"recnn"` | `2 * (r - 2.5)`: -4 to 5, RecNN's own |
    | `"raw"` | the number in the file |
    | `"log1p"` | `log(1 + r)`, for counts, seconds and prices, which have no upper end |
    | `"binary:T"` | 1 where the value is at least T, else 0 |
    | `"sign:T"` | 1 where the value is at least T, else -1 |
    | `"label:pv=1,cart=2"` | the value given for the label; an unnamed label is an error |

    Args:
        values: Numbers (n,), or labels (n,) for a `label:` transform.
        transform: One of the names above.

    Raises:
        DataError: if the name is unknown, a threshold is no number, a label has no value, or `"log1p"` is given a
            number below 0.

    Example:
        >>> transform_rewards([0.5, 2.5, 5.0]).tolist()
        [-0.800000011920929, 0.0, 1.0]
        >>> transform_rewards(["pv", "buy"], "label:pv=1,buy=3").tolist()
        [1.0, 3.0]
    """
    kind, _, argument = transform.partition(":")
    if kind == "label":
        return _from_labels(np.asarray(values), argument)
    numbers = np.asarray(values, dtype=np.float64)  # (n,)
    if kind == "scaled" and not argument:
        numbers = 2.0 * (numbers - 2.5) / 5.0
    elif kind == "recnn" and not argument:
        numbers = 2.0 * (numbers - 2.5)
    elif kind == "log1p" and not argument:
        if n_below := int(np.count_nonzero(numbers < 0)):
            raise DataError(
                f"'log1p' needs numbers of at least 0, got {numbers.min():g} ({n_below} of {len(numbers.ravel())} are "
                f"below); choose 'raw' or another transform"
            )
        numbers = np.log1p(numbers)
    elif kind in ("binary", "sign"):
        liked = numbers >= _threshold(argument, transform)
        numbers = liked.astype(np.float64) if kind == "binary" else np.where(liked, 1.0, -1.0)
    elif transform != "raw":
        raise DataError(f"a reward transform must be {_NAMES}, got {transform!r}; choose one of them")
    return numbers.astype(np.float32)


def takes_labels(transform: str) -> bool:
    """Returns whether the named transform reads labels rather than numbers."""
    return transform.startswith("label:")


def _threshold(argument: str, transform: str) -> float:
    try:
        return float(argument)
    except ValueError:
        message = f"{transform!r} needs a number after the colon, got {argument!r}; write e.g. 'binary:4'"
        raise DataError(message) from None


def _from_labels(labels: np.ndarray, argument: str) -> np.ndarray:
    try:
        value_of = {name.strip(): float(value) for name, value in (pair.split("=") for pair in argument.split(","))}
    except ValueError:
        message = f"a label transform must read 'label:NAME=VALUE,...', got 'label:{argument}'; mend the pairs"
        raise DataError(message) from None
    names, place = np.unique(labels.astype(str), return_inverse=True)
    unknown = [name for name in names if name not in value_of]
    if unknown:
        raise DataError(
            f"every label must have a value, got {_some(unknown)} without one; add them to 'label:{argument}'"
        )
    return np.array([value_of[name] for name in names], dtype=np.float32)[place.ravel()]


def _some(names: Iterable[str], most: int = 3) -> str:
    return str([str(name) for name in names][:most])
