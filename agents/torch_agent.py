"""The base of the agents made of networks: what is built, seeded, saved, extended and told of a log the same way.

`agents.embedding_agent` and `agents.item_agent` are its two kinds: the action is a vector, or an item.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Self

import numpy as np
import torch

from agents.base import resolve_device, restore_stream, stream_state, to_tensor, unit_scale
from agents.networks.hyperparameters import check, configured, with_presets
from agents.networks.layers import Dropout, arithmetic, seeded
from agents.networks.scaling import reward_scale, settle_on_batch
from agents.networks.softmax_heads import default_head
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.ids import as_ids, from_json, to_json
from recgym.log import InteractionLog


class TorchAgent:
    """An agent made of networks.

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
        table: Item vectors as networks see them (n_items + 1, d); the last row is padding.
        generator: The agent's random stream.
        constants: Numbers worked out from data, by name; they are saved with the agent, so that it means the same
            wherever it is loaded: `input_scale`, what networks see item vectors multiplied by.
        updates: Updates made so far.
        popularity: Events of each item (n_items,) in the log that `fit` gave it, or None; empty histories get them.
        user_ids: Outside ids of the users it has vectors for, in index order, or None.
        met_newcomers: Whether it learned, in an environment, what to show whoever has no history.

    Raises:
        DataError: if an option is out of range, or there is no such preset.
        OptionError: if a name is no field of the algorithm's `Config`; a `TypeError` too.
    """

    presets: Mapping[str, Mapping[str, Any]] = {}  # options by name of a preset, where there are any
    popularity: np.ndarray | None
    user_ids: np.ndarray | None

    # Every algorithm says these three.
    make_config: Callable[..., Any]
    make_networks: Callable[..., Any]
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
        if getattr(self.config, "head", "") is None:
            self.config = replace(self.config, head=default_head(catalog.n_items))
        check(frame_size, self.config)
        self.catalog = catalog
        self.item_ids, self.reward = catalog.item_ids, catalog.reward
        self.frame_size, self.seed, self.updates = frame_size, seed, 0
        self.device = resolve_device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.sizes = [catalog.n_items]
        self.popularity, self.user_ids, self.met_newcomers = None, None, False
        self.make_tables()
        scale = getattr(self.config, "input_scale", None)
        self.use_constants({"input_scale": unit_scale(catalog.embeddings) if scale is None else scale})
        self.own_nets, self.own_optimizers = nets is not None, optimizers
        if nets is None:
            with seeded(seed):  # on the CPU, so that weights do not depend on the device
                nets = self.fresh_networks()
        self.nets = type(nets)(*(network.to(self.device).eval() for network in nets))
        for module in self._modules():
            if isinstance(module, Dropout):
                module.generator = self.generator
        if getattr(self.config, "compile", False):
            for network in self.nets:
                network.compile()
        self.optimizers = (optimizers or self.make_optimizers)(self.nets, self.config)

    def make_tables(self) -> None:
        """Makes room for item vectors; `use_constants` fills it."""
        self.table = torch.empty((self.catalog.n_items + 1, self.catalog.dim), device=self.device)

    def use_constants(self, constants: Mapping[str, float]) -> None:
        """Makes what depends on numbers worked out from data: those of this catalog, or those of a saved agent."""
        self.constants = dict(constants)
        self.table.copy_(self.seen_vectors(self.constants["input_scale"]))
        for module in self._modules():
            vectors = dict(module.named_buffers(recurse=False)).get("vectors")
            if vectors is not None and "vectors" not in module.state_dict():  # item vectors it knows, and does not keep
                vectors.copy_(self.table[: len(vectors)])

    def seen_vectors(self, scale: float) -> torch.Tensor:
        """Returns item vectors as networks see them (n_items + 1, d)."""
        return torch.tensor(self.catalog.table, device=self.device) * scale

    def fresh_networks(self) -> Any:
        """Returns the algorithm's networks, on the CPU; every kind says how."""
        raise NotImplementedError

    def step(self, batch: Batch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses; every algorithm says how."""
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

    @torch.no_grad()
    def losses(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Returns the losses of a batch without learning from it: nothing changes, the random stream included."""
        stream = self.generator.get_state()
        with arithmetic(self.config.precision, self.device):
            losses = self.step(batch, learn=False)
        self.generator.set_state(stream)
        return losses

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32, items of the history among them.

        An empty history's are the items' popularity, log(1 + events), where the agent knows it and did not learn in an
        environment.
        """
        scores = self.ranked(history)
        if self.popularity is None or self.met_newcomers:
            return scores
        if not isinstance(history.length, torch.Tensor) and np.all(history.length):  # without a look at the device
            return scores
        popular = torch.tensor(np.log1p(self.popularity), dtype=scores.dtype, device=scores.device)
        return torch.where(to_tensor(history.length, scores.device)[:, None] > 0, scores, popular)

    def ranked(self, history: History) -> torch.Tensor:
        """Returns what the agent's networks say of every item (B, n_items); every kind says what."""
        raise NotImplementedError

    def meet(self, log: InteractionLog) -> None:
        """Tells it of the log it is about to learn from: how popular items are in it, and who its users are.

        Raises:
            DataError: if the agent has vectors for users of another log.
        """
        if np.array_equal(log.item_ids, self.item_ids):
            self.popularity = np.bincount(log.items, minlength=len(log.item_ids)).astype(np.float32)
        n_users = getattr(self.config, "n_users", 0)
        if not n_users:
            return
        own = log.user_ids[:n_users]
        if self.user_ids is not None and not np.array_equal(self.user_ids, own):
            raise DataError(
                f"an agent with vectors for users must learn from one log's, got another one, {log.name!r}; "
                "make a new agent, or learn from parts of one log that keep all its users"
            )
        self.user_ids = own

    def extend(self, catalog: Catalog) -> Self:
        """Returns an agent like this for a catalog that goes on where its own ends; old scores stay bit for bit.

        New items are ranked by their vectors from the first day. Training on moves all scores, as training does.

        Raises:
            DataError: if the catalog does not begin with the agent's items, or a network has a row per item.
        """
        old, name = self.catalog, type(self).__name__
        n = old.n_items
        same = np.array_equal(catalog.item_ids[:n], old.item_ids)
        if not (same and np.array_equal(catalog.embeddings[:n], old.embeddings)) or catalog.reward != old.reward:
            raise DataError(
                f"an extended catalog must begin with the agent's {n} items and their very vectors, got one of "
                f"{catalog.n_items} that does not; make it by agent.catalog.extend(ids, vectors)"
            )
        own = {"nets": copy.deepcopy(self.nets)} if self.own_nets else {}
        options = {"frame_size": self.frame_size, "seed": self.seed, "device": self.device, **asdict(self.config)}
        made = type(self)(catalog, optimizers=self.own_optimizers, **own, **options)
        for network, fresh in zip(self.nets, made.nets, strict=True):
            for part, tensor in fresh.state_dict().items():
                if tensor.shape != network.state_dict()[part].shape:
                    raise DataError(
                        f"an agent must know items by their vectors alone to be extended, got {name}, whose {part} has "
                        "a row per item; train it on a log that has them all, or use an agent with vector actions "
                        "(DDPG, TD3 ...) or SequenceModel(item_vectors='catalog')"
                    )
        state = self.state_dict()
        sizes = [*self.sizes, catalog.n_items - n] if catalog.n_items > n else self.sizes
        known = self.popularity
        grown = None if known is None else np.concatenate([known, np.zeros(catalog.n_items - n, np.float32)])
        made.load_state_dict(state | {"sizes": sizes, "popularity": grown})
        return made

    def state_dict(self) -> dict[str, Any]:
        """Returns what the agent is made of beyond its options: tensors, arrays and JSON values.

        That is all networks and optimizers, the random stream, `constants` (every number worked out from data), what it
        knows of its log, and the count of updates.
        """
        ids = None if self.user_ids is None else to_json(np.asarray(self.user_ids).astype(object))
        return {
            "networks": {name: network.state_dict() for name, network in self.nets._asdict().items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers._asdict().items()},
            **stream_state(self.generator, self.device),
            "constants": dict(self.constants),
            "sizes": list(self.sizes),
            "popularity": self.popularity,
            "user_ids": None if ids is None else json.dumps(ids),
            "met_newcomers": self.met_newcomers,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned; on another kind of device a new random stream begins.

        See `agents.base.restore_stream`.
        """
        self.use_constants(self.constants | dict(state.get("constants", {})))  # older states have none
        for name, network in self.nets._asdict().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers._asdict().items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.updates = state["updates"]
        self.sizes = list(state.get("sizes", self.sizes))
        self.popularity, ids = state.get("popularity"), state.get("user_ids")
        self.user_ids = None if ids is None else as_ids(from_json(json.loads(ids)))
        self.met_newcomers = state.get("met_newcomers", False)
        restore_stream(self.generator, state, self.device, self.seed, self.updates)

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

    def _reward(self, reward: Any) -> torch.Tensor:
        """Returns rewards of any shape on the device, as networks see them."""
        given, scale = to_tensor(reward, self.device).float(), reward_scale(self)
        return given if scale == 1.0 else given * scale

    def _modules(self) -> list[torch.nn.Module]:
        """Returns the parts of all networks, once there are any."""
        return [module for network in getattr(self, "nets", ()) for module in network.modules()]
