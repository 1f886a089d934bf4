"""SAC's update, worked out by hand (see hand_made), and its policy's density."""

import math

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, PAPER, Constant, Slope, sgd
from torch import nn

from agents.networks.actors import GaussianActor, squashed
from agents.networks.layers import Scalar
from agents.networks.twin_critics import Pair
from agents.sac import SAC, Config, Networks, Optimizers, sac_update
from recgym.frames import History

ITEMS = torch.eye(2)


class Normal(nn.Module):
    """A policy of one mean and one spread, whatever the state."""

    def __init__(self, mean, log_std):
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(log_std))

    def forward(self, *state):
        return self.mean.expand(len(state[0]), -1), self.log_std.expand(len(state[0]), -1)


def updated(actor, critics, targets, alpha, seed=0, still=False, **config):
    nets = Networks(actor, Pair(*critics), Pair(*targets), Scalar(math.log(alpha)))
    optimizers = Optimizers(sgd(actor), sgd(*critics, lr=0.0 if still else 0.1), sgd(nets.log_alpha))
    batch = SAC(CATALOG, frame_size=1, device="cpu", **PAPER).look_up(BATCH)
    config = Config(**PAPER | config)
    generator = torch.Generator().manual_seed(seed)
    return nets, sac_update(batch, nets, optimizers, ITEMS, config, generator=generator)


def drawn(actor, seed=0):
    """Returns the two draws of an update: action and log density for states, and for next states."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = (parameter.detach().expand(3, -1).clone() for parameter in (actor.mean, actor.log_std))
    return squashed(mean, log_std, generator), squashed(mean, log_std, generator)


def test_the_critics_and_alphas_steps_worked_out_by_hand():
    """Targets are 1 + 0.5 * (the smaller of 4 and 6 - alpha * log density); the terminated one is 1."""
    actor = Normal([0.3, -0.2], [-1.0, -0.5])
    now, then = drawn(actor)
    critics, targets = (Constant(2.0), Constant(5.0)), (Constant(6.0), Constant(4.0))
    nets, losses = updated(actor, critics, targets, alpha=0.2, gamma=0.5, tau=0.25)
    y = 1 + 0.5 * np.array([1, 0, 1]) * (4 - 0.2 * then[1].numpy())
    assert losses["critic_loss"].item() == pytest.approx(np.mean((2 - y) ** 2 + (5 - y) ** 2) / 2, rel=1e-5)
    stepped = 2 - 0.1 * np.mean(2 - y), 5 - 0.1 * np.mean(5 - y)
    assert nets.critics.first.value.item() == pytest.approx(stepped[0], abs=1e-5)
    assert nets.critics.second.value.item() == pytest.approx(stepped[1], abs=1e-5)
    assert nets.critics_target.first.value.item() == pytest.approx(6 + 0.25 * (stepped[0] - 6), abs=1e-5)
    assert nets.critics_target.second.value.item() == pytest.approx(4 + 0.25 * (stepped[1] - 4), abs=1e-5)
    assert losses["alpha"].item() == pytest.approx(0.2)  # that of before its own step
    moved = 0.1 * np.mean(now[1].numpy() - 2.0)  # wanted entropy is minus the width of actions
    assert nets.log_alpha().item() == pytest.approx(math.log(0.2) + moved, abs=1e-5)


@pytest.mark.parametrize(("log_std", "grows"), [(-4.0, True), (0.0, False)])
def test_alpha_grows_while_there_is_too_little_entropy(log_std, grows):
    actor = Normal([0.0, 0.0], [log_std, log_std])
    zero = [Constant(0.0) for _ in range(4)]
    nets, _ = updated(actor, zero[:2], zero[2:], alpha=0.2)
    assert (nets.log_alpha().item() > math.log(0.2)) == grows


def test_the_actor_climbs_the_smaller_critic():
    """With alpha near 0 the step of the mean is 0.1 * slope * (1 - tanh^2) of the drawn actions, averaged."""
    actor = Normal([0.1, 0.4], [-3.0, -3.0])
    (action, _), _ = drawn(actor)
    smaller, larger, *zero = Slope(3.0, -4.0), Slope(3.0, 96.0), Slope(0.0, 0.0), Slope(0.0, 0.0)
    nets, losses = updated(actor, (larger, smaller), zero, alpha=1e-9, still=True)
    step = 0.1 * np.array([3.0, -4.0]) * (1 - action.numpy() ** 2).mean(axis=0)
    assert nets.actor.mean.tolist() == pytest.approx((np.array([0.1, 0.4]) + step).tolist(), abs=1e-4)
    assert losses["actor_value"].item() == pytest.approx((action.numpy() @ np.array([3.0, -4.0])).mean(), abs=1e-5)


def test_entropy_alone_widens_a_narrow_policy():
    actor = Normal([0.0, 0.0], [-3.0, -3.0])
    zero = [Slope(0.0, 0.0) for _ in range(4)]
    nets, _ = updated(actor, zero[:2], zero[2:], alpha=0.5, still=True)
    assert (nets.actor.log_std > -3.0 + 0.04).all()  # the gradient of the normal's entropy by log_std is 1


def test_the_density_is_that_of_a_squashed_normal():
    torch.manual_seed(0)
    mean, log_std = torch.randn(6, 3), torch.randn(6, 3).clamp(-2, 0.5)
    action, density = squashed(mean, log_std, torch.Generator().manual_seed(5))
    normal = torch.distributions.Normal(mean, log_std.exp())
    expected = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    assert torch.allclose(density, expected.log_prob(action).sum(1), atol=1e-3)
    again, _ = squashed(mean, log_std, torch.Generator().manual_seed(5))
    assert torch.equal(action, again)


def test_the_density_stays_finite_at_the_edges_of_the_box():
    action, density = squashed(torch.full((2, 3), 40.0), torch.zeros(2, 3))
    assert (action == 1.0).all()
    assert density.isfinite().all()


def test_spreads_stay_within_their_bounds():
    actor = GaussianActor(3, 2, hidden=8, log_std=(-1.0, 0.5))
    _, log_std = actor(1000 * torch.randn(20, 3))
    assert log_std.min() == -1.0
    assert log_std.max() == 0.5


def test_recommending_is_the_middle_of_the_policy_and_exploring_draws():
    agent = SAC(CATALOG, frame_size=1, device="cpu")
    history = History(BATCH.items, BATCH.rewards, np.ones(3, dtype=int))
    mean, _ = agent.nets.actor(*agent.state_of(history))
    assert torch.equal(agent.act(history), torch.tanh(mean))
    drawn = [agent.act(history, explore=True) for _ in range(2)]
    assert not torch.equal(*drawn)
    assert max(action.abs().max() for action in drawn) <= 1.0
