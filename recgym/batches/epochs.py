"""Where one is in a walk over shuffled numbers: epochs, batches, one process's part among several, and resuming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from recgym.batches.windows import shuffled
from recgym.errors import DataError


class Epochs:
    """Which of n numbers stand in which batch, and which batch comes next; iterating goes on where it stopped.

    Several processes share each batch: process `rank` of `n_ranks` has the rows `part(B)` of every batch, so together
    they have what one process would, all have as many batches, and where one stands is where all stand. The state
    therefore names no rank: what one process saved, four can go on from, and the other way round.

    Args:
        n: Numbers of an epoch.
        batch_size: B, numbers of a batch, of all processes together.
        seed: Which shuffles; each epoch has its own.
        shuffle: Whether to shuffle.
        drop_last: Whether numbers that do not fill a batch are left out.
        rank: Which process this is, 0 to `n_ranks - 1`.
        n_ranks: Processes that share a batch.
        also: What else decides which numbers mean what, as JSON values; `load_state_dict` asks for the same.

    Attributes:
        epoch: Epoch of the next batch.
        batch: Its place in the epoch.

    Raises:
        DataError: if a batch cannot be shared so, or `drop_last` leaves none.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool,
        drop_last: bool,
        rank: int,
        n_ranks: int,
        also: Mapping[str, Any],
    ) -> None:
        if drop_last and n < batch_size:
            raise DataError(
                f"a batch of batch_size={batch_size} needs as many windows, got {n}; "
                "lower batch_size or pass drop_last=False"
            )
        self.n, self.batch_size, self.seed, self.shuffle, self.drop_last = n, batch_size, seed, shuffle, drop_last
        self.share(rank, n_ranks)
        self.epoch = self.batch = 0
        order = {"seed": seed, "shuffle": shuffle, "batch_size": batch_size, "drop_last": drop_last}
        self._order = {**order, **also}

    def __len__(self) -> int:
        whole, rest = divmod(self.n, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields epoch and batch from the next batch to the end of its epoch, each counted before it is handed out."""
        epoch = self.epoch
        while self.epoch == epoch:
            batch = self.batch
            self.batch += 1
            if self.batch == len(self):
                self.epoch, self.batch = epoch + 1, 0
            yield epoch, batch

    def share(self, rank: int, n_ranks: int) -> None:
        """Makes this process `rank` of `n_ranks`, from the next batch on.

        Raises:
            DataError: if a batch cannot be shared so.
        """
        if not 0 <= rank < n_ranks:
            raise DataError(f"rank must be 0 to n_ranks - 1, got rank={rank} of n_ranks={n_ranks}; number from 0")
        if self.batch_size % n_ranks:
            raise DataError(
                f"batch_size must be a multiple of n_ranks={n_ranks}, which share every batch, got {self.batch_size}; "
                f"give e.g. {(self.batch_size // n_ranks + 1) * n_ranks}"
            )
        rest = self.n % self.batch_size
        if not self.drop_last and 0 < rest < n_ranks:
            raise DataError(
                f"every batch must have a row for each of n_ranks={n_ranks}, got {rest} in the last one; "
                "pass drop_last=True or another batch_size"
            )
        self.rank, self.n_ranks = rank, n_ranks

    def part(self, n_rows: int) -> slice:
        """Returns which rows of a batch are this process's: as many as the others', or one more or less."""
        return slice(n_rows * self.rank // self.n_ranks, n_rows * (self.rank + 1) // self.n_ranks)

    def numbers(self, epoch: int, batch: int) -> np.ndarray:
        """Returns the numbers in a batch, those of all processes."""
        first = batch * self.batch_size
        return self._placed(np.arange(first, min(first + self.batch_size, self.n)), epoch)

    def own_numbers(self, epoch: int, first: int, end: int, xp: Any = np, **where: Any) -> Any:
        """Returns this process's numbers in the batches first..end-1, one batch after the other.

        Args:
            epoch: Of which epoch.
            first: First batch.
            end: Behind the last one.
            xp: Namespace of the array.
            **where: A `device` for it, if any.
        """
        whole = min(end, self.n // self.batch_size)
        own = self.part(self.batch_size)
        batches = xp.arange(first, whole, **where)[:, None] * self.batch_size  # (whole batches, 1)
        places = xp.reshape(batches + xp.arange(own.start, own.stop, **where)[None, :], (-1,))
        if end > whole:
            begin = whole * self.batch_size
            own = self.part(self.n - begin)
            places = xp.concat([places, xp.arange(begin + own.start, begin + own.stop, **where)])
        return self._placed(places, epoch)

    def _placed(self, places: Any, epoch: int) -> Any:
        return shuffled(places, self.n, self.seed, epoch) if self.shuffle else places

    def state_dict(self) -> dict[str, Any]:
        """Returns the place of the next batch and what the order depends on, as JSON values."""
        return {"epoch": self.epoch, "batch": self.batch, **self._order}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the batch that came next when `state_dict` returned `state`.

        Raises:
            DataError: if the state is of batches in another order, or names no batch.
        """
        other = [name for name in self._order if state.get(name) != self._order[name]]
        if other:
            own, given = {name: self._order[name] for name in other}, {name: state.get(name) for name in other}
            raise DataError(
                f"the state must be of batches with {own}, got {given}; make them as they were when it was saved"
            )
        epoch, batch = state.get("epoch", -1), state.get("batch", -1)
        if epoch < 0 or not 0 <= batch < len(self):
            raise DataError(
                f"the state must name an epoch and a batch below {len(self)}, got epoch {epoch}, batch {batch}; "
                "give what state_dict returned"
            )
        self.epoch, self.batch = int(epoch), int(batch)
