"""What a user model and simpler ones say of held-out events, and how right they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from recgym.evaluation.metrics import Interval, mean_interval
from recgym.fidelity import baselines, measures
from recgym.fidelity.card import Row, bare
from recgym.fidelity.held_out import Questions
from recgym.fidelity.trust import GAIN, RMSE
from recgym.log import InteractionLog
from recgym.users.fitted.learned import LearnedUsers

CHOICES = {  # what the baselines choose from, on held-back training events
    "biases": [baselines.Choice(0, pull) for pull in (1.0, 2.0, 4.0, 8.0)],
    "als": [baselines.Choice(dim, 2.0, pull) for dim in (8, 32) for pull in (4.0, 8.0, 16.0)],
}
HISTORY = 200  # events of the past that the model is shown with a question


class Said(NamedTuple):
    """What a model said of the held-out events."""

    mean: np.ndarray  # (n,) expected reward
    liking: np.ndarray | None  # (n,) probability that the event is liked; None where the model has none
    spread: np.ndarray | None = None  # (n,) standard deviation over the members of an ensemble


def ask(model: LearnedUsers, asked: Questions, bound: float) -> Said:
    """Returns what the model says of every question, knowing what came before it."""
    means, spreads, likings = [], [], []
    liked = model.levels >= bound
    for part in asked.batches():
        past = asked.history(part, HISTORY) if model.answers.memory_size else None
        of = asked.users[part], asked.items[part], past
        mean, spread = model.predict(*of)
        means.append(mean)
        spreads.append(spread)
        likings.append(model.probabilities(*of)[:, liked].sum(axis=1))
    return Said(np.concatenate(means), np.concatenate(likings), np.concatenate(spreads))


def baseline(train: InteractionLog, asked: Questions, name: str) -> Said:
    """Returns what one of `CHOICES`, fitted on the training log, says of every question."""
    mean = baselines.tuned(train, CHOICES[name]).model.predict(asked.users, asked.items)
    low, high = train.reward_range or (0.0, 1.0)
    two = len(np.unique(train.rewards)) == 2  # then the expected reward says how likely the better one is
    return Said(mean, (mean - low) / (high - low) if two else None)


def answer_rows(said: Mapping[str, Said], asked: Questions, liked: np.ndarray, seed: int) -> tuple[Row, ...]:
    """Returns how well every model foretold the held-out events; what they are too few for is left out.

    Args:
        said: By model; the one that is judged is called `this model`.
        asked: The held-out events.
        liked: Which of them count as liked (n,) bool.
        seed: Of resampling.
    """
    users, outcome = asked.users, asked.outcome
    found: dict[str, tuple[str, dict[str, Interval]]] = {}

    def note(measure: str, better: str, name: str, value: Interval) -> None:
        found.setdefault(measure, (better, {}))[1][name] = value

    for name, one in said.items():
        note(RMSE, "lower", name, measures.rmse(users, outcome, one.mean, seed=seed))
        error = measures.calibration(outcome, one.mean).error
        note("calibration error of the reward", "lower", name, bare(error))
        note("mean predicted - mean observed", "0", name, measures.event_mean(users, one.mean - outcome, seed=seed))
        for measure, better, value in _of_liking(users, liked, one, seed):
            note(measure, better, name, value)
    ours = (outcome - said["this model"].mean) ** 2
    for name in [name for name in said if name != "this model"]:  # paired, so what users share does not widen it
        gain = measures.event_mean(users, ours - (outcome - said[name].mean) ** 2, seed=seed)
        note(f"{GAIN}{name}", "below 0", "this model", gain)
    spread = said["this model"].spread
    if spread is not None and spread.max() > spread.min():
        likeness = stats.spearmanr(spread, np.abs(outcome - said["this model"].mean)).statistic
        note("rank correlation of spread and error", "above 0", "this model", bare(likeness))
    return tuple(Row(measure, better, values.pop("this model"), values) for measure, (better, values) in found.items())


def _of_liking(users: np.ndarray, liked: np.ndarray, said: Said, seed: int) -> Iterator[tuple[str, str, Interval]]:
    """Yields measures of what is liked and what is not: name, what is better, value."""
    if liked.all() or not liked.any():
        return
    if said.liking is not None:
        yield "log-loss of liking", "lower", measures.log_loss(users, liked, said.liking, seed=seed)
        yield "calibration error of liking", "lower", bare(measures.calibration(liked, said.liking).error)
    yield "AUC", "higher", measures.auc(users, liked, said.mean, seed=seed)
    share = np.bincount(users, weights=liked) / np.maximum(np.bincount(users), 1)
    if ((share > 0) & (share < 1)).any():
        within = measures.user_auc(users, liked, said.mean)
        yield "AUC within users", "higher", mean_interval(within, n_draws=measures.N_DRAWS, seed=seed)
    values, some = measures.user_ndcg(users, liked, said.mean)
    for name, chosen in (("users who liked some", values[some]), ("the others counted as 1", values)):
        yield f"NDCG@5, {name}", "higher", mean_interval(chosen, n_draws=measures.N_DRAWS, seed=seed)
