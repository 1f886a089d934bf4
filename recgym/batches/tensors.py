"""NumPy columns as torch tensors on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recgym.errors import DataError


def to_device(columns: Any, device: str | torch.device) -> Any:
    """Returns a NamedTuple of NumPy arrays (or None) as one of tensors on `device`; read-only arrays are copied."""
    return type(columns)(*(None if column is None else moved(column, device) for column in columns))


def moved(array: np.ndarray, device: str | torch.device) -> torch.Tensor:
    """Returns a NumPy array as a tensor on `device`, in the same memory if it can be; read-only ones are copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def on_device(array: np.ndarray, device: str | torch.device, dtype: str) -> torch.Tensor:
    """Returns a copy of an array on `device` as `"float32"` or `"bfloat16"`."""
    return torch.tensor(array, device=device, dtype=getattr(torch, dtype))


def gather(table: torch.Tensor, items: torch.Tensor, out: torch.Tensor) -> None:
    """Writes the rows of a table (n, d) that items (B, m) name into `out` (B, m, d), which is contiguous."""
    torch.index_select(table, 0, items.reshape(-1), out=out.view(-1, table.shape[1]))


def bfloat16_bits(numbers: np.ndarray | torch.Tensor) -> np.ndarray:
    """Returns float32 numbers rounded to bfloat16, as the int16 that has its bits: NumPy has no such type."""
    return torch.as_tensor(np.require(numbers, requirements=["C", "W"])).bfloat16().view(torch.int16).numpy()


def shared(array: np.ndarray, dtype: str) -> torch.Tensor:
    """Returns the tensor of the same memory; `"bfloat16"` takes int16 for its bits."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def best_device() -> str:
    """Returns `"cuda"` where there is one, else `"cpu"`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Returns the torch device named; `"auto"` is CUDA where there is one, else the CPU.

    Raises:
        DataError: if this machine has no such device, or torch cannot use it.
    """
    try:
        found = torch.device(best_device() if str(device) == "auto" else device)
        torch.empty(0, device=found)
    except (AssertionError, RuntimeError) as error:  # what torch raises depends on how it was built
        why = str(error).partition("\n")[0]
        raise DataError(f'device must be one that is here, got {str(device)!r} ({why}); use "cpu" or "auto"') from error
    return found
