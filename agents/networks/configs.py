"""Hyperparameters that agents of one kind share; each algorithm adds its own in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.networks.hyperparameters import at_least_one, below_one, count, not_negative, positive, share


@dataclass(frozen=True)
class EmbeddingConfig:
    """Hyperparameters that agents with vector actions share; each algorithm adds its own."""

    gamma: float = share(0.5)  # discount per step
    tau: float = share(0.005)  # share that targets move towards their networks at every update
    actor_lr: float = not_negative(1e-3)  # Adam's step size for the actor
    critic_lr: float = not_negative(1e-3)  # Adam's step size for critics
    encoder: str = "flat"  # how frames become states, see networks.state_encoders; each network has its own
    width: int = at_least_one(64)  # of the encoder's hidden vectors
    hidden: int = at_least_one(256)  # width of the hidden layers
    # Last layer starts uniform in plus or minus this; None keeps torch's own.
    actor_init: float | None = not_negative(3e-3)
    critic_init: float | None = not_negative(3e-3)  # the same for critics
    weight_decay: float = not_negative(0.0)  # decoupled weight decay of the actor
    dropout: float = below_one(0.5)  # share of the actor's hidden units dropped while it learns
    # What networks see item vectors multiplied by; None makes their numbers unit.
    input_scale: float | None = positive(None)
    max_norm: float | None = positive(10.0)  # gradients longer than this are shortened to it; None never
    mapper: Literal["inner", "cosine"] = "inner"  # how an action scores items
    temperature: float = positive(6.0)  # sharpness of the softmax over scores
    critic_action: Literal["expected_item", "vector"] = "expected_item"  # what critics see of an action
    # Items drawn for each softmax over items while learning; 0 takes all, None all but of catalogs above `LARGE`.
    n_negatives: int | None = count(None)
    # What networks see rewards multiplied by; None: the log's largest becomes 1.
    reward_scale: float | None = positive(None)
    reward_range: tuple[float, float] | None = None  # known bounds of the log's: value targets stay within their sum
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32
    compile: bool = False  # whether networks are compiled by torch.compile


@dataclass(frozen=True)
class ItemAgentConfig:
    """Hyperparameters that agents share which look at frames through a state encoder; each algorithm adds its own."""

    encoder: str = "flat"  # how frames become states, see agents.networks.state_encoders
    width: int = at_least_one(64)  # of the encoder's hidden vectors
    hidden: int = at_least_one(256)  # width of the hidden layers
    # What makes one number per item, see agents.networks.softmax_heads; None: "linear", above 10,000 items "vectors".
    head: str | None = None
    # Users that "drr" and "attention" learn a vector for, by index in the training log; all others have one in common.
    # A log of held-out people counts from 0 again: score those with `user=None`, or each gets a stranger's vector.
    n_users: int = count(0)
    dropout: float = below_one(0.5)  # share of hidden units dropped while learning
    weight_decay: float = not_negative(0.0)  # decoupled weight decay
    max_norm: float | None = positive(10.0)  # gradients longer than this are shortened to it; None never
    mask_seen: bool = True  # whether items of the history are left out of what is shown
    temperature: float = positive(1.0)  # exploring draws an item from softmax(scores / temperature)
    # What networks see rewards multiplied by; None: the log's largest becomes 1.
    reward_scale: float | None = positive(None)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32
