"""The part that agents share whose action is an item: frames looked up, the best item shown or one drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from agents.base import known_users, to_tensor
from agents.networks.configs import ItemAgentConfig
from agents.networks.softmax_loss import n_drawn
from agents.torch_agent import TorchAgent
from recgym.frames import Batch, History, last_events

FrameConfig = ItemAgentConfig  # as it was once called


class Frames(NamedTuple):
    """The last F events of B histories with their vectors: what a state encoder takes, `encoder(*frames)`."""

    vectors: torch.Tensor  # (B, F, d)
    rewards: torch.Tensor  # (B, F)
    length: torch.Tensor  # (B,) int64 how many of the last are real
    user: torch.Tensor | None  # (B,) int64, for agents that know users


class ItemDecisions(NamedTuple):
    """A batch with its vectors looked up, for agents whose action is an item."""

    frames: Frames
    action: torch.Tensor  # (B,) int64 item index
    reward: torch.Tensor  # (B,)
    returns: torch.Tensor | None  # (B,) discounted return from here on, where batches have them
    next_frames: Frames
    next_items: torch.Tensor  # (B, F) int64
    terminated: torch.Tensor  # (B,) bool


class ItemAgent(TorchAgent):
    """What agents share whose action is an item: scores are the larger, the rather it is shown.

    `TorchAgent` says what it is made from; networks see item vectors at a mean square of 1.
    """

    make_networks: Callable[[torch.Tensor, int, Any], Any]  # from the table, the frame size and config

    def fresh_networks(self) -> Any:
        """Returns the algorithm's networks, on the CPU."""
        return self.make_networks(self.table.cpu(), self.frame_size, self.config)

    def values(self, frames: Frames) -> torch.Tensor:
        """Returns one number per item (B, n_items); every subclass says which."""
        raise NotImplementedError

    def drawn(self) -> torch.Tensor | None:
        """Returns items (n,) drawn uniformly that an update looks at in place of all, by `config.n_negatives`; or None.

        An adaptive softmax is not drawn from, nor are networks of your own unless you ask for it.
        """
        asked = self.config.n_negatives
        if self.config.head == "adaptive" or (self.own_nets and asked is None):
            return None
        n, n_items = n_drawn(asked, self.catalog.n_items), self.catalog.n_items
        return torch.randint(n_items, (n,), generator=self.generator, device=self.device) if n else None

    def ranked(self, history: History) -> torch.Tensor:
        """Returns what the agent's networks say of every item (B, n_items)."""
        return self.values(self.frames_of(history))

    def frames_of(self, history: History) -> Frames:
        """Returns the frames of histories with their vectors."""
        items, rewards = last_events(history, self.frame_size, self.catalog.n_items)
        length = to_tensor(history.length, self.device).clamp(max=self.frame_size)
        return self.look_at(to_tensor(items, self.device).long(), rewards, length, history.user)

    @torch.no_grad()
    def act(self, history: History, *, explore: bool = False, allowed: Any = None, k: int = 1) -> torch.Tensor:
        """Returns items (B,) int64: those of the highest scores, or with `explore` drawn from a softmax over scores.

        `allowed` (B, n_items) bool says which items may be shown; None means all. With `k` above 1 they are slates
        (B, k) of the k highest, or of draws without replacement, the first drawn first.
        """
        scores = self.scores(history)
        if allowed is not None:
            scores = scores.masked_fill(~to_tensor(allowed, self.device), -torch.inf)
        if self.config.mask_seen:
            items = to_tensor(history.items, self.device).long()
            scores = scores.masked_fill(seen(items, scores.shape[1]), -torch.inf)
        if explore:  # the largest of scores plus Gumbel noise is a draw from their softmax
            noise = torch.rand(scores.shape, generator=self.generator, device=self.device)
            scores = scores / self.config.temperature - (-noise.clamp(min=1e-20).log()).log()
        return scores.argmax(dim=1) if k == 1 else scores.topk(k, dim=1).indices

    def look_at(self, items: torch.Tensor, rewards: Any, length: Any, user: Any) -> Frames:
        """Returns frames with their vectors, for items (B, F) int64 on the device."""
        known = known_users(user, self.config.n_users, self.device)
        length = to_tensor(length, self.device).long()
        return Frames(self.table[items], self._reward(rewards), length, known)

    def look_up(self, batch: Batch) -> ItemDecisions:
        """Returns the batch on the device with its vectors."""
        items, next_items = (to_tensor(part, self.device).long() for part in (batch.items, batch.next_items))
        size = items.shape[1]
        if batch.length is None:  # of a full frame that is F; what an environment showed may be padded, and stay so
            length, next_length = ((part != self.catalog.n_items).sum(dim=1) for part in (items, next_items))
        else:
            length = to_tensor(batch.length, self.device).long()
            next_length = (length + 1).clamp(max=size)
        return ItemDecisions(
            frames=self.look_at(items, batch.rewards, length, batch.user),
            action=to_tensor(batch.action, self.device).long(),
            reward=self._reward(batch.reward),
            returns=None if batch.returns is None else self._reward(batch.returns),
            next_frames=self.look_at(next_items, batch.next_rewards, next_length, batch.user),
            next_items=next_items,
            terminated=to_tensor(batch.terminated, self.device).bool(),
        )


def seen(items: torch.Tensor, n_items: int) -> torch.Tensor:
    """Returns which items stand in histories (B, L), padding n_items: (B, n_items) bool."""
    marks = torch.zeros(len(items), n_items + 1, dtype=torch.bool, device=items.device)
    return marks.scatter_(1, items, True)[:, :-1]
