"""Plots of results: an interval chart and learning curves, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Row
from recgym.storage.store import atomic_file

_COLOUR, _FLOOR, _PLAIN = "#1f5fa8", "#9a9a9a", "#333333"


def interval_chart(path: Path, title: str, rows: Sequence[Row], metrics: Sequence[str], floors: Sequence[str]) -> None:
    """Writes one panel per metric: each agent's value with its 95 % interval.

    Args:
        path: The PNG to write.
        title: What stands above the chart.
        rows: Result rows; those of other metrics are left out.
        metrics: Which metrics to show.
        floors: Agents to paint grey.
    """
    shown = {metric: [row for row in rows if row["metric"] == metric] for metric in metrics}
    height = 1.2 + 0.32 * max(len(of_metric) for of_metric in shown.values())
    figure, panels = _figure(len(metrics), 4.2 * len(metrics), height)
    for panel, (metric, of_metric) in zip(panels, shown.items(), strict=True):
        for place, row in enumerate(reversed(of_metric)):
            value, low, high = (float(row[name]) for name in ("value", "low", "high"))
            colour = _FLOOR if row["agent"] in floors else _COLOUR
            panel.plot([low, high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
            panel.plot(value, place, "o", color=colour, markersize=6)
        panel.set_yticks(range(len(of_metric)), [row["agent"] for row in reversed(of_metric)])
        panel.set_xlabel(metric.replace("_", " "))
        panel.set_xlim(left=min(0.0, *(float(row["low"]) for row in of_metric)))
        panel.grid(axis="x", alpha=0.3)
    figure.suptitle(title, color=_PLAIN)
    _save(figure, path)


def learning_curves(
    path: Path, title: str, curves: Mapping[str, Sequence[Mapping[str, float]]], metric: str, reference: float | None
) -> None:
    """Writes the metric on validation users against updates, one line per agent.

    Args:
        path: The PNG to write.
        title: What stands above the plot.
        curves: Points by agent: `step`, the metric, `low` and `high`.
        metric: Which column to show.
        reference: Where to draw popularity's value on the test users, or None.
    """
    figure, (panel,) = _figure(1, 6.0, 3.6)
    for agent, points in curves.items():
        steps = [point["step"] for point in points]
        (line,) = panel.plot(steps, [point[metric] for point in points], label=agent)
        band = [[point[end] for point in points] for end in ("low", "high")]
        panel.fill_between(steps, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    if reference is not None:
        panel.axhline(reference, color=_FLOOR, linestyle="--", label="popularity (test users)")
    panel.set_xlabel("updates")
    panel.set_ylabel(f"{metric.replace('_', ' ')}, validation users")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.suptitle(title, color=_PLAIN)
    _save(figure, path)


def time_chart(path: Path, title: str, points: Mapping[str, tuple[float, float]], metric: str) -> None:
    """Writes a score against the seconds it took to fit, the latter on a logarithmic axis.

    Args:
        path: The PNG to write.
        title: What stands above the plot.
        points: (seconds, score) by agent; what took less than a hundredth of a second stands there.
        metric: What the score is called.
    """
    figure, (panel,) = _figure(1, 6.0, 4.2)
    for agent, (seconds, score) in points.items():
        panel.plot(max(seconds, 0.01), score, "o", color=_COLOUR, markersize=5)
        panel.annotate(agent, (max(seconds, 0.01), score), (4, 4), textcoords="offset points", fontsize=7)
    panel.set_xscale("log")
    panel.set_xlabel("seconds of fitting")
    panel.set_ylabel(metric.replace("_", " "))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    figure.suptitle(title, color=_PLAIN)
    _save(figure, path)


def growth_chart(path: Path, title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes seconds against rows, both on logarithmic axes.

    Args:
        path: The PNG to write.
        title: What stands above the plot.
        curves: (rows, seconds) by name; names that begin with "recgym" are drawn bold.
    """
    figure, (panel,) = _figure(1, 7.5, 4.2)
    for name, points in curves.items():
        width = 2.6 if name.startswith("recgym") else 1.0
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=width, label=name)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("rows")
    panel.set_ylabel("seconds")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title, color=_PLAIN)
    _save(figure, path)


def _figure(n_panels: int, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _save(figure: Any, path: Path) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        figure.savefig(file, format="png", metadata={"Software": None})
