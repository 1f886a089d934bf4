"""From the data of a suite and one of its entries to a trained scorer."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import recgym
from benchmarks.suites import Entry, Suite
from recgym import Catalog, History, InteractionLog, RecVectorEnv
from recgym.errors import DataError
from recgym.scorers import Scorer, Uniform

Tell = Callable[[Mapping[str, float]], Any]
METHODS = ("scores", "act", "update", "state_dict", "load_state_dict")  # of an agent, see agents.base


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


def build(entry: Entry, data: Data, seed: int, device: str = "auto", tell: Tell | None = None) -> Built:
    """Returns the scorer an entry describes, fitted on the training users; `tell` hears its learning curve."""
    maker = entry_point(entry.build)
    data.catalog  # noqa: B018  made here, so that no entry pays for it
    start = time.perf_counter()
    if is_agent(maker):
        agent = maker(data.catalog, frame_size=data.suite.frame_size, seed=seed, device=device, **entry.config)
        curve = train(agent, entry, data, seed, tell)
        return Built(agent, time.perf_counter() - start, str(agent.device), curve)
    scorer = ranker(maker, entry.config, data.train, seed, lambda: data.catalog)
    return Built(scorer, time.perf_counter() - start, "cpu", [])


def is_agent(maker: Any) -> bool:
    """Returns whether an entry point is the class of an agent: it has `update`.

    Raises:
        DataError: if it lacks another method of an agent.
    """
    if not (isinstance(maker, type) and hasattr(maker, "update")):
        return False
    lacking = [name for name in METHODS if not hasattr(maker, name)]
    if lacking:
        raise DataError(
            f"an agent must have {', '.join(METHODS)}, got {maker.__name__} without {', '.join(lacking)}; "
            "add them, as benchmarks/template_agent.py shows"
        )
    return True


def ranker(
    maker: Any, config: Mapping[str, Any], log: InteractionLog, seed: int, catalog: Callable[[], Catalog]
) -> Scorer:
    """Returns the scorer that an entry point stands for which is no agent.

    | it is | what is done |
    |---|---|
    | a class or object with `fit(log, **config)` | fitted on the log |
    | a scorer that is made already | taken as it is |
    | a function `(history, **config)`, perhaps with an argument `catalog` | asked for scores (B, n_items) |
    | a function `(log, seed, **config)` | called for a scorer |
    """
    if hasattr(maker, "fit"):
        return maker.fit(log, **config)
    if isinstance(maker, Scorer) and not isinstance(maker, type):
        return maker
    if not callable(maker):
        what = f"an entry point must name a class, a function or a scorer, got {type(maker).__name__}"
        raise DataError(f"{what}; see CONTRIBUTING.md")
    takes = inspect.signature(maker).parameters
    required = [name for name, parameter in takes.items() if parameter.default is inspect.Parameter.empty]
    if isinstance(maker, type) or required not in (["history"], ["history", "catalog"]):
        return maker(log, seed, **config)
    given = dict(config) | ({"catalog": catalog()} if "catalog" in takes else {})
    return Function(log.item_ids, log.reward, partial(maker, **given))


@dataclass(eq=False)
class Function:
    """A function of histories as a scorer."""

    item_ids: np.ndarray
    reward: str
    function: Callable[[History], Any]

    def scores(self, history: History) -> Any:
        """Returns scores (B, n_items)."""
        return self.function(history)


def train(agent: Any, entry: Entry, data: Data, seed: int, tell: Tell | None = None) -> list[dict[str, float]]:
    """Trains an agent and returns its learning curve on the validation users."""
    from agents.training.callbacks import Progress, together
    from agents.training.train import batches_for, fit

    suite = data.suite
    batches = batches_for(agent, data.train, suite.frame_size, entry.batch_size, seed, entry.later)
    every = max(1, entry.n_steps // suite.curve_points)
    curve: list[dict[str, float]] = []
    start = time.perf_counter()

    def report(step: int, losses: Mapping[str, Any]) -> None:
        if step >= every * len(curve) or step == entry.n_steps:
            result = recgym.evaluate_ranking(agent, data.valid, suite.k, n_last=suite.n_last, repeats=suite.repeats)
            value, low, high = result.mean_interval(suite.headline)
            seconds = time.perf_counter() - start
            curve.append({"step": step, "seconds": seconds, suite.headline: value, "low": low, "high": high})
            if tell is not None:
                tell(curve[-1])

    report(0, {})
    fit(agent, batches, entry.n_steps, report=together(Progress(entry.n_steps, leave=False), report))
    return curve


def entry_point(name: str) -> Callable[..., Any]:
    """Returns what "package.module:Name" names.

    Raises:
        DataError: if it reads otherwise, or there is no such thing.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise DataError(f"an entry point must read 'package.module:Name', got {name!r}; name what is to be run")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module of its own that it lacks
        raise DataError(
            f"Python must find {module!r}, got no such module; run from its folder, or install it"
        ) from error
    except (SyntaxError, ValueError, TypeError, NameError) as error:
        raise DataError(f"{module} must be importable, got {type(error).__name__}: {error}; mend it") from error
    except AttributeError as error:
        raise DataError(f"{module} must define {attribute!r}, got none; mend the name") from error


def uniform(log: InteractionLog, seed: int) -> Uniform:
    """Returns the scorer of chance."""
    return Uniform(log.item_ids, seed, log.reward)
