"""What the comparisons with Stable-Baselines3 share: a batch, and its model with our weights and that batch."""

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from recgym.frames import Batch, encode_frame

FRAME, DIM, BATCH = 3, 12, 32
TOLERANCE = 1e-6
STEP = 0.1  # size of a gradient step


class Nowhere(gym.Env):
    """Only its spaces matter."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (FRAME * (DIM + 1),), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (DIM,), np.float32)


def make_batch(catalog):
    """Random decisions; a third of them end."""
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


def theirs(algorithm, batch, catalog, pairs, **options):
    """Returns SB3's model with our weights and the batch in its replay buffer; it steps by plain gradient descent.

    Args:
        algorithm: SB3's class.
        batch: What it learns from.
        catalog: Where vectors are looked up.
        pairs: Called with the model, returns pairs of our networks and theirs.
        **options: Further arguments of the class.
    """
    model = algorithm(
        "MlpPolicy",
        Nowhere(),
        learning_rate=STEP,
        gamma=0.9,
        tau=0.005,
        batch_size=BATCH,
        buffer_size=BATCH,
        device="cpu",
        policy_kwargs={"net_arch": [256, 256], "optimizer_class": torch.optim.SGD},
        **options,
    )
    for net, copied in pairs(model):
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


def assert_equal(pairs, tolerance=TOLERANCE):
    """Every weight of our networks is that of theirs."""
    for net, other in pairs:
        for mine, their in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.allclose(mine, their, atol=tolerance, rtol=0), (type(net), (mine - their).abs().max())


def plain(made, *groups):
    """Returns optimizers like `made` that step by plain gradient descent, one for each group of networks."""
    return type(made)(*(torch.optim.SGD([p for net in group for p in net.parameters()], STEP) for group in groups))
