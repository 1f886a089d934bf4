"""The sequence actor-critic: one update worked out by hand, its gradient, and what its values and weights learn."""

import numpy as np
import pytest
import torch
from hand_made import Fixed
from torch import nn

from agents.networks.sequence_network import Steps, steps_of
from agents.sqn import SQN, Config, Networks, Optimizers, TwinValues, sqn_update
from recgym.batches.sequence_batches import SequenceBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History
from recgym.log import InteractionLog

PAD = 3
Q = np.array([[0.5, 1.0, -1.0], [2.0, 0.25, 0.75]], dtype=np.float32)  # of items 0, 1, 2
SETTINGS = {"n_negatives": 2, "gamma": 0.5, "q_weight": 0.5, "max_norm": None, "dropout": 0.0, "advantage_weight": 1.0}


class Values(nn.Module):
    """Values that are the same in every state."""

    def __init__(self):
        super().__init__()
        self.q = nn.Parameter(torch.tensor(Q))

    def forward(self, states, items, drawn):
        return torch.cat([self.q[:, items][..., None], self.q[:, None, drawn].expand(2, len(items), -1)], dim=2)


def steps():
    """Item 2 then item 0 were taken, then the log ends; elsewhere item 1, and the session was terminated."""
    items = torch.tensor([[0, 2, 0], [1, PAD, PAD]])
    targets = torch.tensor([[2, 0, PAD], [1, PAD, PAD]])
    rewards = torch.tensor([[1.0, -0.5, 9.0], [0.25, 9.0, 9.0]])
    goes_on = torch.tensor([[True, False, False], [False, False, False]])
    terminated = torch.tensor([[False, False, False], [True, False, False]])
    return Steps(items, targets, rewards, goes_on, terminated)


def drawn_by(seed, n=2):
    return torch.randint(3, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def made(config, lr=0.1):
    nets = Networks(Fixed(), Values())
    return nets, Optimizers(*(torch.optim.SGD(network.parameters(), lr) for network in nets))


def by_hand(drawn, c):
    """Losses, and the gradient of all that moves Q, of the three decisions of `steps()`, in plain loops."""
    taken, follows, rewards = [2, 0, 1], [0, None, None], [1.0, -0.5, 0.25]
    known, over = [True, False, True], [False, False, True]
    q_loss, negative_loss, by_q = 0.0, 0.0, np.zeros((2, 3))
    n_negatives = max(sum(b != a for a in taken for b in drawn), 1)
    for one, other in ((0, 1), (1, 0)):
        for a, following, reward, is_known, ended in zip(taken, follows, rewards, known, over, strict=True):
            stay = c.gamma * Q[other, max([a, *drawn], key=lambda item, one=one: Q[one, item])]
            for b in (b for b in drawn if b != a):  # what was taken is no negative
                negative_loss += (Q[one, b] - stay) ** 2 / (2 * n_negatives)
                by_q[one, b] += c.negative_weight * 2 * (Q[one, b] - stay) / (2 * n_negatives)
            if not is_known:
                continue
            choice = max([item for item in [following, *drawn] if item is not None], key=lambda i, one=one: Q[one, i])
            target = reward + (0.0 if ended else c.gamma * Q[other, choice])
            q_loss += (Q[one, a] - target) ** 2 / (2 * 2)
            by_q[one, a] += 2 * (Q[one, a] - target) / (2 * 2)
    mean = Q.mean(axis=0)
    advantage = np.array([mean[a] - np.mean([mean[a], *mean[drawn]]) for a in taken])
    z = np.clip((advantage - advantage.mean()) / max(advantage.std(), 1e-6), -2, 2)
    weight = np.exp(c.advantage_weight * z) / np.exp(c.advantage_weight * z).sum()
    shares = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    policy_loss = -np.dot(weight, np.log(shares[taken]))
    by_hidden = shares @ [0, 1, 2] - np.dot(weight, taken)
    return q_loss, negative_loss, policy_loss, c.q_weight * by_q, by_hidden


@pytest.mark.parametrize("seed", range(4))
def test_one_step_worked_out_by_hand(seed):
    config = Config(**SETTINGS)
    nets, optimizers = made(config)
    generator = torch.Generator().manual_seed(seed)
    losses = sqn_update(steps(), nets, optimizers, config, generator=generator)
    q_loss, negative_loss, policy_loss, by_q, by_hidden = by_hand(drawn_by(seed), config)
    assert losses["q_loss"].item() == pytest.approx(q_loss, rel=1e-5)
    assert losses["negative_loss"].item() == pytest.approx(negative_loss, rel=1e-5)
    assert losses["policy_loss"].item() == pytest.approx(policy_loss, rel=1e-5)
    assert losses["value"].item() == pytest.approx(Q[:, [2, 0, 1]].mean(), rel=1e-5)
    np.testing.assert_allclose(nets.critic.q.detach().numpy(), Q - 0.1 * by_q, rtol=1e-5, atol=1e-6)
    assert nets.network.hidden.item() == pytest.approx(1.0 - 0.1 * by_hidden, rel=1e-5)


def test_without_negatives_the_item_taken_next_is_the_choice_and_the_end_of_a_log_teaches_no_value():
    config = Config(**SETTINGS | {"n_negatives": 0})
    nets, optimizers = made(config)
    losses = sqn_update(steps(), nets, optimizers, config)
    errors = [(Q[one, 2] - 1.0 - 0.5 * Q[1 - one, 0]) ** 2 + (Q[one, 1] - 0.25) ** 2 for one in (0, 1)]
    assert losses["q_loss"].item() == pytest.approx(np.sum(errors) / 4, rel=1e-6)
    assert "negative_loss" not in losses


def test_where_it_goes_on_but_nothing_is_known_to_follow_only_drawn_items_are_a_choice():
    seed = next(seed for seed in range(99) if 2 not in drawn_by(seed))
    taken, state = torch.tensor([[0, PAD]]), torch.tensor([[1, 0]])
    goes_on, never = torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.bool)
    config = Config(**SETTINGS)
    nets, optimizers = made(config)
    with torch.no_grad():
        nets.critic.q[:, 2] = 9.0  # the last item, best by far, and not drawn
    batch = Steps(state, taken, torch.ones(1, 2), goes_on, never)
    losses = sqn_update(batch, nets, optimizers, config, generator=torch.Generator().manual_seed(seed), learn=False)
    errors = []
    for one, other in ((0, 1), (1, 0)):
        choice = max(drawn_by(seed), key=lambda item, one=one: Q[one, item])
        errors.append((Q[one, 0] - 1.0 - 0.5 * Q[other, choice]) ** 2)
    assert losses["q_loss"].item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_advantages_count_only_when_they_may():
    config, plain = Config(**SETTINGS), Config(**SETTINGS | {"advantage_weight": 0.0})
    off, unweighted, on = (
        sqn_update(steps(), *made(c), c, weighs=weighs, generator=torch.Generator().manual_seed(1), learn=False)
        for c, weighs in ((config, False), (plain, True), (config, True))
    )
    assert off["policy_loss"] == unweighted["policy_loss"] != on["policy_loss"]


def test_a_critic_alone_learns_the_same_values_and_moves_no_policy():
    config = Config(**SETTINGS | {"critic_only": True})
    nets, optimizers = made(config)
    losses = sqn_update(steps(), nets, optimizers, config, generator=torch.Generator().manual_seed(2))
    q_loss, _, _, by_q, _ = by_hand(drawn_by(2), config)
    assert losses["q_loss"].item() == pytest.approx(q_loss, rel=1e-5) and "policy_loss" not in losses
    np.testing.assert_allclose(nets.critic.q.detach().numpy(), Q - 0.1 * by_q, rtol=1e-5, atol=1e-6)
    assert nets.network.hidden.item() == 1.0


def test_the_gradient_is_numeric():
    """With gamma and advantages at 0 the loss is a plain function of all weights: each moves as its difference says."""
    agent = make(width=3, n_negatives=4, gamma=0.0, advantage_weight=0.0, max_norm=None, lr=1.0)
    nets, config, batch = (
        agent.nets,
        agent.config,
        steps_of(next(iter(agent.batches(cycle(), 4))), 6, 200, agent.device),
    )
    parameters = [*nets.network.parameters(), *nets.critic.parameters()]
    with torch.no_grad():  # away from the beginning, where all is nearly zero
        for parameter in parameters:
            parameter.add_(
                0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )

    def loss():
        found = sqn_update(batch, nets, None, config, generator=torch.Generator().manual_seed(0), learn=False)
        return found["policy_loss"] + config.q_weight * (found["q_loss"] + found["negative_loss"])

    before = [parameter.detach().clone() for parameter in parameters]
    optimizers = Optimizers(*(torch.optim.SGD(network.parameters(), 1.0) for network in nets))
    sqn_update(batch, nets, optimizers, config, generator=torch.Generator().manual_seed(0))
    gradients = [old - new.detach() for old, new in zip(before, parameters, strict=True)]
    with torch.no_grad():
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            for place in range(0, parameter.numel(), 3):
                flat, start = parameter.view(-1), parameter.view(-1)[place].item()
                ends = []
                for sign in (1, -1):
                    flat[place] = start + sign * 1e-2
                    ends.append(loss().item())
                flat[place] = start
                found = (ends[0] - ends[1]) / 2e-2
                assert gradient.view(-1)[place].item() == pytest.approx(found, abs=3e-4, rel=2e-2)


# -- what is learned ---------------------------------------------------------------------------------------------------


def make(n_items=6, **config):
    config = {"width": 16, "max_length": 8, "dropout": 0.0, "lr": 1e-2, "advantage_after": 0} | config
    return SQN(Catalog(np.eye(n_items), np.arange(n_items)), device="cpu", **config)


def cycle(n_users=16, length=9):
    """Users who take 0, 1, ... 5, 0, ... from a place of their own; item 3 earns 1, others nothing."""
    items = (np.arange(n_users)[:, None] + np.arange(length)) % 6
    offsets = np.arange(n_users + 1) * length
    rewards = (items == 3).astype(np.float32)
    return InteractionLog(
        items=items.ravel().astype(np.int32),
        rewards=rewards.ravel(),
        times=None,
        offsets=offsets,
        user_ids=np.arange(n_users),
        item_ids=np.arange(6),
        name="cycle",
        reward="identity",
        reward_range=(0.0, 1.0),
    )


def taught(agent, n_updates=250, **options):
    batches = SequenceBatches(cycle(), 16, **options)
    while agent.updates < n_updates:
        for batch in batches:
            agent.update(batch)
    return agent


def one_step(item, action):
    frame = np.array([[(item - 1) % 6, item]]), np.zeros((1, 2), dtype=np.float32)
    never = np.zeros(1, dtype=bool)
    return Batch(np.zeros(1), *frame, np.array([action]), np.zeros(1, np.float32), *frame, never, never, np.array([2]))


def test_values_are_discounted_returns():
    agent = taught(make(gamma=0.5, n_negatives=0, q_weight=2.0), 600)
    for ahead in range(6):  # item 3 is taken after so many others
        item = (3 - 1 - ahead) % 6
        value = agent.values_of(one_step(item, item + 1 if item < 5 else 0)).item()
        assert value == pytest.approx(0.5**ahead / (1 - 0.5**6), abs=0.08)


def test_items_that_were_not_taken_are_worth_the_wait():
    """A drawn item earns 0 and leaves the state as it is, so it is worth gamma times the state's best."""
    agent = taught(make(gamma=0.5, n_negatives=32, q_weight=2.0), 800)
    taken, others = (agent.values_of(one_step(2, action)).item() for action in (3, 5))
    assert others == pytest.approx(0.5 * taken, abs=0.1)


def test_a_rule_is_learned_and_values_can_overrule_it():
    agent = taught(make(n_negatives=16))
    history = History(np.array([[4, 5]]), None, np.array([2]))
    assert agent.act(history).item() == 0
    plain = agent.scores(history)
    bold = make(n_negatives=16, value_weight=3.0)
    bold.load_state_dict(agent.state_dict())
    state = agent.nets.network(torch.tensor([[4, 5]]), agent.nets.network.table())[:, -1]
    torch.testing.assert_close(bold.scores(history), plain + 3.0 * agent.nets.critic.of_all(state))
    empty = History(np.full((1, 2), 6), None, np.array([0]))
    assert not bold.scores(empty).any()


def test_advantages_make_better_items_likelier():
    """After item 0, items 1 and 2 follow equally often; 2 earns more. Plain imitation would hold them equal."""

    def share_of_the_better(advantage_weight):
        agent = make(3, advantage_weight=advantage_weight, n_negatives=0, gamma=0.0, q_weight=2.0)
        random = np.random.default_rng(0)
        for _ in range(300):
            action = random.integers(1, 3, size=32)
            frame = np.zeros((32, 1), dtype=np.int64), np.zeros((32, 1), dtype=np.float32)
            over = np.ones(32, dtype=bool)
            agent.update(Batch(action, *frame, action, (action - 1).astype(np.float32), *frame, over, ~over))
        scores = agent.scores(History(np.zeros((1, 1), dtype=np.int64), None, np.array([1])))
        return scores[:, 1:].softmax(dim=1)[0, 1].item()

    assert share_of_the_better(0.0) == pytest.approx(0.5, abs=0.06)
    assert share_of_the_better(1.0) == pytest.approx(1 / (1 + np.exp(-2)), abs=0.06)  # z is -1 and 1


# -- its parts ---------------------------------------------------------------------------------------------------------


def test_twin_values_are_inner_products():
    critic = TwinValues(4, 5)
    with torch.no_grad():
        critic.bias.copy_(torch.randn(2, 5))
    states, items, drawn = torch.randn(3, 4), torch.tensor([4, 0, 2]), torch.tensor([1, 1])
    every = torch.stack([states @ critic.weight[one].T + critic.bias[one] for one in (0, 1)])  # (2, 3, 5)
    expected = torch.cat([every.gather(2, items[None, :, None].expand(2, 3, 1)), every[:, :, drawn]], dim=2)
    torch.testing.assert_close(critic(states, items, drawn), expected)
    torch.testing.assert_close(critic.of_all(states), every.mean(dim=0))


def test_wrong_options_are_refused():
    with pytest.raises(
        ValueError, match=r"max_length must be a whole number of at least 2, got 1; leave it out for 200"
    ):
        make(max_length=1)
    with pytest.raises(ValueError, match=r"n_negatives must be a whole number of at least 0, got -1"):
        make(n_negatives=-1)
