"""Fitting users to a log: `fit(log, catalog)`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.options import check_choice, check_items, check_seed
from recgym.users.fitted.churn import fit_leaving
from recgym.users.fitted.ensemble import Answers
from recgym.users.fitted.factors import Factors
from recgym.users.fitted.fit_options import FactorOptions, Options, Task, options_of, task_of
from recgym.users.fitted.learned import LearnedUsers
from recgym.users.fitted.provenance import FittedOn

MODELS = ("mf", "sequential")
_RECENT = 50  # events of every user that are kept for opening frames


def fit(
    log: InteractionLog,
    catalog: Catalog,
    model: str = "mf",
    *,
    sessions: str = "one",
    gap_seconds: int = 3600,
    weights: str | None = None,
    misses: int = 0,
    seed: int = 0,
    device: str = "auto",
    folder: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> LearnedUsers:
    """Returns users fitted to a log: an ensemble for what they answer, and hazards for when they leave.

    Part of the events is held out to choose how much to learn (epochs, and the pull towards zero): everyone's last ones
    where the log has times, else drawn ones. The members are then fitted to all events. An answer is one of the
    rewards in the log; of more than 16 different ones, 16 groups are made.

    Args:
        log: Training users and events, nothing else.
        catalog: Its items.
        model: `"mf"`, matrix factorisation with biases, or `"sequential"`, a recurrent network over the history.
        sessions: What leaving is fitted on: `"one"`, `"interval"`, `"never"` or `"auto"`, see
            `recgym.users.fitted.churn.Leaving`.
        gap_seconds: See there.
        weights: `"propensity"` weighs events by one over `log.propensities`, 1 on average; None: all the same.
        misses: For a log of what was taken only, whose rewards are above 0: so many drawn items per event count as not
            taken. Then users may leave an item unanswered; how often they do is a matter of this number, not learned.
        seed: Of start, order and luck.
        device: `"cpu"`, `"cuda"`, or `"auto"`: CUDA where there is one.
        folder: Where to keep the state of training after every epoch, and to go on from; None: nowhere.
        progress: Whether to show a progress bar.
        **options: Fields of `FactorOptions` or `SequentialOptions`.

    Raises:
        DataError: if an option is unknown or out of range, items differ, or all rewards are the same.
        StoreError: if `folder` holds the state of another fit.

    Source: see `recgym.users.fitted.factor_training` and `recgym.users.fitted.sequential_training`.

    Example:
        >>> from recgym.datasets.synthetic import synthetic
        >>> from recgym.embeddings import svd
        >>> log = synthetic(n_users=60, n_items=40)
        >>> users = fit(log, svd(log, dim=8), dim=4, max_epochs=2)
        >>> mean, spread = users.predict([0, 1], [5, 6])
        >>> mean.shape, users.saw(log).events
        ((2,), 1.0)
    """
    check_choice("model", model, MODELS)
    check_choice("weights", weights, (None, "propensity"))
    check_choice("device", device, ("auto", "cpu", "cuda"))
    check_items(log.item_ids, catalog.item_ids, 1)
    check_seed(seed)
    chosen = options_of(model, options)
    leaving = fit_leaving(log, sessions, gap_seconds)
    seen = FittedOn.of(log)
    told = {"log_hash": seen.log_hash, "model": model, "weights": weights, "misses": misses, "seed": seed}
    about = json.loads(json.dumps(told | asdict(chosen)))
    how = {"device": _device(device), "folder": None if folder is None else Path(folder), "progress": progress}
    task = task_of(log, chosen, weights=weights, misses=misses, seed=seed, about=about, **how)
    answers, course = _fitted(task, chosen)
    made = LearnedUsers(
        answers,
        leaving,
        levels=task.worth,
        user_ids=log.user_ids,
        item_ids=log.item_ids,
        recent=_recent(log),
        misses=misses > 0,
        reward_range=log.reward_range or (0.0, 0.0),
        fitted_on=seen,
        about=about | course | {"sessions": leaving.sessions, "gap_seconds": gap_seconds},
    )
    made.log = log
    return made


def _fitted(task: Task, options: Options) -> tuple[Answers, dict[str, Any]]:
    """Returns the ensemble, and what was chosen by validation."""
    if isinstance(options, FactorOptions):
        from recgym.users.fitted.factor_training import fit_factors

        arrays, chosen = fit_factors(task, options)
        return Factors(**arrays), chosen
    from recgym.users.fitted.sequential_training import fit_sequential

    return fit_sequential(task, options)


def _recent(log: InteractionLog) -> tuple[np.ndarray, np.ndarray]:
    """Returns everyone's last items (n_users, R) int32, padded on the left with n_items, and their rewards."""
    events = log.offsets[1:, None] + np.arange(-_RECENT, 0)
    padded = events < log.offsets[:-1, None]
    events = np.where(padded, 0, events)
    items = np.where(padded, log.n_items, log.items[events]).astype(np.int32)
    return items, np.where(padded, 0, log.rewards[events]).astype(np.float32)


def _device(name: str) -> str:
    """Returns `"cpu"` or `"cuda"`."""
    from recgym.batches.tensors import best_device

    best = best_device()
    if name == "cuda" and best != name:
        raise DataError("device 'cuda' needs a GPU that torch can use, got none; pass device='auto' or 'cpu'")
    return best if name == "auto" else name
