"""Large Parquet logs made in parts by several processes or a Ray cluster: the log that one process would have made.

| pass | over | what |
|---|---|---|
| count | files | events of each user; together they tell which users go into which part |
| share | files | every event goes into the piece of its user's part, in the order of the file |
| read | parts | the pieces become a log as any table does (`recgym.datasets.tables`), with items of its own |
| write | parts | items get their place among those of all parts |

A process holds about 1/n_parts of the events in memory, and all ids. What each pass has made of a file or a part is
kept beside the target until all is done, and found again: an interrupted preparation goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from recgym.datasets.tables.options import TableOptions, make_options
from recgym.datasets.tables.parts import is_hidden
from recgym.datasets.tables.table import read_table
from recgym.errors import DataError, MissingDataError, RecgymError
from recgym.log import InteractionLog
from recgym.log.parts import ITEMS, USERS, VERSION, write_manifest_of, write_part
from recgym.options import check_choice, check_sizes
from recgym.processes import in_processes
from recgym.storage.store import atomic_folder

ENGINES = ("processes", "ray")
_WHOLE = ("top_items", "transforms")  # options that look at more than a user
_ROWS = 1 << 19  # events read at a time


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    n_parts: int = 64,
    n_jobs: int = 1,
    engine: str = "processes",
    tell: Callable[[str], Any] = lambda text: None,
    **options: Any,
) -> Path:
    """Writes the log of a folder of Parquet files in parts of users, as `InteractionLog.to_parquet`; returns where.

    `InteractionLog.from_parquet(out)` then equals `datasets.load(source, ...)` in every column, and
    `from_parquet(out, part=i)` opens one part.

    Args:
        source: A Parquet file, a folder of such, or an address of fsspec's, e.g. `"s3://bucket/events"`.
        out: Folder to write; on a cluster one that all machines see.
        n_parts: Parts, of about equally many events.
        n_jobs: Processes of this machine that work at a time.
        engine: `"processes"`, or `"ray"`: tasks of the cluster that is connected, or of this machine.
        tell: Called with a line before each pass.
        **options: Columns and other options of a table, see `TableOptions`; not `top_items` and `transforms`.

    Raises:
        DataError: if an option is wrong, files are none of Parquet, or parts were taken for different things.
        MissingDataError: if there are no files.
        RecgymError: if the engine, or what opens the address, is not installed.
        StoreError: if `out` holds anything but what recgym wrote.
    """
    check_sizes(n_parts=n_parts, n_jobs=n_jobs)
    check_choice("engine", engine, ENGINES)
    made = make_options(options)
    wrong = [name for name in _WHOLE if getattr(made, name)]
    if wrong:
        raise DataError(
            f"a log made in parts takes options that look at one user, got {', '.join(wrong)}; leave it out"
        )
    files = _files(str(source))
    out = Path(out)
    what = [[(file, _stamp(file)) for file in files], dict(sorted(options.items())), n_parts, VERSION]
    digest = hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:12]
    work = _Work(files, out.with_name(f".{out.name}.{digest}.unfinished"), n_parts, made)
    work.folder.mkdir(parents=True, exist_ok=True)
    do = _on_ray if engine == "ray" else lambda task, n: in_processes(task, n, n_jobs)
    for text, task, n in (
        (f"counting users in {len(files)} files", work.count, len(files)),
        (f"sharing events out to {n_parts} parts", work.share, len(files)),
        (f"reading {n_parts} parts", work.read, n_parts),
    ):
        tell(text)
        do(task, n)
        if task == work.count:
            work.borders()
    tell(f"writing {n_parts} parts")
    work.items()
    do(work.write, n_parts)
    work.finish(out)
    shutil.rmtree(work.folder)
    return out


@dataclass
class _Work:
    """The passes, as functions of the number of a file or part; each does nothing where its result is there."""

    files: list[str]
    folder: Path
    n_parts: int
    options: TableOptions

    def count(self, number: int) -> None:
        """Writes how many events each user has in a file."""
        path = self.folder / f"users-{number:05d}.parquet"
        if path.exists():
            return
        found: dict[Any, int] = {}
        for batch in _batches(self.files[number], [self.options.user]):
            for pair in batch.column(0).drop_null().value_counts().to_pylist():
                found[pair["values"]] = found.get(pair["values"], 0) + pair["counts"]
        with _written(path) as temporary:
            parquet.write_table(pa.table({"user": list(found), "n": pa.array(found.values(), pa.int64())}), temporary)

    def borders(self) -> None:
        """Writes the first user of each part but the first one."""
        path = self.folder / "borders.parquet"
        if path.exists():
            return
        tables = [parquet.read_table(self.folder / f"users-{n:05d}.parquet") for n in range(len(self.files))]
        kinds = {table.schema.field("user").type for table in tables if len(table)}
        if len(kinds) > 1:
            raise DataError(f"user ids must be of one type in all files, got {sorted(map(str, kinds))}; cast them")
        table = pa.concat_tables([table for table in tables if len(table)]) if kinds else tables[0]
        table = table.group_by("user").aggregate([("n", "sum")]).sort_by("user")
        if len(table) < self.n_parts:
            raise DataError(
                f"n_parts must lie between 1 and {len(table)}, the number of users, got {self.n_parts}; ask for fewer"
            )
        ends = np.cumsum(table["n_sum"].to_numpy())
        n = self.n_parts
        cuts = np.searchsorted(ends, np.arange(1, n) * ends[-1] / n) + 1
        cuts = np.clip(cuts, np.arange(1, n), len(table) - np.arange(n - 1, 0, -1))
        with _written(path) as temporary:
            parquet.write_table(table.take(np.maximum.accumulate(cuts)).select(["user"]), temporary)

    def share(self, number: int) -> None:
        """Writes the events of a file into a piece for each part."""
        folder = self.folder / f"file-{number:05d}"
        if folder.exists():
            return
        temporary = folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        firsts = _plain(parquet.read_table(self.folder / "borders.parquet")["user"])
        writers: dict[int, parquet.ParquetWriter] = {}
        for batch in _batches(self.files[number], self.options.needed):
            table = pa.Table.from_batches([batch])
            part = np.searchsorted(firsts, _plain(table[self.options.user]), side="right")
            order = np.argsort(part, kind="stable")
            ends = np.searchsorted(part[order], np.arange(self.n_parts + 1))
            for place in np.unique(part).tolist():
                piece = table.take(order[ends[place] : ends[place + 1]])
                if place not in writers:
                    writers[place] = parquet.ParquetWriter(temporary / f"{place:05d}.parquet", piece.schema)
                writers[place].write_table(piece)
        for writer in writers.values():
            writer.close()
        os.replace(temporary, folder)

    def read(self, number: int) -> None:
        """Makes a log of the pieces of a part."""
        folder = self.folder / f"log-{number:05d}"
        if folder.exists():
            return
        pieces = [self.folder / f"file-{file:05d}" / f"{number:05d}.parquet" for file in range(len(self.files))]
        tables = [parquet.read_table(piece) for piece in pieces if piece.exists()]
        try:
            read_table(pa.concat_tables(tables, promote_options="permissive"), self.options).to_parquet(folder)
        except pa.ArrowException as error:
            raise DataError(f"columns must have types that fit in all files, got {error}; cast them") from error

    def items(self) -> None:
        """Writes the items of all parts, in order."""
        path = self.folder / "items.parquet"
        if not path.exists():
            tables = [self._ids(ITEMS, "item_id", number) for number in range(self.n_parts)]
            ids = pa.concat_tables(tables, promote_options="permissive").group_by("item_id").aggregate([])
            with _written(path) as temporary:
                parquet.write_table(ids.sort_by("item_id"), temporary)

    def write(self, number: int) -> None:
        """Writes a part of the whole log, with the places that users and items have there."""
        folder = self.folder / f"part-{number:05d}"
        if folder.exists():
            return
        log = InteractionLog.from_parquet(self.folder / f"log-{number:05d}")
        items = _plain(parquet.read_table(self.folder / "items.parquet")["item_id"])
        users = [len(self._ids(USERS.format(0), "user_id", before)) for before in range(number)]
        place = np.searchsorted(items, log.item_ids).astype(np.int32)
        whole = replace(log, items=place[log.items], item_ids=items)
        temporary = folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        dtypes: dict[str, str] = {}
        write_part(whole, temporary, number, (0, log.n_users), dtypes, n_before=sum(users))
        about = {"dtypes": dtypes, "n_users": log.n_users, "reward_range": log.reward_range, "source": dict(log.source)}
        (temporary / "about.json").write_text(json.dumps(about | {"reward": log.reward}), encoding="utf-8")
        os.replace(temporary, folder)

    def finish(self, out: Path) -> None:
        """Puts the parts together in their folder."""
        folders = [self.folder / f"part-{number:05d}" for number in range(self.n_parts)]
        abouts = [json.loads((folder / "about.json").read_text(encoding="utf-8")) for folder in folders]
        guesses = {(about["source"].get("time_unit"), about["source"].get("ties")) for about in abouts}
        if len(guesses) > 1:
            raise DataError(
                f"times must be of one unit in all parts, got {sorted(map(str, guesses))}; say which by time_unit"
            )
        told = [name for name in abouts[0]["dtypes"] if len({about["dtypes"][name] == "|O" for about in abouts}) > 1]
        if told:
            raise DataError(f"columns must hold values of one kind in all parts, got {told} that do not; cast them")
        dtypes = {
            name: np.result_type(*[np.dtype(about["dtypes"][name]) for about in abouts]).str
            for name in abouts[0]["dtypes"]
        }
        lows, highs = zip(*(about["reward_range"] for about in abouts), strict=True)
        dropped: dict[str, int] = {}
        for about in abouts:
            for why, n in about["source"].get("dropped", {}).items():
                dropped[why] = dropped.get(why, 0) + n
        source = {**abouts[0]["source"], "rows": sum(about["source"]["rows"] for about in abouts), "dropped": dropped}
        items = _plain(parquet.read_table(self.folder / "items.parquet")["item_id"])
        with atomic_folder(out) as target:
            for folder in folders:
                for path in folder.rglob("*.parquet"):
                    _linked(path, target / path.relative_to(folder))
            first_users = [0, *np.cumsum([about["n_users"] for about in abouts]).tolist()]
            about = {"name": out.name, "reward": abouts[0]["reward"], "reward_range": (min(lows), max(highs))}
            about |= {"is_tail": False, "source": source}
            write_manifest_of(target, about, first_users, dtypes, {"item_id": items})

    def _ids(self, file: str, column: str, number: int) -> pa.Table:
        return parquet.read_table(self.folder / f"log-{number:05d}" / file, columns=[column])


def _on_ray(task: Callable[[int], Any], n: int) -> None:
    try:
        import ray
    except ImportError as error:
        raise RecgymError('engine "ray" needs Ray, got no such module; pip install "recgym[ray]"') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    remote = ray.remote(task.__func__)  # type: ignore[attr-defined]  # a method: pickled as function and object
    ray.get([remote.remote(task.__self__, number) for number in range(n)])  # type: ignore[attr-defined]


def _files(source: str) -> list[str]:
    """Returns the Parquet files of an address, in the order of their names."""
    if "://" in source:
        system, path = _system(source)
        found, before = [path] if system.isfile(path) else system.find(path), source.partition("://")[0] + "://"
    else:
        path, before = str(Path(source).expanduser().resolve()), ""
        found = [path] if Path(path).is_file() else [str(file) for file in Path(path).rglob("*") if file.is_file()]
    files = [before + name for name in sorted(found) if not is_hidden(name[len(path) :])]
    files = [file for file in files if file.endswith((".parquet", ".pq"))]
    if not files:
        raise MissingDataError(f"{source} must hold Parquet files, got none; write the events as such first")
    return files


def _stamp(file: str) -> list[Any]:
    """Returns what changes when a file does, as far as its system tells."""
    if "://" in file:
        system, path = _system(file)
        about = system.info(path)
        return [about.get("size"), str(about.get("mtime") or about.get("created") or about.get("ETag"))]
    state = os.stat(file)
    return [state.st_size, state.st_mtime_ns]


def _system(address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path there."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise RecgymError(
            f"{address} must be an address that fsspec opens, got {error}; install what it asks for"
        ) from error
    return system, str(path)


def _batches(file: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a file, some columns of them."""
    opened: Any = file
    if "://" in file:
        system, path = _system(file)
        opened = system.open(path)
    try:
        with parquet.ParquetFile(opened) as reader:
            lacks = [name for name in columns if name not in reader.schema_arrow.names]
            if lacks:
                raise DataError(
                    f"{file} must have the columns {columns}, got {reader.schema_arrow.names}, without {lacks}; "
                    "name others"
                )
            yield from reader.iter_batches(_ROWS, columns=columns)
    except pa.ArrowException as error:
        raise DataError(f"{file} must be a Parquet file, got {error}; write it again") from error


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """Returns ids as a NumPy array that sorts as they do."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return column.to_numpy()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.to_pylist(), dtype=np.str_)
    raise DataError(f"ids of a log made in parts must be whole numbers or text, got {kind}; cast them")


def _linked(path: Path, target: Path) -> None:
    """Gives a file a second name, or copies it where that cannot be."""
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy(path, target)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    temporary = path.with_suffix(".tmp")
    yield temporary
    os.replace(temporary, path)
