"""Batches of logged decisions: every window of a log once an epoch, shuffled, resumable, shared, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from recgym.batches.endings import stories_over
from recgym.batches.epochs import Epochs
from recgym.batches.windows import (
    Places,
    Windows,
    discounted_returns,
    events_ahead,
    events_until,
    locate_windows,
    on_host,
    signposts,
    window_starts,
)
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.log import InteractionLog

_AHEAD = 1 << 19  # events that are read from the log at a time, about, for the batches to come
_AHEAD_ON_DEVICE = 1 << 23  # the same where starting a computation costs more than a small one itself


class _Columns(NamedTuple):
    """What windows are cut from, event by event and user by user. NumPy or torch."""

    items: Any  # (n_events,) int32
    rewards: Any  # (n_events,) float32
    offsets: Any  # (n_users + 1,) int64
    starts: Any  # (n_users + 1,) int64 number of each user's first window
    returns: Any = None  # (n_events,) float32
    propensities: Any = None  # (n_events,) float32
    over: Any = None  # (n_users,) bool: the story ended with the last event; None of nobody


class FrameBatches:
    """All windows of a log as batches of decisions; `for batch in batches` is one epoch, and the next one goes on.

    Iterating starts where the last iteration stopped: after a `break` or `load_state_dict` at the exact next batch,
    after a full epoch at the beginning of another, shuffled anew. A batch has `batch_size` windows of all users;
    only the indices of the next few ten thousand windows are in memory beside the log. `items` and `next_items` of a
    batch are views of one array (B, F+1), and so are the rewards.

    For data-parallel training, process `rank` of `n_ranks` takes its part of every batch: together they see what one
    process would, all have as many batches, and the state of any resumes all, or another number of processes.

    Args:
        log: Where the decisions come from.
        frame_size: F, the events of a frame.
        batch_size: B, windows a batch, of all processes together.
        seed: Which shuffles; each epoch has its own.
        shuffle: Whether to shuffle; if not, windows come user after user, oldest first.
        min_history: Events that must come before a decision, by default F. Fewer means shorter histories too, as frames
            padded on the left with item n_items and reward 0, and `Batch.length` says how many events are real.
        later: Share of decisions whose action is drawn evenly from all the user's events from it on, instead of
            being the very next: any of them is an answer under `advance="answer"`. The next frame has it at its end.
        end_of_log: What the last window of a user is: `"truncate"` (the log ends, not the user's story: `truncated`),
            `"terminal"` (`terminated`, which stops bootstrapping) or `"known"`: as the log's `users["over"]` (sessions)
            or `users["terminated"]` (collected ones) say; None: as they say, and `"truncate"` where there are none.
        gamma: Fills `Batch.returns` with the return so discounted from the action's event to the end of the user's log.
        device: None for NumPy arrays, else the torch device of the batches. On CUDA the log's columns are copied there
            once, and all is computed there.
        drop_last: Whether windows that do not fill a batch are left out of the epoch.
        rank: Which process this is, 0 to `n_ranks - 1`.
        n_ranks: Processes that share every batch; `batch_size` must be a multiple.

    Raises:
        DataError: if an option is out of range, no user has enough events, `drop_last` leaves no batch, or a batch
            cannot be shared so.

    Example:
        >>> log = InteractionLog.from_events([1] * 5, [10, 20, 30, 40, 50], [1, 2, 3, 4, 5])
        >>> batches = FrameBatches(log, frame_size=3, batch_size=2, shuffle=False)
        >>> batch = next(iter(batches))
        >>> batch.items.tolist(), batch.action.tolist(), batch.reward.tolist(), batch.truncated.tolist()
        ([[0, 1, 2], [1, 2, 3]], [3, 4], [4.0, 5.0], [False, True])
    """

    def __init__(
        self,
        log: InteractionLog,
        frame_size: int = 10,
        batch_size: int = 256,
        seed: int = 0,
        *,
        shuffle: bool = True,
        min_history: int | None = None,
        later: float = 0.0,
        end_of_log: str | None = None,
        gamma: float | None = None,
        device: Any = None,
        drop_last: bool = True,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        min_history = frame_size if min_history is None else min_history
        _check(frame_size, batch_size, min_history, later)
        self.log, self.device = log, device
        self.frame_size, self.batch_size, self.seed = frame_size, batch_size, seed
        self.shuffle, self.min_history, self.end_of_log, self.drop_last = shuffle, min_history, end_of_log, drop_last
        self.later, self.gamma = later, gamma
        starts = window_starts(log.lengths, min_history)
        self.n_windows = int(starts[-1])
        if self.n_windows == 0:
            longest = int(log.lengths.max(initial=0))
            raise DataError(
                f"some user must have more than min_history={min_history} events, got {longest} at most "
                f"({log.n_users} users); lower frame_size or min_history"
            )
        also = {name: getattr(self, name) for name in ("frame_size", "min_history", "later", "n_windows")}
        self._epochs = Epochs(
            self.n_windows,
            batch_size,
            seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            n_ranks=n_ranks,
            also=also,
        )
        returns = None if gamma is None else discounted_returns(log.rewards, log.offsets, gamma)
        over = stories_over(log, end_of_log)
        made = log.items, log.rewards, log.offsets, starts, returns, log.propensities, over if over.any() else None
        self._columns = _Columns(*made)
        self._posts: np.ndarray | None = signposts(starts)
        self.on_host = on_host(device)
        if not self.on_host:
            self._columns, self._posts = self._moved(self._columns), None
        self._ahead: tuple[Any, ...] | None = None  # what `_read` returned last

    def __len__(self) -> int:
        return len(self._epochs)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.decisions, self.windows())

    def windows(self) -> Iterator[Windows]:
        """Yields the batches that iterating would, as rows of F + 1 events; each counts as the other's."""
        return self._walk(self._windows)

    def places(self) -> Iterator[Places]:
        """Yields the batches that iterating would, as places in the log only; each counts as the other's.

        `later` has no say: a row is that of the event right after the frame.
        """
        return self._walk(self._places)

    def decisions(self, windows: Windows) -> Batch:
        """Returns windows as a batch of decisions, whose frames are views of them."""
        size = self.frame_size
        return Batch(
            user=windows.user,
            items=windows.items[:, :size],
            rewards=windows.rewards[:, :size],
            action=windows.items[:, size],
            reward=windows.rewards[:, size],
            next_items=windows.items[:, 1:],
            next_rewards=windows.rewards[:, 1:],
            terminated=windows.terminated,
            truncated=windows.truncated,
            length=windows.length,
            returns=windows.returns,
            propensity=windows.propensity,
        )

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
        self._ahead = None

    @property
    def sharing(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        return self._epochs.rank, self._epochs.n_ranks

    def _walk(self, cut: Callable[[Any, int], Any]) -> Iterator[Any]:
        """Yields this process's part of each batch, cut from the log for many batches at a time."""
        own = self._epochs.part(self.batch_size)
        n_rows = own.stop - own.start
        for epoch, batch in self._epochs:
            ahead = self._ahead
            if ahead is None or ahead[:2] != (cut, epoch) or not ahead[2] <= batch < ahead[3]:
                ahead = self._ahead = self._read(cut, epoch, batch, n_rows)
            first = (batch - ahead[2]) * n_rows
            rows = slice(first, first + n_rows)  # the last batch may have fewer
            yield type(ahead[4])(*[None if column is None else column[rows] for column in ahead[4]])

    def _read(self, cut: Callable[[Any, int], Any], epoch: int, first: int, n_rows: int) -> tuple[Any, ...]:
        """Returns how it was cut, the epoch, and batches first..end-1 of it as one table."""
        n_events = n_rows * (self.frame_size + 1)  # of a batch
        end = min(first + max((_AHEAD if self.on_host else _AHEAD_ON_DEVICE) // n_events, 1), len(self))
        if self.on_host:
            made = cut(self._epochs.own_numbers(epoch, first, end), epoch)
            made = made if self.device is None else self._moved(made)
        else:
            items = self._columns.items
            made = cut(self._epochs.own_numbers(epoch, first, end, array_namespace(items), device=items.device), epoch)
        return cut, epoch, first, end, made

    def _places(self, numbers: Any, epoch: int) -> Places:
        user, position = locate_windows(self._columns.starts, numbers, self.min_history, self._posts)
        return Places(user, self._columns.offsets[user] + position, position)

    def _windows(self, numbers: Any, epoch: int) -> Windows:
        columns, size, padding = self._columns, self.frame_size, self.log.n_items
        xp = array_namespace(numbers)
        user, row, position = self._places(numbers, epoch)
        left = columns.offsets[user + 1] - row  # (B,) events from the decision on, itself included
        real = None if self.min_history >= size else xp.clip(position, None, size) + 1
        items = xp.astype(events_until(columns.items, row, size + 1, real, padding), xp.int64)
        rewards = events_until(columns.rewards, row, size + 1, real)
        if self.later > 0.0:
            row = row + events_ahead(numbers, left, self.later, self.seed, epoch)
            items[:, size] = xp.astype(columns.items[row], xp.int64)
            rewards[:, size] = columns.rewards[row]
        last = left == 1
        over = xp.zeros_like(last) if columns.over is None else last & columns.over[user]
        return Windows(
            user=user,
            items=items,
            rewards=rewards,
            terminated=over,
            truncated=last & ~over,
            length=None if real is None else real - 1,
            returns=None if columns.returns is None else columns.returns[row],
            propensity=None if columns.propensities is None else columns.propensities[row],
        )

    def _moved(self, arrays: Any) -> Any:
        from recgym.batches.tensors import to_device

        return to_device(arrays, self.device)


def _check(frame_size: int, batch_size: int, min_history: int, later: float) -> None:
    if frame_size < 1 or batch_size < 1:
        given = f"frame_size={frame_size}, batch_size={batch_size}"
        raise DataError(f"frame_size and batch_size must be at least 1, got {given}; give larger ones")
    if min_history < 0:
        raise DataError(f"min_history must be at least 0, got {min_history}; give the events before a decision")
    if not 0.0 <= later <= 1.0:
        raise DataError(f"later must lie in 0..1, got {later}; give the share of actions drawn from later events")


def histories(log: InteractionLog, users: Any, positions: Any, max_length: int | None = None) -> History:
    """Returns what each user had consumed before one of his positions, as B pasts padded on the left with n_items.

    Args:
        log: Where the events are.
        users: User indices (B,).
        positions: For each, how many of his first events are the past (B,), 0 to all.
        max_length: Keep the newest `max_length` events only; by default all, so the longest past sets the width.

    Returns:
        A `History` of NumPy arrays, at least one column wide; `time` is that of the event at `positions`, or of the
        user's last event where none follows.

    Raises:
        DataError: if a user index or position is outside the log, or `max_length` is below 1.

    Example:
        >>> log = InteractionLog.from_events([1, 1, 1, 2], [10, 20, 30, 10], [1, 2, 3, 4])
        >>> history = histories(log, [0, 1], [2, 1])
        >>> history.items.tolist(), history.length.tolist()  # padding is 3, the number of items
        ([[0, 1], [3, 0]], [2, 1])
    """
    users, positions = np.asarray(users, dtype=np.int64), np.asarray(positions, dtype=np.int64)
    if users.shape != positions.shape or users.ndim != 1:
        raise DataError(
            f"users and positions must have one shape (B,), got {users.shape} and {positions.shape}; align them"
        )
    if max_length is not None and max_length < 1:
        raise DataError(f"max_length must be at least 1, got {max_length}; leave it out to keep all events")
    wrong = (users < 0) | (users >= log.n_users)
    lengths = log.lengths[np.where(wrong, 0, users)]
    wrong |= (positions < 0) | (positions > lengths)
    if wrong.any():
        bad = np.flatnonzero(wrong)
        raise DataError(
            f"users must be 0 to {log.n_users - 1} and positions 0 to the user's number of events, "
            f"got user {users[bad[0]]} at {positions[bad[0]]} ({len(bad)} of {len(users)}); give what is in the log"
        )
    width = max(int(positions.max(initial=0)), 1)
    width = width if max_length is None else min(width, max_length)
    rows = log.offsets[users] + positions
    length = np.minimum(positions, width)
    items = events_until(log.items, rows - 1, width, length, log.n_items).astype(np.int64)
    rewards = events_until(log.rewards, rows - 1, width, length)
    time = None if log.times is None else log.times[np.minimum(rows, log.offsets[users + 1] - 1)]
    return History(items, rewards, length, users, time)
