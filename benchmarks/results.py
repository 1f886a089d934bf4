"""Rows of results in a CSV file, values per user beside it; both change whole or not at all.

Any number of processes may put rows into one file at once: a lock beside it, which the system frees when its holder
dies, stands around every change. A killed process loses the row it was about to write, and nobody else's.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recgym.storage.locks import locked
from recgym.storage.store import atomic_file

FOLDER = Path(__file__).parent / "results"
COLUMNS = (
    *("agent", "metric", "value", "low", "high", "n", "unit", "seed", "n_steps", "seconds", "device", "threads"),
    *("protocol", "config", "data_hash", "commit", "dirty", "versions", "finished", "key"),
)
Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """Rows of text in a CSV file.

    Attributes:
        path: The file.
        columns: Their names.
    """

    path: Path
    columns: Sequence[str]

    def rows(self) -> list[Row]:
        """Returns all rows, in the order they stand in the file."""
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Writes the file anew."""
        with atomic_file(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.as_text(row) for row in rows)

    def change(self, changed: Callable[[list[Row]], list[Row]]) -> None:
        """Puts what `changed` makes of the rows in their place, while no other process changes them."""
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            before = self.rows()
            after = changed(before)
            if after != before:
                self.write(after)

    def as_text(self, row: Mapping[str, object]) -> Row:
        """Returns a row as it stands in the file: six digits a number, JSON for a dict."""
        return {name: _text(row[name]) for name in self.columns}


@dataclass(frozen=True)
class Results:
    """The rows of one suite, its values per user and its learning curves.

    Attributes:
        path: The CSV file. Values per user stand in `units/` beside it, learning curves in `curves/`.
    """

    path: Path

    @property
    def table(self) -> Table:
        """The rows."""
        return Table(self.path, COLUMNS)

    def rows(self) -> list[Row]:
        """Returns all rows, in the order they stand in the file."""
        return self.table.rows()

    def finished(self) -> set[str]:
        """Returns the keys of all runs that have rows."""
        return {row["key"] for row in self.rows()}

    def put(self, new: Sequence[Mapping[str, object]], *, same_metric: bool = False) -> None:
        """Adds rows; they take the place of earlier ones of the same agent and seed. All other rows stay.

        Args:
            new: The rows, with all columns.
            same_metric: Whether only those of the same metric too make room.
        """
        added = list({(row["agent"], row["metric"], row["seed"]): self.table.as_text(row) for row in new}.values())

        def place(row: Row) -> tuple[str, ...]:
            return (row["agent"], row["seed"], row["metric"]) if same_metric else (row["agent"], row["seed"])

        replaced = {place(row) for row in added}
        self.table.change(lambda rows: [*(row for row in rows if place(row) not in replaced), *added])

    # -- beside the rows ---------------------------------------------------------------------------------------------

    def _beside(self, folder: str, agent: str, seed: int, ending: str) -> Path:
        name = "".join(letter if letter.isalnum() else "_" for letter in f"{self.path.stem}-{agent}")
        return self.path.parent / folder / f"{name}-seed{seed}.{ending}"

    def put_units(self, agent: str, seed: int, values: Mapping[str, Mapping[int, float]]) -> None:
        """Stores, per metric, the value of each user index."""
        arrays = {}
        for metric, by_user in values.items():
            arrays[f"{metric} users"] = np.fromiter(by_user.keys(), dtype=np.int32)
            arrays[metric] = np.fromiter(by_user.values(), dtype=np.float64)
        with atomic_file(self._beside("units", agent, seed, "npz")) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options

    def units(self, agent: str, seed: int, metric: str) -> dict[int, float]:
        """Returns the value of each user index for one metric; empty where none was stored."""
        path = self._beside("units", agent, seed, "npz")
        if not path.exists():
            return {}
        with np.load(path) as stored:
            if metric not in stored:
                return {}
            return dict(zip(stored[f"{metric} users"].tolist(), stored[metric].tolist(), strict=True))

    def put_curve(self, agent: str, seed: int, points: Sequence[Mapping[str, float]]) -> None:
        """Stores a learning curve: one row per evaluation, columns as in the first point."""
        Table(self._beside("curves", agent, seed, "csv"), list(points[0])).write(points)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the learning curve of a run, or nothing where it has none."""
        points = Table(self._beside("curves", agent, seed, "csv"), ()).rows()
        return [{name: float(value) for name, value in point.items()} for point in points]


def protocols(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Returns the different (protocol, data hash) of the rows; a table must have one."""
    return {(row["protocol"], row["data_hash"]) for row in rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
