"""A trained agent as a file that other programs run: ONNX, or TorchScript, which C++ reads too.

What goes in is a history, what comes out scores of all items, and the best k beside them; padding, the newest events
that the agent looks at, and what is shown to somebody without a past happen inside. The agent's own `scores` are
traced, so there is no second account of any network.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.training.saving import class_name, versions
from recgym.errors import DataError, RecgymError
from recgym.frames import History
from recgym.ids import to_json
from recgym.storage.store import atomic_folder, write_manifest

KIND, VERSION = "exported model", 1
FORMATS = {"onnx": "model.onnx", "torch": "model.pt"}
_OPSET, _CLOSE = 17, 1e-5
_ADVICE = "serve it with `recgym serve`, or score a log with `recgym recommend`"


class Recommender(nn.Module):
    """An agent's scoring as one module: `(items, rewards)` to scores, or to scores, best items and theirs.

    Args:
        agent: Its networks score.
        k: Length of the lists; None leaves them out.
    """

    def __init__(self, agent: Any, k: int | None = None) -> None:
        super().__init__()
        self.agent, self.k, self.n_items = agent, k, len(agent.item_ids)
        self.networks = nn.ModuleList(agent.nets)
        self.width = max(agent.frame_size, getattr(agent.config, "max_length", 1))

    def forward(self, items: torch.Tensor, rewards: torch.Tensor) -> Any:
        """Returns scores (B, n_items) float32; with k also the best items (B, k) int64 and their scores (B, k).

        Args:
            items: Item indices (B, L) int64, oldest first, padded on the left with n_items; L is any.
            rewards: Their rewards (B, L) float32, 0 where padded.
        """
        items = torch.cat([items.new_full((items.shape[0], self.width), self.n_items), items], dim=1)
        rewards = torch.cat([rewards.new_zeros((rewards.shape[0], self.width)), rewards], dim=1)
        newest, worth = items[:, -self.width :], rewards[:, -self.width :]
        length = (newest != self.n_items).sum(dim=1)
        scores = self.agent.scores(History(newest, worth, length))
        if self.k is None:
            return scores
        marks = scores.new_zeros((items.shape[0], self.n_items + 1)).scatter(1, items, 1.0)
        unseen = scores.masked_fill(marks[:, :-1] > 0, -torch.inf)
        best = unseen.topk(self.k, dim=1)
        return scores, best.indices, best.values


def export_model(
    agent: Any, folder: str | Path, file_format: str = "onnx", *, k: int | None = 10, n_checks: int = 1_000
) -> str:
    """Writes an agent as a folder: the model, `items.json` (ids in index order) and a README; returns what was checked.

    Args:
        agent: One whose scoring is a network.
        folder: Where to; one that this wrote is replaced.
        file_format: `"onnx"` or `"torch"`.
        k: Length of the lists that come beside the scores; None leaves them out.
        n_checks: Random histories whose best ten must be those of the agent, run by ONNX Runtime or by PyTorch.

    Raises:
        DataError: if the agent cannot be exported (why stands in it), or an option is unknown.
        RecgymError: if a library is missing, or the file does not rank as the agent does.
    """
    _check(agent, file_format, k)
    module = Recommender(agent, k).eval()
    with atomic_folder(folder) as temporary:
        path = temporary / FORMATS[file_format]
        run = (_as_onnx if file_format == "onnx" else _as_torch)(module, path)
        found = compare(agent, run, n_checks) if n_checks else "not compared"
        ids = to_json(np.asarray(agent.item_ids).astype(object))
        (temporary / "items.json").write_text(json.dumps(ids), encoding="utf-8")
        (temporary / "README.md").write_text(_readme(agent, module, path.name, found), encoding="utf-8")
        about = {"agent": class_name(type(agent)), "format": file_format, "k": k, "checked": found}
        write_manifest(temporary, KIND, VERSION, about | {"versions": versions()})
    return found


def compare(agent: Any, run: Any, n: int, seed: int = 0) -> str:
    """Compares the best ten items of random histories by an exported model with the agent's own.

    Histories have 0 to 1.5 times as many events as the agent looks at. Places may differ only where the agent's own
    scores are closer than 1e-5 of their spread, which is rounding.

    Raises:
        RecgymError: if others differ.
    """
    chance, n_items = np.random.default_rng(seed), len(agent.item_ids)
    most = max(2, int(1.5 * min(Recommender(agent).width, 100)))
    equal = close = 0
    for first in range(0, n, 100):
        rows = min(100, n - first)
        length = chance.integers(0, most + 1, rows)
        items = chance.integers(0, n_items, (rows, most))
        rewards = chance.uniform(-1, 1, (rows, most)).astype(np.float32)
        padding = np.arange(most) < (most - length)[:, None]
        items[padding], rewards[padding] = n_items, 0.0
        own = agent.scores(History(items, rewards, length)).numpy()
        theirs = np.asarray(run(items, rewards))
        best = np.argsort(-own, axis=1, kind="stable")[:, :10]
        other = np.argsort(-theirs, axis=1, kind="stable")[:, :10]
        same = (best == other).all(axis=1)
        gap = np.abs(np.take_along_axis(own, best, 1) - np.take_along_axis(own, other, 1)).max(axis=1)
        near = gap <= _CLOSE * np.maximum(np.ptp(own, axis=1), 1e-12)
        equal, close = equal + int(same.sum()), close + int((~same & near).sum())
        if not (same | near).all():
            raise RecgymError(
                f"the exported model must rank as the agent does, got other lists in "
                f"{np.count_nonzero(~(same | near))} of {rows} histories, off by up to {gap.max():g}; "
                "tell us, with the agent's class"
            )
    told = f"the best ten of {equal:,} of {n:,} random histories are equal"
    return told if not close else f"{told}, {close:,} differ in places whose scores are equal up to rounding"


def _check(agent: Any, file_format: str, k: int | None) -> None:
    """Refuses what cannot be exported, and says why."""
    if file_format not in FORMATS:
        raise DataError(f"format must be one of {', '.join(FORMATS)}, got {file_format!r}; choose one of them")
    name = type(agent).__name__
    if type(agent).__module__.startswith(("agents.integrations.sb3", "agents.d3rlpy")):
        raise DataError(f"a model to export must be of recgym's own networks, got {name}; export it by its own library")
    if name == "Ensemble":
        raise DataError(f"a model to export must be one agent, got {name} of several; export its members, or {_ADVICE}")
    if not isinstance(getattr(agent, "nets", None), tuple):
        raise DataError(f"a model to export must score by a network, got {name}, which counts; {_ADVICE}")
    if getattr(agent, "own_nets", False):
        raise DataError(f"a model to export must have recgym's own networks, got {name} with others; export those")
    if k is not None and not 1 <= k <= len(agent.item_ids):
        raise DataError(f"k must be between 1 and the {len(agent.item_ids)} items, got {k}; ask for fewer")
    if agent.device.type != "cpu":
        raise DataError(f"an agent must be on the CPU to be exported, got {agent.device}; load it with device='cpu'")


def _examples(module: Recommender) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns histories to trace with."""
    items = torch.arange(6).reshape(2, 3) % module.n_items
    return items, torch.zeros(2, 3)


def _as_torch(module: Recommender, path: Path) -> Any:
    program = _traced(module)
    program.save(str(path))
    loaded = torch.jit.load(str(path))
    return lambda items, rewards: _first(loaded(torch.from_numpy(items), torch.from_numpy(rewards))).detach()


def _traced(module: Recommender) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, _examples(module), check_trace=False)


def _as_onnx(module: Recommender, path: Path) -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise RecgymError(f'ONNX must have its libraries, got none ({error}); pip install "recgym[onnx]"') from error
    outputs = ["scores"] if module.k is None else ["scores", "best_items", "best_scores"]
    axes = {"items": {0: "batch", 1: "length"}, "rewards": {0: "batch", 1: "length"}}
    axes |= {name: {0: "batch"} for name in outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _traced(module), _examples(module), str(path), dynamo=False, dynamic_axes=axes,
            input_names=["items", "rewards"], output_names=outputs, opset_version=_OPSET,
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    used = {one.name for one in session.get_inputs()}  # an agent that does not look at rewards has no input for them

    def run(items: np.ndarray, rewards: np.ndarray) -> Any:
        given = {"items": items, "rewards": rewards}
        return session.run(["scores"], {name: array for name, array in given.items() if name in used})[0]

    return run


def _first(found: Any) -> Any:
    return found[0] if isinstance(found, tuple) else found


def _readme(agent: Any, module: Recommender, name: str, found: str) -> str:
    lists = "" if module.k is None else (
        f"| `best_items` | int64 (B, {module.k}) | the highest scores among items not in the history, best first |\n"
        f"| `best_scores` | float32 (B, {module.k}) | theirs |\n"
    )  # fmt: skip
    return f"""# {type(agent).__name__}, exported by recgym

`{name}`: {found}.

| input | is | |
|---|---|---|
| `items` | int64 (B, L) | item indices, oldest first; leave out items that are not in `items.json` |
| `rewards` | float32 (B, L) | their rewards, as recgym's transform `{agent.reward}` makes them of ratings |

| output | is | |
|---|---|---|
| `scores` | float32 (B, {module.n_items}) | larger first; items of the history among them |
{lists}
An agent that does not look at rewards has no such input in ONNX.

Index i is the id at place i of `items.json`. B and L may be any numbers above 0. Shorter histories of a batch are
padded on the left with index {module.n_items} and reward 0; one of nothing but padding gets what is popular, if the
agent knows it. The newest {module.width} events count. Users are nobody the model knows.
"""
