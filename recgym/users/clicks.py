"""Click models: which of the items that would be answered are clicked, given where they stand in the slate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.options import check_choice, is_number
from recgym.rng import RowRandom
from recgym.users import assortment

CLICKS = ("independent", "cascade", "position")
CLICK_STREAM = 8  # random stream that says what is clicked; user models number theirs below


@dataclass(frozen=True)
class Clicks:
    """How clicks on the k places of a slate follow from how attractive each is, `a_1` to `a_k` in 0..1.

    | `model` | a user | probability of a click on place j |
    |---|---|---|
    | `"independent"` | looks at every place | `a_j` |
    | `"position"` | looks at place j with probability `examination ** (j - 1)` | `examination ** (j - 1) * a_j` |
    | `"cascade"` | looks from the top, and no further than the first click | `a_j * product over i < j of (1 - a_i)` |

    Under the first two, places are clicked independently of each other; under `"cascade"` at most one is.

    Source: Craswell et al., "An experimental comparison of click position-bias models", WSDM 2008, section 3: its
    baseline, its examination model with a geometric series for the positions, and its cascade model.

    Raises:
        DataError: if the model is unknown, or a probability is not above 0 and at most 1.

    Example:
        >>> Clicks("cascade", 0.5).probabilities(np.array([[True, False, True]])).tolist()
        [[0.5, 0.0, 0.25]]
    """

    model: str
    attraction: float = 1.0  # of an item that the user would answer; that of any other is 0
    examination: float = 0.85  # of a place, relative to the one above it; for "position" only

    def __post_init__(self) -> None:
        check_choice("clicks", self.model, CLICKS)
        for name in ("attraction", "examination"):
            value = getattr(self, name)
            if not is_number(value) or not 0.0 < value <= 1.0:
                raise DataError(f"{name} must be above 0 and at most 1, got {value!r}; give a probability")

    def draw(self, wanted: Any, random: RowRandom, rows: Any) -> np.ndarray:
        """Returns which places are clicked (B, k) bool.

        Args:
            wanted: Which items the user would answer (B, k) bool, or how likely; False for an empty place.
            random: Streams of all rows.
            rows: The B rows, an index array or slice.
        """
        return self.of_hits(random.uniform(rows, wanted.shape[1], CLICK_STREAM) < self._chance(wanted))

    def of_hits(self, hits: np.ndarray) -> np.ndarray:
        """Returns the clicks (B, k) bool, given which places would be clicked if nothing were clicked above them."""
        return hits & (np.cumsum(hits, axis=1) == 1) if self.model == "cascade" else hits

    def probabilities(self, wanted: Any) -> np.ndarray:
        """Returns the probability of a click on each place (B, k); `wanted` as of `draw`."""
        chance = self._chance(wanted)
        return first_only(chance) if self.model == "cascade" else chance

    def best_slates(self, wanted: Any, gain: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
        """Returns the columns (B, k) of the slate that earns most, see `recgym.users.assortment`.

        Args:
            wanted: Which items the user would answer (B, C) bool, or how likely.
            gain: What an answer is worth, less a miss (B, C).
            offered: Which items may be shown (B, C) bool.
            k: Places.
        """
        chance = wanted * self.attraction
        best = assortment.in_cascade if self.model == "cascade" else assortment.by_place
        return best(chance, gain, offered, k)

    def _chance(self, wanted: Any) -> np.ndarray:
        """Returns the probability (B, k) of a click on each place if nothing were clicked above it."""
        look = self.examination ** np.arange(wanted.shape[1]) if self.model == "position" else 1.0
        return np.asarray(wanted * (self.attraction * look))


def first_only(chance: np.ndarray) -> np.ndarray:
    """Returns how likely each place (B, k) is the first of those that would be clicked with `chance` (B, k)."""
    none_above = np.cumprod(1.0 - chance, axis=1)
    return chance * np.concatenate([np.ones((len(chance), 1)), none_above[:, :-1]], axis=1)


def clicks_of(model: str | None, attraction: float, examination: float) -> Clicks | None:
    """Returns the click model of that name, or None for None: what would be answered is answered."""
    return None if model is None else Clicks(model, attraction, examination)
