"""Trained before users learned from half of MovieLens-1M, judged before the others: `python -m benchmarks.simulated`.

DDPG first imitates the training people's log, then learns in their simulator (`recgym/ML1M-Sim-v0`, `split="train"`).
It is judged in the simulator that was fitted on the other people (`split="test"`), session by session against chance,
popularity and `greedy`, which knows what that simulator is about to pay. The setting is the best of four in sessions
with training people. The other three, in the same 512 sessions: TD3 that imitated first was 0.6 above popularity, two
that had not were 0.2 and 0.5 below it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import recgym
from benchmarks.results import Results, Row, place
from recgym.commands.ending import ended
from recgym.commands.words import Parser
from recgym.envs.registry import make_vector_env, registered
from recgym.evaluation.floors import known_policies

NAME, ENV_ID = "simulated", "recgym/ML1M-Sim-v0"
OPTIONS: dict[str, Any] = {}  # of the environment, beside those of the id
CONFIG: dict[str, Any] = {"bc_reward": 8.0, "noise": 0.2}
OFFLINE, ONLINE, ROWS = 700, 1_500, 64  # updates from the log, steps of so many sessions in the simulator
SESSIONS = {"random": 512, "popularity": 512, "greedy": 128}  # that each is compared in
_TRAIN, _LUCK = 1_000_000, 9  # seeds of sessions


def run(folder: Path, about: Mapping[str, str], seed: int = 0) -> None:
    """Trains the agent and stores its paired differences."""
    import agents

    served = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"} | OPTIONS
    train, test = (make_vector_env(ROWS, **registered(ENV_ID) | served | {"split": half}) for half in ("train", "test"))
    learning = {
        "action": "embedding",
        "observation": "history",
        "autoreset_mode": "SameStep",
        "split": "train",
    } | OPTIONS
    env = make_vector_env(ROWS, **registered(ENV_ID) | learning)
    start = time.perf_counter()
    agent = agents.DDPG(env.catalog, frame_size=10, seed=seed, device="cpu", **CONFIG)
    log: Any = getattr(env.users, "log")  # noqa: B009  learned users keep what they were fitted on
    batches = recgym.FrameBatches(log, frame_size=10, batch_size=256, seed=seed, later=0.7)
    agents.fit(agent, batches, OFFLINE)
    agents.fit_online(agent, env, ONLINE, seed=_TRAIN + seed, warm_up=0)
    seconds = time.perf_counter() - start
    floors = known_policies(test, train)
    rows: list[dict[str, object]] = []
    for name, n in SESSIONS.items():
        other = "greedy" if name == "greedy" else floors[name]
        found = recgym.compare(agent, other, ENV_ID, n_users=n, seed=_LUCK, options={"split": "test"} | OPTIONS)
        values = {"ddpg": recgym.metrics.mean_interval(found.a), name: recgym.metrics.mean_interval(found.b)}
        values[f"ddpg - {name}"] = found.difference
        for who, interval in values.items():
            ends = dict(zip(("value", "low", "high"), interval, strict=True))
            rows.append(
                {"agent": who, "metric": f"return beside {name}", **ends, "n": n, "key": f"{name} {who} {seed}"}
            )
        print(f"{name}: {found}", flush=True)
    shared: dict[str, object] = {"unit": "sessions", "seed": seed, "n_steps": OFFLINE + ONLINE, "seconds": seconds}
    shared |= {"device": "cpu", "threads": 1, "protocol": ENV_ID, "config": CONFIG, "data_hash": ""}
    shared |= {**about, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    Results(folder / f"{NAME}.csv").put([{**row, **shared} for row in rows])


def present(folder: Path) -> list[str]:
    """Returns the name of the rows, if there are any."""
    return [NAME] if (folder / f"{NAME}.csv").exists() else []


def block(name: str, rows: Sequence[Row]) -> str:
    """Returns what the page says of them."""
    lines = [f"| {ENV_ID} | earns | DDPG earns | DDPG more, paired | sessions |", "|---|---|---|---|---|"]
    by_who = {(row["metric"], row["agent"]): row for row in rows}
    for other in SESSIONS:
        cells = [by_who[f"return beside {other}", who] for who in (other, "ddpg", f"ddpg - {other}")]
        numbers = [f"{float(r['value']):.2f} [{float(r['low']):.2f}, {float(r['high']):.2f}]" for r in cells]
        lines.append(f"| {other} | {' | '.join(numbers)} | {cells[0]['n']} |")
    return "\n".join(
        [
            *lines,
            "",
            f"DDPG: {OFFLINE} updates from the training people's log, then {ONLINE:,} steps of {ROWS} sessions in "
            f"their simulator, {float(rows[0]['seconds']):.0f} s on one thread, seed {rows[0]['seed']}. Judged in the "
            "simulator of the other half; `greedy` knows it. MovieLens has next to no long-term structure. "
            "Made by `python -m benchmarks.simulated`.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, trains and judges."""
    from benchmarks.run import facts

    parser = Parser(prog="python -m benchmarks.simulated", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of training (default: %(default)s)")
    run(place(), facts(), parser.parse_args(arguments).seed)


if __name__ == "__main__":
    sys.exit(ended(main, called="python -m benchmarks.simulated"))
