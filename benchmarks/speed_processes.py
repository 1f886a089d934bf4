"""Two processes beside one, a thread each, in the same run: transitions a second of trainings, and a log in parts.

Trainings share every batch (`torchrun`, gloo over loopback); warm-up updates and the start of processes do not count.
A log in parts is a folder of 16 Parquet files prepared in 64 parts, by one process and by two.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEARNERS = {"TD3": (4096, 16), "BCQ": (4096, 4), "SequenceModel": (256, 8)}  # rows of a batch, updates timed
TURNS = 3  # they take turns, and the best of each counts
N_PARTS = 64
_PREPARE = """
import resource, sys, time
from recgym.datasets.partitioned import prepare
source, out, n_jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
prepare(source, out, n_parts=int(sys.argv[4]), n_jobs=n_jobs, user="user", item="item", reward="reward", time="time")
seconds = time.perf_counter() - start
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(seconds, peak / 1000)
"""


def rows(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Returns transitions a second of each learner, seconds and peak memory of preparing `sizes` events, and ratios."""
    made = []
    for name, (batch_size, n_updates) in LEARNERS.items():
        made += _compared(name, *((16, 2, 1) if quick else (batch_size, n_updates, TURNS)))
    for n in sizes:
        made += _prepared(n)
    return made


def _compared(name: str, batch_size: int, n_updates: int, turns: int) -> list[dict[str, Any]]:
    best = {1: 0.0, 2: 0.0}
    for _ in range(turns):
        for n in best:
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m", __spec__.name]
            best[n] = max(best[n], float(_said(*command, name, str(batch_size), str(n_updates))[-1]))
    shared = {"agent": name, "n": batch_size, "threads": 1}
    print(f"  {name:14} two processes {best[2] / best[1]:.2f} times one", flush=True)
    return [
        {**shared, "metric": f"rows of {n} process{'es' * (n > 1)}", "value": value, "unit": "1/s"}
        for n, value in best.items()
    ] + [{**shared, "metric": "two processes to one", "value": best[2] / best[1], "unit": "times"}]


def _prepared(n: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="recgym-speed-") as folder:
        write_events(Path(folder) / "events", n, n_files=16)
        for jobs in (1, 2):
            said = _said("-c", _PREPARE, f"{folder}/events", f"{folder}/out-{jobs}", str(jobs), str(N_PARTS))
            seconds, peak = map(float, said[-2:])
            shared = {"agent": f"prepare, {jobs} process{'es' * (jobs > 1)}", "n": n, "threads": 1}
            made += [
                {**shared, "metric": "preparing", "value": seconds, "unit": "s", "seconds": seconds},
                {**shared, "metric": "peak of a process", "value": peak, "unit": "MB"},
            ]
    ratio = made[2]["value"] / (made[0]["value"] / 2)
    print(f"  {n:>11,} events: two processes take {ratio:.2f} times half of one's time", flush=True)
    return [
        *made,
        {"agent": "prepare", "n": n, "metric": "two processes to half of one", "value": ratio, "unit": "times"},
    ]


def write_events(folder: Path, n: int, n_files: int) -> None:
    """Writes ratings by Zipf's law in Parquet files: users anywhere, about 145 events each, 27,000 items."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    for number in range(n_files):
        rng = np.random.default_rng([7, number])
        size = n * (number + 1) // n_files - n * number // n_files
        columns = {
            "user": rng.integers(max(n // 145, 2), size=size, dtype=np.int32),
            "item": (27_000 ** rng.random(size, dtype=np.float32)).astype(np.int32),
            "reward": rng.integers(1, 6, size=size).astype(np.float32),
            "time": rng.integers(10**9, 1_500_000_000, size=size),
        }
        parquet.write_table(pa.table(columns), folder / f"{number:03d}.parquet")


def _said(*command: str) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.split()


def _train(name: str, batch_size: int, n_updates: int) -> None:
    """Times updates as one process of however many there are; the first prints transitions a second of all."""
    import agents
    from agents.training.parallel import joined
    from agents.training.train import batches_for, fit
    from recgym import Catalog, datasets

    with joined() as ranks:
        log = datasets.load("synthetic", n_users=1000, n_items=3000)
        vectors = np.random.default_rng(0).standard_normal((log.n_items, 128), dtype=np.float32)
        agent = getattr(agents, name)(Catalog(vectors, log.item_ids), frame_size=10, seed=1, device="cpu")
        batches = batches_for(agent, log, 10, batch_size, 3, 0.5)
        fit(agent, batches, 3)
        start = time.perf_counter()
        fit(agent, batches, n_updates)
        seconds = time.perf_counter() - start
    if ranks.is_first:
        print(batch_size * n_updates / seconds)


if __name__ == "__main__":
    _train(sys.argv[1], *map(int, sys.argv[2:]))
