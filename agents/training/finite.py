"""Stopping a training whose losses are no numbers any more, with what is known of why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from recgym.errors import DivergedError

_LAST: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()  # where agents of this process were saved or loaded last
_AT_ONCE = 64  # steps looked at together where looking makes the host wait for a device


class FiniteLosses:
    """Called after every update; raises once losses are NaN or infinite, naming the step at which they first were.

    On a processor it looks at every step; elsewhere at 64 together, so that a device is not made to wait.

    Args:
        last_good: Returns the newest checkpoint of the run, or None.
    """

    def __init__(self, last_good: Any) -> None:
        self.last_good = last_good
        self.waiting: list[tuple[int, Any, dict[str, torch.Tensor]]] = []

    def __call__(self, step: int, batch: Any, losses: Mapping[str, Any]) -> None:
        """Looks at the losses of a step, or keeps them for later."""
        tensors = {name: torch.as_tensor(value).detach() for name, value in losses.items()}
        if tensors:
            self.waiting.append((step, batch, tensors))
        if len(self.waiting) >= _AT_ONCE or all(value.device.type == "cpu" for value in tensors.values()):
            self.look()

    def look(self) -> None:
        """Looks at all losses kept.

        Raises:
            DivergedError: if one is NaN or infinite.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        sums = torch.stack([torch.stack([v.float().sum() for v in losses.values()]).sum() for _, _, losses in waiting])
        for place in (~sums.isfinite()).nonzero()[:, 0].tolist():
            step, batch, losses = waiting[place]
            bad = [f"{name}={float(v.sum())}" for name, v in losses.items() if not bool(v.isfinite().all())]
            if bad:
                raise DivergedError(self._about(step, batch, bad))

    def _about(self, step: int, batch: Any, bad: list[str]) -> str:
        given = getattr(batch, "reward", getattr(batch, "target_rewards", None))
        where = ""
        if given is not None:
            rewards = np.asarray(given.cpu() if isinstance(given, torch.Tensor) else given)
            where = f" (rewards of its batch from {rewards.min():g} to {rewards.max():g})"
        kept = self.last_good()
        last = "no checkpoint was saved" if kept is None else f"the last good checkpoint is {kept}"
        return (
            f"losses must be finite, got {', '.join(bad)} at step {step}{where}; lower the step size, give max_norm or "
            f"mend the rewards (reward_scale=None, reward='log1p'); {last}"
        )


def check_weights(agent: Any, step: int) -> None:
    """Raises DivergedError if a weight is NaN: such a checkpoint would hide the last good one."""
    nets: Any = getattr(agent, "nets", None)
    for name, net in nets._asdict().items() if hasattr(nets, "_asdict") else ():
        bad = [part for part, weight in net.named_parameters() if bool(weight.isnan().any())]
        if bad:
            raise DivergedError(
                f"weights must be numbers to be saved, got NaN in {name}.{bad[0]} ({len(bad)} of its tensors) at step "
                f"{step}; lower the step size or mend the rewards, and go on from {last_of(agent) or 'step 0'}"
            )


def remember(agent: Any, path: Path) -> None:
    """Notes where an agent was saved or loaded last."""
    with suppress(TypeError):  # of a class of one's own that cannot be looked up
        _LAST[agent] = path


def last_of(agent: Any) -> Path | None:
    """Returns the checkpoint an agent was saved in or loaded from last, in this process; None where there is none."""
    try:
        return _LAST.get(agent)
    except TypeError:
        return None
