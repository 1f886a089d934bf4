"""Times from a ratings file to a log, against plain readers and against the same preparation written with other tools.

Each figure is the quickest of three processes of its own, which report seconds (imports excluded) and peak memory. The
file has just been written, so that all find it in the system's cache; memory is Linux's high-water mark of the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recgym.datasets.generator import generate

_REPEATS = 3
NAMES = 'user="userId", item="movieId", reward="rating", time="timestamp"'
READERS = {  # the file as columns, nothing more
    "pyarrow": "from pyarrow import csv\nbegin()\nresult = csv.read_csv(path)",
    "polars": "import polars\nbegin()\nresult = polars.read_csv(path)",
    "duckdb": "import duckdb\nbegin()\nduckdb.sql(f\"CREATE TABLE t AS SELECT * FROM read_csv('{path}')\")",
}
INGESTS = {  # ids as indices, events by user and time, as the learner needs them
    "recgym": f"from recgym import datasets\nbegin()\nresult = datasets.load('table', path=path, {NAMES})",
    "recgym, ml-20m": "from recgym import datasets\nbegin()\nresult = datasets.load('ml-20m')",
    "pandas as usually written": """
import pandas
begin()
frame = pandas.read_csv(path)
users = {one: index for index, one in enumerate(frame["userId"].unique())}
items = {one: index for index, one in enumerate(frame["movieId"].unique())}
frame["user"], frame["item"] = frame["userId"].map(users), frame["movieId"].map(items)
frame = frame.sort_values(["user", "timestamp"])
result = {user: (group["item"].to_numpy(), group["rating"].to_numpy()) for user, group in frame.groupby("user")}
""",
    "pandas tuned": """
import numpy, pandas
begin()
kinds = {"userId": "int32", "movieId": "int32", "rating": "float32", "timestamp": "int64"}
frame = pandas.read_csv(path, dtype=kinds)
user, users = pandas.factorize(frame["userId"], sort=True)
item, items = pandas.factorize(frame["movieId"], sort=True)
order = numpy.lexsort((frame["timestamp"], user))
result = [column[order] for column in (item.astype("int32"), *(frame[name].to_numpy() for name in list(kinds)[2:]))]
offsets = numpy.cumsum(numpy.bincount(user))
""",
    "polars": """
import polars
begin()
frame = polars.read_csv(path).sort(["userId", "timestamp"], maintain_order=True)
item = frame["movieId"].rank("dense").cast(polars.Int32).to_numpy()
result = [item, frame["rating"].cast(polars.Float32).to_numpy(), frame["timestamp"].to_numpy()]
offsets = frame["userId"].rle().struct.field("len").cum_sum().to_numpy()
""",
    "duckdb": """
import duckdb
begin()
result = duckdb.sql(f\"\"\"SELECT userId, dense_rank() OVER (ORDER BY movieId) AS item, rating, timestamp
    FROM read_csv('{path}') ORDER BY userId, timestamp\"\"\").fetchnumpy()
""",
}
SECOND = f"from recgym import datasets\nbegin()\nresult = datasets.load('table', path=path, {NAMES})"
LIMITED = (
    "from recgym import datasets\nbegin()\nresult = datasets.load('table', path=path, {names}, memory_limit='{limit}')"
)
POLARS_STREAM = """
import polars
begin()
result = polars.scan_csv(path).select(polars.all().max()).collect(engine="streaming")
"""
STREAM = """
from pyarrow import csv
begin()
with csv.open_csv(path) as reader:
    result = sum(batch.num_rows for batch in reader)
"""
_FRAME = """
import re, sys, time
path, start, memory, processor = sys.argv[1], 0.0, 0, 0.0
def peak():  # getrusage would count what the parent held when it forked
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1000
def begin():
    global start, memory, processor
    start, memory, processor = time.perf_counter(), peak(), time.process_time()
{code}
print("\\nmeasured", time.perf_counter() - start, peak(), peak() - memory, time.process_time() - processor)
"""


def rows(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Returns the figures of every size; a size of 100 million or more is only prepared past memory."""
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="recgym-speed-") as name:
        for n in sizes:
            folder = Path(name) / str(n)
            need, free = 110 * n, shutil.disk_usage(name).free
            if need > free:
                raise SystemExit(f"{n:,} rows need {need / 1e9:.0f} GB of disk, got {free / 1e9:.0f} GB free in {name}")
            made += _of_size(folder, n)
            shutil.rmtree(folder)
    return made


def _of_size(folder: Path, n: int) -> list[dict[str, Any]]:
    path, made = generate(folder / "ml-20m" / "ratings.csv", n), []
    if n < 100_000_000:
        for name, code in READERS.items():
            made += _measured(f"{name} (reads only)", "read", code, path, n)
        for name, code in INGESTS.items():
            made += _measured(name, "ingest", code, path, n)
        made += _measured("recgym", "second load", SECOND, path, n)
        shutil.rmtree(folder / "cache")
    limit = "2GB" if n >= 100_000_000 else f"{max(20 * n // 10**6, 100)}MB"  # less than the events' 20 bytes each take
    made += _measured("pyarrow (streams only)", "stream", STREAM, path, n)
    made += _measured("polars (streams, keeps maxima)", "stream", POLARS_STREAM, path, n)
    made += _measured("recgym past memory", "ingest", LIMITED.format(names=NAMES, limit=limit), path, n, limit=limit)
    _print_ratios(made)
    return made


def _print_ratios(made: Sequence[Mapping[str, Any]]) -> None:
    """Prints how many times the fastest reader of the same file each ingest took, and pandas as usually written."""
    seconds = {row["agent"]: row["value"] for row in made if row["metric"] in ("read", "stream", "ingest")}
    reads = [row["value"] for row in made if row["metric"] == "read"]
    fastest = min(reads or [row["value"] for row in made if row["metric"] == "stream"])
    usual = seconds.get("pandas as usually written")
    for row in made:
        if row["metric"] == "ingest" and row["agent"].startswith("recgym"):
            faster = "" if usual is None else f", {usual / row['value']:.1f} times as fast as pandas as usually written"
            print(
                f"  {row['n']:>11,} rows  {row['agent']}: {row['value'] / fastest:.2f} times the fastest reader{faster}"
            )


def _measured(who: str, what: str, code: str, path: Path, n: int, **config: str) -> list[dict[str, Any]]:
    """Returns the rows for seconds and memory of code that runs in a process of its own."""
    load = os.getloadavg()[0]
    folder, root = str(path.parent.parent), str(Path(__file__).parent.parent)
    environment = {**os.environ, "RECGYM_DATA": folder, "RECGYM_CACHE": f"{folder}/cache", "PYTHONPATH": root}
    command = [sys.executable, "-c", _FRAME.replace("{code}", code), str(path)]
    runs = []
    for _ in range(_REPEATS if n < 100_000_000 else 1):
        if what == "ingest":
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)  # nothing is there yet
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        runs.append(tuple(map(float, said.rpartition("measured")[2].split())))  # DuckDB prints a progress bar
    seconds, peak, new, processor = min(runs)
    spent = f"{seconds:8.2f} s {processor:8.2f} s of processors {peak:8.0f} MB (load {load:.1f})"
    print(f"  {n:>11,} rows  {what:11}  {who:26} {spent}", flush=True)
    about: Mapping[str, Any] = {"agent": who, "n": n, "seconds": seconds, "config": {"load": round(load, 1), **config}}
    figures = {what: (seconds, "s"), f"{what}, peak memory": (peak, "MB"), f"{what}, new memory": (new, "MB")}
    figures[f"{what}, processor time"] = (processor, "s")
    return [{**about, "metric": metric, "value": value, "unit": unit} for metric, (value, unit) in figures.items()]
