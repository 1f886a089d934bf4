"""Finished runs with their values per question, and the table of rows made of them; both change whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import Beside, Row, Table

_NUMBERS = [f"{metric}{end}" for metric in ("hit_rate@10", "ndcg@10") for end in ("", "_low", "_high")]
COLUMNS = (
    *("protocol", "agent", "checkpoint", "group", *_NUMBERS, "n", "unit", "n_seeds", "rl", "n_steps", "tuning"),
    *("seconds", "device", "threads", "command", "config", "words", "data_hash", "commit", "dirty", "versions"),
    *("finished", "key"),
)


class Finished(NamedTuple):
    """A run that ended: what is to be said of it, and its values by name, each (N,)."""

    about: dict[str, Any]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Store:
    """The runs and rows of one protocol.

    Attributes:
        folder: Where `quality_q1.csv` and its like lie; values per question and curves `Beside` them.
        name: The protocol.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The CSV file of the rows."""
        return self.folder / f"quality_{_plain(self.name).lower()}.csv"

    @property
    def beside(self) -> Beside:
        """Values per question and learning curves."""
        return Beside(self.folder, self.path.stem)

    def put_run(self, agent: str, seed: int, run: Finished) -> None:
        """Stores a run, its values in single precision; it takes the place of one of the same agent and seed."""
        values = {name: (np.arange(len(one)), one.astype(np.float32)) for name, one in run.values.items()}
        self.beside.put_units(agent, seed, values, run.about)

    def runs(self, agent: str) -> dict[int, Finished]:
        """Returns the runs of an agent by seed."""
        return {
            seed: Finished(about, {name: values for name, (_, values) in self.beside.units(agent, seed).items()})
            for seed, about in self.beside.abouts(agent).items()
        }

    def put_curve(self, agent: str, seed: int, points: Sequence[Mapping[str, float]]) -> None:
        """Stores a learning curve: one row per look at the validation split."""
        self.beside.put_curve(agent, seed, points)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the learning curve of a run, or nothing where it has none."""
        return self.beside.curve(agent, seed)

    @property
    def table(self) -> Table:
        """The rows."""
        return Table(self.path, COLUMNS)

    def rows(self) -> list[Row]:
        """Returns all rows, in the order they stand in the file."""
        return self.table.rows()

    def put(self, agent: str, rows: Sequence[Mapping[str, object]], apart_from: Sequence[str] = ()) -> None:
        """Puts the rows of an agent in the place of those it had, unless they differ in columns `apart_from` alone."""
        new = [self.table.as_text(dict.fromkeys(COLUMNS, "") | dict(row)) for row in rows]

        def told(some: Sequence[Row]) -> list[Row]:
            return [{name: row[name] for name in COLUMNS if name not in apart_from} for row in some]

        def changed(before: list[Row]) -> list[Row]:
            if told(new) == told([row for row in before if row["agent"] == agent]):
                return before
            return [*(row for row in before if row["agent"] != agent), *new]

        self.table.change(changed)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
