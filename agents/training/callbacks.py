"""Reports one hangs on a training loop: progress, CSV, TensorBoard, evaluation and early stopping.

A report is any function `(step, metrics)`; it may return True to end the training. Metrics are numbers or 0-d tensors:
they are read only by the reports that need them, so a GPU is not made to wait at every step.
"""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from agents.training import saving
from recgym.errors import DataError
from recgym.storage.store import MANIFEST, atomic_file, explained, parsed_manifest

_HEAD = ["step", "metric", "value"]
_BAR = 66  # columns of a progress bar without losses: a narrow bar, steps, times and speed
Report = Callable[[int, Mapping[str, Any]], Any]


def every(n: int, report: Report, last: int | None = None) -> Report:
    """Returns a report that is called at every n-th step, and at step `last` if given."""
    return lambda step, metrics: report(step, metrics) if step % n == 0 or step == last else None


def together(*reports: Report) -> Report:
    """Returns a report that calls each of them in order, and ends the training if any does."""

    def all_of_them(step: int, metrics: Mapping[str, Any]) -> bool:
        ends = [report(step, metrics) for report in reports]  # a list: each is called, whatever the others say
        return any(ends)

    return all_of_them


class Progress:
    """Shows a progress bar with speed, time left and, once in a while, the losses.

    Args:
        n_steps: Steps in all.
        first_step: Steps already made.
        refresh: Steps between two looks at the losses.
        leave: Whether the bar stays when all steps are made.
    """

    def __init__(self, n_steps: int, first_step: int = 0, refresh: int = 200, *, leave: bool = True) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(total=n_steps, initial=first_step, unit="step", dynamic_ncols=True, disable=None, leave=leave)
        self.refresh = refresh

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Moves the bar to `step`."""
        if step % self.refresh == 0 and not self.bar.disable:
            said = ", ".join(f"{name} {float(value):.3g}" for name, value in metrics.items())
            self.bar.set_postfix_str(shortened(said, (self.bar.ncols or 80) - _BAR), refresh=False)
        self.bar.update(step - self.bar.n)
        if step == self.bar.total:
            self.bar.close()


def shortened(text: str, width: int) -> str:
    """Returns as many of a text's parts, which commas divide, as fit beside a bar."""
    while len(text) > max(width, 0) and text:
        text = text.rpartition(", ")[0]
    return text


class Interruption:
    """Ends a training between two updates on Ctrl-C, so that all can be saved; a second Ctrl-C ends it at once.

    A report and a context: `with Interruption() as asked: fit(agent, batches, n, report=asked)`.

    Attributes:
        asked: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        """Listens, in the main thread; in others Ctrl-C is not heard anyway."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        """Listens no more."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Returns whether the training is to end here."""
        return self.asked

    def _hear(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class CsvRows:
    """Appends a row (step, metric, value) per metric to a CSV file; a resumed run goes on in it.

    Args:
        path: The file; made with its folder if need be.
        first_step: Steps already made: rows of later ones, which a killed run had not saved, are dropped. None keeps
            all that is there.
    """

    def __init__(self, path: str | Path, first_step: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if first_step is not None and self.path.exists():
            _drop_later(self.path, first_step)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of `step`."""
        with (
            explained(self.path.parent, "free the folder of the run"),
            self.path.open("a", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            if file.tell() == 0:  # new, or left empty by a kill or a full disk
                writer.writerow(_HEAD)
            writer.writerows([step, name, repr(float(value))] for name, value in metrics.items())


def _drop_later(path: Path, step: int) -> None:
    """Writes the file anew without rows of later steps, and without rows that were cut off or are none."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(line.replace("\0", "") for line in file))
    kept = [row for row in rows if len(row) == len(_HEAD) and row[0].isdecimal() and int(row[0]) <= step]
    if rows != [_HEAD, *kept]:
        with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_HEAD, *kept])


class TensorBoard:
    """Writes metrics as TensorBoard scalars; needs the extra `recgym[logging]`.

    Args:
        folder: Where the event file goes.
        first_step: Steps already made: TensorBoard shows nothing of what an earlier run wrote of later ones.

    Raises:
        ImportError: if tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, first_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            message = 'TensorBoard logging needs tensorboard, got no such module; pip install "recgym[logging]"'
            raise ImportError(message) from error
        self.writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of `step`."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, float(value), step)
        self.writer.flush()


class WandB:
    """Reports metrics to Weights & Biases; needs the extra `recgym[wandb]`.

    Args:
        run: A run that is open already; None opens one.
        settings: Of the run that is opened, as `wandb.init` takes them, e.g. `project="rec"`, `mode="offline"`.

    Raises:
        ImportError: if wandb is not installed.
    """

    def __init__(self, run: Any = None, **settings: Any) -> None:
        self.run = run or _tracker("wandb", "Weights & Biases").init(**settings)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Reports the metrics of `step`."""
        self.run.log({name: float(value) for name, value in metrics.items()}, step=step)


class MLflow:
    """Reports metrics to an MLflow run; needs the extra `recgym[mlflow]`.

    Args:
        run_id: The run that metrics belong to; None: the active one, which MLflow opens if there is none.

    Raises:
        ImportError: if mlflow is not installed.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.mlflow, self.run_id = _tracker("mlflow", "MLflow"), run_id

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Reports the metrics of `step`; MLflow allows no @ in names, so hit_rate@10 is hit_rate_at_10 there."""
        plain = {name.replace("@", "_at_"): float(value) for name, value in metrics.items()}
        self.mlflow.log_metrics(plain, step=step, run_id=self.run_id)


def _tracker(module: str, called: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        message = f'logging to {called} needs {module}, got no such module; pip install "recgym[{module}]"'
        raise ImportError(message) from error


class Evaluation:
    """Measures the agent now and then: `report=every(1000, Evaluation(measure))`; can end the training early.

    Args:
        measure: Returns metrics by name, e.g. on validation users.
        report: Told the metrics.
        metric: The metric that must improve; None never ends the training.
        patience: Measurements without improvement after which the training ends; None never ends it.
        agent: Kept in `folder` whenever the metric has improved, as `agents.save` does.
        folder: Where to; one that is there already holds the best of the run that goes on.

    Attributes:
        history: Step and metrics of every measurement.
        best: The highest value of `metric` so far.
    """

    def __init__(
        self,
        measure: Callable[[], Mapping[str, float]],
        report: Report | None = None,
        metric: str | None = None,
        patience: int | None = 3,
        agent: Any = None,
        folder: str | Path | None = None,
    ) -> None:
        if folder is not None and (agent is None or metric is None):
            raise DataError("keeping the best agent needs agent and metric, got none; pass both")
        self.agent, self.folder = agent, folder
        self.measure, self.report, self.metric, self.patience = measure, report, metric, patience
        self.history: list[tuple[int, Mapping[str, float]]] = []
        self.best = -np.inf
        self.waited = 0
        if folder is not None and (Path(folder) / MANIFEST).exists():
            self.best = float(parsed_manifest(Path(folder))["about"]["validation"][metric])

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Measures; returns whether the metric has not improved for `patience` measurements."""
        measured = self.measure()
        self.history.append((step, measured))
        if self.report is not None:
            self.report(step, measured)
        if self.metric is None:
            return False
        improved = measured[self.metric] > self.best
        self.waited = 0 if improved else self.waited + 1
        self.best = max(self.best, measured[self.metric])
        if improved and self.folder is not None:
            kept = {name: float(value) for name, value in measured.items()}
            saving.save(self.agent, self.folder, validation={"step": step, **kept})
        return self.patience is not None and self.waited >= self.patience
