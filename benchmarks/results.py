"""Rows of results in a CSV file, values per user beside it; both change whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recgym.store import atomic_file

FOLDER = Path(__file__).parent / "results"
COLUMNS = (
    *("agent", "metric", "value", "low", "high", "n", "unit", "seed", "n_steps", "seconds", "device", "threads"),
    *("protocol", "config", "data_hash", "commit", "dirty", "versions", "finished", "key"),
)
Row = dict[str, str]


@dataclass(frozen=True)
class Results:
    """The rows of one suite, its values per user and its learning curves.

    Attributes:
        path: The CSV file. Values per user stand in `units/` beside it, learning curves in `curves/`.
    """

    path: Path

    def rows(self) -> list[Row]:
        """Returns all rows, in the order they stand in the file."""
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def finished(self) -> set[str]:
        """Returns the keys of all runs that have rows."""
        return {row["key"] for row in self.rows()}

    def put(self, new: Sequence[Mapping[str, object]]) -> None:
        """Adds rows; they take the place of earlier rows of the same agent, metric and seed. All other rows stay."""
        rows = {self._place(row): row for row in self.rows()}
        replaced = {(str(row["agent"]), str(row["seed"])) for row in new}
        rows = {place: row for place, row in rows.items() if (place[0], place[2]) not in replaced}
        for row in new:
            as_text = {name: _text(row[name]) for name in COLUMNS}
            rows[self._place(as_text)] = as_text
        with atomic_file(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())

    @staticmethod
    def _place(row: Row) -> tuple[str, str, str]:
        return row["agent"], row["metric"], row["seed"]

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
        with (
            atomic_file(self._beside("curves", agent, seed, "csv")) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, list(points[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _text(value) for name, value in point.items()} for point in points)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the learning curve of a run, or nothing where it has none."""
        path = self._beside("curves", agent, seed, "csv")
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def protocols(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Returns the different (protocol, data hash) of the rows; a table must have one."""
    return {(row["protocol"], row["data_hash"]) for row in rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
