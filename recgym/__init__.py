"""recgym: turn a log of who consumed what into environments, agents and numbers one can trust."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from recgym.registry import register_envs

__version__ = "0.1.0"

_PUBLIC = {  # name -> module that defines it; loaded on first use, so that `import recgym` stays quick
    "ActionError": "recgym.errors",
    "Batch": "recgym.frames",
    "Catalog": "recgym.catalog",
    "DataError": "recgym.errors",
    "DataSource": "recgym.data_source",
    "FrameBatches": "recgym.batches",
    "History": "recgym.frames",
    "GaussianPolicy": "recgym.stochastic",
    "HashMismatchError": "recgym.errors",
    "InteractionLog": "recgym.log",
    "MissingDataError": "recgym.errors",
    "RecEnv": "recgym.env",
    "RecVectorEnv": "recgym.env",
    "RecgymError": "recgym.errors",
    "SequenceBatches": "recgym.batches",
    "SoftmaxPolicy": "recgym.stochastic",
    "StoreError": "recgym.errors",
    "VectorBatches": "recgym.batches",
    "collect": "recgym.collection",
    "compare": "recgym.comparison",
    "datasets": "recgym.datasets",
    "embeddings": "recgym.embeddings",
    "encode_frame": "recgym.frames",
    "export": "recgym.export",
    "fidelity": "recgym.fidelity",
    "evaluate_policy": "recgym.ope.report",
    "evaluate_ranking": "recgym.evaluate",
    "evaluate_sessions": "recgym.evaluate",
    "metrics": "recgym.metrics",
    "ope": "recgym.ope",
    "recommend": "recgym.scoring",
    "register_dataset": "recgym.registry",
    "register_world": "recgym.registry",
    "true_value": "recgym.collection",
    "users": "recgym.users",
}

__all__ = [*sorted(_PUBLIC), "__version__", "register_envs"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'recgym' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    return module if _PUBLIC[name] == f"recgym.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__


register_envs()
