"""What an agent is, and how arrays get to where it lives.

An agent of your own is any class with the five methods of `Agent`, the attributes `item_ids`, `reward` and `device`,
and the constructor `MyAgent(catalog, *, frame_size, seed, device, **config)`: no base class, nothing to register.

| method | is asked for | by |
|---|---|---|
| `scores(history)` | numbers (B, n_items), larger first | `recgym.recommend`, `evaluate_ranking`, `evaluate_sessions` |
| `act(history, explore=False)` | items (B,) or vectors (B, d) | `agents.fit_online`, environments |
| `update(batch)` | losses by name, after learning from B decisions | `agents.fit`, `agents.fit_online` |
| `state_dict()`, `load_state_dict(state)` | what a resumed run needs | `agents.checkpoint` (*) |

(*) which also asks for `catalog`, `frame_size`, `seed` and `config`, a dataclass, so as not to mix up runs.

It may also have `batches(log, batch_size, seed, later)`, if it learns from something else than frames, and
`values_of(batch)`, for `agents.training.diagnosis`. `benchmarks/template_agent.py` is one to begin from, and
`python -m benchmarks.run --suite quickstart --agent mypkg.mine:MyAgent` puts it beside all others; a plain function
`history -> scores` goes there too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from agents.networks.tensors import products as products
from agents.networks.tensors import to_tensor as to_tensor
from recgym.batches.tensors import resolve_device as resolve_device
from recgym.frames import Batch, History
from recgym.scorers import Scorer


@runtime_checkable
class Agent(Scorer, Protocol):
    """A scorer that also acts and learns. It neither trains itself, nor logs, nor saves: functions do that.

    Agents are built as `Agent(catalog, *, seed, device, **config)`; inputs are always indices, rewards and lengths.
    """

    device: torch.device

    def act(self, history: History, *, explore: bool = False) -> Any:
        """Returns actions for B histories: vectors (B, d) float32 or items (B,) int; `explore` adds noise."""
        ...

    def update(self, batch: Batch) -> Mapping[str, Any]:
        """Learns from one batch; returns its losses as 0-d tensors on the device (no host sync)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns everything a bit-exact resume needs: tensors and JSON values, possibly nested."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a state that `state_dict` returned."""
        ...


def unit_scale(vectors: np.ndarray) -> float:
    """Returns what vectors (n, d) must be multiplied by for the mean square of their numbers to be 1."""
    return float(np.mean(np.square(vectors))) ** -0.5


def stream_state(generator: torch.Generator, device: torch.device) -> dict[str, Any]:
    """Returns where a random stream stands, and the kind of device it is of: kinds do not take each other's states."""
    return {"generator": generator.get_state(), "device": device.type}


def restore_stream(
    generator: torch.Generator, state: Mapping[str, Any], device: torch.device, seed: int, updates: int
) -> None:
    """Lets a random stream go on where `stream_state` left it, or, on another kind of device, begin a new one.

    Args:
        generator: The stream, of `device`.
        state: What `stream_state` returned, among other things.
        device: Where the agent lives.
        seed: The agent's seed.
        updates: Updates it has made; with the seed they are what a new stream is seeded from.

    Warns:
        UserWarning: if a new stream begins, so that going on is not bit for bit what the saved run would have done.
    """
    saved = torch.as_tensor(state["generator"])
    if state.get("device", device.type) == device.type and saved.shape == generator.get_state().shape:
        generator.set_state(saved.cpu())
        return
    generator.manual_seed(int(np.random.SeedSequence([seed, updates]).generate_state(1, np.uint64)[0] >> 1))
    warnings.warn(
        f"a random stream of {state.get('device', 'another device')} cannot go on on {device.type}: weights and "
        f"optimizers are as saved, a new stream begins from seed {seed} and {updates} updates, and training on differs "
        "from what the saved run would have done",
        UserWarning,
        stacklevel=2,
    )


def known_users(user: Any, n_users: int, device: torch.device) -> torch.Tensor | None:
    """Returns users (B,) int64, those without a vector of their own as n_users; None if nobody has one or is named.

    Args:
        user: User indices (B,) of the log the agent learns from, or None.
        n_users: Users that have a vector, the first of that log.
        device: Where the agent lives.
    """
    if user is None or n_users == 0:
        return None
    users = to_tensor(user, device).long()
    return torch.where((users >= 0) & (users < n_users), users, n_users)
