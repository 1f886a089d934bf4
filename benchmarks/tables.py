"""Tables of rows as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Row
from benchmarks.suites import Suite


def in_order(suite: Suite, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that are no paired differences: entries in the order of the suite, then the others."""
    place = {entry.name: place for place, entry in enumerate(suite.entries)}
    singles = [row for row in rows if row["unit"] != "pairs"]
    return sorted(singles, key=lambda row: place.get(row["agent"], len(place)))


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table: a line per agent and seed, a column per metric, intervals in brackets."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["agent"], row["seed"], row["metric"]): cell(row) for row in rows}
    lines = [f"| agent | {' | '.join(metrics)} | fitted in |", f"|---|{'---|' * (len(metrics) + 1)}"]
    seeds = {row["seed"] for row in rows}
    for row in {(row["agent"], row["seed"]): row for row in rows}.values():
        name = row["agent"] if len(seeds) == 1 else f"{row['agent']} (seed {row['seed']})"
        values = [cells.get((row["agent"], row["seed"], metric), "") for metric in metrics]
        lines.append(f"| {name} | {' | '.join(values)} | {float(row['seconds']):.0f} s |")
    return "\n".join(lines)


def cell(row: Row, sign: str = "") -> str:
    """Returns a row's value with its interval."""
    value = f"{float(row['value']):{sign}.3f}"
    return f"{value} [{float(row['low']):.3f}, {float(row['high']):.3f}]" if row["low"] else value
