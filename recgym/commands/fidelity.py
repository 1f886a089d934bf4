"""`python -m recgym fidelity --dataset NAME`: fits users to a log, judges them, and writes their simulator card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recgym import data_source
from recgym.errors import OptionError
from recgym.options import check_seed

_SHARE = 0.1  # of events held out by default
_EPILOG = """\
What is held out: the last tenth of each user's events, in the order of the log; of a log without times, drawn events.
Of coat, the random coats are held out, liking (3 stars and more) is what is predicted, and policies are judged too.
Of --halves only the data, --model, --misses, --weights, --seed and --device count; nothing is held out or written.
The card is kept beside the fitted model, in the cache. Exit code 0 whatever the card says; read its words.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    data_source.add_arguments(parser, required=False)
    add(
        "--misses",
        type=int,
        help="of a log of what was taken: drawn items per event that count as not taken (default: "
        "1 where all rewards are alike, else 0)",
    )
    add("--model", choices=("mf", "sequential"), default="mf", help="kind of model (default: %(default)s)")
    add("--calibrate", action="store_true", help="refit its level on held-back training events (mf only)")
    add("--weights", choices=("propensity",), help="weigh training events by 1 / propensity")
    add("--held-out", type=float, help=f"share of each user's events to judge on (default: {_SHARE})")
    add("--seed", type=int, default=0, help="of fits and simulated luck (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to fit (default: %(default)s)")
    add("--out", type=Path, help="folder to write the card into as well")
    add(
        "--simulator",
        help="package.module:Factory of a simulator of your own (Gymnasium, Gym-0.2x, RecSim-shaped, or a function "
        "rate(items_so_far, item)): its card is printed, compared with the log if one is named",
    )
    add("--halves", action="store_true", help="only say how far the simulators of two halves of the people differ")


def run(options: argparse.Namespace) -> int:
    """Prints the card, keeps it beside the model, and returns 0."""
    check_seed(options.seed)
    if options.simulator:
        return _of_simulator(options)
    if not options.dataset:
        raise OptionError("fidelity needs a log, got none; give --data, or --simulator to judge a simulator alone")
    if options.halves:
        return _compare_halves(options)
    from recgym.fidelity import report
    from recgym.fidelity.card import FILES
    from recgym.fidelity.prepare import fitted, misses_of, parts
    from recgym.storage.store import check_place

    if options.out:
        check_place(options.out, own=FILES)
    print(f"reading {options.dataset}", flush=True)
    share = _SHARE if options.held_out is None else options.held_out
    train, held_out, at_random = parts(data_source.source_of(options), share, options.seed)
    print(f"{train}; {held_out.n_events:,} events held out", flush=True)
    misses = misses_of(train, options.misses)
    if misses and options.misses is None:
        print("all rewards are alike: drawn items count as not taken, one per event (--misses 1)", flush=True)
    wishes: dict[str, Any] = {
        "misses": misses,
        "weights": options.weights,
        "seed": options.seed,
        "device": options.device,
    }
    print(f"fitting {options.model} users, or finding them in the cache", flush=True)
    model, folder = fitted(train, options.model, calibrate=options.calibrate, **wishes)
    print("judging them", flush=True)
    card = report(model, train, held_out, shown_at_random=at_random, seed=options.seed)
    print(card)
    for place in [folder / "card", *([options.out] if options.out else [])]:
        print(f"written: {card.write(place) / 'card.html'}")
    return 0


def _of_simulator(options: argparse.Namespace) -> int:
    """Prints the card of a simulator of one's own; exit code 1 if a line of it is bad."""
    from recgym.commands.evaluate_policy import named
    from recgym.fidelity import judge

    source = data_source.source_of(options) if options.dataset else None
    raw = source is not None and not source.is_name and source.transform is None  # in the file's units
    log = None if source is None else source.load(**({"transform": "raw"} if raw else {}))
    card = judge(named(options.simulator, "a simulator"), log, name=options.simulator, seed=options.seed)
    print(card)
    return 1 if card.faults else 0


def _compare_halves(options: argparse.Namespace) -> int:
    """Prints how the simulators of training and test users differ: of `-Sim-v0`, or of a log split as that is."""
    from recgym.fidelity.prepare import fitted, misses_of
    from recgym.users.fitted.gap import difference
    from recgym.worlds.sim import compare_halves

    asked = {"--calibrate": options.calibrate, "--held-out": options.held_out is not None, "--out": options.out}
    given = [name for name, value in asked.items() if value]
    if given:
        raise OptionError(
            f"--halves must stand without --calibrate, --held-out and --out, got {', '.join(given)}; drop "
            f"{'it' if len(given) == 1 else 'them'}, or --halves"
        )
    source = data_source.source_of(options)
    wishes: dict[str, Any] = {"model": options.model, "weights": options.weights, "device": options.device}
    if source.is_name and options.misses is None:
        print(compare_halves(**source.recipe(), fit_seed=options.seed, **wishes))
    else:
        log = source.load()
        wishes["misses"] = misses_of(log, options.misses)
        train, test = (fitted(half, seed=options.seed, **wishes)[0] for half in log.split_users(test_size=0.5))
        print(difference(train, test))
    return 0
