"""Dueling double DQN over items, learned from logs with a conservative term.

Papers: Mnih et al. (2015), Human-level control through deep reinforcement learning, Nature 518; van Hasselt et al.
(2016), Deep reinforcement learning with double Q-learning, AAAI, equation 4; Wang et al. (2016), Dueling network
architectures, ICML, equation 9; Kumar et al. (2020), Conservative Q-learning, NeurIPS, equation 4.
For the logged item a of a state s we lower
    mean( (Q(s, a) - r - gamma * Q'(s', a'))**2 )  +  conservative * mean( log sum_b exp Q(s, b) - Q(s, a) )
where a' is the item of largest Q in s' that its frame does not hold, and Q' the slow copy, which values it.
Where we differ:
- The conservative term is what makes it work on logs: nothing else says anything of items the log does not show in a
  state, and the maximum seeks out those that are overrated. Being a softmax over Q, it is also the cross-entropy of the
  logged item.
- Hidden units drop out while it learns, and gamma is another. `preset="paper"` is the plain dueling double DQN; see the
  class for what it sets.
- Items of the frame are never the next action, as they are never shown again; `mask_seen=False` allows them.
- Above 10,000 items an update looks at 1,000 drawn uniformly (`n_negatives`): the conservative term is estimated from
  them and the logged item, and a' is the best of them and of the items that the batch's decisions took.
- Targets move by a share at every update, as in DDPG, not all the way now and then.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from agents.item_agent import Frames, ItemAgent, ItemAgentConfig, ItemDecisions, seen
from agents.networks.hyperparameters import count, not_negative, positive, share
from agents.networks.layers import Dropout, descend, follow
from agents.networks.softmax_heads import make_head
from agents.networks.softmax_loss import standing_for
from agents.networks.state_encoders import make_encoder
from agents.training.train import Run, command, train_agent
from recgym.errors import DataError
from recgym.frames import Batch


@dataclass(frozen=True)
class Config(ItemAgentConfig):
    """Hyperparameters of DQN, with those of `ItemAgentConfig`."""

    gamma: float = share(0.5)  # discount per step
    tau: float = share(0.005)  # share that the target moves towards the network at every update
    lr: float = positive(1e-3)  # Adam's step size
    conservative: float = not_negative(3.0)  # weight of the conservative term
    # Items drawn for an update, in place of all; 0 takes all, None all but of catalogs above 10,000.
    n_negatives: int | None = count(None)
    head: str = "vectors"  # what makes advantages, "linear" or "vectors", see agents.networks.softmax_heads
    temperature: float = positive(0.1)  # exploring draws an item from softmax(Q / temperature)


PAPER: dict[str, Any] = {
    "n_negatives": 0,
    "gamma": 0.99,
    "conservative": 0.0,
    "mask_seen": False,
    "dropout": 0.0,
    "reward_scale": 1.0,
}


class DuelingCritic(nn.Module):
    """Values of all items: the state's value plus each item's advantage over the mean one.

    Args:
        encoder: Makes states of frames; any of `agents.networks.state_encoders`.
        head: Makes one number per item of `hidden` numbers.
        hidden: Width of the hidden layers: two that advantages and value share.
        dropout: Share of hidden units dropped while training.
    """

    def __init__(self, encoder: Any, head: nn.Module, hidden: int = 256, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.first, self.second = nn.Linear(encoder.out_dim, hidden), nn.Linear(hidden, hidden)
        self.value, self.advantage = nn.Linear(hidden, 1), head
        self.dropout = Dropout(dropout)

    def forward(self, *frames: Any) -> torch.Tensor:
        """Returns values (B, n_items) for frames: vectors, rewards, lengths, users."""
        hidden = self.hidden(*frames)  # (B, hidden)
        advantage = self.advantage(hidden)  # (B, n_items)
        values: torch.Tensor = advantage + (self.value(hidden) - advantage.mean(dim=1, keepdim=True))
        return values

    def hidden(self, *frames: Any) -> torch.Tensor:
        """Returns what values and advantages are made of (B, hidden)."""
        units = self.dropout(functional.relu(self.first(self.encoder(*frames))))
        return self.dropout(functional.relu(self.second(units)))

    def some(self, frames: Frames, items: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Returns values (B, m + n) of m items of each frame's own (B, m), and of n that all have in common (n,)."""
        hidden, head = self.hidden(*frames), cast(Any, self.advantage)
        values: torch.Tensor = head.some(hidden, items, drawn) + (self.value(hidden) - head.mean(hidden))
        return values


class Networks(NamedTuple):
    """The network of DQN and its slow copy: frames to values (B, n_items)."""

    critic: nn.Module
    critic_target: nn.Module


class Optimizers(NamedTuple):
    """The optimizer of the network."""

    critic: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last.

    Raises:
        DataError: if an option is unknown.
    """
    if config.head == "adaptive":
        raise DataError(f"head must be one of linear, vectors, got {config.head!r}; values are no softmax")
    options = {"width": config.width, "n_users": config.n_users}
    encoder = make_encoder(config.encoder, table.shape[1], frame_size, **options)
    head = make_head(config.head, config.hidden, table[:-1])
    critic = DuelingCritic(encoder, head, config.hidden, config.dropout)
    return Networks(critic, copy.deepcopy(critic))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the network."""
    parameters = nets.critic.parameters()
    return Optimizers(torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True))


class DQN(ItemAgent):
    """Dueling double DQN over items; see the head of this file, and `ItemAgent` for its arguments."""

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns values (B, n_items): Q."""
        values: torch.Tensor = self.nets.critic(*frames)
        return values

    def step(self, batch: Batch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses."""
        decisions, drawn = self.look_up(batch), self.drawn()
        return dqn_update(decisions, self.nets, self.optimizers, self.config, drawn=drawn, learn=learn)


def dqn_update(
    batch: ItemDecisions,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    drawn: torch.Tensor | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of DQN, or only measures its losses; returns them as 0-d tensors, with no host sync.

    Args:
        batch: Decisions with their vectors.
        nets: Networks to change.
        optimizers: One for the network.
        config: Hyperparameters.
        drawn: Items (n,) drawn uniformly that it looks at, beside those of the batch; None takes all.
        learn: Whether to change anything.
    """
    with torch.no_grad():
        next_value = value_ahead(batch, nets, config, drawn)  # (B,)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = batch.reward + config.gamma * goes_on * next_value  # (B,)

    nets.critic.train(learn)
    logged = batch.action[:, None]  # (B, 1)
    if drawn is None:
        values = nets.critic(*batch.frames)  # (B, n_items)
        value = values.gather(1, logged).squeeze(1)  # (B,)
    else:
        critic: Any = nets.critic
        values = critic.some(batch.frames, logged, drawn)  # (B, 1 + n)
        value = values[:, 0]
        values = standing_for(values[:, :1], values[:, 1:], drawn == logged, critic.advantage.n_items)
    nets.critic.eval()
    td_loss = functional.mse_loss(value, target)
    conservative_loss = (values.logsumexp(dim=1) - value).mean()
    critic_loss = td_loss + config.conservative * conservative_loss
    if learn:
        descend(critic_loss, nets.critic, optimizers.critic, config.max_norm)
        follow(nets[:1], nets[1:], config.tau)
    losses = {"critic_loss": critic_loss, "td_loss": td_loss, "conservative_loss": conservative_loss}
    return {name: loss.detach() for name, loss in (losses | {"value": value.mean(), "target": target.mean()}).items()}


def value_ahead(batch: ItemDecisions, nets: Networks, config: Config, drawn: torch.Tensor | None) -> torch.Tensor:
    """Returns Q'(s', a') (B,): the next action is chosen by the network and valued by its slow copy."""
    frames, critic, slow = batch.next_frames, cast(Any, nets.critic), cast(Any, nets.critic_target)
    if drawn is None:
        values = critic(*frames)  # (B, n_items)
        if config.mask_seen:
            values = values.masked_fill(seen(batch.next_items, values.shape[1]), -torch.inf)
        best: torch.Tensor = slow(*frames).gather(1, values.argmax(dim=1, keepdim=True)).squeeze(1)
        return best
    offered, none = torch.cat([drawn, batch.action]), drawn[:0]  # (n + B,)
    values = critic.some(frames, none.expand(len(batch.action), 0), offered)  # (B, n + B)
    if config.mask_seen:
        values = values.masked_fill((batch.next_items[:, :, None] == offered).any(dim=1), -torch.inf)
    best = slow.some(frames, offered[values.argmax(dim=1)][:, None], none).squeeze(1)
    return best


def main(run: Run, config: Config) -> None:
    """Trains DQN on a log and prints how it ranks for held-out users."""
    train_agent(DQN, run, config)


if __name__ == "__main__":
    command(main)
