"""One update of ours, imitation off, against Stable-Baselines3's DDPG with the same weights and batch.

Both step by plain gradient descent, so that a weight is compared by its gradient: Adam would divide it by its own size
and enlarge the rounding of gradients near zero (the two add float32 products in another order).
"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG as SB3
from stable_baselines3.common.logger import Logger

from agents.ddpg import DDPG, Optimizers
from recgym.frames import Batch, encode_frame

FRAME, DIM, BATCH = 3, 12, 32
TOLERANCE = 1e-6
STEP = 0.1  # size of a gradient step


class Nowhere(gym.Env):
    """Only its spaces matter."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (FRAME * (DIM + 1),), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (DIM,), np.float32)


@pytest.fixture
def batch(catalog):
    random = np.random.default_rng(0)
    frames = random.integers(catalog.n_items + 1, size=(2, BATCH, FRAME))  # padding too
    rewards = random.uniform(-0.8, 1.0, size=(2, BATCH, FRAME)).astype(np.float32)
    ends = random.random(BATCH) < 0.3
    return Batch(
        user=np.arange(BATCH),
        items=frames[0],
        rewards=rewards[0],
        action=random.integers(catalog.n_items, size=BATCH),
        reward=random.uniform(-0.8, 1.0, size=BATCH).astype(np.float32),
        next_items=frames[1],
        next_rewards=rewards[1],
        terminated=ends,
        truncated=~ends,
    )


def theirs(batch, catalog, ours):
    """Returns SB3's DDPG with our weights, and the batch in its replay buffer."""
    model = SB3(
        "MlpPolicy",
        Nowhere(),
        learning_rate=STEP,
        gamma=0.9,
        tau=0.005,
        batch_size=BATCH,
        buffer_size=BATCH,
        device="cpu",
        policy_kwargs={"net_arch": [256, 256], "optimizer_class": torch.optim.SGD},
    )
    pairs = zip(
        ours.nets, (model.actor.mu, model.critic.qf0, model.actor_target.mu, model.critic_target.qf0), strict=True
    )
    for net, copied in pairs:
        copied.load_state_dict(dict(zip(copied.state_dict(), net.state_dict().values(), strict=True)))
    before, after = (
        encode_frame(catalog.table, items, rewards)
        for items, rewards in ((batch.items, batch.rewards), (batch.next_items, batch.next_rewards))
    )
    columns = (before, after, catalog.embeddings[batch.action], batch.reward, batch.terminated)
    for row in zip(*columns, strict=True):
        model.replay_buffer.add(*(np.asarray(part)[None] for part in row), [{}])
    everything = model.replay_buffer._get_samples(np.arange(BATCH))
    model.replay_buffer.sample = lambda *args, **kwargs: everything
    model.set_logger(Logger(None, []))
    return model


def descend_plainly(agent):
    agent.optimizers = Optimizers(*(torch.optim.SGD(net.parameters(), STEP) for net in agent.nets[:2]))


def test_updates_equal_stable_baselines3(catalog, batch):
    ours = DDPG(
        catalog,
        frame_size=FRAME,
        device="cpu",
        gamma=0.9,
        tau=0.005,
        dropout=0.0,
        input_scale=1.0,
        hidden=256,
        mapper="inner",
        critic_action="vector",
        bc_weight=0.0,
        q_weight=1.0,
        normalise_q=False,
        max_norm=None,
        reward_range=None,
        actor_init=None,
        critic_init=None,
    )
    descend_plainly(ours)
    model = theirs(batch, catalog, ours)
    for _ in range(3):
        ours.update(batch)
        model.train(gradient_steps=1, batch_size=BATCH)
        compared = (model.actor.mu, model.critic.qf0, model.actor_target.mu, model.critic_target.qf0)
        for name, net, other in zip(ours.nets._fields, ours.nets, compared, strict=True):
            for mine, their in zip(net.parameters(), other.parameters(), strict=True):
                assert torch.allclose(mine, their, atol=TOLERANCE, rtol=0), (name, (mine - their).abs().max())


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
