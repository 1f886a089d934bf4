"""What a fidelity report is made from: held-out events, users fitted on the rest and kept, and cards made before."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from recgym import cache, datasets, embeddings
from recgym.errors import DataError
from recgym.fidelity.calibrate import fit_calibrated
from recgym.log import InteractionLog
from recgym.users import LearnedUsers, files
from recgym.users.fitted_on import log_hash
from recgym.worlds.sim import fitted_users

_CALIBRATED = 1  # raise it when `fit_calibrated` would make other users of the same log


def parts(name: str, share: float = 0.1, seed: int = 0) -> tuple[InteractionLog, InteractionLog, bool]:
    """Returns training events, held-out events, and whether the items of the latter were shown at random.

    Args:
        name: A data set, or the folder of a saved log.
        share: Share of each user's events that is held out.
        seed: Of what is held out where a log has no times.
    """
    if name == "coat":
        load = partial(datasets.load, "coat", reward="binary:3")
        return load(part="self-selected"), load(part="random"), True
    if Path(name).is_dir():
        log = InteractionLog.open(name)
    elif name == "table":
        raise DataError("a table must be saved first, got 'table'; load it, .save(folder), and give the folder")
    else:  # the published order of ml-1m, as gaps and ties of its times tell of the rating on some copies
        log = datasets.load(name, order="sasrec") if name == "ml-1m" else datasets.load(name)
    return (*(log.split_random(share, seed) if log.times is None else log.split_ratio(share)), False)


def fitted(
    train: InteractionLog,
    model: str = "mf",
    *,
    weights: str | None = None,
    seed: int = 0,
    calibrate: bool = False,
    device: str = "auto",
) -> tuple[LearnedUsers, Path]:
    """Returns users fitted on a log, now or found in the cache, and their folder there.

    Args:
        train: What they are fitted on.
        model: As of `recgym.users.fit`, like the next two.
        weights: See there.
        seed: See there.
        calibrate: Whether their level is fitted again on held-back events, see `fit_calibrated`.
        device: Where it is done.
    """
    catalog = embeddings.svd(train, dim=min(16, train.n_users - 1, train.n_items - 1))
    wishes: dict[str, Any] = {"model": model, "weights": weights, "seed": seed}
    if not calibrate:
        return fitted_users(train, catalog, device=device, **wishes)

    def build(folder: Path) -> None:
        fit_calibrated(train, catalog, device=device, **wishes).write_into(folder)

    key = {**wishes, "log": log_hash(train), "calibrated": _CALIBRATED}
    folder = cache.entry(files.KIND, f"{train.name}-calibrated", key, build, version=files.VERSION)
    return LearnedUsers.load(folder), folder


def kept(users: LearnedUsers) -> list[str]:
    """Returns what the newest card in the cache says of users of this kind, fitted on the same set without its end.

    Args:
        users: Of an environment; they know all events of their people, so nothing is left to judge themselves on.
    """
    name, kind = re.sub(r"[^A-Za-z0-9._-]", "_", users.fitted_on.name), users.answers.kind
    found = cache.cache_dir().glob(f"entries/users-{name}-*/card/card.json")
    cards = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in found]
    cards = [(path, card) for path, card in cards if card["kind"] == kind]
    if not cards:
        return ["was not measured here: python -m recgym fidelity --dataset NAME does it"]
    path, card = max(cards, key=lambda one: one[0].stat().st_mtime)
    return [*(f"LEAK: {text}" for text in card["leaks"]), *card["trust"], f"see {path.with_suffix('.html')}"]
