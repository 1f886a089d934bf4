"""What docs/benchmarks.md says of speed: a table per size, ratios to the fastest reader, how cost grows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plots import growth_chart
from benchmarks.results import Results, Row

TITLES = {
    "speed_data": "From a ratings file to a log",
    "speed_envs": "Environments",
    "speed_agents": "Learners",
    "speed_users": "Users",
    "speed_processes": "Two processes",
    "speed_serving": "Serving",
}
_HEAD = "| rows | task | by | seconds | times the fastest reader | processor seconds | peak MB | load |"
_FROM_FILE = ("read", "stream", "ingest", "second load")  # tasks that the table of files is about


def present(folder: Path) -> list[str]:
    """Returns the subjects that have rows."""
    return [name for name in TITLES if (folder / f"{name}.csv").exists()]


def block(name: str, rows: Sequence[Row]) -> str:
    """Returns what the page says of a subject: tables, circumstances, command and plot."""
    of_files = [row for row in rows if _task(row) in _FROM_FILE]
    others = [row for row in rows if _task(row).split(",")[0] not in _FROM_FILE]
    parts = [_files(of_files, rows), ""] if of_files else []
    parts += [_plain(others), ""] if others else []
    alone = (
        " A figure of files is the quickest of three processes of its own, imports excluded; load is the average "
        "number of running processes when it began."
    )
    parts += [
        f"{'; '.join(dict.fromkeys(row['protocol'] for row in rows))}.{alone if of_files else ''}",
        "",
        f"Made by `python -m benchmarks.speed {name.removeprefix('speed_')}`, then `python -m benchmarks.report`.",
    ]
    return "\n".join([*parts, "", f"![{TITLES[name]}](../benchmarks/results/{name}.png)"] if of_files else parts)


def plot(name: str, results: Results, folder: Path) -> None:
    """Writes the plot of seconds against rows, of a subject that has such."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(results.rows(), key=lambda row: int(row["n"])):
        if _task(row) in _FROM_FILE:
            curves.setdefault(f"{row['agent']}: {_task(row)}", []).append((float(row["n"]), float(row["value"])))
    if curves:
        growth_chart(folder / f"{name}.png", TITLES[name], curves)


def _files(seconds: Sequence[Row], rows: Sequence[Row]) -> str:
    of = {(row["agent"], row["metric"]): float(row["value"]) for row in rows}
    lines = [_HEAD, "|---|---|---|---|---|---|---|---|"]
    for n in sorted({int(row["n"]) for row in seconds}):
        own = [row for row in seconds if int(row["n"]) == n]
        reads = [float(row["value"]) for row in own if _task(row) == "read"]
        reads = reads or [float(row["value"]) for row in own if _task(row) == "stream"]
        for row in sorted(own, key=lambda row: (_FROM_FILE.index(_task(row)), float(row["value"]))):
            value = float(row["value"])
            memory = of[row["agent"], f"{_task(row)}, peak memory @{n}"]
            load = json.loads(row["config"])["load"]
            ratio = f"{value / min(reads):.1f}" if reads else ""
            processor = of.get((row["agent"], f"{_task(row)}, processor time @{n}"))
            busy = "" if processor is None else f"{processor:.2f}"
            cells = [f"{n:,}", _task(row), row["agent"], f"{value:.2f}", ratio, busy, f"{memory:,.0f}", load]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _plain(rows: Sequence[Row]) -> str:
    sizes = Counter((_task(row), row["agent"]) for row in rows)  # those measured at several say which, as "@256"
    lines = ["| task | by | value |", "|---|---|---|"]
    for row in rows:
        task = row["metric"] if sizes[_task(row), row["agent"]] > 1 else _task(row)
        lines.append(f"| {task} | {row['agent']} | {_shown(float(row['value']))} {row['unit']} |")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _task(row: Row) -> str:
    return row["metric"].rpartition(" @")[0]
