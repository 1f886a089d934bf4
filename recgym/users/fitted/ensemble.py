"""What learned users need of an ensemble that predicts answers: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Answers(Protocol):
    """Members of an ensemble: how likely every level of answer is, and what is remembered of a session."""

    kind: str
    memory_size: int  # H

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all parameters by name."""
        ...

    def opening(self, users: np.ndarray) -> np.ndarray:
        """Returns what is remembered of users (R,) as a session opens (R, H) float32."""
        ...

    def of_history(self, items: np.ndarray, levels: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Returns what is remembered of pasts (B, T), padded on the left, the last `length` (B,) real (B, H)."""
        ...

    def after(self, memory: np.ndarray, items: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Returns what is remembered (B, H) after answers of levels (B,) to items (B,)."""
        ...

    def below(self, memory: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the chances of at most level 0, 1, ... L - 2 (B, k, M, L - 1) for items (B, k) below n_items."""
        ...

    def below_all(self, memory: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Returns the same for all items (B, n_items, M, L - 1)."""
        ...
