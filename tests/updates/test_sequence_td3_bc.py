"""TD3+BC over whole histories: one update worked out by hand, whose turn it is, and what it learns of rewards."""

import numpy as np
import pytest
import torch
from hand_made import Fixed
from torch import nn

from agents.networks.sequence_network import Steps, steps_of
from agents.networks.softmax_loss import expected_vectors
from agents.sequence_td3_bc import Config, Networks, Optimizers, SequenceTD3BC, sequence_td3_bc_update
from recgym.batches.sequence_batches import SequenceBatches
from recgym.catalog import Catalog
from recgym.frames import Batch, History
from recgym.log import InteractionLog

PAD = 3
SETTINGS = {"gamma": 0.5, "tau": 0.1, "alpha": 0.7, "target_noise": 0.0, "max_norm": None, "dropout": 0.0}
SHARES = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()  # the policy: hidden 1, item vectors 0, 1, 2
EXPECTED = SHARES @ [0, 1, 2]
SLOPES, SLOW = np.array([0.5, 2.0]), np.array([1.5, 1.0])


class Lines(nn.Module):
    """Values that are slope * vector, whatever the state."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes, dtype=torch.float32))

    def forward(self, state, vector):
        return self.slopes[:, None] * vector[:, 0]

    def first_value(self, state, vector):
        return self.slopes[0] * vector[:, 0]


def steps():
    """Item 2 then item 0 were taken, then the log ends; elsewhere item 1, and the session was terminated."""
    items = torch.tensor([[0, 2, 0], [1, PAD, PAD]])
    targets = torch.tensor([[2, 0, PAD], [1, PAD, PAD]])
    rewards = torch.tensor([[1.0, -0.5, 9.0], [0.25, 9.0, 9.0]])
    goes_on = torch.tensor([[True, False, False], [False, False, False]])
    terminated = torch.tensor([[False, False, False], [True, False, False]])
    return Steps(items, targets, rewards, goes_on, terminated)


def made(lr=0.1):
    nets = Networks(Fixed(), Lines(SLOPES), Fixed(), Lines(SLOW))
    return nets, Optimizers(*(torch.optim.SGD(network.parameters(), lr) for network in nets[:2]))


def test_one_step_worked_out_by_hand():
    nets, optimizers = made()
    losses = sequence_td3_bc_update(steps(), nets, optimizers, Config(**SETTINGS))
    first, last = 1.0 + 0.5 * SLOW.min() * EXPECTED, 0.25  # where the log ends nothing is known
    assert losses["critic_loss"].item() == pytest.approx(
        sum((q * 2 - first) ** 2 + (q - last) ** 2 for q in SLOPES) / 2, rel=1e-5
    )
    slopes = SLOPES - 0.1 * (2 * (SLOPES * 2 - first) + (SLOPES - last))
    assert nets.critics.slopes.tolist() == pytest.approx(slopes.tolist(), rel=1e-5)
    assert losses["bc_loss"].item() == pytest.approx(-np.log(SHARES[[2, 0, 1]]).mean(), rel=1e-5)
    assert losses["actor_value"].item() == pytest.approx(slopes[0] * EXPECTED, rel=1e-5)
    spread = SHARES @ np.array([0, 1, 4]) - EXPECTED**2  # how the expected item moves with the hidden vector
    gradient = (EXPECTED - 1.0) - 0.7 * np.sign(slopes[0]) * spread / EXPECTED
    assert nets.network.hidden.item() == pytest.approx(1.0 - 0.1 * gradient, rel=1e-5)
    assert nets.critics_target.slopes.tolist() == pytest.approx((0.9 * SLOW + 0.1 * slopes).tolist(), rel=1e-5)
    assert nets.network_target.hidden.item() == pytest.approx(1.0 - 0.01 * gradient, rel=1e-5)


def test_without_a_discount_every_reward_is_known():
    nets, optimizers = made()
    losses = sequence_td3_bc_update(steps(), nets, optimizers, Config(**SETTINGS | {"gamma": 0.0}))
    errors = [(q * 2 - 1.0) ** 2 + (0.0 + 0.5) ** 2 + (q - 0.25) ** 2 for q in SLOPES]
    assert losses["critic_loss"].item() == pytest.approx(sum(errors) / 3, rel=1e-5)


def test_measuring_changes_nothing():
    nets, optimizers = made()
    sequence_td3_bc_update(steps(), nets, optimizers, Config(**SETTINGS), learn=False)
    assert nets.network.hidden.item() == 1.0 and nets.critics.slopes.tolist() == SLOPES.tolist()
    assert nets.critics_target.slopes.tolist() == SLOW.tolist()


def test_noise_on_the_target_action_is_clipped():
    nets, optimizers = made()
    config = Config(**SETTINGS | {"target_noise": 1e3, "noise_clip": 0.25})
    losses = sequence_td3_bc_update(steps(), nets, optimizers, config, learn=False)
    scores = np.exp(np.outer([0.75, 1.25], [0, 1, 2]))
    ends = scores @ [0, 1, 2] / scores.sum(axis=1)
    either = [sum((q * 2 - 1.0 - 0.5 * SLOW.min() * end) ** 2 + (q - 0.25) ** 2 for q in SLOPES) / 2 for end in ends]
    assert min(abs(losses["critic_loss"].item() - loss) for loss in either) < 1e-5


@pytest.mark.parametrize("n", [1, 300])
def test_expected_vectors_in_parts_are_those_of_a_softmax_and_so_is_their_gradient(n):
    torch.manual_seed(0)
    (hidden, items), shown = (torch.randn(k, 5, requires_grad=True) for k in (n, 3000)), torch.randn(3000, 4)
    weight = torch.randn(n, 4)
    plain = (hidden @ items.T).softmax(dim=1) @ shown
    expected = torch.autograd.grad((plain * weight).sum(), (hidden, items))
    found = expected_vectors(hidden, items, shown)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), (hidden, items)), expected)


# -- what is learned ---------------------------------------------------------------------------------------------------


def agent(**config):
    small = {"width": 16, "hidden": 32, "dropout": 0.0, "lr": 1e-2, "critic_lr": 1e-2, "mask_seen": False}
    return SequenceTD3BC(Catalog(np.eye(6), np.arange(6)), frame_size=3, device="cpu", **small | config)


def shopping(n_users=64, seed=0):
    """Whatever came before, items 0 to 5 follow at random; only 4 is ever liked."""
    random = np.random.default_rng(seed)
    items = random.integers(6, size=n_users * 8)
    events = np.repeat(np.arange(n_users), 8), items, np.where(items == 4, 1.0, 0.0)
    return InteractionLog.from_events(*events, item_ids=np.arange(6))


def taught(n_epochs=20, **config):
    learner = agent(**config)
    for _ in range(n_epochs):
        for batch in SequenceBatches(shopping(), batch_size=16, device="cpu"):
            learner.update(batch)
    return learner


def test_what_earns_is_shown_though_imitation_knows_no_better():
    history = History(np.array([[1, 2, 3], [0, 5, 4]]), None, np.array([3, 3]))
    shares = taught(alpha=2.5, value_after=20, gamma=0.0).scores(history).softmax(dim=1)
    assert shares.argmax(dim=1).tolist() == [4, 4] and (shares[:, 4] > 0.5).all()
    alone = taught(alpha=0.0).scores(history).softmax(dim=1)
    assert (alone[:, 4] < 0.35).all()


def test_values_are_what_items_earn():
    learner = taught(alpha=0.0, gamma=0.0)
    frame = np.tile([1, 2, 3], (6, 1)), np.zeros((6, 3), dtype=np.float32)
    never = np.zeros(6, dtype=bool)
    batch = Batch(np.arange(6), *frame, np.arange(6), np.zeros(6, dtype=np.float32), *frame, never, never)
    assert learner.values_of(batch).numpy() == pytest.approx([0, 0, 0, 0, 1, 0], abs=0.15)


def test_the_actor_and_targets_wait_for_their_turn_and_the_value_for_its_time():
    learner, batch = agent(policy_delay=3, value_after=4), next(iter(SequenceBatches(shopping(8), 8)))

    def weights():
        moving = (learner.nets.network, learner.nets.network_target, learner.nets.critics_target)
        return torch.cat([part.detach().flatten() for net in moving for part in net.parameters()])

    moved, valued = [], []
    for _ in range(6):
        before = weights()
        losses = learner.update(batch)
        moved.append(not torch.equal(before, weights()))
        valued.append("actor_value" in losses)
    assert moved == [False, False, True] * 2
    assert valued == [False] * 5 + [True]


def test_a_policy_step_raises_the_value():
    learner, batch = taught(5, alpha=1e3, value_after=10**9, lr=1e-3), next(iter(SequenceBatches(shopping(), 64)))
    steps = steps_of(batch, 6, 200, learner.device)
    still = torch.optim.SGD(learner.nets.critics.parameters(), 0.0)
    optimizers, values = Optimizers(learner.optimizers.network, still), []
    for _ in range(4):
        losses = sequence_td3_bc_update(steps, learner.nets, optimizers, learner.config)
        values.append(losses["actor_value"].item())
    assert values == sorted(values) and values[0] < values[-1]


def test_wrong_options_are_refused():
    with pytest.raises(
        ValueError, match=r"max_length must be a whole number of at least 2, got 1; leave it out for 200"
    ):
        agent(max_length=1)
