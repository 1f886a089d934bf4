"""The part that agents share whose action is a vector: batches looked up, networks made, items scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, cast

import torch
from torch.nn import functional

from agents.base import (
    agent_state,
    begin_knowing,
    extended,
    meet,
    popular_where_empty,
    products,
    resolve_device,
    take_state,
    to_tensor,
    unit_scale,
)
from agents.networks.configs import EmbeddingConfig
from agents.networks.encoded import with_encoders
from agents.networks.hyperparameters import check as check_numbers
from agents.networks.hyperparameters import configured, with_presets
from agents.networks.layers import Dropout, arithmetic, seeded
from agents.networks.scaling import reward_scale, settle_on_batch
from agents.networks.state_encoders import make_encoder
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History, last_events
from recgym.log import InteractionLog

_NEXT_TO_NOTHING = 1e-30  # far below what rounding leaves of any sum
ItemConfig = EmbeddingConfig  # as it was once called
MAPPERS, CRITIC_ACTIONS = ("inner", "cosine"), ("expected_item", "vector")


class Decisions(NamedTuple):
    """A batch with its vectors looked up: states in two parts, so that networks need no copy of them joined."""

    state: tuple[torch.Tensor, torch.Tensor]  # item vectors (B, F*d) and rewards (B, F)
    action: torch.Tensor  # (B,) int64 item index
    vector: torch.Tensor  # (B, d) what the critic knows of that item
    reward: torch.Tensor  # (B,)
    next_state: tuple[torch.Tensor, torch.Tensor]
    terminated: torch.Tensor  # (B,) bool


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


class EmbeddingAgent:
    """What agents share whose action is a vector: items score by their inner product with it, or by its cosine.

    Args:
        catalog: The items and their vectors.
        frame_size: F, the events of a history that are looked at; shorter ones are padded.
        seed: Seed of the networks and of the agent's own randomness.
        device: Where it lives: `"auto"`, `"cpu"`, `"cuda"` ...
        nets: Networks of your own, as a tuple of the algorithm's `Networks`; by default `make_networks` makes them.
        optimizers: Called as `optimizers(nets, config)` with the networks on their device; by default the algorithm's
            `make_optimizers`.
        preset: `"paper"`: the algorithm as its paper has it, as far as it can be said in options; the class lists what
            that changes. None: our defaults. Options given beside it win.
        **config: Fields of the algorithm's `Config`. In an environment with vector actions, give it the same `mapper`.

    Attributes:
        config: The hyperparameters.
        nets: The networks.
        optimizers: What changes them.
        table: Item vectors as networks see them (n_items + 1, d); the last row is padding.
        inputs: The table that batches are looked up in: `table`, in half its bytes where products are bf16.
        vectors: Item vectors that actions are compared with (n_items + 1, d); of length 1 for `"cosine"`.
        shown: Item vectors a critic is shown for a logged item (n_items + 1, d): `table`, or `vectors` if that is how
            it sees actions.
        generator: The agent's random stream.
        constants: Numbers worked out from data, by name; they are saved with the agent, so that it means the same
            wherever it is loaded: `input_scale`, what networks see item vectors multiplied by.
        updates: Updates made so far.
        popularity: Events of each item (n_items,) in the log that `fit` gave it, or None; empty histories get them.
        user_ids: Outside ids of the users it has vectors for, in index order, or None.

    Raises:
        DataError: if an option is out of range, or there is no such preset.
        OptionError: if a name is no field of the algorithm's `Config`; a `TypeError` too.
    """

    sizes: list[int]  # items it was trained with, then those of each extension since
    presets: Mapping[str, Mapping[str, Any]] = {}  # options by name of a preset, where there are any

    # Every algorithm says these four.
    make_config: Callable[..., Any]
    make_networks: Callable[[int, int, Any], Any]  # from state_dim, action_dim and config
    make_optimizers: Callable[[Any, Any], Any]  # from networks and config
    update_function: Update

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "presets" in vars(cls):
            cls.__doc__ = with_presets(cls.__doc__, cls)

    def __init__(
        self,
        catalog: Catalog,
        *,
        frame_size: int = 10,
        seed: int = 0,
        device: str | torch.device = "auto",
        nets: Any = None,
        optimizers: Callable[[Any, Any], Any] | None = None,
        preset: str | None = None,
        **config: Any,
    ) -> None:
        self.config = configured(self, preset, config)
        check(frame_size, self.config)
        self.catalog = catalog
        self.item_ids, self.reward = catalog.item_ids, catalog.reward
        self.frame_size, self.seed, self.updates = frame_size, seed, 0
        self.device = resolve_device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        plain = torch.tensor(catalog.table, device=self.device)  # (n_items + 1, d)
        scale = self.config.input_scale
        self.table = torch.empty_like(plain)
        self.vectors = functional.normalize(plain, dim=1) if self.config.mapper == "cosine" else plain
        self.shown = self.vectors if self.config.critic_action == "vector" else self.table
        self.inputs = self.table.bfloat16() if self.config.precision == "bf16" else self.table
        self.use_constants({"input_scale": unit_scale(catalog.embeddings) if scale is None else scale})
        begin_knowing(self, catalog)
        self.own_nets, self.own_optimizers = nets is not None, optimizers
        if nets is None:
            with seeded(seed):  # on the CPU, so that weights do not depend on the device
                nets = self.fresh_networks()
        self.nets = type(nets)(*(network.to(self.device).eval() for network in nets))
        for module in (module for network in self.nets for module in network.modules()):
            if isinstance(module, Dropout):
                module.generator = self.generator
        if self.config.compile:
            for network in self.nets:
                network.compile()
        self.optimizers = (optimizers or self.make_optimizers)(self.nets, self.config)

    def use_constants(self, constants: Mapping[str, float]) -> None:
        """Makes what depends on numbers worked out from data: those of this catalog, or those of a saved agent."""
        self.constants = dict(constants)
        self.table.copy_(as_inputs(self.catalog.table, self.constants["input_scale"], self.device))
        self.inputs.copy_(self.table)

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

    def step(self, batch: Decisions, learn: bool, **more: Any) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; `more` goes to the update function too."""
        items, shown = self.vectors[:-1], self.shown[:-1]
        own = {"shown": shown, "generator": self.generator, "learn": learn, **more}
        return self.update_function(batch, self.nets, self.optimizers, items, self._told(), **own)

    def update(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Learns from one batch; returns the losses as tensors on the device."""
        settle_on_batch(self, batch)
        with arithmetic(self.config.precision, self.device):
            losses = self.step(self.look_up(batch), learn=True)
        self.updates += 1
        if len(self.sizes) > 1:  # it has learned of the new items too
            self.sizes = [self.catalog.n_items]
        return losses

    def losses(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Returns the losses of a batch without learning from it: nothing changes, the random stream included."""
        stream = self.generator.get_state()
        with arithmetic(self.config.precision, self.device):
            losses = self.step(self.look_up(batch), learn=False)
        self.generator.set_state(stream)
        return losses

    def state_of(self, history: History) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the states that histories stand for: item vectors (B, F*d) and rewards (B, F)."""
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        return self.table[to_tensor(items, self.device).long()].flatten(1), self._reward(rewards)

    def _reward(self, reward: Any) -> torch.Tensor:
        """Returns rewards of any shape on the device, as networks see them."""
        given, scale = to_tensor(reward, self.device).float(), reward_scale(self)
        return given if scale == 1.0 else given * scale

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
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32: the mapper's product of the action with every item.

        An empty history's are the items' popularity, where the agent knows it and did not learn in an environment.
        """
        return popular_where_empty(self, products(self.act(history), self.vectors[:-1], self.sizes), history)

    def meet(self, log: InteractionLog) -> None:
        """Tells it of the log it is about to learn from, as `fit` does; see `agents.base.meet`."""
        meet(self, log)

    def extend(self, catalog: Catalog) -> Self:
        """Returns an agent like this for a catalog with more items at its end; see `agents.base.extended`."""
        made: Self = extended(self, catalog)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Returns what `agents.base.agent_state` says."""
        return agent_state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned; one of another kind of device begins a new random stream."""
        take_state(self, state)

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


def check(frame_size: int, config: EmbeddingConfig) -> None:
    """Raises DataError if an option is unknown or out of range."""
    check_numbers(frame_size, config)
    for name, known in (("mapper", MAPPERS), ("critic_action", CRITIC_ACTIONS)):
        given = getattr(config, name)
        if given not in known:
            raise DataError(f"{name} must be one of {', '.join(known)}, got {given!r}; choose one of them")


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
