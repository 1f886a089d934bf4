"""REINFORCE over items, learned from logs: plain, off-policy corrected, and corrected for lists of K items.

Paper: Chen et al. (2019), Top-K off-policy correction for a REINFORCE recommender system, WSDM, sections 4.2 to 4.4.
For the logged item a of a state s, with its return R, policy pi and behaviour policy beta, we lower
    - mean( gain * log pi(a|s) ) / scale  -  bc_weight * mean( log pi(a|s) )
    gain   = weight * top_k * (R - baseline)
    weight = min(pi(a|s) / beta(a|s), weight_cap)      1 if `correction` is "none"
    top_k  = K * (1 - pi(a|s)) ** (K - 1)              1 unless it is "top_k"
    scale  = mean |gain|                               1 unless `normalise`
and no gradient passes through a gain, so that without cap, baseline, scale and imitation it is the gradient of
mean(R log pi), of mean(R pi / beta), or of mean(R alpha / beta) with alpha = 1 - (1 - pi)**K, the probability that a
stands in a list of K items drawn from pi.
Beta is learned on the logged items by cross-entropy, from the policy's state but without a gradient into it.
Where we differ:
- Hidden units drop out while the policy learns; importance weights and K's factor are those of the policy without.
- A constant baseline below all returns: a log tells what was consumed, and to push a disliked item out of a policy that
  is still near uniform teaches little and has no end.
- The policy also imitates the logged item. Off-policy weights alone reward items that beta thinks rare, whatever the
  user's taste. Gains are brought to a mean of 1, so that imitation's weight means the same under every correction and
  any scale of rewards.
- Above 10,000 items softmaxes are estimated from 1,000 drawn uniformly, the same for policy and beta (`n_negatives`).
- Weights are cut off at 2, where the paper has e**3; they are not normalised. `gamma=0` makes it a bandit: it learns
  from each reward alone. `preset="paper"` is the paper's update, with its K and cap and a gamma that it does
  not name; see the class for what it sets.
In an environment take `correction="off_policy", baseline=None, bc_weight=0`, returns (`gamma` above 0) and a small
buffer: it learns of decisions once their sessions have ended, and beta makes up for their age. Beta must be ahead of
the policy: with equal step sizes and no imitation, a log with one frequent item can teach that item alone, as weights
are then those of a beta that has not learned; a `beta_lr` of ten times `actor_lr` found the best item where equal ones
did not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from agents.item_agent import Frames, ItemAgent, ItemAgentConfig, ItemDecisions
from agents.networks.hyperparameters import at_least_one, count, not_negative, positive, share
from agents.networks.layers import descend
from agents.networks.softmax_heads import Beta, DiscreteActor, make_head
from agents.networks.state_encoders import make_encoder
from agents.training.off_policy import check_correction, gains
from agents.training.replay import ReplayBuffer
from agents.training.session_replay import returns_buffer
from agents.training.train import Run, command, train_agent
from recgym.batches import FrameBatches
from recgym.errors import DataError
from recgym.frames import Batch
from recgym.log import InteractionLog


@dataclass(frozen=True)
class Config(ItemAgentConfig):
    """Hyperparameters of REINFORCE, with those of `ItemAgentConfig`."""

    correction: Literal["none", "off_policy", "top_k"] = "top_k"  # which of the three forms
    k: int = at_least_one(10)  # K, items of a list
    weight_cap: float = positive(2.0)  # importance weights are cut off here
    # Subtracted from every return: a number, "lowest" for the lower of -1 and the batch's lowest, None for its mean.
    baseline: float | Literal["lowest"] | None = "lowest"
    normalise: bool = True  # whether gains are divided by their batch's mean magnitude
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    # Discount of the returns that batches have; 0 learns from the reward alone and needs none.
    gamma: float = share(0.0)
    actor_lr: float = not_negative(1e-3)  # Adam's step size for encoder and policy
    beta_lr: float = not_negative(1e-3)  # Adam's step size for the behaviour policy
    # Items drawn for an update's softmaxes, in place of all; 0 takes all, None all but of catalogs above 10,000.
    n_negatives: int | None = count(None)

    def __post_init__(self) -> None:
        check_correction(self.correction, self.baseline)


PAPER: dict[str, Any] = {
    "n_negatives": 0,
    "baseline": 0.0,
    "normalise": False,
    "bc_weight": 0.0,
    "weight_cap": math.exp(3.0),
    "k": 16,
    "gamma": 0.99,
    "dropout": 0.0,
    "max_norm": None,
    "reward_scale": 1.0,
}


class Networks(NamedTuple):
    """The networks of REINFORCE."""

    encoder: nn.Module
    actor: Any  # with `log_prob(state, items)`, see `DiscreteActor`
    beta: Any  # the same, see `Beta`


class Optimizers(NamedTuple):
    """One optimizer for encoder and policy together, one for the behaviour policy."""

    actor: torch.optim.Optimizer
    beta: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last."""
    options = {"width": config.width, "n_users": config.n_users}
    encoder: Any = make_encoder(config.encoder, table.shape[1], frame_size, **options)
    heads = [make_head(config.head, config.hidden, table[:-1]) for _ in range(2)]
    actor = DiscreteActor(encoder.out_dim, heads[0], config.hidden, config.dropout)
    return Networks(encoder, actor, Beta(encoder.out_dim, heads[1], config.hidden))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for encoder and policy, and for the behaviour policy."""
    both = [*nets.encoder.parameters(), *nets.actor.parameters()]
    return Optimizers(
        actor=torch.optim.AdamW(both, lr=config.actor_lr, weight_decay=config.weight_decay, fused=True),
        beta=torch.optim.Adam(nets.beta.parameters(), lr=config.beta_lr, fused=True),
    )


class REINFORCE(ItemAgent):
    """Off-policy REINFORCE over items; see the head of this file, and `ItemAgent` for its arguments."""

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns the policy's log probabilities (B, n_items)."""
        log_probs: torch.Tensor = self.nets.actor(self.nets.encoder(*frames))
        return log_probs

    def step(self, batch: Batch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses."""
        decisions, drawn = self.look_up(batch), self.drawn()
        return reinforce_update(decisions, self.nets, self.optimizers, self.config, drawn=drawn, learn=learn)

    def make_buffer(self, capacity: int, frame_size: int, seed: int = 0) -> ReplayBuffer:
        """Returns the buffer this agent learns from in an environment: with returns, if it has a `gamma`."""
        return returns_buffer(self.config.gamma, capacity, frame_size, seed)

    def batches(self, log: InteractionLog, batch_size: int, seed: int = 0, later: float = 0.0) -> FrameBatches:
        """Returns what this agent learns from: frames, with returns if it has a `gamma`."""
        gamma = self.config.gamma if self.config.gamma > 0 else None
        return FrameBatches(log, self.frame_size, batch_size, seed, later=later, gamma=gamma, device=self.device)


def reinforce_update(
    batch: ItemDecisions,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    drawn: torch.Tensor | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of REINFORCE, or only measures its losses; returns them as 0-d tensors, with no host sync.

    Args:
        batch: Decisions with their vectors.
        nets: Networks to change.
        optimizers: One for encoder and policy, one for the behaviour policy.
        config: Hyperparameters.
        drawn: Items (n,) drawn uniformly that softmaxes are estimated from; None takes all.
        learn: Whether to change anything.

    Raises:
        DataError: if `config.gamma` is above 0 and the batch has no returns.
    """
    returns = batch.returns if config.gamma > 0 else batch.reward
    if returns is None:
        raise DataError(
            f"with gamma={config.gamma} a batch must have returns, got none; make it by FrameBatches(..., gamma=...)"
        )
    asked = (batch.action,) if drawn is None else (batch.action, drawn)
    for net in (nets.encoder, nets.actor):
        net.train(learn)
    state = nets.encoder(*batch.frames)  # (B, s)
    log_pi = nets.actor.log_prob(state, *asked)  # (B,)
    for net in (nets.encoder, nets.actor):
        net.eval()
    nets.beta.train(learn)
    log_beta = nets.beta.log_prob(state.detach(), *asked)  # (B,)
    nets.beta.eval()
    beta_loss = -log_beta.mean()

    settled = log_pi
    if learn and config.dropout > 0.0:  # what a decision counts is the policy's, not that of one draw of its units
        with torch.no_grad():
            settled = nets.actor.log_prob(nets.encoder(*batch.frames), *asked)  # (B,)
    gain, weight, top_k = gains(settled, log_beta, returns, config)  # (B,)
    actor_loss = -(gain * log_pi).mean() - config.bc_weight * log_pi.mean()
    if learn:
        descend(actor_loss, (nets.encoder, nets.actor), optimizers.actor, config.max_norm)
        descend(beta_loss, nets.beta, optimizers.beta, config.max_norm)
    losses = {"actor_loss": actor_loss, "beta_loss": beta_loss, "bc_loss": -log_pi.mean()}
    losses |= {"weight": weight.mean(), "top_k": top_k.mean()}
    return {name: loss.detach() for name, loss in losses.items()}


def main(run: Run, config: Config) -> None:
    """Trains REINFORCE on a log and prints how it ranks for held-out users."""
    train_agent(REINFORCE, run, config)


if __name__ == "__main__":
    command(main)
