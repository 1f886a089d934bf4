"""How arrays get to where an agent lives, and products with a catalog that grew."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """Returns a NumPy array or tensor as a tensor on `device`; shares memory where it can.

    Copies to a device do not hold up the host. Copies to the host do: without waiting, what is read may not have come.
    """
    tensor = array if isinstance(array, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(array))
    return tensor.to(device, non_blocking=device.type != "cpu")


def products(action: torch.Tensor, vectors: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Returns the inner products (B, n_items) of actions (B, d) with vectors (n_items, d).

    Each part of a catalog that grew is multiplied alone: matrix products of other shapes round otherwise, and the
    scores of the items that were there must not move.
    """
    if len(sizes) == 1:
        return action @ vectors.T
    return torch.cat([action @ part.T for part in vectors.split(sizes)], dim=1)
