"""Causal cores, which read events in order: (B, L, width), oldest event first, to what is known at each (B, L, width).

None of them looks ahead. Sequences whose real events stand at the front, padding behind them, therefore need no mask:
`to_front` moves them there.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from agents.networks.layers import Dropout
from recgym.errors import DataError

CORES = ("transformer", "gated", "convolution", "gru", "lstm")


def make_core(
    name: str, width: int, max_length: int, n_layers: int = 1, n_heads: int = 1, dropout: float = 0.0
) -> nn.Module:
    """Returns a causal core, one of `CORES`: (B, L, width) to (B, L, width)."""
    if name not in CORES:
        raise DataError(f"core must be one of {', '.join(CORES)}, got {name!r}; choose one of them")
    if name in ("transformer", "gated"):
        return CausalTransformer(width, max_length, n_layers, n_heads, dropout, gated=name == "gated")
    if name == "convolution":
        return CausalConvolution(width, max_length, dropout=dropout)
    return Recurrent(name, width, n_layers)


class Recurrent(nn.Module):
    """A GRU or an LSTM, its output at every event."""

    def __init__(self, kind: str, width: int, n_layers: int = 1) -> None:
        super().__init__()
        self.layers = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](width, width, n_layers, batch_first=True)

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        """Returns hidden vectors (B, L, width)."""
        hidden: torch.Tensor = self.layers(events)[0]
        return hidden


class CausalTransformer(nn.Module):
    """A transformer whose events see those before them and themselves, with learned positions.

    Norms come after each addition, or with `gated` before what is added, and a last one at the end.

    Source: Kang and McAuley (2018), Self-attentive sequential recommendation, ICDM, section 3; its feed-forward layer
    is as wide as its vectors. We normalise after each addition, and drop out no attention weights.
    """

    def __init__(
        self,
        width: int,
        max_length: int,
        n_layers: int = 1,
        n_heads: int = 1,
        dropout: float = 0.0,
        *,
        gated: bool = False,
    ) -> None:
        super().__init__()
        if width % n_heads:
            raise DataError(f"width must be a multiple of n_heads, got {width} and {n_heads}; change one of them")
        self.positions = nn.Parameter(torch.randn(max_length, width) * 0.02)
        self.dropout = Dropout(dropout)
        block = _Gated if gated else _Block
        self.blocks = nn.ModuleList(block(width, n_heads, dropout) for _ in range(n_layers))
        self.last = nn.LayerNorm(width) if gated else nn.Identity()

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        """Returns hidden vectors (B, L, width), L at most `max_length`."""
        hidden = self.dropout(events + self.positions[: events.shape[1]])
        for block in self.blocks:
            hidden = block(hidden)
        found: torch.Tensor = self.last(hidden)
        return found


def _attended(parts: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Returns what each event finds up to itself (B, L, width); parts (B, L, 3 * width) are query, key, value."""
    n_rows, n_events, width = parts.shape[0], parts.shape[1], parts.shape[2] // 3
    query, key, value = parts.view(n_rows, n_events, 3, n_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, w / heads)
    found = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return found.transpose(1, 2).reshape(n_rows, n_events, width)


class _Gated(nn.Module):
    """Attention whose norm is multiplied by a gate of its own, in place of a feed-forward layer, and added.

    Source: Zhai et al. (2024), Actions speak louder than words, ICML, equations 1 to 3 (HSTU's unit); attention is a
    softmax here, and knows neither time nor relative places.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.wide, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        width = hidden.shape[2]
        gate, parts = functional.silu(self.wide(self.norms[0](hidden))).split([width, 3 * width], dim=2)
        added: torch.Tensor = self.dropout(self.out(gate * self.norms[1](_attended(parts, self.n_heads))))
        return hidden + added


class _Block(nn.Module):
    """Attention and two linear layers, each added to its input and normalised."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        found = self.out(_attended(self.attention(hidden), self.n_heads))
        hidden = self.norms[0](hidden + self.dropout(found))
        return self.norms[1](hidden + self.dropout(self.narrow(functional.relu(self.wide(hidden)))))


class CausalConvolution(nn.Module):
    """Dilated causal convolutions, each added to its input; layer i looks back (kernel - 1) * 2**i events.

    Source: Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling, arXiv:1803.01271, section 3; one convolution per layer and no weight normalisation here.
    """

    def __init__(self, width: int, max_length: int, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        n_layers = max(math.ceil(math.log2((max_length - 1) / (kernel - 1) + 1)), 1)  # so that all events are seen
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel, dilation=2**i) for i in range(n_layers))
        self.back = [(kernel - 1) * 2**i for i in range(n_layers)]
        self.dropout = Dropout(dropout)

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        """Returns hidden vectors (B, L, width)."""
        hidden = events.transpose(1, 2)  # (B, width, L)
        for layer, back in zip(self.layers, self.back, strict=True):
            hidden = hidden + self.dropout(functional.relu(layer(functional.pad(hidden, (back, 0)))))
        return hidden.transpose(1, 2)


def to_front(events: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Returns sequences (B, L, ...) padded on the left with their real events moved to the front, padding behind."""
    n_rows, n_events = events.shape[:2]
    places = torch.arange(n_events, device=events.device) + n_events - length[:, None]  # (B, L)
    return events[torch.arange(n_rows, device=events.device)[:, None], places % n_events]
