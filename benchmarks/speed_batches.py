"""Times batches of transitions with their item vectors: ours, plain gathers, RecNN's way, stored ones, and on a GPU.

All take turns in one process, several rounds; the figure is the median round, beside the lowest and the highest. The
log is generated in memory with MovieLens-20M's statistics. A transition is state (1290 numbers), action (128), reward,
next state and flags, 10.8 KB, and half of it where both states are views of one gather.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from recgym.batches import FrameBatches
from recgym.batches.vector_batches import VectorBatches
from recgym.datasets.generator import chunks, shape
from recgym.log import InteractionLog

FRAME, DIM, BATCHES = 10, 128, (256, 4096)
_PASS = """
import re, sys
import numpy, recgym
folder, size, layout, n_rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
batches = recgym.FrameBatches(recgym.InteractionLog.open(folder + "/log"), 10, size)
table, seen = numpy.load(folder + "/table.npy"), 0
for batch in recgym.VectorBatches(batches, table, flat=layout == "flat"):
    seen += size
    if seen >= n_rows:
        break
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1000)  # Linux's high-water mark
"""
Row = dict[str, Any]
Way = Iterator[int]  # endless; yields how many transitions the batch had that it has just made


def rows(sizes: Sequence[int], quick: bool) -> list[Row]:
    """Returns the figures of a log of the largest size below 100 million."""
    n, made = max((size for size in sizes if size < 100_000_000), default=0), list[Row]()
    if n == 0:
        print("  batches are left out: no size asked for is below 100 million rows")
        return []
    seconds, rounds, n_stored, n_pass = (0.02, 2, 8_192, 2_000) if quick else (0.7, 5, 98_304, 2_000_000)
    torch.set_num_threads(os.cpu_count() or 1)
    log = made_log(n)
    table = np.random.default_rng(0).normal(size=(log.n_items + 1, DIM)).astype(np.float32)
    decisions = np.concatenate([place.row for place in FrameBatches(log, FRAME, 1024, shuffle=False).places()])
    decisions = np.random.default_rng(1).permutation(decisions)  # what plain gathers are given for nothing
    for size in BATCHES:
        with tempfile.TemporaryDirectory(prefix="recgym-speed-") as folder:
            ways = {**ours(log, table, size), **plain(log, table, decisions, size), **recnn(log, table, size)}
            ways |= stored(Path(folder), log, table, decisions[:n_stored], size)
            made += _rated(ways, f"frame batches of {size}", "transitions/s", n, seconds, rounds)
        made += _rated(indices(log, size), f"index batches of {size}", "transitions/s", n, seconds, rounds)
        for who in ("views", "flat"):
            peak = _peak_memory(log, table, size, who, n_pass)
            made.append(_row(f"recgym, {who}", f"frame batches of {size}, peak memory", [peak], "MB", n))
    return [*made, *on_gpu(log, table)]


def made_log(n: int) -> InteractionLog:
    """Returns a log of n events with MovieLens-20M's statistics, users' events in the order of time."""
    shaped = shape(n)
    items, rewards = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32)
    item_ids, done = np.sort(shaped.item_ids), 0
    for events in chunks(n, 0, shaped):
        order = np.lexsort((events.times, events.users))
        part = slice(done, done + len(order))
        items[part] = np.searchsorted(item_ids, events.items[order])
        rewards[part] = events.halves[order] / 5 - 1
        done = part.stop
    offsets = np.concatenate([[0], np.cumsum(shaped.lengths, dtype=np.int64)])
    return InteractionLog(items, rewards, offsets, np.arange(len(shaped.lengths)), item_ids)


# -- the ways ----------------------------------------------------------------------------------------------------------


def ours(log: InteractionLog, table: np.ndarray, size: int) -> dict[str, Way]:
    """Returns our ways, NumPy arrays and torch tensors."""
    made: dict[str, Any] = {}
    for suffix, device in (("", None), (", torch", "cpu")):
        made[f"recgym, views{suffix}"] = VectorBatches(FrameBatches(log, FRAME, size, device=device), table)
        made[f"recgym, flat{suffix}"] = VectorBatches(FrameBatches(log, FRAME, size, device=device), table, flat=True)
    for flat in (False, True):
        made[f"recgym, {'flat' if flat else 'views'}, 2 threads"] = VectorBatches(
            FrameBatches(log, FRAME, size), table, flat=flat, threads=2
        )
    made["recgym, views, torch, bfloat16"] = VectorBatches(
        FrameBatches(log, FRAME, size, device="cpu"), table, dtype="bfloat16"
    )
    return {who: _forever(batches, lambda batch: len(batch.batch.user)) for who, batches in made.items()}


def indices(log: InteractionLog, size: int) -> dict[str, Way]:
    """Returns our ways to batches of indices: frames of them, or only where decisions stand in the log."""
    frames, placed = FrameBatches(log, FRAME, size), FrameBatches(log, FRAME, size)
    return {
        "recgym, frames of indices": _forever(frames, lambda batch: len(batch.user)),
        "recgym, places": _forever(placed, lambda place: len(place.user), FrameBatches.places),
    }


def plain(log: InteractionLog, table: np.ndarray, decisions: np.ndarray, size: int) -> dict[str, Way]:
    """Returns gather-and-concatenate as one writes it, given the shuffled rows of all decisions."""

    def with_numpy(rows: np.ndarray) -> Any:
        around = rows[:, None] + np.arange(-FRAME, 1)
        items, rewards = log.items[around], log.rewards[around]
        state = np.concatenate([table[items[:, :-1]].reshape(len(rows), -1), rewards[:, :-1]], axis=1)
        following = np.concatenate([table[items[:, 1:]].reshape(len(rows), -1), rewards[:, 1:]], axis=1)
        return state, table[items[:, -1]], rewards[:, -1], following

    all_items, all_rewards = torch.tensor(log.items), torch.tensor(log.rewards)
    vectors, steps = torch.from_numpy(table), torch.arange(-FRAME, 1)

    def with_torch(rows: np.ndarray) -> Any:
        around = torch.from_numpy(rows)[:, None] + steps
        items, rewards = all_items[around], all_rewards[around]
        state = torch.cat([functional.embedding(items[:, :-1], vectors).flatten(1), rewards[:, :-1]], dim=1)
        following = torch.cat([functional.embedding(items[:, 1:], vectors).flatten(1), rewards[:, 1:]], dim=1)
        return state, functional.embedding(items[:, -1], vectors), rewards[:, -1], following

    def way(gather: Callable[[np.ndarray], Any]) -> Way:
        while True:
            for first in range(0, len(decisions) - size + 1, size):
                gather(decisions[first : first + size])
                yield size

    return {"NumPy, gather and concatenate": way(with_numpy), "torch, gather and concatenate": way(with_torch)}


def recnn(log: InteractionLog, table: np.ndarray, size: int) -> dict[str, Way]:
    """Returns RecNN's way: users in a dict, all rolling windows of a few users, collated by a loader."""
    vectors = torch.from_numpy(table)
    users = {}
    for user in np.flatnonzero(log.lengths > FRAME).tolist():
        items, rewards, _ = log.user(user)
        users[user] = {"items": items.astype(np.int64), "ratings": rewards.astype(np.float64)}

    def collate(batch: Sequence[Mapping[str, np.ndarray]]) -> Any:
        rolled = [np.lib.stride_tricks.sliding_window_view(user["items"], FRAME + 1) for user in batch]
        rated = [np.lib.stride_tricks.sliding_window_view(user["ratings"], FRAME + 1) for user in batch]
        items, ratings = torch.tensor(np.concatenate(rolled)), torch.tensor(np.concatenate(rated)).float()
        found = vectors[items]  # (n, F+1, d)
        state = torch.cat([found[:, :-1].flatten(1), ratings[:, :-1]], dim=1)
        following = torch.cat([found[:, 1:].flatten(1), ratings[:, 1:]], dim=1)
        done = torch.zeros(len(items))
        done[np.cumsum([len(windows) for windows in rolled]) - 1] = 1
        return state, found[:, -1], ratings[:, -1], following, done

    per_user = sum(len(user["items"]) - FRAME for user in users.values()) / len(users)
    n_users = max(round(size / per_user), 1)
    known: Any = list(users.values())
    loaders: dict[str, Any] = {
        f"RecNN's way, {n_users} users, {workers} workers": DataLoader(
            known, batch_size=n_users, shuffle=True, collate_fn=collate, num_workers=workers
        )
        for workers in (0, 1, 2)
    }
    return {who: _forever(loader, lambda batch: len(batch[0])) for who, loader in loaders.items()}


def stored(folder: Path, log: InteractionLog, table: np.ndarray, decisions: np.ndarray, size: int) -> dict[str, Way]:
    """Returns reading transitions that were written to HDF5 in chunks of 256, in order and shuffled."""
    try:
        import h5py
    except ImportError:
        print("  stored transitions are left out: h5py is not installed (pip install recgym[bench])")
        return {}
    around = decisions[:, None] + np.arange(-FRAME, 1)
    items, rewards = log.items[around], log.rewards[around]
    file = h5py.File(folder / "transitions.h5", "w")
    widths = {"state": FRAME * (DIM + 1), "action": DIM, "reward": 1, "next_state": FRAME * (DIM + 1), "done": 1}
    columns = [
        file.create_dataset(name, (len(decisions), width), dtype="f4", chunks=(256, width))
        for name, width in widths.items()
    ]
    for first in range(0, len(decisions), 1024):
        part = slice(first, first + 1024)
        found = table[items[part]]  # (n, F+1, d)
        columns[0][part] = np.concatenate([found[:, :-1].reshape(len(found), -1), rewards[part, :-1]], axis=1)
        columns[1][part], columns[2][part] = found[:, -1], rewards[part, -1:]
        columns[3][part] = np.concatenate([found[:, 1:].reshape(len(found), -1), rewards[part, 1:]], axis=1)
    random = np.random.default_rng(2)

    def in_order() -> Way:
        while True:
            for first in range(0, len(decisions) - size + 1, size):
                [column[first : first + size] for column in columns]
                yield size

    def shuffled() -> Way:
        while True:
            chosen = np.sort(random.choice(len(decisions), size, replace=False))  # HDF5 asks for sorted rows
            [column[chosen] for column in columns]
            yield size

    return {"HDF5, in order": in_order(), "HDF5, shuffled": shuffled()}


def on_gpu(log: InteractionLog, table: np.ndarray) -> list[Row]:
    """Returns one pass of views on the GPU, and its bytes read and written as a share of copying's."""
    if not torch.cuda.is_available():
        print("  the pass on a GPU is left out: torch finds no CUDA device")
        return []
    name, made = torch.cuda.get_device_name(), list[Row]()
    source = torch.empty(1 << 28, device="cuda")  # 1 GiB
    target = torch.empty_like(source)
    copies = [
        2 * source.nbytes * 20 / _synchronised(lambda: [target.copy_(source) for _ in range(20)]) for _ in range(4)
    ]
    for size in (4096, 65_536):
        size = min(size, log.n_events // 40)
        batches = VectorBatches(FrameBatches(log, FRAME, size, device="cuda"), table)
        next(iter(batches))
        n_rows = (len(batches) - 1) * size
        took = _synchronised(partial(deque, batches, 0))
        share = 100 * n_rows * (FRAME + 1) * 2 * (4 * DIM + 4 + 8) / took / max(copies)
        about: Row = {"n": log.n_events, "device": name, "seconds": took}
        task = f"one pass of frame batches of {size}"
        made.append(_row("recgym, views, CUDA", task, [n_rows / took], "transitions/s", **about))
        made.append(_row("recgym, views, CUDA", f"{task}, share of copying", [share], "%", **about))
    made.append(_row(name, "copying", [rate / 1e9 for rate in copies[1:]], "GB/s", log.n_events, device=name))
    return made


# -- measuring ---------------------------------------------------------------------------------------------------------


def _forever(batches: Any, count: Callable[[Any], int], again: Callable[[Any], Iterable[Any]] = iter) -> Way:
    while True:
        for batch in again(batches):
            yield count(batch)


def _rated(ways: Mapping[str, Way], what: str, unit: str, n: int, seconds: float, rounds: int) -> list[Row]:
    """Returns a row for each way; they take turns, and each works a while before its time counts."""
    rates: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who, way in ways.items():
            _rate(way, seconds / 3)
            rates[who].append(_rate(way, seconds))
    for who, found in rates.items():
        print(f"  {what:24} {who:36} {median(found):14,.0f} {unit}", flush=True)
    return [_row(who, what, found, unit, n) for who, found in rates.items()]


def _rate(way: Way, seconds: float) -> float:
    start, n = time.perf_counter(), 0
    while True:
        n += next(way)
        took = time.perf_counter() - start
        if took >= seconds:
            return n / took


def _peak_memory(log: InteractionLog, table: np.ndarray, size: int, layout: str, n_rows: int) -> float:
    """Returns the most MB that a process of its own holds, all in all, while it makes batches of a saved log."""
    with tempfile.TemporaryDirectory(prefix="recgym-speed-") as folder:
        log.save(f"{folder}/log")
        np.save(f"{folder}/table.npy", table)
        command = [sys.executable, "-c", _PASS, folder, str(size), layout, str(n_rows)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _synchronised(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _row(who: str, what: str, found: Sequence[float], unit: str, n: int, **about: Any) -> Row:
    row = {"agent": who, "metric": what, "value": median(found), "low": min(found), "high": max(found), "unit": unit}
    return {**row, "n": n, "threads": torch.get_num_threads(), "seed": 0, **about}
