"""An autoencoder of item vectors: what it cannot rebuild is no item, such as an action a policy has made up.

A diagnostic of generated actions after RecNN's AnomalyDetector. Where we differ: its last layer ended in ReLU, which
cannot give a negative number, and its errors had the scale of the vectors; here the last layer is linear, and an error
of 1 is what one makes who says "the mean vector" to everything.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.base import resolve_device, to_tensor
from agents.networks.layers import seeded
from recgym.errors import DataError


class AnomalyDetector(nn.Module):
    """An autoencoder: d -> hidden -> code -> hidden -> d, ReLU and batch normalisation between.

    Args:
        dim: Width d of a vector.
        hidden: Width of the hidden layers.
        code: Width of the narrowest.

    Attributes:
        mean: What is taken from vectors first (d,).
        spread: What they are divided by then, a number.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, dim: int, hidden: int = 64, code: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, narrow in ((dim, hidden), (hidden, code), (code, hidden)):
            layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.BatchNorm1d(narrow)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns vectors (B, d) rebuilt."""
        rebuilt: torch.Tensor = self.layers((vectors - self.mean) / self.spread)
        return rebuilt * self.spread + self.mean

    def reconstruction_error(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns mean squared errors (B,) of vectors (B, d) rebuilt, in squares of `spread`."""
        return (vectors - self(vectors)).square().mean(dim=1) / self.spread.square()


class Fitted(NamedTuple):
    """A detector, and how well it rebuilds what it has learned and what it has not met."""

    detector: AnomalyDetector
    error: torch.Tensor  # (n,) of the vectors it learned from
    held_out_error: torch.Tensor  # (m,) of those held out


def fit_detector(
    vectors: Any,
    *,
    n_steps: int = 1_000,
    batch_size: int = 256,
    lr: float = 1e-3,
    holdout: float = 0.1,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Fitted:
    """Returns a detector that has learned to rebuild vectors, in eval mode, and its errors.

    Args:
        vectors: (n, d) float, e.g. `catalog.embeddings`.
        n_steps: Updates.
        batch_size: Vectors per update, or all there are.
        lr: Adam's step size.
        holdout: Share of the vectors it never sees.
        seed: Which are held out, first weights and batches.
        device: Where it lives.

    Raises:
        DataError: if fewer than two vectors are left to learn from, or all of them are alike.
    """
    place = resolve_device(device)
    known = to_tensor(vectors, place).float()
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(known), generator=random).to(place)
    n_held = round(holdout * len(known))
    held, own = known[order[:n_held]], known[order[n_held:]]
    spread = own.std(dim=0, correction=0).square().mean().sqrt() if len(own) else torch.zeros(())
    if len(own) < 2 or not spread > 0:
        raise DataError(
            f"a detector needs two different vectors to learn from, got {len(own)} that are alike; give it more of them"
        )
    with seeded(seed):
        detector = AnomalyDetector(known.shape[1]).to(place)
    detector.mean.copy_(own.mean(dim=0))
    detector.spread.copy_(spread)
    optimizer = torch.optim.Adam(detector.parameters(), lr=lr)
    for _ in range(n_steps):
        rows = torch.randperm(len(own), generator=random)[:batch_size].to(place)
        loss = functional.mse_loss(detector(own[rows]), own[rows]) / spread.square()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    detector.eval()
    with torch.no_grad():
        return Fitted(detector, detector.reconstruction_error(own), detector.reconstruction_error(held))
