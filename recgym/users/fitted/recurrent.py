"""A recurrent network that reads what a user answered, and says how likely every level of the next answer is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class AnswerNet(nn.Module):
    """Events (item, level) -> GRU -> for every level a vector and a number; an item's chance is a softmax over levels.

    With h what is remembered and q an item, `logit_l = <A_l h, q> + c_l h + b_l(item)`: levels are not taken to be
    ordered, so they may be behaviours of different kinds.

    Source: GRU: Cho et al. (2014); one vector per kind of feedback, matched with the item, as in the user response
        model of KuaiSim, Zhao et al. (2023), with a softmax in place of separate sigmoids.

    Args:
        n_items: Items; n_items is padding.
        n_levels: L; as a level of the past, L means that it is not known.
        dim: Width of q and of what stands for a level.
        hidden: Width of h.
        dropout: Of q as read, and of h.
    """

    def __init__(self, n_items: int, n_levels: int, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_levels, self.dim, self.hidden = n_levels, dim, hidden
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=n_items)
        self.levels = nn.Embedding(n_levels + 1, dim)
        self.item_levels = nn.Embedding(n_items + 1, n_levels)
        self.gru = nn.GRU(2 * dim, hidden, batch_first=True)
        self.wants = nn.Linear(hidden, n_levels * (dim + 1))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.items.weight.mul_(dim**-0.5)
            self.levels.weight.mul_(dim**-0.5)
            self.item_levels.weight.zero_()

    def remember(self, items: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Returns h after every event (B, T, H) of pasts (B, T) that begin in the first column."""
        hidden: torch.Tensor = self.gru(self._events(items, levels))[0]
        return hidden

    def after(self, memory: torch.Tensor, items: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Returns h (B, H) after one more event (B,)."""
        return torch.gru_cell(self._events(items, levels), memory, *self.gru.all_weights[0])

    def logits(self, memory: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Returns (..., k, L) for h (..., H) and items (..., k)."""
        vectors, numbers = self._wants(memory)
        match = self.items(items) @ vectors.transpose(-1, -2)  # (..., k, L)
        return match + numbers[..., None, :] + self.item_levels(items)

    def logits_of_all(self, memory: torch.Tensor) -> torch.Tensor:
        """Returns (B, n_items, L) for h (B, H)."""
        vectors, numbers = self._wants(memory)
        match = torch.einsum("nd,bld->bnl", self.items.weight[:-1], vectors)
        return match + numbers[:, None] + self.item_levels.weight[:-1]

    def _wants(self, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a vector (..., L, d) and a number (..., L) per level."""
        wants = self.wants(self.dropout(memory)).unflatten(-1, (self.n_levels, self.dim + 1))
        return wants[..., :-1], wants[..., -1]

    def _events(self, items: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.dropout(self.items(items)), self.levels(levels)], dim=-1)


class Recurrent:
    """Answers by an ensemble of M recurrent networks; see `recgym.users.fitted.ensemble.Answers`.

    What is remembered of a session is h of every member, one after the other: (B, M * H). A step costs one step of the
    network, however long the history.

    Args:
        nets: Trained networks.
        memories: What is remembered of every user of the log (n_users, M * H) float32.
        device: Where to compute.
    """

    kind = "sequential"

    def __init__(self, nets: list[AnswerNet], memories: np.ndarray, device: str = "cpu") -> None:
        self.nets = [net.to(device).eval().requires_grad_(False) for net in nets]
        self.memories, self.device = memories, device
        self.memory_size = memories.shape[1]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], options: Mapping[str, Any], device: str) -> Recurrent:
        """Returns what `arrays` gave."""
        nets = []
        for member in range(options["n_members"]):
            own = {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith(f"{member}/")}
            n_items, n_levels = own["item_levels.weight"].shape
            net = AnswerNet(n_items - 1, n_levels, options["dim"], options["hidden"])
            net.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
            nets.append(net)
        return cls(nets, arrays["memories"], device)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all parameters by name."""
        weights = {
            f"{member}/{name}": tensor.cpu().numpy()
            for member, net in enumerate(self.nets)
            for name, tensor in net.state_dict().items()
        }
        return weights | {"memories": self.memories}

    def opening(self, users: np.ndarray) -> np.ndarray:
        """Returns what is remembered of users (R,) as a session opens (R, M * H)."""
        return self.memories[users]

    @torch.no_grad()
    def of_history(self, items: np.ndarray, levels: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Returns what is remembered of pasts (B, T), padded on the left, the last `length` real (B, M * H)."""
        width = items.shape[1]
        place = np.minimum(np.arange(width) + (width - length)[:, None], max(width - 1, 0))  # real ones to the front
        first = self._on(np.take_along_axis(items, place, axis=1)), self._on(np.take_along_axis(levels, place, axis=1))
        last = self._on(np.maximum(length - 1, 0))
        rows = torch.arange(len(items), device=self.device)
        known = self._on(length > 0)[:, None]
        return _joined([net.remember(*first)[rows, last] * known for net in self.nets])

    @torch.no_grad()
    def after(self, memory: np.ndarray, items: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Returns what is remembered (B, M * H) after answers of levels (B,) to items (B,)."""
        event = self._on(items), self._on(levels)
        return _joined([net.after(h, *event) for net, h in zip(self.nets, self._split(memory), strict=True)])

    @torch.no_grad()
    def below(self, memory: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns every member's chance of at most level 0, 1, ... L - 2 (B, k, M, L - 1) for items (B, k)."""
        shown = self._on(items)
        logits = [net.logits(h, shown) for net, h in zip(self.nets, self._split(memory), strict=True)]
        return _cumulated(logits)

    @torch.no_grad()
    def below_all(self, memory: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Returns the same for every item (B, n_items, M, L - 1)."""
        return _cumulated([net.logits_of_all(h) for net, h in zip(self.nets, self._split(memory), strict=True)])

    def _split(self, memory: np.ndarray) -> tuple[torch.Tensor, ...]:
        return self._on(memory).chunk(len(self.nets), dim=1)

    def _on(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return tensor.to(self.device, torch.float32 if tensor.is_floating_point() else torch.int64)


def _joined(parts: list[torch.Tensor]) -> np.ndarray:
    return np.asarray(torch.cat(parts, dim=1).cpu().numpy())


def _cumulated(logits: list[torch.Tensor]) -> np.ndarray:
    """Returns the chances of at most each level but the last (B, k, M, L - 1) of logits (B, k, L) per member."""
    chances = functional.softmax(torch.stack(logits, dim=2), dim=3)
    return np.asarray(chances.cumsum(dim=3)[..., :-1].cpu().numpy())
