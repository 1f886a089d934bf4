import numpy as np
import pytest
import torch
from torch import nn

from agents.networks.layers import (
    Actor,
    Critic,
    PartsLinear,
    Scalar,
    arithmetic,
    descend,
    frozen,
    init_uniform,
    parameters_of,
    polyak_update,
    seeded,
)


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


def test_n_parts_that_share_the_others_equal_n_layers_on_the_whole():
    """Outputs and the gradients of weights, bias and every part."""
    layer = PartsLinear(7, 4).double()
    shared, own = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 6, 4, dtype=torch.float64)
    slope = torch.randn(5, 6, 4, dtype=torch.float64)
    grads = []
    for parts in (
        lambda a, b: layer(a, b),
        lambda a, b: layer(a[:, :2], a[:, 2:], b),
        lambda a, b: nn.functional.linear(torch.cat([a[:, None].expand(-1, 6, -1), b], 2), layer.weight, layer.bias),
    ):
        inputs = [shared.clone().requires_grad_(), own.clone().requires_grad_()]
        output = parts(*inputs)
        grads.append([output, *torch.autograd.grad((output * slope).sum(), [*layer.parameters(), *inputs])])
    for other in grads[1:]:
        assert all(torch.allclose(mine, their, atol=1e-12) for mine, their in zip(grads[0], other, strict=True))


def test_gradients_of_parts_agree_with_numeric_ones():
    layer = PartsLinear(5, 3).double()
    parts = [torch.randn(4, n, dtype=torch.float64, requires_grad=True) for n in (2, 3)]
    given = (*parts, *layer.parameters())
    assert torch.autograd.gradcheck(lambda a, b, *_: layer(a, b), given)


def test_views_of_wider_rows_are_parts_too():
    layer, rows = PartsLinear(8, 4), torch.randn(5, 12)
    layer(rows[:, 2:8], rows[:, 9:11]).square().sum().backward()
    mine = layer.weight.grad.clone()
    layer.zero_grad()
    nn.functional.linear(
        torch.cat([rows[:, 2:8], rows[:, 9:11]], 1), layer.weight, layer.bias
    ).square().sum().backward()
    assert torch.allclose(mine, layer.weight.grad, atol=1e-5)


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


def test_frozen_networks_pass_gradients_on_and_get_none():
    mine, other = nn.Linear(2, 2), nn.Linear(2, 1)
    other.bias.requires_grad_(False)
    with frozen(other):
        loss = other(mine(torch.ones(1, 2))).sum()
    loss.backward()
    assert mine.weight.grad is not None
    assert other.weight.grad is None
    assert [parameter.requires_grad for parameter in other.parameters()] == [True, False]  # as they were


def test_descend_takes_several_networks():
    first, second = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    before = [parameter.detach().clone() for parameter in parameters_of((first, second))]
    loss = (first(torch.ones(1, 2)) + 2 * second(torch.ones(1, 2))).sum()
    descend(loss, (first, second), torch.optim.SGD(parameters_of((first, second)), 1.0), max_norm=10.0)
    moved = [(old - new).tolist() for old, new in zip(before, parameters_of((first, second)), strict=True)]
    assert moved == [[[pytest.approx(1.0)] * 2], [[pytest.approx(2.0)] * 2]]


def test_bf16_products_see_weights_as_they_are_now():
    """Cached casts would show a step's weights to the next product, and cut the graph after one without gradients."""
    layer, ones = PartsLinear(3, 2), torch.ones(1, 3)
    plain = nn.Linear(3, 2)
    with arithmetic("bf16", torch.device("cpu")):
        for module in (layer, plain):
            with torch.no_grad():
                assert module(ones).dtype == torch.bfloat16
            first = module(ones)
            descend(first.float().sum(), module, torch.optim.SGD(module.parameters(), 1.0))
            assert (module(ones).float() < first.float() - 3.0).all()
    assert layer(ones).dtype == torch.float32


def test_a_precision_ends_with_its_body():
    before = torch.get_float32_matmul_precision()
    for precision in ("fp32", "tf32", "bf16"):
        with arithmetic(precision, torch.device("cpu")):
            pass
        assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == before


def test_a_scalar_is_learned():
    scalar = Scalar(2.0)
    descend(scalar().square(), scalar, torch.optim.SGD(scalar.parameters(), 0.25))
    assert scalar().item() == pytest.approx(1.0)
