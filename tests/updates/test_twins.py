"""Twin critics worked out side by side are what each is alone: values, gradients, updates."""

import pytest
import torch

from agents.networks.layers import Critic
from agents.networks.twin_critics import Pair, TwinCritic

STATE = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.ones(7, 1)
ACTIONS = {"one": (7, 2), "several": (7, 4, 2)}


def critics():
    torch.manual_seed(1)
    return tuple(Critic(4, 2, hidden=8, last_init=None) for _ in range(2))


@pytest.mark.parametrize("shape", ACTIONS.values(), ids=ACTIONS)
def test_values_and_gradients_are_those_of_both_alone(shape):
    alone = critics()
    twins, pair = TwinCritic(*alone), Pair(*alone)
    action = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    values, expected = twins(*STATE, action), pair(*STATE, action)
    assert values.shape == (2, *shape[:-1])
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(twins.first_value(*STATE, action), expected[0])
    torch.testing.assert_close(pair.first_value(*STATE, action), expected[0])
    (by_action,) = torch.autograd.grad(values.square().sum(), action, retain_graph=True)
    torch.testing.assert_close(by_action, torch.autograd.grad(expected.square().sum(), action, retain_graph=True)[0])
    values.square().sum().backward()
    expected.square().sum().backward()
    with torch.no_grad():  # a step against the gradient leads to the same networks
        for parameter in [*twins.parameters(), *pair.parameters()]:
            parameter -= 0.1 * parameter.grad
    for critic, moved in zip(alone, twins.split(), strict=True):
        for one, other in zip(critic.parameters(), moved.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def test_an_actor_s_gradient_passes_through_the_first_alone():
    twins = TwinCritic(*critics())
    action = torch.zeros(7, 2, requires_grad=True)
    twins.first_value(*STATE, action).sum().backward()
    for parameter in list(twins.parameters())[2:]:
        assert parameter.grad[0].any() and not parameter.grad[1].any()
    assert twins.weight1.grad[:8].any() and not twins.weight1.grad[8:].any()
