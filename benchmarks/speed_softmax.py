"""Full against adaptive softmax over large catalogs: seconds per update and memory of REINFORCE's policy.

Each figure comes from a process of its own, which reports the seconds of an update (forward, backward and Adam's step)
and its peak memory less what it had before the network was made. Of adaptive softmax both the update and the scoring
of all items are measured, as only the former is cheaper.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

CATALOGS = (50_000, 500_000)  # items
QUICK = (5_000,)
HEADS = {"full softmax": "linear", "adaptive softmax": "adaptive"}
SETTINGS = {"hidden": 64, "batch": 128}
PROGRAM = """
import re, sys, time
import torch
from agents.networks.softmax_heads import DiscreteActor, make_head
from agents.networks.layers import descend
head, n_items, hidden, batch, updates = sys.argv[1], *map(int, sys.argv[2:])

def memory():  # MB; Linux's high-water mark of this process, where getrusage would begin with its parent's
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1000

vectors = torch.linspace(2.0, 1.0, n_items)[:, None]  # the first is the most frequent
state = torch.randn(batch, 64)
weights = 1.0 / torch.arange(1, n_items + 1)  # Zipf's law
logged = torch.multinomial(weights, batch * (updates + 1), replacement=True).view(-1, batch)
warm = torch.nn.Linear(64, 64)  # so that torch's own memory is not counted
descend(warm(state).square().mean(), warm, torch.optim.Adam(warm.parameters(), fused=True))
before = memory()
actor = DiscreteActor(64, make_head(head, hidden, vectors), hidden)
optimizer = torch.optim.Adam(actor.parameters(), fused=True)
for number, items in enumerate(logged):
    if number == 1:  # the first makes Adam's memory
        start = time.perf_counter()
    descend(-actor.log_prob(state, items).mean(), actor, optimizer)
update = (time.perf_counter() - start) / updates
peak = memory() - before
with torch.no_grad():
    start = time.perf_counter()
    actor(state)
    score = time.perf_counter() - start
print(update, peak, score, sum(parameter.numel() for parameter in actor.parameters()))
"""


def rows(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Returns updates per second, memory, parameters and the time to score all items, per head and catalog.

    Args:
        sizes: Not looked at: they are numbers of events.
        quick: Whether a small catalog will do.
    """
    found: list[dict[str, Any]] = []
    for n_items in QUICK if quick else CATALOGS:
        for name, head in HEADS.items():
            update, peak, score, n_parameters = measure(head, n_items, updates=2 if quick else 5)
            config = {**SETTINGS, "head": head}
            shared = {"agent": name, "n": n_items, "config": config, "threads": 1}
            found += [
                {**shared, "metric": "updates", "value": 1.0 / update, "unit": "1/s", "seconds": update},
                {**shared, "metric": "memory", "value": peak, "unit": "MB"},
                {**shared, "metric": "scores of all items", "value": score, "unit": "s", "seconds": score},
                {**shared, "metric": "parameters", "value": n_parameters, "unit": ""},
            ]
            print(f"{name:18} {n_items:>9,} items: {1.0 / update:8.2f} updates/s, {peak:8.1f} MB", flush=True)
    return found


def measure(head: str, n_items: int, updates: int) -> tuple[float, ...]:
    """Returns seconds per update, MB, seconds to score all items, and parameters of a head, from a fresh process."""
    given = [head, n_items, SETTINGS["hidden"], SETTINGS["batch"], updates]
    command = [sys.executable, "-c", PROGRAM, *map(str, given)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(float(word) for word in done.stdout.split())
