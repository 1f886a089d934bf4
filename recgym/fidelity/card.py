"""The simulator card: what was measured of a user model, and in words how far to trust it, on one page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from recgym.evaluation.metrics import Interval
from recgym.fidelity.plots import Pictures, draw
from recgym.storage.store import atomic_folder

FILES = ("card.json", "card.md", "card.html", "card.png")  # the last only with matplotlib
_STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1rem}td,th{border-bottom:1px solid #ddd;padding:.25rem .7rem;"
    "text-align:left;vertical-align:top}img{max-width:100%}div{overflow-x:auto}h1{overflow-wrap:anywhere}"
    ".leak{background:#b00020;color:#fff;padding:.7rem 1rem;font-weight:bold}"
)


@dataclass(frozen=True)
class Row:
    """One measure: of the model, and of what it must beat."""

    measure: str
    better: str  # "lower", "higher" or what to compare with
    model: Interval
    others: Mapping[str, Interval] = field(default_factory=dict)  # by name of the baseline


def bare(value: float) -> Interval:
    """Returns a value that has no interval."""
    return Interval(float(value), float("nan"), float("nan"))


@dataclass(frozen=True)
class Card:
    """What `recgym.fidelity.report` found; `write` makes the page.

    Attributes:
        title: Which model of which log.
        kind: Of the model: `"mf"` or `"sequential"`.
        about: Circumstances by name: what was fitted on what, how much was held out.
        rows: Measures by section.
        trust: In words how far to trust the model, one sentence each.
        leaks: In words what the model had seen of what it was judged on; empty where nothing.
        notes: What was not measured, and why.
        pictures: What the plots show.
        fitted: How the model was fitted, see `recgym.fidelity.trust.how_fitted`.
    """

    title: str
    kind: str
    about: Mapping[str, str]
    rows: Mapping[str, tuple[Row, ...]]
    trust: tuple[str, ...]
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: Pictures = field(default_factory=Pictures)
    fitted: Mapping[str, object] = field(default_factory=dict)

    def __getitem__(self, measure: str) -> Interval:
        return next(row.model for rows in self.rows.values() for row in rows if row.measure == measure)

    def __str__(self) -> str:
        lines = [self.title, *(f"LEAK: {text}" for text in self.leaks)]
        for section, rows in self.rows.items():
            lines.append(f"{section} (95 % intervals over users)")
            for row in rows:
                others = "; ".join(f"{name} {value}" for name, value in row.others.items())
                lines.append(f"  {row.measure:36} {row.model!s:28} {others}".rstrip())
        lines += [f"trust: {text}" for text in self.trust]
        return "\n".join([*lines, *(f"note: {text}" for text in self.notes)])

    def write(self, folder: str | Path) -> Path:
        """Writes `card.md`, `card.html`, `card.json` and, with matplotlib, `card.png` as one folder, whole or not.

        Args:
            folder: Becomes the card; an earlier card there is replaced.

        Raises:
            StoreError: if it cannot be written to, or anything but an earlier card is there.
        """
        with atomic_folder(folder, own=FILES) as temporary:
            picture = temporary / "card.png"
            drawn = draw(self.pictures, picture)
            card = self if drawn else replace(self, notes=(*self.notes, "Plots need matplotlib, which is not here."))
            (temporary / "card.md").write_text(card.markdown(drawn), encoding="utf-8")
            (temporary / "card.html").write_text(card.html(picture if drawn else None), encoding="utf-8")
            numbers = json.dumps(card.numbers(), indent=1, allow_nan=False)
            (temporary / "card.json").write_text(numbers, encoding="utf-8")
        return Path(folder)

    def numbers(self) -> dict[str, object]:
        """Returns everything but the plots as plain JSON values."""
        rows = {
            row.measure: {name: _plain(value) for name, value in {"model": row.model, **row.others}.items()}
            for section in self.rows.values()
            for row in section
        }
        words = {"trust": list(self.trust), "leaks": list(self.leaks), "notes": list(self.notes)}
        made = {"title": self.title, "kind": self.kind, "fitted": dict(self.fitted), "about": dict(self.about)}
        return {**made, "measures": rows, **words}

    def markdown(self, picture: bool = False) -> str:
        """Returns the page as Markdown."""
        parts = [f"# {self.title}", *(f"**LEAK: {text}**" for text in self.leaks)]
        parts += ["## How far to trust it", "\n".join(f"- {text}" for text in self.trust)]
        for section, rows in self.rows.items():
            head, *body = _table(rows)
            lines = [_line(head), "|---" * len(head) + "|", *(_line(cells) for cells in body)]
            parts += [f"## {section}", "\n".join(lines)]
        parts += ["![plots](card.png)"] if picture else []
        parts += ["## Circumstances", "\n".join(f"- {name}: {value}" for name, value in self.about.items())]
        parts += ["\n".join(f"- {text}" for text in self.notes)] if self.notes else []
        return "\n\n".join(parts) + "\n"

    def html(self, picture: Path | None = None) -> str:
        """Returns the page as one HTML file, the plot inside it."""
        safe = html.escape
        parts = [f"<h1>{safe(self.title)}</h1>", *(f'<p class="leak">LEAK: {safe(text)}</p>' for text in self.leaks)]
        parts += ["<h2>How far to trust it</h2>", _bullets(self.trust)]
        for section, rows in self.rows.items():
            head, *body = _table(rows)
            lines = [_cells("th", head), *(_cells("td", cells) for cells in body)]
            parts.append(f"<h2>{safe(section)}</h2><div><table>{''.join(lines)}</table></div>")
        if picture is not None:
            data = base64.b64encode(picture.read_bytes()).decode("ascii")
            parts.append(f'<img alt="plots" src="data:image/png;base64,{data}">')
        parts += ["<h2>Circumstances</h2>", _bullets([f"{name}: {value}" for name, value in self.about.items()])]
        parts += [_bullets(self.notes)] if self.notes else []
        parts.append(f"<p>recgym {version('recgym')}, {date.today().isoformat()}</p>")
        opening = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{safe(self.title)}</title><style>{_STYLE}</style>"
        )
        return "\n".join([opening, *parts, "</html>"]) + "\n"


def _plain(value: Interval) -> list[float | None]:
    """Returns mean, low and high; None for an end that is not defined."""
    return [None if np.isnan(number) else number for number in value]


def _table(rows: tuple[Row, ...]) -> list[list[str]]:
    """Returns head and lines: a column per baseline, an empty cell where it has no value."""
    names = list(dict.fromkeys(name for row in rows for name in row.others))
    lines = [["measure", "this model", *names, "better"]]
    for row in rows:
        cells = [str(row.others[name]) if name in row.others else "" for name in names]
        lines.append([row.measure, str(row.model), *cells, row.better])
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _bullets(texts: tuple[str, ...] | list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"
