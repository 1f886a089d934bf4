"""REINFORCE over whole histories: one update worked out by hand, its gradient, and what it learns of rewards."""

import numpy as np
import pytest
import torch
from hand_made import Fixed

from agents.networks.sequence_network import Questions
from agents.networks.softmax_loss import log_softmax_of
from agents.sequence_reinforce import (
    Behaviour,
    Config,
    Networks,
    Optimizers,
    SequenceREINFORCE,
    sequence_reinforce_update,
)
from agents.training.off_policy import gains
from recgym.batches.sequence_batches import SequenceBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History
from recgym.log import InteractionLog

PAPER = {"baseline": 0.0, "bc_weight": 0.0, "normalise": False, "weight_cap": 1e9, "max_norm": None, "dropout": 0.0}
SHARES = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()  # the policy: hidden 1, item vectors 0, 1, 2
TAKEN, REWARDS = [2, 0, 1], np.array([1.0, 0.5, -1.0])


def asked():
    targets = torch.tensor([[2, 0], [1, 3]])  # 3 is padding: three questions
    return Questions(torch.tensor([[0, 2], [1, 3]]), targets, torch.tensor([[1.0, 0.5], [-1.0, 9.0]]))


def made(lr=0.1):
    nets = Networks(Fixed(), Behaviour(1, 3))  # beta begins uniform
    return nets, Optimizers(*(torch.optim.SGD(network.parameters(), lr) for network in nets))


@pytest.mark.parametrize(
    ("correction", "factors"),
    [
        ("none", np.ones(3)),
        ("off_policy", 3 * SHARES[TAKEN]),
        ("top_k", 3 * SHARES[TAKEN] * 4 * (1 - SHARES[TAKEN]) ** 3),
    ],
)
@pytest.mark.parametrize("bc_weight", [0.0, 0.5])
def test_one_step_worked_out_by_hand(correction, factors, bc_weight):
    nets, optimizers = made()
    config = Config(**PAPER | {"bc_weight": bc_weight}, correction=correction, k=4)
    losses = sequence_reinforce_update(asked(), nets, optimizers, config)
    weight = factors * REWARDS + bc_weight
    assert losses["actor_loss"].item() == pytest.approx(-np.dot(weight, np.log(SHARES[TAKEN])) / 3, rel=1e-5)
    assert losses["beta_loss"].item() == pytest.approx(np.log(3.0), rel=1e-6)
    gradient = np.dot(weight, SHARES @ [0, 1, 2] - np.array(TAKEN)) / 3
    assert nets.network.hidden.item() == pytest.approx(1.0 - 0.1 * gradient, rel=1e-5)
    by_beta = np.full((3, 2), 1 / 3) - np.eye(3)[TAKEN].mean(axis=0)[:, None]  # each item once: nothing to move
    assert nets.beta.weight.detach().numpy() == pytest.approx(-0.1 * by_beta, abs=1e-7)


def test_measuring_changes_nothing():
    nets, optimizers = made()
    sequence_reinforce_update(asked(), nets, optimizers, Config(**PAPER), learn=False)
    assert nets.network.hidden.item() == 1.0 and not nets.beta.weight.any()


def test_gains_are_capped_brought_to_a_mean_of_one_and_stand_above_a_baseline():
    log_pi, log_beta = torch.tensor([0.5, 0.1]).log(), torch.tensor([0.1, 0.4]).log()
    returns = torch.tensor([3.0, 1.0])
    found = gains(log_pi, log_beta, returns, Config(correction="off_policy", weight_cap=2.0, baseline=None))
    assert found.weight.tolist() == pytest.approx([2.0, 0.25])
    plain = np.array([2.0, 0.25]) * [1.0, -1.0]
    assert found.gain.tolist() == pytest.approx((plain / np.abs(plain).mean()).tolist())


@pytest.mark.parametrize("n", [1, 700])
def test_log_probabilities_in_parts_are_those_of_a_softmax(n):
    torch.manual_seed(0)
    hidden, items, targets = torch.randn(n, 5), torch.randn(3000, 5), torch.randint(3000, (n,))
    expected = (hidden @ items.T).log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(log_softmax_of(hidden, items, targets), expected)


# -- what is learned ---------------------------------------------------------------------------------------------------


def agent(**config):
    catalog = Catalog(np.eye(6), np.arange(6))
    small = {"width": 16, "dropout": 0.0, "lr": 1e-2, "beta_lr": 1e-2, "mask_seen": False}
    return SequenceREINFORCE(catalog, frame_size=3, device="cpu", **small | config)


def shopping(n_users=64, seed=0):
    """Whatever came before, items 0 to 5 follow at random; only 4 is ever liked."""
    random = np.random.default_rng(seed)
    items = random.integers(6, size=n_users * 8)
    events = np.repeat(np.arange(n_users), 8), items, np.where(items == 4, 1.0, 0.0)
    return InteractionLog.from_events(*events, item_ids=np.arange(6))


@pytest.mark.parametrize("correction", ["none", "off_policy", "top_k"])
def test_what_earns_is_shown_though_nothing_can_be_imitated(correction):
    learner = agent(correction=correction, baseline=0.0, bc_weight=0.0, normalise=True)
    batches = SequenceBatches(shopping(), batch_size=16, device="cpu")
    for _ in range(15):
        for batch in batches:
            learner.update(batch)
    scores = learner.scores(History(np.array([[1, 2, 3], [0, 5, 4]]), None, np.array([3, 3])))
    assert scores.argmax(dim=1).tolist() == [4, 4]
    assert (scores.softmax(dim=1)[:, 4] > 0.5).all()


def test_with_a_discount_it_learns_from_returns():
    learner, log = agent(gamma=0.5), shopping(8)
    batch = next(iter(learner.batches(log, 8)))
    asked_for = learner.ask(batch)
    own = asked_for.targets < 6
    assert sorted(asked_for.rewards[own].tolist()) == pytest.approx(sorted(batch.returns[batch.mask].tolist()))
    assert not torch.equal(asked_for.rewards, agent().ask(batch).rewards)
    bare = next(iter(agent().batches(log, 8)))
    with pytest.raises(ValueError, match=r"with gamma=0.5 a batch must have returns, got none; make it with gamma="):
        learner.update(bare)


def test_frames_teach_their_action():
    frame = np.array([[6, 1, 2], [0, 1, 2]]), np.zeros((2, 3), dtype=np.float32)
    never, reward = np.zeros(2, dtype=bool), np.array([0.5, 1.0], dtype=np.float32)
    batch = Batch(np.arange(2), *frame, np.array([3, 4]), reward, *frame, never, never, returns=np.array([2.0, 3.0]))
    found = agent(gamma=0.5).ask(batch)
    assert found.targets[found.targets < 6].tolist() == [3, 4]
    assert found.rewards[found.targets < 6].tolist() == [2.0, 3.0]
    assert np.isfinite(agent().update(batch)["actor_loss"].item())


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"correction must be one of none, off_policy, top_k, got 'both'"):
        agent(correction="both")
    with pytest.raises(ValueError, match=r"k must be a whole number of at least 1, got 0; leave it out for 10"):
        agent(k=0)
