import numpy as np
import pytest
import torch
from torch import nn

from agents.networks import Actor, Critic, PartsLinear, descend, init_uniform, polyak_update, seeded


def test_a_layer_of_parts_equals_one_on_the_whole():
    layer, whole = PartsLinear(7, 4), torch.randn(5, 7)
    expected = nn.functional.linear(whole, layer.weight, layer.bias)
    for widths in ((7,), (3, 4), (2, 1, 4)):
        assert torch.allclose(layer(*whole.split(widths, dim=1)), expected, atol=1e-6)


def test_gradients_of_a_layer_of_parts_equal_those_of_the_whole():
    layer, whole = PartsLinear(7, 4), torch.randn(5, 7)
    layer(whole).square().sum().backward()
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    layer(*whole.split((3, 4), dim=1)).square().sum().backward()
    assert torch.allclose(layer.weight.grad, expected, atol=1e-5)


def test_parts_that_do_not_add_up_are_an_error():
    with pytest.raises(RuntimeError):
        PartsLinear(7, 4)(torch.ones(2, 3), torch.ones(2, 3))


def test_the_shapes_and_sizes_are_recnns():
    actor, critic = Actor(1290, 128), Critic(1290, 128)
    state = torch.randn(2, 1280), torch.randn(2, 10)
    action = actor(*state)
    assert action.shape == (2, 128)
    assert critic(*state, action).shape == (2,)
    assert [tuple(p.shape) for p in actor.parameters() if p.ndim == 2] == [(256, 1290), (256, 256), (128, 256)]
    assert [tuple(p.shape) for p in critic.parameters() if p.ndim == 2] == [(256, 1418), (256, 256), (1, 256)]


def test_actions_stay_in_the_box_unless_they_need_not():
    state = 100 * torch.randn(8, 6)
    assert Actor(6, 3, last_init=5.0)(state).abs().max() <= 1.0
    assert Actor(6, 3, last_init=5.0, bounded=False)(state).abs().max() > 1.0


@pytest.mark.parametrize("network", [Actor, Critic])
def test_the_last_layer_begins_as_asked(network):
    assert network(6, 3, last_init=0.25).last.weight.abs().max() <= 0.25
    assert network(6, 3, last_init=1e-9).last.bias.abs().max() <= 1e-9
    assert network(6, 3, last_init=None).last.weight.abs().max() > 0.03


def test_dropout_is_off_in_eval_mode_and_by_default():
    state = torch.randn(4, 6)
    dropping = Actor(6, 3, dropout=0.5, last_init=None)
    assert not torch.equal(dropping(state), dropping(state))
    dropping.eval()
    assert torch.equal(dropping(state), dropping(state))
    assert torch.equal((plain := Actor(6, 3))(state), plain(state))


def test_polyak_update_moves_the_target_and_not_the_source():
    source, target = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 10.0])
    polyak_update([source], [target], tau=0.25)
    assert target.tolist() == [4.0, 8.0]
    assert source.tolist() == [1.0, 2.0]


def test_polyak_update_makes_no_graph():
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    polyak_update(source.parameters(), target.parameters(), tau=0.5)
    assert all(parameter.grad_fn is None for parameter in target.parameters())


def test_descend_gives_gradients_to_its_network_alone():
    mine, other = nn.Linear(2, 2), nn.Linear(2, 1)
    loss = other(mine(torch.ones(1, 2))).sum()
    before = loss.item()
    descend(loss, mine, torch.optim.SGD(mine.parameters(), 0.01))
    assert other.weight.grad is None
    assert other(mine(torch.ones(1, 2))).sum().item() < before


def test_descend_shortens_long_gradients_and_keeps_short_ones():
    def moved(max_norm):
        layer = nn.Linear(2, 1, bias=False)
        before = layer.weight.detach().clone()
        descend(layer(torch.tensor([[3.0, 4.0]])).sum(), layer, torch.optim.SGD(layer.parameters(), 1.0), max_norm)
        return (before - layer.weight.detach()).numpy()

    np.testing.assert_allclose(moved(None), [[3.0, 4.0]], rtol=1e-5)
    np.testing.assert_allclose(moved(10.0), [[3.0, 4.0]], rtol=1e-5)
    np.testing.assert_allclose(moved(1.0), [[0.6, 0.8]], rtol=1e-5)


def test_a_seeded_body_repeats_and_leaves_the_stream_alone():
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(2)
    after = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), after)
    with seeded(7):
        assert torch.equal(torch.rand(2), first)


def test_init_none_changes_nothing():
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    init_uniform(layer, None)
    assert torch.equal(layer.weight, before)
