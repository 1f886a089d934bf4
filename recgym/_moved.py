"""Modules under the names they once had: users' scripts, pickles, specs and checkpoints name them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# room -> the modules it took in; old=new where the name changed too
ROOMS = {
    "recgym.storage": "recgym: disk store cache download locks manifests",
    "recgym.envs": "recgym: env vector sessions spaces infos render registry pages option_docs",
    "recgym.evaluation": "recgym: metrics scoring evaluate comparison floors planning collection questions "
    "stochastic=policies recent=recency",
    "recgym.datasets": "recgym: datasets.ordering=movielens_sasrec_order",
    "recgym.datasets.tables": "recgym.datasets: table text json_lines kinds complaints parts streams unpacking "
    "in_order columns_on_disk table_files gather codes=id_codes plain=fast_csv clock=timestamps "
    "past_memory=out_of_core",
    "recgym.users": "recgym: best_slates users.parts=behaviours users.draws=sampling",
    "recgym.users.fitted": "recgym: users.learned=learned users.fitting=fitting users.task=fit_options "
    "users.factors=factors users.answers=ensemble users.leaving=churn users.guards=penalties "
    "users.fitted_on=provenance users.difference=gap users.files=files learned.loop=training_loop "
    "learned.factors=factor_training learned.recurrent=recurrent learned.sequential=sequential_training",
    "recgym.embeddings": "recgym: learned.dssm=towers learned.text=sentences",
    "recgym.batches": "recgym: learned.tensors=tensors",
    "agents.integrations": "agents: sb3 sb3_env sb3_buffer d3rlpy_data=d3rlpy",
    "agents.networks": "agents: actors twins=twin_critics heads=softmax_heads softmax=softmax_loss "
    "cores=sequence_cores encoders=state_encoders encoded sequence_network bounds=hyperparameters scaling losses",
    "agents.training": "agents: train checkpoint reports=callbacks replay prioritized returns=session_replay diagnosis "
    "diagnostics anomaly correction=off_policy saving finite auto online",
}


def _moved() -> dict[str, str]:
    names = {"recgym.torchrl_batch": "agents.integrations.torchrl", "recgym.learned": "recgym.users.fitted"}
    for room, modules in ROOMS.items():
        parent, _, pairs = modules.partition(": ")
        for pair in pairs.split():
            old, _, new = pair.partition("=")
            names[f"{parent}.{old}"] = f"{room}.{new or old}"
    return names


MOVED = _moved()


def present_name(module: str) -> str:
    """Returns where a module, named as it is or as it once was, is today."""
    parts = module.split(".")
    for n in range(len(parts), 1, -1):
        old = ".".join(parts[:n])
        if old in MOVED:
            return ".".join([MOVED[old], *parts[n:]])
    return module


class _Elsewhere(Loader):
    """Puts the module of today under its old name."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, present_name(module.__name__)
        warnings.warn(f"{old} is now {new}; the old name will go with 1.0", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Elsewhere()) if present_name(name) != name else None


def redirect() -> None:
    """Lets modules be imported by the names they once had, with a DeprecationWarning."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
