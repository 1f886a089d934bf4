"""NumPy columns as torch tensors on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_device(columns: Any, device: str | torch.device) -> Any:
    """Returns a NamedTuple of NumPy arrays (or None) as one of tensors on `device`; read-only arrays are copied."""
    target = torch.device(device)
    moved = [
        None if column is None else torch.from_numpy(np.require(column, requirements=["C", "W"])).to(target)
        for column in columns
    ]
    return type(columns)(*moved)
