"""The plots of a simulator card: calibration, distributions, policies. Needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recgym.fidelity.measures import Calibration
from recgym.fidelity.policies import Agreement

_MODEL, _REAL, _OTHERS = "#1f5fa8", "#9a9a9a", ("#c46a1b", "#4f8f4f")


@dataclass(frozen=True)
class Pictures:
    """What there is to draw.

    Attributes:
        calibrations: Curves by model, the model itself first.
        samples: Real and simulated values by what they are: rewards, lengths of sessions.
        agreement: Of policies, where truth is known.
    """

    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    samples: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    agreement: Agreement | None = None


def draw(pictures: Pictures, path: Path) -> bool:
    """Writes one PNG with a panel for everything there is; returns False, and writes none, without matplotlib."""
    if find_spec("matplotlib") is None:
        return False
    panels: list[Callable[[Any], None]] = []
    if pictures.calibrations:
        panels.append(partial(_calibration, pictures.calibrations))
    panels += [partial(_sample, name, real, made) for name, (real, made) in pictures.samples.items()]
    if pictures.agreement is not None:
        panels.append(partial(_policies, pictures.agreement))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, lines = min(2, max(len(panels), 1)), max(-(-len(panels) // 2), 1)
    figure = Figure(figsize=(4.4 * columns, 3.4 * lines), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, paint in enumerate(panels):
        panel = figure.add_subplot(lines, columns, place + 1)
        paint(panel)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3)
    figure.savefig(path, format="png", metadata={"Software": None})
    return True


def _calibration(curves: Mapping[str, Calibration], panel: Any) -> None:
    ends = [min(c.predicted.min() for c in curves.values()), max(c.predicted.max() for c in curves.values())]
    panel.plot(ends, ends, color=_REAL, linewidth=1)
    for place, (name, curve) in enumerate(curves.items()):
        style = (
            {"color": _MODEL, "linewidth": 2}
            if place == 0
            else {
                "color": _OTHERS[(place - 1) % len(_OTHERS)],
                "linewidth": 1,
                "linestyle": "--",
            }
        )
        panel.plot(curve.predicted, curve.observed, marker="o", markersize=3, label=name, **style)
    panel.set_title("Calibration", fontsize=10)
    panel.set_xlabel("predicted")
    panel.set_ylabel("observed")
    panel.legend(frameon=False, fontsize=8)


def _sample(name: str, real: np.ndarray, made: np.ndarray, panel: Any) -> None:
    edges = np.histogram_bin_edges(np.concatenate([real, made]), bins=20)
    for values, label, colour in ((real, "real", _REAL), (made, "simulated", _MODEL)):
        weights = np.full(len(values), 1.0 / len(values))
        panel.hist(values, edges, weights=weights, histtype="step", linewidth=1.8, color=colour, label=label)
    panel.set_title(name, fontsize=10)
    panel.set_ylabel("share")
    panel.legend(frameon=False, fontsize=8)


def _policies(agreement: Agreement, panel: Any) -> None:
    both = np.concatenate([agreement.simulated, agreement.true])
    panel.plot([both.min(), both.max()], [both.min(), both.max()], color=_REAL, linewidth=1)
    panel.plot(agreement.true, agreement.simulated, "o", color=_MODEL, markersize=4)
    panel.set_title(f"{len(agreement.true)} policies", fontsize=10)
    panel.set_xlabel("true value")
    panel.set_ylabel("value in the simulator")
