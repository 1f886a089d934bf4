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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recgym.storage.locks import locked
from recgym.storage.store import atomic_file, readable

FOLDER = Path(__file__).parent / "results"
CHECKOUT = FOLDER.parents[1]
ASIDE = Path("runs", "bench")  # where rows go that are not this project's, in the current folder
COLUMNS = (
    *("agent", "metric", "value", "low", "high", "n", "unit", "seed", "n_steps", "seconds", "device", "threads"),
    *("protocol", "config", "data_hash", "commit", "dirty", "versions", "finished", "key"),
)
Row = dict[str, str]
_RUN = (("agent", pa.string()), ("seed", pa.int32()))
_BESIDE = {
    "units": pa.schema([*_RUN, ("metric", pa.string()), ("unit", pa.int32()), ("value", pa.float64())]),
    "curves": pa.schema([*_RUN, ("point", pa.int32()), ("name", pa.string()), ("value", pa.float64())]),
}
# Units ascend by ones, which their differences say in a tenth of the bytes.
_PACKED: Any = {
    "compression": "zstd",
    "use_dictionary": ["agent", "seed", "metric", "name", "value"],
    "column_encoding": {"unit": "DELTA_BINARY_PACKED", "point": "DELTA_BINARY_PACKED"},
}
_AGAIN = "move it away, and bring it back from a copy or the repository"


def place(*, own: bool = False) -> Path:
    """Returns the folder that rows go to where none is named: never one of an installed package.

    The tracked folder of a checkout takes rows of its own alone, and only of who stands in that checkout.

    Args:
        own: Whether the rows are of somebody else's agents.
    """
    is_checkout = (CHECKOUT / "pyproject.toml").is_file() and Path.cwd().is_relative_to(CHECKOUT)
    return FOLDER if is_checkout and not own else ASIDE


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
        with (
            readable(self.path, "be a table of rows", _AGAIN),
            open(self.path, newline="", encoding="utf-8") as file,
        ):
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
class Beside:
    """What stands beside the rows of a suite, in one Parquet file each: values per unit, and learning curves.

    | file | columns |
    |---|---|
    | `units/SUITE.parquet` | `agent`, `seed`, `metric`, `unit`, `value`; in its metadata what is said of each run |
    | `curves/SUITE.parquet` | `agent`, `seed`, `point`, `name`, `value` |

    Attributes:
        folder: Where the rows are.
        suite: The stem of their file's name.
    """

    folder: Path
    suite: str

    def put_units(
        self, agent: str, seed: int, values: Mapping[str, tuple[np.ndarray, np.ndarray]], about: object = None
    ) -> None:
        """Stores a run's (units, values) by metric, in the place of those of the same agent and seed.

        Args:
            agent: Its name.
            seed: Its seed.
            values: By metric: unit indices (n,) and their values (n,).
            about: What is said of the run, as JSON.
        """
        sizes = [len(units) for units, _ in values.values()]
        new = {
            "metric": np.repeat(list(values), sizes),
            "unit": np.concatenate([units for units, _ in values.values()]).astype(np.int32),
            "value": np.concatenate([numbers for _, numbers in values.values()]).astype(np.float64),
        }
        self._put("units", agent, seed, new, about)

    def units(self, agent: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns a run's (units, values) by metric; empty where it has none."""
        found = self._of("units", agent, seed)
        names = found["metric"].to_numpy(zero_copy_only=False)
        units, values = found["unit"].to_numpy(), found["value"].to_numpy()
        return {str(name): (units[names == name], values[names == name]) for name in dict.fromkeys(names.tolist())}

    def abouts(self, agent: str) -> dict[int, Any]:
        """Returns what is said of the runs of an agent, by seed."""
        said = self._said(self._read("units"))
        return {seed: about for (name, seed), about in sorted(said.items()) if name == agent}

    def put_curve(self, agent: str, seed: int, points: Sequence[Mapping[str, float]]) -> None:
        """Stores a learning curve, in the place of that of the same agent and seed."""
        names = list(points[0])
        new = {
            "point": np.repeat(np.arange(len(points), dtype=np.int32), len(names)),
            "name": np.array(names * len(points)),
            "value": np.array([float(point[name]) for point in points for name in names]),
        }
        self._put("curves", agent, seed, new, None)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the points of a learning curve, or nothing where there is none."""
        points: dict[int, dict[str, float]] = {}
        for row in self._of("curves", agent, seed).to_pylist():
            points.setdefault(row["point"], {})[row["name"]] = row["value"]
        return [points[place] for place in sorted(points)]

    def _path(self, what: str) -> Path:
        return self.folder / what / f"{self.suite}.parquet"

    def _read(self, what: str) -> pa.Table:
        path = self._path(what)
        if not path.exists():
            return pa.table(dict.fromkeys(_BESIDE[what].names, ()), _BESIDE[what])
        with readable(path, f"hold the {what} of a suite", _AGAIN):
            return pq.read_table(path)

    def _of(self, what: str, agent: str, seed: int) -> pa.Table:
        path, schema = self._path(what), _BESIDE[what]
        if not path.exists():
            return self._read(what)
        with readable(path, f"hold the {what} of a suite", _AGAIN):
            return pq.read_table(path, filters=[("agent", "=", agent), ("seed", "=", seed)]).cast(schema)

    @staticmethod
    def _said(table: pa.Table) -> dict[tuple[str, int], Any]:
        said = json.loads((table.schema.metadata or {}).get(b"runs", b"[]"))
        return {(agent, seed): about for agent, seed, about in said}

    def _put(self, what: str, agent: str, seed: int, new: Mapping[str, np.ndarray], about: object) -> None:
        path = self._path(what)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            before = self._read(what)
            others = pc.invert(pc.and_(pc.equal(before["agent"], agent), pc.equal(before["seed"], seed)))
            n_rows = len(new["value"])
            added = pa.table({"agent": [agent] * n_rows, "seed": [seed] * n_rows, **new}, _BESIDE[what])
            table = pa.concat_tables([before.filter(others).cast(_BESIDE[what]), added])
            said = self._said(before) | ({} if about is None else {(agent, seed): about})
            order = sorted([name, number, one] for (name, number), one in said.items())
            text = json.dumps(order, sort_keys=True)
            with atomic_file(path) as temporary:
                pq.write_table(
                    table.sort_by([("agent", "ascending"), ("seed", "ascending")]).replace_schema_metadata(
                        {"runs": text}
                    ),
                    temporary,
                    compression="zstd",
                    compression_level=19,
                )


@dataclass(frozen=True)
class Results:
    """The rows of one suite, its values per user and its learning curves.

    Attributes:
        path: The CSV file. Values per user and learning curves stand `Beside` it.
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

    @property
    def beside(self) -> Beside:
        """Values per user and learning curves."""
        return Beside(self.path.parent, self.path.stem)

    def put_units(self, agent: str, seed: int, values: Mapping[str, Mapping[int, float]]) -> None:
        """Stores, per metric, the value of each user index."""
        arrays = {
            metric: (np.fromiter(by_user.keys(), np.int32), np.fromiter(by_user.values(), np.float64))
            for metric, by_user in values.items()
        }
        self.beside.put_units(agent, seed, arrays)

    def units(self, agent: str, seed: int, metric: str) -> dict[int, float]:
        """Returns the value of each user index for one metric; empty where none was stored."""
        users, values = self.beside.units(agent, seed).get(metric, ((), ()))
        return dict(zip(np.asarray(users).tolist(), np.asarray(values).tolist(), strict=True))

    def put_curve(self, agent: str, seed: int, points: Sequence[Mapping[str, float]]) -> None:
        """Stores a learning curve: one row per evaluation, columns as in the first point."""
        self.beside.put_curve(agent, seed, points)

    def curve(self, agent: str, seed: int) -> list[dict[str, float]]:
        """Returns the learning curve of a run, or nothing where it has none."""
        return self.beside.curve(agent, seed)


def protocols(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """Returns the different (protocol, data hash) of the rows; a table must have one."""
    return {(row["protocol"], row["data_hash"]) for row in rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
