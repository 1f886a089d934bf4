"""Checkpoints: tensors as safetensors, the rest as JSON, all under one manifest with hashes. Nothing is unpickled.

A run folder holds one folder per saved step, `step-000001000` and so on, each written whole or not at all. Loading one
and going on gives, bit for bit on one machine, what the uninterrupted run gives.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.store import MANIFEST, atomic_folder, explained, read_manifest, write_manifest

KIND, VERSION = "agent", 1
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_STEP = re.compile(r"step-(\d{9,})")


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
    """
    if keep < 1:
        raise StoreError(f"keep must be at least 1, got {keep}; a run needs its last checkpoint")
    later = [path.name for path in saved(folder) if _step(path) > step]
    if later:
        raise StoreError(
            f"{folder} must hold no checkpoint after step {step}, got {later[-1]} ({len(later)} in all); "
            "resume that run, or choose another folder"
        )
    tensors: dict[str, torch.Tensor] = {}
    state = {"agent": agent.state_dict(), "batches": batches.state_dict() if batches is not None else None}
    plain = _packed(state | {"torch": torch.get_rng_state()}, "", tensors)
    path = Path(folder) / f"step-{step:09d}"
    with atomic_folder(path) as temporary:
        save_file(tensors, temporary / _TENSORS)
        (temporary / _STATE).write_text(json.dumps(plain), encoding="utf-8")
        write_manifest(temporary, KIND, VERSION, {"step": step, **_about(agent)})
    for old in saved(folder)[:-keep]:
        with explained(old, "free the folder of the run"):
            (old / MANIFEST).unlink()  # first, so that no half of it is taken for a checkpoint
            shutil.rmtree(old)
    return path


def saved(folder: str | Path) -> list[Path]:
    """Returns the checkpoints of a run, oldest first."""
    found = (path for path in Path(folder).glob("step-*") if _STEP.fullmatch(path.name) and (path / MANIFEST).exists())
    return sorted(found, key=_step)


def load(path: str | Path, agent: Resumable, batches: Resumable | None = None) -> int:
    """Puts a checkpoint's state into an agent, and into what feeds it; returns the step it was saved at.

    Args:
        path: A checkpoint, or the folder of a run: then its newest one.
        agent: Made as the saved one was: same class, catalog, frame size and config. The device may differ.
        batches: Made as the saved ones were, if there were any.

    Raises:
        StoreError: if there is no checkpoint, it is damaged, or it is of another agent, catalog or config.
    """
    path = _checkpoint(path)
    manifest = read_manifest(path, KIND, VERSION, full=True)
    own = _about(agent)
    different = [name for name in own if manifest["about"].get(name) != own[name]]
    if different:
        saved_as = {name: manifest["about"].get(name) for name in different}
        raise StoreError(
            f"{path} must be a checkpoint of this agent, {_shown(own, different)}, got {_shown(saved_as, different)}; "
            "make agent and catalog as they were when it was saved"
        )
    state = _read_state(path)
    if (batches is None) != (state["batches"] is None):
        there, given = ("no batches", "some") if state["batches"] is None else ("batches", "none")
        raise StoreError(f"{path} was saved with {there}, got {given} to load into; pass what was passed to save")
    agent.load_state_dict(state["agent"])
    if batches is not None:
        batches.load_state_dict(state["batches"])
    torch.set_rng_state(state["torch"])
    return int(manifest["about"]["step"])


def load_agent(
    path: str | Path,
    catalog: Catalog,
    *,
    device: str | torch.device = "auto",
    agent_class: type | None = None,
    **options: Any,
) -> Any:
    """Returns the agent of a checkpoint, made anew for the same catalog.

    Args:
        path: A checkpoint, or the folder of a run: then its newest one.
        catalog: The items it was trained with.
        device: Where it shall live.
        agent_class: Its class; needed only for classes from outside `agents`, which are never imported by name.
        **options: What else it was made with that is no number or word, such as `nets` and `optimizers`.

    Raises:
        StoreError: as `load`, or if the class is not one of `agents` and none is given.
    """
    path = _checkpoint(path)
    about = read_manifest(path, KIND, VERSION, full=True)["about"]
    if about["catalog"] != catalog_hash(catalog):
        raise StoreError(
            f"{path} must be of this catalog, {catalog_hash(catalog)[:16]}, got one of {about['catalog'][:16]}; "
            "pass the catalog it was trained with"
        )
    if agent_class is None:
        module, _, name = about["agent"].partition(":")
        if not re.fullmatch(r"agents\.\w+", module):
            raise StoreError(f"{path} must hold an agent of this package, got {about['agent']!r}; pass agent_class")
        agent_class = getattr(import_module(module), name)
    options |= {"frame_size": about["frame_size"], "seed": about["seed"], "device": device, **about["config"]}
    agent = agent_class(catalog, **options)
    agent.load_state_dict(_read_state(path)["agent"])
    return agent


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


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _checkpoint(path: str | Path) -> Path:
    path = Path(path)
    if _STEP.fullmatch(path.name):
        return path
    found = saved(path)
    if not found:
        raise StoreError(f"{path} must hold a checkpoint, got none; give the folder of a run that has saved one")
    return found[-1]


def _read_state(path: Path) -> dict[str, Any]:
    plain = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return dict(_unpacked(plain, load_file(path / _TENSORS)))


def _about(agent: Any) -> dict[str, Any]:
    """Returns what an agent must agree in with its checkpoint, as JSON values."""
    about = {
        "agent": _class_name(type(agent)),
        "frame_size": agent.frame_size,
        "seed": agent.seed,
        "config": asdict(agent.config),
        "catalog": catalog_hash(agent.catalog),
    }
    return dict(json.loads(json.dumps(about)))


def _class_name(agent_class: type) -> str:
    module = agent_class.__module__
    main = sys.modules["__main__"].__spec__
    if module == "__main__" and main is not None:  # run as `python -m agents.ddpg`: the name others know it by
        module = main.name
    return f"{module}:{agent_class.__qualname__}"


def catalog_hash(catalog: Catalog) -> str:
    """Returns the SHA-256 of a catalog's vectors, ids and reward transform."""
    digest = hashlib.sha256(np.ascontiguousarray(catalog.table).tobytes())
    digest.update(json.dumps([catalog.reward, catalog.item_ids.tolist()], default=str).encode())
    return digest.hexdigest()


def _shown(about: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {about[name]!r}" for name in names)


def _packed(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Returns `value` as JSON; its tensors and arrays go into `tensors` under their path."""
    if isinstance(value, torch.Tensor | np.ndarray):
        tensors[name] = torch.as_tensor(value).detach().cpu().clone().contiguous()
        return {"tensor": name, "numpy": isinstance(value, np.ndarray)}
    if isinstance(value, Mapping):  # as pairs: JSON has no integer keys, and optimizers do
        return {"pairs": [[key, _packed(inner, f"{name}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"items": [_packed(inner, f"{name}/{place}", tensors) for place, inner in enumerate(value)]}
    return value


def _unpacked(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.numpy() if value["numpy"] else tensor
    if "pairs" in value:
        return {key: _unpacked(inner, tensors) for key, inner in value["pairs"]}
    return [_unpacked(inner, tensors) for inner in value["items"]]
