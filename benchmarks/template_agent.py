"""An agent to begin from: copy this file, change what it does, and run it beside all others.

    python -m benchmarks.run --suite quickstart --agent mine:MyAgent              # mine.py in this folder
    python -m benchmarks.run --suite quickstart --agent mypkg.mine:MyAgent --steps 5000 --config '{"lr": 0.01}'
    python -m benchmarks.run --suite ml1m --agent benchmarks.template_agent:MyAgent --smoke   # seconds, to see it run

An agent is a class with five methods: `scores`, `act`, `update`, `state_dict` and `load_state_dict`. It is made as
`MyAgent(catalog, frame_size=..., seed=..., device=..., **config)`, learns from batches of item indices and rewards, and
never sees a user it is judged on. Rankers without updates are shorter: a class with `fit(log)` and `scores(history)`,
or a plain function as at the end of this file. Nothing is registered; `--agent` imports what it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from agents.base import resolve_device, to_tensor
from recgym import Batch, Catalog, History
from recgym.frames import last_events


class MyAgent:
    """Says what comes next from the mean of the last items' vectors: a matrix and a bias, trained by cross-entropy.

    Args:
        catalog: The items and their vectors; index `n_items` is padding, a zero row of `catalog.table`.
        frame_size: How many last events to look at.
        seed: Whatever is random here must follow from it.
        device: `"auto"`, `"cpu"`, `"cuda"` ...
        lr: Whatever else you need comes from `--config`.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        frame_size: int = 10,
        seed: int = 0,
        device: str | torch.device = "auto",
        lr: float = 1e-2,
    ) -> None:
        self.item_ids, self.reward = catalog.item_ids, catalog.reward  # evaluation checks that they are those asked for
        self.device = resolve_device(device)
        self.n_items, self.frame_size = catalog.n_items, frame_size
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.tensor(catalog.table, device=self.device)  # (n_items + 1, d)
        start = 0.1 * torch.randn(catalog.dim, catalog.dim, generator=generator)
        self.matrix = nn.Parameter(start.to(self.device))  # (d, d)
        self.bias = nn.Parameter(torch.zeros(catalog.n_items, device=self.device))
        self.optimizer = torch.optim.Adam([self.matrix, self.bias], lr=lr)

    def logits(self, items: Any) -> torch.Tensor:
        """Returns scores (B, n_items) of what shall come after items (B, F)."""
        past = self.table[to_tensor(items, self.device).long()].mean(dim=1)  # (B, d)
        return past @ self.matrix @ self.table[:-1].T + self.bias

    @torch.no_grad()
    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items), larger for what is rather recommended. Histories are padded on the left."""
        items, _ = last_events(history, self.frame_size, self.n_items)
        return self.logits(items)

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns what to do: items (B,) int, or vectors (B, d) in -1..1."""
        return self.scores(history).argmax(dim=1)

    def update(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Learns from a batch; returns its losses as 0-d tensors."""
        loss = functional.cross_entropy(self.logits(batch.items), to_tensor(batch.action, self.device).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a run must remember to go on as if it had not stopped."""
        weights = {"matrix": self.matrix.detach(), "bias": self.bias.detach()}
        return {**weights, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes such a state over."""
        self.matrix.data.copy_(state["matrix"])
        self.bias.data.copy_(state["bias"])
        self.optimizer.load_state_dict(state["optimizer"])


def newest_again(history: History, catalog: Catalog) -> np.ndarray:
    """Scores items (B, n_items) by their likeness to the newest one: `--agent benchmarks.template_agent:newest_again`.

    Args:
        history: B pasts, padded on the left with `n_items`; the newest event is the last column.
        catalog: Leave this argument out if you need no item vectors.
    """
    return np.asarray(catalog.table[np.asarray(history.items)[:, -1]] @ catalog.embeddings.T)
