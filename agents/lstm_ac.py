"""An advantage actor-critic over items whose actor and critic each read the frame by an LSTM of their own.

Source: "What Next?" (D. Wooten, 2020, github.com/ddwooten/insight_2020_ai): an LSTM that emits a vector of a song's
features, and an LSTM that judges it. The update is that of Sutton and Barto (2018), Reinforcement learning, section
13.5, with the entropy bonus of Mnih et al. (2016), Asynchronous methods for deep reinforcement learning, section 4.
For the item a that was shown in a state s we lower
    critic:  mean( (y - V(s))**2 )                        y = r + gamma * V(s'), or r if the session was terminated
    actor:   - mean( rho * A * log pi(a|s) ) / scale      A = y - V(s)
             - entropy_weight * mean( H(pi(.|s)) )  -  bc_weight * imitation
and no gradient passes through y, rho, A or the scale, so that with `off_policy=False, normalise=False` and the last
line's weights at 0 the actor's is the gradient of mean( A log pi ) (equation 13.14). The policy pi is the softmax over
the inner products of the actor's vector with all item vectors, and one free number per item.
Where we differ:
- In the source the two networks' losses reached no weight, and the song's features had to be hit exactly. Here the item
  is drawn from the softmax, which has a gradient, and the value is that of the state, as in any actor-critic.
- The source reads the LSTM after the padding, our encoder at the newest event. `encoder=` takes any other.
- On logs nobody draws from pi. There rho = min(n_items * pi(a|s), 1) is the importance weight, cut off at 1 (Espeholt
  et al. 2018, IMPALA, section 4.2), as if the log's items had been shown at random: without it, what is worse than
  expected is pushed down without end. The policy also imitates the logged item, the more the better its reward was,
  and advantages are brought to a mean magnitude of 1 (`normalise`). In an environment take `off_policy=False,
  bc_weight=0` and a small buffer, as nothing corrects for its age. For a learned behaviour policy see REINFORCE.
- Above 10,000 items the softmax is estimated from 1,000 drawn uniformly (`n_negatives`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from agents.item_agent import Frames, ItemAgent, ItemAgentConfig, ItemDecisions
from agents.networks.hyperparameters import count, not_negative, share
from agents.networks.layers import Critic, descend
from agents.networks.softmax_heads import DiscreteActor, make_head
from agents.networks.softmax_loss import drawn_policy
from agents.networks.state_encoders import make_encoder
from agents.networks.whole_batch import mean_of, shares_of
from agents.training.train import Run, command, train_agent
from recgym.frames import Batch


@dataclass(frozen=True)
class Config(ItemAgentConfig):
    """Hyperparameters of the LSTM actor-critic, with those of `ItemAgentConfig`."""

    encoder: str = "lstm"  # how frames become states, see agents.networks.state_encoders
    head: str = "vectors"  # what makes one number per item of the actor's vector, see agents.networks.softmax_heads
    gamma: float = share(0.5)  # discount per step
    actor_lr: float = not_negative(1e-3)  # Adam's step size for the actor
    critic_lr: float = not_negative(1e-3)  # Adam's step size for the critic
    off_policy: bool = (
        True  # whether decisions count rho, as if items had been shown at random; False: as pi shows them
    )
    # Items drawn for an update's softmax, in place of all; 0 takes all, None all but of catalogs above 10,000.
    n_negatives: int | None = count(None)
    normalise: bool = True  # whether advantages are divided by their batch's mean magnitude
    entropy_weight: float = not_negative(0.01)  # weight of the policy's entropy
    bc_weight: float = not_negative(1.0)  # weight of imitating the logged item
    bc_reward: float = 2.0  # imitation of a decision counts exp(bc_reward * reward), over the batch's sum of it


PAPER: dict[str, Any] = {
    "n_negatives": 0,
    "off_policy": False,
    "normalise": False,
    "entropy_weight": 0.0,
    "bc_weight": 0.0,
    "gamma": 0.99,
    "dropout": 0.0,
    "max_norm": None,
    "reward_scale": 1.0,
}


class OnFrames(nn.Module):
    """A network behind an encoder of its own: takes frames as encoders do, (vectors, rewards, length, user)."""

    def __init__(self, encoder: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, *frames: Any) -> torch.Tensor:
        """Returns what the network makes of the states."""
        made: torch.Tensor = self.network(self.encoder(*frames))
        return made

    def log_prob_and_entropy(
        self, frames: Frames, items: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns log probabilities (B,) of an item per frame, and entropies (B,), estimated from drawn items (n,)."""
        actor: Any = self.network
        scores = actor.head.some(actor.hidden(self.encoder(*frames)), items[:, None], drawn).float()  # (B, 1 + n)
        return drawn_policy(scores, drawn == items[:, None], actor.head.n_items)


class Networks(NamedTuple):
    """The networks of the LSTM actor-critic; both take frames."""

    actor: nn.Module  # to log probabilities (B, n_items)
    critic: nn.Module  # to values (B,)


class Optimizers(NamedTuple):
    """One optimizer for each network, its LSTM included."""

    actor: torch.optim.Optimizer
    critic: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last."""
    options = {"width": config.width, "n_users": config.n_users}
    readers: list[Any] = [make_encoder(config.encoder, table.shape[1], frame_size, **options) for _ in range(2)]
    head = make_head(config.head, config.hidden, table[:-1])
    actor = DiscreteActor(readers[0].out_dim, head, config.hidden, config.dropout)
    critic = Critic(readers[1].out_dim, 0, config.hidden)  # of a state, and no action
    return Networks(OnFrames(readers[0], actor), OnFrames(readers[1], critic))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the actor and for the critic."""
    actor = nets.actor.parameters()
    return Optimizers(
        actor=torch.optim.AdamW(actor, lr=config.actor_lr, weight_decay=config.weight_decay, fused=True),
        critic=torch.optim.Adam(nets.critic.parameters(), lr=config.critic_lr, fused=True),
    )


def lstm_ac_update(
    batch: ItemDecisions,
    nets: Networks,
    optimizers: Optimizers,
    config: Config,
    *,
    drawn: torch.Tensor | None = None,
    learn: bool = True,
) -> dict[str, torch.Tensor]:
    """Makes one step of the actor-critic, or only measures its losses; returns 0-d tensors, with no host sync.

    Args:
        batch: Decisions with their vectors.
        nets: Networks to change.
        optimizers: One for the actor, one for the critic.
        config: Hyperparameters.
        drawn: Items (n,) drawn uniformly that the softmax is estimated from; None takes all.
        learn: Whether to change anything.
    """
    nets.critic.train(learn)
    value = nets.critic(*batch.frames)  # (B,)
    nets.critic.eval()
    with torch.no_grad():
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = batch.reward + config.gamma * goes_on * nets.critic(*batch.next_frames)  # (B,)
        advantage = target - value  # (B,)
        scale = mean_of(advantage.abs()).clamp(min=1e-6) if config.normalise else 1.0
    critic_loss = functional.mse_loss(value, target)

    nets.actor.train(learn)
    actor: Any = nets.actor
    if drawn is None:
        log_pi = actor(*batch.frames).float()  # (B, n_items)
        logged = log_pi.gather(1, batch.action[:, None]).squeeze(1)  # (B,) log pi(a|s)
        entropy, n_items = -(log_pi.exp() * log_pi).sum(dim=1).mean(), log_pi.shape[1]
    else:
        logged, entropies = actor.log_prob_and_entropy(batch.frames, batch.action, drawn)  # (B,) each
        entropy, n_items = entropies.mean(), actor.network.head.n_items
    nets.actor.eval()
    bc_loss = -(shares_of(config.bc_reward * batch.reward) * logged).sum()
    rho = (n_items * logged.detach().exp()).clamp(max=1.0) if config.off_policy else 1.0  # (B,)
    policy_loss = -(rho * advantage * logged).mean() / scale
    actor_loss = policy_loss - config.entropy_weight * entropy + config.bc_weight * bc_loss
    if learn:
        descend(critic_loss, nets.critic, optimizers.critic, config.max_norm)
        descend(actor_loss, nets.actor, optimizers.actor, config.max_norm)
    losses = {"actor_loss": actor_loss, "critic_loss": critic_loss, "policy_loss": policy_loss, "bc_loss": bc_loss}
    losses |= {"entropy": entropy, "value": value.mean(), "advantage": advantage.mean()}
    return {name: loss.detach() for name, loss in losses.items()}


class LSTMActorCritic(ItemAgent):
    """An LSTM actor-critic over items; see the head of this file, and `ItemAgent` for its arguments."""

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns the policy's log probabilities (B, n_items)."""
        log_probs: torch.Tensor = self.nets.actor(*frames)
        return log_probs

    def step(self, batch: Batch, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update, or only measures its losses."""
        decisions, drawn = self.look_up(batch), self.drawn()
        return lstm_ac_update(decisions, self.nets, self.optimizers, self.config, drawn=drawn, learn=learn)


def main(run: Run, config: Config) -> None:
    """Trains the LSTM actor-critic on a log and prints how it ranks for held-out users."""
    train_agent(LSTMActorCritic, run, config)


if __name__ == "__main__":
    command(main)
