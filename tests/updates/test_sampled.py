"""Softmaxes over items estimated from a few that are drawn: right in expectation, and reached by every learner."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from agents import (
    BCQ,
    DDPG,
    DQN,
    REINFORCE,
    SAC,
    SQN,
    TD3,
    LSTMActorCritic,
    SequenceModel,
    SequenceREINFORCE,
    SequenceTD3BC,
)
from agents.ddpg import Config
from agents.networks import softmax_heads, softmax_loss
from agents.networks.losses import imitation_loss, seen_by_critic
from agents.networks.softmax_heads import LinearHead, VectorHead
from agents.networks.softmax_loss import DRAWN, LARGE, drawn_policy, n_drawn, sampled_softmax_loss
from recgym.batches import FrameBatches
from recgym.datasets import synthetic
from recgym.embeddings import svd
from recgym.errors import DataError

N_ITEMS, WIDTH = 300, 24


def numbers(seed=0):
    random = torch.Generator().manual_seed(seed)
    items = functional.normalize(torch.randn(N_ITEMS, WIDTH, generator=random), dim=1)
    targets = torch.tensor([7, 0, 299, 7])
    return 5.0 * items[targets], items, targets  # which are likely, but not certain


def gradients(loss, hidden, items):
    return torch.autograd.grad(loss, (hidden, items))


def mean_gradients(n, draws, corrected=True):
    """Mean gradients of the sampled loss over draws; without the correction each drawn item counts once."""
    hidden, items, targets = (part.requires_grad_() if part.is_floating_point() else part for part in numbers())
    random, total = torch.Generator().manual_seed(1), [torch.zeros_like(hidden), torch.zeros_like(items)]
    for _ in range(draws):
        if corrected:
            loss = sampled_softmax_loss(hidden, items, targets, n, random).sum()
        else:
            drawn = torch.randint(N_ITEMS, (n,), generator=random)
            own = (hidden * items[targets]).sum(dim=1, keepdim=True)
            scores = torch.cat([own, hidden @ items[drawn].T], dim=1)
            loss = functional.cross_entropy(scores, torch.zeros_like(targets), reduction="sum")
        for sum_of, part in zip(total, gradients(loss, hidden, items), strict=True):
            sum_of += part / draws
    full = functional.cross_entropy(hidden @ items.T, targets, reduction="sum")
    return total, gradients(full, hidden, items)


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_the_sampled_loss_has_the_full_losss_gradient_in_expectation():
    found, expected = mean_gradients(n=50, draws=800)
    assert distance(found[0], expected[0]) < 0.03 and distance(found[1], expected[1]) < 0.03
    plain, _ = mean_gradients(n=50, draws=200, corrected=False)
    assert distance(plain[0], expected[0]) > 0.3  # what was done before: the target's share comes out too large


def test_the_sum_that_estimates_the_softmaxs_is_right_in_expectation():
    """exp(loss) is sum / exp(own score), whose mean over draws is the full one, whatever n."""
    hidden, items, targets = numbers()
    random = torch.Generator().manual_seed(2)
    found = torch.stack([sampled_softmax_loss(hidden, items, targets, 20, random).exp() for _ in range(4000)])
    expected = functional.cross_entropy(hidden @ items.T, targets, reduction="none").exp()
    error = found.std(dim=0) / len(found) ** 0.5
    assert ((found.mean(dim=0) - expected).abs() < 4 * error).all()


def test_the_logged_item_that_is_drawn_counts_once():
    hidden, items = torch.zeros(1, 2), torch.zeros(2, 2)
    for seed in range(5):  # of two items, all equally likely: log 2, or 0 if nothing but the target was drawn
        loss = sampled_softmax_loss(hidden, items, torch.tensor([0]), 3, torch.Generator().manual_seed(seed))
        drawn = torch.randint(2, (3,), generator=torch.Generator().manual_seed(seed))
        assert loss.item() == pytest.approx(np.log(2) if drawn.any() else 0.0)


def test_critics_see_the_mean_of_a_few_items_which_is_near_that_of_all():
    action, items = 0.2 * numbers()[0], numbers()[1]
    all_of = seen_by_critic(action, items, items, Config(temperature=3.0))
    few = Config(temperature=3.0, n_negatives=150)
    assert torch.equal(seen_by_critic(action, items, items, few, sampled=False), all_of)
    random = torch.Generator().manual_seed(3)
    found = torch.stack([seen_by_critic(action, items, items, few, random) for _ in range(400)])
    assert found.std(dim=0).max() > 0
    assert (found.mean(dim=0) - all_of).abs().max() < 0.02
    loss = imitation_loss(action, torch.tensor([1, 2, 3, 4]), items, few, torch.Generator().manual_seed(4))
    whole = imitation_loss(action, torch.tensor([1, 2, 3, 4]), items, Config(temperature=3.0), None)
    assert loss.numpy() == pytest.approx(whole.numpy(), abs=0.5)


@pytest.fixture(scope="module")
def log():
    return synthetic(n_users=80, n_items=60)


def test_large_catalogs_are_drawn_from_unless_all_are_asked_for():
    assert [n_drawn(None, n) for n in (10, LARGE, LARGE + 1)] == [0, 0, DRAWN]
    assert [n_drawn(asked, LARGE + 1) for asked in (0, 7)] == [0, 7]
    assert {make.presets["paper"]["policy_negatives" if make is SQN else "n_negatives"] for make in SEQUENCES} == {0}


SEQUENCES = (SQN, SequenceTD3BC, SequenceREINFORCE)


@pytest.mark.parametrize("make", [*SEQUENCES, SequenceModel, DDPG, TD3, SAC, BCQ, REINFORCE, DQN, LSTMActorCritic])
def test_learners_draw_from_large_catalogs_by_themselves(make, log, monkeypatch):
    for module in (softmax_loss, softmax_heads):
        monkeypatch.setattr(module, "LARGE", log.n_items - 1)
    monkeypatch.setattr(softmax_loss, "DRAWN", 16)
    test_learners_never_score_the_whole_catalog_when_they_draw(make, None, log)


@pytest.mark.parametrize(
    ("make", "option"), [(SQN, "policy_negatives"), (SequenceModel, "n_negatives"), (DDPG, "n_negatives")]
)
def test_learners_never_score_the_whole_catalog_when_they_draw(make, option, log):
    """No matrix product of an update is as wide as the catalog."""
    catalog = svd(log, dim=8)
    agent = make(catalog, frame_size=5, seed=0, device="cpu", **({option: 16} if option else {}))
    batch = (
        next(iter(agent.batches(log, 8))) if hasattr(agent, "batches") else next(iter(FrameBatches(log, 5, 16, seed=0)))
    )
    widest = [0]

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            out = function(*arguments, **(keywords or {}))
            if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default):
                widest[0] = max(widest[0], out.shape[-1] if out.shape[-1] == log.n_items else 0)
            return out

    with Watch():
        losses = agent.update(batch)
    assert widest[0] == 0
    assert all(torch.isfinite(loss).all() for loss in losses.values())


@pytest.mark.parametrize("kind", ["linear", "vectors"])
def test_heads_answer_for_some_items_what_they_answer_for_all(kind):
    torch.manual_seed(0)
    head = LinearHead(6, N_ITEMS) if kind == "linear" else VectorHead(6, torch.randn(N_ITEMS, 4))
    for free in head.parameters():
        torch.nn.init.normal_(free)
    hidden, own = torch.randn(5, 6), torch.randint(N_ITEMS, (5, 2))
    drawn, every = torch.tensor([7, 7, 299]), torch.arange(N_ITEMS)
    whole = head(hidden)
    expected = torch.cat([whole.gather(1, own), whole[:, drawn]], dim=1)
    assert torch.allclose(head.some(hidden, own, drawn), expected, atol=1e-5)
    assert torch.allclose(head.mean(hidden), whole.mean(dim=1, keepdim=True), atol=1e-5)
    every = every.repeat_interleave(2)  # each item drawn as often: the estimates are what they estimate
    assert torch.allclose(head.log_prob(hidden, own[:, 0], every), head.log_prob(hidden, own[:, 0]), atol=1e-5)
    scores, log_pi = head.some(hidden, own[:, :1], every), head.log_probs(hidden)
    found, entropy = drawn_policy(scores, every == own[:, :1], N_ITEMS)
    assert torch.allclose(found, log_pi.gather(1, own[:, :1])[:, 0], atol=1e-5)
    assert torch.allclose(entropy, -(log_pi.exp() * log_pi).sum(dim=1), atol=1e-4)


@pytest.mark.parametrize("make", [REINFORCE, DQN, LSTMActorCritic])
def test_of_every_item_drawn_equally_often_an_update_is_that_of_all(make, log, monkeypatch):
    """Losses, and gradients as what the weights are after a step."""
    catalog = svd(log, dim=8)
    batch = next(iter(FrameBatches(log, 5, 16, seed=0)))
    ends = []
    for drawn in (None, torch.arange(log.n_items).repeat(3)):
        agent = make(catalog, frame_size=5, seed=0, device="cpu", dropout=0.0, hidden=16)
        monkeypatch.setattr(agent, "drawn", lambda drawn=drawn: drawn)
        losses = [{name: float(loss) for name, loss in agent.update(batch).items()} for _ in range(3)]
        ends.append((losses, torch.cat([part.flatten() for net in agent.nets for part in net.parameters()])))
    (losses, weights), (drawn_losses, drawn_weights) = ends
    for mine, other in zip(losses, drawn_losses, strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert (weights - drawn_weights).abs().mean() < 1e-5


def test_a_share_of_items_is_no_number_of_them(log):
    with pytest.raises(DataError, match=r"policy_negatives must be a whole number of at least 0, got 0\.5"):
        SQN(svd(log, dim=8), policy_negatives=0.5, device="cpu")
