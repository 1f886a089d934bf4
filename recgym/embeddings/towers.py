"""Two towers, one for users and one for items, trained so that users lie near what they consumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from recgym.batches.negatives import Unconsumed
from recgym.batches.tensors import resolve_device
from recgym.errors import DataError
from recgym.log import InteractionLog

_CHUNK = 1 << 14  # rows that pass a tower at a time


class Tower(nn.Module):
    """An index and, where there are any, features -> 256 -> 128 -> a vector of length 1; ReLU and batch normalisation.

    Args:
        n: How many users or items; index n is one that nobody knows.
        n_features: Width of the features, 0 for none.
        dim: Width of the vector, and of what is learned of each index.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, n: int, n_features: int, dim: int, hidden: tuple[int, ...] = (256, 128)) -> None:
        super().__init__()
        self.known = nn.Embedding(n + 1, dim, padding_idx=n)
        widths = (dim + n_features, *hidden)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.BatchNorm1d(narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], dim))
        with torch.no_grad():
            self.known.weight.mul_(dim**-0.5)  # each about as long as a feature, which has length 1

    def forward(self, index: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Returns vectors (B, dim) of length 1 for indices (B,) and their features (B, n_features)."""
        return functional.normalize(self.layers(torch.cat([self.known(index), features], dim=1)), dim=1)


@dataclass(frozen=True, eq=False)
class Towers:
    """Both towers, trained, and the vectors they give.

    Attributes:
        users: User vectors (n_users, dim) float32, of length 1.
        items: Item vectors (n_items, dim) float32, of length 1.
        losses: Mean loss of each epoch.
        item_tower: The network of items.
    """

    users: np.ndarray
    items: np.ndarray
    losses: list[float]
    item_tower: Tower

    def of_new_items(self, features: np.ndarray) -> np.ndarray:
        """Returns vectors (m, dim) of items without an index, by their features (m, n_features)."""
        unknown = np.full(len(features), self.item_tower.known.num_embeddings - 1)
        return all_vectors(self.item_tower, unknown, features)


@dataclass(frozen=True)
class Options:
    """How towers are trained."""

    dim: int  # width of the vectors
    loss: str  # "cosine" or "bce"
    n_negatives: int  # items drawn per event that its user has not consumed
    n_epochs: int  # passes over the events
    batch_size: int  # events per update
    lr: float  # Adam's step size
    margin: float  # cosine loss: negatives below it cost nothing
    sharpness: float  # bce loss: what the cosine is multiplied by
    unknown: float  # share of indices hidden in training where there are features
    seed: int  # of weights, order and negatives
    device: str  # where it happens; "auto" is CUDA where there is one


def fit_towers(
    log: InteractionLog,
    user_features: np.ndarray,
    item_features: np.ndarray,
    options: Options,
    report: Callable[[float], object] = lambda loss: None,
) -> Towers:
    """Returns towers trained on who consumed what.

    Args:
        log: Training events.
        user_features: (n_users, m), m may be 0.
        item_features: (n_items, m), m may be 0.
        options: How.
        report: Called with the mean loss after every epoch.

    Raises:
        DataError: if there is nothing to learn from, or no such device.
    """
    device = resolve_device(options.device)
    unconsumed, users_of = Unconsumed(log), log.event_users()
    events = np.flatnonzero(unconsumed.left[users_of] > 0)
    if len(events) < 2:
        raise DataError(
            f"two events must be of users who lack some item, got {len(events)} of {log.n_events}; give a larger log"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        users, items = (_Side(features, options, device) for features in (user_features, item_features))
    optimizer = torch.optim.Adam([*users.tower.parameters(), *items.tower.parameters()], lr=options.lr)
    random = np.random.default_rng(options.seed)
    n_rows = min(options.batch_size, len(events))
    losses: list[float] = []
    for _ in range(options.n_epochs):
        total = torch.zeros((), device=device)
        batches = random.permutation(events)[: len(events) // n_rows * n_rows].reshape(-1, n_rows)
        for rows in batches:
            asked = np.tile(users_of[rows], (options.n_negatives, 1))  # (n_negatives, B)
            negatives = unconsumed.items(asked, random.random(asked.shape))
            shown = items.vectors(np.concatenate([log.items[rows][None], negatives]), random)  # (1 + n, B, dim)
            cosine = (users.vectors(users_of[rows], random) * shown).sum(dim=2)  # (1 + n, B): positives first
            loss = dssm_loss(cosine, options)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        losses.append(float(total) / len(batches))
        report(losses[-1])
    known = np.flatnonzero(np.bincount(log.items, minlength=log.n_items) > 0)
    index = np.full(log.n_items, log.n_items)  # an item without events is as one that nobody knows
    index[known] = known
    everyone = np.arange(log.n_users)
    made = all_vectors(users.tower, everyone, user_features), all_vectors(items.tower, index, item_features)
    return Towers(*made, losses, items.tower)


def dssm_loss(cosine: torch.Tensor, options: Options) -> torch.Tensor:
    """Returns the loss of cosines (1 + n_negatives, B), those of consumed items in the first row.

    `"cosine"` is 1 - c for them and max(0, c - margin) for negatives; `"bce"` is the cross-entropy of whether
    an item was consumed, with probability sigmoid(sharpness * c). Consumed items weigh as much as negatives, however
    many these are.
    """
    if options.loss == "cosine":
        return (1.0 - cosine[0]).mean() + functional.relu(cosine[1:] - options.margin).mean()
    logits = options.sharpness * cosine
    return functional.softplus(-logits[0]).mean() + functional.softplus(logits[1:]).mean()


class _Side:
    """One tower with the features of all its indices, on its device."""

    def __init__(self, features: np.ndarray, options: Options, device: torch.device) -> None:
        self.tower = Tower(len(features), features.shape[1], options.dim).to(device)
        self.features = torch.tensor(features, dtype=torch.float32, device=device)  # (n, m)
        self.unknown = options.unknown if features.shape[1] else 0.0

    def vectors(self, index: np.ndarray, random: np.random.Generator) -> torch.Tensor:
        """Returns vectors (..., dim) of indices (...), some of which pass as unknown."""
        flat = index.reshape(-1)
        hidden = np.where(random.random(len(flat)) < self.unknown, len(self.features), flat) if self.unknown else flat
        device = self.features.device
        features = self.features[torch.as_tensor(flat, device=device).long()]
        made: torch.Tensor = self.tower(torch.as_tensor(hidden, device=device).long(), features)
        return made.view(*index.shape, -1)


@torch.no_grad()
def all_vectors(tower: Tower, index: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Returns the vectors (m, dim) float32 a trained tower gives to indices (m,) with features (m, n_features)."""
    tower.eval()
    device = tower.known.weight.device
    made = [
        tower(
            torch.as_tensor(index[begin : begin + _CHUNK], device=device).long(),
            torch.as_tensor(features[begin : begin + _CHUNK], dtype=torch.float32, device=device),
        )
        for begin in range(0, len(index), _CHUNK)
    ]
    return np.asarray(torch.cat(made).cpu())
