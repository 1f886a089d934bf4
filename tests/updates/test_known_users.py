"""Agents whose encoder has a vector for each user: whoever has none, or is not named, has the one in common."""

import numpy as np
import pytest
import torch

from agents import DQN, DRR, REINFORCE, LSTMActorCritic, fit
from agents.base import known_users
from recgym.batches import FrameBatches
from recgym.frames import History

CPU = torch.device("cpu")
AGENTS = pytest.mark.parametrize("agent_class", [REINFORCE, DQN, LSTMActorCritic, DRR])
ENCODERS = pytest.mark.parametrize("encoder", ["drr", "attention"])


def made(agent_class, catalog, encoder, n_users=3):
    return agent_class(catalog, frame_size=5, device="cpu", encoder=encoder, n_users=n_users, width=8, hidden=16)


def alike(*users):
    """Histories that differ in their user only."""
    n = len(users)
    return History(np.full((n, 1), 0), np.ones((n, 1), dtype=np.float32), np.ones(n, dtype=int), np.array(users))


def tables(agent):
    """The vectors of users, of every encoder that learns."""
    modules = {name: module for net in agent.nets for name, module in net.named_modules() if name.endswith("users")}
    return [module.weight for module in modules.values()]


def test_users_without_a_vector_are_all_the_same_one():
    assert known_users(np.array([0, 2, 3, 99, -1]), 3, CPU).tolist() == [0, 2, 3, 3, 3]
    assert known_users(torch.tensor([1, 7], dtype=torch.int32), 3, CPU).tolist() == [1, 3]
    assert known_users(None, 3, CPU) is None
    assert known_users(np.array([0, 1]), 0, CPU) is None


@AGENTS
@ENCODERS
def test_strangers_are_scored_as_those_who_are_not_named(agent_class, encoder, catalog):
    agent = made(agent_class, catalog, encoder)
    for table in tables(agent):
        torch.nn.init.normal_(table)  # some begin nearly alike
    strangers = agent.scores(alike(3, 99, -1))
    assert torch.equal(strangers, agent.scores(alike(0, 1, 2)._replace(user=None)))
    assert not torch.equal(strangers[:2], agent.scores(alike(0, 1)))
    assert not torch.equal(*agent.scores(alike(0, 1)))


@AGENTS
@ENCODERS
def test_a_log_of_more_users_than_have_a_vector_is_learned_from(agent_class, encoder, log, catalog):
    """Users beyond the first n_users teach the vector in common; of the others each learns from its own decisions."""
    agent = made(agent_class, catalog, encoder)
    before = [table.detach().clone() for table in tables(agent)]
    assert before
    assert log.n_users > 3
    fit(agent, FrameBatches(log, frame_size=5, batch_size=64, seed=1, min_history=1), 2)
    for old, new in zip(before, tables(agent), strict=True):
        assert old.shape[0] == 4
        assert (old != new).any(dim=1).all()
