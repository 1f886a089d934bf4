"""What stands at the end of a network whose outputs are items: softmax heads, full or adaptive, and nets that have one.

A head has `log_probs(hidden) -> (B, n_items)` and `log_prob(hidden, items) -> (B,)`, the latter for one item a row.
All but the adaptive one can also be asked for `some` items alone, and estimate `log_prob` from items that were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agents.networks.layers import Dropout
from agents.networks.softmax_loss import LARGE, drawn_policy
from recgym.errors import DataError

HEADS = ("linear", "vectors", "adaptive")


class LinearHead(nn.Module):
    """A softmax whose items have free weights, as wide as what comes in."""

    def __init__(self, width: int, n_items: int) -> None:
        super().__init__()
        self.last = nn.Linear(width, n_items)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns one number per item (B, n_items)."""
        scores: torch.Tensor = self.last(hidden)
        return scores

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns log probabilities (B, n_items)."""
        return functional.log_softmax(self(hidden), dim=1)

    def log_prob(self, hidden: torch.Tensor, items: torch.Tensor, drawn: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the log probability (B,) of one item per row; of items `drawn` uniformly (n,) an estimate of it."""
        if drawn is None:
            return -functional.cross_entropy(self(hidden), items, reduction="none")
        scores = self.some(hidden, items[:, None], drawn).float()  # (B, 1 + n)
        return drawn_policy(scores, drawn == items[:, None], self.n_items)[0]

    @property
    def n_items(self) -> int:
        """Items it has a number for."""
        return len(self.rows()[1])

    def query(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns what items' rows are multiplied with (B, w)."""
        return hidden

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what it knows of every item: a row (n_items, w) and a number (n_items,)."""
        return self.last.weight, self.last.bias

    def some(self, hidden: torch.Tensor, items: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Returns numbers (B, m + n) of m items of each row's own (B, m), and of n items that all have in common (n,).

        No other item is looked at.
        """
        query, (table, bias), n = self.query(hidden), self.rows(), items.numel()
        places = torch.cat([items.flatten(), drawn])
        rows, free = functional.embedding(places, table), bias[places]
        own = (rows[:n].unflatten(0, items.shape) @ query[..., None]).squeeze(2) + free[:n].view_as(items)  # (B, m)
        return torch.cat([own, query @ rows[n:].t() + free[n:]], dim=1)

    def mean(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the mean number (B, 1) of all items, without making them."""
        table, bias = self.rows()
        return (self.query(hidden) @ table.mean(dim=0) + bias.mean())[:, None]


class VectorHead(LinearHead):
    """A softmax over inner products with known item vectors, plus a free number per item.

    Args:
        width: Width of what comes in.
        vectors: Item vectors (n_items, d); they are not learned, and no part of the state.
    """

    vectors: torch.Tensor

    def __init__(self, width: int, vectors: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.last = nn.Linear(width, vectors.shape[1])
        self.bias = nn.Parameter(torch.zeros(len(vectors)))
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns one number per item (B, n_items)."""
        return torch.addmm(self.bias, self.last(hidden), self.vectors.t())

    def query(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns what item vectors are multiplied with (B, d)."""
        query: torch.Tensor = self.last(hidden)
        return query

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the vectors (n_items, d) and free numbers (n_items,) of items."""
        return self.vectors, self.bias


class AdaptiveHead(nn.Module):
    """A softmax in clusters: frequent items at full width, rarer ones at a fraction of it, so that most cost little.

    Source: Grave et al. (2017), Efficient softmax approximation for GPUs, ICML; torch's `AdaptiveLogSoftmaxWithLoss`.

    Args:
        width: Width of what comes in.
        order: Item indices (n_items,), the most frequent first; a wrong order costs time and quality, nothing else.
        cutoffs: Where clusters begin in that order; by default at a 20th, a 10th and a third of the items.
        div_value: By how much each cluster is narrower than the one before.

    Raises:
        DataError: if `width` is too small for the last cluster to have any.
    """

    place: torch.Tensor

    def __init__(
        self, width: int, order: torch.Tensor, cutoffs: Sequence[int] | None = None, div_value: float = 4.0
    ) -> None:
        super().__init__()
        n_items = len(order)
        cutoffs = cutoffs or sorted({max(n_items // part, 1) for part in (20, 10, 3)})
        narrowest = width // div_value ** len(cutoffs)
        if narrowest < 1:
            raise DataError(
                f"width must be at least div_value ** clusters = {div_value ** len(cutoffs):g}, got {width}; "
                "widen the hidden layer, or give fewer cutoffs or a smaller div_value"
            )
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(width, n_items, list(cutoffs), div_value)
        self.register_buffer("place", torch.argsort(order))  # (n_items,) where each item stands in the order

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns log probabilities (B, n_items); costs as much as a full softmax."""
        log_probs: torch.Tensor = self.softmax.log_prob(hidden)
        return log_probs[:, self.place]

    def log_prob(self, hidden: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Returns the log probability (B,) of one item per row; touches the clusters of these items only."""
        output: torch.Tensor = self.softmax(hidden, self.place[items]).output
        return output


def default_head(n_items: int) -> str:
    """Returns `"linear"`, or `"vectors"` above 10,000 items: free weights of all would be most of an update there."""
    return "linear" if n_items <= LARGE else "vectors"


def make_head(name: str | None, width: int, vectors: torch.Tensor) -> Any:
    """Returns a fresh head over the items whose vectors (n_items, d) are given.

    `"vectors"` scores by these vectors, `"linear"` by free weights. `"adaptive"` takes their lengths for the order of
    frequency: those fitted to a log are the longer the more often an item was consumed. None is `default_head`.

    Raises:
        DataError: if the name is unknown.
    """
    name = default_head(len(vectors)) if name is None else name
    if name == "vectors":
        return VectorHead(width, vectors)
    if name == "linear":
        return LinearHead(width, len(vectors))
    if name == "adaptive":
        return AdaptiveHead(width, vectors.norm(dim=1).argsort(descending=True, stable=True))
    raise DataError(f"head must be one of {', '.join(HEADS)}, got {name!r}; choose one of them")


class DiscreteActor(nn.Module):
    """A stochastic policy over items: state -> hidden -> hidden -> softmax, ReLU between.

    Args:
        state_dim: Width of a state.
        head: The softmax over items; takes `hidden` numbers.
        hidden: Width of both hidden layers.
        dropout: Share of hidden units dropped while training.
    """

    def __init__(self, state_dim: int, head: nn.Module, hidden: int = 256, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(state_dim, hidden), nn.Linear(hidden, hidden)
        self.dropout = Dropout(dropout)
        self.head: Any = head

    def hidden(self, state: torch.Tensor) -> torch.Tensor:
        """Returns what the head is given (B, hidden)."""
        units = self.dropout(functional.relu(self.first(state)))
        return self.dropout(functional.relu(self.second(units)))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities (B, n_items) of all items."""
        log_probs: torch.Tensor = self.head.log_probs(self.hidden(state))
        return log_probs

    def log_prob(self, state: torch.Tensor, items: torch.Tensor, *drawn: torch.Tensor) -> torch.Tensor:
        """Returns the log probability (B,) of one item per row, or of items drawn (n,) an estimate of it."""
        log_prob: torch.Tensor = self.head.log_prob(self.hidden(state), items, *drawn)
        return log_prob


class Beta(nn.Module):
    """A behaviour policy, what the log's items were shown by: state -> hidden -> softmax, ReLU between.

    Args:
        state_dim: Width of a state.
        head: The softmax over items; takes `hidden` numbers.
        hidden: Width of the hidden layer.
    """

    def __init__(self, state_dim: int, head: nn.Module, hidden: int = 256) -> None:
        super().__init__()
        self.first = nn.Linear(state_dim, hidden)
        self.head: Any = head

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities (B, n_items) of all items."""
        log_probs: torch.Tensor = self.head.log_probs(functional.relu(self.first(state)))
        return log_probs

    def log_prob(self, state: torch.Tensor, items: torch.Tensor, *drawn: torch.Tensor) -> torch.Tensor:
        """Returns the log probability (B,) of one item per row, or of items drawn (n,) an estimate of it."""
        log_prob: torch.Tensor = self.head.log_prob(functional.relu(self.first(state)), items, *drawn)
        return log_prob
