"""What a fidelity report is made from: held-out events, users fitted on the rest and kept, and cards made before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recgym import embeddings
from recgym.data_source import DataSource
from recgym.errors import OptionError
from recgym.fidelity.calibrate import fit_calibrated
from recgym.fidelity.trust import how_fitted
from recgym.log import InteractionLog
from recgym.storage import cache
from recgym.users import LearnedUsers
from recgym.users.fitted import files
from recgym.users.fitted.provenance import log_hash
from recgym.worlds.sim import fitted_users

_CALIBRATED = 1  # raise it when `fit_calibrated` would make other users of the same log


def parts(source: DataSource, share: float = 0.1, seed: int = 0) -> tuple[InteractionLog, InteractionLog, bool]:
    """Returns training events, held-out events, and whether the items of the latter were shown at random.

    Args:
        source: Where the log is.
        share: Share of each user's events that is held out.
        seed: Of what is held out where a log has no times.
    """
    if source == DataSource("coat"):
        return source.load(reward="binary:3"), source.load(reward="binary:3", part="random"), True
    # the published order of ml-1m, as gaps and ties of its times tell of the rating on some copies
    log = source.load(order="sasrec") if source == DataSource("ml-1m") else source.load()
    return (*(log.split_random(share, seed) if log.times is None else log.split_ratio(share)), False)


def misses_of(train: InteractionLog, asked: int | None) -> int:
    """Returns how many drawn items per event count as not taken: as asked, or 1 where all rewards are alike."""
    if asked is not None:
        return asked
    low, high = train.rewards.min(), train.rewards.max()
    return int(low == high and low > 0)


def fitted(
    train: InteractionLog,
    model: str = "mf",
    *,
    misses: int = 0,
    weights: str | None = None,
    seed: int = 0,
    calibrate: bool = False,
    device: str = "auto",
) -> tuple[LearnedUsers, Path]:
    """Returns users fitted on a log, now or found in the cache, and their folder there.

    Args:
        train: What they are fitted on.
        model: As of `recgym.users.fit`, like the next three.
        misses: See there.
        weights: See there.
        seed: See there.
        calibrate: Whether their level is fitted again on held-back events, see `fit_calibrated`.
        device: Where it is done.
    """
    catalog = embeddings.svd(train, dim=min(16, train.n_users - 1, train.n_items - 1))
    wishes: dict[str, Any] = {"model": model, "weights": weights, "seed": seed}
    wishes |= {"misses": misses} if misses else {}
    if not calibrate:
        return fitted_users(train, catalog, device=device, **wishes)

    if misses:
        raise OptionError(f"calibrated users need answers of both kinds in the log, got misses={misses}; drop one")

    def build(folder: Path) -> None:
        fit_calibrated(train, catalog, device=device, **wishes).write_into(folder)

    key = {**wishes, "log": log_hash(train), "calibrated": _CALIBRATED}
    folder = cache.entry(files.KIND, f"{train.name}-calibrated", key, build, version=files.VERSION)
    return LearnedUsers.load(folder), folder


def kept(users: LearnedUsers) -> list[str]:
    """Returns what cards in the cache say of users of this kind, fitted on the same set without its end.

    Said is what the newest card says of users who were fitted alike; where there is none, what that of the most alike
    says, under the differences.

    Args:
        users: Of an environment; they know all events of their people, so nothing is left to judge themselves on.
    """
    ours = how_fitted(users, users.log)
    found = []
    for path in cache.cache_dir().glob("entries/users-*/card/card.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        theirs = card.get("fitted", {})  # cards of earlier versions do not say what they are of
        if card["kind"] == users.answers.kind and theirs.get("log") == ours["log"]:
            found.append((_differences(theirs, ours), -path.stat().st_mtime, path, card))
    if not found:
        return ["was not measured here: python -m recgym fidelity --dataset NAME does it"]
    differences, _, path, card = min(found, key=lambda one: (len(one[0]), one[1]))
    head = [f"of a differently fitted model: {'; '.join(differences)}"] if differences else []
    return [*head, *(f"LEAK: {text}" for text in card["leaks"]), *card["trust"], f"see {path.with_suffix('.html')}"]


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Returns in words how models were fitted otherwise than ours."""
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    return [f"{name} {theirs.get(name)}, here {ours.get(name)}" for name in names]
