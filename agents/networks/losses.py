"""Parts of losses that agents with vector actions share; each algorithm's file says how it puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional

from agents.networks.configs import EmbeddingConfig
from agents.networks.softmax_loss import drawn_items, n_drawn, sampled_softmax_loss
from agents.networks.whole_batch import mean_of, shares_of


class Decisions(NamedTuple):
    """A batch with its vectors looked up: states in two parts, so that networks need no copy of them joined."""

    state: tuple[torch.Tensor, torch.Tensor]  # item vectors (B, F*d) and rewards (B, F)
    action: torch.Tensor  # (B,) int64 item index
    vector: torch.Tensor  # (B, d) what the critic knows of that item
    reward: torch.Tensor  # (B,)
    next_state: tuple[torch.Tensor, torch.Tensor]
    terminated: torch.Tensor  # (B,) bool


def within_range(target: torch.Tensor, config: EmbeddingConfig) -> torch.Tensor:
    """Returns value targets kept within what rewards in `config.reward_range` can add up to; as they are without it."""
    if config.reward_range is None:
        return target
    low, high = (bound / (1.0 - config.gamma) for bound in config.reward_range)
    return target.clamp(min(low, config.reward_range[0]), max(high, config.reward_range[1]))


def seen_by_critic(
    action: torch.Tensor,
    items: torch.Tensor,
    shown: torch.Tensor,
    config: EmbeddingConfig,
    generator: torch.Generator | None = None,
    *,
    sampled: bool = True,
) -> torch.Tensor:
    """Returns what critics are shown of vector actions (..., d): themselves, or the mean item they stand for.

    With `config.n_negatives` the mean is over that many items drawn uniformly, unless `sampled` is false: all stand for
    equally many, so their softmax needs no correction. It misses what is not drawn: where the softmax is sharp, as in a
    long action, a small share of the catalog tells little of it.
    """
    if config.critic_action == "vector":
        return action
    if sampled:
        items, shown = drawn_items(items, shown, config.n_negatives, generator)
    scores = config.temperature * (action @ items.T).float()  # (..., n_items)
    return (torch.softmax(scores, dim=-1) @ shown).float()  # (..., d)


def imitation_loss(
    action: torch.Tensor,
    logged: torch.Tensor,
    items: torch.Tensor,
    config: EmbeddingConfig,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Returns minus the log probability (B,) of the logged items (B,) under softmax(temperature * scores).

    With `config.n_negatives` it is estimated from that many items drawn uniformly (see `sampled_softmax_loss`).
    """
    n = n_drawn(config.n_negatives, len(items))
    if n == 0:
        scores = config.temperature * (action @ items.T).float()  # (B, n_items)
        return functional.cross_entropy(scores, logged, reduction="none")
    return sampled_softmax_loss(config.temperature * action, items, logged, n, generator)


def imitation_of_good(
    action: torch.Tensor,
    batch: Decisions,
    items: torch.Tensor,
    config: EmbeddingConfig,
    sharpness: float,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Returns the mean imitation loss of a batch; a decision counts exp(sharpness * reward), over the sum of those."""
    weight = shares_of(sharpness * batch.reward)  # (B,)
    return (weight * imitation_loss(action, batch.action, items, config, generator)).sum()


def squared_errors(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared errors of two critics' values (2, B) from their target (B,), added up."""
    return len(values) * functional.mse_loss(values, target.expand_as(values))


def detached(losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns losses without the graphs that made them."""
    return {name: loss.detach() for name, loss in losses.items()}


def scale_of(value: torch.Tensor) -> torch.Tensor:
    """Returns the mean |Q| of a batch, as a constant: what a value term is divided by to mean the same anywhere."""
    return mean_of(value.detach().abs()).clamp(min=1e-6)
