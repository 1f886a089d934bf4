"""Agents for recgym: learners, rankers and the loops that train them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {  # name -> module that defines it; loaded on first use
    "Actor": "agents.networks",
    "Agent": "agents.base",
    "AnomalyDetector": "agents.anomaly",
    "BCQ": "agents.bcq",
    "Beta": "agents.heads",
    "Critic": "agents.networks",
    "DDPG": "agents.ddpg",
    "DQN": "agents.dqn",
    "DRR": "agents.drr",
    "Diagnostics": "agents.diagnostics",
    "DiscreteActor": "agents.heads",
    "EASE": "agents.baselines",
    "EmbeddingAgent": "agents.embedding_agent",
    "Ensemble": "agents.ensemble",
    "ItemAgent": "agents.item_agent",
    "ItemKNN": "agents.baselines",
    "LSTMActorCritic": "agents.lstm_ac",
    "NewestItems": "recgym.recent",
    "Popularity": "recgym.policies",
    "PrioritizedReplay": "agents.prioritized",
    "REINFORCE": "agents.reinforce",
    "Recency": "recgym.recent",
    "RecentPopularity": "recgym.policies",
    "RepeatPopularity": "recgym.recent",
    "ReplayBuffer": "agents.replay",
    "SB3Agent": "agents.sb3",
    "SB3VecEnv": "agents.sb3",
    "SAC": "agents.sac",
    "SQN": "agents.sqn",
    "SequenceModel": "agents.sequence",
    "SequenceREINFORCE": "agents.sequence_reinforce",
    "SequenceTD3BC": "agents.sequence_td3_bc",
    "SessionReplay": "agents.returns",
    "TD3": "agents.td3",
    "TD3BC": "agents.td3_bc",
    "Uniform": "recgym.policies",
    "VSKNN": "agents.vsknn",
    "checkpoint": "agents.checkpoint",
    "diagnose": "agents.diagnosis",
    "every": "agents.reports",
    "fit": "agents.train",
    "fit_detector": "agents.anomaly",
    "fit_online": "agents.train",
    "load": "agents.saving",
    "make_encoder": "agents.encoders",
    "polyak_update": "agents.networks",
    "save": "agents.saving",
    "together": "agents.reports",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    return module if _PUBLIC[name] == f"agents.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
