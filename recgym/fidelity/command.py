"""`python -m recgym fidelity --dataset NAME`: fits users to a log, judges them, and writes their simulator card."""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path

from recgym import cache, datasets, embeddings
from recgym.errors import DataError
from recgym.fidelity.calibrate import fit_calibrated
from recgym.fidelity.judge import report
from recgym.log import InteractionLog
from recgym.users import LearnedUsers, files
from recgym.users.fitted_on import log_hash
from recgym.worlds.sim import fitted_users

_CALIBRATED = 1  # raise it when `fit_calibrated` would make other users of the same log
_EPILOG = """\
What is held out: the last tenth of each user's events, in the order of the log; of a log without times, drawn events.
Of coat, the random coats are held out, liking (3 stars and more) is what is predicted, and policies are judged too.
The card is kept beside the fitted model, in the cache. Exit code 0 whatever the card says; read its words.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--dataset", required=True, help="name of a data set, e.g. ml-1m, or the folder of a saved log")
    add("--model", choices=("mf", "sequential"), default="mf", help="kind of model (default: %(default)s)")
    add("--calibrate", action="store_true", help="refit its level on held-back training events (mf only)")
    add("--weights", choices=("propensity",), help="weigh training events by 1 / propensity")
    add("--held-out", type=float, default=0.1, help="share of each user's events to judge on (default: %(default)s)")
    add("--seed", type=int, default=0, help="of fits and simulated luck (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to fit (default: %(default)s)")
    add("--out", type=Path, help="folder to write the card into as well")


def run(options: argparse.Namespace) -> int:
    """Prints the card, keeps it beside the model, and returns 0."""
    train, held_out, at_random = parts(options.dataset, options.held_out, options.seed)
    print(f"{train}; {held_out.n_events:,} events held out", flush=True)
    model, folder = fitted(train, options)
    card = report(model, train, held_out, shown_at_random=at_random, seed=options.seed)
    print(card)
    for place in [folder / "card", *([options.out] if options.out else [])]:
        print(f"written: {card.write(place) / 'card.html'}")
    return 0


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


def fitted(train: InteractionLog, options: argparse.Namespace) -> tuple[LearnedUsers, Path]:
    """Returns the model, fitted now or found in the cache, and its folder there."""
    catalog = embeddings.svd(train, dim=min(16, train.n_users - 1, train.n_items - 1))
    wishes = {"model": options.model, "weights": options.weights, "seed": options.seed}
    if not options.calibrate:
        return fitted_users(train, catalog, device=options.device, **wishes)

    def build(folder: Path) -> None:
        fit_calibrated(train, catalog, device=options.device, **wishes).write_into(folder)

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
