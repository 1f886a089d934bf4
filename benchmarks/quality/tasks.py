"""The protocols as data: who is asked, after which history, for which item among which.

Learners are trained once for Q1, Q2 and Q4: on the events that none of them asks for, less each user's newest, which is
the validation split. Rankers in closed form are fitted on all training events of their protocol. Histories are always
all training events of the user, in the protocol's order.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

import recgym
from recgym import Catalog, InteractionLog, datasets
from recgym.datasets import sources
from recgym.errors import DataError, MissingDataError
from recgym.evaluation.questions import Questions

LIKED = 0.5  # rewards above it are ratings of 4 and 5, as 2 (r - 2.5) / 5 makes .6 and 1 of them
_NEGATIVES = 99
TITLES = {
    "Q1": "MovieLens-1M, NCF's 99 negatives",
    "Q2": "MovieLens-1M, full ranking",
    "Q3": "MovieLens-1M, DRR's protocol as published",
    "Q3 masked": "MovieLens-1M, DRR's protocol, training items masked",
    "Q4": "MovieLens-1M, next items that are liked",
}


@dataclass(frozen=True, eq=False)
class Task:
    """One protocol.

    Attributes:
        name: `Q1` to `Q4`.
        protocol: The protocol in words.
        learn: What learners are trained on.
        valid: What chooses hyperparameters and checkpoints.
        fit: What rankers in closed form are fitted on.
        test: What the tables hold; asked once per finished run.
    """

    name: str
    protocol: str
    learn: InteractionLog
    valid: Questions
    fit: InteractionLog
    test: Questions

    @property
    def title(self) -> str:
        """What tables call it."""
        return TITLES[self.name]

    @cached_property
    def hash(self) -> str:
        """The first 16 digits of the SHA-256 of all events and questions."""
        return _digest(*_columns(self.fit), self.test.users, self.test.targets, self.test.candidates, self.learn_hash)

    @cached_property
    def learn_hash(self) -> str:
        """The same of what learners see, so that protocols which share it share trained agents."""
        return _digest(*_columns(self.learn), self.valid.users, self.valid.targets, self.valid.candidates)

    def catalog(self, vectors: str, dim: int, **options: float) -> Catalog:
        """Returns the items with vectors by `recgym.embeddings.<vectors>`, made from what learners see."""
        return _catalog(self, vectors, dim, tuple(sorted(options.items())))


@lru_cache(maxsize=2)
def _catalog(task: Task, vectors: str, dim: int, options: tuple[tuple[str, float], ...]) -> Catalog:
    made: Catalog = getattr(recgym.embeddings, vectors)(task.learn, dim=dim, **dict(options))
    return made


def after_all(
    log: InteractionLog,
    users: np.ndarray,
    targets: np.ndarray,
    candidates: np.ndarray | None = None,
    groups: Mapping[str, np.ndarray] | None = None,
) -> Questions:
    """Returns questions after all events that `log` holds of a user; without candidates, their items are masked."""
    targets = targets.astype(np.int64)
    return Questions(log, users, log.lengths[users], targets, candidates, candidates is None, groups=groups or {})


def _columns(log: InteractionLog) -> tuple[np.ndarray, ...]:
    return log.offsets, log.items, log.rewards


def _digest(*parts: np.ndarray | str | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else b"" if part is None else part.tobytes())
    return digest.hexdigest()[:16]


# -- the data ---------------------------------------------------------------------------------------------------------


def load(name: str, small: bool = False) -> Task:
    """Returns a task on MovieLens-1M, or on 120 generated users if `small`.

    Raises:
        DataError: if there is no such protocol, or files do not fit together.
        MissingDataError: if MovieLens-1M or its split files are not on this machine.
    """
    makers = {"Q1": _q1, "Q2": _q2, "Q3": _q3, "Q3 masked": _q3_masked, "Q4": _q4}
    if name not in makers:
        raise DataError(f"a protocol must be one of {', '.join(makers)}, got {name!r}; choose one of them")
    return makers[name](*_source(small))


@lru_cache(maxsize=2)
def _source(small: bool) -> tuple[InteractionLog, np.ndarray, np.ndarray]:
    """Returns the log in exact order, NCF's test events as rows of it (n_users,), and their negatives."""
    if not small:
        log = datasets.load("ml-1m", order="sasrec")
        return log, *ncf_questions(log, _ncf_folder())
    log = datasets.load("synthetic", n_users=120, n_items=60).filter_users(6)
    random = np.random.default_rng(0)
    negatives = np.full((log.n_users, 20), log.n_items)
    for user in range(log.n_users):
        never = np.setdiff1d(np.arange(log.n_items), log.user(user).items)
        negatives[user, : min(20, len(never))] = random.choice(never, min(20, len(never)), replace=False)
    return log, log.offsets[1:] - 1 - np.arange(log.n_users) % 2, negatives


def _ncf_folder() -> Path:
    folder = sources.data_dir()
    if folder is None or not (folder / "ml-1m" / "ncf").is_dir():
        raise MissingDataError(
            f"ml-1m/ncf/ must lie under RECGYM_DATA, with NCF's test files and item_map.csv, got {folder}; "
            "put them there"
        )
    return folder / "ml-1m" / "ncf"


def ncf_questions(log: InteractionLog, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the events that NCF holds out (n_users,), and their 99 negatives (n_users, 99).

    NCF's user is the user id less 1, and its item number the place of `item_map.csv`. Where a line names the positive
    among its negatives, n_items stands there, which nobody ranks.

    Raises:
        DataError: if a held-out event is not in the log, or a line of negatives is another event's.
    """
    with open(folder / "item_map.csv", newline="", encoding="utf-8") as file:
        ids = [int(row["movie_id"]) for row in csv.DictReader(file)]
    item_of = np.searchsorted(log.item_ids, ids)  # NCF's number to ours
    user_of = {int(user_id) - 1: user for user, user_id in enumerate(log.user_ids)}
    rows = np.full(log.n_users, -1)
    negatives = np.full((log.n_users, _NEGATIVES), log.n_items)
    tests = (folder / "ml-1m.test.rating").read_text(encoding="utf-8").splitlines()
    lines = (folder / "ml-1m.test.negative").read_text(encoding="utf-8").splitlines()
    for test, line in zip(tests, lines, strict=True):
        ncf_user, ncf_item = (int(part) for part in test.split("\t")[:2])
        pair, *others = line.split("\t")
        user, item = user_of[ncf_user], item_of[ncf_item]
        place = np.flatnonzero(log.user(user).items == item)
        if len(place) != 1 or pair != f"({ncf_user},{ncf_item})":
            raise DataError(
                f"{folder} must hold out one event of ratings.dat for each user, with its negatives beside it, "
                f"got {test!r} and {pair}; get the files again"
            )
        rows[user] = log.offsets[user] + place[0]
        mapped = item_of[np.array(others, dtype=np.int64)]
        negatives[user] = np.where(mapped == item, log.n_items, mapped)
    return rows, negatives


# -- the protocols ----------------------------------------------------------------------------------------------------


def _shared(log: InteractionLog, ncf_rows: np.ndarray) -> tuple[InteractionLog, Questions]:
    """Returns what learners of Q1, Q2 and Q4 see, and the questions on each user's newest event beside it."""
    keep = np.ones(log.n_events, dtype=bool)
    keep[ncf_rows] = keep[log.offsets[1:] - 1] = False
    rest = log.select_events(keep, drop_empty=False)
    return _without_newest(rest)


def _without_newest(log: InteractionLog) -> tuple[InteractionLog, Questions]:
    last = log.offsets[1:] - 1
    before = log.select_events(np.isin(np.arange(log.n_events), last, invert=True), drop_empty=False)
    liked = np.asarray(log.rewards)[last] > LIKED
    groups = {"liked": liked, "all": liked | True}
    return before, after_all(before, np.arange(log.n_users), log.items[last], groups=groups)


def _q1(log: InteractionLog, ncf_rows: np.ndarray, negatives: np.ndarray) -> Task:
    fit = log.select_events(np.isin(np.arange(log.n_events), ncf_rows, invert=True), drop_empty=False)
    test = after_all(fit, np.arange(log.n_users), log.items[ncf_rows], negatives)
    words = (
        "NCF's leave-latest-out files: its test event of each user among its own 99 negatives (98 where the positive "
        "is one of them), sampled metrics; history: all other events in the order of sasrec/ml-1m.txt; ties by "
        "expectation"
    )
    return Task("Q1", words, *_shared(log, ncf_rows), fit, test)


def _q2(log: InteractionLog, ncf_rows: np.ndarray, negatives: np.ndarray) -> Task:
    fit, test = _without_newest(log)
    words = (
        "leave-one-out in the order of sasrec/ml-1m.txt, the 598 events it lacks inserted by time: each user's newest "
        "event among all 3,706 items, those of the history masked; ties by expectation"
    )
    return Task("Q2", words, *_shared(log, ncf_rows), fit, replace(test, groups={}))


def _q4(log: InteractionLog, ncf_rows: np.ndarray, negatives: np.ndarray) -> Task:
    task = _q2(log, ncf_rows, negatives)
    words = f"{task.protocol}; liked: the users whose newest event is rated 4 or 5"
    return Task("Q4", words, task.learn, task.valid, task.fit, _without_newest(log)[1])


def _q3(log: InteractionLog, ncf_rows: np.ndarray, negatives: np.ndarray, masked: bool = False) -> Task:
    """Returns DRR's own protocol; its split is random, so another draw of it than the published one."""
    keep = np.asarray(log.rewards) > LIKED
    keep[ncf_rows] = False
    liked = _shuffled(log.select_events(keep, drop_empty=False))
    fit, test = _one_in(liked, 5, 16, masked, negatives.shape[1])
    learn, valid = _one_in(fit, 20, 17, True, negatives.shape[1])  # masked for both, so that agents are trained once
    words = (
        "DRR's published protocol: ratings of 4 and 5 less NCF's test events, a random fifth held out (seed 16), each "
        "of it among 99 items drawn with replacement from those the user has no held-out event with; means over "
        "held-out events, sampled metrics; ties by expectation; as the split knows no order, histories have a random "
        "one"
        + ("; training items of the user taken out of the 99" if masked else "; the user's training items may be drawn")
    )
    return Task("Q3 masked" if masked else "Q3", words, learn, valid, fit, test)


def _shuffled(log: InteractionLog) -> InteractionLog:
    """Returns a log with the events of each user in a random order, and without times."""
    order = np.lexsort((np.random.default_rng(15).random(log.n_events), log.event_users()))
    return replace(log, items=log.items[order], rewards=log.rewards[order], times=None)


def _q3_masked(log: InteractionLog, ncf_rows: np.ndarray, negatives: np.ndarray) -> Task:
    return _q3(log, ncf_rows, negatives, masked=True)


def _one_in(log: InteractionLog, n: int, seed: int, masked: bool, n_others: int) -> tuple[InteractionLog, Questions]:
    """Returns a log less a random n-th of its events, and the questions about those."""
    random = np.random.default_rng(seed)
    held = random.permutation(log.n_events) < log.n_events // n
    users, targets = log.event_users()[held].astype(np.int64), log.items[held].astype(np.int64)
    rest = log.select_events(~held, drop_empty=False)
    taken = users * log.n_items + targets  # pairs that are no negatives
    others = random.integers(log.n_items, size=(len(users), n_others))
    while (again := np.isin(users[:, None] * log.n_items + others, taken)).any():
        others[again] = random.integers(log.n_items, size=np.count_nonzero(again))
    if masked:
        known = rest.event_users().astype(np.int64) * log.n_items + rest.items
        others[np.isin(users[:, None] * log.n_items + others, known)] = log.n_items
    return rest, after_all(rest, users, targets, others)
