"""One update of ours, imitation off, against Stable-Baselines3's DDPG with the same weights and batch.

Both step by plain gradient descent, so that a weight is compared by its gradient: Adam would divide it by its own size
and enlarge the rounding of gradients near zero (the two add float32 products in another order).
"""

import pytest
from sb3_side import FRAME, TOLERANCE, assert_equal, make_batch, plain, theirs
from stable_baselines3 import DDPG as SB3

from agents.ddpg import DDPG


@pytest.fixture
def batch(catalog):
    return make_batch(catalog)


def descend_plainly(agent):
    agent.optimizers = plain(agent.optimizers, agent.nets[:1], agent.nets[1:2])


def test_updates_equal_stable_baselines3(catalog, batch):
    ours = DDPG(
        catalog,
        frame_size=FRAME,
        device="cpu",
        preset="paper",
        gamma=0.9,
        tau=0.005,
        hidden=256,
        actor_init=None,
        critic_init=None,
    )
    descend_plainly(ours)

    def pairs(model):
        others = model.actor.mu, model.critic.qf0, model.actor_target.mu, model.critic_target.qf0
        return zip(ours.nets, others, strict=True)

    model = theirs(SB3, batch, catalog, pairs)
    for _ in range(3):
        ours.update(batch)
        model.train(gradient_steps=1, batch_size=len(batch.action))
        assert_equal(pairs(model))


@pytest.mark.parametrize("name", ["actor", "critic"])
def test_the_comparison_would_see_a_wrong_step(catalog, batch, name):
    """A guard: a network without its step, or with the step of the opposite sign, is far out of tolerance."""
    ours = DDPG(
        catalog, frame_size=FRAME, device="cpu", dropout=0.0, input_scale=1.0, actor_init=None, critic_init=None
    )
    descend_plainly(ours)
    net = getattr(ours.nets, name)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    ours.update(batch)
    moved = max(float((a.detach() - b).abs().max()) for a, b in zip(net.parameters(), before, strict=True))
    assert moved > 100 * TOLERANCE
