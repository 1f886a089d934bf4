"""How long to train, by the size of the log and by what held-out users say: `fit(..., "auto", validation=...)`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking
from recgym.log import InteractionLog
from recgym.scorers import Popularity

METRIC = "ndcg@10"
_EPOCHS, _LEAST, _MOST = 100, 500, 100_000  # passes over the log at most, and updates at least and at most
_LOOKS_PER_EPOCH, _FEWEST_BETWEEN = 1, 50  # looks at the held-out users, and updates between two
_USERS = 2_000  # held-out users looked at, the first of them


class Watch:
    """A report for `fit` that looks at held-out users once an epoch, keeps the best state, and ends the training.

    Args:
        agent: What learns; its whole state is kept in memory twice.
        batches: What it learns from, with a length and a `log`.
        validation: Users that are not in that log, of the same items.
        patience: Looks without improvement after which the training ends.

    Attributes:
        most: Updates at most: 100 passes over the log, 500 to 100,000.
        every: Updates between two looks.
        history: Step and ndcg@10 of every look.
        floor: The same of popularity in the training log.

    Raises:
        DataError: if there are no held-out users, they are of other items, or batches do not tell their log.
    """

    def __init__(self, agent: Any, batches: Any, validation: InteractionLog | None, patience: int = 5) -> None:
        log = getattr(batches, "log", None)
        if validation is None or log is None or not hasattr(batches, "__len__"):
            lacks = "validation=None" if validation is None else f"{type(batches).__name__} without log and length"
            raise DataError(
                f"n_steps='auto' needs batches of a log and held-out users, got {lacks}; split first: "
                "train, validation = log.split_users(test_size=0.1), and pass validation=validation"
            )
        if not np.array_equal(validation.item_ids, agent.item_ids):
            raise DataError(
                f"validation must have the agent's items, got {validation.n_items} items that differ from its "
                f"{len(agent.item_ids)}; split it from the training log"
            )
        self.agent, self.patience = agent, patience
        self.users = validation.select_users(np.arange(min(validation.n_users, _USERS)))
        self.most = int(np.clip(_EPOCHS * len(batches), _LEAST, _MOST))
        self.every = max(len(batches) // _LOOKS_PER_EPOCH, _FEWEST_BETWEEN)
        self.floor = self._measured(Popularity.fit(log).scores)
        self.history: list[tuple[int, float]] = []
        self._best: tuple[float, int, Mapping[str, Any]] | None = None

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Looks if it is time; returns whether the last `patience` looks were no better than the best before."""
        if step % self.every and step != self.most:
            return False
        found = self._measured(lambda history: self.agent.scores(history._replace(user=None)))
        self.history.append((step, found))
        if self._best is None or found > self._best[0]:
            self._best = found, step, copy.deepcopy(self.agent.state_dict())
        return sum(seen > self._best[1] for seen, _ in self.history) >= self.patience

    def settle(self, step: int) -> int:
        """Puts the best state back; returns its step.

        Warns:
            UserWarning: if even that ranks no better than popularity.
        """
        if self._best is None:
            return step
        best, step, state = self._best
        self.agent.load_state_dict(state)
        if best <= self.floor:
            warnings.warn(
                f"a trained agent should rank better than popularity, got {METRIC} {best:.4f} against {self.floor:.4f} "
                f"on {self.users.n_users} held-out users after {self.history[-1][0]} updates (best at {step}); try "
                "agents.ItemKNN, a larger log, or other step sizes",
                UserWarning,
                stacklevel=3,
            )
        return step

    def _measured(self, scores: Any) -> float:
        return float(evaluate_ranking(scores, self.users, k=10).values[METRIC].mean())
