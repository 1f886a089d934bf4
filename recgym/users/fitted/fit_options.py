"""What a user model is to learn from a log, and how: options, levels of answers, held-out events, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.log import InteractionLog, splits
from recgym.options import check_known, check_sizes, is_number

if TYPE_CHECKING:
    from tqdm.auto import tqdm

_MOST_LEVELS = 16  # different rewards; more are put into as many groups


@dataclass(frozen=True)
class FactorOptions:
    """How a matrix factorisation is fitted."""

    n_members: int = 5  # of the ensemble
    dim: int = 32  # width of the vectors
    l2: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)  # pulls towards zero, of which validation chooses
    lr: float = 0.02  # Adam's first step size
    batch_size: int | None = None  # events of an update; None: a fiftieth of them, 64 to 8192
    max_epochs: int = 30
    patience: int = 5  # epochs without a new lowest loss
    held_out: float = 0.1  # share of events to validate with; where that rounds to none of anybody's, one of each user


@dataclass(frozen=True)
class SequentialOptions:
    """How a recurrent network is fitted."""

    n_members: int = 3  # of the ensemble
    dim: int = 32  # width of what is learned of every item
    hidden: int = 64  # width of what is remembered
    lr: float = 5e-3  # Adam's first step size
    l2: float = 8.0  # pull of what is learned of every item towards zero
    weight_decay: float = 1e-2  # of all weights
    dropout: float = 0.1  # of what is known of items and of what is remembered
    batch_size: int = 64  # histories of an update
    max_length: int = 128  # events of a history that pass at a time
    max_epochs: int = 20
    patience: int = 3  # epochs without a new lowest loss
    held_out: float = 0.1  # share of events to validate with; where that rounds to none of anybody's, one of each user


Options = FactorOptions | SequentialOptions


class Task(NamedTuple):
    """What is to be learned: a log whose rewards are levels."""

    log: InteractionLog
    worth: np.ndarray  # (L,) float32: rewards an answer can be worth, ascending
    levels: np.ndarray  # (n_events,) int64: which of them each event has
    weights: np.ndarray  # (n_events,) float32, 1 on average
    held: np.ndarray  # (n_events,) bool: what validates
    missed: np.ndarray  # (n_events, m) int64: items not answered, level 0, that count beside each event; -1 for none
    seed: int
    device: str
    folder: Path | None
    about: dict[str, Any]  # what tells this fit from others
    progress: bool

    @property
    def n_levels(self) -> int:
        """How many different answers there are, L."""
        return len(self.worth)

    def bar(self, what: str, total: int | None = None) -> tqdm:
        """Returns a progress bar of epochs; it is not shown where nobody looks at a terminal."""
        from tqdm.auto import tqdm

        return tqdm(desc=what, total=total, unit="epoch", disable=None if self.progress else True)


def task_of(log: InteractionLog, options: Options, *, weights: str | None, misses: int, seed: int, **how: Any) -> Task:
    """Returns the task of fitting a log; see `recgym.users.fit`, and `Task` for `how`.

    Raises:
        DataError: if the log has not what is asked for, or nothing to learn or validate with.
    """
    missed = missed_of(log, misses, seed)
    worth = levels_of(log, misses)
    return Task(
        log=log,
        worth=worth,
        levels=np.searchsorted((worth[1:] + worth[:-1]) / 2, log.rewards, side="left"),
        weights=weights_of(log, weights),
        held=held_out_of(log, options.held_out, seed),
        missed=missed,
        seed=seed,
        **how,
    )


def options_of(model: str, options: Mapping[str, Any]) -> Options:
    """Returns checked options of a model.

    Raises:
        DataError: if one is unknown or out of range.
    """
    kind = FactorOptions if model == "mf" else SequentialOptions
    known = [field.name for field in fields(kind)]
    check_known(f"model {model!r}", options, known)
    made = kind(**options)
    sizes = {"n_members", "dim", "hidden", "batch_size", "max_length", "max_epochs", "patience"} & set(known)
    check_sizes(**{name: getattr(made, name) for name in sizes if getattr(made, name) is not None})
    if not is_number(made.held_out) or not 0.0 < made.held_out < 1.0:
        raise DataError(f"held_out must lie between 0 and 1, got {made.held_out!r}; give the share that validates")
    if not is_number(made.lr) or made.lr <= 0:
        raise DataError(f"lr must be a number above 0, got {made.lr!r}; give e.g. {kind.lr}")
    if isinstance(made, FactorOptions):
        pulls = np.ravel(np.asarray(made.l2, dtype=object)).tolist()
        if not pulls or not all(is_number(pull) and pull > 0 for pull in pulls):
            raise DataError(f"l2 must be one or more numbers above 0, got {made.l2!r}; give e.g. (4.0, 8.0)")
        return replace(made, l2=tuple(float(pull) for pull in pulls))
    for name in ("l2", "weight_decay"):
        if not is_number(getattr(made, name)) or getattr(made, name) < 0:
            raise DataError(f"{name} must be a number of at least 0, got {getattr(made, name)!r}; give one")
    if not is_number(made.dropout) or not 0.0 <= made.dropout < 1.0:
        raise DataError(f"dropout must be at least 0 and below 1, got {made.dropout!r}; give the share left out")
    return made


def levels_of(log: InteractionLog, misses: int = 0) -> np.ndarray:
    """Returns the rewards an answer can be worth (L,) float32, ascending; with misses the first is 0, of none."""
    found = np.unique(log.rewards)
    if misses and found[0] <= 0:
        raise DataError(
            f"with misses every reward must be above 0, which is what a miss is worth, got {found[0]}; pass misses=0 "
            "or load the log with other rewards"
        )
    if len(found) + bool(misses) < 2:
        raise DataError(
            f"a log must hold at least two different rewards to learn answers from, got {found.tolist()} in all of "
            f"{log.n_events} events; pass misses=1, or keep what was shown and not taken as events with a lower reward"
        )
    if misses:
        return np.concatenate([[0.0], _grouped(log, found)]).astype(np.float32)
    return _grouped(log, found)


def _grouped(log: InteractionLog, found: np.ndarray) -> np.ndarray:
    """Returns different rewards (L,) float32, or the means of groups where there are too many."""
    if len(found) <= _MOST_LEVELS:
        return found.astype(np.float32)
    ordered = np.sort(np.asarray(log.rewards, dtype=np.float64))
    means = [part.mean() for part in np.array_split(ordered, _MOST_LEVELS)]
    return np.unique(np.array(means, dtype=np.float32))


def held_out_of(log: InteractionLog, share: float, seed: int) -> np.ndarray:
    """Returns which events validate (n_events,) bool: everyone's last where there is an order, else drawn ones.

    Of histories so short that `share` rounds to nothing for everybody, the last event validates.
    """
    if log.times is None:
        return splits.held_out_events(log.n_events, share, seed)
    held = splits.last_share_of_users(log.offsets, share)
    if not held.any():
        held = splits.last_events_of_users(log.offsets, 1)
    if not held.any():
        raise DataError(
            f"some user must have two events or more, of which the last validates, got one at most of {log.n_users} "
            "users; load longer histories, or the log without its times, of which drawn events validate"
        )
    return held


def weights_of(log: InteractionLog, weights: str | None) -> np.ndarray:
    """Returns how much each event counts (n_events,) float32."""
    if weights is None:
        return np.ones(log.n_events, dtype=np.float32)
    if log.propensities is None:
        raise DataError("weights='propensity' needs a log with propensities, got one without; pass weights=None")
    inverse = 1.0 / np.asarray(log.propensities, dtype=np.float64)
    return (inverse / inverse.mean()).astype(np.float32)


def missed_of(log: InteractionLog, misses: int, seed: int) -> np.ndarray:
    """Returns `misses` items per event (n_events, misses) int64, drawn uniformly; -1 where the user has one."""
    if not isinstance(misses, int) or misses < 0:
        raise DataError(f"misses must be a whole number of at least 0, got {misses!r}; give e.g. misses=1")
    items = np.random.default_rng(seed).integers(log.n_items, size=(log.n_events, misses))
    users = log.event_users().astype(np.int64) * log.n_items
    return np.where(np.isin(users[:, None] + items, users + log.items), -1, items)
