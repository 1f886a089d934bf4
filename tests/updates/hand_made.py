"""What updates are worked out by hand on: items with vectors (1, 0) and (0, 1), frames of one event, three decisions.

One decision goes on, one is terminated, one is truncated.
"""

import numpy as np
import torch
from torch import nn

from recgym.catalog import Catalog
from recgym.frames import Batch

PAPER = {"bc_weight": 0.0, "normalise_q": False, "critic_action": "vector", "reward_range": None, "max_norm": None}
CATALOG = Catalog(np.eye(2), np.array(["a", "b"]))
BATCH = Batch(
    user=np.array([0, 1, 2]),
    items=np.array([[0], [1], [0]]),
    rewards=np.array([[0.5], [-0.5], [1.0]], dtype=np.float32),
    action=np.array([1, 0, 1]),
    reward=np.array([1.0, 1.0, 1.0], dtype=np.float32),
    next_items=np.array([[1], [0], [1]]),
    next_rewards=np.array([[1.0], [1.0], [1.0]], dtype=np.float32),
    terminated=np.array([False, True, False]),
    truncated=np.array([False, False, True]),
)


class Constant(nn.Module):
    """A critic that is one number, whatever it is shown."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, *parts):
        return self.value.expand(parts[-1].shape[:-1])


class Linear(nn.Module):
    """An actor that is one vector, whatever the state."""

    def __init__(self, *values):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, *state):
        return self.value.expand(len(state[0]), -1)


class Slope(nn.Module):
    """A critic that is the inner product of the action with a direction."""

    def __init__(self, *values):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, *parts):
        return parts[-1] @ self.value


def sgd(*networks, lr=0.1):
    """Plain gradient descent for all the networks together."""
    return torch.optim.SGD([parameter for network in networks for parameter in network.parameters()], lr)


def everything(agent):
    """All weights of an agent as one vector."""
    return torch.cat([parameter.detach().flatten() for net in agent.nets for parameter in net.parameters()])


class Fixed(nn.Module):
    """A network of whole histories with the item vectors (0), (1), (2), whose hidden vector is a constant."""

    scale = 1.0

    def __init__(self):
        super().__init__()
        self.hidden = nn.Parameter(torch.ones(1))

    def table(self):
        return torch.tensor([[0.0], [1.0], [2.0]])

    def forward(self, items, table):
        return self.hidden.expand(*items.shape, 1)
