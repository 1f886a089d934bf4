"""Stable-Baselines3: its algorithms in our environments, on our logs and in our evaluation.

With `policy="MlpPolicy"` for frames and `"MultiInputPolicy"` for the others, every algorithm learns from every
observation as it is: spaces say that items and users are categories, so SB3 gives its networks one-hot vectors, which
makes F*(n_items + 1) inputs. `policy_kwargs=item_features(catalog)` puts the items' vectors in their place: that stays
small for any catalog, and what is learned of an item holds for its like.

Source: Raffin et al. (2021), Stable-Baselines3: reliable reinforcement learning implementations, JMLR 22(268).

Example:
    >>> from stable_baselines3 import PPO
    >>> venv = make_vec_env("recgym/Synthetic-Frame-v0", 8, n_users=60, n_items=50, dim=8, action="item")
    >>> model = PPO("MlpPolicy", venv, n_steps=8, batch_size=32, n_epochs=1, device="cpu").learn(64)
    >>> agent = SB3Agent(model, venv.env.catalog)  # a scorer: give it to evaluate_ranking or evaluate_sessions
    >>> from recgym.frames import History
    >>> agent.scores(History(np.array([[3, 4]]), np.ones((1, 2), np.float32), np.array([2]))).shape
    torch.Size([1, 50])
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN as SB3DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch.nn import functional

from agents.integrations.sb3_buffer import IndexReplayBuffer, frame_size_of, observation_parts
from agents.integrations.sb3_env import SB3VecEnv, make_vec_env
from agents.training.callbacks import Report
from recgym.catalog import Catalog
from recgym.errors import DataError, StoreError
from recgym.frames import KEYS, OLD_KEYS, History, encode_frame, last_events, observed
from recgym.log import InteractionLog

__all__ = [
    "FrameExtractor",
    "IndexReplayBuffer",
    "SB3Agent",
    "SB3VecEnv",
    "fit_offline",
    "item_features",
    "make_vec_env",
]


_PARTS = (*KEYS, *OLD_KEYS, "frame", "embeddings", "user", "length")  # of an observation without context


class FrameExtractor(BaseFeaturesExtractor):
    """Turns any of the five observations into states (B, F*(d+1)) with vectors of a size that networks learn from.

    Indices are looked up here, on the device. A user becomes a learned vector and the length of a sequence a share of
    F, both at the end of the state. What the environment's `context` adds comes last: candidates as their vectors, hour
    and weekday one-hot, everything else as it is. `item_features` makes the `policy_kwargs`.

    Args:
        observation_space: The environment's.
        table: Item vectors with the padding row last (n_items + 1, d).
        input_scale: What vectors are multiplied by; None makes the mean square of their numbers 1.
        user_dim: Width of a user's vector.
    """

    def __init__(
        self, observation_space: spaces.Space, table: np.ndarray, input_scale: float | None = None, user_dim: int = 16
    ) -> None:
        size, dim = frame_size_of(observation_space, table.shape[1]), table.shape[1]
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        further = {name: spaces.flatdim(one) for name, one in parts.items() if name not in _PARTS}
        n_listed = parts["candidates"].shape[0] if "candidates" in further else 0  # type: ignore[index]
        further |= {"candidates": dim * n_listed} if n_listed else {}
        own = size * (dim + 1) + user_dim * ("user" in parts) + ("length" in parts)
        super().__init__(observation_space, own + sum(further.values()))
        self.further, self.n_listed = tuple(further), n_listed
        self.categories = {name: _n(parts[name]) for name in further}
        scale = float(np.mean(np.square(table[:-1]))) ** -0.5 if input_scale is None else input_scale
        self.frame_size, self.width, self.scale = size, size * dim, scale
        self.register_buffer("table", torch.tensor(table) * scale, persistent=False)
        if "user" in parts:
            self.users = torch.nn.Embedding(_n(parts["user"]), user_dim)

    def forward(self, observations: Any) -> torch.Tensor:
        """Returns states (B, F*(d+1)), and the user's vector or the length behind them."""
        frame = observations.get("frame") if isinstance(observations, dict) else observations
        if frame is not None:
            state = [frame[:, : self.width] * self.scale, frame[:, self.width :]]  # (B, F*d), (B, F)
        else:
            items, rewards = observed(observations)
            flat = observations["embeddings"].flatten(1) * self.scale if items is None else self._vectors(items)
            state = [flat, rewards]
        if not isinstance(observations, dict):
            return torch.cat(state, dim=1)
        if "user" in observations:
            state.append(self.users(_indices(observations["user"], 1)[:, 0]))
        if "length" in observations:
            state.append(_indices(observations["length"], 1) / self.frame_size)
        for name in self.further:
            part, n = observations[name], self.categories[name]
            if name == "candidates":
                state.append(self._vectors(part, self.n_listed))
            elif n > 0:
                state.append(functional.one_hot(_indices(part, 1)[:, 0], n).float())
            else:
                state.append(part.flatten(1) * (self.scale if name == "candidate_vectors" else 1.0))
        return torch.cat(state, dim=1)

    def _vectors(self, items: torch.Tensor, n: int | None = None) -> torch.Tensor:
        """Returns the vectors of n items (B, n * d); None: of a frame."""
        return self.get_buffer("table")[_indices(items, self.frame_size if n is None else n)].flatten(1)


def _indices(part: torch.Tensor, n_places: int) -> torch.Tensor:
    """Returns indices (B, n_places) int64, given as they are or, as SB3 gives them, one-hot side by side."""
    part = part.reshape(len(part), -1)
    return part.long() if part.shape[1] == n_places else part.reshape(len(part), n_places, -1).argmax(dim=2)


def item_features(catalog: Catalog, **options: Any) -> dict[str, Any]:
    """Returns the `policy_kwargs` with which SB3's networks see item vectors; `options` are of `FrameExtractor`."""
    return {
        "features_extractor_class": FrameExtractor,
        "features_extractor_kwargs": {"table": catalog.table, **options},
    }


def fit_offline(
    model: OffPolicyAlgorithm,
    log: InteractionLog,
    catalog: Catalog,
    n_steps: int,
    report: Report | None = None,
    *,
    batch_size: int = 256,
    **options: Any,
) -> int:
    """Trains SB3's TD3, SAC or DQN on a log, without an environment step; returns the updates made.

    The model's replay buffer becomes an `IndexReplayBuffer` of the whole log, unless it was filled from one already.
    Nothing here keeps the policy near the log; see `agents.td3_bc` for a learner made for that.

    Args:
        model: Made with an environment of the catalog's frames or histories, k=1.
        log: What to learn from.
        catalog: The items.
        n_steps: Updates.
        report: Called as `report(step, losses)` after every update; ends the training by returning True.
        batch_size: Decisions per update.
        options: Of `IndexReplayBuffer.from_log`.

    Raises:
        DataError: if the model is on-policy, or its spaces are not the catalog's.
    """
    if not isinstance(model, OffPolicyAlgorithm):
        raise DataError(f"a log teaches off-policy models only, got {type(model).__name__}; use TD3, SAC or DQN")
    if not (isinstance(model.replay_buffer, IndexReplayBuffer) and model.replay_buffer.log is log):
        made = model.observation_space, model.action_space
        model.replay_buffer = IndexReplayBuffer.from_log(log, *made, catalog=catalog, device=model.device, **options)
    if not hasattr(model, "_logger"):
        model.set_logger(Logger(folder=None, output_formats=[]))
    for step in range(1, n_steps + 1):
        model._current_progress_remaining = 1.0 - (step - 1) / n_steps  # what schedules of step sizes go by
        model.train(gradient_steps=1, batch_size=batch_size)
        if isinstance(model, SB3DQN):  # whose target moves while it collects, once in so many steps of its environment
            model._on_step()
        losses = {name: value for name, value in model.logger.name_to_value.items() if "loss" in name}
        if report is not None and report(step, losses):
            return step
    return n_steps


class SB3Agent:
    """An SB3 model as a scorer that also acts, for `evaluate_ranking`, `evaluate_sessions` and `recommend`.

    Models that see the user must be asked about histories that name one.

    A vector action scores items as the mapper does; a policy or value net over items scores by its logits or values. A
    policy over slates of item actions shows, place by place, the item of largest logit that may stand there and does
    not yet; its scores are those of the first place.

    Args:
        model: Any SB3 model of an environment.
        catalog: The items.
        mapper: `"inner"` or `"cosine"`, for vector actions.

    Raises:
        DataError: if the model's observations or actions are not of this catalog, or the mapper is unknown.
    """

    def __init__(self, model: BaseAlgorithm, catalog: Catalog, mapper: str = "inner") -> None:
        if mapper not in ("inner", "cosine"):
            raise DataError(f"mapper must be 'inner' or 'cosine', got {mapper!r}; choose one of them")
        self.model, self.catalog, self.mapper = model, catalog, mapper
        self.item_ids, self.reward, self.device = catalog.item_ids, catalog.reward, model.device
        self.frame_size = frame_size_of(model.observation_space, catalog.dim)
        actions: Any = model.action_space
        self.by_vector = isinstance(actions, spaces.Box)
        places = actions.nvec.tolist() if isinstance(actions, spaces.MultiDiscrete) else [_n(actions)]
        self.k = len(places)  # items of a slate, where actions are items
        fits = actions.shape == (catalog.dim,) if self.by_vector else set(places) == {catalog.n_items}
        if not fits:
            raise DataError(
                f"actions must be vectors of width {catalog.dim} or items, each of {catalog.n_items}, got "
                f"{model.action_space}; give the catalog of the model's environment"
            )
        vectors = torch.tensor(catalog.embeddings, device=self.device)
        self.vectors = functional.normalize(vectors, dim=1) if mapper == "cosine" else vectors

    pickled = "Stable-Baselines3's own zip"

    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32, or items (B,) int64; `explore` draws from the policy."""
        actions, _ = self.model.predict(self._observation(history), deterministic=not explore)
        return torch.as_tensor(actions)

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32."""
        if self.by_vector:
            return self.act(history).to(self.device) @ self.vectors.T
        policy: Any = self.model.policy
        policy.set_training_mode(False)
        observation, _ = policy.obs_to_tensor(self._observation(history))
        if hasattr(policy, "q_net"):
            return policy.q_net(observation)
        return self._logits(policy, observation)[0]

    @torch.no_grad()
    def slates(self, history: History, allowed: Any = None) -> torch.Tensor:
        """Returns slates (B, k) int64 of items that may be shown: `allowed` (B, n_items) bool, None for all."""
        policy: Any = self.model.policy
        policy.set_training_mode(False)
        places = self._logits(policy, policy.obs_to_tensor(self._observation(history))[0])
        taken = torch.zeros_like(places[0], dtype=torch.bool)
        if allowed is not None:
            taken = ~torch.as_tensor(allowed, device=taken.device)
        slate = []
        for logits in places:
            slate.append(logits.masked_fill(taken, -torch.inf).argmax(dim=1, keepdim=True))
            taken = taken.scatter(1, slate[-1], True)
        return torch.cat(slate, dim=1)

    def _logits(self, policy: Any, observation: Any) -> list[torch.Tensor]:
        """Returns the logits (B, n_items) of every place of a slate."""
        drawn = policy.get_distribution(observation).distribution
        return [one.logits for one in (drawn if isinstance(drawn, list) else [drawn])]

    def write_parts(self, folder: Path) -> dict[str, str]:
        """Writes the model as Stable-Baselines3 does, without its replay memory; see `agents.save`."""
        self.model.save(folder / "model.zip")
        return {"algorithm": f"{type(self.model).__module__}:{type(self.model).__qualname__}", "mapper": self.mapper}

    @classmethod
    def read_parts(
        cls, folder: Path, parts: dict[str, str], catalog: Catalog, device: Any, allow_pickle: bool
    ) -> SB3Agent:
        """Returns the agent of such a folder; `agents.load` asks for it only with `allow_pickle=True`."""
        module, _, name = parts["algorithm"].partition(":")
        if not module.startswith(("stable_baselines3.", "sb3_contrib.")):
            raise StoreError(
                f"{folder} must hold a model of Stable-Baselines3, got {parts['algorithm']!r}; save it again"
            )
        model = getattr(import_module(module), name).load(folder / "model.zip", device=device)
        return cls(model, catalog, parts["mapper"])

    def _observation(self, history: History) -> Any:
        history = History(*(None if part is None else _to_numpy(part) for part in history))
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        space, made = self.model.observation_space, None
        if isinstance(space, spaces.Dict):
            made = observation_parts(space, items.astype(np.int32), rewards, self.catalog, history.user)
        else:
            made = encode_frame(self.catalog.table, items, rewards)
        normalised = self.model.get_vec_normalize_env()
        return made if normalised is None else normalised.normalize_obs(made)


def _n(space: spaces.Space) -> int:
    return int(space.n) if isinstance(space, spaces.Discrete) else -1


def _to_numpy(part: Any) -> np.ndarray:
    return np.asarray(part.cpu() if isinstance(part, torch.Tensor) else part)
