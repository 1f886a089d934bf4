"""DQN's update: worked out by hand with constant networks, and what it must learn from logs."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from agents.dqn import DQN, Config, DuelingCritic, Networks, Optimizers, dqn_update, value_ahead
from agents.item_agent import Frames, ItemDecisions
from agents.networks.softmax_heads import LinearHead
from agents.networks.state_encoders import make_encoder
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History

PLAIN = Config(gamma=0.5, tau=0.25, conservative=0.0, max_norm=None, dropout=0.0, mask_seen=False)
FRAMES = Frames(torch.zeros(3, 1, 1), torch.zeros(3, 1), torch.ones(3, dtype=torch.int64), None)
BATCH = ItemDecisions(  # one goes on, one is terminated, one goes on too; item 0's frame is followed by item 1's ...
    frames=FRAMES,
    action=torch.tensor([1, 0, 1]),
    reward=torch.tensor([1.0, 1.0, 1.0]),
    returns=None,
    next_frames=FRAMES,
    next_items=torch.tensor([[1], [0], [0]]),
    terminated=torch.tensor([False, True, False]),
)


class Constant(nn.Module):
    """A critic whose values are the same in every state."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, vectors, *rest):
        return self.values.expand(len(vectors), -1)


def by_hand(critic, target, lr=0.3):
    nets = Networks(critic, target)
    return nets, Optimizers(torch.optim.SGD(critic.parameters(), lr))


def test_the_step_worked_out_by_hand():
    """The network prefers item 1 next, its slow copy values that at 4: targets 3, 1, 3; Q is 2 for item 1, 0 for 0."""
    nets, optimizers = by_hand(Constant(0.0, 2.0), Constant(100.0, 4.0))
    losses = dqn_update(BATCH, nets, optimizers, PLAIN)
    assert losses["critic_loss"].item() == pytest.approx((1 + 1 + 1) / 3)
    gradient = np.array([2 * (0.0 - 1.0), 2 * (2.0 - 3.0) * 2]) / 3
    moved = np.array([0.0, 2.0]) - 0.3 * gradient
    assert nets.critic.values.tolist() == pytest.approx(moved.tolist())
    expected = np.array([100.0, 4.0]) + 0.25 * (moved - [100.0, 4.0])
    assert nets.critic_target.values.tolist() == pytest.approx(expected.tolist())


def test_items_of_the_next_frame_are_not_the_next_action():
    """Next frames hold items 1, 0, 0: the best others are 0, (terminated), 1, worth 100 and 4 to the slow copy."""
    nets, optimizers = by_hand(Constant(0.0, 2.0), Constant(100.0, 4.0))
    losses = dqn_update(BATCH, nets, optimizers, replace(PLAIN, mask_seen=True))
    assert losses["td_loss"].item() == pytest.approx(((2 - 51) ** 2 + (0 - 1) ** 2 + (2 - 3) ** 2) / 3)


def test_the_conservative_term_worked_out_by_hand():
    """Its gradient is the softmax of Q less the logged item: for item 1, (p - 1, p, p - 1) / 3 summed."""
    nets, optimizers = by_hand(Constant(0.0, 2.0), Constant(0.0, 0.0))
    batch = BATCH._replace(reward=torch.tensor([2.0, 0.0, 2.0]), terminated=torch.ones(3, dtype=torch.bool))
    losses = dqn_update(batch, nets, optimizers, replace(PLAIN, conservative=0.5))  # targets are met: only this is left
    total = np.log(1 + np.exp(2.0))
    assert losses["td_loss"].item() == 0.0
    assert losses["conservative_loss"].item() == pytest.approx((2 * (total - 2.0) + total) / 3, rel=1e-6)
    share = np.exp(2.0) / (1 + np.exp(2.0))
    step = 0.3 * 0.5 * (2 * (share - 1) + share) / 3
    assert nets.critic.values.tolist() == pytest.approx([step, 2.0 - step], rel=1e-5)


@pytest.mark.parametrize("terminated", [False, True])
def test_only_terminated_stops_bootstrapping(terminated):
    nets, optimizers = by_hand(Constant(0.0, 0.0), Constant(4.0, 4.0))
    batch = BATCH._replace(terminated=torch.full((3,), terminated))
    losses = dqn_update(batch, nets, optimizers, PLAIN)
    assert losses["target"].item() == pytest.approx(1.0 if terminated else 3.0)


def test_advantages_are_centred_for_each_state_alone():
    """Defect of RecNN's: the mean was taken over the whole batch."""
    torch.manual_seed(0)
    critic = DuelingCritic(make_encoder("flat", 3, 2), LinearHead(8, 5), 8)
    frames = torch.randn(4, 2, 3), torch.randn(4, 2), torch.full((4,), 2)
    values = critic(*frames)
    assert torch.allclose(critic(*(part[1:2] for part in frames)), values[1:2], atol=1e-6)
    hidden = torch.relu(critic.second(torch.relu(critic.first(critic.encoder(*frames)))))
    assert torch.allclose(values.mean(dim=1), critic.value(hidden)[:, 0], atol=1e-6)


def test_every_network_moves_and_measuring_moves_none(log, catalog):
    agent = DQN(catalog, frame_size=5, device="cpu", hidden=16, encoder="lstm", dropout=0.5)
    batch = agent.look_up(next(iter(FrameBatches(log, frame_size=5, batch_size=8))))
    before = copy.deepcopy(agent.nets)
    arguments = batch, agent.nets, agent.optimizers, agent.config
    assert dqn_update(*arguments, learn=False) == dqn_update(*arguments, learn=False)
    for learn in (False, True):
        if learn:
            dqn_update(*arguments)
        for name, old, new in zip(before._fields, before, agent.nets, strict=True):
            pairs = zip(old.parameters(), new.parameters(), strict=True)
            assert any(not torch.equal(a, b) for a, b in pairs) == learn, name
    assert not any(net.training for net in agent.nets)


# -- what is learned ---------------------------------------------------------------------------------------------------


def test_a_bandit_is_learned_from_its_log():
    """Every item was shown equally often: only their rewards tell them apart, and values become rewards."""
    random = np.random.default_rng(0)
    agent = DQN(Catalog(np.eye(3), np.arange(3)), frame_size=1, device="cpu", gamma=0.0, conservative=0.0, dropout=0.0)
    frame, earned = (np.full((64, 1), 3), np.zeros((64, 1), dtype=np.float32)), np.array([0.2, 1.0, -0.5])
    nobody = np.zeros(64, dtype=bool)
    for _ in range(200):
        action = random.integers(3, size=64)
        reward = earned[action].astype(np.float32)
        agent.update(Batch(action, *frame, action, reward, *frame, nobody, ~nobody, np.zeros(64, dtype=int)))
    scores = agent.scores(History(*frame, np.zeros(64, dtype=int)))
    assert scores[0].tolist() == pytest.approx(earned.tolist(), abs=0.05)


@pytest.mark.parametrize("encoder", ["flat", "gru"])
def test_the_identity_environment_is_learned_from_its_log(encoder):
    """The item that earns 1 is the one of the frame."""
    random = np.random.default_rng(0)
    n, catalog = 64, Catalog(np.eye(6), np.arange(6))
    agent = DQN(catalog, frame_size=1, device="cpu", gamma=0.0, dropout=0.0, conservative=0.1, encoder=encoder)
    nobody = np.zeros(n, dtype=bool)
    for _ in range(300):
        known, action = random.integers(6, size=(2, n))
        frame = known[:, None], np.zeros((n, 1), dtype=np.float32)
        reward = (known == action).astype(np.float32)
        agent.update(Batch(known, *frame, action, reward, *frame, nobody, ~nobody))
    every_item = History(np.arange(6)[:, None], np.zeros((6, 1), dtype=np.float32), np.ones(6, dtype=int))
    assert (agent.scores(every_item).argmax(dim=1) == torch.arange(6)).all()


def test_the_conservative_term_keeps_items_the_log_never_shows_low():
    """Of five items the log has shown two. Nothing else says anything of the other three."""

    def never_shown(conservative):
        random = np.random.default_rng(0)
        config = {"conservative": conservative, "gamma": 0.5, "dropout": 0.0, "mask_seen": False, "tau": 0.05}
        agent = DQN(Catalog(np.eye(5), np.arange(5)), frame_size=1, device="cpu", **config)
        frame = np.full((64, 1), 5), np.zeros((64, 1), dtype=np.float32)
        nobody = np.zeros(64, dtype=bool)
        for _ in range(150):
            action = random.integers(2, size=64)
            reward = action.astype(np.float32) * 0.1 - 1.0  # both earn less than nothing
            agent.update(Batch(action, *frame, action, reward, *frame, nobody, ~nobody, np.zeros(64, dtype=int)))
        scores = agent.scores(History(*frame, np.zeros(64, dtype=int)))[0]
        return (scores[2:].max() > scores[:2].max()).item()

    assert never_shown(0.0)
    assert not never_shown(1.0)


def test_a_wrong_head_is_refused():
    with pytest.raises(ValueError, match=r"head must be one of linear, vectors, got 'adaptive'; values are no softmax"):
        DQN(Catalog(np.eye(3), np.arange(3)), head="adaptive")


@pytest.mark.parametrize(("mask_seen", "expected"), [(False, [20.0, 20.0, 20.0]), (True, [30.0, 20.0, 20.0])])
def test_the_next_item_is_the_best_of_those_drawn_and_those_the_batch_took(mask_seen, expected):
    """Item 3 has the largest value but was neither drawn nor taken; item 1 was taken, and stands in the first frame."""

    class Few(Constant):
        def some(self, frames, items, drawn):
            return torch.cat([self.values[items], self.values[drawn].expand(len(items), -1)], dim=1)

    nets = Networks(Few(0.0, 2.0, 1.0, 9.0), Few(10.0, 20.0, 30.0, 40.0))
    found = value_ahead(BATCH, nets, replace(PLAIN, mask_seen=mask_seen), torch.tensor([0, 2]))
    assert found.tolist() == expected
