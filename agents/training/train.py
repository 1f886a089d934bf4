"""Every training loop of the project, and what `python -m agents.<name>` does with them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from agents.base import Agent, resolve_device
from agents.networks.scaling import settle_on_log
from agents.training import checkpoint, parallel, saving
from agents.training.auto import Watch
from agents.training.callbacks import CsvRows, Evaluation, Interruption, Progress, Report, TensorBoard, every, together
from agents.training.diagnostics import Diagnostics
from agents.training.finite import FiniteLosses, last_of
from agents.training.online import as_history as as_history
from agents.training.online import fit_online as fit_online
from recgym import datasets, embeddings
from recgym.batches import FrameBatches
from recgym.commands.ending import ended
from recgym.data_source import DataSource
from recgym.errors import DataError, StoreError
from recgym.evaluation.evaluate import Ranking, evaluate_ranking
from recgym.evaluation.metrics import Interval
from recgym.frames import Batch
from recgym.log import InteractionLog
from recgym.options import check_seed, check_sizes
from recgym.storage.store import MANIFEST, atomic_file, parsed_manifest
from recgym.users.replay import unserved


def fit(
    agent: Agent,
    batches: Iterable[Batch],
    n_steps: int | Literal["auto"],
    report: Report | None = None,
    *,
    first_step: int = 0,
    validation: InteractionLog | None = None,
) -> int:
    """Trains an agent on batches, epoch after epoch; returns the updates made in all, n_steps unless a report ended it.

    In a group of torch.distributed all processes call it together, each with its part of the batches: see
    `agents.training.parallel`. A report of any of them may end the training of all.

    Args:
        agent: Learns by `update`.
        batches: Iterated anew for each epoch, e.g. `FrameBatches`.
        n_steps: Updates in all, those before `first_step` included; `"auto"`: by the size of the log, until users held
            out for it are ranked no better, and the agent is then as it was when they were ranked best
            (`agents.training.auto`).
        report: Called as `report(step, losses)` after every update; ends the training by returning True.
        validation: Those users, for `"auto"`.
        first_step: Updates already made, as `checkpoint.load` returns them.

    Raises:
        DataError: if an epoch has no batch, rewards are not finite, or `"auto"` has no held-out users.
        DivergedError: if losses are NaN or infinite; it names the step and the last checkpoint.

    Warns:
        UserWarning: if rewards are such that little can be learned of them, see `agents.networks.scaling`; under
            `"auto"` if the agent ends below popularity.
    """
    if hasattr(agent, "meet") and (log := getattr(batches, "log", None)) is not None:
        agent.meet(log)
        if hasattr(agent, "constants"):
            settle_on_log(agent, log)
    finite, step = FiniteLosses(partial(last_of, agent)), first_step
    watch = Watch(agent, batches, validation) if n_steps == "auto" else None
    if watch is not None:
        report = watch if report is None else together(report, watch)
    most = watch.most if watch is not None else int(n_steps)
    replicas = parallel.Replicas(agent, batches, first_step)
    for step, batch in enumerate(islice(_endless(batches), max(most - first_step, 0)), first_step + 1):
        losses = replicas.update(step, batch)
        finite(step, batch, losses)
        if replicas.any(report is not None and report(step, losses)):
            break
    replicas.close()
    finite.look()
    return step if watch is None else watch.settle(step)


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        n = 0
        for batch in batches:
            n += 1
            yield batch
        if not n:
            raise DataError("an epoch must have a batch, got none; give batches that can be iterated again and again")


# -- the command line --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run(DataSource):
    """What to train on, for how long, and where to write."""

    steps: int = 10_000  # updates in all
    batch_size: int = 256  # decisions per update
    later: float = 0.7  # share of decisions whose action is any later event of the user, see FrameBatches
    frame_size: int = 10  # events an agent looks at
    dim: int | None = None  # width of item vectors, fitted to the training users; None: 128, or all a small log has
    test_size: float = 0.05  # share of users held out for the numbers printed at the end
    split_seed: int = 0  # which users those are
    validation_size: float = 0.05  # share of the others held out too: the agent they like best is kept in best/
    validate_every: int = 1_000  # updates between looks at them
    seed: int = 0  # seed of networks, batches and exploration
    device: str = "auto"  # cpu, cuda, or auto: CUDA where there is one
    folder: Path | None = None  # where losses and checkpoints go; by default runs/<agent>-<dataset>-<seed>
    save_every: int = 1_000  # updates between checkpoints
    keep: int = 3  # checkpoints kept
    log_every: int = 100  # updates between rows of losses
    tensorboard: bool = False  # whether to write TensorBoard events beside the CSV
    diagnose: bool = False  # whether to measure values, actions and lists at every checkpoint, and draw them as PNG
    resume: bool = False  # go on from the newest checkpoint in the folder

    def __post_init__(self) -> None:
        """Raises DataError if a number is out of range, or the device not here: before anything is loaded."""
        names = ("steps", "batch_size", "frame_size", "dim", "save_every", "keep", "log_every", "validate_every")
        check_sizes(**{name: getattr(self, name) for name in names if getattr(self, name) is not None})
        check_seed(self.seed)
        for name in ("later", "test_size", "validation_size"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise DataError(f"{name} must lie in 0..1, got {share}; give e.g. 0.05")
        resolve_device(self.device)


def command(main: Callable[..., Any]) -> NoReturn:
    """Runs the command line of an agent and ends the process: `python -m agents.NAME`."""
    sys.exit(run_words(main, sys.argv[1:]))


def run_words(main: Callable[..., Any], words: Sequence[str]) -> int:
    """Runs the command line of an agent, whose options the annotations of `main` are; returns the exit code."""
    import tyro

    # `--data` is another name of `--dataset`; tyro knows aliases of fields, which stand in the class of no command
    given = [re.sub(r"^--data(?==|$)", "--dataset", word) for word in words]
    spec = main.__globals__.get("__spec__")
    called = f"python -m {spec.name if spec else main.__module__}"

    def run(words: list[str]) -> Any:
        return tyro.cli(main, prog=called, args=words, config=(tyro.conf.OmitArgPrefixes,))

    return ended(run, given, called=called, go_on="--resume")


def train_agent(maker: Callable[..., Any], run: Run, config: Any) -> Ranking | None:
    """Trains an agent as asked on the command line, prints how it ranks for held-out users, and returns that.

    Held-out users are nobody the agent knows: their indices count from 0 again, so it is not told them. Started by
    torchrun, all processes train together, and the first alone writes, prints and returns: `agents.training.parallel`.

    Args:
        maker: The agent's class.
        run: What to train on.
        config: Its hyperparameters, a dataclass.

    Raises:
        StoreError: if the folder holds a run and `resume` is not asked for.
    """
    with parallel.joined() as ranks:
        folder = run.folder or Path("runs") / f"{maker.__name__.lower()}-{run.label}-{run.seed}"
        with parallel.first_of_machine_first():
            log = datasets.load(run.dataset, **run.options)
            known, test = log.split_users(test_size=run.test_size, seed=run.split_seed)
            train, validation = known, None
            if run.validation_size > 0:
                train, validation = known.split_users(test_size=run.validation_size, seed=run.split_seed + 1)
            catalog = embeddings.svd(train, dim=run.dim)
        agent = maker(catalog, frame_size=run.frame_size, seed=run.seed, device=run.device, **asdict(config))
        batches = batches_for(agent, train, run.frame_size, run.batch_size, run.seed, run.later)
        step = first_step(folder, agent, batches, run.resume or parallel.restarted())
        if not ranks.is_first:
            fit(agent, batches, run.steps, first_step=step)
            return None
        about = {"agent": saving.class_name(type(agent)), **_recipe(run, config, catalog.dim)}
        record = {**about, "log": str(train), "catalog": catalog.hash}
        if ranks.n > 1:
            record["processes"] = ranks.n
        write_json(folder / "run.json", record)
        by = f" by {ranks.n} processes" if ranks.n > 1 else ""
        print(f"{maker.__name__} on {train!r}, {agent.device}{by}, from step {step} to {run.steps}; writes to {folder}")
        if isinstance(batches, FrameBatches) and (left := unserved(train, run.frame_size, batches.min_history)):
            print(f"learns from whole frames: {left}")
        with Interruption() as interruption:
            report = _reports(run, folder, agent, batches, train, validation, step)
            done = fit(agent, batches, run.steps, together(report, interruption), first_step=step)
        if interruption.asked and done < run.steps:
            if not any(saving.step_of(path) == done for path in checkpoint.saved(folder)):
                checkpoint.save(folder, done, agent, batches, keep=run.keep)
            print(f"\nsaved after step {done} of {run.steps}, in {folder}", file=sys.stderr)
            raise KeyboardInterrupt
    return _judged(agent, test, folder, record)


def _reports(
    run: Run,
    folder: Path,
    agent: Any,
    batches: Any,
    train: InteractionLog,
    validation: InteractionLog | None,
    step: int,
) -> Report:
    """Returns what is done beside updates: progress, losses, checkpoints, diagnostics, looks at validation users."""
    saver = checkpoint.Checkpoints(folder, agent, batches, keep=run.keep)
    board = TensorBoard(folder, step) if run.tensorboard else None
    rows: list[Report] = [CsvRows(folder / "losses.csv", step)] + ([board] if board else [])
    drawn = [Diagnostics(agent, agent.catalog, train, folder, report=board, seed=run.seed)] if run.diagnose else []
    looks: list[Report] = []
    if validation is not None:
        kept: dict[str, Any] = {"metric": "mrr", "patience": None, "agent": agent, "folder": folder / "best"}
        judge = Evaluation(partial(_means, agent, validation), CsvRows(folder / "validation.csv", step), **kept)
        looks.append(every(run.validate_every, judge, last=run.steps))
    return together(
        Progress(run.steps, step),
        every(run.log_every, together(*rows)),
        every(run.save_every, together(saver, *drawn), last=run.steps),
        *looks,
    )


def _judged(agent: Any, test: InteractionLog, folder: Path, record: dict[str, Any]) -> Ranking:
    """Returns how a trained agent ranks for held-out users; prints it and adds it to the record of the run."""
    ranking = evaluate_ranking(lambda history: agent.scores(history._replace(user=None)), test, k=10)
    print(ranking)
    found: dict[str, Any] = {"test": {name: _ends(interval) for name, interval in ranking.summary().items()}}
    if (folder / "best" / MANIFEST).exists():
        found["best on validation"] = parsed_manifest(folder / "best")["about"]["validation"]
    write_json(folder / "run.json", {**record, "metrics": found})
    return ranking


def _recipe(run: Run, config: Any, dim: int) -> dict[str, Any]:
    """Returns all that makes a run anew, as JSON values."""
    sizes = {"test_size": run.test_size, "validation_size": run.validation_size, "seed": run.split_seed}
    names = ("steps", "batch_size", "later", "frame_size", "seed", "device")
    training = {name: getattr(run, name) for name in names}
    vectors = {"kind": "svd", "dim": dim}
    parts = {"data": run.recipe(), "split": sizes, "vectors": vectors, "training": training, "config": asdict(config)}
    return {**parts, "versions": saving.versions()}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes JSON values to a file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _ends(interval: Interval) -> dict[str, float]:
    """Returns an interval as JSON values; ends that are not defined are left out."""
    return {name: float(value) for name, value in interval._asdict().items() if np.isfinite(value)}


def _means(agent: Any, log: InteractionLog) -> dict[str, float]:
    """Returns how an agent ranks for people it does not know, a number per metric."""
    ranking = evaluate_ranking(lambda history: agent.scores(history._replace(user=None)), log, k=10)
    return {name: float(np.mean(values)) for name, values in ranking.values.items()}


def batches_for(agent: Any, log: InteractionLog, frame_size: int, batch_size: int, seed: int, later: float) -> Any:
    """Returns what an agent learns from: its own `batches(log, batch_size, seed, later)` if it has such, or frames.

    An agent has them whose batches are no frames, or need returns. Processes that train together each get their part.
    """
    if hasattr(agent, "batches"):
        batches = agent.batches(log, batch_size, seed, later)
    else:
        batches = FrameBatches(log, frame_size, batch_size, seed, later=later, device=agent.device)
    if parallel.present().n > 1:
        batches.share(*parallel.present())
    return batches


def first_step(folder: Path, agent: Agent, batches: Any, resume: bool) -> int:
    """Returns the step to begin after: 0, or the newest checkpoint's, once agent and batches are as they were then."""
    if not checkpoint.saved(folder):
        return 0
    if not resume:
        raise StoreError(f"{folder} must be free, got a run with checkpoints; pass --resume or another --folder")
    return checkpoint.load(folder, agent, batches)
