"""Stable-Baselines3: its algorithms in our environments, on our logs and in our evaluation.

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

from agents.reports import Report
from agents.sb3_buffer import IndexReplayBuffer, frame_size_of
from agents.sb3_env import SB3VecEnv, make_vec_env
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import History, encode_frame, last_events
from recgym.log import InteractionLog

__all__ = ["FrameExtractor", "IndexReplayBuffer", "SB3Agent", "SB3VecEnv", "fit_offline", "make_vec_env"]


class FrameExtractor(BaseFeaturesExtractor):
    """Turns observations into states (B, F*(d+1)) with vectors of a size that networks learn from.

    With history observations vectors are looked up here, on the device: `policy="MultiInputPolicy"` and
    `policy_kwargs={"features_extractor_class": FrameExtractor, "features_extractor_kwargs": {"table": catalog.table}}`.

    Args:
        observation_space: The environment's, frame or history.
        table: Item vectors with the padding row last (n_items + 1, d).
        input_scale: What vectors are multiplied by; None makes the mean square of their numbers 1.
    """

    def __init__(self, observation_space: spaces.Space, table: np.ndarray, input_scale: float | None = None) -> None:
        frame_size, dim = frame_size_of(observation_space, table.shape[1]), table.shape[1]
        super().__init__(observation_space, frame_size * (dim + 1))
        scale = float(np.mean(np.square(table[:-1]))) ** -0.5 if input_scale is None else input_scale
        self.width, self.scale = frame_size * dim, scale
        self.register_buffer("table", torch.tensor(table) * scale, persistent=False)

    def forward(self, observations: Any) -> torch.Tensor:
        """Returns states (B, F*(d+1))."""
        if isinstance(observations, dict):
            vectors = self.get_buffer("table")[observations["items"].long()].flatten(1)  # (B, F*d)
            return torch.cat([vectors, observations["rewards"]], dim=1)
        return torch.cat([observations[:, : self.width] * self.scale, observations[:, self.width :]], dim=1)


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

    A vector action scores items as the mapper does; a policy or value net over items scores by its logits or values.

    Args:
        model: Any SB3 model of an environment with frame or history observations and k=1.
        catalog: The items.
        mapper: `"inner"` or `"cosine"`, for vector actions.

    Raises:
        DataError: if the model's observations or actions are not of this catalog, or the mapper is unknown.
    """

    def __init__(self, model: BaseAlgorithm, catalog: Catalog, mapper: str = "inner") -> None:
        if mapper not in ("inner", "cosine"):
            raise DataError(f"mapper must be 'inner' or 'cosine', got {mapper!r}; choose one of them")
        self.model, self.catalog = model, catalog
        self.item_ids, self.reward, self.device = catalog.item_ids, catalog.reward, model.device
        self.frame_size = frame_size_of(model.observation_space, catalog.dim)
        self.by_vector = isinstance(model.action_space, spaces.Box)
        fits = (
            model.action_space.shape == (catalog.dim,)
            if self.by_vector
            else _n(model.action_space) == len(self.item_ids)
        )
        if not fits:
            raise DataError(
                f"actions must be vectors of width {catalog.dim} or one of {catalog.n_items} items, got "
                f"{model.action_space}; give the catalog of the model's environment, with k=1"
            )
        vectors = torch.tensor(catalog.embeddings, device=self.device)
        self.vectors = functional.normalize(vectors, dim=1) if mapper == "cosine" else vectors

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
        return policy.get_distribution(observation).distribution.logits

    def _observation(self, history: History) -> Any:
        history = History(*(None if part is None else _to_numpy(part) for part in history))
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        made: Any = {"items": items.astype(np.int32), "rewards": rewards}
        if not isinstance(self.model.observation_space, spaces.Dict):
            made = encode_frame(self.catalog.table, items, rewards)
        normalised = self.model.get_vec_normalize_env()
        return made if normalised is None else normalised.normalize_obs(made)


def _n(space: spaces.Space) -> int:
    return int(space.n) if isinstance(space, spaces.Discrete) else -1


def _to_numpy(part: Any) -> np.ndarray:
    return np.asarray(part.cpu() if isinstance(part, torch.Tensor) else part)
