"""What a sweep varies: a TOML file of ranges, and settings drawn from them by a seed and the number of a trial.

```toml
actor_lr = {low = 1e-4, high = 1e-2, log = true}
dropout = {low = 0.0, high = 0.5}
latent_dim = {low = 16, high = 256, whole = true}
hidden = [64, 128, 256]     # one of these
```
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recgym.errors import DataError
from recgym.options import is_number
from recgym.rng import uniforms

Ranges = Mapping[str, Any]


def read_ranges(path: Path) -> dict[str, Any]:
    """Returns the ranges of a file, by the name of what is varied.

    Raises:
        DataError: if the file is not there or no TOML, or a range is none.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} must be a TOML file of ranges, got {error}; see benchmarks/ranges.py") from error
    if not found:
        raise DataError(f"{path} must name what is varied, got nothing; see benchmarks/ranges.py")
    for name, given in found.items():
        _check(name, given)
    return found


def drawn(ranges: Ranges, seed: int, trial: int) -> dict[str, Any]:
    """Returns the settings of a trial: each drawn from its range, whatever other trials there are."""
    shares = uniforms((seed << 32) + trial, len(ranges))
    return {name: _at(given, float(share)) for (name, given), share in zip(sorted(ranges.items()), shares, strict=True)}


def _at(given: Any, share: float) -> Any:
    """Returns what stands at a share of a range, 0 to 1."""
    if isinstance(given, list):
        return given[int(share * len(given))]
    low, high = given["low"], given["high"]
    if given.get("whole"):
        low, high = low, high + 1  # the highest one is as likely as the others
    if given.get("log"):
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return math.floor(value) if given.get("whole") else value


def _check(name: str, given: Any) -> None:
    if isinstance(given, list) and given:
        return
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log", "whole"}:
        raise DataError(
            f"a range must be a list or have low, high and perhaps log or whole, got {name} = {given!r}; mend the file"
        )
    low, high = given["low"], given["high"]
    if not (is_number(low) and is_number(high) and low < high) or (given.get("log") and low <= 0):
        raise DataError(
            f"a range must go from a lower number to a higher one, above 0 where it is logarithmic, got {name} = "
            f"{given!r}; mend the file"
        )
