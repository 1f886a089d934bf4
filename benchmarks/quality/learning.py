"""Training of one entry: kept on disk at every look at the validation split, gone on with where it stopped."""

from __future__ import annotations

import copy
import csv
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.build import entry_point
from benchmarks.quality.entry import Entry
from benchmarks.quality.measure import METRICS, values_of
from benchmarks.quality.tasks import Task
from recgym import InteractionLog
from recgym.batches import FrameBatches
from recgym.evaluation.questions import Questions
from recgym.storage.store import atomic_file

CHOOSES = METRICS[1]  # what the validation split chooses checkpoints by


class Learned(NamedTuple):
    """An agent after training, and where it stands at its best on the validation split."""

    agent: Any
    trained_as: Any  # its config while it learned
    best: _Best
    curve: list[dict[str, float]]
    seconds: float

    def choose(self) -> int:
        """Puts the chosen checkpoint into the agent; returns its step."""
        if self.trained_as is None:
            return self.best.load(self.agent)
        serving, self.agent.config = self.agent.config, self.trained_as
        step = self.best.load(self.agent)
        self.agent.config = serving
        return step


class Together(NamedTuple):
    """What several runs of one entry learned from their seeds, as one scorer."""

    runs: tuple[Learned, ...]
    agent: Any  # their `agents.Ensemble`
    curve: list[dict[str, float]]  # one look, at the end
    seconds: float  # of all runs, one after the other

    def choose(self) -> int:
        """Puts the chosen checkpoint into every agent; returns the sum of their steps."""
        return sum(run.choose() for run in self.runs)


def learned_together(entry: Entry, task: Task, seed: int, device: str, folder: Path) -> Together:
    """Returns what the seeds of `entry.together` learned, as one; arguments as of `learned`."""
    from agents import Ensemble

    assert entry.together is not None
    runs = tuple(learned(entry.together, task, member, device, folder) for member in entry.members(seed))
    ensemble, seconds = Ensemble([run.agent for run in runs]), sum(run.seconds for run in runs)
    point = {"step": sum(run.curve[-1]["step"] for run in runs), "seconds": seconds} | look(ensemble, task.valid)
    print(f"    {entry.name}: {CHOOSES} {point[CHOOSES]:.4f} ({seconds:.0f} s)", flush=True)
    return Together(runs, ensemble, [point], seconds)


def learned(entry: Entry, task: Task, seed: int, device: str, folder: Path) -> Learned:
    """Returns the trained agent of an entry: from its folder where it is finished, else trained to the end.

    An agent that cannot be saved (see `agents.base`) is trained in one go.

    Args:
        entry: What to train.
        task: What it learns from.
        seed: Seed of networks and batches.
        device: Where it learns.
        folder: Where checkpoints of all runs lie, one folder for each.
    """
    from agents.training.train import fit

    catalog = task.catalog(entry.vectors, entry.dim, **entry.vector_options)
    agent = entry_point(entry.build)(catalog, frame_size=entry.frame_size, seed=seed, device=device, **entry.config)
    batches = _batches(agent, entry, task.learn, seed)
    name = "".join(letter if letter.isalnum() else "_" for letter in entry.name)
    looks = _Looks(entry, agent, batches, task.valid, folder / f"{name}-{entry.key(task.learn_hash, seed)}")
    step = looks.resume()
    if not looks.curve:
        if entry.begins_with is not None:
            looks.before = _begin(agent, learned(entry.begins_with, task, seed, device, folder))
            looks.begun = time.perf_counter()
        looks(0, {})
    with quick_products():
        fit(agent, batches, entry.n_steps, looks, first_step=step)
    trained_as: Any = getattr(agent, "config", None)
    if entry.serving:
        agent.config = replace(trained_as, **entry.serving)
    return Learned(agent, trained_as, looks.best, looks.curve, looks.curve[-1]["seconds"])


class _Looks:
    """A report for `agents.fit`: sets step sizes, looks at the validation split now and then, and keeps what it saw."""

    def __init__(self, entry: Entry, agent: Any, batches: Any, valid: Questions, folder: Path) -> None:
        self.entry, self.agent, self.batches, self.valid, self.folder = entry, agent, batches, valid, folder
        self.keeps = all(hasattr(agent, need) for need in ("catalog", "frame_size", "seed", "config"))
        self.best = _Best(folder / "chosen" if self.keeps else None)
        self.every = max(1, entry.n_steps // entry.n_looks)
        self.curve: list[dict[str, float]] = []
        self.begun, self.before = time.perf_counter(), 0.0

    def resume(self) -> int:
        """Puts agent and batches where a run that was stopped left them; returns the step."""
        from agents import checkpoint

        if not self.keeps or not checkpoint.saved(self.folder):
            return 0
        step = checkpoint.load(self.folder, self.agent, self.batches)
        self.curve = [point for point in _read_curve(self.folder / "curve.csv") if point["step"] <= step]
        self.before = self.curve[-1]["seconds"]
        return step

    def __call__(self, step: int, losses: Mapping[str, Any]) -> None:
        """Does what is due after an update."""
        from agents import checkpoint

        entry, agent = self.entry, self.agent
        if entry.decays:
            set_rates(agent, step / entry.n_steps)
        if step % self.every and step != entry.n_steps:
            return
        seconds = self.before + time.perf_counter() - self.begun
        point = {"step": step, "seconds": seconds} | look(agent, self.valid)
        rivals = [past[CHOOSES] for past in self.curve if past["step"] or entry.begins_with is None]
        if (step or entry.begins_with is None) and (not rivals or point[CHOOSES] > max(rivals)):
            self.best.save(step, agent)  # what another network was at its best is no choice of this one
        self.curve.append(point)
        if self.keeps:
            _write_curve(self.folder / "curve.csv", self.curve)
            checkpoint.save(self.folder, step, agent, self.batches, keep=1)
        print(f"    {entry.name}, step {step}: {CHOOSES} {point[CHOOSES]:.4f} ({seconds:.0f} s)", flush=True)


def _batches(agent: Any, entry: Entry, log: InteractionLog, seed: int) -> Any:
    """Returns what an agent learns from."""
    from agents.training.train import batches_for

    if entry.min_history:
        options = {"later": entry.later, "min_history": entry.min_history, "device": agent.device}
        return FrameBatches(log, entry.frame_size, entry.batch_size, seed, **options)
    log = in_pieces(log, entry.pieces) if entry.pieces else log
    return batches_for(agent, log, entry.frame_size, entry.batch_size, seed, entry.later)


def _begin(agent: Any, other: Learned) -> float:
    """Puts the network of another agent at its best into this one, and its slow copy; returns that agent's seconds."""
    other.choose()
    weights = other.agent.nets.network.state_dict()
    for name in ("network", "network_target"):
        if hasattr(agent.nets, name):
            getattr(agent.nets, name).load_state_dict(weights)
    return other.seconds


@dataclass
class _Best:
    """The best checkpoint so far: in a folder, or in memory."""

    folder: Path | None
    held: tuple[int, Any] = (0, None)

    def save(self, step: int, agent: Any) -> None:
        from agents import checkpoint

        if self.folder is None:
            self.held = step, copy.deepcopy(agent.state_dict())
        else:
            checkpoint.save(self.folder, step, agent, keep=1)

    def load(self, agent: Any) -> int:
        from agents import checkpoint

        if self.folder is not None:
            return checkpoint.load(self.folder, agent)
        agent.load_state_dict(self.held[1])
        return self.held[0]


@contextmanager
def quick_products() -> Iterator[None]:
    """Runs its body with the matrix products of fp32 made in bf16 by processors that can, in two thirds of the time."""
    from torch.backends import mkldnn

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # by default 1,024 shapes of batches: gigabytes
    products: Any = mkldnn.matmul  # type: ignore[attr-defined]
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def look(agent: Any, asked: Questions) -> dict[str, float]:
    """Returns the means of all metrics over the questions."""
    return {metric: float(values.mean()) for metric, values in values_of(agent, asked).items()}


def set_rates(agent: Any, done: float, warm_up: float = 0.05) -> None:
    """Sets every optimizer's step size for the share of the training that is done, 0 to 1."""
    share = done / warm_up if done < warm_up else (1.0 - done) / (1.0 - warm_up)
    for optimizer in agent.optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * max(share, 1e-3)


def in_pieces(log: InteractionLog, n_steps: int) -> InteractionLog:
    """Returns a log whose users are pieces of at most `n_steps` steps, so that no event of a long user is left out.

    The newest piece of a user is full; each begins with the event that the one before it ended with.

    Example:
        >>> log = InteractionLog.from_events([1] * 6, [10, 20, 30, 40, 50, 60], [1.0] * 6)
        >>> pieces = in_pieces(log, 2)
        >>> [pieces.user(piece).items.tolist() for piece in range(pieces.n_users)]
        [[0, 1], [1, 2, 3], [3, 4, 5]]
    """
    rows, lengths = [], []
    for begin, end in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        ends = np.arange(end, begin + 1, -n_steps)[::-1]  # each piece's last event is before it
        for stop in ends:
            start = max(begin, stop - n_steps - 1)
            rows.append(np.arange(start, stop))
            lengths.append(stop - start)
    chosen = np.concatenate(rows)
    return InteractionLog(
        items=log.items[chosen],
        rewards=log.rewards[chosen],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=np.arange(len(lengths)),
        item_ids=log.item_ids,
        reward=log.reward,
        reward_range=log.reward_range,
        name=log.name,
    )


def _read_curve(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _write_curve(path: Path, points: list[dict[str, float]]) -> None:
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(points[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)
