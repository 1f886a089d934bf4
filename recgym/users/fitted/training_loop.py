"""The training loop of learned user models: epochs, validation, early stopping, and checkpoints to go on from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from recgym.errors import StoreError
from recgym.storage.disk import move
from recgym.storage.store import atomic_folder, explained, read_manifest, readable, write_manifest

_log = logging.getLogger("recgym")

KIND, VERSION = "unfinished fit", 1
_TENSORS = "state.safetensors"


class Learner(Protocol):
    """Several fits side by side, "columns": members of an ensemble, or candidates of a search."""

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Parameters by name, trained in place."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of all parameters."""
        ...

    def epoch(self, number: int) -> None:
        """Passes once over the training events; what is drawn depends on `number` and the seed alone."""
        ...

    def validation_loss(self) -> np.ndarray:
        """Returns the loss of every column on the held-out events (G,)."""
        ...


class Course(NamedTuple):
    """How a fit went."""

    n_epochs: int  # that gave the lowest loss, or that were asked for
    column: int  # which column had it
    losses: np.ndarray  # (epochs run, G) on the held-out events; (0, 0) without


def search(
    learner: Learner,
    max_epochs: int,
    patience: int,
    folder: Path | None,
    about: Mapping[str, Any],
    tick: Callable[[], object],
) -> Course:
    """Returns after how many epochs which column had the lowest validation loss; stops when that gets no lower.

    Args:
        learner: What is trained.
        max_epochs: Epochs at most.
        patience: Epochs without a new lowest loss after which it stops.
        folder: Where to keep the state after every epoch, and to go on from; None: nowhere.
        about: What tells this fit from others; a state of another one is refused.
        tick: Called after every epoch.

    Raises:
        StoreError: if `folder` holds the state of another fit.
    """
    begin, losses = _resumed(learner, folder, about)
    for number in range(begin, max_epochs):
        if _stale(losses, patience):
            break
        learner.epoch(number)
        losses.append(learner.validation_loss().tolist())
        _keep(learner, folder, about, number + 1, losses)
        tick()
    table = np.array(losses)
    best, column = np.unravel_index(int(table.argmin()), table.shape)
    return Course(int(best) + 1, int(column), table)


def run(
    learner: Learner, n_epochs: int, folder: Path | None, about: Mapping[str, Any], tick: Callable[[], object]
) -> Course:
    """Trains for so many epochs, without looking at losses; arguments as of `search`."""
    begin, _ = _resumed(learner, folder, about)
    for number in range(begin, n_epochs):
        learner.epoch(number)
        _keep(learner, folder, about, number + 1, [])
        tick()
    return Course(n_epochs, 0, np.zeros((0, 0)))


def _stale(losses: list[list[float]], patience: int) -> bool:
    """Returns whether the lowest loss of all columns lies `patience` epochs back."""
    lowest = [min(row) for row in losses]
    return len(lowest) > 0 and len(lowest) - 1 - lowest.index(min(lowest)) >= patience


def _keep(
    learner: Learner, folder: Path | None, about: Mapping[str, Any], done: int, losses: list[list[float]]
) -> None:
    if folder is None:
        return
    with atomic_folder(folder) as temporary:
        save_file(_state(learner), temporary / _TENSORS)
        write_manifest(temporary, KIND, VERSION, {"fit": dict(about), "done": done, "losses": losses})


def _resumed(learner: Learner, folder: Path | None, about: Mapping[str, Any]) -> tuple[int, list[list[float]]]:
    """Returns epochs done and their losses after putting a kept state into the learner; (0, []) if there is none.

    A damaged state is set aside under the ending `.damaged`, and the fit begins anew.
    """
    if folder is None or not folder.exists():
        return 0, []
    try:
        with readable(folder, "hold the state of a fit", "the fit begins anew"):
            kept = read_manifest(folder, KIND, VERSION, full=True)["about"]
            found = load_file(folder / _TENSORS)
            state = {
                name: (
                    found[name].reshape(tensor.shape),
                    {key.partition("|")[2]: value for key, value in found.items() if key.startswith(f"{name}|")},
                )
                for name, tensor in learner.tensors.items()
            }
            changed = sorted(name for name in about if kept["fit"].get(name) != about[name])
            done, losses = int(kept["done"]), [[float(one) for one in row] for row in kept["losses"]]
    except StoreError as error:
        aside = folder.with_name(f"{folder.name}.damaged")
        _log.warning("%s; what is left of it stands at %s", error, aside)
        with explained(folder.parent, "choose another folder or free this one"):
            shutil.rmtree(aside, ignore_errors=True)
            move(folder, aside)
        return 0, []
    if kept["fit"] != dict(about):
        raise StoreError(
            f"{folder} must hold the state of this fit, got one that differs in {', '.join(changed)}; give it the same "
            "log and options, or another folder"
        )
    for name, tensor in learner.tensors.items():
        with torch.no_grad():
            tensor.copy_(state[name][0])
        learner.optimizer.state[tensor] = {key: value.to(tensor.device) for key, value in state[name][1].items()}
    return done, losses


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    """Returns parameters and what the optimizer remembers of each, as `NAME|MOMENT`."""
    state = {name: tensor.detach().contiguous() for name, tensor in learner.tensors.items()}
    for name, tensor in learner.tensors.items():
        for key, value in learner.optimizer.state[tensor].items():
            state[f"{name}|{key}"] = value.detach().contiguous()
    return state
