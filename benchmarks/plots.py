"""Plots of results: an interval chart and learning curves, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Row
from recgym.storage.store import atomic_file

_COLOUR, _FLOOR, _PLAIN = "#1f5fa8", "#9a9a9a", "#333333"
# Okabe and Ito's colours, which stay apart for the colour-blind; black in place of yellow, which fades on white.
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#7f7f7f")


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
    """Writes the metric on validation users against updates, at most eight agents a panel, the best first.

    Args:
        path: The PNG to write.
        title: What stands above the plot.
        curves: Points by agent: `step`, the metric, `low` and `high`.
        metric: Which column to show.
        reference: Where to draw popularity's value on the test users, or None.
    """
    ranked = sorted(curves, key=lambda agent: -curves[agent][-1][metric])
    n_panels = -(-len(ranked) // len(_LINES))
    per_panel = -(-len(ranked) // n_panels)
    figure, panels = _figure(n_panels, 6.4 * n_panels, 4.0)
    top = max(reference or 0.0, *(point["high"] for points in curves.values() for point in points))
    for place, panel in enumerate(panels):
        ends: list[tuple[float, float | None, str, str]] = []
        for colour, agent in zip(_LINES, ranked[place * per_panel : (place + 1) * per_panel], strict=False):
            points = curves[agent]
            steps = [point["step"] for point in points]
            panel.plot(steps, [point[metric] for point in points], color=colour, marker="o", markersize=2.5)
            band = [[point[end] for point in points] for end in ("low", "high")]
            panel.fill_between(steps, *band, color=colour, alpha=0.15, linewidth=0)
            ends.append((points[-1][metric], steps[-1], agent, colour))
        if reference is not None:
            panel.axhline(reference, color=_FLOOR, linestyle="--")
            ends.append((reference, None, "popularity (test users)", _FLOOR))
        _direct_labels(panel, ends, 1.05 * top)
        panel.set_xlabel("updates")
        panel.set_ylim(0, 1.05 * top)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{metric.replace('_', ' ')}, validation users")
    figure.suptitle(title, color=_PLAIN)
    _save(figure, path)


def _direct_labels(panel: Any, ends: Sequence[tuple[float, float | None, str, str]], top: float) -> None:
    """Names every line at the right of its panel, at the height where it ends or as near as names do not overlap."""
    gap = 0.055 * top
    ordered = sorted(ends, key=lambda end: end[0])
    heights = apart([end[0] for end in ordered], gap, top)
    for (value, step, name, colour), height in zip(ordered, heights, strict=True):
        right = panel.get_yaxis_transform()
        start, units = ((1.0, value), right) if step is None else ((step, value), "data")
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.6}
        words = panel.annotate(name, start, (1.03, height), units, right, line, False, color=colour, fontsize=8)
        words.set_verticalalignment("center")


def apart(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Returns ascending heights near ascending values that are `gap` apart and, where there is room, within 0..top."""
    heights: list[float] = []
    for value in values:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    limit = top
    for place in range(len(heights) - 1, -1, -1):
        heights[place] = min(heights[place], limit)
        limit = heights[place] - gap
    return heights


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
