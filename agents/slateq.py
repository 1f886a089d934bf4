"""SlateQ: the value of a slate from the values of its items and a model of which of them is answered.

Paper: Ie et al. (2019), SlateQ: a tractable decomposition for reinforcement learning with recommendation sets, IJCAI,
and its longer version arXiv:1905.12767, sections 4 and 5. With P(i | s, A) the probability that item i of slate A is
answered, and the item-wise values Qbar(s, i) = r + gamma * V(s') of what was answered,
    Q(s, A) = sum_i P(i | s, A) Qbar(s, i),    V(s) = max_A Q(s, A).
P is a conditional logit of learned appeal, with nothing answered as one alternative, and is learned beside the values.
`slates` says how the maximum is found, by the names of the paper: `"top_k"` takes the items of largest v(s, i) times
value, `"greedy"` fills places one by one with what adds most, and `"optimal"` solves the fractional linear program
exactly (by Dinkelbach's iteration, whose fixed point is the program's optimum). `target_slates` does so for V(s').
Where we differ:
- Qbar(s, i) is q0(s) + a(s, i), with q0 the value of no answer, so that an item's gain over none is learned by itself.
  One answer a slate is the paper's case; where there are several (`choice="independent"`: each place is answered by
  itself, places have biases of their own), gains add up, and top_k is exact. `"top_k"` ranks gains, not whole values.
- The next slate is chosen by the network and valued by its slow copy, as in double Q-learning.
- Gradients are shortened and rewards brought to a size of 1; `preset="paper"` does neither.
- Exploring shows, with probability `epsilon` a session and step, a slate drawn at random.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from agents.base import to_tensor
from agents.item_agent import FrameConfig, Frames, ItemAgent
from agents.networks.hyperparameters import at_least_one, below_one, positive, share
from agents.networks.layers import Dropout, descend, follow
from agents.networks.softmax_heads import VectorHead
from agents.networks.state_encoders import make_encoder
from agents.training.slates import SlateBatch, SlateBuffer
from agents.training.train import command
from agents.training.worlds import WorldRun, train_in_world
from recgym.frames import History

_ROUNDS = 20  # of Dinkelbach's iteration, which needs a handful


@dataclass(frozen=True)
class Config(FrameConfig):
    """Hyperparameters of SlateQ, with those of `FrameConfig`."""

    k: int = at_least_one(3)  # items of a slate
    gamma: float = share(0.98)  # discount per step
    tau: float = share(0.01)  # share that the target moves towards the network at every update
    lr: float = positive(1e-3)  # Adam's step size
    encoder: str = "drr"
    dropout: float = below_one(0.0)
    mask_seen: bool = False
    choice: Literal["logit", "independent"] = "logit"  # how places are answered, see the head of this file
    slates: Literal["top_k", "greedy", "optimal"] = "optimal"  # how slates to show are found
    target_slates: Literal["top_k", "greedy", "optimal"] = "optimal"  # and those that values are learned of
    epsilon: float = share(0.1)  # share of slates drawn at random when exploring


PAPER: dict[str, Any] = {"choice": "logit", "target_slates": "optimal", "max_norm": None, "reward_scale": 1.0}


class Judgement(NamedTuple):
    """What SlateQ thinks of B states."""

    appeal: torch.Tensor  # (B, n_items) logit of being answered
    gain: torch.Tensor  # (B, n_items) a: worth of an answer over none
    none: torch.Tensor  # (B,) q0: worth of no answer


class SlateCritic(nn.Module):
    """Appeal and gain of all items, and the worth of no answer: one tower for what is chosen, one for what it is worth.

    Args:
        dim: Width of item vectors.
        frame_size: F.
        vectors: Item vectors (n_items, d).
        config: Hyperparameters.
    """

    def __init__(self, dim: int, frame_size: int, vectors: torch.Tensor, config: Config) -> None:
        super().__init__()
        options = {"width": config.width, "n_users": config.n_users}
        self.encoders = nn.ModuleList(make_encoder(config.encoder, dim, frame_size, **options) for _ in range(2))
        width, hidden = cast(int, self.encoders[0].out_dim), config.hidden
        layers = [[nn.Linear(width, hidden), nn.ReLU(), Dropout(config.dropout)] for _ in range(2)]
        self.towers = nn.ModuleList(nn.Sequential(*some, nn.Linear(hidden, hidden), nn.ReLU()) for some in layers)
        self.appeal, self.gain = VectorHead(hidden, vectors), VectorHead(hidden, vectors)
        self.none = nn.Linear(hidden, 1)
        self.places = nn.Parameter(torch.zeros(config.k))  # what a place adds to appeal, where places differ

    def forward(self, *frames: Any) -> Judgement:
        """Returns what it thinks of frames: vectors, rewards, lengths, users."""
        chosen, worth = (tower(encoder(*frames)) for tower, encoder in zip(self.towers, self.encoders, strict=True))
        return Judgement(self.appeal(chosen), self.gain(worth), self.none(worth)[:, 0])


class Networks(NamedTuple):
    """The network of SlateQ and its slow copy."""

    critic: nn.Module
    critic_target: nn.Module


class Optimizers(NamedTuple):
    """The optimizer of the network."""

    critic: torch.optim.Optimizer


def make_networks(table: torch.Tensor, frame_size: int, config: Config) -> Networks:
    """Returns fresh networks for items with the given vectors (n_items + 1, d), padding last."""
    critic = SlateCritic(table.shape[1], frame_size, table[:-1], config)
    return Networks(critic, copy.deepcopy(critic))


def make_optimizers(nets: Networks, config: Config) -> Optimizers:
    """Returns Adam for the network."""
    parameters = nets.critic.parameters()
    return Optimizers(torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True))


class SlateQ(ItemAgent):
    """SlateQ over items; see the head of this file, and `ItemAgent` for its arguments. It acts in slates of `k`."""

    presets = MappingProxyType({"paper": PAPER})
    make_config, make_networks, make_optimizers = Config, staticmethod(make_networks), staticmethod(make_optimizers)
    make_buffer = SlateBuffer

    @property
    def k(self) -> int:
        """Items of a slate."""
        return int(self.config.k)

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns (B, n_items) what ranks single items: probability of an answer, shown alone, times its gain."""
        judged = self.nets.critic(*frames)
        return torch.sigmoid(judged.appeal) * judged.gain

    @torch.no_grad()
    def slates(self, history: History, allowed: Any = None) -> torch.Tensor:
        """Returns the slates to show (B, k) int64, of items that may be: `allowed` (B, n_items) bool, None for all."""
        judged = self.nets.critic(*self.frames_of(history))
        offered = torch.ones_like(judged.gain, dtype=torch.bool)
        offered = offered if allowed is None else to_tensor(allowed, self.device)
        return best_slates(judged, offered, self.k, self.config.choice, self.config.slates)

    @torch.no_grad()
    def act(  # type: ignore[override]  # its slates have the k it was made with
        self, history: History, *, explore: bool = False, allowed: Any = None
    ) -> torch.Tensor:
        """Returns slates (B, k) int64, or items (B,) if k=1: the best, or with `explore` now and then any at random."""
        slates = self.slates(history, allowed)
        if not explore:
            return slates[:, 0] if self.k == 1 else slates
        drawn = torch.rand(len(slates), self.catalog.n_items, generator=self.generator, device=self.device)
        if allowed is not None:
            drawn = drawn.masked_fill(~to_tensor(allowed, self.device), -1.0)
        some = torch.rand(len(slates), 1, generator=self.generator, device=self.device) < self.config.epsilon
        slates = torch.where(some, drawn.topk(self.k, dim=1).indices, slates)
        return slates[:, 0] if self.k == 1 else slates

    def step(self, batch: Any, learn: bool) -> Mapping[str, torch.Tensor]:
        """Makes one update on a `SlateBatch`, or only measures its losses."""
        return slateq_update(self.look_at_slates(batch), self.nets, self.optimizers, self.config, learn=learn)

    def look_at_slates(self, batch: SlateBatch) -> SlateDecisions:
        """Returns the batch on the device with its vectors."""
        n_items = self.catalog.n_items
        items, later = (to_tensor(part, self.device).long() for part in (batch.items, batch.next_items))
        frames, next_frames = (
            self.look_at(part, rewards, (part != n_items).sum(dim=1), batch.user)
            for part, rewards in ((items, batch.rewards), (later, batch.next_rewards))
        )
        offered = torch.ones(len(items), n_items + 1, dtype=torch.bool, device=self.device)
        if batch.candidates is not None:
            offered = torch.zeros_like(offered).scatter_(1, to_tensor(batch.candidates, self.device).long(), True)
        return SlateDecisions(
            frames,
            to_tensor(batch.action, self.device).long(),
            to_tensor(batch.answered, self.device).bool(),
            self._reward(batch.reward),
            next_frames,
            offered[:, :-1],
            to_tensor(batch.terminated, self.device).bool(),
        )


class SlateDecisions(NamedTuple):
    """A batch of slates with its vectors looked up."""

    frames: Frames
    slate: torch.Tensor  # (B, k) int64
    answered: torch.Tensor  # (B, k) bool
    reward: torch.Tensor  # (B,)
    next_frames: Frames
    offered: torch.Tensor  # (B, n_items) bool: what may be shown next
    terminated: torch.Tensor  # (B,) bool


def slateq_update(
    batch: SlateDecisions, nets: Networks, optimizers: Optimizers, config: Config, *, learn: bool = True
) -> dict[str, torch.Tensor]:
    """Makes one step of SlateQ, or only measures its losses; returns them as 0-d tensors, with no host sync."""
    with torch.no_grad():
        ahead = nets.critic(*batch.next_frames)
        slate = best_slates(ahead, batch.offered, config.k, config.choice, config.target_slates)  # (B, k)
        next_value = slate_value(nets.critic_target(*batch.next_frames), slate, config.choice)  # (B,)
        goes_on = (~batch.terminated).float()  # a truncated session would have gone on: it bootstraps too
        target = batch.reward + config.gamma * goes_on * next_value  # (B,)
    nets.critic.train(learn)
    judged = nets.critic(*batch.frames)
    places: Any = nets.critic.places
    nets.critic.eval()
    shown = batch.slate.clamp(max=judged.gain.shape[1] - 1)
    gain = judged.gain.gather(1, shown)  # (B, k)
    value = judged.none + (gain * batch.answered).sum(dim=1)  # (B,)
    td_loss = functional.mse_loss(value, target)
    appeal = judged.appeal.gather(1, shown) + (places if config.choice == "independent" else 0.0)
    answered = batch.answered.float()
    if config.choice == "independent":
        choice_loss = functional.binary_cross_entropy_with_logits(appeal, answered)
    else:  # nothing answered is one more alternative, of appeal 0
        log_shares = functional.log_softmax(functional.pad(appeal, (0, 1)), dim=1)  # (B, k + 1)
        n = answered.sum(dim=1, keepdim=True)  # (B, 1)
        chosen = torch.cat([answered, (n == 0).float()], dim=1) / n.clamp(min=1)
        choice_loss = -(chosen * log_shares).sum(dim=1).mean()
    if learn:
        descend(td_loss + choice_loss, nets.critic, optimizers.critic, config.max_norm)
        follow(nets[:1], nets[1:], config.tau)
    losses = {"td_loss": td_loss, "choice_loss": choice_loss, "value": value.mean(), "target": target.mean()}
    return {name: loss.detach() for name, loss in losses.items()}


def slate_value(judged: Judgement, slate: torch.Tensor, choice: str) -> torch.Tensor:
    """Returns Q(s, A) (B,) of slates (B, k): the worth of no answer and the gains of answers by their probability."""
    appeal, gain = judged.appeal.gather(1, slate), judged.gain.gather(1, slate)
    if choice == "independent":
        return judged.none + (torch.sigmoid(appeal) * gain).sum(dim=1)
    shares = functional.softmax(functional.pad(appeal, (0, 1)), dim=1)[:, :-1]  # (B, k)
    return judged.none + (shares * gain).sum(dim=1)


def best_slates(judged: Judgement, offered: torch.Tensor, k: int, choice: str, how: str) -> torch.Tensor:
    """Returns slates (B, k) int64 of offered items (B, n_items) bool, best first; see the head of this file for `how`.

    Where places are answered each by itself, the largest products are the best slate, whatever `how` says.
    """
    gain = judged.gain
    if choice == "independent":
        return _largest(torch.sigmoid(judged.appeal) * gain, offered, k)
    weight = (judged.appeal - judged.appeal.amax(dim=1, keepdim=True).clamp(min=0)).exp()  # (B, n_items)
    outside = (-judged.appeal.amax(dim=1, keepdim=True).clamp(min=0)).exp()  # (B, 1)
    slate = _largest(weight * gain, offered, k)
    if how == "greedy":
        return _greedy(weight, outside, gain, offered, k)
    if how == "optimal":
        for _ in range(_ROUNDS):
            w, g = weight.gather(1, slate), gain.gather(1, slate)
            level = (w * g).sum(dim=1, keepdim=True) / (w.sum(dim=1, keepdim=True) + outside)
            new = _largest(weight * (gain - level), offered, k)
            if slate.device.type == "cpu" and torch.equal(new, slate):  # elsewhere a look costs more than the rounds
                break
            slate = new
    return slate


def _greedy(
    weight: torch.Tensor, outside: torch.Tensor, gain: torch.Tensor, offered: torch.Tensor, k: int
) -> torch.Tensor:
    """Returns slates filled place by place with the item that makes the mean gain so far largest."""
    above, below, left, slate = torch.zeros_like(outside), outside, offered.clone(), []
    for _ in range(k):
        ratio = ((above + weight * gain) / (below + weight)).masked_fill(~left, -torch.inf)
        best = ratio.argmax(dim=1, keepdim=True)
        above, below = above + (weight * gain).gather(1, best), below + weight.gather(1, best)
        left.scatter_(1, best, False)
        slate.append(best)
    return torch.cat(slate, dim=1)


def _largest(values: torch.Tensor, offered: torch.Tensor, k: int) -> torch.Tensor:
    return values.masked_fill(~offered, -torch.inf).topk(k, dim=1).indices


def main(run: WorldRun, config: Config) -> None:
    """Trains SlateQ in an environment of slates and prints what held-out people's sessions earn."""
    train_in_world(SlateQ, run, config)


if __name__ == "__main__":
    command(main)
