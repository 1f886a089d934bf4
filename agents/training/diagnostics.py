"""A report that diagnoses an agent while it learns, into TensorBoard, CSV and pictures in the folder of the run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from agents.training.anomaly import fit_detector
from agents.training.callbacks import CsvRows, Report, together
from agents.training.diagnosis import DISTANCES, Diagnosis, diagnose, pairwise_distances
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.evaluation.metrics import exposure
from recgym.log import InteractionLog
from recgym.storage.store import atomic_file

_SHOWN = 50  # actions of which all distances are drawn


class Diagnostics:
    """A report for `fit` that diagnoses: `report=every(1000, Diagnostics(agent, catalog, log, "runs/mine"))`.

    Each time it appends rows to `diagnostics.csv` in the folder and draws `diagnostics.png`, and `losses.png` from the
    `losses.csv` there, if there is one. Training goes on as it would without it.

    Args:
        agent: The agent that learns.
        catalog: Its items.
        log: Where decisions to look at come from; training users, unless you look at nothing but them.
        folder: Folder of the run.
        report: Told the metrics too, e.g. a `TensorBoard`.
        n: Decisions looked at.
        k: Length of the lists.
        seed: Which decisions, and the detector's.

    Raises:
        ImportError: if matplotlib is not installed.
        DataError: if the log has no decision.
    """

    def __init__(
        self,
        agent: Any,
        catalog: Catalog,
        log: InteractionLog,
        folder: str | Path,
        *,
        report: Report | None = None,
        n: int = 1_000,
        k: int = 10,
        seed: int = 0,
    ) -> None:
        if find_spec("matplotlib") is None:
            raise ImportError('diagnostics draw with matplotlib, got no such module; pip install "recgym[bench]"')
        self.agent, self.catalog, self.folder, self.k = agent, catalog, Path(folder), k
        gamma = float(getattr(getattr(agent, "config", None), "gamma", 1.0))
        options: dict[str, Any] = {"gamma": gamma, "drop_last": False, "device": agent.device}
        self.batch = next(iter(FrameBatches(log, agent.frame_size, n, seed, **options)))
        directions = catalog.embeddings[np.linalg.norm(catalog.embeddings, axis=1) > 0]
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.detector = fit_detector(directions, seed=seed, device=agent.device).detector
        rows: Report = CsvRows(self.folder / "diagnostics.csv")
        self.report = rows if report is None else together(rows, report)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Diagnoses the agent after `step` updates, writes and draws."""
        found = diagnose(self.agent, self.catalog, self.batch, self.detector, self.k)
        self.report(step, found.metrics)
        plot_diagnosis(self.folder / "diagnostics.png", found, f"after {step:,} updates")
        if (self.folder / "losses.csv").exists():
            plot_losses(self.folder / "losses.png", self.folder / "losses.csv")


# -- pictures ----------------------------------------------------------------------------------------------------------


def plot_diagnosis(path: str | Path, found: Diagnosis, title: str = "") -> None:
    """Writes one picture of a diagnosis, a panel for each question it has an answer to.

    Args:
        path: The PNG to write.
        found: What to draw.
        title: What stands above it.
    """
    panels = [_draw_exposure]
    panels += [_draw_values] if found.values is not None else []
    panels += [_draw_pairs(kind) for kind in DISTANCES]
    panels += [_draw_nearest] if found.nearest else []
    panels += [_draw_errors] if found.errors else []
    figure, places = _figure(len(panels))
    for draw, panel in zip(panels, places, strict=True):
        draw(figure, panel, found)
    figure.suptitle(title)
    _save(figure, Path(path))


def plot_losses(path: str | Path, rows: str | Path) -> None:
    """Writes one picture of all losses in a CSV of rows (step, metric, value): as they are, and their running mean.

    Args:
        path: The PNG to write.
        rows: The CSV, as `CsvRows` writes it.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    with open(rows, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curves.setdefault(row["metric"], []).append((int(row["step"]), float(row["value"])))
    figure, places = _figure(len(curves))
    for panel, (name, points) in zip(places, curves.items(), strict=True):
        steps, values = (np.array(column) for column in zip(*points, strict=True))
        panel.plot(steps, values, color="#1f5fa8", alpha=0.25)
        width = max(len(values) // 20, 1)
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        panel.plot(steps[width - 1 :], mean, color="#1f5fa8")
        panel.set_title(name.replace("_", " "))
        panel.set_xlabel("updates")
        panel.grid(alpha=0.3)
    _save(figure, Path(path))


def _draw_exposure(figure: Any, panel: Any, found: Diagnosis) -> None:
    counts = np.sort(exposure(found.lists, found.n_items))
    share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    items = np.linspace(0.0, 1.0, len(share))
    panel.plot(items, share, color="#1f5fa8")
    panel.plot([0, 1], [0, 1], color="#9a9a9a", linestyle="--")
    k = found.lists.shape[1]
    panel.set_title(f"exposure: coverage {found.metrics[f'coverage@{k}']:.3f}, Gini {found.metrics[f'gini@{k}']:.3f}")
    panel.set_xlabel("share of items, the least shown first")
    panel.set_ylabel("share of what is shown")


def _draw_values(figure: Any, panel: Any, found: Diagnosis) -> None:
    both = np.stack([found.returns, np.asarray(found.values)])  # (2, N)
    panel.plot(*both, ".", color="#1f5fa8", alpha=0.4)
    ends = [both.min(), both.max()]
    panel.plot(ends, ends, color="#9a9a9a", linestyle="--")
    panel.set_title("value against observed return")
    panel.set_xlabel("discounted return to the end of the log")
    panel.set_ylabel("Q")


def _draw_pairs(kind: str) -> Any:
    def draw(figure: Any, panel: Any, found: Diagnosis) -> None:
        image = panel.imshow(pairwise_distances(found.actions[:_SHOWN], kind), cmap="viridis", vmin=0.0)
        figure.colorbar(image, ax=panel, shrink=0.8)
        panel.set_title(f"{kind} distances between actions")

    return draw


def _draw_nearest(figure: Any, panel: Any, found: Diagnosis) -> None:
    for kind, distance in found.nearest.items():
        panel.hist(distance, bins=40, histtype="step", label=kind)
    panel.set_title("distance of actions to the nearest item")
    panel.set_ylabel("actions")
    panel.legend(frameon=False)


def _draw_errors(figure: Any, panel: Any, found: Diagnosis) -> None:
    bins = np.histogram_bin_edges(np.concatenate(list(found.errors.values())), bins=40)
    for name, errors in found.errors.items():
        panel.hist(errors, bins=bins, alpha=0.5, label=f"{name} actions")
    panel.set_title("reconstruction error")
    panel.set_ylabel("actions")
    panel.legend(frameon=False)


def _figure(n_panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(n_panels, 3)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[n_panels:]:
        panel.set_axis_off()
    return figure, panels[:n_panels]


def _save(figure: Any, path: Path) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        figure.savefig(file, format="png", metadata={"Software": None})
