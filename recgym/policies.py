"""What can be asked for a recommendation, and the two floors every table carries: uniform and popularity."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from recgym.frames import History


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores every item for a batch of histories; larger is better. Evaluation asks nothing else."""

    item_ids: np.ndarray  # (n_items,) outside ids, in index order
    reward: str  # name of the reward transform of the log it was made from (see `transform_rewards`)

    def scores(self, history: History) -> Any:
        """Returns scores (B, n_items) float, NumPy or torch; NaN is refused by whoever asks."""
        ...
