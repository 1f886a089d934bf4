"""What a person looks at while an agent learns: values against returns, actions against items, what is recommended.

| metric | is |
|---|---|
| `q`, `return`, `q_return_correlation` | the critic's values of logged decisions, and what users earned from there on |
| `nearest_euclidean`, `nearest_cosine` | mean distance from an action to the item nearest to it |
| `pairwise_euclidean`, `pairwise_cosine` | mean distance between two actions: 0 where every user gets the same |
| `coverage@k`, `gini@k` | of the lists recommended, see `recgym.metrics` |
| `error_real`, `error_generated` | mean reconstruction error of logged and made actions (`agents.training.anomaly`) |
| `error_distance` | Wasserstein distance between the two errors; only directions are compared, lengths being free |

Metrics an agent has no answer to are left out: actions that are items lie on items, and not every agent has a critic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from agents.base import to_tensor
from agents.networks.layers import arithmetic
from agents.training.anomaly import AnomalyDetector
from recgym.catalog import Catalog
from recgym.evaluation.metrics import coverage, gini
from recgym.evaluation.scoring import as_scores, top_items, unseen_items
from recgym.frames import Batch, History

DISTANCES = ("euclidean", "cosine")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found of N decisions of a log.

    Attributes:
        lists: Items recommended (N, k).
        n_items: How many there are.
        returns: Discounted return of each decision (N,) to the end of its user's log.
        values: The critic's value of each (N,), or None.
        actions: Vectors of what the agent does (N, d): its own, or those of the items it shows.
        nearest: Distance of each action to the nearest item (N,), by kind; empty where actions are items.
        errors: Reconstruction errors (N,) of `"real"` and `"generated"` actions; empty where actions are items.
    """

    lists: np.ndarray
    n_items: int
    returns: np.ndarray
    values: np.ndarray | None
    actions: np.ndarray
    nearest: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name."""
        from scipy.stats import wasserstein_distance

        k = self.lists.shape[1]
        found = {f"coverage@{k}": coverage(self.lists, self.n_items), f"gini@{k}": gini(self.lists, self.n_items)}
        found["return"] = float(self.returns.mean())
        if self.values is not None:
            found["q"] = float(self.values.mean())
            if self.values.std() > 0 and self.returns.std() > 0:
                found["q_return_correlation"] = float(np.corrcoef(self.values, self.returns)[0, 1])
        for kind in DISTANCES:
            between = pairwise_distances(self.actions, kind)
            found[f"pairwise_{kind}"] = float(between.sum() / max(between.size - len(between), 1))
        found |= {f"nearest_{kind}": float(distance.mean()) for kind, distance in self.nearest.items()}
        found |= {f"error_{name}": float(errors.mean()) for name, errors in self.errors.items()}
        if self.errors:
            found["error_distance"] = float(wasserstein_distance(self.errors["real"], self.errors["generated"]))
        return found


def pairwise_distances(vectors: Any, kind: str = "euclidean", others: Any = None) -> np.ndarray:
    """Returns the distances (n, m) from vectors (n, d) to others (m, d), by default to each other.

    Args:
        vectors: Numbers.
        kind: `"euclidean"`, or `"cosine"`: 1 - cosine, from 0 to 2; a zero vector's cosine is 0.
        others: The same.

    Example:
        >>> pairwise_distances([[0.0, 1.0], [0.0, 3.0]]).tolist()
        [[0.0, 2.0], [2.0, 0.0]]
        >>> pairwise_distances([[0.0, 1.0], [0.0, 3.0]], "cosine", [[0.0, -1.0]]).tolist()
        [[2.0], [2.0]]
    """
    ours = torch.tensor(np.asarray(vectors), dtype=torch.float32)
    theirs = ours if others is None else torch.tensor(np.asarray(others), dtype=torch.float32)
    if kind == "cosine":
        return np.asarray(1.0 - functional.normalize(ours, dim=1) @ functional.normalize(theirs, dim=1).T)
    return np.asarray(torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist"))


def logged_values(agent: Any, batch: Batch) -> torch.Tensor | None:
    """Returns what an agent's critic says of the logged decisions (B,), or None where it has none.

    An agent's own `values_of(batch)` is asked, if it has one; else the network `critic` of its `nets`, or the first of
    its `critics`, as long as it takes states as they are.
    """
    if hasattr(agent, "values_of"):
        return agent.values_of(batch)
    nets = getattr(agent, "nets", None)
    critic = getattr(nets, "critic", getattr(getattr(nets, "critics", None), "first_value", None))
    if critic is None or hasattr(nets, "encoder"):
        return None
    with torch.no_grad(), arithmetic(agent.config.precision, agent.device):
        decisions = agent.look_up(batch)
        if hasattr(decisions, "vector"):  # of a logged item
            return critic(*decisions.state, decisions.vector)
        values = critic(*decisions.frames)  # (B, n_items), or (B,) of states
        return values if values.ndim == 1 else values.gather(1, decisions.action[:, None])[:, 0]


def diagnose(agent: Any, catalog: Catalog, batch: Batch, detector: AnomalyDetector | None, k: int = 10) -> Diagnosis:
    """Returns what is found of the decisions of a batch; the agent, its random stream included, is left as it was.

    Args:
        agent: Any agent.
        catalog: Its items.
        batch: Decisions with their returns.
        detector: A detector of the directions of item vectors, or None: then nothing is said of errors.
        k: Length of the lists.
    """
    stream = getattr(agent, "generator", None) or torch.Generator()
    before = stream.get_state()
    items, length = np.asarray(to_tensor(batch.items, torch.device("cpu"))), batch.length
    length = np.full(len(items), items.shape[1]) if length is None else length
    history = History(batch.items, batch.rewards, length, batch.user)
    scores = as_scores(agent.scores(history), len(items), catalog.n_items)
    lists = top_items(scores, unseen_items(items, catalog.n_items), k)
    action, values = torch.as_tensor(agent.act(history)).detach(), logged_values(agent, batch)
    stream.set_state(before)
    made = action.is_floating_point()
    vectors = np.asarray(action.float().cpu()) if made else catalog.embeddings[np.asarray(action.cpu()).reshape(-1)]
    errors = {}
    if made and detector is not None:
        logged = catalog.embeddings[np.asarray(to_tensor(batch.action, torch.device("cpu")))]
        errors = {"real": _errors(detector, logged), "generated": _errors(detector, vectors)}
    return Diagnosis(
        lists=lists,
        n_items=catalog.n_items,
        returns=np.asarray(to_tensor(batch.returns, torch.device("cpu"))),
        values=None if values is None else np.asarray(values.detach().float().cpu()),
        actions=vectors,
        nearest={kind: _nearest(vectors, catalog.embeddings, kind) for kind in DISTANCES} if made else {},
        errors=errors,
    )


def _nearest(actions: np.ndarray, items: np.ndarray, kind: str, chunk: int = 1024) -> np.ndarray:
    parts = range(0, len(actions), chunk)
    return np.concatenate([pairwise_distances(actions[i : i + chunk], kind, items).min(axis=1) for i in parts])


@torch.no_grad()
def _errors(detector: AnomalyDetector, vectors: np.ndarray) -> np.ndarray:
    own = to_tensor(vectors, detector.mean.device).float()
    return np.asarray(detector.reconstruction_error(functional.normalize(own, dim=1)).cpu())
