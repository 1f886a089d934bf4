"""Batches of logged decisions: every window of a log once an epoch, shuffled, resumable, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.log import InteractionLog
from recgym.windows import events_ahead, locate_windows, shuffled, window_starts

_AHEAD = 1 << 16  # windows whose places are worked out at a time, about
_ENDS = ("truncate", "terminal")


class Places(NamedTuple):
    """Where decisions stand in a log; row i of the log's event columns is event i. NumPy or torch."""

    users: Any  # (B,) int64
    rows: Any  # (B,) int64 row of the decision; a history that reaches the end of its user has the row after it
    lengths: Any  # (B,) int64 events of the user before the decision
    last: Any  # (B,) bool: it is the user's last event
    answers: Any  # (B,) int64 row of the event that is taken for the action: `rows`, or a later one of the user


class _Columns(NamedTuple):
    """The event columns that batches are cut from. NumPy or torch."""

    items: Any  # (n_events,) int32
    rewards: Any  # (n_events,) float32
    propensities: Any = None  # (n_events,) float32


class FrameBatches:
    """All windows of a log as batches of decisions; `for batch in batches` is one epoch, and the next one goes on.

    Iterating starts where the last iteration stopped: after a `break` or `load_state_dict` at the exact next batch,
    after a full epoch at the beginning of another, shuffled anew. A batch has `batch_size` windows of all users;
    only the current batch and the places of the next few thousand windows are in memory beside the log.

    Args:
        log: Where the decisions come from.
        frame_size: F, the events of a frame.
        batch_size: B, windows a batch.
        seed: Which shuffles; each epoch has its own.
        shuffle: Whether to shuffle; if not, windows come user after user, oldest first.
        min_history: Events that must come before a decision, by default F. Fewer means shorter histories too, as frames
            padded on the left with item n_items and reward 0, and `Batch.length` says how many events are real.
        later: Share of decisions whose action is drawn evenly from all the user's events from it on, instead of
            being the very next: any of them is an answer under `advance="answer"`. The next frame has it at its end.
        end_of_log: What the last window of a user is: `"truncate"` (the log ends, not the user's story: `truncated`)
            or `"terminal"` (`terminated`, which stops bootstrapping).
        device: None for NumPy arrays, else the torch device that the columns are copied to and batches are made on.
        drop_last: Whether windows that do not fill a batch are left out of the epoch.

    Raises:
        DataError: if a size is below 1, no user has enough events, or `drop_last` leaves no batch.

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
        end_of_log: str = "truncate",
        device: Any = None,
        drop_last: bool = True,
    ) -> None:
        if frame_size < 1 or batch_size < 1:
            given = f"frame_size={frame_size}, batch_size={batch_size}"
            raise DataError(f"frame_size and batch_size must be at least 1, got {given}; give larger ones")
        min_history = frame_size if min_history is None else min_history
        if min_history < 0:
            raise DataError(f"min_history must be at least 0, got {min_history}; give the events before a decision")
        if not 0.0 <= later <= 1.0:
            raise DataError(f"later must lie in 0..1, got {later}; give the share of actions drawn from later events")
        if end_of_log not in _ENDS:
            raise DataError(f"end_of_log must be one of {', '.join(_ENDS)}, got {end_of_log!r}; choose one of them")
        self.log, self.device = log, device
        self.frame_size, self.batch_size, self.seed = frame_size, batch_size, seed
        self.shuffle, self.min_history, self.end_of_log, self.drop_last = shuffle, min_history, end_of_log, drop_last
        self.later = later
        self._starts = window_starts(log.lengths, min_history)
        self.n_windows = int(self._starts[-1])
        if self.n_windows == 0:
            longest = int(log.lengths.max(initial=0))
            raise DataError(
                f"some user must have more than min_history={min_history} events, got {longest} at most "
                f"({log.n_users} users); lower frame_size or min_history"
            )
        if len(self) == 0:
            raise DataError(
                f"a batch of batch_size={batch_size} needs as many windows, got {self.n_windows}; "
                "lower batch_size or pass drop_last=False"
            )
        self._epoch, self._batch = 0, 0
        columns = _Columns(log.items, log.rewards, log.propensities)
        self._columns: _Columns = columns if device is None else self._moved(columns)
        self._ahead: tuple[int, int, Places] | None = None  # epoch, where in it, places from there on

    def __len__(self) -> int:
        whole, rest = divmod(self.n_windows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._epoch
        while self._epoch == epoch:
            first = self._batch * self.batch_size
            self._batch += 1
            if self._batch == len(self):
                self._epoch, self._batch = epoch + 1, 0
            yield self._make(epoch, first, min(first + self.batch_size, self.n_windows))

    def state_dict(self) -> dict[str, Any]:
        """Returns the place of the next batch and what the order depends on, as JSON values."""
        return {"epoch": self._epoch, "batch": self._batch, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the batch that came next when `state_dict` returned `state`.

        Raises:
            DataError: if the state is of batches in another order.
        """
        order = self._order()
        other = [name for name in order if state.get(name) != order[name]]
        if other:
            own, given = {name: order[name] for name in other}, {name: state.get(name) for name in other}
            raise DataError(
                f"the state must be of batches with {own}, got {given}; make them as they were when it was saved"
            )
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])

    def _order(self) -> dict[str, Any]:
        names = ("seed", "shuffle", "batch_size", "frame_size", "min_history", "later", "drop_last", "n_windows")
        return {name: getattr(self, name) for name in names}

    def _make(self, epoch: int, first: int, end: int) -> Batch:
        """Returns the batch of the windows that stand at first..end-1 in the order of an epoch."""
        span = max(_AHEAD // self.batch_size, 1) * self.batch_size
        if self._ahead is None or self._ahead[0] != epoch or not self._ahead[1] <= first < self._ahead[1] + span:
            numbers = np.arange(first, min(first + span, self.n_windows))
            windows = shuffled(numbers, self.n_windows, self.seed, epoch) if self.shuffle else numbers
            self._ahead = (epoch, first, self._places(windows, epoch))
        begin, places = self._ahead[1:]
        return self._cut(Places(*(column[first - begin : end - begin] for column in places)))

    def _places(self, windows: np.ndarray, epoch: int) -> Places:
        users, positions = locate_windows(self._starts, windows, self.min_history)
        rows = self.log.offsets[users] + positions
        left = self.log.lengths[users] - positions  # (B,) events from the decision on, itself included
        answers = rows
        if self.later > 0.0:
            answers = rows + events_ahead(windows, left, self.later, self.seed, epoch)
        places = Places(users, rows, positions, left == 1, answers)
        return places if self.device is None else self._moved(places)

    def _cut(self, places: Places) -> Batch:
        size = self.frame_size
        xp = array_namespace(places.rows)
        padding = self.log.n_items if self.min_history < size else None
        items, rewards = _gather(self._columns, places.rows, places.lengths, size, padding, with_decision=True)
        action, reward = items[:, size], rewards[:, size]
        next_items, next_rewards = items[:, 1:], rewards[:, 1:]
        if self.later > 0.0:
            action = xp.astype(self._columns.items[places.answers], xp.int64)
            reward = self._columns.rewards[places.answers]
            next_items = xp.concat([items[:, 1:size], action[:, None]], axis=1)
            next_rewards = xp.concat([rewards[:, 1:size], reward[:, None]], axis=1)
        never = xp.zeros_like(places.last)
        terminal = self.end_of_log == "terminal"
        return Batch(
            user=places.users,
            items=items[:, :size],
            rewards=rewards[:, :size],
            action=action,
            reward=reward,
            next_items=next_items,
            next_rewards=next_rewards,
            terminated=places.last if terminal else never,
            truncated=never if terminal else places.last,
            length=None if padding is None else xp.clip(places.lengths, None, size),
            propensity=None if self._columns.propensities is None else self._columns.propensities[places.answers],
        )

    def _moved(self, arrays: Any) -> Any:
        from recgym.learned.tensors import to_device

        return to_device(arrays, self.device)


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
    items, rewards = _gather(_Columns(log.items, log.rewards), rows, positions, width, log.n_items, with_decision=False)
    time = None if log.times is None else log.times[np.minimum(rows, log.offsets[users + 1] - 1)]
    return History(items, rewards, np.minimum(positions, width), users, time)


def _gather(
    columns: _Columns, rows: Any, lengths: Any, width: int, padding: int | None, *, with_decision: bool
) -> tuple[Any, Any]:
    """Returns items int64 and rewards (B, width [+ 1]): the events before each row, and the row itself if asked.

    Events before the user's first are replaced by `padding` and reward 0; `padding=None` promises that there are none.
    """
    xp = array_namespace(rows)
    steps = xp.arange(-width, 1 if with_decision else 0, device=device_of(rows))[None, :]  # (1, W)
    index = rows[:, None] + steps  # (B, W)
    if padding is None:
        return xp.astype(columns.items[index], xp.int64), columns.rewards[index]
    real = steps >= -lengths[:, None]  # (B, W)
    index = xp.where(real, index, 0)
    items = xp.where(real, xp.astype(columns.items[index], xp.int64), padding)
    return items, xp.where(real, columns.rewards[index], xp.zeros_like(columns.rewards[index]))
