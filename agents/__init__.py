"""Agents for recgym: learners, rankers and the loops that train them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {  # name -> module that defines it; loaded on first use
    "Actor": "agents.networks",
    "Agent": "agents.base",
    "Critic": "agents.networks",
    "DDPG": "agents.ddpg",
    "EASE": "agents.baselines",
    "EmbeddingAgent": "agents.base",
    "ItemKNN": "agents.baselines",
    "Popularity": "recgym.policies",
    "RecentPopularity": "recgym.policies",
    "ReplayBuffer": "agents.replay",
    "Uniform": "recgym.policies",
    "checkpoint": "agents.checkpoint",
    "every": "agents.reports",
    "fit": "agents.train",
    "fit_online": "agents.train",
    "polyak_update": "agents.networks",
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
