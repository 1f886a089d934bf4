"""`python -m recgym fidelity --dataset NAME`: fits users to a log, judges them, and writes their simulator card."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    add("--halves", action="store_true", help="only say how far the simulators of two halves of the people differ")


def run(options: argparse.Namespace) -> int:
    """Prints the card, keeps it beside the model, and returns 0."""
    if options.halves:
        return _compare_halves(options)
    from recgym.fidelity import report
    from recgym.fidelity.prepare import fitted, parts

    train, held_out, at_random = parts(options.dataset, options.held_out, options.seed)
    print(f"{train}; {held_out.n_events:,} events held out", flush=True)
    wishes = {"weights": options.weights, "seed": options.seed, "device": options.device}
    model, folder = fitted(train, options.model, calibrate=options.calibrate, **wishes)
    card = report(model, train, held_out, shown_at_random=at_random, seed=options.seed)
    print(card)
    for place in [folder / "card", *([options.out] if options.out else [])]:
        print(f"written: {card.write(place) / 'card.html'}")
    return 0


def _compare_halves(options: argparse.Namespace) -> int:
    """Prints how the simulators of training and test users of `-Sim-v0` differ."""
    from recgym.worlds.sim import compare_halves

    wishes = {"weights": options.weights, "fit_seed": options.seed, "device": options.device}
    print(compare_halves(dataset=options.dataset, model=options.model, **wishes))
    return 0
