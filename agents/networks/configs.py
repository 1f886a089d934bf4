"""Hyperparameters that agents of one kind share; each algorithm adds its own in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EmbeddingConfig:
    """Hyperparameters that agents with vector actions share; each algorithm adds its own."""

    gamma: float = 0.5  # discount per step
    tau: float = 0.005  # share that targets move towards their networks at every update
    actor_lr: float = 1e-3  # Adam's step size for the actor
    critic_lr: float = 1e-3  # Adam's step size for critics
    encoder: str = "flat"  # how frames become states, see networks.state_encoders; each network has its own
    width: int = 64  # of the encoder's hidden vectors
    hidden: int = 256  # width of the hidden layers
    actor_init: float | None = 3e-3  # last layer starts uniform in plus or minus this; None keeps torch's own
    critic_init: float | None = 3e-3  # the same for critics
    weight_decay: float = 0.0  # decoupled weight decay of the actor
    dropout: float = 0.5  # share of the actor's hidden units dropped while it learns
    input_scale: float | None = None  # what networks see item vectors multiplied by; None makes their numbers unit
    max_norm: float | None = 10.0  # gradients longer than this are shortened to it; None never
    mapper: Literal["inner", "cosine"] = "inner"  # how an action scores items
    temperature: float = 6.0  # sharpness of the softmax over scores
    critic_action: Literal["expected_item", "vector"] = "expected_item"  # what critics see of an action
    # Items drawn for each softmax over items while learning; 0 takes all, None all but of catalogs above `LARGE`.
    n_negatives: int | None = None
    reward_scale: float | None = None  # what networks see rewards multiplied by; None: the log's largest becomes 1
    reward_range: tuple[float, float] | None = None  # known bounds of the log's: value targets stay within their sum
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32
    compile: bool = False  # whether networks are compiled by torch.compile


@dataclass(frozen=True)
class ItemAgentConfig:
    """Hyperparameters that agents share which look at frames through a state encoder; each algorithm adds its own."""

    encoder: str = "flat"  # how frames become states, see agents.networks.state_encoders
    width: int = 64  # of the encoder's hidden vectors
    hidden: int = 256  # width of the hidden layers
    head: str = "linear"  # what makes one number per item, see agents.networks.softmax_heads
    # Users that "drr" and "attention" learn a vector for, by index in the training log; all others have one in common.
    # A log of held-out people counts from 0 again: score those with `user=None`, or each gets a stranger's vector.
    n_users: int = 0
    dropout: float = 0.5  # share of hidden units dropped while learning
    weight_decay: float = 0.0  # decoupled weight decay
    max_norm: float | None = 10.0  # gradients longer than this are shortened to it; None never
    mask_seen: bool = True  # whether items of the history are left out of what is shown
    temperature: float = 1.0  # exploring draws an item from softmax(scores / temperature)
    reward_scale: float | None = None  # what networks see rewards multiplied by; None: the log's largest becomes 1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # of the matrix products of updates; recommending is fp32
