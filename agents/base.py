"""What an agent is, and the part that agents with continuous embedding actions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn import functional

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History, last_events
from recgym.policies import Scorer

MAPPERS = ("inner", "cosine")


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


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Returns the torch device named; `"auto"` is CUDA where there is one, else the CPU."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def to_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """Returns a NumPy array or tensor as a tensor on `device`; shares memory where it can."""
    if isinstance(array, torch.Tensor):
        return array.to(device, non_blocking=True)
    return torch.as_tensor(np.ascontiguousarray(array)).to(device, non_blocking=True)


class Decisions(NamedTuple):
    """A batch with its vectors looked up: states in two parts, so that networks need no copy of them joined."""

    state: tuple[torch.Tensor, torch.Tensor]  # item vectors (B, F*d) and rewards (B, F)
    action: torch.Tensor  # (B,) int64 item index
    vector: torch.Tensor  # (B, d) what the critic knows of that item
    reward: torch.Tensor  # (B,)
    next_state: tuple[torch.Tensor, torch.Tensor]
    terminated: torch.Tensor  # (B,) bool


class EmbeddingAgent:
    """What agents share whose action is a vector: items score by their inner product with it, or by its cosine.

    Args:
        catalog: The items and their vectors.
        frame_size: F, the events of a history that are looked at; shorter ones are padded.
        seed: Seed of the networks and of the agent's own randomness.
        device: Where it lives: `"auto"`, `"cpu"`, `"cuda"` ...
        mapper: `"inner"` or `"cosine"`; in an environment with vector actions, give it the same.
        input_scale: What item vectors are multiplied by where networks see them; None makes the mean square of their
            numbers 1 (those of a catalog, whose vectors have length 1 at most, are far too small to learn from).

    Attributes:
        table: Item vectors as networks see them (n_items + 1, d); the last row is padding.
        vectors: Item vectors that actions are compared with (n_items + 1, d); of length 1 for `"cosine"`.
        shown: Item vectors a critic is shown for a logged item (n_items + 1, d): `table`, or what a subclass says.
        generator: The agent's random stream.

    Raises:
        DataError: if `mapper` is unknown or `frame_size` is below 1.
    """

    def __init__(
        self,
        catalog: Catalog,
        frame_size: int,
        seed: int,
        device: str | torch.device,
        mapper: str,
        input_scale: float | None = None,
    ) -> None:
        if mapper not in MAPPERS:
            raise DataError(f"mapper must be one of {', '.join(MAPPERS)}, got {mapper!r}; choose one of them")
        if frame_size < 1:
            raise DataError(f"frame_size must be at least 1, got {frame_size}; give the events an agent looks at")
        self.catalog = catalog
        self.item_ids, self.reward = catalog.item_ids, catalog.reward
        self.frame_size, self.seed, self.mapper = frame_size, seed, mapper
        self.device = resolve_device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        plain = torch.tensor(catalog.table, device=self.device)  # (n_items + 1, d)
        scale = float(np.mean(np.square(catalog.embeddings))) ** -0.5 if input_scale is None else input_scale
        self.table = plain * scale
        self.vectors = functional.normalize(plain, dim=1) if mapper == "cosine" else plain
        self.shown = self.table

    # Every subclass makes these two: NamedTuples of modules and of optimizers.
    nets: Any
    optimizers: Any
    noise = 0.0  # standard deviation of the exploration noise

    @property
    def state_dim(self) -> int:
        """Width of a state: F * (d + 1)."""
        return self.frame_size * (self.catalog.dim + 1)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns the agent's vector actions (B, d) in -1..1 for states; every subclass says how."""
        raise NotImplementedError

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32 in -1..1; with `explore`, Gaussian noise is added."""
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        state = self.table[to_tensor(items, self.device).long()].flatten(1), to_tensor(rewards, self.device)
        action = self.policy(*state)
        if not explore:
            return action
        noise = torch.randn(action.shape, generator=self.generator, device=self.device)
        return (action + self.noise * noise).clamp(-1.0, 1.0)

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32: the mapper's product of the action with every item."""
        return self.act(history) @ self.vectors[:-1].T

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of all networks, optimizers and the random stream."""
        return {
            "networks": {name: network.state_dict() for name, network in self.nets._asdict().items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers._asdict().items()},
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        for name, network in self.nets._asdict().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers._asdict().items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"])

    def look_up(self, batch: Batch) -> Decisions:
        """Returns the batch on the device with its vectors, by one gather of both frames."""
        size = batch.items.shape[1]
        items = to_tensor(batch.items, self.device)
        both = torch.cat([items, to_tensor(batch.next_items, self.device)], dim=1).long()  # (B, 2F)
        vectors = self.table[both].flatten(1)  # (B, 2F*d)
        half = size * self.table.shape[1]
        action = to_tensor(batch.action, self.device).long()
        return Decisions(
            state=(vectors[:, :half], to_tensor(batch.rewards, self.device)),
            action=action,
            vector=self.shown[action],
            reward=to_tensor(batch.reward, self.device),
            next_state=(vectors[:, half:], to_tensor(batch.next_rewards, self.device)),
            terminated=to_tensor(batch.terminated, self.device),
        )
