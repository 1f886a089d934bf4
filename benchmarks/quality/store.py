"""Finished runs with their values per question, and the table of rows made of them; both change whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import Row, Table
from recgym.storage.store import atomic_file

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
        folder: Where `quality_q1.csv` and its like lie; values per question stand in `units/`, curves in `curves/`.
        name: The protocol.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The CSV file of the rows."""
        return self.folder / f"quality_{_plain(self.name).lower()}.csv"

    def put_run(self, agent: str, seed: int, run: Finished) -> None:
        """Stores a run; it takes the place of an earlier one of the same agent and seed."""
        arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in run.values.items()}
        with atomic_file(self._beside("units", agent, seed, "npz")) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(run.about, sort_keys=True)), **arrays)

    def runs(self, agent: str) -> dict[int, Finished]:
        """Returns the runs of an agent by seed."""
        found = {}
        for path in sorted(
            (self.folder / "units").glob(self._beside("units", agent, 0, "npz").name.replace("0.", "*."))
        ):
            with np.load(path) as stored:
                values = {name: stored[name].astype(np.float64) for name in stored.files if name != "about"}
                run = Finished(json.loads(str(stored["about"])), values)
            found[int(run.about["seed"])] = run
        return dict(sorted(found.items()))

    def put_curve(self, agent: str, seed: int, points: Sequence[Mapping[str, float]]) -> None:
        """Stores a learning curve: one line per look at the validation split."""
        Table(self._beside("curves", agent, seed, "csv"), list(points[0])).write(points)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the learning curve of a run, or nothing where it has none."""
        points = Table(self._beside("curves", agent, seed, "csv"), ()).rows()
        return [{name: float(value) for name, value in row.items()} for row in points]

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

    def _beside(self, folder: str, agent: str, seed: int, ending: str) -> Path:
        return self.folder / folder / f"{self.path.stem}-{_plain(agent)}-seed{seed}.{ending}"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
