"""REINFORCE's update: worked out by hand, against numeric gradients of what it claims to raise, and on bandits."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from agents.item_agent import Frames, ItemDecisions
from agents.networks.softmax_heads import AdaptiveHead, Beta, DiscreteActor, LinearHead
from agents.reinforce import REINFORCE, Config, Networks, Optimizers, reinforce_update
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History

PAPER = Config(baseline=0.0, bc_weight=0.0, normalise=False, weight_cap=1e9, max_norm=None, dropout=0.0)
CATALOG = Catalog(np.eye(3), np.array(["a", "b", "c"]))


class Policy(nn.Module):
    """A policy that is the same in every state."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def log_prob(self, state, items):
        return self.logits.log_softmax(0)[items]


class Rewards(nn.Module):
    """An encoder whose state is the frame's rewards, times one number."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, vectors, rewards, length, user):
        return rewards * self.factor


def decisions(action, reward, returns=None, state=None):
    """Decisions of which only what is given counts."""
    n = len(action)
    state = torch.zeros(n, 1, dtype=torch.float64) if state is None else state
    frames = Frames(torch.zeros(n, 1, 1), state, torch.ones(n, dtype=torch.int64), None)
    returns = None if returns is None else torch.tensor(returns, dtype=torch.float64)
    reward = torch.tensor(reward, dtype=torch.float64)
    never = torch.zeros(n, dtype=torch.bool)
    return ItemDecisions(frames, torch.tensor(action), reward, returns, frames, torch.zeros(n, 1).long(), never)


def by_hand(policy, beta, lr=1.0):
    nets = Networks(Rewards(), policy, beta)
    both = [*nets.encoder.parameters(), *policy.parameters()]
    return nets, Optimizers(torch.optim.SGD(both, lr), torch.optim.SGD(beta.parameters(), lr))


def log_odds(*shares):
    return [float(np.log(share)) for share in shares]


@pytest.mark.parametrize(
    ("correction", "factors"),
    [
        ("none", (1.0, 1.0)),
        ("off_policy", (0.8 / 0.5, 0.2 / 0.5)),
        ("top_k", (0.8 / 0.5 * 3 * 0.2**2, 0.2 / 0.5 * 3 * 0.8**2)),
    ],
)
def test_one_step_worked_out_by_hand(correction, factors):
    """Policy (0.8, 0.2), beta (0.5, 0.5), K = 3; item 0 earned 2, item 1 earned 1. d log pi(a) = onehot(a) - pi."""
    nets, optimizers = by_hand(Policy(*log_odds(0.8, 0.2)), Policy(*log_odds(0.5, 0.5)))
    before = nets.actor.logits.detach().clone()
    config = replace(PAPER, correction=correction, k=3)
    losses = reinforce_update(decisions([0, 1], [2.0, 1.0]), nets, optimizers, config)
    gradient = 0.5 * (factors[0] * 2.0 * np.array([0.2, -0.2]) + factors[1] * 1.0 * np.array([-0.8, 0.8]))
    assert (nets.actor.logits.detach() - before).tolist() == pytest.approx(gradient.tolist(), rel=1e-9)
    assert losses["beta_loss"].item() == pytest.approx(np.log(2.0))
    expected = -0.5 * (factors[0] * 2.0 * np.log(0.8) + factors[1] * np.log(0.2))
    assert losses["actor_loss"].item() == pytest.approx(expected)


def tiny(head, seed=0):
    """Real networks in float64, with an encoder that learns, and 12 decisions among 6 items."""
    torch.manual_seed(seed)
    heads = {"linear": lambda: LinearHead(4, 6), "adaptive": lambda: AdaptiveHead(4, torch.randperm(6), [2, 4], 2.0)}
    nets = Networks(Rewards(), DiscreteActor(2, heads[head](), 4), Beta(2, heads[head](), 4))
    nets = Networks(*(net.double() for net in nets))
    both = [*nets.encoder.parameters(), *nets.actor.parameters()]
    optimizers = Optimizers(torch.optim.SGD(both, 0.0), torch.optim.SGD(nets.beta.parameters(), 0.0))
    action, returns = torch.randint(6, (12,)).tolist(), torch.rand(12).tolist()
    batch = decisions(action, [0.0] * 12, returns, torch.randn(12, 2, dtype=torch.float64))
    return nets, optimizers, batch


OBJECTIVES = {  # what each form raises, as a function of log pi, log beta and the returns
    "none": lambda pi, beta, returns: (returns * pi).mean(),
    "off_policy": lambda pi, beta, returns: (returns * (pi - beta).exp()).mean(),
    "top_k": lambda pi, beta, returns: (returns * (1 - (1 - pi.exp()) ** 4) / beta.exp()).mean(),
}


@pytest.mark.parametrize("head", ["linear", "adaptive"])
@pytest.mark.parametrize("correction", list(OBJECTIVES))
def test_the_gradient_is_that_of_the_written_objective(correction, head):
    nets, optimizers, batch = tiny(head)

    @torch.no_grad()
    def objective():
        state = nets.encoder(*batch.frames)
        return OBJECTIVES[correction](
            nets.actor.log_prob(state, batch.action), nets.beta.log_prob(fixed, batch.action), batch.returns
        )

    fixed = nets.encoder(*batch.frames).detach()  # beta's state is a constant
    reinforce_update(batch, nets, optimizers, replace(PAPER, correction=correction, k=4, gamma=0.9))
    step, checked = 1e-6, 0
    for parameter in [*nets.encoder.parameters(), *nets.actor.parameters()]:
        values = parameter.data.view(-1)
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad  # a cluster nobody was in
        for place in range(0, len(values), 3):
            kept = values[place].item()
            ends = []
            for sign in (1, -1):
                values[place] = kept + sign * step
                ends.append(objective().item())
            values[place] = kept
            numeric = (ends[0] - ends[1]) / (2 * step)
            assert -grad.view(-1)[place].item() == pytest.approx(numeric, rel=1e-5, abs=1e-8)
            checked += abs(numeric) > 1e-6
    assert checked > 5


def test_beta_learns_by_cross_entropy_and_leaves_the_encoder_alone():
    nets, optimizers, batch = tiny("linear")
    reinforce_update(batch, nets, optimizers, replace(PAPER, gamma=0.9, correction="none"))
    found = [parameter.grad.clone() for parameter in nets.beta.parameters()]
    encoder = nets.encoder.factor.grad.clone()
    nets.beta.zero_grad()
    state = nets.encoder(*batch.frames).detach()
    torch.nn.functional.cross_entropy(nets.beta(state), batch.action).backward()
    assert all(torch.allclose(a, b.grad) for a, b in zip(found, nets.beta.parameters(), strict=True))
    other = tiny("linear", seed=0)[0]
    other.beta.first.weight.data.mul_(3.0)  # another beta, the same policy gradient
    reinforce_update(batch, other, tiny_optimizers(other), replace(PAPER, gamma=0.9, correction="none"))
    assert torch.equal(other.encoder.factor.grad, encoder)


def tiny_optimizers(nets):
    both = [*nets.encoder.parameters(), *nets.actor.parameters()]
    return Optimizers(torch.optim.SGD(both, 0.0), torch.optim.SGD(nets.beta.parameters(), 0.0))


@pytest.mark.parametrize("cap", [0.5, 1.2])
def test_weights_are_capped_and_no_gradient_passes_through_them(cap):
    """pi / beta is 0.8 / 0.5 = 1.6 and 0.4: the cap is what counts for item 0, at 0.5 the cap or 0.4 for the others."""
    nets, optimizers = by_hand(Policy(*log_odds(0.8, 0.2)), Policy(*log_odds(0.5, 0.5)))
    before = nets.actor.logits.detach().clone()
    config = replace(PAPER, correction="off_policy", weight_cap=cap)
    losses = reinforce_update(decisions([0, 1], [1.0, 1.0]), nets, optimizers, config)
    assert losses["weight"].item() == pytest.approx((cap + 0.4) / 2)
    expected = 0.5 * (cap * np.array([0.2, -0.2]) + 0.4 * np.array([-0.8, 0.8]))
    assert (nets.actor.logits.detach() - before).tolist() == pytest.approx(expected.tolist())


def test_lists_of_one_item_are_the_plain_correction():
    def step(**options):
        nets, optimizers, batch = tiny("linear")
        losses = reinforce_update(batch, nets, optimizers, replace(PAPER, gamma=0.9, **options))
        return losses["actor_loss"], [parameter.grad for parameter in nets.actor.parameters()]

    (loss, grads), (other_loss, other_grads) = step(correction="top_k", k=1), step(correction="off_policy")
    assert torch.equal(loss, other_loss)
    assert all(torch.equal(a, b) for a, b in zip(grads, other_grads, strict=True))
    assert not torch.equal(step(correction="top_k", k=2)[0], loss)


def test_baseline_and_imitation_worked_out_by_hand():
    nets, optimizers = by_hand(Policy(*log_odds(0.8, 0.2)), Policy(*log_odds(0.5, 0.5)))
    config = replace(PAPER, correction="none", baseline=-1.0, bc_weight=0.25)
    losses = reinforce_update(decisions([0, 1], [-0.5, 1.0]), nets, optimizers, config)
    expected = -0.5 * ((0.5 + 0.25) * np.log(0.8) + (2.0 + 0.25) * np.log(0.2))
    assert losses["actor_loss"].item() == pytest.approx(expected)


def test_normalised_gains_weigh_the_same_on_any_scale():
    """Gains are 0.5 and 2, their mean magnitude 1.25; ten times the rewards change nothing."""
    for scale in (1.0, 10.0):
        nets, optimizers = by_hand(Policy(*log_odds(0.8, 0.2)), Policy(*log_odds(0.5, 0.5)))
        config = replace(PAPER, correction="none", bc_weight=0.25, normalise=True)
        losses = reinforce_update(decisions([0, 1], [0.5 * scale, 2.0 * scale]), nets, optimizers, config)
        expected = -0.5 * ((0.5 / 1.25 + 0.25) * np.log(0.8) + (2.0 / 1.25 + 0.25) * np.log(0.2))
        assert losses["actor_loss"].item() == pytest.approx(expected)


def test_returns_count_where_gamma_asks_for_them_and_only_there():
    def loss(gamma, returns):
        nets, optimizers = by_hand(Policy(*log_odds(0.5, 0.5)), Policy(*log_odds(0.5, 0.5)))
        batch = decisions([0], [1.0], returns)
        config = replace(PAPER, correction="none", gamma=gamma)
        return reinforce_update(batch, nets, optimizers, config)["actor_loss"].item()

    assert loss(0.9, [3.0]) == pytest.approx(3.0 * np.log(2.0))
    assert loss(0.0, None) == pytest.approx(np.log(2.0))
    with pytest.raises(ValueError, match=r"with gamma=0.9 a batch must have returns, got none; make it by FrameBatch"):
        loss(0.9, None)


def test_its_own_batches_have_the_returns_it_asks_for(log, catalog):
    def batch(**config):
        agent = REINFORCE(catalog, frame_size=5, device="cpu", hidden=16, **config)
        batches = agent.batches(log, 8)
        agent.update(next(iter(batches)))
        return next(iter(batches))

    assert batch().returns is None
    assert batch(gamma=0.9).returns.shape == (8,)


# -- what is learned ---------------------------------------------------------------------------------------------------


def bandit(agent, shown_by, earned, steps=200, n=60):
    """Learns from a log of one state, whose items have some shares of it and earned so much each."""
    action = np.repeat([0, 1, 2], np.rint(np.asarray(shown_by) * n).astype(int))
    reward = np.asarray(earned, dtype=np.float32)[action]
    frame = np.full((n, 1), 3), np.zeros((n, 1), dtype=np.float32)
    nobody = np.zeros(n, dtype=bool)
    for _ in range(steps):
        agent.update(Batch(action, *frame, action, reward, *frame, nobody, ~nobody, np.zeros(n, dtype=int)))
    return agent.scores(History(*(part[:1] for part in frame), np.zeros(1, dtype=int)))[0]


def agent_of(correction, **options):
    config = {"hidden": 16, "dropout": 0.0, "head": "linear", "actor_lr": 1e-2, "beta_lr": 1e-2, "normalise": False}
    config |= {"baseline": 0.0, "bc_weight": 0.0, "weight_cap": 20.0}
    return REINFORCE(CATALOG, frame_size=1, device="cpu", correction=correction, **(config | options))


@pytest.mark.parametrize("correction", ["none", "off_policy", "top_k"])
def test_a_uniform_log_teaches_the_best_item(correction):
    scores = bandit(agent_of(correction, k=2), [1 / 3, 1 / 3, 1 / 3], [0.2, 1.0, 0.5])
    assert scores.argmax().item() == 1


def test_under_a_skewed_log_only_the_correction_finds_the_best_item():
    """Item 0 was shown 18 times as often as item 1, which earns twice as much: 0.9 * 0.5 against 0.05 * 1.0."""
    shown_by, earned = [0.9, 0.05, 0.05], [0.5, 1.0, 0.1]
    assert bandit(agent_of("none"), shown_by, earned).argmax().item() == 0
    assert bandit(agent_of("off_policy"), shown_by, earned).argmax().item() == 1


def test_the_list_correction_leaves_room_for_the_second_best():
    """The plain correction puts all on the best item; with lists of two the second best keeps the rest."""
    shown_by, earned = [1 / 3, 1 / 3, 1 / 3], [0.1, 1.0, 0.9]
    alone = bandit(agent_of("off_policy", actor_lr=5e-2), shown_by, earned, steps=150).exp()
    listed = bandit(agent_of("top_k", k=2, actor_lr=5e-2), shown_by, earned, steps=150).exp()
    assert alone[1] > 0.9
    assert listed[2] > 2 * alone[2]
    assert listed.topk(2).indices.tolist() == [1, 2]


def test_beta_becomes_the_shares_of_the_log():
    agent = agent_of("off_policy")
    bandit(agent, [0.7, 0.2, 0.1], [1.0, 1.0, 1.0])
    frames = agent.look_at(torch.tensor([[3]]), torch.zeros(1, 1), torch.tensor([0]), None)
    shares = agent.nets.beta(agent.nets.encoder(*frames)).exp()[0]
    assert shares.tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


def test_every_network_moves_and_measuring_moves_none(log, catalog):
    agent = REINFORCE(catalog, frame_size=5, device="cpu", hidden=16, encoder="gru")
    batch = agent.look_up(next(iter(FrameBatches(log, frame_size=5, batch_size=8))))
    before = copy.deepcopy(agent.nets)
    arguments = batch, agent.nets, agent.optimizers, agent.config
    measured = reinforce_update(*arguments, learn=False)
    assert measured == reinforce_update(*arguments, learn=False)
    for learn in (False, True):
        if learn:
            reinforce_update(*arguments)
        for name, old, new in zip(before._fields, before, agent.nets, strict=True):
            pairs = zip(old.parameters(), new.parameters(), strict=True)
            assert any(not torch.equal(a, b) for a, b in pairs) == learn, name
    assert not any(net.training for net in agent.nets)


def test_a_wrong_correction_is_refused():
    with pytest.raises(ValueError, match=r"correction must be one of none, off_policy, top_k, got 'topk'; choose one"):
        REINFORCE(CATALOG, correction="topk")
