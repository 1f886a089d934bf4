"""What `python -m agents.slateq` and `agents.gems` do: train in an environment, and judge on held-out people."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.base import resolve_device
from agents.training import checkpoint, saving
from agents.training.callbacks import CsvRows, Progress, every, together
from agents.training.online import OnlineState, buffer_for, fit_online
from agents.training.train import first_step, write_json
from recgym.envs.registry import make_vector_env, registered
from recgym.errors import DataError
from recgym.evaluation.evaluate import SessionReturns, evaluate_sessions
from recgym.options import check_seed, check_sizes
from recgym.scorers import Uniform


@dataclass(frozen=True)
class WorldRun:
    """Which environment to train in, for how long, and where to write."""

    env: str = "recgym/InterestEvolution-v1"  # its id; slates have the agent's `k`
    rows: int = 32  # sessions at a time
    steps: int = 5_000  # steps of all rows, an update each
    batch_size: int = 256  # decisions per update
    warm_up: int = 1_000  # decisions collected before the first update
    buffer_size: int = 100_000  # decisions kept
    test_size: float = 0.2  # share of people held out for the numbers printed at the end
    sessions: int = 100  # sessions of theirs
    seed: int = 0  # seed of networks, sessions and exploration
    device: str = "auto"  # cpu, cuda, or auto: CUDA where there is one
    folder: Path | None = None  # where losses and checkpoints go; by default runs/<agent>-<environment>-<seed>
    save_every: int = 1_000  # updates between checkpoints
    keep: int = 3  # checkpoints kept
    log_every: int = 100  # updates between rows of losses
    resume: bool = False  # go on from the newest checkpoint in the folder

    def __post_init__(self) -> None:
        """Raises DataError if a number is out of range, the id unknown, no such device here, or processes several."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise DataError(
                f"an agent of slates must train in one process, got {os.environ['WORLD_SIZE']}; leave --processes out"
            )
        names = ("rows", "steps", "batch_size", "warm_up", "buffer_size", "sessions", "save_every", "keep", "log_every")
        check_sizes(**{name: getattr(self, name) for name in names})
        check_seed(self.seed)
        registered(self.env)
        resolve_device(self.device)

    def made(self, rows: int, k: int, split: str, autoreset: str) -> Any:
        """Returns the environment of one part of the people."""
        form = {"action": "item", "observation": "history", "autoreset_mode": autoreset, "k": k}
        return make_vector_env(rows, **registered(self.env) | form | {"split": split, "test_size": self.test_size})


def train_in_world(
    maker: Callable[..., Any], run: WorldRun, config: Any, prepare: Callable[[Any, Any], None] | None = None
) -> SessionReturns:
    """Trains an agent of slates as asked on the command line; prints and returns what held-out people's sessions earn.

    Args:
        maker: The agent's class.
        run: Where and for how long.
        config: Its hyperparameters, a dataclass with `k`.
        prepare: Called as `prepare(agent, env)` before the first step of a new run.

    Raises:
        StoreError: if the folder holds a run and `resume` is not asked for.
    """
    name = run.env.split("/")[-1]
    folder = run.folder or Path("runs") / f"{maker.__name__.lower()}-{name.lower()}-{run.seed}"
    env = run.made(run.rows, config.k, "train", "SameStep")
    agent = maker(env.catalog, frame_size=env.frame_size, seed=run.seed, device=run.device, **asdict(config))
    online = OnlineState(env, buffer_for(agent, env, run.buffer_size, seed=run.seed))
    step = first_step(folder, agent, online, run.resume)
    if prepare is not None and step == 0:
        prepare(agent, env)
    about = {"agent": saving.class_name(type(agent)), "run": {**asdict(run), "folder": str(folder)}}
    record = {**about, "config": asdict(config), "versions": saving.versions()}
    write_json(folder / "run.json", record)
    print(f"{maker.__name__} in {run.env}, {agent.device}, from step {step} to {run.steps}; writes to {folder}")
    report = together(
        Progress(run.steps, step),
        every(run.log_every, CsvRows(folder / "losses.csv", step)),
        every(run.save_every, checkpoint.Checkpoints(folder, agent, online, keep=run.keep), last=run.steps),
    )
    beside: dict[str, Any] = {"batch_size": run.batch_size, "warm_up": run.warm_up, "seed": run.seed}
    fit_online(agent, env, run.steps, report, buffer=online.buffer, first_step=step, **beside)
    judge = run.made(min(run.rows, run.sessions), config.k, "test", "Disabled")
    chance = Uniform(env.catalog.item_ids, run.seed, env.catalog.reward)
    earned, floor = (evaluate_sessions(one, judge, n_sessions=run.sessions, seed=run.seed) for one in (agent, chance))
    mean, low, high = earned.mean_interval("session_return")
    print(f"{maker.__name__} earns {mean:.3f} a session of held-out people [{low:.3f}, {high:.3f}]")
    print(f"random slates earn {float(np.mean(floor.returns)):.3f}")
    write_json(folder / "run.json", {**record, "metrics": {"session_return": {"mean": mean, "low": low, "high": high}}})
    return earned
