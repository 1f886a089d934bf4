"""DRR learning: replay by priority, users, exploration, and what it lives through in its environment."""

from itertools import islice

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log
from hand_made import CATALOG, PAPER, everything

from agents import DDPG, checkpoint, fit, fit_online
from agents.drr import DRR, drr_update
from agents.networks.state_encoders import ENCODERS
from agents.training import train
from agents.training.prioritized import PrioritizedReplay
from recgym.batches import FrameBatches
from recgym.envs.registry import make_vector_env
from recgym.frames import Batch, History

SMALL = {"world": "drr", "n_users": 60, "n_items": 120, "dim": 8, "frame_size": 5, "observation": "user_history"}


def alike(*users):
    """Histories that differ in their user only."""
    n = len(users)
    return History(np.full((n, 1), 0), np.ones((n, 1), dtype=np.float32), np.ones(n, dtype=int), np.array(users))


def with_users(**config):
    return DRR(CATALOG, frame_size=1, device="cpu", **{"n_users": 3, "actor_init": None} | config)


# -- replay by priority ------------------------------------------------------------------------------------------------


def from_log(**options):
    buffer = PrioritizedReplay(200, 5, seed=1, **options)
    for batch in FrameBatches(make_log(), frame_size=5, batch_size=8, seed=1):
        buffer.add(batch)
    return buffer


def on_toy_log(seed=0, **config):
    config = {"hidden": 16, "n_users": 6, "n_negatives": 4} | config
    return DRR(make_catalog(), frame_size=5, device="cpu", seed=seed, **config)


def test_priorities_are_the_errors_of_the_last_update():
    """Defect G4: priorities stayed what they were, and weights were not used."""
    buffer, agent = from_log(alpha=1.0, beta=1.0), on_toy_log(dropout=0.0, unnamed=0.0, n_negatives=0)
    before = buffer.tree[np.arange(len(buffer))]
    drawn = buffer.sample(16)
    batch, user = agent.look_up(drawn), torch.as_tensor(drawn.user)
    arguments = batch, agent.nets, agent.optimizers, agent.vectors[:-1], agent.config
    errors = drr_update(*arguments, user=user, shown=agent.shown[:-1], learn=False)["errors"]
    agent.losses(drawn)
    np.testing.assert_array_equal(buffer.tree[np.arange(len(buffer))], before)  # measuring tells nothing
    agent.update(drawn)
    np.testing.assert_allclose(buffer.tree[drawn.places], errors.abs().numpy() + buffer.epsilon, rtol=1e-5)
    others = np.setdiff1d(np.arange(len(buffer)), drawn.places)
    np.testing.assert_array_equal(buffer.tree[others], before[others])


def test_weights_are_used():
    buffer, agent = from_log(alpha=1.0, beta=1.0), on_toy_log()
    buffer.tell(np.arange(len(buffer)), np.linspace(0.1, 9.0, len(buffer)))
    drawn = buffer.sample(16)
    plain = agent.losses(Batch(*drawn))["critic_loss"]
    assert drawn.weight.min() < 0.9
    assert agent.losses(drawn)["critic_loss"] < plain  # no weight is above 1
    agent.update(drawn)


def test_what_surprises_is_drawn_more_often():
    """Of 64 decisions one earned 1 and the others nothing: it is drawn more often than one in 64 until it is known."""
    n = 64
    frame, never = (np.zeros((n, 1), dtype=int), np.ones((n, 1), dtype=np.float32)), np.zeros(n, dtype=bool)
    reward = (np.arange(n) == 7).astype(np.float32)
    buffer = PrioritizedReplay(n, 1, alpha=1.0)
    buffer.add(Batch(np.arange(n), *frame, np.zeros(n, dtype=int), reward, *frame, never, never))
    agent = DRR(CATALOG, frame_size=1, device="cpu", gamma=0.0, **PAPER)
    counts = np.zeros(n)
    for drawn in islice(buffer.endless(32), 60):
        counts += np.bincount(drawn.places, minlength=n)
        agent.update(drawn)
    assert counts[7] > 5 * counts.sum() / n


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_run_with_priorities_ends_with_the_very_same_weights(tmp_path, stop):
    whole, buffer = on_toy_log(), from_log()
    fit(whole, buffer.endless(8), 8)
    agent, part = on_toy_log(), from_log()
    fit(agent, part.endless(8), stop)
    checkpoint.save(tmp_path, stop, agent, part)
    resumed, again = on_toy_log(), from_log()
    fit(resumed, again.endless(8), 2)  # it has a history of its own; loading must leave none of it
    assert checkpoint.load(tmp_path, resumed, again) == stop
    fit(resumed, again.endless(8), 8, first_step=stop)
    assert torch.equal(everything(resumed), everything(whole))
    np.testing.assert_array_equal(again.tree.nodes, buffer.tree.nodes)


def test_agents_that_know_no_priorities_learn_from_it_too():
    agent = DDPG(make_catalog(), frame_size=5, device="cpu", hidden=8)
    assert fit(agent, from_log().endless(8), 3) == 3


# -- in an environment -------------------------------------------------------------------------------------------------


def test_it_learns_in_drrs_environment_from_what_it_lived_through():
    env = make_vector_env(8, **SMALL, action="embedding", autoreset_mode="SameStep", horizon=4)
    agent = DRR(env.catalog, frame_size=5, device="cpu", n_users=60, bc_weight=0.0, hidden=16, seed=2)
    buffer = fit_online(agent, env, 12, batch_size=16, warm_up=32)
    assert isinstance(buffer, PrioritizedReplay)
    assert (buffer.alpha, buffer.beta) == (agent.config.priority_alpha, agent.config.priority_beta)
    assert agent.updates == buffer.batches == 9
    assert len(np.unique(buffer.columns.user[: len(buffer)])) > 8
    assert len(np.unique(buffer.tree[np.arange(len(buffer))])) > 16  # not all alike
    history = alike(0, 1)
    assert not torch.equal(*agent.scores(history))


def test_what_an_environment_shows_names_its_users():
    shown = {"items": np.array([[8, 3], [1, 2]]), "rewards": np.zeros((2, 2)), "user": np.array([4, 0])}
    assert train.as_history(shown, 8).user.tolist() == [4, 0]


def test_exploring_wanders():
    """n' = (1 - theta) n + noise * e, worked out with the agent's own stream; recommending knows nothing of it."""
    agent = with_users(noise=0.1, theta=0.25)
    history, stream = alike(0, 1), torch.Generator().manual_seed(0)
    middle, expected = agent.act(history), torch.zeros(2, 2)
    for _ in range(3):
        expected = 0.75 * expected + 0.1 * torch.randn(2, 2, generator=stream)
        assert torch.allclose(agent.act(history, explore=True), (middle + expected).clamp(-1.0, 1.0), atol=1e-6)
        assert torch.equal(agent.act(history), middle)
    saved = agent.state_dict()
    following = agent.act(history, explore=True)
    other = with_users(noise=0.1, theta=0.25, seed=9)
    other.load_state_dict(saved)
    assert torch.equal(other.act(history, explore=True), following)
    begun = 0.1 * torch.randn(3, 2, generator=other.generator.clone_state())
    anew = other.act(alike(0, 1, 2), explore=True) - other.act(alike(0, 1, 2))
    assert torch.allclose(anew, begun, atol=1e-6)  # other rows: nothing to go on from


def test_noise_that_forgets_at_once_is_gaussian_noise():
    agent = with_users(noise=0.1, theta=1.0)
    history, stream = alike(0, 1), torch.Generator().manual_seed(0)
    for _ in range(2):
        expected = agent.act(history) + 0.1 * torch.randn(2, 2, generator=stream)
        assert torch.allclose(agent.act(history, explore=True), expected.clamp(-1.0, 1.0), atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_state_module_stands_in_its_place(encoder):
    """Also one that has nothing to learn, as "flat"."""
    agent = on_toy_log(encoder=encoder, width=8)
    before = everything(agent)
    fit(agent, from_log().endless(8), 2)
    assert not torch.equal(before, everything(agent))
    other = on_toy_log(encoder=encoder, width=8, seed=1)
    other.load_state_dict(agent.state_dict())
    assert torch.equal(everything(other), everything(agent))
