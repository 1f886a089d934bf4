"""TD3's update, worked out by hand (see hand_made)."""

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, PAPER, Constant, Linear, Slope, everything, sgd

from agents.networks.twin_critics import Networks, Optimizers, Pair, smoothed
from agents.td3 import TD3, Config, td3_update

QUIET = PAPER | {"target_noise": 0.0}
ITEMS = torch.eye(2)


def looked_up(batch=BATCH):
    return TD3(CATALOG, frame_size=1, device="cpu", **PAPER).look_up(batch)


def by_hand(actor, critics, actor_target, critic_targets, lr=0.1):
    nets = Networks(actor, Pair(*critics), actor_target, Pair(*critic_targets))
    return nets, Optimizers(sgd(actor, lr=lr), sgd(*critics, lr=lr))


def test_the_critics_step_worked_out_by_hand():
    """Targets take the smaller of 4 and 6: 1 + 0.5 * 4 = 3, 1 (terminated), 3 (truncated).

    Each critic has its own gradient, 2 * mean(Q - y): 2 gets -2/3 and 5 gets 16/3; the step size is 0.1.
    """
    still = Linear(0.0, 0.0), Linear(0.0, 0.0)
    nets, optimizers = by_hand(still[0], (Constant(2.0), Constant(5.0)), still[1], (Constant(4.0), Constant(6.0)))
    losses = td3_update(looked_up(), nets, optimizers, ITEMS, Config(**QUIET, gamma=0.5, tau=0.25))
    assert losses["critic_loss"].item() == pytest.approx((1 + 1 + 1) / 3 + (4 + 16 + 4) / 3)
    assert nets.critics.first.value.item() == pytest.approx(2.0 + 0.2 / 3, abs=1e-6)
    assert nets.critics.second.value.item() == pytest.approx(5.0 - 1.6 / 3, abs=1e-6)
    assert nets.critics_target.first.value.item() == pytest.approx(4.0 + 0.25 * (2.0 + 0.2 / 3 - 4.0), abs=1e-6)
    assert nets.critics_target.second.value.item() == pytest.approx(6.0 + 0.25 * (5.0 - 1.6 / 3 - 6.0), abs=1e-6)


@pytest.mark.parametrize(("flag", "target"), [("terminated", 1.0), ("truncated", 3.0), (None, 3.0)])
@pytest.mark.parametrize("values", [(4.0, 9.0), (9.0, 4.0)])  # the smaller may be either critic's
def test_only_terminated_stops_bootstrapping(flag, target, values):
    flags = {name: np.full(3, name == flag) for name in ("terminated", "truncated")}
    still = Linear(0.0, 0.0), Linear(0.0, 0.0)
    nets, optimizers = by_hand(still[0], (Constant(0.0), Constant(0.0)), still[1], tuple(map(Constant, values)))
    losses = td3_update(looked_up(BATCH._replace(**flags)), nets, optimizers, ITEMS, Config(**QUIET, gamma=0.5))
    assert losses["critic_loss"].item() == pytest.approx(2 * target**2)


def test_the_actor_follows_the_first_critic():
    """Its step is 0.1 times the slope (3, -4) of the first critic, whatever the second one says."""
    critics = Slope(3.0, -4.0), Slope(-100.0, 100.0)
    nets, optimizers = by_hand(Linear(0.2, 0.2), critics, Linear(0.0, 0.0), (Slope(0.0, 0.0), Slope(0.0, 0.0)))
    optimizers.critics.param_groups[0]["lr"] = 0.0
    td3_update(looked_up(), nets, optimizers, ITEMS, Config(**QUIET, tau=0.5))
    assert nets.actor.value.tolist() == pytest.approx([0.2 + 0.3, 0.2 - 0.4])
    assert nets.actor_target.value.tolist() == pytest.approx([0.25, -0.1])


def test_the_targets_action_is_smoothed_within_its_bounds():
    """The noise is clipped first, then the action is kept in the box; the stream is the given one."""
    action = torch.tensor([[0.9, -0.3]]).expand(1000, 2)
    noisy = smoothed(action, 10.0, 0.25, torch.Generator().manual_seed(1))
    assert noisy[:, 0].max() == 1.0
    assert noisy[:, 0].min() == pytest.approx(0.65)
    assert noisy[:, 1].min() == pytest.approx(-0.55)
    small = smoothed(action, 0.02, 0.5, torch.Generator().manual_seed(1)) - action
    assert torch.allclose(small, 0.02 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(1)), atol=1e-6)


def test_targets_are_worth_what_the_smoothed_action_is_worth():
    slopes = (Slope(2.0, 0.0), Slope(2.0, 0.0))
    nets, optimizers = by_hand(Linear(0.0, 0.0), (Constant(0.0), Constant(0.0)), Linear(0.5, 0.0), slopes)
    config = Config(**PAPER | {"target_noise": 0.1, "noise_clip": 0.15, "gamma": 0.5})
    losses = td3_update(
        looked_up(), nets, optimizers, ITEMS, config, generator=torch.Generator().manual_seed(3), learn=False
    )
    noise = (0.1 * torch.randn(3, 2, generator=torch.Generator().manual_seed(3))).clamp(-0.15, 0.15)
    targets = 1 + 0.5 * np.array([1, 0, 1]) * 2 * (0.5 + noise[:, 0].numpy())
    assert losses["critic_loss"].item() == pytest.approx(2 * np.mean(targets**2), rel=1e-5)


def test_the_actor_and_all_targets_wait_for_their_turn():
    agent = TD3(CATALOG, frame_size=1, device="cpu", policy_delay=3)
    waiting = (agent.nets.actor, *agent.nets[3:])
    before = [parameter.clone() for net in waiting for parameter in net.parameters()]
    first = everything(agent)
    for turn in range(1, 4):
        losses = agent.update(BATCH)
        now = [parameter for net in waiting for parameter in net.parameters()]
        assert ("actor_loss" in losses) == (turn == 3)
        assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True)) == (turn < 3)
        assert not torch.equal(first, everything(agent))
    assert agent.updates == 3


def test_losses_are_measured_for_the_actor_too_whoever_s_turn_it_is():
    agent = TD3(CATALOG, frame_size=1, device="cpu")
    assert "actor_loss" in agent.losses(BATCH)
    agent.update(BATCH)
    assert "actor_loss" in agent.losses(BATCH)
    assert agent.updates == 1
