"""What docs/benchmarks.md says of off-policy evaluation: errors against the truth, selection, what policies earn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.results import Row
from recgym.evaluation.metrics import mean_interval

NAME = "ope"
_ERROR = (
    "mean over policies [95 % interval over policies] and how many of the 95 % intervals hold the truth; for a single "
    "policy, its error with its interval"
)
_CHOICE = "rank correlation with the truth, and the share of the best policy's return that the choice forgoes"
_ONE, _MANY = "one decision a session", "sessions of several decisions"


def present(folder: Path) -> list[str]:
    """Returns the name of the suite if it has rows."""
    return [NAME] if (folder / f"{NAME}.csv").exists() else []


def block(name: str, rows: Sequence[Row]) -> str:
    """Returns what the page says of the suite: tables, circumstances and command."""
    first = rows[0]
    commits = " and ".join(
        dict.fromkeys(row["commit"] + (" with changes" if row["dirty"] == "yes" else "") for row in rows)
    )
    return "\n".join(
        [
            tables(rows),
            "",
            f"{first['protocol']}. `obd`: the Open Bandit sample, Thompson sampling judged from the uniform log; its "
            f"truth is the click rate of its own log, known to {_truth_error(rows)}. Seed {first['seed']}, "
            f"commit {commits}.",
            "",
            f"Made by `python -m benchmarks.run --suite {name}`, then `python -m benchmarks.report`.",
        ]
    )


def tables(rows: Sequence[Row]) -> str:
    """Returns all tables with their headings."""
    parts = []
    for title, chosen in ((_ONE, lambda row: int(row["horizon"]) == 1), (_MANY, lambda row: int(row["horizon"]) > 1)):
        here = [row for row in rows if chosen(row)]
        estimates, selections = ([row for row in here if row["kind"] == kind] for kind in ("estimate", "selection"))
        if estimates:
            parts += [f"Error relative to the truth, {title}: {_ERROR}:", "", _grid(estimates, _error), ""]
        if selections:
            parts += [f"Choosing the best policy, {title}: {_CHOICE}:", "", _grid(selections, _choice), ""]
    parts += ["What the policies earn (return of a session, truth):", "", _truths(rows)]
    return "\n".join(parts)


def _grid(rows: Sequence[Row], cell: Callable[[Sequence[Row]], str]) -> str:
    """Returns a Markdown table: a line per estimator, a column per data set, horizon and behaviour policy."""
    columns = list(dict.fromkeys(_column(row) for row in rows))
    estimators = dict.fromkeys(row["estimator"] for row in rows)
    lines = [f"| estimator | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for estimator in estimators:
        cells = []
        for column in columns:
            own = [row for row in rows if row["estimator"] == estimator and _column(row) == column]
            cells.append(cell(own) if own else "")
        lines.append(f"| {estimator} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _column(row: Mapping[str, str]) -> str:
    steps = f", {row['horizon']} steps" if int(row["horizon"]) > 1 else ""
    return f"{row['data']}{steps}, log {row['behaviour']}"


def _error(rows: Sequence[Row]) -> str:
    errors = np.array([float(row["relative_error"]) for row in rows])
    known = errors[~np.isnan(errors)]
    if not len(known):
        return "no estimate"
    held = sum(float(row["low"]) <= float(row["truth"]) <= float(row["high"]) for row in rows)
    if len(known) == 1:
        row = rows[0]
        off = [float(row[name]) / float(row["truth"]) - 1.0 for name in ("value", "low", "high")]
        return f"{off[0]:+.1%} [{off[1]:+.1%}, {off[2]:+.1%}]"
    mean, low, high = mean_interval(known, n_draws=2000)
    return f"{mean:.1%} [{low:.1%}, {high:.1%}]; {held} of {len(rows)}"


def _choice(rows: Sequence[Row]) -> str:
    (row,) = rows
    return f"{float(row['rank_correlation']):.2f}; {float(row['regret']):.1%}"


def _truths(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row["kind"] == "truth"]
    columns = list(dict.fromkeys((row["data"], row["horizon"]) for row in known))
    names = dict.fromkeys(row["policy"] for row in known)
    heads = [f"{data}, {steps} step{'s' if int(steps) > 1 else ''}" for data, steps in columns]
    lines = [f"| policy | {' | '.join(heads)} |", "|---|" + "---|" * len(columns)]
    for name in names:
        own = {(row["data"], row["horizon"]): row for row in known if row["policy"] == name}
        cells = [
            f"{float(own[c]['value']):.3g} [{float(own[c]['low']):.3g}, {float(own[c]['high']):.3g}]"
            if c in own
            else ""
            for c in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _truth_error(rows: Sequence[Row]) -> str:
    wide = [
        (float(row["high"]) - float(row["low"])) / 2.0 / float(row["value"])
        for row in rows
        if row["kind"] == "truth" and row["policy"] == "bts"
    ]
    return " and ".join(f"{width:.0%}" for width in wide) if wide else "nothing here"
