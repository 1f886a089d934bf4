"""What Q5 runs, as data: worlds where planning pays, and who learns in them. A learner of your own is one more row.

Hyperparameters were chosen in another world of the same kind (`seed=1`: other items, other people), by at most eight
trials each of one seed; the tables are made in the registered world (`seed=0`), from people that nobody trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NAME = "quality_q5"  # of the file of rows
METRICS = ("session_return", "chosen_return", "over_greedy", "share_of_gap")
TUNING_WORLD = 1  # seed of the world in which hyperparameters were chosen
SMALL = {"n_users": 80, "n_items": 30, "horizon": 6}  # of the smoke size


@dataclass(frozen=True)
class Learner:
    """An agent that learns from what it lives through in a world."""

    name: str
    build: str  # "agents:NAME", or "stable_baselines3:NAME"
    config: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of it
    n_steps: int = 1_500  # steps of the environment, each for all its rows
    rows: int = 64  # sessions side by side
    batch_size: int = 256
    buffer_size: int = 100_000
    warm_up: int = 1_000
    action: str = "item"  # what it does: "item" or "embedding"
    seeds: int = 5

    def smoke(self) -> Learner:
        """Returns the learner at a size that ends in a moment."""
        config = dict(self.config)
        if self.build.startswith("stable_baselines3"):
            config |= {"n_steps": 4, "batch_size": 8, "n_epochs": 1}
        return replace(self, config=config, n_steps=8, rows=4, batch_size=8, buffer_size=200, warm_up=8, seeds=1)


@dataclass(frozen=True)
class World:
    """An environment, what is known of it, and its learners."""

    name: str
    env_id: str
    known: tuple[str, ...]  # policies that know the truth, see `recgym.evaluation.floors`; "greedy" among them
    learners: tuple[Learner, ...]
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # of the environment, beside those of the id
    test_size: float = 0.2  # share of the people who are held out for the tables
    n_valid: int = 100  # sessions of trained-with people, with luck of their own, that choose checkpoints
    n_looks: int = 5  # at them, in a training

    def smoke(self) -> World:
        """Returns the world at a size that ends in a moment."""
        learners = tuple(learner.smoke() for learner in self.learners)
        return replace(self, learners=learners, options=SMALL, n_valid=4, n_looks=1)
