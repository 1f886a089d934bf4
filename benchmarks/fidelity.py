"""How far learned users can be trusted: `python -m benchmarks.run --suite fidelity`.

Rows of Coat say what each way of fitting gives: fitted on the coats people chose, judged on coats drawn at random.
Rows of MovieLens-1M compare users learned from the first nine tenths of everyone's ratings with simpler models, on the
last tenth. `validation` is the error on held-back training events weighted by 1 / propensity: what a user without the
truth would choose by.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recgym import InteractionLog, datasets, embeddings, users
from recgym.data_source import DataSource
from recgym.evaluation.metrics import Interval, mean_interval
from recgym.fidelity import baselines, measures, policies, report
from recgym.fidelity.answers import CHOICES
from recgym.fidelity.calibrate import HeldBack, choose, held_back, recalibrated, thresholds
from recgym.fidelity.card import bare
from recgym.fidelity.prepare import parts
from recgym.storage.store import atomic_file
from recgym.users import LearnedUsers

COLUMNS = (
    *(
        "data",
        "model",
        "measure",
        "value",
        "low",
        "high",
        "validation",
        "n_users",
        "n_events",
        "seed",
        "fits",
        "seconds",
    ),
    *("protocol", "commit", "dirty", "versions"),
)
FITS = 3  # of each kind, on Coat
STARS = 2.5  # of a reward "scaled"
_IN_REWARDS = ("RMSE of the reward", "calibration error of the reward", "mean predicted - mean observed")
Row = dict[str, object]


class Variant(NamedTuple):
    """One way to fit users, and what it says."""

    model: str
    predicted: np.ndarray  # (n,) of the held-out events: expected reward
    validation: float  # root of the weighted mean squared error on held-back training events
    seconds: float  # of fitting


def run(path: Path, about: Mapping[str, str], seed: int = 0, *, small: bool = False) -> None:
    """Writes the rows of all data to `path`, replacing the file; sets that are not on this machine are left out."""
    here = datasets.sources.data_dir()
    rows: list[Row] = []
    if small:
        train, held_out = datasets.load("synthetic", n_users=200, n_items=60).split_ratio(0.2)
        rows += compared("synthetic", train, held_out, seed, "last fifth", max_epochs=2, dim=4)
    for name, made in () if small else (("coat", coat), ("ml-1m", movielens)):
        if here is not None and (here / name).is_dir():
            rows += made(seed)
        else:
            print(f"{name}: left out, no {name}/ under RECGYM_DATA", flush=True)
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**_plain(row), **about} for row in rows)
    if rows:
        from benchmarks.fidelity_report import tables

        print(tables([{name: str(row.get(name, "")) for name in COLUMNS} for row in map(_plain, rows)]), flush=True)


def _plain(row: Row) -> Row:
    """Returns the row with its numbers as short text, none for NaN."""
    text = {name: f"{value:.6g}" if value == value else "" for name, value in row.items() if isinstance(value, float)}
    return {**row, **text}


# -- Coat --------------------------------------------------------------------------------------------------------------


def coat(seed: int = 0) -> Iterator[Row]:
    """Yields the rows of every way to fit: means over several fits, with ends that span their intervals."""
    train, held_out, _ = parts(DataSource("coat"))
    made = policies.fixed_policies(train)
    who, items, outcome = held_out.event_users(), held_out.items, np.asarray(held_out.rewards, np.float64)
    true = policies.values(made, who, items, outcome)
    protocol = (
        "fitted on the coats people chose (liked: 3 stars and more), judged on coats drawn at random for the same "
        f"people; {len(made)} policies choose among each person's random coats"
    )
    place = {"data": "coat", "n_users": held_out.n_users, "n_events": held_out.n_events, "protocol": protocol}
    fits: dict[str, list[tuple[Variant, dict[str, Interval]]]] = {}
    for fit in range(seed, seed + FITS):
        for variant in coat_variants(train, held_out, fit):
            found = policies.agreement(policies.values(made, who, items, variant.predicted), true)
            fits.setdefault(variant.model, []).append((variant, _judged(who, outcome, variant.predicted, found)))
            print(f"coat, fit {fit}, {variant.model}: value error {found.error}", flush=True)
    for model, own in fits.items():
        validation, seconds = (float(np.mean([getattr(one, of) for one, _ in own])) for of in ("validation", "seconds"))
        about = {"model": model, "seed": seed, "fits": len(own), "seconds": seconds, "validation": validation}
        for measure in own[0][1]:
            values = np.array([judged[measure] for _, judged in own])  # (fits, 3)
            ends = Interval(values[:, 0].mean(), values[:, 1].min(), values[:, 2].max())
            yield {**place, **about, "measure": measure, **_ends(Interval(*map(float, ends)))}


def _judged(who: np.ndarray, outcome: np.ndarray, predicted: np.ndarray, found: policies.Agreement) -> dict[str, Any]:
    liked = outcome > 0
    values, some = measures.user_ndcg(who, liked, predicted)
    curve = measures.calibration(outcome, predicted)
    return {
        "AUC": measures.auc(who, liked, predicted),
        "AUC within users": mean_interval(measures.user_auc(who, liked, predicted)),
        "NDCG@5, users who liked some": mean_interval(values[some]),
        "NDCG@5, the others counted as 1": mean_interval(values),
        "log-loss of liking": measures.log_loss(who, liked, predicted),
        "calibration error of liking": bare(curve.error),
        "Spearman": found.spearman,
        "Kendall": found.kendall,
        "value error": found.error,
        "size of the value error": found.absolute_error,
        "regret": found.regret,
    }


def coat_variants(train: InteractionLog, held_out: InteractionLog, seed: int) -> Iterator[Variant]:
    """Yields every way to fit tried: plain, weighted by propensity, doubly robust, and with thresholds put in order."""
    who, items = held_out.event_users(), held_out.items
    inverse = 1.0 / np.asarray(train.propensities, np.float64)
    target = np.asarray(train.rewards, np.float64)

    def error(said: np.ndarray, events: np.ndarray) -> float:
        return float(np.average((said - target[events]) ** 2, weights=inverse[events]) ** 0.5)

    weighted = None
    for name, weights in (("biases", None), ("als", None), ("als, propensity", inverse)):
        start = time.perf_counter()
        weighted = baselines.tuned(train, CHOICES[name.partition(",")[0]], weights, seed)
        spent = time.perf_counter() - start
        yield Variant(name, weighted.model.predict(who, items), error(weighted.predicted, weighted.events), spent)
    if weighted is not None:
        yield doubly_robust(train, held_out, weighted, seed)
    catalog = embeddings.svd(train, dim=16)
    for name, how in (("mf", None), ("mf, propensity", "propensity")):
        start = time.perf_counter()
        model = users.fit(train, catalog, weights=how, seed=seed)
        spent = time.perf_counter() - start
        held = held_back(train, catalog, weights=how, seed=seed)
        yield Variant(name, _says(model, who, items), error(_expected(model, held), held.events), spent)
        chosen = choose(train, catalog, inverse, weights=how, seed=seed)
        model, held = users.fit(train, catalog, weights=how, seed=seed, l2=chosen.l2), chosen.held
        spent = time.perf_counter() - start
        yield Variant(f"{name}, folds", _says(model, who, items), error(_expected(model, held), held.events), spent)
        for kind, moved in (
            ("calibrated", thresholds(held, np.ones(train.n_events))),
            ("calibrated by propensity", chosen.moved),
        ):
            said = error(_expected(model, held, moved.shift, moved.scale), held.events)
            yield Variant(f"{name}, folds, {kind}", _says(recalibrated(model, moved), who, items), said, spent)


def doubly_robust(train: InteractionLog, held_out: InteractionLog, guess: baselines.Tuned, seed: int) -> Variant:
    """Returns the factors that fit, over all pairs of user and item, `m + (rated / p) * (r - m)`, m being a guess.

    Its mean squared error is unbiased where either the guess or the propensities are right. Where a pair was rated the
    guess is from a model that had not seen it, and p is at least 0.03. Penalties are chosen on held-back pairs; as the
    guesses of these know the whole log, that error is no validation beside the others.

    Source: Wang et al. (2019), Doubly robust joint learning for recommendation on data missing not at random, ICML.
    """
    start = time.perf_counter()
    who, items = np.divmod(np.arange(train.n_users * train.n_items), train.n_items)
    aims = guess.model.predict(who, items)
    rated = (train.event_users()[guess.events], train.items[guess.events])
    place = rated[0].astype(np.int64) * train.n_items + rated[1]
    chance = np.maximum(np.asarray(train.propensities, np.float64)[guess.events], 0.03)
    aims[place] = guess.predicted + (train.rewards[guess.events] - guess.predicted) / chance
    whole = InteractionLog(
        items=items.astype(np.int32),
        rewards=aims.astype(np.float32),
        offsets=np.arange(train.n_users + 1) * train.n_items,
        user_ids=train.user_ids,
        item_ids=train.item_ids,
        reward_range=train.reward_range,
    )
    choices = [baselines.Choice(dim, 40.0, pull) for dim in (8, 32) for pull in (20.0, 40.0, 80.0)]
    fitted = baselines.tuned(whole, choices, seed=seed)
    said = fitted.model.predict(held_out.event_users(), held_out.items)
    return Variant("als, doubly robust", said, float("nan"), time.perf_counter() - start)


def _says(model: LearnedUsers, who: np.ndarray, items: np.ndarray) -> np.ndarray:
    return model.predict(who, items)[0].astype(np.float64)


def _expected(model: LearnedUsers, held: HeldBack, shift: np.ndarray | float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Returns the expected reward of held-back events (n,)."""
    return np.diff(held.below(shift, scale), axis=1) @ model.levels.astype(np.float64)


# -- MovieLens-1M ------------------------------------------------------------------------------------------------------


def movielens(seed: int = 0) -> Iterator[Row]:
    """Yields the rows of users learned by matrix factorisation from MovieLens-1M, and of what they must beat."""
    train, held_out, _ = parts(DataSource("ml-1m"))
    return compared("ml-1m", train, held_out, seed, "last tenth of everyone's ratings in the published order")


def compared(
    name: str, train: InteractionLog, held_out: InteractionLog, seed: int, protocol: str, **options: Any
) -> Iterator[Row]:
    """Yields the rows of a simulator card, one per measure and model, what is in rewards as stars."""
    start = time.perf_counter()
    model = users.fit(train, embeddings.svd(train, dim=16), seed=seed, **options)
    fitted = time.perf_counter() - start
    card = report(model, train, held_out, seed=seed)
    place = {"data": name, "n_users": held_out.n_users, "n_events": held_out.n_events, "protocol": protocol}
    times = {"seconds": fitted, "seed": seed, "fits": 1}
    for row in (row for section in card.rows.values() for row in section):
        scale: Callable[[float], float] = partial(np.multiply, STARS if row.measure in _IN_REWARDS else 1.0)
        for who, interval in {"mf": row.model, **row.others}.items():
            ends = Interval(*(float(scale(end)) for end in interval))
            yield {**place, **times, "model": who, "measure": row.measure, **_ends(ends)}
    spent = time.perf_counter() - start
    yield {**place, **times, "model": "mf", "measure": "seconds of fit and report", **_ends(bare(spent))}
    print(f"{name}: fitted in {fitted:.0f} s, judged in {spent - fitted:.0f} s", flush=True)


def _ends(interval: Interval) -> Row:
    return dict(zip(("value", "low", "high"), interval, strict=True))
