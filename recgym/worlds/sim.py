"""`-Sim-v1`: users learned from a log, who answer whatever they are shown.

Half of the users of a log are for training, half for testing, and each half gets a model of its own, fitted on its
events and nothing else: `split="train"` and `split="test"` are two simulators of different people, so that an agent
trained in one can be judged in the other. `split="all"` is a third one, fitted on everyone, which holds nobody out.
Item vectors come from the training users, as everywhere.

Users are `recgym.users.LearnedUsers`, fitted at the first use (never by `recgym info`) and kept in the cache.
`python -m recgym fidelity --halves` says how far the two simulators of a data set differ.

**What depends on history.** Under `model="mf"`, the default, no answer depends on what was shown before: the id is a
bandit with a horizon, and planning can gain only from who leaves when. Under `model="sequential"` answers follow from
the history.

**Ends.** Leaving is fitted on sessions where the log has times (`sessions="auto"`): whoever pauses for more than
`gap_seconds` has left. In a log without times a session is all that a user did, so that hardly anybody leaves within a
horizon of 20, and the id is a matter of 20 answers.

**Known items.** What a person has in the log that the model was fitted on is not shown to them again
(`known="block"`): the model has learned these answers by heart. It works as `repeats` says, so that under
`repeats="allow"` nothing is blocked. People who know more than half of the items open no session.

**Versions.** v0 let people meet what they had rated (`known="allow"`) and fitted leaving on whole logs
(`sessions="one"`), so that almost nobody left; it is there as it was, but that nobody answers any more after leaving
within a slate.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.derived import identity
from recgym.options import check_choice
from recgym.storage import cache
from recgym.users import Guards, LearnedUsers, fit
from recgym.users.clicks import clicks_of
from recgym.users.fitted import files
from recgym.users.fitted.gap import Difference, difference
from recgym.users.fitted.penalties import next_entropy
from recgym.users.fitted.provenance import log_hash
from recgym.worlds.logs import load_parts

_FITTED = 1  # raise it when `recgym.users.fit` would make other users of the same log
_MAY_FIT = ContextVar("may fit", default=True)
_LARGE = 200_000  # events from which on an interrupted fit goes on where it was

FURTHER: dict[Any, Any] = {load_parts: None}  # as in `recgym.worlds.frame`


def world(
    *,
    frame_size: int = 10,
    model: str = "mf",
    n_members: int | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    lr: float | None = None,
    l2: float | Sequence[float] | None = None,
    held_out: float | None = None,
    sessions: str = "auto",
    known: str = "block",
    gap_seconds: int = 3600,
    weights: str | None = None,
    misses: int = 0,
    fit_seed: int = 0,
    device: str = "cpu",
    pessimism: float = 0.0,
    entropy_bonus: float = 0.0,
    clicks: str | None = None,
    attraction: float = 1.0,
    examination: float = 0.85,
    test_size: float = 0.5,
    **data: Any,
) -> tuple[Catalog, LearnedUsers]:
    """Returns items and users learned from a named log.

    Args:
        frame_size: F; the environment opens with everyone's last F events.
        model: `"mf"`, matrix factorisation with biases, whose answers depend on no history, or `"sequential"`, a
            recurrent network over it.
        n_members: Models in the ensemble; None: the model's own default, as of the five options after it.
        max_epochs: Most epochs.
        patience: Epochs without a new lowest loss after which fitting ends.
        lr: First step size.
        l2: Pull towards zero; of `"mf"` one or several to choose from.
        held_out: Share of everyone's events that choose epochs and pull; all events are fitted in the end.
        sessions: What leaving is fitted on: `"interval"`, events without a pause of `gap_seconds`, `"one"`, all that a
            user did, `"never"`, or `"auto"`: by interval where the log has times.
        known: What becomes of items that people have in the log: `"block"`, or `"allow"`.
        gap_seconds: Longest pause within a session.
        weights: `"propensity"` weighs events by one over their propensities; None: all the same.
        misses: For a log of what was taken only: so many drawn items per event count as not taken.
        fit_seed: Of start, order and luck of the fit.
        device: Where it is fitted, and where a sequential model computes: `"cpu"`, `"cuda"` or `"auto"`.
        pessimism: How many of the ensemble's standard deviations are taken from what is paid.
        entropy_bonus: How much the entropy of what follows an item in the training log adds to what it pays.
        clicks: How places of a slate count: None, all are answered, or a model of `recgym.users.Clicks`:
            `"independent"`, `"cascade"` or `"position"`. It is no part of the fit, as logs of answers tell no places.
        attraction: How likely an item that is looked at is answered; with `clicks` only.
        examination: How likely a place is looked at, relative to the one above it; for `"position"`.
        test_size: Share of people who are for testing.
        **data: What `recgym.worlds.logs.load_parts` takes.
    """
    check_choice("known", known, ("block", "allow"))
    parts = load_parts(test_size=test_size, **data)
    asked: dict[str, Any] = {"n_members": n_members, "max_epochs": max_epochs, "patience": patience, "lr": lr, "l2": l2}
    asked["held_out"] = held_out
    options = {"sessions": sessions, "gap_seconds": gap_seconds, "weights": weights, "misses": misses, "seed": fit_seed}
    options |= {name: value for name, value in asked.items() if value is not None}
    users, _ = fitted_users(parts.served, parts.catalog, model, device=device, **options)
    users = users.knowing(parts.served) if known == "block" else users
    law = clicks_of(clicks, attraction, examination)
    users = users if law is None else users.looking(law)
    if pessimism == 0 and entropy_bonus == 0:
        return parts.catalog, users
    entropy = next_entropy(parts.train) if entropy_bonus > 0 else None
    return parts.catalog, users.guarded(Guards(pessimism, entropy_bonus, entropy))


def fitted_users(
    log: InteractionLog, catalog: Catalog, model: str = "mf", *, device: str = "cpu", **options: Any
) -> tuple[LearnedUsers, Path]:
    """Returns users fitted on a log, from the cache where they are there, and the folder of the cache they are in.

    Args:
        log: What they are fitted on.
        catalog: Its items.
        model: As of `recgym.users.fit`, like all further options.
        device: See there; no part of what tells one fit from another.
        **options: See there.
    """
    key = {"log": identity(log) or log_hash(log), "model": model, "fitted": _FITTED, "options": options}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    is_large = log.n_events > _LARGE
    unfinished = cache.cache_dir() / "unfinished" / digest  # checkpoints, found again by the next process

    def build(folder: Path) -> None:
        if not _MAY_FIT.get():
            raise DataError(
                "users must have been fitted on this machine, got none of these options; gym.make fits them"
            )
        place = unfinished if is_large else None
        fit(log, catalog, model, device=device, folder=place, progress=True, **options).write_into(folder)
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

    alone = is_large and _MAY_FIT.get()  # two fits of one model would share what is unfinished
    folder = cache.entry(files.KIND, f"{log.name}-{model}", key, build, version=files.VERSION, alone=alone)
    users = LearnedUsers.load(folder, device)  # read back even when new: one source of bits
    users.log = log
    return users, folder


@contextmanager
def only_fitted() -> Iterator[None]:
    """Within it, users that were never fitted are a DataError: what only tells of an environment trains nothing."""
    token = _MAY_FIT.set(False)
    try:
        yield
    finally:
        _MAY_FIT.reset(token)


def compare_halves(*, n_people: int = 500, **options: Any) -> Difference:
    """Returns how the simulators of training and test users differ; `options` are those of `world`."""
    train, test = (world(split=split, **options)[1] for split in ("train", "test"))
    return difference(train, test, n_people=n_people)
