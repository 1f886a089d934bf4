"""Checkpoints: tensors as safetensors, the rest as JSON, all under one manifest with hashes. Nothing is unpickled.

A run folder holds its catalog and one folder per saved step, `step-000001000` and so on, each written whole or not at
all. Loading one and going on gives, bit for bit on one machine, what the uninterrupted run gives; `agents.load(folder)`
makes the agent anew on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from agents.training import saving
from agents.training.finite import check_weights, remember
from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.storage.store import MANIFEST, atomic_folder, discard, explained, parsed_manifest, read_manifest, readable


class Resumable(Protocol):
    """Something whose state can be saved: an agent, batches, a replay buffer."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors, arrays and JSON values, possibly nested."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes such a state over."""
        ...


def save(folder: str | Path, step: int, agent: Resumable, batches: Resumable | None = None, *, keep: int = 3) -> Path:
    """Writes a checkpoint and removes the oldest of the run; returns the folder it is in.

    Args:
        folder: Folder of the run.
        step: Updates made so far.
        agent: Whose networks, optimizers and random streams to save.
        batches: What feeds it, so that a resumed run meets the very next batch.
        keep: Checkpoints kept.

    Raises:
        StoreError: if the folder cannot be written to or holds a later step, or `keep` is below 1.
        DivergedError: if a weight is no number.
    """
    if keep < 1:
        raise StoreError(f"keep must be at least 1, got {keep}; a run needs its last checkpoint")
    later = [path.name for path in saved(folder) if saving.step_of(path) > step]
    if later:
        raise StoreError(
            f"{folder} must hold no checkpoint after step {step}, got {later[-1]} ({len(later)} in all); "
            "resume that run, or choose another folder"
        )
    check_weights(agent, step)
    more = {"batches": batches.state_dict() if batches is not None else None, "torch": torch.get_rng_state()}
    _keep_catalog(Path(folder), agent)
    path = Path(folder) / f"step-{step:09d}"
    with atomic_folder(path) as temporary:
        saving.write(agent, temporary, more, step=step)
    remember(agent, path)
    for old in saved(folder)[:-keep]:
        with explained(old, "free the folder of the run"):
            discard(old)
    return path


def saved(folder: str | Path) -> list[Path]:
    """Returns the checkpoints of a run, oldest first."""
    return saving.checkpoints(Path(folder))


def load(path: str | Path, agent: Resumable, batches: Resumable | None = None) -> int:
    """Puts a checkpoint's state into an agent, and into what feeds it; returns the step it was saved at.

    Args:
        path: A checkpoint, or the folder of a run: then its newest one.
        agent: Made as the saved one was: same class, catalog, frame size and config. The device may differ.
        batches: Made as the saved ones were, if there were any.

    Raises:
        StoreError: if there is no checkpoint, it is damaged, or it is of another agent, catalog or config.
    """
    path = saving.found(Path(path))
    manifest = read_manifest(path, saving.KIND, saving.VERSION, full=True)
    own = saving.about_of(agent)
    different = _differing(own, manifest["about"])
    if different:
        saved_as = {name: manifest["about"].get(name) for name in different}
        raise StoreError(
            f"{path} must be a checkpoint of this agent, {_shown(own, different)}, got {_shown(saved_as, different)}; "
            "make agent and catalog as they were when it was saved"
        )
    state = saving.read_state(path)
    with readable(path, "hold the state that was saved", "resume from an earlier checkpoint"):
        if (batches is None) != (state["batches"] is None):
            there, given = ("no batches", "some") if state["batches"] is None else ("batches", "none")
            raise StoreError(f"{path} was saved with {there}, got {given} to load into; pass what was passed to save")
        agent.load_state_dict(state["agent"])
        if batches is not None:
            batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["torch"])
    remember(agent, path)
    return int(manifest["about"]["step"])


def load_agent(path: str | Path, catalog: Catalog, **options: Any) -> Any:
    """Returns the agent of a checkpoint for a catalog; `agents.load(path)` needs none. Options are those of `load`."""
    return saving.load(path, catalog=catalog, **options)


class Checkpoints:
    """A report for `fit` that saves: `report=every(1000, Checkpoints("runs/mine", agent, batches))`."""

    def __init__(
        self, folder: str | Path, agent: Resumable, batches: Resumable | None = None, *, keep: int = 3
    ) -> None:
        self.folder, self.agent, self.batches, self.keep = folder, agent, batches, keep

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Saves the state after `step` updates."""
        save(self.folder, step, self.agent, self.batches, keep=self.keep)


# -- parts -------------------------------------------------------------------------------------------------------------


def _keep_catalog(folder: Path, agent: Any) -> None:
    """Writes the agent's catalog into the folder of its run, once."""
    catalog = getattr(agent, "catalog", None)
    if not isinstance(catalog, Catalog):
        return
    if not (folder / saving.CATALOG / MANIFEST).exists():
        catalog.save(folder / saving.CATALOG)
    elif parsed_manifest(folder / saving.CATALOG)["about"].get("hash") != catalog.hash:
        raise StoreError(f"{folder} must be of this agent's catalog, got a run of another; choose another folder")


def _differing(own: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Returns in what an agent and a checkpoint differ; a hyperparameter that older releases lack is no difference."""
    different = [name for name in own if name != "config" and there.get(name) != own[name]]
    old = there.get("config", {})
    if "config" in own and any(old[name] != value for name, value in own["config"].items() if name in old):
        different.append("config")
    return different


def _shown(about: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {about[name]!r}" for name in names)
