"""Updates of ours, imitation off, against Stable-Baselines3's TD3 and SAC with the same weights, batch and draws.

As in test_sb3_ddpg, both step by plain gradient descent, so that a weight is compared by its gradient.
"""

import pytest
import torch
from sb3_side import FRAME, STEP, TOLERANCE, assert_equal, make_batch, plain, theirs
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3 import TD3 as SB3TD3

from agents.sac import SAC
from agents.td3 import TD3

PAPER = {"preset": "paper", "gamma": 0.9, "hidden": 256}


@pytest.fixture
def batch(catalog):
    return make_batch(catalog)


def test_td3_updates_equal_stable_baselines3(catalog, batch, monkeypatch):
    """Five updates, of which SB3's and ours move the actor at the second and fourth."""
    ours = TD3(catalog, frame_size=FRAME, device="cpu", policy_delay=2, target_noise=0.2, noise_clip=0.5, **PAPER)
    ours.optimizers = plain(ours.optimizers, ours.nets[:1], ours.nets[1:2])

    def pairs(model):
        actors, critics = (model.actor, model.actor_target), (model.critic, model.critic_target)
        others = [(actor.mu, critic.qf0, critic.qf1) for actor, critic in zip(actors, critics, strict=True)]
        nets = ours.nets
        mine = [nets.actor, *nets.critics.split(), nets.actor_target, *nets.critics_target.split()]
        return list(zip(mine, [*others[0], *others[1]], strict=True))

    model = theirs(SB3TD3, batch, catalog, pairs, policy_delay=2, target_policy_noise=0.2, target_noise_clip=0.5)
    stream = torch.Generator().manual_seed(ours.seed)  # the same draws in SB3, which fills a tensor from normal_
    monkeypatch.setattr(
        torch.Tensor,
        "normal_",
        lambda self, mean, std: self.copy_(mean + std * torch.randn(self.shape, generator=stream)),
    )
    before = ours.nets.actor.last.weight.detach().clone()
    for turn in range(1, 6):
        ours.update(batch)
        model.train(gradient_steps=1, batch_size=len(batch.action))
        assert_equal(pairs(model))
        assert torch.equal(before, ours.nets.actor.last.weight) == (turn < 2)


def test_sac_updates_equal_stable_baselines3(catalog, batch, monkeypatch):
    ours = SAC(catalog, frame_size=FRAME, device="cpu", alpha_init=0.3, **PAPER)
    ours.optimizers = plain(ours.optimizers, ours.nets[:1], ours.nets[1:2], ours.nets[3:])

    def pairs(model):
        actor = torch.nn.ModuleList([*model.actor.latent_pi, model.actor.mu, model.actor.log_std])
        twins = [model.critic.qf0, model.critic.qf1, model.critic_target.qf0, model.critic_target.qf1]
        mine = [ours.nets.actor, *ours.nets.critics.split(), *ours.nets.critics_target.split()]
        return list(zip(mine, [actor, *twins], strict=True))

    model = theirs(SB3SAC, batch, catalog, pairs, ent_coef="auto_0.3")
    model.actor.action_dist.epsilon = 0.0  # else it adds 1e-6 to the density it takes the logarithm of
    model.ent_coef_optimizer = torch.optim.SGD([model.log_ent_coef], STEP)
    stream = torch.Generator().manual_seed(ours.seed)
    monkeypatch.setattr(
        torch.distributions.normal, "_standard_normal", lambda shape, **_: torch.randn(shape, generator=stream)
    )
    for _ in range(3):
        ours.update(batch)
        model.train(gradient_steps=1, batch_size=len(batch.action))
        assert_equal(pairs(model), tolerance=5 * TOLERANCE)
        assert ours.nets.log_alpha().item() == pytest.approx(model.log_ent_coef.item(), abs=1e-4)
    assert abs(ours.nets.log_alpha().exp().item() - 0.3) > 1e-2  # it did move
