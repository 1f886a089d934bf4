"""From measures to words: how far to trust a user model, and what it had seen before it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recgym.fidelity.card import Row
from recgym.fidelity.policies import Agreement
from recgym.log import InteractionLog
from recgym.users.fitted.learned import LearnedUsers

RMSE, GAIN = "RMSE of the reward", "squared error less that of "  # names of measures
JUDGE = "judge's accuracy, real or simulated"
_PASSES, _SUSPECT = 0.55, 0.65  # accuracy of the judge up to which sequences pass, or nearly do
_CHOSEN = ("log_hash", "n_epochs", "chosen l2", "validation log-loss", "calibration")  # what a fit finds in its log
_ACCIDENTS = 5.0  # times as many accidental matches of two events' numbers as are expected


def how_fitted(model: LearnedUsers, log: InteractionLog) -> dict[str, Any]:
    """Returns what was asked of a fit, as JSON: equal for models of different people or events that were fitted alike.

    Args:
        model: Fitted on `log`.
        log: Its name, its number of items and what was made of its rewards are told too.
    """
    asked = {name: value for name, value in model.about.items() if name not in _CHOSEN}
    told = {"log": model.fitted_on.name, "items": model.n_items, "rewards": log.reward}
    return told | {"calibrated": "calibration" in model.about} | asked


def leaks(model: LearnedUsers, train: InteractionLog, held_out: InteractionLog) -> tuple[str, ...]:
    """Returns in words what the model saw of the held-out events, or of what is no training event; nothing, if nothing.

    A pair of user and item that stands in both logs, because the user came back to the item, is no leak.
    """
    seen = model.saw(held_out)
    pairs = [_pairs(log, train.n_items, train.user_ids) for log in (train, held_out)]
    again = float(np.isin(pairs[1], pairs[0]).mean())
    accidents = _ACCIDENTS * len(model.fitted_on.events) / 2.0**32
    found = []
    if seen.events - again > accidents:
        found.append(
            f"the model was fitted on {seen.events:.1%} of the held-out events; every figure below flatters it. Fit it "
            f"again on training events only"
        )
    elif not model.saw(train).same:
        found.append(
            "the model was fitted on another log than the training events given here; what it saw besides them is not "
            "known. Pass the log that it was fitted on"
        )
    return tuple(found)


def _pairs(log: InteractionLog, n_items: int, user_ids: np.ndarray) -> np.ndarray:
    """Returns a number per event (n_events,), equal for equal pairs of user and item, -1 and below for other users."""
    place = {user: index for index, user in enumerate(user_ids.tolist())}
    users = np.array([place.get(user, -1 - n) for n, user in enumerate(log.user_ids.tolist())], dtype=np.int64)
    return users[log.event_users()] * n_items + log.items


def words(sections: Mapping[str, tuple[Row, ...]], found: Agreement | None) -> tuple[str, ...]:
    """Returns what the measures mean for one who trains or compares agents in the simulator."""
    rows = {row.measure: row for section in sections.values() for row in section}
    said = [_accuracy(rows)]
    if "AUC within users" in rows:
        said.append(_personal(rows["AUC within users"]))
    said.append(_level(rows["mean predicted - mean observed"]))
    if JUDGE in rows:
        said.append(_sequence(rows[JUDGE]))
    said.append(_policies(found))
    return tuple(said)


def _accuracy(rows: Mapping[str, Row]) -> str:
    gains = {name.removeprefix(GAIN): row.model for name, row in rows.items() if name.startswith(GAIN)}
    if not gains:
        return f"It predicts rewards with an RMSE of {rows[RMSE].model}; nothing simpler was fitted to compare with."
    better = [name for name, gain in gains.items() if gain.high < 0]
    worse = [name for name, gain in gains.items() if gain.low > 0]
    if worse:
        return f"It predicts rewards worse than {' and '.join(worse)}: use it only if you need what that one lacks."
    if len(better) == len(gains):
        return f"It predicts rewards better than {' and '.join(better)}, beyond chance."
    equal = " and ".join(name for name in gains if name not in better)
    beaten = f" and better than {' and '.join(better)}" if better else ""
    return f"It predicts rewards about as well as {equal}{beaten}, as far as can be told."


def _personal(row: Row) -> str:
    if row.model.low <= 0.5:
        return "It does not know what one user likes more than another thing: its answers are not personal."
    return (
        f"Of a liked and a disliked item of one user it puts the liked one first in {row.model.mean:.0%} of cases "
        f"(chance: 50%)."
    )


def _level(row: Row) -> str:
    if row.model.low <= 0.0 <= row.model.high:
        return "Its level is right: predicted and observed rewards have the same mean, as far as can be told."
    way = "optimistic" if row.model.mean > 0 else "pessimistic"
    return f"It is {way}: predicted less observed reward is {row.model} on average; take that off every answer."


def _sequence(row: Row) -> str:
    rate = f"a judge tells simulated from real sequences of rewards with an accuracy of {row.model.mean:.0%}"
    if row.model.mean <= _PASSES:
        return f"Its sequences pass for real ones: {rate} (chance: 50%)."
    if row.model.mean <= _SUSPECT:
        return f"Its sequences nearly pass for real ones: {rate} (chance: 50%)."
    return f"Its sequences do not look like real ones: {rate}. Do not rely on what it says of streaks and moods."


def _policies(found: Agreement | None) -> str:
    if found is None:
        return (
            "What policies really earn is not known here, as no item was shown at random. Models of chosen items price "
            "policies too high as a rule: believe the order of policies before their values, and neither without a "
            "second simulator fitted on other users."
        )
    order = "ranks policies nearly as the truth does" if found.spearman.mean >= 0.95 else "ranks policies roughly"
    off = found.error.mean
    price = f"prices them {abs(off):.0%} too {'high' if off > 0 else 'low'}"
    return f"It {order} (Spearman {found.spearman}) and {price} on average ({found.error})."
