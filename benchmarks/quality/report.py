"""What README and docs/leaderboard.md say of the quality suite: tables, paired differences, plots, made of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import longterm_report
from benchmarks.plots import interval_chart, learning_curves, time_chart
from benchmarks.quality import entries
from benchmarks.quality.ranking import CHOSEN, FINAL
from benchmarks.quality.store import Row, Store
from benchmarks.quality.tasks import TITLES

NAME = "quality"
_METRICS = ("hit_rate@10", "ndcg@10")
_FLOORS = tuple(entry.name for entry in entries.FLOORS)
_SHORT = "Q2"  # what README shows of it: floors, closed forms, and each learner beside its control
_SHOWN = (
    *(name for name in _FLOORS if name != "newest items"),  # at chance here
    *("item_knn", "ease", "ddpg", "gru cross-entropy", "sqn", "gru cross-entropy x4", "sqn x4"),
)


def present(folder: Path) -> list[str]:
    """Returns the protocols that have rows."""
    return [name for name, (rows, _) in TABLES.items() if rows(folder)]


def short(folder: Path) -> str:
    """Returns what README says: a few rows of Q2, at the checkpoint chosen on validation."""
    lines = ["| agent | hit_rate@10 | ndcg@10 | seeds | trained in |", "|---|---|---|---|---|"]
    found = {row["agent"]: row for row in ranked(Store(folder, _SHORT))}
    lines += [
        _line(found[agent], [cell(found[agent], metric) for metric in _METRICS]) for agent in _SHOWN if agent in found
    ]
    return "\n".join([*lines, "", f"{_SHORT}: {_title(_SHORT)}. {_words(list(found.values()))}"])


def page(folder: Path) -> str:
    """Returns what docs/leaderboard.md says of the ranking protocols: all rows, their circumstances, plots."""
    parts: list[str] = []
    for name in present(folder):
        parts += [f"## {name}: {_title(name)}", "", TABLES[name][1](folder), ""]
        if name in TITLES:
            parts += [_details(name, folder), ""]
        parts += [f"![{name}: {what}](../benchmarks/results/{file})" for what, file in _plots(name, folder)] + [""]
    return "\n".join(parts).rstrip()


def plot(folder: Path) -> list[Path]:
    """Writes interval chart, learning curves and score against training time of each protocol; returns their paths."""
    written = []
    for name in (name for name in present(folder) if name in TITLES):
        store = Store(folder, name)
        rows = [row for row in ranked(store) if row["group"] != "liked"]
        chart = folder / f"{store.path.stem}.png"
        title = f"{name}: {TITLES[name]}"
        as_results = [_as_result(row, metric) for row in rows for metric in _METRICS]
        interval_chart(chart, title, as_results, _METRICS, _FLOORS)
        times = folder / f"{store.path.stem}-time.png"
        points = {row["agent"]: (float(row["seconds"]), float(row["ndcg@10"])) for row in rows}
        time_chart(times, title, points, "ndcg@10")
        written += [chart, times]
        curves = {row["agent"]: store.curve(row["agent"], 0) for row in rows}
        if drawn := {agent: [_as_point(point) for point in curve] for agent, curve in curves.items() if curve}:
            path = folder / f"{store.path.stem}-curves.png"
            learning_curves(path, title, drawn, "ndcg@10", None)
            written.append(path)
    return [*written, longterm_report.plot(folder)] if longterm_report.present(folder) else written


def _plots(name: str, folder: Path) -> list[tuple[str, str]]:
    stem = Store(folder, name).path.stem
    found = (("values with intervals", ""), ("score against training time", "-time"), ("learning curves", "-curves"))
    return [(what, f"{stem}{end}.png") for what, end in found if (folder / f"{stem}{end}.png").exists()]


def _title(name: str) -> str:
    return TITLES.get(name, "what pays later")


# -- tables ------------------------------------------------------------------------------------------------------------


def ranked(store: Store) -> list[Row]:
    """Returns a row per agent and group, at the checkpoint chosen on validation, in the order of the suite."""
    place = {entry.name: place for place, entry in enumerate(entries.ROWS.get(store.name, ()))}
    rows = [row for row in store.rows() if row["unit"] != "pairs"]
    chosen = {row["agent"] for row in rows if row["checkpoint"] == CHOSEN}
    rows = [row for row in rows if row["checkpoint"] == (CHOSEN if row["agent"] in chosen else FINAL)]
    return sorted(rows, key=lambda row: place.get(row["agent"], len(place)))


def table(name: str, folder: Path) -> str:
    """Returns the table of a ranking protocol: a line per agent, published figures below, missing rows named."""
    store = Store(folder, name)
    rows = ranked(store)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    heads = [f"{metric}{f', {group}' if len(groups) > 1 else ''}" for group in groups for metric in _METRICS]
    lines = [f"| agent | {' | '.join(heads)} | seeds | trained in |", f"|---|{'---|' * (len(heads) + 2)}"]
    by_agent: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_agent.setdefault(row["agent"], {})[row["group"]] = row
    for of in by_agent.values():
        cells = [cell(of[group], metric) for group in groups for metric in _METRICS]
        lines.append(_line(next(iter(of.values())), cells))
    for label, *numbers in entries.QUOTED.get(name, ()):
        lines.append(f"| *{label}* | {' | '.join(f'*{number}*' for number in numbers)} | | |")
    missing = [entry.name for entry in entries.ROWS[name] if entry.name not in by_agent]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join([*lines, *_pairs(store), "", _words(rows)])


def cell(row: Row, metric: str, sign: str = "") -> str:
    """Returns a number with its interval."""
    low, high = (float(row[f"{metric}{end}"]) for end in ("_low", "_high"))
    return f"{float(row[metric]):{sign}.3f} [{low:.3f}, {high:.3f}]"


def _line(row: Row, cells: Sequence[str]) -> str:
    label = f"{row['agent']} (RL)" if row["rl"] == "yes" else row["agent"]
    return f"| {label} | {' | '.join(cells)} | {row['n_seeds']} | {float(row['seconds']):.0f} s |"


def _pairs(store: Store) -> list[str]:
    pairs = [row for row in store.rows() if row["unit"] == "pairs"]
    lines = [
        f"- {row['agent'].replace(' - ', ' minus ')}, {row['checkpoint']}, {row['group']}: "
        + ", ".join(f"{metric} {cell(row, metric, '+')}" for metric in _METRICS)
        for row in pairs
    ]
    return ["", "Paired by user:", *lines] if lines else []


def _words(rows: Sequence[Row]) -> str:
    words = " and ".join(dict.fromkeys(row["words"] for row in rows))
    n = max(int(row["n"]) for row in rows)
    return (
        f"{words}. {n:,} questions; brackets hold 95 % bootstrap intervals over seeds, then users. Learners at the "
        f"checkpoint chosen on validation. Lines in italics are quoted, not measured here."
    )


def _details(name: str, folder: Path) -> str:
    """Returns a table with both checkpoints of each row, what it cost and the command that makes it."""
    lines = ["| agent | checkpoint | updates | hit_rate@10 | ndcg@10 | tuning | device | command |", "|" + "---|" * 8]
    for row in Store(folder, name).rows():
        if row["unit"] != "pairs" and row["group"] == "all":
            cells = [row["agent"], row["checkpoint"], row["n_steps"], *(cell(row, metric) for metric in _METRICS)]
            cells += [row["tuning"], row["device"], "`" + row["command"] + "`"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _as_result(row: Row, metric: str) -> Row:
    ends = {"value": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}
    return {"agent": row["agent"], "metric": metric, **ends}


def _as_point(point: Mapping[str, float]) -> dict[str, float]:
    """Returns a point of a learning curve without a band."""
    return {**point, "low": point["ndcg@10"], "high": point["ndcg@10"]}


def _has_rows(name: str, folder: Path) -> bool:
    return Store(folder, name).path.exists()


TABLES: Mapping[str, tuple[Callable[[Path], bool], Callable[[Path], str]]] = {  # whether there are rows, and the table
    name: (partial(_has_rows, name), partial(table, name)) for name in TITLES
} | {"Q5": (longterm_report.present, longterm_report.table)}
