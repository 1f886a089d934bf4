"""Times serving: HTTP and batching against the bare `recommend`, 64 clients against one, a log against scores alone.

The agent is a GRU over 26,744 items with vectors of 128 numbers, untrained: its speed does not depend on what it knows.
Server and clients share the machine, as they would not elsewhere; the client speaks HTTP by hand, to cost little.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import recgym
from benchmarks.turns import in_turns, row
from recgym.batches import histories
from recgym.catalog import Catalog
from recgym.commands.runs import load_served
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.serving.served import Served
from recgym.serving.whole_log import recommend_log

N_ITEMS, DIM, EVENTS = 26_744, 128, 30
_RATE = 50  # requests a second of the open loop
Ask = Callable[[], Awaitable[None]]


def rows(sizes: object = (), quick: bool = False) -> list[dict[str, Any]]:
    """Returns rows of single requests, of many clients, of a whole log and of memory; `sizes` are other subjects'."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        agents.save(_agent(), run)
        served = load_served(run)
        found = _whole_log(served, Path(folder), 512 if quick else 4_096)
        bare = _bare(served, 50 if quick else 500)
        with _server(run) as (port, process):
            found += asyncio.run(_over_http(port, process.pid, bare, quick))
    return found


def _agent() -> Any:
    random = np.random.default_rng(0)
    catalog = Catalog(random.normal(size=(N_ITEMS, DIM)).astype(np.float32), np.arange(N_ITEMS), "raw")
    agent: Any = agents.SequenceModel(catalog, device="cpu", core="gru", width=DIM, n_layers=1, max_length=50)
    agent.popularity = random.integers(1, 1_000, N_ITEMS).astype(np.float32)
    return agent


def _history(number: int) -> list[list[float]]:
    items = np.random.default_rng(number).integers(0, N_ITEMS, EVENTS)
    return [[int(item), 1.0] for item in items]


def _bare(served: Served, n: int) -> np.ndarray:
    """Returns the seconds of bare calls of `recommend` (n,), as many a second as are sent over HTTP."""
    taken = []
    for number in range(n + 10):
        time.sleep(1 / _RATE / 2)
        begun = time.perf_counter()
        recgym.recommend(served.scorer, [(int(item), rating) for item, rating in _history(number)], 10)
        taken.append(time.perf_counter() - begun)
    return np.array(taken[10:])


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _server(run: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "recgym", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split("served at ")[1].split()[0].rpartition(":")[2]), process
    finally:
        process.terminate()
        process.wait()


async def _over_http(port: int, pid: int, bare: np.ndarray, quick: bool) -> list[dict[str, Any]]:
    seconds = 2 if quick else 20
    asks = [await _client(port, number) for number in range(64)]
    for ask in asks:
        await ask()
    alone = await _open_loop(asks[:16], _RATE * seconds)
    single = [await _closed_loop(asks[:1], seconds / 2)]
    many = await _closed_loop(asks, seconds)
    single.append(await _closed_loop(asks[:1], seconds / 2))
    before = _memory(pid)
    n = 2_000 if quick else 100_000
    await _exactly(asks, n)
    after = _memory(pid)
    over = float(np.quantile(alone, 0.99) - np.quantile(bare, 0.99)) * 1000
    ms = {"bare recommend": bare, "over HTTP, 50 requests/s": alone}
    found = [
        row("recgym", f"{name}, {title}", float(np.quantile(values, at)) * 1000, "ms", N_ITEMS)
        for name, values in ms.items()
        for title, at in (("median", 0.5), ("p99", 0.99))
    ]
    return [
        *found,
        row("recgym", "HTTP and batching over bare recommend, p99 (goal 5)", over, "ms", N_ITEMS),
        row("recgym", "one client", float(np.mean(single)), "requests/s", N_ITEMS),
        row("recgym", "64 clients", many, "requests/s", N_ITEMS),
        row("recgym", "64 clients to one (goal 10)", many / float(np.mean(single)), "times", N_ITEMS),
        row("recgym", f"memory after {n:,} more requests", after / before, "times", N_ITEMS),
    ]


async def _client(port: int, number: int) -> Ask:
    """Returns what asks for one list on a connection of its own, and waits for the answer."""
    reading, writing = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"history": _history(number), "k": 10}).encode()
    request = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def ask() -> None:
        writing.write(request)
        head = await reading.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reading.readexactly(int(length.split(b":")[1]))

    return ask


async def _open_loop(asks: list[Ask], n: int) -> np.ndarray:
    """Returns the seconds of n requests sent at a fixed rate, from when each should have been sent."""
    begun, taken = time.perf_counter() + 0.1, np.zeros(n)

    async def one(ask: Ask, numbers: range) -> None:
        for number in numbers:
            due = begun + number / _RATE
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            late = time.perf_counter() - due  # the client's own timer, unless the request before was not answered yet
            start = due if late > 0.01 else time.perf_counter()
            await ask()
            taken[number] = time.perf_counter() - start

    await asyncio.gather(*(one(ask, range(place, n, len(asks))) for place, ask in enumerate(asks)))
    return taken


async def _closed_loop(asks: list[Ask], seconds: float) -> float:
    """Returns the requests a second of clients that ask again as soon as they are answered."""
    begun, n = time.perf_counter(), 0

    async def one(ask: Ask) -> None:
        nonlocal n
        while time.perf_counter() - begun < seconds:
            await ask()
            n += 1

    await asyncio.gather(*map(one, asks))
    return n / (time.perf_counter() - begun)


async def _exactly(asks: list[Ask], n: int) -> None:
    async def one(ask: Ask) -> None:
        for _ in range(n // len(asks)):
            await ask()

    await asyncio.gather(*map(one, asks))


def _memory(pid: int) -> float:
    """Returns the bytes of memory that a process has (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return 1024.0 * float(next(line for line in lines if line.startswith("VmRSS")).split()[1])


# -- a whole log -------------------------------------------------------------------------------------------------------


def _whole_log(served: Served, folder: Path, n_users: int) -> list[dict[str, Any]]:
    """Returns what `recommend_log` makes of the speed of scores and their ten best alone, in turns."""
    items = np.random.default_rng(1).integers(0, N_ITEMS, n_users * EVENTS)
    users = np.repeat(np.arange(n_users), EVENTS)
    log = InteractionLog.from_events(users, items, np.ones(len(items)), item_ids=np.arange(N_ITEMS))
    batches = [np.arange(first, min(first + 256, n_users)) for first in range(0, n_users, 256)]
    pasts = [histories(log, users, log.lengths[users]) for users in batches]
    calls: dict[str, Callable[[], object]] = {
        "alone": partial(_alone, served.scorer, pasts),
        "whole": lambda: recommend_log(served, log, folder / "recs.parquet", 10),
    }
    taken = in_turns(calls, 3)
    share = float(np.median(taken["alone"] / taken["whole"]))
    return [
        row("recgym", "everybody in a log", n_users / float(np.median(taken["whole"])), "users/s", N_ITEMS),
        row("torch", "scores and top ten alone", n_users / float(np.median(taken["alone"])), "users/s", N_ITEMS),
        row("recgym", "everybody in a log, of scores and top ten alone (goal 0.8)", share, "times", N_ITEMS),
    ]


def _alone(scorer: Any, pasts: list[History]) -> None:
    for past in pasts:
        torch.topk(scorer.scores(past), 10, dim=1)
