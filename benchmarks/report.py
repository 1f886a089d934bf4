"""Writes tables and plots of the results into the pages of docs/ and README.md: `python -m benchmarks.report`.

A table stands between `<!-- results:NAME -->` and `<!-- /results:NAME -->`, NAME being the suite: those of the quality
suite in docs/leaderboard.md, its best known rows in README.md, all others in docs/benchmarks.md. With `--check` nothing
is written and the exit status is 1 where a page says something else than the rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import fidelity_report, ope_report, simulated, speed_report
from benchmarks.plots import interval_chart, learning_curves
from benchmarks.quality import report as quality_report
from benchmarks.results import FOLDER, Results, Row, place, protocols
from benchmarks.suites import FLOORS, SUITES, Suite
from benchmarks.tables import cell, in_order, table
from recgym.commands.ending import ended
from recgym.commands.words import Parser
from recgym.errors import RecgymError
from recgym.storage.store import atomic_file

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
LEADERBOARD = "leaderboard.md"  # beside the page


def write(page: Path, folder: Path) -> None:
    """Writes the plots of every suite that has rows, and their tables into the pages."""
    for suite in _with_rows(folder):
        plots(suite, Results(folder / f"{suite.name}.csv"), folder)
    for name in speed_report.present(folder):
        speed_report.plot(name, Results(folder / f"{name}.csv"), folder)
    if quality_report.present(folder):
        quality_report.plot(folder)
    for path, fill in _pages(page, folder).items():
        text = fill(path.read_text(encoding="utf-8"), folder)
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def leaderboard(text: str, folder: Path) -> str:
    """Returns the page of the quality suite with its tables put in place."""
    return put(text, {quality_report.NAME: quality_report.page(folder)}, LEADERBOARD)


def short(text: str, folder: Path) -> str:
    """Returns a README with the few rows of the quality suite that it shows put in place."""
    return put(text, {quality_report.NAME: quality_report.short(folder)}, "the README")


def _pages(page: Path, folder: Path) -> Mapping[Path, Callable[[str, Path], str]]:
    """Returns the pages that rows are written into, and what fills them; a page elsewhere stands alone."""
    pages: dict[Path, Callable[[str, Path], str]] = {page: filled}
    if quality_report.present(folder):
        others = {page.parent / LEADERBOARD: leaderboard, page.parent.parent / "README.md": short}
        pages |= {path: fill for path, fill in others.items() if path.exists()}
    return pages


def filled(text: str, folder: Path) -> str:
    """Returns the page of results with the block of every suite that has rows put in place."""
    blocks = {suite.name: block(suite, Results(folder / f"{suite.name}.csv").rows()) for suite in _with_rows(folder)}
    for other in (ope_report, fidelity_report, simulated, speed_report):
        blocks |= {name: other.block(name, Results(folder / f"{name}.csv").rows()) for name in other.present(folder)}
    return put(text, blocks, "the page")


def put(text: str, blocks: Mapping[str, str], where: str) -> str:
    """Returns a text with the blocks put between their markers.

    Raises:
        SystemExit: if a marker is missing or stands twice.
    """
    for name, content in blocks.items():
        begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise SystemExit(
                f"{where} must have the lines {begin} and {end} once each, in this order, got "
                f"{text.count(begin)} and {text.count(end)}; add them where the table belongs"
            )
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def block(suite: Suite, rows: Sequence[Row]) -> str:
    """Returns what the page says of a suite: table, paired differences, protocol, commands and plots."""
    singles = in_order(suite, rows)
    if len(found := protocols(rows)) != 1:
        raise SystemExit(
            f"the rows of {suite.name} must share one protocol and data, got {len(found)}: {sorted(found)}; "
            f"run the suite again with --force"
        )
    users = {row["unit"]: int(row["n"]) for row in singles}
    served = f", {users['sessions']:,} are served a session" if "sessions" in users else ""
    parts = [table(singles), *_pair_lines(rows), ""]
    parts += [
        f"{_once('protocol', singles)}. {users['users']:,} users are ranked for{served}; brackets hold 95 % bootstrap "
        f"intervals over users; coverage has none. Training seed {_once('seed', singles)}, device "
        f"{_once('device', singles)}, {_once('threads', singles)} threads, commit {_commits(rows)}.",
        "",
        f"Made by `python -m benchmarks.run --suite {suite.name}`, then `python -m benchmarks.report`.",
        "",
        f"![{suite.title}: values with intervals](../benchmarks/results/{suite.name}.png)",
    ]
    if any(int(row["n_steps"]) for row in singles):
        parts.append(f"![{suite.title}: learning curves](../benchmarks/results/{suite.name}-curves.png)")
    return "\n".join(parts)


def plots(suite: Suite, results: Results, folder: Path) -> list[Path]:
    """Writes the interval chart of a suite, and its learning curves where there are any; returns their paths."""
    rows = results.rows()
    singles = in_order(suite, rows)
    floors = [entry.name for entry in FLOORS]
    chart, curves = folder / f"{suite.name}.png", folder / f"{suite.name}-curves.png"
    shown = [metric for metric in (suite.headline, "session_return") if any(row["metric"] == metric for row in singles)]
    interval_chart(chart, suite.title, singles, shown, floors)
    agents = {(row["agent"], row["seed"]) for row in singles}
    points = {agent: results.curve(agent, int(seed)) for agent, seed in sorted(agents)}
    points = {agent: curve for agent, curve in points.items() if curve}
    if not points:
        return [chart]
    popularity = [row["value"] for row in singles if (row["agent"], row["metric"]) == ("popularity", suite.headline)]
    learning_curves(curves, suite.title, points, suite.headline, float(popularity[0]) if popularity else None)
    return [chart, curves]


def _pair_lines(rows: Sequence[Row]) -> list[str]:
    pairs = [row for row in rows if row["unit"] == "pairs"]
    lines = [
        f"- {row['agent'].replace(' - ', ' minus ')}, {row['metric']}: {cell(row, '+')} over {int(row['n']):,} users"
        for row in pairs
    ]
    return ["", "Paired by user:", *lines] if lines else []


def _once(column: str, rows: Sequence[Row]) -> str:
    return " and ".join(dict.fromkeys(row[column] for row in rows))


def _commits(rows: Sequence[Row]) -> str:
    named = (row["commit"] + (" with changes" if row["dirty"] == "yes" else "") for row in rows)
    return " and ".join(dict.fromkeys(named))


def _with_rows(folder: Path) -> list[Suite]:
    return [suite for suite in SUITES.values() if (folder / f"{suite.name}.csv").exists()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, then writes or checks."""
    parser = Parser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where pages and rows differ")
    parser.add_argument("--page", type=Path, default=PAGE, help="with leaderboard.md beside it and README.md above")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the rows (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.page == PAGE and place() != FOLDER:
        raise RecgymError("report writes the pages of a checkout, got none here; go there, or give --page")
    if not given.check:
        write(given.page, given.results)
        return
    for path, fill in _pages(given.page, given.results).items():
        text = path.read_text(encoding="utf-8")
        if fill(text, given.results) != text:
            print(f"{path} differs from the rows in {given.results}; run python -m benchmarks.report", file=sys.stderr)
            raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.report"))
