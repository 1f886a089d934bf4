"""Learning on a CUDA device: updates a second at batches of 256 to 16,384, and a pass over 20 million transitions.

Networks are those of `benchmarks.speed_agents`; batches are drawn on the device, where the log's columns are. Each
figure takes at most `SECONDS`, so that all of it, with `make gpu-report`, takes minutes. Environments compute in NumPy,
so there is no row of their steps on a device.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.speed_agents import DIM, FRAME, HIDDEN, N_ITEMS, PLAIN, STATE, endless
from recgym import Catalog, FrameBatches, InteractionLog

SECONDS = 15.0  # of one figure at most
BATCHES = (256, 1024, 4096, 16384)
N_USERS, EVENTS = 138_493, 144  # 20 million events in all
_WARM = 8  # updates before the first that counts: kernels are chosen and memory is taken


def rows(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Returns the rows of this machine's CUDA device; with `quick`, of the processor where there is none.

    Args:
        sizes: Of tables; not looked at.
        quick: Whether to see only that all of it runs: one small batch, few events.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        print("  no rows: there is no CUDA device on this machine (--quick runs all of it on the processor)")
        return []
    log, catalog = world(4 if quick else N_USERS)
    made = []
    for row in _measured(log, catalog, device, quick):
        print(
            f"  batch {row['n']:>6}  {row['metric']:32} {row['agent']:14} {row['value']:10.2f} {row['unit']}",
            flush=True,
        )
        made.append(row)
    return made


def _measured(log: InteractionLog, catalog: Catalog, device: str, quick: bool) -> Iterator[dict[str, Any]]:
    import agents

    sizes, most, warm = ((64,), 2, 1) if quick else (BATCHES, 2000, _WARM)
    for name in ("DDPG", "TD3"):
        for precision in ("fp32", "bf16"):
            who = "recgym" if precision == "fp32" else f"recgym {precision}"
            for size in sizes:
                agent = getattr(agents, name)(catalog, frame_size=FRAME, device=device, precision=precision, **PLAIN)
                batches = endless(FrameBatches(log, FRAME, size, device=device))
                for _ in range(warm):
                    agent.update(next(batches))
                done, taken = _timed(agent, batches, most, device)
                yield _row(who, f"{name} updates", done / taken, "updates/s", size, device)
                if name == "DDPG" and size == sizes[-1]:  # a whole pass, not a share of one
                    one = iter(FrameBatches(log, FRAME, size, device=device))
                    done, taken = _timed(agent, one, None, device)
                    yield _row(who, "DDPG pass", taken, "s", done * size, device)


def _timed(agent: Any, batches: Iterator[Any], most: int | None, device: str) -> tuple[int, float]:
    """Returns how many updates were made, `most` or what fits into `SECONDS` (None: all batches), and in what time."""
    _wait(device)
    begin, done = time.perf_counter(), 0
    for batch in batches:
        agent.update(batch)
        done += 1
        if most is not None and (done == most or (done % 16 == 0 and time.perf_counter() - begin > SECONDS)):
            break
    _wait(device)
    return done, time.perf_counter() - begin


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def world(n_users: int) -> tuple[InteractionLog, Catalog]:
    """Returns a log of users with 144 events each, and its items."""
    random = np.random.default_rng(0)
    log = InteractionLog(
        items=random.integers(N_ITEMS, size=n_users * EVENTS, dtype=np.int32),
        rewards=random.random(n_users * EVENTS, dtype=np.float32),
        offsets=np.arange(n_users + 1) * EVENTS,
        user_ids=np.arange(n_users),
        item_ids=np.arange(N_ITEMS),
        reward="scaled",
        reward_range=(-0.8, 1.0),
    )
    return log, Catalog(random.normal(size=(N_ITEMS, DIM)), np.arange(N_ITEMS))


def _row(who: str, metric: str, value: float, unit: str, n: int, device: str) -> dict[str, Any]:
    config = {"networks": f"{STATE}-{HIDDEN}-{HIDDEN}-{DIM}"}
    return {
        **{"agent": who, "metric": metric, "value": value, "unit": unit, "n": n},
        **{"device": torch.cuda.get_device_name() if device == "cuda" else device, "config": config},
    }
