"""The update of TD3+BC, worked out by hand (see hand_made)."""

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, Constant, Linear, Slope, sgd

from agents.networks.twin_critics import Networks, Optimizers, Pair
from agents.td3_bc import TD3BC, Config, td3_bc_update

PLAIN = {"critic_action": "vector", "max_norm": None, "dropout": 0.0, "target_noise": 0.0}
ITEMS = torch.eye(2)


def updated(actor, critics, actor_target, critic_targets, **config):
    nets = Networks(actor, Pair(*critics), actor_target, Pair(*critic_targets))
    optimizers = Optimizers(sgd(actor), sgd(*critics))
    if isinstance(critics[0], Slope):
        optimizers.critics.param_groups[0]["lr"] = 0.0
    batch = TD3BC(CATALOG, frame_size=1, device="cpu", **PLAIN).look_up(BATCH)
    return nets, td3_bc_update(batch, nets, optimizers, ITEMS, Config(**PLAIN | config))


def test_the_critics_step_worked_out_by_hand():
    """Targets take the smaller of 4 and 6: 3, 1 (terminated), 3 (truncated); gradients -2/3 and 16/3, step size 0.1."""
    critics, targets = (Constant(2.0), Constant(5.0)), (Constant(6.0), Constant(4.0))
    nets, _ = updated(Linear(0.0, 0.0), critics, Linear(0.0, 0.0), targets, gamma=0.5, tau=0.25)
    assert nets.critics.first.value.item() == pytest.approx(2.0 + 0.2 / 3, abs=1e-6)
    assert nets.critics.second.value.item() == pytest.approx(5.0 - 1.6 / 3, abs=1e-6)
    assert nets.critics_target.second.value.item() == pytest.approx(4.0 + 0.25 * (5.0 - 1.6 / 3 - 4.0), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_papers_actor_step_worked_out_by_hand(scale):
    """Logged items are 1, 0, 1, so their mean vector is (1/3, 2/3).

    lambda = 2 / |Q|, and Q's slope is (Q / 0.5, 0) at (0.5, 0): it pulls by 2 / 0.5 = 4 on any scale.
    The squared distance, a mean over numbers, pulls by (1/3 - 0.5, 2/3) of a vector of two numbers.
    """
    slope = Slope(3.0 * scale, 0.0), Slope(0.0, 0.0)
    still = Slope(0.0, 0.0), Slope(0.0, 0.0)
    nets, losses = updated(Linear(0.5, 0.0), slope, Linear(0.0, 0.0), still, alpha=2.0, bc="vector")
    assert nets.actor.value.tolist() == pytest.approx([0.5 + 0.1 * (4 + 1 / 3 - 0.5), 0.1 * 2 / 3])
    assert losses["bc_loss"].item() == pytest.approx((2 * (0.25 + 1) + 0.25) / 6)
    assert losses["actor_loss"].item() == pytest.approx(losses["bc_loss"].item() - 2.0)


def test_cross_entropy_over_items_worked_out_by_hand():
    still = Slope(0.0, 0.0), Slope(0.0, 0.0)
    actor, temperature = Linear(0.5, 0.0), 2.0
    nets, losses = updated(actor, still, Linear(0.0, 0.0), still, alpha=0.0, bc="items", temperature=temperature)
    share = np.exp(1.0) / (np.exp(1.0) + 1.0)
    assert losses["bc_loss"].item() == pytest.approx(-(2 * np.log(1 - share) + np.log(share)) / 3, rel=1e-6)
    pull = temperature * np.array([1 / 3 - share, 2 / 3 - (1 - share)])
    assert nets.actor.value.tolist() == pytest.approx((np.array([0.5, 0.0]) + 0.1 * pull).tolist(), abs=1e-6)


def test_the_actor_and_all_targets_wait_for_their_turn():
    agent = TD3BC(CATALOG, frame_size=1, device="cpu")
    actor = [parameter.clone() for parameter in agent.nets.actor.parameters()]
    targets = [parameter.clone() for net in agent.nets[3:] for parameter in net.parameters()]
    assert "actor_loss" not in agent.update(BATCH)
    assert all(torch.equal(a, b) for a, b in zip(actor, agent.nets.actor.parameters(), strict=True))
    assert "actor_loss" in agent.update(BATCH)
    assert not all(torch.equal(a, b) for a, b in zip(actor, agent.nets.actor.parameters(), strict=True))
    now = [parameter for net in agent.nets[3:] for parameter in net.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(targets, now, strict=True))
