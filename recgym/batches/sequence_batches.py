"""Batches of whole users, for models that read a history as a sequence: events in order, and what came next at each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from recgym.batches.endings import stories_over
from recgym.batches.epochs import Epochs
from recgym.batches.windows import discounted_returns, events_until, on_host
from recgym.errors import DataError
from recgym.log import InteractionLog


class SequenceBatch(NamedTuple):
    """B users' events, padded on the left, so the newest stand in the last column. NumPy or torch.

    Column j is one step: `items[:, j]` was consumed, and `targets[:, j]` came next. Where `mask` is false there is
    nothing to learn: items and targets are n_items, rewards and returns 0.
    """

    user: Any  # (B,) int64 user index
    items: Any  # (B, L) int64, oldest first
    rewards: Any  # (B, L) float32 of the items
    targets: Any  # (B, L) int64: the item after each
    target_rewards: Any  # (B, L) float32
    mask: Any  # (B, L) bool: the step is real
    length: Any  # (B,) int64 real steps, in the last columns
    returns: Any = None  # (B, L) float32 discounted return from the target on, where asked for
    extra: Any = None  # dict of (B, L+1) columns, where asked for: [:, :-1] goes with items, [:, 1:] with targets
    terminated: Any = None  # (B,) bool: the story ended with the last target; None of nobody


class SequenceBatches:
    """All users of a log as padded sequences; `for batch in batches` is one epoch, and the next one goes on.

    A user's n events make n - 1 steps, of which the newest `max_length` are kept. A batch is as wide as its longest
    user. As with `FrameBatches`, iterating starts where it stopped, `state_dict` resumes at the exact batch, and
    processes share every batch: process `rank` has its part of the rows, as wide as the batch of one process is, and
    about as many steps as the others.

    Args:
        log: Where the events are.
        batch_size: B, users a batch, of all processes together.
        max_length: Steps kept of each user; None keeps all.
        seed: Which shuffles; each epoch has its own.
        shuffle: Whether to shuffle; if not, users come in the log's order.
        min_events: Users with fewer events are left out; at least 2.
        gamma: Fills `returns` with the return so discounted from each target to the end of the user's log.
        extra: Event columns of the log to hand out too, e.g. `["behaviour"]`.
        end_of_log: Whose story ended with the last event, see `FrameBatches`.
        device: None for NumPy arrays, else the torch device of the batches. On CUDA the log's columns are copied there
            once, and only B row numbers per batch after that.
        drop_last: Whether users that do not fill a batch are left out of the epoch.
        rank: Which process this is, 0 to `n_ranks - 1`.
        n_ranks: Processes that share every batch; `batch_size` must be a multiple.

    Raises:
        DataError: if an option is out of range, no user has enough events, the log lacks an extra column or torch its
            type, or a batch cannot be shared so.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 1, 2, 2], [10, 20, 30, 20, 10], [1, 2, 3, 4, 5])
        >>> batch = next(iter(SequenceBatches(log, batch_size=2, shuffle=False)))
        >>> batch.items.tolist(), batch.targets.tolist()  # padding is 3, the number of items
        ([[0, 1], [3, 1]], [[1, 2], [3, 0]])
        >>> batch.mask.tolist(), batch.length.tolist()
        ([[True, True], [False, True]], [2, 1])
    """

    def __init__(
        self,
        log: InteractionLog,
        batch_size: int = 256,
        max_length: int | None = None,
        seed: int = 0,
        *,
        shuffle: bool = True,
        min_events: int = 2,
        gamma: float | None = None,
        extra: Sequence[str] = (),
        end_of_log: str | None = None,
        device: Any = None,
        drop_last: bool = False,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        _check(log, batch_size, max_length, min_events, extra, device)
        self.log, self.batch_size, self.max_length, self.device = log, batch_size, max_length, device
        self.extra = list(extra)
        self._over = stories_over(log, end_of_log)
        self._users = np.flatnonzero(log.lengths >= min_events)
        self.n_sequences = len(self._users)
        if self.n_sequences < (batch_size if drop_last else 1):
            raise DataError(
                f"at least {batch_size if drop_last else 1} users must have min_events={min_events} events, "
                f"got {self.n_sequences} of {log.n_users}; lower min_events or batch_size"
            )
        also = {"max_length": max_length, "min_events": min_events, "n_sequences": self.n_sequences}
        self._epochs = Epochs(
            self.n_sequences,
            batch_size,
            seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            n_ranks=n_ranks,
            also=also,
        )
        returns = None if gamma is None else discounted_returns(log.rewards, log.offsets, gamma)
        self._columns = {"items": log.items, "rewards": log.rewards} | ({} if returns is None else {"returns": returns})
        self._columns |= {f"extra {name}": log.extra[name] for name in extra}
        self.on_host = on_host(device)
        if not self.on_host:
            self._columns = dict(zip(self._columns, self._moved(list(self._columns.values())), strict=True))

    def __len__(self) -> int:
        return len(self._epochs)

    def __iter__(self) -> Iterator[SequenceBatch]:
        for epoch, batch in self._epochs:
            users = self._users[self._epochs.numbers(epoch, batch)]
            length = self.log.lengths[users] - 1  # (B,) steps
            width = int(length.max()) if self.max_length is None else min(int(length.max()), self.max_length)
            own = self._own(np.minimum(length, width))
            yield self._cut(users[own], np.minimum(length[own], width), width)

    def _own(self, length: np.ndarray) -> np.ndarray | slice:
        """Returns which rows are this process's: dealt to and fro, longest first, so that all have as many steps."""
        rank, n = self.sharing
        if n == 1:
            return slice(None)
        turn = np.empty(len(length), dtype=np.int64)
        turn[np.argsort(-length, kind="stable")] = np.arange(len(length)) % (2 * n)
        return np.flatnonzero(np.minimum(turn, 2 * n - 1 - turn) == rank)

    def state_dict(self) -> dict[str, Any]:
        """Returns the place of the next batch and what the order depends on, as JSON values."""
        return self._epochs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the batch that came next when `state_dict` returned `state`.

        Raises:
            DataError: if the state is of batches in another order.
        """
        self._epochs.load_state_dict(state)

    def share(self, rank: int, n_ranks: int) -> None:
        """Makes this process `rank` of `n_ranks` from the next batch on, as if they had been given at the start.

        Raises:
            DataError: if a batch cannot be shared so.
        """
        self._epochs.share(rank, n_ranks)

    @property
    def sharing(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        return self._epochs.rank, self._epochs.n_ranks

    def _cut(self, users: np.ndarray, length: np.ndarray, width: int) -> SequenceBatch:
        rows = self.log.offsets[users + 1] - 1  # (B,) each user's last event
        over = self._over[users]
        if not self.on_host:
            users, rows, length, over = self._moved([users, rows, length, over])
        xp, n_items = array_namespace(rows), self.log.n_items
        blank = {name: "" if _is_text(column) else 0 for name, column in self._columns.items()} | {"items": n_items}
        found = {
            name: events_until(column, rows, width + 1, length + 1, blank[name])
            for name, column in self._columns.items()
        }  # (B, L+1) each
        found["items"] = xp.astype(found["items"], xp.int64)
        mask = xp.arange(width, device=device_of(rows))[None, :] >= width - length[:, None]  # (B, L)

        def targets(name: str) -> Any:  # (B, L); a user's first event comes after nothing
            return xp.where(mask, found[name][:, 1:], xp.asarray(blank[name], dtype=found[name].dtype))

        made = SequenceBatch(
            user=users,
            items=found["items"][:, :-1],
            rewards=found["rewards"][:, :-1],
            targets=targets("items"),
            target_rewards=targets("rewards"),
            mask=mask,
            length=length,
            returns=targets("returns") if "returns" in found else None,
            extra={name: found[f"extra {name}"] for name in self.extra} or None,
            terminated=over,
        )
        return self._as_tensors(made) if self.on_host and self.device is not None else made

    def _as_tensors(self, made: SequenceBatch) -> SequenceBatch:
        extra = None if made.extra is None else dict(zip(made.extra, self._moved(made.extra.values()), strict=True))
        return SequenceBatch(*self._moved(made._replace(extra=None)))._replace(extra=extra)

    def _moved(self, arrays: Iterable[Any]) -> list[Any]:
        from recgym.batches.tensors import moved

        return [None if array is None else moved(array, self.device) for array in arrays]


def _is_text(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.dtype.kind in "US"


def _check(
    log: InteractionLog, batch_size: int, max_length: int | None, min_events: int, extra: Sequence[str], device: Any
) -> None:
    if batch_size < 1 or (max_length is not None and max_length < 1):
        given = f"batch_size={batch_size}, max_length={max_length}"
        raise DataError(f"batch_size and max_length must be at least 1, got {given}; give larger ones")
    if min_events < 2:
        raise DataError(f"min_events must be at least 2, got {min_events}; one event has none that comes after it")
    for name in extra:
        if name not in log.extra:
            raise DataError(
                f"extra must name event columns of the log, got {name!r}; it has {', '.join(log.extra) or 'none'}"
            )
        if device is not None and log.extra[name].dtype.kind not in "biuf":
            raise DataError(
                f"extra columns must hold numbers to become tensors, got {name!r} of type {log.extra[name].dtype}; "
                "leave it out or use device=None"
            )
