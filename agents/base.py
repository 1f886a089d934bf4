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

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from agents.networks.tensors import products as products
from agents.networks.tensors import to_tensor as to_tensor
from recgym.batches.tensors import resolve_device as resolve_device
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.ids import as_ids, from_json, to_json
from recgym.log import InteractionLog
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


def begin_knowing(agent: Any, catalog: Catalog) -> None:
    """Gives a fresh agent what it will come to know beside its networks."""
    agent.sizes = [catalog.n_items]  # items it was trained with, then those of each extension
    agent.popularity = None  # (n_items,) float32 events of each item in the log it learned from, or None
    agent.user_ids = None  # outside ids of the users it has vectors for, in its own index order, or None
    agent.met_newcomers = False  # whether it learned, in an environment, what to show whoever has no history


def meet(agent: Any, log: InteractionLog) -> None:
    """Tells an agent of the log it is about to learn from: how popular items are in it, and who its users are.

    Raises:
        DataError: if the agent has vectors for users of another log.
    """
    if np.array_equal(log.item_ids, agent.item_ids):
        agent.popularity = np.bincount(log.items, minlength=len(log.item_ids)).astype(np.float32)
    n_users = getattr(agent.config, "n_users", 0)
    if not n_users:
        return
    own = log.user_ids[:n_users]
    if agent.user_ids is not None and not np.array_equal(agent.user_ids, own):
        raise DataError(
            f"an agent with vectors for users must learn from one log's, got another one, {log.name!r}; "
            "make a new agent, or learn from parts of one log that keep all its users"
        )
    agent.user_ids = own


def popular_where_empty(agent: Any, scores: torch.Tensor, history: History) -> torch.Tensor:
    """Returns scores (B, n_items), those of empty histories by popularity if the agent knows it: log(1 + events)."""
    if agent.popularity is None or agent.met_newcomers:
        return scores
    if not isinstance(history.length, torch.Tensor) and np.all(history.length):  # without a look at the device
        return scores
    popular = torch.tensor(np.log1p(agent.popularity), dtype=scores.dtype, device=scores.device)
    return torch.where(to_tensor(history.length, scores.device)[:, None] > 0, scores, popular)


def extended(agent: Any, catalog: Catalog) -> Any:
    """Returns an agent like this for a catalog that goes on where its own ends; old items' scores stay bit for bit.

    New items are ranked by their vectors from the first day. Training on moves all scores, as training does.

    Raises:
        DataError: if the catalog does not begin with the agent's items, or a network has a row per item.
    """
    old, name = agent.catalog, type(agent).__name__
    n = old.n_items
    same = np.array_equal(catalog.item_ids[:n], old.item_ids) and np.array_equal(catalog.embeddings[:n], old.embeddings)
    if not same or catalog.reward != old.reward:
        raise DataError(
            f"an extended catalog must begin with the agent's {n} items and their very vectors, got one of "
            f"{catalog.n_items} that does not; make it by agent.catalog.extend(ids, vectors)"
        )
    own = {"nets": copy.deepcopy(agent.nets)} if agent.own_nets else {}
    options = {"frame_size": agent.frame_size, "seed": agent.seed, "device": agent.device, **asdict(agent.config)}
    made = type(agent)(catalog, optimizers=agent.own_optimizers, **own, **options)
    for network, fresh in zip(agent.nets, made.nets, strict=True):
        for part, tensor in fresh.state_dict().items():
            if tensor.shape != network.state_dict()[part].shape:
                raise DataError(
                    f"an agent must know items by their vectors alone to be extended, got {name}, whose {part} has a "
                    "row per item; train it on a log that has them all, or use an agent with vector actions (DDPG, TD3 "
                    "...) or SequenceModel(item_vectors='catalog')"
                )
    state = agent.state_dict()
    sizes = [*agent.sizes, catalog.n_items - n] if catalog.n_items > n else agent.sizes
    known = agent.popularity
    grown = None if known is None else np.concatenate([known, np.zeros(catalog.n_items - n, np.float32)])
    made.load_state_dict(state | {"sizes": sizes, "popularity": grown})
    return made


def agent_state(agent: Any) -> dict[str, Any]:
    """Returns what an agent of networks is made of beyond its options: tensors, arrays and JSON values.

    That is all networks and optimizers, the random stream, `constants` (every number worked out from data), what it
    knows of its log, and the count of updates.
    """
    ids = None if agent.user_ids is None else to_json(np.asarray(agent.user_ids).astype(object))
    return {
        "networks": {name: network.state_dict() for name, network in agent.nets._asdict().items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in agent.optimizers._asdict().items()},
        **stream_state(agent.generator, agent.device),
        "constants": dict(agent.constants),
        "sizes": list(agent.sizes),
        "popularity": agent.popularity,
        "user_ids": None if ids is None else json.dumps(ids),
        "met_newcomers": agent.met_newcomers,
        "updates": agent.updates,
    }


def take_state(agent: Any, state: Mapping[str, Any]) -> None:
    """Puts such a state into an agent made with the same options; the device may differ, see `restore_stream`."""
    agent.use_constants(agent.constants | dict(state.get("constants", {})))  # older states have none
    for name, network in agent.nets._asdict().items():
        network.load_state_dict(state["networks"][name])
    for name, optimizer in agent.optimizers._asdict().items():
        optimizer.load_state_dict(state["optimizers"][name])
    agent.updates = state["updates"]
    agent.sizes = list(state.get("sizes", agent.sizes))
    agent.popularity, ids = state.get("popularity"), state.get("user_ids")
    agent.user_ids = None if ids is None else as_ids(from_json(json.loads(ids)))
    agent.met_newcomers = state.get("met_newcomers", False)
    restore_stream(agent.generator, state, agent.device, agent.seed, agent.updates)
