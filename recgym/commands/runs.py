"""Runs that commands are given: agents are loaded by their own package, which nothing else in recgym knows."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgym.errors import RecgymError

if TYPE_CHECKING:
    from recgym.serving.served import Served


def agents_package(part: str = "agents") -> Any:
    """Returns the package of agents, or a module of it.

    Raises:
        RecgymError: if the agents are not installed beside recgym, or a package of another project stands before them.
    """
    package("agents", "training")
    return import_module(part)


def package(name: str, within: str) -> None:
    """Raises RecgymError unless a package that lies beside recgym is found, and is ours: it has a module `within`."""
    found = find_spec(name)
    if found is None:
        raise RecgymError(f"the package {name} must be installed beside recgym, got none; install recgym's wheel again")
    if find_spec(f"{name}.{within}") is None:
        place = found.origin or ", ".join(found.submodule_search_locations or ())
        raise RecgymError(
            f"the package {name} must be recgym's, got one of another project at {place}; leave that folder, "
            "rename it, or uninstall whose it is"
        )


def load_run(folder: str | Path, device: str = "cpu") -> Any:
    """Returns the agent of a run's folder, of a checkpoint or of one that `agents.save` wrote; see `agents.load`."""
    return agents_package().load(Path(folder), device=device)


def load_served(folder: str | Path, device: str = "cpu") -> Served:
    """Returns the agent of a folder as it is served, with what the folder tells of it."""
    from recgym.serving.served import Served

    folder = Path(folder)
    agent = load_run(folder, device)  # first: it says what is wrong with the folder
    return Served(agent, _about(folder))


def _about(folder: Path) -> dict[str, Any]:
    """Returns agent, data, versions, hashes and evaluation, as far as a folder tells."""
    from recgym.storage.manifests import file_hash, parsed_manifest, read_json, readable

    place = agents_package("agents.training.saving").found(folder)
    manifest = parsed_manifest(place)
    about = dict(manifest["about"])
    told: dict[str, Any] = {"run": folder.resolve().name, "agent": about.pop("agent", None)}
    told |= {"versions": about.pop("versions", {}), "created": manifest["created"], "settings": about}
    told["hashes"] = {"manifest": file_hash(place / "manifest.json")}
    told["hashes"] |= {name: entry["sha256"] for name, entry in manifest["files"].items()}
    for record in (folder / "run.json", place.parent / "run.json"):
        if record.is_file():
            with readable(record, "be the record of a run", "train it again, or remove this file"):
                kept = read_json(record)
                names = ("data", "split", "vectors", "training", "log")
                told |= {"data": {name: kept[name] for name in names if name in kept}}
                told |= {"evaluation": kept.get("metrics")}
            break
    return told
