"""The part that agents share whose action is an item: frames looked up, the best item shown or one drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch

from agents.base import (
    agent_state,
    begin_knowing,
    extended,
    known_users,
    meet,
    popular_where_empty,
    resolve_device,
    take_state,
    to_tensor,
    unit_scale,
)
from agents.networks.configs import ItemAgentConfig
from agents.networks.hyperparameters import check, configured, with_presets
from agents.networks.layers import Dropout, arithmetic, seeded
from agents.networks.scaling import reward_scale, settle_on_batch
from recgym.catalog import Catalog
from recgym.frames import Batch, History, last_events
from recgym.log import InteractionLog

FrameConfig = ItemAgentConfig  # as it was once called


class Frames(NamedTuple):
    """The last F events of B histories with their vectors: what a state encoder takes, `encoder(*frames)`."""

    vectors: torch.Tensor  # (B, F, d)
    rewards: torch.Tensor  # (B, F)
    length: torch.Tensor  # (B,) int64 how many of the last are real
    user: torch.Tensor | None  # (B,) int64, for agents that know users


class ItemDecisions(NamedTuple):
    """A batch with its vectors looked up, for agents whose action is an item."""

    frames: Frames
    action: torch.Tensor  # (B,) int64 item index
    reward: torch.Tensor  # (B,)
    returns: torch.Tensor | None  # (B,) discounted return from here on, where batches have them
    next_frames: Frames
    next_items: torch.Tensor  # (B, F) int64
    terminated: torch.Tensor  # (B,) bool


class ItemAgent:
    """What agents share whose action is an item: scores are the larger, the rather it is shown.

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
        **config: Fields of the algorithm's `Config`.

    Attributes:
        config: The hyperparameters.
        nets: The networks.
        optimizers: What changes them.
        table: Item vectors as networks see them, their mean square 1 (n_items + 1, d); the last row is padding.
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

    presets: Mapping[str, Mapping[str, Any]] = {}  # options by name of a preset, where there are any

    # Every algorithm says these three.
    make_config: Callable[..., Any]
    make_networks: Callable[[torch.Tensor, int, Any], Any]  # from the table, the frame size and config
    make_optimizers: Callable[[Any, Any], Any]  # from networks and config

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
        self.constants = {"input_scale": unit_scale(catalog.embeddings)}
        self.table = torch.tensor(catalog.table, device=self.device) * self.constants["input_scale"]  # (n_items + 1, d)
        begin_knowing(self, catalog)
        self.own_nets, self.own_optimizers = nets is not None, optimizers
        if nets is None:
            with seeded(seed):  # on the CPU, so that weights do not depend on the device
                nets = self.make_networks(self.table.cpu(), frame_size, self.config)
        self.nets = type(nets)(*(network.to(self.device).eval() for network in nets))
        for module in (module for network in self.nets for module in network.modules()):
            if isinstance(module, Dropout):
                module.generator = self.generator
        self.optimizers = (optimizers or self.make_optimizers)(self.nets, self.config)

    def use_constants(self, constants: Mapping[str, float]) -> None:
        """Makes what depends on numbers worked out from data: those of this catalog, or those of a saved agent."""
        self.constants = dict(constants)
        self.table.copy_(torch.tensor(self.catalog.table, device=self.device) * self.constants["input_scale"])
        for module in (module for network in self.nets for module in network.modules()):
            vectors = dict(module.named_buffers(recurse=False)).get("vectors")
            if vectors is not None and "vectors" not in module.state_dict():  # item vectors it knows, and does not keep
                vectors.copy_(self.table[: len(vectors)])

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns one number per item (B, n_items); every subclass says which."""
        raise NotImplementedError

    def step(self, batch: Batch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; every subclass says how."""
        raise NotImplementedError

    def update(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Learns from one batch; returns the losses as tensors on the device."""
        settle_on_batch(self, batch)
        with arithmetic(self.config.precision, self.device):
            losses = self.step(batch, learn=True)
        self.updates += 1
        if len(self.sizes) > 1:  # it has learned of the new items too
            self.sizes = [self.catalog.n_items]
        return losses

    def losses(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Returns the losses of a batch without learning from it: nothing changes, the random stream included."""
        stream = self.generator.get_state()
        with torch.no_grad(), arithmetic(self.config.precision, self.device):
            losses = self.step(batch, learn=False)
        self.generator.set_state(stream)
        return losses

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32, items of the history among them.

        An empty history's are the items' popularity, where the agent knows it and did not learn in an environment.
        """
        return popular_where_empty(self, self.ranked(history), history)

    def ranked(self, history: History) -> torch.Tensor:
        """Returns what the agent's networks say of every item (B, n_items)."""
        return self.values(self.frames_of(history))

    def frames_of(self, history: History) -> Frames:
        """Returns the frames of histories with their vectors."""
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        length = to_tensor(history.length, self.device).clamp(max=self.frame_size)
        return self.look_at(to_tensor(items, self.device).long(), rewards, length, history.user)

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False, allowed: Any = None) -> torch.Tensor:
        """Returns items (B,) int64: those of the highest scores, or with `explore` drawn from a softmax over scores.

        `allowed` (B, n_items) bool says which items may be shown; None means all.
        """
        scores = self.scores(history)
        if allowed is not None:
            scores = scores.masked_fill(~to_tensor(allowed, self.device), -torch.inf)
        if self.config.mask_seen:
            items = to_tensor(history.items, self.device).long()
            scores = scores.masked_fill(seen(items, scores.shape[1]), -torch.inf)
        if explore:  # the largest of scores plus Gumbel noise is a draw from their softmax
            noise = torch.rand(scores.shape, generator=self.generator, device=self.device)
            scores = scores / self.config.temperature - (-noise.clamp(min=1e-20).log()).log()
        return scores.argmax(dim=1)

    def look_at(self, items: torch.Tensor, rewards: Any, length: Any, user: Any) -> Frames:
        """Returns frames with their vectors, for items (B, F) int64 on the device."""
        known = known_users(user, self.config.n_users, self.device)
        length = to_tensor(length, self.device).long()
        return Frames(self.table[items], self._reward(rewards), length, known)

    def _reward(self, reward: Any) -> torch.Tensor:
        """Returns rewards of any shape on the device, as networks see them."""
        return to_tensor(reward, self.device).float() * reward_scale(self)

    def look_up(self, batch: Batch) -> ItemDecisions:
        """Returns the batch on the device with its vectors."""
        items, next_items = (to_tensor(part, self.device).long() for part in (batch.items, batch.next_items))
        size = items.shape[1]
        if batch.length is None:  # of a full frame that is F; what an environment showed may be padded, and stay so
            length, next_length = ((part != self.catalog.n_items).sum(dim=1) for part in (items, next_items))
        else:
            length = to_tensor(batch.length, self.device).long()
            next_length = (length + 1).clamp(max=size)
        return ItemDecisions(
            frames=self.look_at(items, batch.rewards, length, batch.user),
            action=to_tensor(batch.action, self.device).long(),
            reward=self._reward(batch.reward),
            returns=None if batch.returns is None else self._reward(batch.returns),
            next_frames=self.look_at(next_items, batch.next_rewards, next_length, batch.user),
            next_items=next_items,
            terminated=to_tensor(batch.terminated, self.device).bool(),
        )

    @property
    def sizes(self) -> list[int]:
        """Items the agent was trained with, then those of each extension since."""
        return self._sizes

    @sizes.setter
    def sizes(self, sizes: list[int]) -> None:
        self._sizes = sizes
        for network in getattr(self, "nets", ()):
            if hasattr(network, "sizes"):
                network.sizes = sizes if len(sizes) > 1 else None

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


def seen(items: torch.Tensor, n_items: int) -> torch.Tensor:
    """Returns which items stand in histories (B, L), padding n_items: (B, n_items) bool."""
    marks = torch.zeros(len(items), n_items + 1, dtype=torch.bool, device=items.device)
    return marks.scatter_(1, items, True)[:, :-1]
