"""Training of recurrent user models: windows of histories, one member of the ensemble after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from recgym.users.fitted import training_loop as loop
from recgym.users.fitted.factor_training import drawn_weights
from recgym.users.fitted.recurrent import AnswerNet, Recurrent

if TYPE_CHECKING:
    from recgym.users.fitted.fit_options import SequentialOptions, Task

_DECAY = 0.9  # of the step size, from epoch to epoch
_LARGEST = 1.0  # norm of a gradient


class Windows(NamedTuple):
    """Pieces of histories, T events each at most; every event is asked about in one of them."""

    events: np.ndarray  # (n, T) int64: event of the log, -1 where there is none
    asked: np.ndarray  # (n, T) bool: whether this is the window that asks about it


def windows(offsets: np.ndarray, length: int) -> Windows:
    """Returns windows of at most `length` events; all but a user's first begin with a quarter that is only read.

    Args:
        offsets: Of users (n_users + 1,).
        length: T, 4 or more.

    Example:
        >>> made = windows(np.array([0, 3, 8]), 4)
        >>> made.events.tolist()
        [[0, 1, 2, -1], [3, 4, 5, 6], [6, 7, -1, -1]]
        >>> made.asked.tolist()[2]
        [False, True, False, False]
    """
    context = length // 4
    lengths = np.diff(offsets)
    further = np.maximum(-(-(lengths - length) // (length - context)), 0)  # windows after the first
    counts = np.where(lengths > 0, 1 + further, 0)
    user = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    events = (offsets[user] + number * (length - context))[:, None] + np.arange(length)
    real = events < offsets[user + 1][:, None]
    asked = real & ((number == 0)[:, None] | (np.arange(length) >= context))
    return Windows(np.where(real, events, -1), asked)


class SequentialLearner:
    """One recurrent network in training; see `recgym.users.fitted.training_loop`.

    The answer to an event is predicted from the events before it in its window. While training, the levels of held-out
    events are hidden in what is read; when validating, all that came before an event is known.

    Args:
        task: What is to be learned.
        options: How.
        member: Which member; each has a seed of its own.
        held: Which events are held out (n_events,) bool.
        luck: Whether the weights of events are drawn.
    """

    def __init__(self, task: Task, options: SequentialOptions, member: int, held: np.ndarray, luck: bool) -> None:
        log = task.log
        self.task, self.options, self.seed = task, options, task.seed + 7919 * member
        self.windows = windows(log.offsets, options.max_length)
        weights = task.weights
        if luck:
            draw = torch.Generator().manual_seed(self.seed)
            weights = weights * drawn_weights(log.n_events, 1, draw).numpy()[:, 0]
        unknown = np.where(held, task.n_levels, task.levels)
        columns = {"items": log.items, "levels": task.levels, "read": unknown, "held": held, "missed": task.missed}
        self.columns = {name: torch.tensor(np.asarray(c), device=task.device) for name, c in columns.items()}
        self.columns["weights"] = torch.tensor(np.asarray(weights, dtype=np.float32), device=task.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = AnswerNet(log.n_items, task.n_levels, options.dim, options.hidden, options.dropout)
        self.net = net.to(task.device)
        self.tensors: dict[str, torch.Tensor] = dict(self.net.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.tensors.values(), lr=options.lr, weight_decay=options.weight_decay, fused=True
        )
        self._validating = np.flatnonzero((self.windows.asked & held[self.windows.events]).any(axis=1))

    def epoch(self, number: int) -> None:
        """Passes once over all windows."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * _DECAY**number
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1_000_003 * (number + 1))
            self.net.train()
            for rows in self._batches():
                loss, weight = self._losses(rows, held=False)
                self.optimizer.zero_grad(set_to_none=True)
                (loss.sum() / weight.sum().clamp_min(1e-6) + self._penalty()).backward()
                torch.nn.utils.clip_grad_norm_(self.tensors.values(), _LARGEST)
                self.optimizer.step()

    def _batches(self) -> list[np.ndarray]:
        """Returns all windows in a random order of batches; those of a batch are about equally long."""
        order = torch.randperm(len(self.windows.events)).numpy()
        lengths = (self.windows.events >= 0).sum(axis=1)
        size = self.options.batch_size
        alike = [
            part[np.argsort(lengths[part], kind="stable")]
            for part in np.split(order, range(size * 16, len(order), size * 16))
        ]
        batches = [rows for part in alike for rows in np.array_split(part, max(1, round(len(part) / size)))]
        return [batches[place] for place in torch.randperm(len(batches)).tolist()]

    @torch.no_grad()
    def validation_loss(self) -> np.ndarray:
        """Returns the mean of -log P of the held-out answers (1,)."""
        self.net.eval()
        total = weighed = 0.0
        for rows in np.array_split(self._validating, max(1, len(self._validating) // 256)):
            loss, weight = self._losses(rows, held=True)
            total, weighed = total + float(loss.sum()), weighed + float(weight.sum())
        return np.array([total / weighed])

    def _penalty(self) -> torch.Tensor:
        """Returns the pull of what is learned of every item towards zero."""
        squares = self.net.items.weight.square().sum() + self.net.item_levels.weight.square().sum()
        return self.options.l2 / (2 * self.task.log.n_events) * squares

    def _losses(self, rows: np.ndarray, held: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns weighted losses and weights of the events that some windows ask about, held out or not."""
        events = self.windows.events[rows]
        width = int((events >= 0).sum(axis=1).max())
        device = self.task.device
        place = torch.as_tensor(np.maximum(events[:, :width], 0), device=device)
        real = torch.as_tensor(events[:, :width] >= 0, device=device)
        columns = self.columns
        items = torch.where(real, columns["items"][place].long(), self.net.items.num_embeddings - 1)
        hidden = self.net.remember(items, columns["levels" if held else "read"][place])
        before = functional.pad(hidden[:, :-1], (0, 0, 1, 0))  # (B, T, H): what is known when the event is asked about
        asked = torch.as_tensor(self.windows.asked[rows][:, :width], device=device) & (columns["held"][place] == held)
        event = place[asked]  # (n,)
        missed = columns["missed"][event]  # (n, m)
        shown = torch.cat([items[asked][:, None], missed.clamp_min(0)], dim=1)  # (n, 1 + m)
        levels = torch.cat([columns["levels"][event][:, None], torch.zeros_like(missed)], dim=1)
        weight = columns["weights"][event][:, None] * torch.cat([torch.ones_like(event)[:, None], missed >= 0], dim=1)
        loss = functional.cross_entropy(self.net.logits(before[asked], shown).mT, levels, reduction="none")
        return loss * weight, weight


def fit_sequential(task: Task, options: SequentialOptions) -> tuple[Recurrent, dict[str, Any]]:
    """Returns the ensemble of a task, and what was chosen by validation."""
    nobody = np.zeros(task.log.n_events, dtype=bool)

    def place(name: str) -> Path | None:
        return None if task.folder is None else task.folder / name

    with task.bar("validation") as bar:
        searched = SequentialLearner(task, options, 0, task.held, luck=False)
        course = loop.search(
            searched, options.max_epochs, options.patience, place("validation"), task.about, bar.update
        )
    nets = []
    with task.bar("members", course.n_epochs * options.n_members) as bar:
        for member in range(options.n_members):
            learner = SequentialLearner(task, options, member, nobody, luck=options.n_members > 1)
            loop.run(learner, course.n_epochs, place(f"member-{member}"), task.about | {"member": member}, bar.update)
            nets.append(learner.net)
    answers = Recurrent(nets, np.zeros((task.log.n_users, options.n_members * options.hidden), np.float32), task.device)
    answers.memories = _memories(answers, task, options.max_length)
    return answers, {"n_epochs": course.n_epochs, "validation log-loss": float(course.losses.min())}


def _memories(answers: Recurrent, task: Task, length: int) -> np.ndarray:
    """Returns what is remembered of every user's last `length` events (n_users, M * H) float32."""
    log = task.log
    made = []
    for begin in range(0, log.n_users, 256):
        ends = log.offsets[begin + 1 : begin + 257]
        known = np.minimum(log.lengths[begin : begin + 256], length)
        events = ends[:, None] + np.arange(-length, 0)
        events = np.where(np.arange(length) >= length - known[:, None], events, 0)
        made.append(answers.of_history(log.items[events].astype(np.int64), task.levels[events], known))
    return np.concatenate(made)
