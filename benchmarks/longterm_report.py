"""What README and docs/leaderboard.md say of Q5: a table per world, made of the rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.longterm_suite import METRICS, NAME
from benchmarks.plots import interval_chart
from benchmarks.results import Results, Row

FLOORS = ("random", "popularity", "greedy", "rotating", "quality", "planner")
_HEADS = ("session return", "at the chosen checkpoint", "over greedy, paired", "share of the gap to the oracle")


def present(folder: Path) -> bool:
    """Returns whether there are rows."""
    return (folder / f"{NAME}.csv").exists()


def table(folder: Path) -> str:
    """Returns a table per world: what knows nothing or the truth above, learners below; seeds are put together."""
    rows = Results(folder / f"{NAME}.csv").rows()
    parts = []
    for world, mine in _by_world(rows).items():
        oracle = max(mine, key=lambda row: float(row["value"]) if _name(row) in FLOORS else -1.0)
        parts += [f"*{world}* (`{mine[0]['protocol'].split(',')[0]}`; oracle: {_name(oracle)})", "", _table(mine), ""]
    protocols = "; ".join(dict.fromkeys(row["protocol"] for row in rows))
    return "\n".join(
        [
            *parts,
            "`greedy`, `rotating`, `quality` and `planner` know the truth about users (`recgym floors`); learners see "
            "histories, and learned online from people who are not among those they are judged by. The gap is from "
            "`greedy` to the best that knows the truth. Hyperparameters were chosen in another world of the same kind, "
            "at most eight trials each; the chosen checkpoint by sessions with people of the training part. Brackets "
            "hold 95 % bootstrap intervals over seeds, then sessions: where there is one seed, over sessions alone. "
            f"Times are of a machine that others used too. {protocols}.",
        ]
    )


def plot(folder: Path) -> Path:
    """Writes an interval chart with a panel per world; returns its path."""
    worlds = _by_world(Results(folder / f"{NAME}.csv").rows())
    returns = [row for mine in worlds.values() for row in mine if row["metric"] == METRICS[0]]
    shown = [{**row, "agent": _name(row), "metric": row["agent"].split(": ")[0]} for row in returns]
    path = folder / f"{NAME}.png"
    interval_chart(path, "Q5: session return where planning pays", shown, list(worlds), FLOORS)
    return path


def _by_world(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each world that a table shows: known policies, then learners over all their seeds."""
    worlds: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: _name(row) not in FLOORS):
        if _name(row) in FLOORS or not row["seed"].isdigit():
            worlds.setdefault(row["agent"].split(": ")[0], []).append(row)
    return worlds


def _name(row: Row) -> str:
    return row["agent"].split(": ", 1)[1]


def _table(rows: Sequence[Row]) -> str:
    by_name: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_name.setdefault(_name(row), {})[row["metric"]] = row
    lines = [f"| agent | {' | '.join(_HEADS)} | seeds | trained in |", "|---|" + "---|" * (len(_HEADS) + 2)]
    for name, cells in by_name.items():
        known = name in FLOORS
        first = cells["session_return"]
        ends = ["", ""] if known else [str(json.loads(first["config"])["seeds"]), f"{float(first['seconds']):.0f} s"]
        lines.append(f"| {name} | {' | '.join(_cell(cells.get(metric), metric) for metric in METRICS)} | ")
        lines[-1] += " | ".join(ends) + " |"
    return "\n".join(lines)


def _cell(row: Row | None, metric: str) -> str:
    if row is None or not row["value"]:
        return ""
    digits, sign = (2, "") if metric == "share_of_gap" else (1, "+" if metric == "over_greedy" else "")
    return f"{float(row['value']):{sign}.{digits}f} [{float(row['low']):.{digits}f}, {float(row['high']):.{digits}f}]"
