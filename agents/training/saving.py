"""A trained agent as one folder that needs nothing else: `agents.save(agent, folder)`, `agents.load(folder)`.

| file | holds |
|---|---|
| `catalog/` | ids and vectors, bit for bit (`recgym.Catalog.load` reads it alone) |
| `tensors.safetensors` | networks, optimizers, random streams, what a ranker counted |
| `state.json` | all other values, and where each tensor belongs |
| `manifest.json` | class, options, versions, and the hash of every file |

Nothing is unpickled and no code is taken from the folder. What other libraries pickle (Stable-Baselines3's zip and
d3rlpy's `.d3`) is loaded only if the caller says `allow_pickle=True`, since a pickle can run anything.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from recgym.batches.tensors import resolve_device
from recgym.catalog import Catalog
from recgym.errors import StoreError
from recgym.frames import History
from recgym.ids import as_ids, from_json, to_json
from recgym.storage.manifests import read_json
from recgym.storage.store import MANIFEST, atomic_folder, read_manifest, write_manifest

KIND, VERSION = "agent", 1
CATALOG = "catalog"  # folder of the items, in an agent's own folder or in that of its run
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_STEP = re.compile(r"step-\d{9,}")
_OURS = re.compile(r"(agents(\.\w+)+|recgym\.(policies|scorers))")


def save(agent: Any, folder: str | Path, **about: Any) -> Path:
    """Writes an agent or ranker as one folder, whole or not at all; an agent that stood there is replaced.

    Args:
        agent: An agent of this package or like it, a ranker such as `EASE`, an `Ensemble`, an `SB3Agent` ...
        folder: Where to.
        **about: What else the manifest shall say of it, as JSON values.

    Raises:
        StoreError: if the folder cannot be written to, or holds anything but what recgym wrote.
    """
    with atomic_folder(folder) as temporary:
        write(agent, temporary, **about)
    return Path(folder)


def load(
    folder: str | Path,
    *,
    device: str | torch.device = "auto",
    catalog: Catalog | None = None,
    agent_class: type | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> Any:
    """Returns the agent of a folder, on any machine: one that `save` wrote, a checkpoint, or the newest one of a run.

    Args:
        folder: Where it is.
        device: Where it shall live.
        catalog: Needed only for folders of release 0.1, which hold none. Else a catalog that begins with the items
            the agent was trained with and has more: then `agent.extend(catalog)` is returned.
        agent_class: Its class; needed only for classes from elsewhere, which are never imported by name.
        allow_pickle: Whether to unpickle what another library pickled. Only for folders of people you trust.
        **options: What else it was made with that is no number or word, such as `nets` and `optimizers`.

    Raises:
        StoreError: if there is no agent, it is damaged or of another catalog, or loading it takes one of the options.
    """
    place = resolve_device(device)
    path = found(Path(folder))
    about = read_manifest(path, KIND, VERSION, full=True)["about"]
    own = catalog_of(path, about)
    if own is None and "catalog" in about:
        if catalog is None:
            raise StoreError(
                f"{path} must have its catalog in it or in the folder of its run, got none; pass catalog="
                "the one it was trained with"
            )
        own = catalog
    other = catalog is not None and "catalog" in about and catalog.hash != about["catalog"]
    if catalog is not None and other and (own is catalog or own is None or catalog.n_items <= own.n_items):
        raise StoreError(
            f"{path} must be of this catalog, {catalog.hash[:16]}, got one of {str(about['catalog'])[:16]}; "
            "pass the catalog it was trained with"
        )
    with explained_as_damage(path):
        agent = _made(path, about, own, place, agent_class, allow_pickle, options)
    if catalog is not None and (own is None or catalog.hash != own.hash):
        if not hasattr(agent, "extend"):
            raise StoreError(
                f"{path} must hold an agent that can be extended, got {type(agent).__name__}, which knows each item "
                "apart; fit a new one on a log that has the new items"
            )
        return agent.extend(catalog)
    return agent


def write(agent: Any, folder: Path, more: Mapping[str, Any] | None = None, **about: Any) -> None:
    """Writes an agent into a folder that is there; a checkpoint has `more` state, its run has the catalog."""
    if isinstance(getattr(agent, "catalog", None), Catalog) and more is None:
        agent.catalog.save(folder / CATALOG)
    if hasattr(agent, "write_parts"):  # of other scorers, or of another library's model
        state: Any = {"parts": agent.write_parts(folder)}
    else:
        state = {"agent": agent.state_dict() if hasattr(agent, "state_dict") else _as_values(agent)}
    tensors: dict[str, torch.Tensor] = {}
    plain = packed(state | dict(more or {}), "", tensors)
    save_file(tensors, folder / _TENSORS)
    (folder / _STATE).write_text(json.dumps(plain), encoding="utf-8")
    write_manifest(folder, KIND, VERSION, {**about, **about_of(agent), "versions": versions()})


def read_state(path: Path) -> dict[str, Any]:
    """Returns all state in an agent's folder.

    Raises:
        StoreError: if it is damaged.
    """
    with explained_as_damage(path):
        return dict(unpacked(read_json(path / _STATE), load_file(path / _TENSORS)))


def found(folder: Path) -> Path:
    """Returns the folder of an agent: `folder` itself, or the newest checkpoint of a run."""
    if (folder / MANIFEST).exists():
        return folder
    if not (steps := checkpoints(folder)):
        raise StoreError(f"{folder} must hold a checkpoint, got none; give the folder of a run that has saved one")
    return steps[-1]


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a run, oldest first."""
    whole = (path for path in folder.glob("step-*") if _STEP.fullmatch(path.name) and (path / MANIFEST).exists())
    return sorted(whole, key=step_of)


def step_of(path: Path) -> int:
    """Returns the step that a checkpoint was saved at."""
    return int(path.name.removeprefix("step-"))


def catalog_of(path: Path, about: Mapping[str, Any]) -> Catalog | None:
    """Returns the catalog of a saved agent: in its own folder, or beside it in that of its run; None if in neither."""
    for folder in (path / CATALOG, path.parent / CATALOG):
        if (folder / MANIFEST).exists():
            catalog = Catalog.load(folder)
            if catalog.hash == about.get("catalog"):
                return catalog
    return None


def about_of(agent: Any) -> dict[str, Any]:
    """Returns what an agent must agree in with its saved self, as JSON values."""
    about: dict[str, Any] = {"agent": class_name(type(agent))}
    if isinstance(getattr(agent, "catalog", None), Catalog):
        about["catalog"] = agent.catalog.hash
    if hasattr(agent, "config"):
        about |= {"frame_size": agent.frame_size, "seed": agent.seed, "config": asdict(agent.config)}
    return dict(json.loads(json.dumps(about)))


def class_name(agent_class: type) -> str:
    """Returns `module:Class`, by the name others know it by."""
    module = agent_class.__module__
    main = sys.modules["__main__"].__spec__
    if module == "__main__" and main is not None:  # run as `python -m agents.ddpg`
        module = main.name
    return f"{module}:{agent_class.__qualname__}"


def versions() -> dict[str, str]:
    """Returns the releases that a saved agent was made with."""
    own = {"numpy": np.__version__, "torch": torch.__version__}
    try:
        return {"recgym": version("recgym"), **own}
    except PackageNotFoundError:  # a tree that was not installed
        return own


# -- making one anew ---------------------------------------------------------------------------------------------------


def _made(
    path: Path,
    about: Mapping[str, Any],
    catalog: Catalog | None,
    device: Any,
    agent_class: type | None,
    allow_pickle: bool,
    options: Mapping[str, Any],
) -> Any:
    agent_class = agent_class or _class_of(path, str(about["agent"]))
    state = read_state(path)
    if hasattr(agent_class, "read_parts"):
        pickled = getattr(agent_class, "pickled", None)
        if pickled and not allow_pickle:
            raise StoreError(
                f"{path} must be loaded with allow_pickle=True, got False; it holds {pickled}, and a pickle can run "
                "anything: say so only if you trust whoever wrote it"
            )
        return agent_class.read_parts(path, state["parts"], catalog, device=device, allow_pickle=allow_pickle)
    if "config" not in about:
        return _from_values(agent_class, state["agent"])
    made_with = {"frame_size": about["frame_size"], "seed": about["seed"], "device": device, **about["config"]}
    agent = agent_class(catalog, **made_with | dict(options))
    agent.load_state_dict(state["agent"])
    return agent


def _class_of(path: Path, name: str) -> type:
    module, _, qualified = name.partition(":")
    if not _OURS.fullmatch(module):
        raise StoreError(f"{path} must hold an agent of this package, got {name!r}; pass agent_class")
    try:
        agent_class = getattr(import_module(module), qualified)
    except (ImportError, AttributeError) as error:
        problem = f"{name!r} ({error})"
        raise StoreError(f"{path} must hold an agent of this release, got {problem}; pass agent_class") from error
    if not isinstance(agent_class, type) or not hasattr(agent_class, "scores"):
        raise StoreError(f"{path} must hold an agent, got {name!r}, which scores nothing; save it again")
    return agent_class


@contextmanager
def explained_as_damage(path: Path) -> Iterator[None]:
    """Turns what reading a folder of wrong content raises into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except (
        Exception
    ) as error:  # a file of bad content makes its library, and whoever is given it, raise nearly anything
        problem = f"{type(error).__name__}: {str(error)[:300]}"
        raise StoreError(
            f"{path} must hold an agent as this release makes it, got {problem}; save it again, or pass what it was "
            "made with (nets=, optimizers=)"
        ) from error


def _as_values(ranker: Any) -> dict[str, Any]:
    """Returns what a ranker is made of: its attributes, arrays and JSON values."""
    return {name: _as_value(value) for name, value in vars(ranker).items()}


def _as_value(value: Any) -> Any:
    if sparse.issparse(value):
        rows = sparse.csr_matrix(value)
        parts = {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}
        return {"csr": parts, "shape": list(rows.shape)}
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
        return {"ids": to_json(value.astype(object))}
    if isinstance(value, np.random.Generator):
        return {"stream": value.bit_generator.state}
    return value.item() if isinstance(value, np.generic) else value


def _from_values(ranker_class: type, values: Mapping[str, Any]) -> Any:
    ranker: Any = object.__new__(ranker_class)
    for name, value in values.items():
        if isinstance(value, dict) and "csr" in value:
            parts = value["csr"]
            value = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(value["shape"]))
        elif isinstance(value, dict) and "ids" in value:
            value = as_ids(from_json(value["ids"]))
        elif isinstance(value, dict) and "stream" in value:
            stream = np.random.default_rng()
            stream.bit_generator.state = value["stream"]
            value = stream
        setattr(ranker, name, value)
    n_items = len(ranker.item_ids)
    if not hasattr(ranker, "_random"):  # asking one that draws would move its stream
        nobody = History(np.full((1, 1), n_items), np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
        if np.shape(ranker.scores(nobody)) != (1, n_items):
            raise ValueError(f"scores of another shape than (1, {n_items})")
    return ranker


# -- values as JSON beside tensors -------------------------------------------------------------------------------------


def packed(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Returns `value` as JSON; its tensors and arrays go into `tensors` under their path."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.array(value) if isinstance(value, np.ndarray) else value  # arrays may be read-only
        tensors[name] = torch.as_tensor(array).detach().cpu().clone().contiguous()
        return {"tensor": name, "numpy": isinstance(value, np.ndarray)}
    if isinstance(value, Mapping):  # as pairs: JSON has no integer keys, and optimizers do
        return {"pairs": [[key, packed(inner, f"{name}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"items": [packed(inner, f"{name}/{place}", tensors) for place, inner in enumerate(value)]}
    return value


def unpacked(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Returns what `packed` was given; sequences come back as lists."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.numpy() if value["numpy"] else tensor
    if "pairs" in value:
        return {key: unpacked(inner, tensors) for key, inner in value["pairs"]}
    return [unpacked(inner, tensors) for inner in value["items"]]
