"""Training of matrix factorisations with ordered answers, several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from recgym.users.fitted import training_loop as loop

if TYPE_CHECKING:
    from recgym.users.fitted.fit_options import FactorOptions, Task

BIAS_SHARE = 0.2  # pull of biases towards their start, as a share of that of the vectors
LUCK = 0.5  # share of an event's weight that is drawn, for members of an ensemble
_DECAY = 0.9  # of the step size, from epoch to epoch
_LEAST = 1e-6  # probability below which an answer's does not count as smaller


def fit_factors(task: Task, options: FactorOptions) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays of the ensemble (see `FactorsLearner.arrays`), and what was chosen by validation."""
    every = np.ones(task.log.n_events, dtype=bool)

    def place(name: str) -> Path | None:
        return None if task.folder is None else task.folder / name

    with task.bar("validation") as bar:
        searched = FactorsLearner(task, options, ~task.held, np.array(options.l2), members=False)
        course = loop.search(
            searched, options.max_epochs, options.patience, place("validation"), task.about, bar.update
        )
    l2 = options.l2[course.column]
    with task.bar("members", course.n_epochs) as bar:
        pulls = np.full(options.n_members, l2)
        learner = FactorsLearner(task, options, every, pulls, members=options.n_members > 1)
        loop.run(learner, course.n_epochs, place("members"), task.about | {"l2": l2}, bar.update)
    chosen = {"n_epochs": course.n_epochs, "chosen l2": l2, "validation log-loss": float(course.losses.min())}
    return learner.arrays(), chosen


class FactorsLearner:
    """G matrix factorisations of the same log, each with its own pull towards zero; see `training_loop`.

    The answer of user u to item i is at most level l with probability `sigmoid(t_l - s)`, where
    `s = b_u + b_i + <p_u, q_i>`: an ordered logit, and plain logistic factorisation where there are two levels.
    Minimised is, over the n events with weights w,

        mean(-w * log P(level)) + l2 / (2 n) * (|p|**2 + |q|**2 + BIAS_SHARE * (|b - a|**2))

    where a are the biases' anchors. Gradients are written out: `d(-log P)/ds = 1 - F(t_l - s) - F(t_(l-1) - s)`, with
    F the sigmoid.

    Args:
        task: What is to be learned.
        options: How; of its `l2` and `n_members` the next two arguments count.
        kept: Which events are fitted (n_events,) bool; `task.held` validate.
        l2: Pull of each column (G,).
        members: Whether columns shall differ, about as posterior draws do: by weights of events, half of each drawn
            from an exponential distribution, and by anchors of the biases drawn from their prior, which sum to zero
            over the columns.

    Source: ordered answers as in Koren and Sill, "OrdRec", RecSys 2011, section 4, with thresholds common to all
        users; weights after Rubin, "The Bayesian bootstrap", 1981, drawn by half; anchors: Pearce et al., "Uncertainty
        in neural networks: approximately Bayesian ensembling", AISTATS 2020.
    """

    def __init__(self, task: Task, options: FactorOptions, kept: np.ndarray, l2: np.ndarray, members: bool) -> None:
        self.task, self.dim, self.n_columns, self.lr = task, options.dim, len(l2), options.lr
        self.training, self.held_out = (_events(task, rows) for rows in (kept, task.held))
        n, g, device = len(self.training[0]), self.n_columns, task.device
        self.batch_size = options.batch_size or int(np.clip(n // 50, 64, 8192))
        draw = torch.Generator().manual_seed(task.seed)
        pull = torch.as_tensor(l2, dtype=torch.float32)
        self.luck = drawn_weights(n, g, draw).to(device) if members else None
        self.pull = (pull / n).to(device)  # (G,)
        rows = {"users": task.log.n_users, "items": task.log.n_items}
        start = {
            name: options.dim**-0.5 * 0.1 * torch.randn(m, g * options.dim, generator=draw) for name, m in rows.items()
        }
        spread = (BIAS_SHARE * pull).rsqrt() if members else torch.zeros(g)
        self.anchors = {
            name: (spread * _centred(torch.randn(m, g, generator=draw))).to(device) for name, m in rows.items()
        }
        share = np.bincount(self.training[2].cpu().numpy(), minlength=task.n_levels) + 1.0
        below = np.cumsum(share)[:-1] / share.sum()
        thresholds = torch.tensor(np.log(below / (1 - below)), dtype=torch.float32)[:, None].repeat(1, g)
        self.tensors: dict[str, torch.Tensor] = {name: tensor.to(device) for name, tensor in start.items()}
        self.tensors |= {f"{name} biases": anchors.clone() for name, anchors in self.anchors.items()}
        self.tensors["thresholds"] = thresholds.to(device)  # (L - 1, G)
        for tensor in self.tensors.values():
            tensor.grad = torch.zeros_like(tensor)
        self.optimizer = torch.optim.Adam(self.tensors.values(), lr=options.lr, betas=(0.9, 0.99), fused=True)

    def epoch(self, number: int) -> None:
        """Passes once over the training events."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * _DECAY**number
        n = len(self.training[0])
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.task.seed + 1_000_003 * (number + 1)))
        for rows in torch.tensor_split(order.to(self.task.device), max(1, round(n / self.batch_size))):
            self._update(rows)

    @torch.no_grad()
    def validation_loss(self) -> np.ndarray:
        """Returns the mean of -log P of the held-out answers, for every column (G,)."""
        users, items, levels, weights = self.held_out
        total = torch.zeros(self.n_columns, device=self.task.device)
        for rows in torch.arange(len(users), device=self.task.device).split(1 << 16):
            above, below, _, _ = self._chances(users[rows], items[rows], levels[rows])
            total -= ((above - below).clamp_min(_LEAST).log() * weights[rows, None]).sum(dim=0)
        return (total / weights.sum()).cpu().numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns `users` (n_users, G, dim + 2), `items` (n_items, G, dim + 2) and `thresholds` (G, L - 1) float32.

        The inner product of a row of users and one of items is s, biases included.
        """
        made = {}
        for name in ("users", "items"):
            vectors = self.tensors[name].view(-1, self.n_columns, self.dim)
            bias = self.tensors[f"{name} biases"][:, :, None]
            ones = torch.ones_like(bias)
            parts = (vectors, bias, ones) if name == "users" else (vectors, ones, bias)
            made[name] = torch.cat(parts, dim=2).cpu().numpy()
        return made | {"thresholds": np.ascontiguousarray(self.tensors["thresholds"].T.cpu().numpy())}

    @torch.no_grad()
    def _update(self, rows: torch.Tensor) -> None:
        users, items, levels, weights = (column[rows] for column in self.training)
        weights = weights[:, None] if self.luck is None else weights[:, None] * self.luck[rows]  # (B, 1 or G)
        weights = weights / len(rows)
        above, below, p, q = self._chances(users, items, levels)
        slope = weights * (1.0 - above - below)  # (B, G) of the loss by s
        grad = {name: tensor.grad for name, tensor in self.tensors.items() if tensor.grad is not None}
        for each in grad.values():
            each.zero_()
        grad["users"].index_add_(0, users, (slope[:, :, None] * q).view(len(rows), -1))
        grad["items"].index_add_(0, items, (slope[:, :, None] * p).view(len(rows), -1))
        grad["users biases"].index_add_(0, users, slope)
        grad["items biases"].index_add_(0, items, slope)
        steep = weights / (above - below).clamp_min(_LEAST)
        edges = torch.zeros(self.task.n_levels + 1, self.n_columns, device=self.task.device)  # with both infinities
        edges.index_add_(0, levels + 1, -steep * above * (1.0 - above))
        edges.index_add_(0, levels, steep * below * (1.0 - below))
        grad["thresholds"] += edges[1:-1]
        pull = self.pull.repeat_interleave(self.dim)
        for name, anchors in self.anchors.items():
            grad[name].addcmul_(pull, self.tensors[name])
            grad[f"{name} biases"].addcmul_(BIAS_SHARE * self.pull, self.tensors[f"{name} biases"] - anchors)
        self.optimizer.step()

    def _chances(
        self, users: torch.Tensor, items: torch.Tensor, levels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns P(at most the level) and P(below it), (B, G) each, and vectors p and q (B, G, dim)."""
        shape = (len(users), self.n_columns, self.dim)
        p = functional.embedding(users, self.tensors["users"]).view(shape)
        q = functional.embedding(items, self.tensors["items"]).view(shape)
        s = (p * q).sum(dim=2) + self.tensors["users biases"][users] + self.tensors["items biases"][items]  # (B, G)
        far = torch.full((1, self.n_columns), torch.inf, device=self.task.device)
        edges = torch.cat([-far, self.tensors["thresholds"], far])  # (L + 1, G)
        return torch.sigmoid(edges[levels + 1] - s), torch.sigmoid(edges[levels] - s), p, q


def drawn_weights(n: int, g: int, draw: torch.Generator) -> torch.Tensor:
    """Returns weights of n events for each of g members (n, g), 1 on average."""
    return torch.empty(n, g).exponential_(generator=draw).mul_(LUCK).add_(1.0 - LUCK)


def _centred(draws: torch.Tensor) -> torch.Tensor:
    """Returns draws (m, G) that sum to zero in every row and keep their variance; zeros where G is 1."""
    g = draws.shape[1]
    return (draws - draws.mean(dim=1, keepdim=True)) * (g / max(g - 1, 1)) ** 0.5


def _events(task: Task, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns users, items, levels and weights of some events (n_events,) bool, and of what was missed beside them."""
    columns = [task.log.event_users()[rows], task.log.items[rows], task.levels[rows], task.weights[rows]]
    event, place = np.nonzero(task.missed[rows] >= 0)
    items = task.missed[rows][event, place]
    beside = [columns[0][event], items, np.zeros(len(event), dtype=np.int64), columns[3][event]]
    joined = [np.concatenate(pair) for pair in zip(columns, beside, strict=True)]
    users, items, levels = (torch.tensor(column, dtype=torch.int64, device=task.device) for column in joined[:3])
    return users, items, levels, torch.tensor(joined[3], dtype=torch.float32, device=task.device)
