"""Softmax heads: probabilities, what they cost, and the items they order."""

import numpy as np
import pytest
import torch

from agents.networks.softmax_heads import AdaptiveHead, LinearHead, VectorHead, make_head
from agents.reinforce import REINFORCE
from recgym.batches import FrameBatches
from recgym.catalog import Catalog


@pytest.mark.parametrize("head", ["vectors", "linear", "adaptive"])
def test_each_head_gives_probabilities(log, catalog, head):
    agent = REINFORCE(catalog, frame_size=5, device="cpu", hidden=64, head=head)
    batch = next(iter(FrameBatches(log, frame_size=5, batch_size=8)))
    agent.update(batch)
    decided = agent.look_up(batch)
    state = agent.nets.encoder(*decided.frames)
    log_probs = agent.nets.actor(state)
    assert torch.allclose(log_probs.exp().sum(dim=1), torch.ones(8), atol=1e-5)
    own = log_probs.gather(1, decided.action[:, None])[:, 0]
    assert torch.allclose(agent.nets.actor.log_prob(state, decided.action), own, atol=1e-5)


def test_the_adaptive_head_orders_items_by_the_length_of_their_vectors():
    catalog = Catalog(np.diag([1.0, 3.0, 2.0, 5.0]), np.arange(4))
    place = REINFORCE(catalog, frame_size=1, device="cpu", head="adaptive").nets.actor.head.place
    assert place.tolist() == [3, 1, 2, 0]


def test_vectors_score_by_their_inner_product_and_are_not_learned():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    head = VectorHead(2, vectors)
    with torch.no_grad():
        head.last.weight.copy_(torch.eye(2))
        head.last.bias.zero_()
        head.bias[2] = 0.25
    assert head(torch.tensor([[3.0, 4.0]])).tolist() == [[3.0, 8.0, 0.25]]
    assert {name for name, _ in head.named_parameters()} == {"last.weight", "last.bias", "bias"}
    assert "vectors" not in head.state_dict()


def test_the_adaptive_softmax_equals_torchs_in_the_given_order():
    torch.manual_seed(0)
    order = torch.tensor([3, 0, 2, 1])  # item 3 is the most frequent
    head, hidden = AdaptiveHead(8, order, cutoffs=[1, 2], div_value=2.0), torch.randn(5, 8)
    assert torch.equal(head.log_probs(hidden)[:, order], head.softmax.log_prob(hidden))
    for item in range(4):
        own = head.log_prob(hidden, torch.full((5,), item))
        assert torch.allclose(own, head.log_probs(hidden)[:, item], atol=1e-6)


def test_rare_items_of_an_adaptive_softmax_have_fewer_weights():
    full, adaptive = LinearHead(64, 5000), AdaptiveHead(64, torch.arange(5000))
    sizes = [sum(parameter.numel() for parameter in head.parameters()) for head in (full, adaptive)]
    assert sizes[1] < sizes[0] / 5


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"head must be one of linear, vectors, adaptive, got 'tree'; choose one"):
        make_head("tree", 8, torch.eye(3))
    with pytest.raises(
        ValueError, match=r"width must be at least div_value \*\* clusters = 4, got 3; widen the hidden"
    ):
        make_head("adaptive", 3, torch.eye(3))


def test_policy_and_behaviour_policy_have_heads_of_their_own_and_all_of_them_learn(catalog):
    """Defect of DBRL's: one adaptive softmax for both, and in no optimizer."""
    agent = REINFORCE(catalog, frame_size=5, device="cpu", hidden=64, head="adaptive", encoder="gru")
    assert agent.nets.actor.head.softmax is not agent.nets.beta.head.softmax
    learned = {
        id(parameter)
        for optimizer in agent.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert learned == {id(parameter) for net in agent.nets for parameter in net.parameters()}
