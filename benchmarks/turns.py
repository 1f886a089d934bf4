"""Timing things in turns, so that other work on the machine slows all of them alike.

What is compared takes turns, round after round, and a ratio is the median of the rounds' ratios. With
OMP_NUM_THREADS=1 seconds are the processor's, else those of the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ROWS, ROUNDS = 256, 7
Calls = Mapping[str, Callable[[], object]]


def row(agent: str, metric: str, value: float, unit: str, n: int, **more: Any) -> dict[str, Any]:
    """Returns a row of results; `threads` are those that NumPy may use."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return {"agent": agent, "metric": metric, "value": value, "unit": unit, "n": n, "threads": threads, **more}


def in_turns(calls: Calls, rounds: int = ROUNDS) -> dict[str, np.ndarray]:
    """Returns the seconds of every call in every round (rounds,); a first round is not counted."""
    clock = time.process_time if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}
