"""Batches with their item vectors: gathered once into reused memory, frames as views or in RecNN's flat layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from recgym.batches.frame_batches import FrameBatches
from recgym.batches.windows import Windows
from recgym.errors import DataError
from recgym.frames import Batch

_SCRATCH = 1 << 17  # numbers gathered at a time where they are copied on: they stay in the processor's cache


class VectorBatch(NamedTuple):
    """B decisions with vectors, as views of one gather. NumPy or torch, float32 or bfloat16."""

    embeddings: Any  # (B, F+1, d) vectors of the frame, oldest first, and of the action
    rewards: Any  # (B, F+1) rewards of the same
    batch: Batch  # the same decisions as indices

    @property
    def state(self) -> tuple[Any, Any]:
        """The frame before the action: vectors (B, F, d) and rewards (B, F)."""
        return self.embeddings[:, :-1], self.rewards[:, :-1]

    @property
    def next_state(self) -> tuple[Any, Any]:
        """The frame with the action at its end: vectors (B, F, d) and rewards (B, F)."""
        return self.embeddings[:, 1:], self.rewards[:, 1:]

    @property
    def action(self) -> Any:
        """Vectors of the actions (B, d)."""
        return self.embeddings[:, -1]


class FlatBatch(NamedTuple):
    """B decisions with vectors in the layout of `encode_frame`. NumPy or torch, float32 or bfloat16."""

    state: Any  # (B, F*(d+1)) all vectors oldest first, then all rewards oldest first
    action: Any  # (B, d)
    next_state: Any  # (B, F*(d+1))
    batch: Batch  # the same decisions as indices


class VectorBatches:
    """The batches of `FrameBatches` with item vectors; each is valid until the next one, unless `copy` is asked for.

    It has no place of its own: iterating moves `batches` on, and saving and loading states are theirs. Vectors are
    written into memory that the next batch is written into again, which is several times quicker than fresh memory; on
    CUDA they are gathered there from a table that was copied once, and every batch has memory of its own.

    Args:
        batches: Which decisions, and on which device.
        table: Item vectors with the padding row last (n_items + 1, d), e.g. `catalog.table`.
        flat: Whether to yield `FlatBatch`, two copies of almost the same numbers, instead of `VectorBatch`.
        dtype: `"float32"` or, for torch tensors, `"bfloat16"`.
        copy: Whether every batch gets memory of its own.
        threads: How many threads write a batch; two are worth it from about 1,000 rows on. CUDA has its own.

    Raises:
        DataError: if the table does not fit the log, the type is unknown or one that NumPy lacks, or `threads` is below
            1.

    Example:
        >>> log = InteractionLog.from_events([1] * 4, [10, 20, 30, 40], [1, 2, 3, 4])
        >>> table = np.array([[0.5], [1.5], [2.5], [3.5], [0.0]])  # four items and the padding
        >>> batches = FrameBatches(log, frame_size=2, batch_size=2, shuffle=False)
        >>> batch = next(iter(VectorBatches(batches, table)))
        >>> batch.embeddings[..., 0].tolist()
        [[0.5, 1.5, 2.5], [1.5, 2.5, 3.5]]
        >>> next(iter(VectorBatches(batches, table, flat=True))).state.tolist()
        [[0.5, 1.5, 1.0, 2.0], [1.5, 2.5, 2.0, 3.0]]
    """

    def __init__(
        self,
        batches: FrameBatches,
        table: Any,
        *,
        flat: bool = False,
        dtype: str = "float32",
        copy: bool = False,
        threads: int = 1,
    ) -> None:
        table = np.asarray(table, dtype=np.float32)
        n_items = batches.log.n_items
        if table.ndim != 2 or len(table) != n_items + 1 or table.shape[1] == 0:
            raise DataError(
                f"table must have shape (n_items + 1, d) with n_items={n_items} as in the log, got {table.shape}; "
                "give catalog.table of a catalog made from this log"
            )
        if dtype not in ("float32", "bfloat16"):
            raise DataError(f"dtype must be float32 or bfloat16, got {dtype!r}; choose one of them")
        if dtype == "bfloat16" and batches.device is None:
            raise DataError("bfloat16 needs torch tensors, got batches of NumPy arrays; make them with device='cpu'")
        if threads < 1:
            raise DataError(f"threads must be at least 1, got {threads}; give how many write a batch")
        self.batches, self.flat, self.copy = batches, flat, copy
        self.threads = threads if batches.on_host else 1
        self._others = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self.dim = table.shape[1]
        self.dtype, self._table, self._kept = dtype, table, dict[str, np.ndarray]()
        if batches.on_host:
            self._table = self._stored(table)
        else:
            from recgym.batches.tensors import on_device

            self._table = on_device(table, batches.device, dtype)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[VectorBatch | FlatBatch]:
        return map(self._flat if self.flat else self._views, self.batches.windows())

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of `batches`."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Gives `batches` that state."""
        self.batches.load_state_dict(state)

    def _views(self, windows: Windows) -> VectorBatch:
        vectors = self._room("vectors", *windows.items.shape, self.dim)
        self._share(len(vectors), lambda rows, _: self._gather(windows.items[rows], vectors[rows]))
        rewards = self._given(self._stored(windows.rewards))
        return VectorBatch(self._given(vectors), rewards, self.batches.decisions(windows))

    def _flat(self, windows: Windows) -> FlatBatch:
        n_rows, n_events = windows.items.shape
        size = (n_events - 1) * self.dim
        state = self._room("state", n_rows, size + n_events - 1)
        next_state = self._room("next_state", n_rows, size + n_events - 1)
        action = self._room("action", n_rows, self.dim)

        def write(share: slice, thread: int) -> None:
            at_once = max(_SCRATCH // (n_events * self.dim), 1) if self.batches.on_host else n_rows
            for first in range(share.start, share.stop, at_once):
                rows = slice(first, min(first + at_once, share.stop))
                vectors = self._room(f"scratch {thread}", rows.stop - first, n_events, self.dim)
                self._gather(windows.items[rows], vectors)
                vectors = vectors.reshape(rows.stop - first, -1)  # (rows, (F+1)*d)
                state[rows, :size], next_state[rows, :size] = vectors[:, :size], vectors[:, self.dim :]
                action[rows] = vectors[:, size:]

        self._share(n_rows, write)
        rewards = self._stored(windows.rewards)
        state[:, size:], next_state[:, size:] = rewards[:, :-1], rewards[:, 1:]
        decisions = self.batches.decisions(windows)
        return FlatBatch(self._given(state), self._given(action), self._given(next_state), decisions)

    def _share(self, n_rows: int, work: Callable[[slice, int], None]) -> None:
        """Has the rows of a batch worked on by all threads, this one too; numbers them from 0."""
        bounds = [n_rows * thread // self.threads for thread in range(self.threads + 1)]
        parts = [slice(*pair) for pair in pairwise(bounds)]
        others = [self._others.submit(work, parts[i], i) for i in range(1, self.threads)] if self._others else []
        work(parts[0], 0)
        for other in others:
            other.result()

    def _gather(self, items: Any, out: Any) -> None:
        """Writes the vectors of items (n, m) into `out` (n, m, d)."""
        if self.batches.on_host:
            np.take(self._table, np.asarray(items), axis=0, out=out, mode="clip")  # other modes write elsewhere first
        else:
            from recgym.batches.tensors import gather

            gather(self._table, items, out)

    def _room(self, name: str, n_rows: int, *shape: int) -> Any:
        """Returns memory for a batch (n_rows, ...), the same as last time if that may be."""
        if not self.batches.on_host:
            return self._table.new_empty((n_rows, *shape))
        if self.copy and not name.startswith("scratch"):
            return np.empty((n_rows, *shape), dtype=self._table.dtype)
        if name not in self._kept or len(self._kept[name]) < n_rows:
            self._kept[name] = np.empty((n_rows, *shape), dtype=self._table.dtype)
        return self._kept[name][:n_rows]

    def _stored(self, numbers: Any) -> Any:
        """Returns float32 numbers as they are kept: on the host as NumPy, bfloat16 as its bits in int16."""
        if not self.batches.on_host:
            return numbers.to(self._table.dtype)
        if self.dtype == "float32":
            return np.asarray(numbers)
        from recgym.batches.tensors import bfloat16_bits

        return bfloat16_bits(numbers)

    def _given(self, numbers: Any) -> Any:
        """Returns what is kept as it is handed out, in the same memory."""
        if self.batches.device is None or not self.batches.on_host:
            return numbers
        from recgym.batches.tensors import shared

        return shared(numbers, self.dtype)
