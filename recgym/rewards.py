"""Turning what a file holds (stars, counts, labels) into rewards, by a name that travels as a string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from recgym.errors import DataError

_NAMES = '"scaled", "scaled:T", "recnn", "raw", "log1p", "binary:T", "sign:T" or "label:NAME=VALUE,..."'
_TOPS = (5.0, 10.0)  # of scales of stars
_HEAVY = 10  # times the typical value: what a tail is heavy from


def transform_rewards(values: object, transform: str = "scaled") -> np.ndarray:
    """Returns rewards (n,) float32 for raw file values (n,), by the named transform.

    | name | reward |
    |---|---|
    | `"scaled"` | `2 * (r - 2.5) / 5`: half stars 0.5 to 5 become -0.8 to 1 (the default) |
    | `"scaled:T"` | the same of T stars: `2 * (r - T / 2) / T`, so that 10 of 10 is 1 |
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
    if kind == "scaled":
        top = _threshold(argument, transform) if argument else 5.0
        if not 0 < top < np.inf:
            raise DataError(f"the highest star must be above 0, got {transform!r}; write e.g. 'scaled:10'")
        numbers = 2.0 * (numbers - top / 2.0) / top
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


class Look:
    """What the numbers of a column look like, of which each block is seen once, and the transform that fits them.

    | numbers | transform |
    |---|---|
    | within -1 and 1, or some below 0 | `"raw"` |
    | whole and half stars up to 5 or 10, most in the upper half of the scale | `"scaled"`, `"scaled:10"` |
    | the highest over ten times the typical one above 0, as of counts, seconds and prices | `"log1p"` |
    | others | `"raw"` |

    Example:
        >>> [fitting_transform(one) for one in ([0, 1, 1], [4.5, 3, 5, 1], [8, 9, 10, 2], [1, 1, 2, 90], [60, 300])]
        ['raw', 'scaled', 'scaled:10', 'log1p', 'raw']
    """

    def __init__(self) -> None:
        self._n = 0
        self._low, self._high = np.inf, -np.inf
        self._has_halves_only = True
        self._upper = dict.fromkeys(_TOPS, 0)  # how many are in the upper half of a scale
        self._sizes = np.zeros(2048, dtype=np.int64)  # how many have each of a float's exponents, which has 11 bits

    def add(self, numbers: np.ndarray) -> None:
        """Looks at the next numbers (n,), all of them finite."""
        if len(numbers) == 0:
            return
        self._n += len(numbers)
        self._low, self._high = min(self._low, float(numbers.min())), max(self._high, float(numbers.max()))
        if self._low < 0:  # then the rest decides nothing
            return
        if self._has_halves_only and self._high <= _TOPS[-1]:
            doubled = 2.0 * numbers
            self._has_halves_only = bool((doubled == np.rint(doubled)).all())
        for top in _TOPS:
            self._upper[top] += int(np.count_nonzero(numbers >= top / 2.0))
        exponents = np.ascontiguousarray(numbers, dtype=np.float64).view(np.int64) >> 52 & 2047
        self._sizes += np.bincount(exponents, minlength=len(self._sizes))

    def transform(self) -> str:
        """Returns the name of the transform that fits all numbers seen."""
        if self._n == 0 or self._low < 0 or self._high <= 1:
            return "raw"
        top = next((top for top in _TOPS if 0.7 * top < self._high <= top), None)
        if top is not None and self._has_halves_only and 2 * self._upper[top] > self._n:
            return "scaled" if top == _TOPS[0] else f"scaled:{top:g}"
        above_zero = np.cumsum(self._sizes[1:])
        median = int(np.searchsorted(above_zero, above_zero[-1] / 2))
        typical = 2.0 ** (median - 1021)  # the power of two above the median
        return "log1p" if self._high > _HEAVY * typical else "raw"


def fitting_transform(numbers: object) -> str:
    """Returns the name of the transform that numbers (n,) look like, see `Look`; NaN is not looked at."""
    look, given = Look(), np.asarray(numbers, dtype=np.float64).ravel()
    look.add(given[np.isfinite(given)])
    return look.transform()


def check_ratings(ratings: Sequence[Any], transform: str, what: str = "every rating") -> None:
    """Raises a DataError unless ratings (n,) are numbers that a file read with the named transform may hold.

    Stars end where their scale does, `"log1p"` begins at 0; other transforms take any finite number, and labels are
    looked up by `transform_rewards`.
    """
    if takes_labels(transform):
        return
    kind, _, argument = transform.partition(":")
    scales = {"recnn": (0.0, 5.0), "log1p": (0.0, np.inf)}
    scales |= {"scaled": (0.0, _threshold(argument, transform) if argument and kind == "scaled" else 5.0)}
    low, high = scales.get(kind, (-np.inf, np.inf))
    if all(type(one) in (int, float) and -np.inf < one < np.inf and low <= one <= high for one in ratings):
        return
    wrong = [one for one in ratings if not isinstance(one, Real | np.bool_) or not np.isfinite(float(one))]
    must = "be a finite number"
    if not wrong:
        wrong = [one for one in ratings if not low <= float(one) <= high]
        must = f"lie between {low:g} and {high:g}, as rewards are {transform!r}"
    if wrong:
        raise DataError(
            f"{what} must {must}, got {wrong[0]!r} ({len(wrong)} of {len(ratings)}); give what the source file has"
        )


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
