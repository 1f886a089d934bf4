"""From the data of a suite and one of its entries to a trained scorer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import recgym
from benchmarks.suites import Entry, Suite
from recgym import Catalog, InteractionLog, RecVectorEnv
from recgym.policies import Scorer, Uniform


@dataclass(frozen=True)
class Data:
    """What the entries of a suite share: the log, its parts, and the item vectors made from the training part."""

    suite: Suite
    log: InteractionLog
    train: InteractionLog
    valid: InteractionLog  # users for learning curves
    test: InteractionLog  # users for the tables

    @classmethod
    def load(cls, suite: Suite) -> Data:
        """Returns the data of a suite, split by user."""
        log = recgym.datasets.load(suite.dataset, **suite.options)
        rest, test = log.split_users(test_size=suite.test_size, seed=suite.split_seed)
        train, valid = rest.split_users(test_size=suite.valid_size, seed=suite.split_seed + 1)
        return cls(suite, log, train, valid, test)

    @cached_property
    def catalog(self) -> Catalog:
        """The items with their vectors."""
        return recgym.embeddings.svd(self.train, dim=self.suite.dim)

    @cached_property
    def hash(self) -> str:
        """The first 16 digits of the SHA-256 of every column of the log."""
        digest = hashlib.sha256()
        columns = [self.log.offsets, *(self.log.event_columns()[name] for name in sorted(self.log.event_columns()))]
        for column in columns:
            digest.update(str(column.dtype).encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]

    def env(self) -> RecVectorEnv:
        """Returns the environment that serves the test users: item actions, histories as observations."""
        return RecVectorEnv(
            min(64, self.test.n_users),
            users=recgym.users.ReplayUsers(self.test, self.suite.frame_size),
            catalog=self.catalog,
            frame_size=self.suite.frame_size,
            horizon=self.suite.horizon,
            action="item",
            observation="history",
            autoreset_mode="Disabled",
        )


class Built(NamedTuple):
    """A scorer, what its making took, and how it learned."""

    scorer: Scorer
    seconds: float
    device: str
    curve: list[dict[str, float]]


def build(entry: Entry, data: Data, seed: int, device: str = "auto") -> Built:
    """Returns the scorer an entry describes, fitted on the training users."""
    maker = entry_point(entry.build)
    data.catalog  # noqa: B018  made here, so that no entry pays for it
    start = time.perf_counter()
    if hasattr(maker, "update"):
        agent = maker(data.catalog, frame_size=data.suite.frame_size, seed=seed, device=device, **entry.config)
        curve = train(agent, entry, data, seed)
        return Built(agent, time.perf_counter() - start, str(agent.device), curve)
    if hasattr(maker, "fit"):
        scorer = maker.fit(data.train, **entry.config)
    else:
        scorer = maker(data.train, seed, **entry.config)
    return Built(scorer, time.perf_counter() - start, "cpu", [])


def train(agent: Any, entry: Entry, data: Data, seed: int) -> list[dict[str, float]]:
    """Trains an agent and returns its learning curve on the validation users."""
    from agents.train import batches_for, fit

    suite = data.suite
    batches = batches_for(agent, data.train, suite.frame_size, entry.batch_size, seed, entry.later)
    every = max(1, entry.n_steps // suite.curve_points)
    curve: list[dict[str, float]] = []
    start = time.perf_counter()

    def report(step: int, losses: Mapping[str, Any]) -> None:
        if step >= every * len(curve) or step == entry.n_steps:
            result = recgym.evaluate_ranking(agent, data.valid, suite.k, n_last=suite.n_last)
            value, low, high = result.mean_interval(suite.headline)
            seconds = time.perf_counter() - start
            curve.append({"step": step, "seconds": seconds, suite.headline: value, "low": low, "high": high})

    report(0, {})
    fit(agent, batches, entry.n_steps, report=report)
    return curve


def entry_point(name: str) -> Callable[..., Any]:
    """Returns what "package.module:Name" names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def uniform(log: InteractionLog, seed: int) -> Uniform:
    """Returns the scorer of chance."""
    return Uniform(log.item_ids, seed, log.reward)
