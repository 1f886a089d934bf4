"""BCQ's update, worked out by hand (see hand_made)."""

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, Constant, Slope, sgd
from torch import nn

from agents.bcq import BCQ, Config, Networks, Optimizers, bcq_update, generator_losses
from agents.networks.actors import Generator, Perturbator
from agents.networks.twin_critics import Pair
from recgym.frames import History

PLAIN = {"critic_action": "vector", "max_norm": None, "dropout": 0.0, "reconstruction": "vector", "gamma": 0.5}
ITEMS = torch.eye(2)
HISTORY = History(BATCH.items, BATCH.rewards, np.ones(3, dtype=int))


class Echo(nn.Module):
    """A generator whose latent points are its actions."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(2))

    def forward(self, *parts):
        zero = torch.zeros(len(parts[0]), 2)
        return zero + self.value, zero, zero

    def decode(self, *parts):
        return parts[-1]


class Shift(nn.Module):
    """A perturbator that moves every action by the same vector."""

    def __init__(self, *values):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(values))

    def forward(self, *parts):
        return parts[-1] + self.value


def updated(perturbator, critics, perturbator_target, critic_targets, still=False, **config):
    nets = Networks(Echo(), perturbator, Pair(*critics), perturbator_target, Pair(*critic_targets))
    optimizers = Optimizers(sgd(nets.generator), sgd(perturbator), sgd(*critics, lr=0.0 if still else 0.1))
    batch = BCQ(CATALOG, frame_size=1, device="cpu", **PLAIN).look_up(BATCH)
    generator = torch.Generator().manual_seed(7)
    return nets, bcq_update(batch, nets, optimizers, ITEMS, Config(**PLAIN | config), generator=generator)


def points(n_samples, clip):
    generator = torch.Generator().manual_seed(7)
    torch.randn(3, 2, generator=generator)  # the autoencoder's noise
    return torch.randn(3, n_samples, 2, generator=generator).clamp(-clip, clip).numpy()


def test_targets_weigh_the_smaller_critic_and_take_the_best_of_n():
    """y = 1 + 0.5 * max over actions of (0.75 * min + 0.25 * max); both critics learn it, at the *logged* action."""
    slopes = Slope(2.0, 1.0), Slope(-1.0, 3.0)
    nets, losses = updated(
        Shift(0.0, 0.0), (Constant(2.0), Constant(5.0)), Shift(0.1, 0.0), slopes, n_samples=4, latent_clip=0.5, tau=0.25
    )
    actions = points(4, 0.5) + np.array([0.1, 0.0])
    values = np.stack([actions @ np.array([2.0, 1.0]), actions @ np.array([-1.0, 3.0])])
    best = (0.75 * values.min(axis=0) + 0.25 * values.max(axis=0)).max(axis=1)
    y = 1 + 0.5 * np.array([1, 0, 1]) * best
    assert losses["critic_loss"].item() == pytest.approx(np.mean((2 - y) ** 2) + np.mean((5 - y) ** 2), rel=1e-5)
    assert nets.critics.first.value.item() == pytest.approx(2 - 0.2 * np.mean(2 - y), abs=1e-5)
    assert nets.critics.second.value.item() == pytest.approx(5 - 0.2 * np.mean(5 - y), abs=1e-5)


def test_the_second_target_comes_from_the_second_critic():
    """Defect R3: both targets from one critic. With 4 and 6 it is 0.75 * 4 + 0.25 * 6 = 4.5, so y = 3.25, 1, 3.25."""
    _, losses = updated(
        Shift(0.0, 0.0), (Constant(0.0), Constant(0.0)), Shift(0.0, 0.0), (Constant(6.0), Constant(4.0))
    )
    assert losses["critic_loss"].item() == pytest.approx(2 * (2 * 3.25**2 + 1) / 3)


def test_the_perturbation_climbs_the_first_critic_and_targets_follow():
    critics = Slope(3.0, -4.0), Slope(-50.0, 50.0)
    zero = Slope(0.0, 0.0), Slope(0.0, 0.0)
    nets, _ = updated(Shift(0.0, 0.0), critics, Shift(1.0, 1.0), zero, still=True, tau=0.5)
    assert nets.perturbator.value.tolist() == pytest.approx([0.3, -0.4])
    assert nets.perturbator_target.value.tolist() == pytest.approx([0.65, 0.3])


def test_the_autoencoder_rebuilds_the_logged_vector():
    """Logged items are 1, 0, 1; the gradient of the mean squared distance from (0, 0) is -(1/3, 2/3)."""
    zero = [Constant(0.0) for _ in range(4)]
    nets, losses = updated(Shift(0.0, 0.0), zero[:2], Shift(0.0, 0.0), zero[2:])
    assert losses["reconstruction"].item() == pytest.approx(0.5)
    assert nets.generator.value.tolist() == pytest.approx([0.1 / 3, 0.2 / 3])


@pytest.mark.parametrize("reconstruction", ["items", "vector"])
def test_the_divergence_is_that_of_the_encoded_normal_from_a_standard_one(reconstruction):
    agent = BCQ(CATALOG, frame_size=1, device="cpu", reconstruction=reconstruction, bc_reward=0.0)
    batch, network = agent.look_up(BATCH), agent.nets.generator
    config, stream = agent.config, torch.Generator().manual_seed(3)
    loss, rebuilding = generator_losses(batch, network, ITEMS, config, stream, learn=False)
    mean, log_std = network.encode(*batch.state, batch.vector)
    noise = torch.randn(3, network.latent_dim, generator=torch.Generator().manual_seed(3))
    rebuilt = network.decode(*batch.state, mean + log_std.exp() * noise)
    encoded = torch.distributions.Normal(mean, log_std.exp())
    divergence = torch.distributions.kl_divergence(encoded, torch.distributions.Normal(0.0, 1.0))
    divergence = divergence.mean() if reconstruction == "vector" else divergence.sum(dim=1).mean()
    assert (loss - rebuilding).item() == pytest.approx(0.5 * divergence.item(), rel=1e-4)
    if reconstruction == "items":
        expected = nn.functional.cross_entropy(config.temperature * rebuilt @ ITEMS.T, batch.action)
    else:
        expected = (rebuilt - ITEMS[batch.action]).square().mean()
    assert rebuilding.item() == pytest.approx(expected.item(), rel=1e-5)


def test_n_actions_of_a_state_are_worth_what_each_is_worth_alone():
    """The state's share of the first layers is worked out once for all of them; it must be the same share."""
    agent = BCQ(CATALOG, frame_size=1, device="cpu", actor_init=None, critic_init=None)
    state = agent.look_up(BATCH).state
    latent = torch.randn(3, 5, agent.nets.generator.latent_dim)
    actions = agent.nets.generator.decode(*state, latent)
    moved = agent.nets.perturbator(*state, actions)
    values = agent.nets.critics(*state, moved)
    for i in range(5):
        alone = agent.nets.generator.decode(*state, latent[:, i])
        assert torch.allclose(actions[:, i], alone, atol=1e-6)
        assert torch.allclose(moved[:, i], agent.nets.perturbator(*state, alone), atol=1e-6)
        assert torch.allclose(values[:, :, i], agent.nets.critics(*state, moved[:, i]), atol=1e-6)


def test_the_perturbation_is_small_and_stays_in_the_box():
    perturbator = Perturbator(3, 2, phi=0.05, hidden=8, last_init=50.0)
    action = torch.tensor([[0.99, 0.0]]).expand(40, 2)
    moved = perturbator(torch.randn(40, 3), action)
    assert moved.max() <= 1.0
    assert (moved - action).abs().max() <= 0.05 + 1e-6
    assert (moved - action).abs().max() > 0.04


def test_the_encoder_s_spread_is_bounded():
    generator = Generator(3, 2, 4, hidden=8, log_std=(-1.0, 0.5))
    _, log_std = generator.encode(1000 * torch.randn(9, 3), torch.randn(9, 2))
    assert log_std.min() == -1.0
    assert log_std.max() == 0.5


def test_recommending_tries_the_same_points_and_exploring_new_ones():
    agent = BCQ(CATALOG, frame_size=1, device="cpu", latent_clip=0.4, n_samples=6)
    assert agent.points.shape == (6, 4)
    assert agent.points.abs().max() <= 0.4
    assert torch.equal(agent.act(HISTORY), agent.act(HISTORY))
    assert not torch.equal(agent.act(HISTORY, explore=True), agent.act(HISTORY, explore=True))


def test_the_best_action_is_the_one_the_first_critic_values_most():
    agent = BCQ(CATALOG, frame_size=1, device="cpu", critic_action="vector")
    agent.nets = agent.nets._replace(
        generator=Echo(), perturbator=Shift(0.0, 0.0), critics=Pair(Slope(1.0, 0.0), Slope(-9.0, 0.0))
    )
    latent = torch.tensor([[[0.1, 0.5], [0.4, 0.2], [-0.3, 0.9]]])
    assert agent.best((torch.zeros(1, 2), torch.zeros(1, 1)), latent).tolist() == [
        [pytest.approx(0.4), pytest.approx(0.2)]
    ]
