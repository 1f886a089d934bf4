"""Pages that are made from the code whenever the site is built: environments, agents, public names."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import gymnasium as gym

import agents
from recgym.envs.pages import page
from recgym.envs.registry import KINDS, Kind
from recgym.evaluation.floors import stored, verdict
from recgym.storage.store import atomic_file

_TABLE_LINE = re.compile(r"^\s*\|.*\|\s*$")
_BAR = re.compile(r"\|(?=[^`]*(?:`[^`]*`[^`]*)*$)")  # outside of code, where reST takes |x| for a substitution
_API = {
    "recgym": "Logs, catalogs, batches, environments, judgement",
    "agents": "Agents, training, saving",
    "recgym.datasets": "Data sets",
    "recgym.embeddings": "Item vectors",
    "recgym.users": "User models",
    "recgym.ope": "Off-policy evaluation",
    "recgym.fidelity": "Fidelity of simulators",
    "recgym.export": "Exports",
    "recgym.errors": "Errors",
}


def write(folder: Path) -> None:
    """Writes all generated pages anew; pages of names and kinds that are gone go too."""
    wanted = {**_environments(folder), **_agents(), **_api()}
    for old in folder.rglob("*.md"):
        if old.relative_to(folder).as_posix() not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:  # Sphinx reads again what is newer
            path.write_text(text)


def notebooks(docs: Path) -> None:
    """Writes every page of `notebooks/` as a Jupyter notebook too, the other half of the pair."""
    import jupytext

    folder = docs / "generated" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for path in docs.glob("notebooks/*.md"):
        jupytext.write(jupytext.read(path, fmt="md:myst"), folder / f"{path.stem}.ipynb")


def _environments(folder: Path) -> dict[str, str]:
    pages = {f"environments/{kind.name}.md": _kind(kind, folder / "environments") for kind in KINDS}
    return {**pages, "environments/index.md": _index("A page per kind", [kind.name for kind in KINDS])}


def _kind(kind: Kind, folder: Path) -> str:
    """Returns the page of a kind: that of its first id, with the other ids, a picture and floors."""
    found = {**kind.ids(), **kind.old_ids()}
    first = next(iter(kind.ids()))
    _, _, rest = page(first).partition("\n\n")
    said, _, body = rest.partition("## Made by")
    body = re.sub(r"`'([^'\n]*)'`", r"`\1`", body)
    ids = "\n".join(f"- `{env_id}`" for env_id in found)
    picture = _picture(first, folder / f"{kind.name}.png")
    return (
        f"# {kind.name}\n\n{said.strip()}\n\n```python\nimport gymnasium as gym\nimport recgym\n\n"
        f'env = gym.make("{first}")\n```\n\n{picture}## Ids\n\n{ids}\n\nBelow, `{first}`.\n\n{_floors(found)}'
        f"## Made by{body}"
    )


def _picture(env_id: str, path: Path) -> str:
    """Draws the third step of a session and returns the Markdown that shows it."""
    from PIL import Image

    env: Any = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(3):
        env.step(env.action_space.sample())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        Image.fromarray(env.render()).save(file, format="png")
    env.close()
    return f"![{env_id} after three random actions]({path.name})\n\n"


def _floors(ids: dict[str, Any]) -> str:
    """Returns the measured floors of the ids of a kind as a table."""
    lines = []
    for env_id in ids:
        if floors := stored(env_id):
            lines += [f"| `{env_id}` | {one.policy} | {_interval(one)} |" for one in floors]
            lines.append(f"| `{env_id}` | | {verdict(floors)} |")
    if not lines:
        return ""
    head = "## Floors\n\nMean return of a session with its 95 % interval; `recgym floors ID` measures it.\n\n"
    return head + "\n".join(["| id | policy | return |", "|---|---|---|", *lines]) + "\n\n"


def _interval(floor: Any) -> str:
    return f"{floor.mean:.3f} [{floor.low:.3f}, {floor.high:.3f}]"


def _agents() -> dict[str, str]:
    modules: dict[str, list[type]] = {}
    for name in agents.__all__:
        thing = getattr(agents, name)
        if inspect.isclass(thing) and callable(getattr(thing, "scores", None)) and not inspect.isabstract(thing):
            modules.setdefault(thing.__module__, []).append(thing)
    pages = {f"agents/{module.split('.')[-1]}.md": _agent(module, classes) for module, classes in modules.items()}
    names = sorted(name.split("/")[1][:-3] for name in pages)
    return {**pages, "agents/index.md": _index("A page per agent", names)}


def _agent(module: str, classes: list[type]) -> str:
    """Returns the page of a file of `agents`: paper and differences, command, options, where it stands."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    name = module.split(".")[-1]
    parts = [f"# {', '.join(one.__name__ for one in classes)}", _fenced(text)]
    if hasattr(importlib.import_module(module), "main"):
        parts += [f"```\npython -m {module} --dataset ml-1m --steps 1000\n```"]
    for one in classes:
        parts += [f"## `agents.{one.__name__}`", _fenced(inspect.getdoc(one) or "")]
    config = getattr(importlib.import_module(module), "Config", None)
    if dataclasses.is_dataclass(config):
        rows = [f"| `{field.name}` | `{_default(field)}` |" for field in dataclasses.fields(config) if field.init]
        parts += ["## Hyperparameters", "\n".join(["| name | default |", "|---|---|", *rows])]
    where = "[benchmarks](../../benchmarks.md), [leaderboard](../../leaderboard.md)"
    return "\n\n".join([*parts, f"## Where it stands\n\nRows of `{name}` are in {where}."]) + "\n"


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return str(getattr(field.default, "value", field.default))
    return "none" if field.default_factory is dataclasses.MISSING else str(field.default_factory())


def _fenced(text: str) -> str:
    """Returns prose whose formulas and lists keep their lines."""
    return f"```text\n{text}\n```"


def _api() -> dict[str, str]:
    pages = {}
    for module, title in _API.items():
        options = ":members:\n:imported-members:" if module in ("recgym.users", "recgym.ope") else ":members:"
        if module in ("recgym", "agents"):
            names = [
                name
                for name in importlib.import_module(module).__all__
                if not name.startswith("__") and not name.endswith("Error")
            ]
            body = "\n\n".join(filter(None, (_documented(module, name) for name in names)))
        else:
            body = f".. automodule:: {module}\n   " + options.replace("\n", "\n   ")
        pages[f"api/{module}.md"] = f"# `{module}`\n\n{title}.\n\n```{{eval-rst}}\n{body}\n```\n"
    return {**pages, "api/index.md": _index("API reference", list(_API))}


def _documented(module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name)
    if inspect.ismodule(thing):
        return ""
    kind = "autoclass" if inspect.isclass(thing) else "autofunction" if callable(thing) else "autodata"
    return f".. {kind}:: {module}.{name}"


def _index(title: str, names: list[str]) -> str:
    listed = "\n".join(names)
    return f"# {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"


def as_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turns what docstrings hold of Markdown, its tables and indented formulas, into literal blocks of reST."""
    made: list[str] = []
    for line in lines:
        table = bool(_TABLE_LINE.match(line))
        open_table = bool(made) and made[-1].startswith("   |")
        if table and not open_table:
            made += ["", "::", ""]
        elif open_table and not table:
            made.append("")
        made.append("   " + line.strip() if table else _BAR.sub(r"\\|", line))
    lines[:] = made
