"""DRR's update, worked out by hand (see hand_made), and the defects of the public notebooks that implement it.

Replay by priority and learning in an environment stand in test_drr_learning.
"""

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, PAPER, Constant, Linear, Slope, sgd
from torch import nn

from agents.drr import DRR, Config, Networks, Optimizers, drr_update
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History

ITEMS = torch.eye(2)


class Level(nn.Module):
    """A state module whose state is one number, whatever the frame."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, vectors, rewards, user=None):
        return self.value.expand(len(rewards), 1)


class OfState(nn.Module):
    """A critic that is the state's one number, and a little of itself."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.0))

    def forward(self, state, action):
        return state[:, 0] + self.value


def updated(nets, batch=BATCH, still=False, weight=None, **config):
    batch = DRR(CATALOG, frame_size=1, device="cpu", **PAPER).look_up(batch)
    lr = 0.0 if still else 0.1
    optimizers = Optimizers(sgd(nets.encoder), sgd(nets.actor), sgd(nets.critic, lr=lr))
    config = Config(**PAPER | {"dropout": 0.0} | config)
    return drr_update(batch, nets, optimizers, ITEMS, config, weight=weight)


def networks(critic, critic_target, actor=(0.0, 0.0), actor_target=(0.0, 0.0), levels=(0.0, 0.0)):
    return Networks(Level(levels[0]), Linear(*actor), critic, Level(levels[1]), Linear(*actor_target), critic_target)


# -- the update --------------------------------------------------------------------------------------------------------


def test_the_critics_step_worked_out_by_hand():
    """Targets are 1 + 0.5 * 4 = 3, 1 (terminated), 3 (truncated); Q = 2; gradient 2 * mean(2 - y) = -2/3; step 0.1."""
    nets = networks(Constant(2.0), Constant(4.0))
    losses = updated(nets, gamma=0.5, tau=0.25)
    assert losses["critic_loss"].item() == pytest.approx(1.0)
    assert losses["errors"].tolist() == pytest.approx([1.0, -1.0, 1.0])
    assert nets.critic.value.item() == pytest.approx(2.0 + 0.2 / 3, abs=1e-6)
    assert nets.critic_target.value.item() == pytest.approx(4.0 + 0.25 * (2.0 + 0.2 / 3 - 4.0), abs=1e-6)


def test_importance_weights_worked_out_by_hand():
    """Errors are 1, -1, 1 and weights 1, 1/2, 1/4: the gradient is -2 * (1 - 1/2 + 1/4) / 3 = -1/2."""
    nets = networks(Constant(2.0), Constant(4.0))
    losses = updated(nets, gamma=0.5, weight=torch.tensor([1.0, 0.5, 0.25]))
    assert losses["critic_loss"].item() == pytest.approx(1.75 / 3)
    assert nets.critic.value.item() == pytest.approx(2.05, abs=1e-6)
    assert losses["errors"].tolist() == pytest.approx([1.0, -1.0, 1.0])  # priorities are those of the errors alone


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize(("flag", "goes_on"), [("terminated", 0.0), ("truncated", 1.0), (None, 1.0)])
def test_only_terminated_stops_bootstrapping_whatever_the_reward(flag, goes_on, reward):
    """Defect G3: the reward stood where the flag should, so that liked items never bootstrapped."""
    flags = {name: np.full(3, name == flag) for name in ("terminated", "truncated")}
    batch = BATCH._replace(**flags, reward=np.full(3, reward, dtype=np.float32))
    losses = updated(networks(Constant(0.0), Constant(4.0)), batch, gamma=0.5)
    assert losses["errors"].tolist() == pytest.approx([reward + goes_on * 2.0] * 3)


def test_the_actors_step_worked_out_by_hand():
    nets = networks(Slope(3.0, -4.0), Slope(0.0, 0.0), actor=(0.2, 0.2))
    updated(nets, still=True, tau=0.5)
    assert nets.actor.value.tolist() == pytest.approx([0.2 + 0.3, 0.2 - 0.4])
    assert nets.actor_target.value.tolist() == pytest.approx([0.25, -0.1])


def test_the_item_that_was_shown_is_what_is_valued():
    """Defect G7: the actor's vector was kept with the reward of an item. Items 1, 0, 1 are worth -4, 3, -4 here."""
    losses = updated(networks(Slope(3.0, -4.0), Slope(0.0, 0.0), actor=(0.9, 0.9)), still=True, gamma=0.0)
    assert losses["errors"].tolist() == pytest.approx([5.0, -2.0, 5.0])


@pytest.mark.parametrize("q_weight", [0.0, 1.0, 100.0])
def test_no_state_is_moved_to_look_better(q_weight):
    """Defect G7: the state module learned from the actor's loss, through the critic. Here its step is 0.1 * 2 * 0.7.

    The actor knows no state, so whatever else moves the state module came through the critic.
    """
    nets = networks(OfState(), OfState(), levels=(0.3, 0.0))
    updated(nets, still=True, gamma=0.0, q_weight=q_weight)
    assert nets.encoder.value.item() == pytest.approx(0.3 + 0.14, abs=1e-6)


def test_targets_are_made_from_the_state_modules_slow_copy():
    """Defect G7: there was none. The next state is worth 4 to the slow copy, not 0.3; it moves a quarter of the way."""
    nets = networks(OfState(), OfState(), levels=(0.3, 4.0))
    losses = updated(nets, still=True, gamma=0.5, tau=0.25)
    assert losses["errors"].tolist() == pytest.approx([2.7, 0.7, 2.7])
    moved = 0.3 + 0.2 * (2.7 + 0.7 + 2.7) / 3
    assert nets.encoder.value.item() == pytest.approx(moved, abs=1e-6)
    assert nets.encoder_target.value.item() == pytest.approx(4.0 + 0.25 * (moved - 4.0), abs=1e-6)


def test_the_state_module_learns_what_to_imitate():
    """As a part of the policy it moves by the imitation's gradient too, through the action."""
    gradients = []
    for bc_weight in (0.0, 100.0):
        agent = DRR(CATALOG, frame_size=1, device="cpu", bc_weight=bc_weight, q_weight=0.0, actor_init=None)
        agent.update(BATCH)
        gradients.append(agent.nets.encoder.encoder.weight.grad)
    assert not torch.allclose(*gradients)


def test_the_identity_environment_is_learned_from_its_log():
    """The item that earns 1 is the last liked one. Imitation alone is no help: the log shows all alike."""
    random = np.random.default_rng(0)
    n, catalog = 64, Catalog(np.eye(6), np.arange(6))
    agent = DRR(catalog, frame_size=1, device="cpu", gamma=0.0, bc_reward=0.0, dropout=0.0, hidden=64)
    nobody, ones = np.ones(n, dtype=bool), np.ones((n, 1), dtype=np.float32)
    for _ in range(500):
        seen, action = random.integers(6, size=(2, n))
        frame = seen[:, None], ones
        agent.update(Batch(seen, *frame, action, (seen == action).astype(np.float32), *frame, nobody, ~nobody))
    every_item = History(np.arange(6)[:, None], np.ones((6, 1), dtype=np.float32), np.ones(6, dtype=int))
    assert (agent.scores(every_item).argmax(dim=1) == torch.arange(6)).all()


# -- users -------------------------------------------------------------------------------------------------------------


def alike(*users):
    """Histories that differ in their user only."""
    n = len(users)
    return History(np.full((n, 1), 0), np.ones((n, 1), dtype=np.float32), np.ones(n, dtype=int), np.array(users))


def with_users(**config):
    return DRR(CATALOG, frame_size=1, device="cpu", **{"n_users": 3, "actor_init": None} | config)


def test_everyone_is_recommended_to_from_their_own_state():
    """Defect G2: one user's state stood for everybody's."""
    agent = with_users()
    together = agent.scores(alike(0, 1, 2))
    assert len({tuple(row) for row in together.tolist()}) == 3
    for user in range(3):
        alone = agent.scores(alike(user, user))
        assert torch.allclose(alone, together[[user, user]], atol=1e-6)
    other = alike(0, 1, 2)._replace(items=np.array([[0], [1], [0]]))
    assert torch.allclose(agent.scores(other)[[0, 2]], together[[0, 2]], atol=1e-6)
    assert not torch.allclose(agent.scores(other)[1], together[1], atol=1e-6)  # nor is anybody's memory another's


def test_whoever_has_no_vector_has_the_common_one():
    agent = with_users()
    strangers = agent.scores(alike(3, 99, -1))
    nameless = agent.scores(alike(0, 1, 2)._replace(user=None))
    assert torch.equal(strangers, nameless)
    assert not torch.equal(strangers, agent.scores(alike(0, 1, 2)))
    plain = with_users(n_users=0)
    assert torch.equal(plain.scores(alike(0, 1, 2)), plain.scores(alike(0, 1, 2)._replace(user=None)))


@pytest.mark.parametrize(("unnamed", "moved"), [(0.0, [True, False, True, False]), (1.0, [False, False, False, True])])
def test_vectors_of_users_learn_from_their_own_decisions(unnamed, moved):
    agent = with_users(unnamed=unnamed)
    users = agent.nets.encoder.encoder.users.weight
    before = users.detach().clone()
    for _ in range(3):
        agent.update(BATCH._replace(user=np.array([0, 2, 0])))
    assert (users.detach() != before).any(dim=1).tolist() == moved


def test_values_of_decisions_are_what_the_update_sees():
    agent = with_users(critic_init=None)
    values = agent.values_of(BATCH)
    assert values.shape == (3,)
    assert values.mean() == agent.losses(BATCH)["value"]
    assert not torch.equal(values, agent.values_of(BATCH._replace(user=np.array([2, 2, 2]))))


def test_measuring_draws_no_users():
    agent = with_users(unnamed=0.5)
    stream = agent.generator.get_state()
    assert agent.losses(BATCH) == agent.losses(BATCH)
    assert torch.equal(stream, agent.generator.get_state())


def test_an_unknown_encoder_is_refused():
    with pytest.raises(DataError, match=r"encoder must be one of flat, drr, .* got 'mean'; choose one of them"):
        DRR(CATALOG, device="cpu", encoder="mean")
