"""The part that agents share whose action is a vector: batches looked up, networks made, items scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch.nn import functional

from agents.base import products, to_tensor
from agents.networks.configs import EmbeddingConfig
from agents.networks.encoded import with_encoders
from agents.networks.losses import Decisions as Decisions
from agents.networks.scaling import reward_scale
from agents.networks.state_encoders import make_encoder
from agents.torch_agent import TorchAgent
from recgym.errors import DataError
from recgym.frames import Batch, History, last_events

_NEXT_TO_NOTHING = 1e-30  # far below what rounding leaves of any sum
ItemConfig = EmbeddingConfig  # as it was once called


class Update(Protocol):
    """What the update function of every such algorithm looks like: `ddpg_update`, `td3_update` and so on."""

    def __call__(
        self,
        batch: Decisions,
        nets: Any,
        optimizers: Any,
        items: torch.Tensor,
        config: Any,
        *,
        shown: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        learn: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Makes one step, or only measures its losses; returns them as 0-d tensors, with no host sync.

        Args:
            batch: Decisions with their vectors.
            nets: Networks to change, the algorithm's `Networks`.
            optimizers: What changes them, its `Optimizers`.
            items: Item vectors that actions are compared with (n_items, d).
            config: Hyperparameters, its `Config`.
            shown: Item vectors as networks know them (n_items, d); by default `items`.
            generator: Random stream of whatever is drawn.
            learn: Whether to change anything.
        """
        ...


class EmbeddingAgent(TorchAgent):
    """What agents share whose action is a vector: items score by their inner product with it, or by its cosine.

    `TorchAgent` says what it is made from. In an environment with vector actions, give it the same `mapper`.

    Attributes:
        inputs: The table that batches are looked up in: `table`, in half its bytes where products are bf16.
        vectors: Item vectors that actions are compared with (n_items + 1, d); of length 1 for `"cosine"`.
        shown: Item vectors a critic is shown for a logged item (n_items + 1, d): `table`, or `vectors` if that is how
            it sees actions.
    """

    make_networks: Callable[[int, int, Any], Any]  # from state_dim, action_dim and config
    update_function: Update

    def make_tables(self) -> None:
        """Makes room for item vectors as networks see them, and those that actions are compared with."""
        super().make_tables()
        plain = torch.tensor(self.catalog.table, device=self.device)  # (n_items + 1, d)
        self.vectors = functional.normalize(plain, dim=1) if self.config.mapper == "cosine" else plain
        self.shown = self.vectors if self.config.critic_action == "vector" else self.table
        self.inputs = self.table.bfloat16() if self.config.precision == "bf16" else self.table

    def use_constants(self, constants: Mapping[str, float]) -> None:
        """Makes what depends on numbers worked out from data: those of this catalog, or those of a saved agent."""
        super().use_constants(constants)
        self.inputs.copy_(self.table)

    def seen_vectors(self, scale: float) -> torch.Tensor:
        """Returns item vectors as networks see them (n_items + 1, d); only padding's has none but zeros."""
        return as_inputs(self.catalog.table, scale, self.device)

    @property
    def state_dim(self) -> int:
        """Width of a state: F * (d + 1)."""
        return self.frame_size * (self.catalog.dim + 1)

    def fresh_networks(self) -> Any:
        """Returns the algorithm's networks, behind encoders if the config names one."""
        c, dim = self.config, self.catalog.dim
        if c.encoder == "flat":
            return self.make_networks(self.state_dim, dim, c)
        make = partial(make_encoder, c.encoder, dim, self.frame_size, width=c.width)
        return with_encoders(self.make_networks(cast(int, make().out_dim), dim, c), make)

    def policy(self, *state: torch.Tensor) -> torch.Tensor:
        """Returns the agent's vector actions (B, d) in -1..1 for states; every subclass says how."""
        raise NotImplementedError

    def step(self, batch: Batch, learn: bool, **more: Any) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; `more` goes to the update function too."""
        items, shown = self.vectors[:-1], self.shown[:-1]
        own = {"shown": shown, "generator": self.generator, "learn": learn, **more}
        return self.update_function(self.look_up(batch), self.nets, self.optimizers, items, self._told(), **own)

    def state_of(self, history: History) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the states that histories stand for: item vectors (B, F*d) and rewards (B, F)."""
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        return self.table[to_tensor(items, self.device).long()].flatten(1), self._reward(rewards)

    def _told(self) -> Any:
        """Returns the config that updates are told: `reward_range` is of rewards as networks see them."""
        bounds, scale = self.config.reward_range, reward_scale(self)
        if bounds is None or scale == 1.0:
            return self.config
        return replace(self.config, reward_range=tuple(scale * bound for bound in bounds))

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32 in -1..1; with `explore`, Gaussian noise of `config.noise` is added."""
        action = self.policy(*self.state_of(history))
        if not explore:
            return action
        noise = torch.randn(action.shape, generator=self.generator, device=self.device)
        return (action + self.config.noise * noise).clamp(-1.0, 1.0)

    @torch.no_grad()
    def ranked(self, history: History) -> torch.Tensor:
        """Returns the mapper's product of the action with every item (B, n_items) float32."""
        return products(self.act(history), self.vectors[:-1], self.sizes)

    def look_up(self, batch: Batch) -> Decisions:
        """Returns the batch on the device with its vectors, by one gather.

        Where the next frames are the frames moved on by one, in the same memory (batches of a log are), it looks up
        F+1 vectors and both states are views of them.

        Raises:
            DataError: if the frames are of another F.
        """
        items, next_items = to_tensor(batch.items, self.device), batch.next_items
        if items.shape[1] != self.frame_size:
            sizes = f"{self.frame_size} events as the agent's frame_size says, got {items.shape[1]}"
            raise DataError(f"frames must have {sizes}; give both the same frame_size")
        width = items.shape[1] * self.table.shape[1]
        if moved_by_one(batch.items, next_items):
            next_items = next_items[:, -1:]
        joined = torch.cat([items, to_tensor(next_items, self.device)], dim=1).long()  # (B, F+1) or (B, 2F)
        vectors = self.inputs.index_select(0, joined.flatten()).view(len(joined), -1)
        action = to_tensor(batch.action, self.device).long()
        return Decisions(
            state=(vectors[:, :width], self._reward(batch.rewards)),
            action=action,
            vector=self.shown.index_select(0, action),
            reward=self._reward(batch.reward),
            next_state=(vectors[:, -width:], self._reward(batch.next_rewards)),
            terminated=to_tensor(batch.terminated, self.device).bool(),
        )


def as_inputs(table: Any, scale: float, device: torch.device) -> torch.Tensor:
    """Returns item vectors (n_items + 1, d) as networks see them; only padding's has none but zeros, which tells it."""
    seen = torch.tensor(table, device=device) * scale
    seen[:-1, 0].masked_fill_((seen[:-1] == 0).all(dim=1), _NEXT_TO_NOTHING)
    return seen


def moved_by_one(frames: Any, next_frames: Any) -> bool:
    """Returns whether (B, F) next frames are the frames one column on in the same memory, without looking at values.

    Example:
        >>> longer = np.arange(8).reshape(2, 4)
        >>> moved_by_one(longer[:, :3], longer[:, 1:]), moved_by_one(longer[:, :3], longer[:, :3])
        (True, False)
    """

    def places(array: Any) -> tuple[int, tuple[int, ...], Any]:
        if isinstance(array, torch.Tensor):
            size = array.element_size()
            return array.data_ptr(), tuple(size * stride for stride in array.stride()), array.dtype
        return array.ctypes.data, array.strides, array.dtype

    (start, strides, kind), (next_start, next_strides, next_kind) = places(frames), places(next_frames)
    return next_start - start == strides[1] > 0 and (strides, kind) == (next_strides, next_kind)
