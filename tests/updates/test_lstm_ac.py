"""The LSTM actor-critic's update, worked out by hand, and the defects of the project it comes from."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log
from hand_made import BATCH, CATALOG, sgd
from torch import nn

from agents import fit_online
from agents.lstm_ac import Config, LSTMActorCritic, Networks, Optimizers, lstm_ac_update
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.envs.registry import make_vector_env
from recgym.frames import Batch, History

PLAIN = {
    "off_policy": False,
    "normalise": False,
    "entropy_weight": 0.0,
    "bc_weight": 0.0,
    "max_norm": None,
    "dropout": 0.0,
}


class Policy(nn.Module):
    """An actor that is one number per item, whatever the frame."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, vectors, rewards, length, user=None):
        return torch.log_softmax(self.scores, dim=0).expand(len(rewards), -1)


class Value(nn.Module):
    """A critic that is one number, and another for frames whose last reward is 1."""

    def __init__(self, value, after=None):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))
        self.after = value if after is None else after

    def forward(self, vectors, rewards, length, user=None):
        return torch.where(rewards[:, -1] == 1.0, self.after - self.value.detach() + self.value, self.value)


def updated(actor, critic, batch=BATCH, **config):
    nets = Networks(actor, critic)
    looked_up = LSTMActorCritic(CATALOG, frame_size=1, device="cpu").look_up(batch)
    losses = lstm_ac_update(looked_up, nets, Optimizers(sgd(actor), sgd(critic)), Config(**PLAIN | config))
    return nets, losses


# -- the update --------------------------------------------------------------------------------------------------------


def test_the_critics_step_worked_out_by_hand():
    """Targets are 1 + 0.25 * 4 = 2, 1 (terminated), 2; V = 2, 2 and (its frame's reward is 1) 4; step 0.1.

    The gradient is 2 * mean(V - y) = 2 * (0 + 1 + 2) / 3, and none of it comes from the targets.
    """
    nets, losses = updated(Policy(0.0, 0.0), Value(2.0, after=4.0), gamma=0.25)
    assert losses["critic_loss"].item() == pytest.approx(5 / 3)
    assert losses["advantage"].item() == pytest.approx(-1.0)
    assert nets.critic.value.item() == pytest.approx(2.0 - 0.1 * 2, abs=1e-6)


@pytest.mark.parametrize(("flag", "target"), [("terminated", 1.0), ("truncated", 3.0), (None, 3.0)])
def test_only_terminated_stops_bootstrapping(flag, target):
    flags = {name: np.full(3, name == flag) for name in ("terminated", "truncated")}
    frames = {"rewards": np.zeros((3, 1), dtype=np.float32)}
    _, losses = updated(Policy(0.0, 0.0), Value(0.0, after=4.0), BATCH._replace(**flags, **frames), gamma=0.5)
    assert losses["critic_loss"].item() == pytest.approx(target**2)


def test_the_actors_step_worked_out_by_hand():
    """Items 1, 0, 1 had advantages 1, -1, -1. The gradient of log pi by the scores is one-hot minus pi = (1/4, 3/4)."""
    nets, losses = updated(Policy(0.0, float(np.log(3.0))), Value(2.0, after=4.0), gamma=0.5)
    gained = (1.0 * np.array([-0.25, 0.25]) - np.array([0.75, -0.75]) - np.array([-0.25, 0.25])) / 3
    assert nets.actor.scores.tolist() == pytest.approx((np.array([0.0, np.log(3.0)]) + 0.1 * gained).tolist(), abs=1e-6)
    assert losses["policy_loss"].item() == pytest.approx(-(np.log(0.75) - np.log(0.25) - np.log(0.75)) / 3, rel=1e-5)


@pytest.mark.parametrize(("advantage", "rises"), [(2.0, True), (-2.0, False)])
def test_what_was_better_than_expected_becomes_more_likely(advantage, rises):
    batch = BATCH._replace(action=np.array([1, 1, 1]), terminated=np.ones(3, dtype=bool))
    actor = Policy(0.3, -0.4)
    before = torch.log_softmax(actor.scores.detach(), dim=0)[1].item()
    nets, _ = updated(actor, Value(1.0 - advantage), batch)
    assert (torch.log_softmax(nets.actor.scores.detach(), dim=0)[1].item() > before) == rises


def test_the_gradient_is_that_of_the_written_objective():
    """Numerically: mean(A log pi), A a constant."""
    nets, _ = updated(copy.deepcopy(actor := Policy(0.5, -0.2)), Value(0.3), gamma=0.0)
    advantage, logged = np.full(3, 0.7), BATCH.action

    def objective(scores):
        log_pi = scores - np.log(np.exp(scores).sum())
        return np.mean(advantage * log_pi[logged])

    scores = actor.scores.detach().numpy().astype(np.float64)
    slope = [(objective(scores + step) - objective(scores - step)) / 2e-5 for step in 1e-5 * np.eye(2)]
    assert nets.actor.scores.tolist() == pytest.approx((scores + 0.1 * np.array(slope)).tolist(), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_normalised_advantages_weigh_the_same_on_any_scale(scale):
    batch = BATCH._replace(reward=scale * np.array([1.0, -0.5, 0.25], dtype=np.float32))
    nets, _ = updated(Policy(0.0, 0.0), Value(0.0), batch, gamma=0.0, normalise=True)
    half = np.array([-0.5, 0.5])  # the gradient of log pi of item 1; of item 0 it is minus that
    gained = (1.0 * half + 0.5 * half + 0.25 * half) / 3 / (1.75 / 3)
    assert nets.actor.scores.tolist() == pytest.approx((0.1 * gained).tolist(), abs=1e-6)


def test_importance_weights_worked_out_by_hand():
    """Of pi = (1/4, 3/4), item 0 counts min(2 * 1/4, 1) = 1/2 and item 1 counts 1; advantages are 1, -1, -1."""
    nets, _ = updated(Policy(0.0, float(np.log(3.0))), Value(2.0, after=4.0), gamma=0.5, off_policy=True)
    gained = (np.array([-0.25, 0.25]) - 0.5 * np.array([0.75, -0.75]) - np.array([-0.25, 0.25])) / 3
    assert nets.actor.scores.tolist() == pytest.approx((np.array([0.0, np.log(3.0)]) + 0.1 * gained).tolist(), abs=1e-6)


def test_what_disappoints_on_a_log_is_not_pushed_down_without_end():
    """Item 1 never earns what was expected: by plain policy gradient its score falls and falls, weighted it rests."""
    batch, ends = BATCH._replace(action=np.array([1, 1, 1]), terminated=np.ones(3, dtype=bool)), {}
    for off_policy in (False, True):
        nets = Networks(Policy(0.0, 0.0), Value(2.0))
        optimizers = Optimizers(sgd(nets.actor, lr=1.0), sgd(nets.critic, lr=0.0))
        looked_up = LSTMActorCritic(CATALOG, frame_size=1, device="cpu").look_up(batch)
        for _ in range(200):
            lstm_ac_update(looked_up, nets, optimizers, Config(**PLAIN | {"off_policy": off_policy}))
        ends[off_policy] = torch.log_softmax(nets.actor.scores.detach(), dim=0)[1].item()
    assert ends[False] < -100
    assert ends[True] > -10


def test_entropy_evens_out_and_imitation_follows_the_good():
    still = Value(1.0)
    nets, losses = updated(Policy(0.0, 1.0), still, gamma=0.0, entropy_weight=1.0)
    assert nets.actor.scores[1] - nets.actor.scores[0] < 1.0
    pi = torch.softmax(torch.tensor([0.0, 1.0]), dim=0)
    assert losses["entropy"].item() == pytest.approx(-(pi * pi.log()).sum().item(), rel=1e-6)
    batch = BATCH._replace(reward=np.array([1.0, 0.0, -0.8], dtype=np.float32))
    _, losses = updated(Policy(0.0, 1.0), Value(0.0), batch, gamma=0.0, bc_weight=1.0, bc_reward=2.0)
    weights = np.exp([2.0, 0.0, -1.6])
    logs = -pi.log().numpy()
    assert losses["bc_loss"].item() == pytest.approx(np.dot(weights / weights.sum(), logs[[1, 0, 1]]), rel=1e-6)


# -- what gradients reach, and what is read ----------------------------------------------------------------------------


def on_toy_log(**config):
    return LSTMActorCritic(make_catalog(), frame_size=5, device="cpu", **{"hidden": 32, "width": 16} | config)


@pytest.mark.parametrize("config", [{}, {"bc_weight": 0.0, "entropy_weight": 0.0}])
def test_gradients_reach_every_weight_of_both_networks(config):
    """Defect W1: no gradient reached either network."""
    agent = on_toy_log(**config)
    before = {name: copy.deepcopy(net.state_dict()) for name, net in agent.nets._asdict().items()}
    agent.update(next(iter(FrameBatches(make_log(), frame_size=5, batch_size=16, seed=1))))
    lstms = 0
    for name, net in agent.nets._asdict().items():
        for inner, parameter in net.named_parameters():
            lstms += ".weight_hh_l0" in inner
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, (name, inner)
            assert not torch.equal(parameter, before[name][inner]), (name, inner)
    assert lstms == 2  # each network has its own, and what it remembers is learned


def test_padding_is_not_read():
    """Defect W4: the LSTM's output was read after the padding; and what an environment showed is padded too."""
    agent = on_toy_log()
    short = History(np.array([[3, 7]]), np.array([[1.0, -0.4]], dtype=np.float32), np.array([2]))
    padded = History(np.array([[40, 40, 40, 3, 7]]), np.array([[0, 0, 0, 1.0, -0.4]], dtype=np.float32), np.array([2]))
    assert torch.allclose(agent.scores(short), agent.scores(padded), atol=1e-6)
    flags = np.zeros(1, dtype=bool), np.zeros(1, dtype=bool)
    lived = Batch(np.zeros(1), *padded[:2], np.array([1]), np.ones(1, dtype=np.float32), *padded[:2], *flags)
    assert agent.look_up(lived).frames.length.tolist() == [2]
    assert torch.allclose(agent.values(agent.look_up(lived).frames), agent.scores(short), atol=1e-6)
    swapped = short._replace(items=np.array([[7, 3]]))
    assert not torch.allclose(agent.scores(short), agent.scores(swapped), atol=1e-6)  # it knows the order


def test_the_policy_is_the_softmax_of_the_actors_vector_over_items():
    agent, history = on_toy_log(), History(np.array([[3, 7, 9]]), np.ones((1, 3), dtype=np.float32), np.array([3]))
    actor, frames = agent.nets.actor.network, agent.look_at(torch.as_tensor(history.items), *history[1:3], None)
    vector = actor.head.last(actor.hidden(agent.nets.actor.encoder(*frames)))  # (1, d)
    assert vector.shape == (1, 12)
    expected = torch.log_softmax(vector @ agent.table[:-1].T + actor.head.bias, dim=1)
    assert torch.allclose(agent.scores(history), expected, atol=1e-5)


# -- learning ----------------------------------------------------------------------------------------------------------


def test_a_bandit_is_learned_from_its_log():
    """Item "b" earns 1, item "a" nothing; both were shown equally often."""
    random = np.random.default_rng(0)
    agent = LSTMActorCritic(CATALOG, frame_size=1, device="cpu", gamma=0.0, hidden=32, width=16, bc_weight=0.0)
    nobody = np.ones(64, dtype=bool)
    for _ in range(100):
        action = random.integers(2, size=64)
        frame = np.full((64, 1), 2), np.zeros((64, 1), dtype=np.float32)
        agent.update(Batch(action, *frame, action, action.astype(np.float32), *frame, nobody, ~nobody))
    scores = agent.scores(History(*frame, np.zeros(64, dtype=int)))
    assert (scores[:, 1] > scores[:, 0] + 1.0).all()


def test_the_identity_environment_is_learned_from_its_log():
    """The item that earns 1 is the last one of the frame. Imitation is switched to what says nothing of rewards."""
    random = np.random.default_rng(0)
    n, catalog = 64, Catalog(np.eye(6), np.arange(6))
    options = {"gamma": 0.0, "dropout": 0.0, "hidden": 32, "width": 16, "bc_reward": 0.0}
    agent = LSTMActorCritic(catalog, frame_size=2, device="cpu", **options)
    nobody, nothing = np.ones(n, dtype=bool), np.zeros((n, 2), dtype=np.float32)
    for _ in range(300):
        seen, action = random.integers(6, size=(n, 2)), random.integers(6, size=n)
        reward = (seen[:, 1] == action).astype(np.float32)
        agent.update(Batch(action, seen, nothing, action, reward, seen, nothing, nobody, ~nobody))
    every_item = History(np.array([[5, i] for i in range(6)]), nothing[:6], np.full(6, 2))
    assert (agent.scores(every_item).argmax(dim=1) == torch.arange(6)).all()


def test_it_learns_from_listeners_who_like_what_brings_them_home():
    """In the environment of the source: songs are items, a step's reward is what it moves the list's spread."""
    env = make_vector_env(
        8,
        world="playlist",
        n_users=20,
        action="item",
        observation="history",
        autoreset_mode="SameStep",
        horizon=3,
        frame_size=5,
    )
    agent = LSTMActorCritic(env.catalog, frame_size=5, device="cpu", bc_weight=0.0, off_policy=False, hidden=16)
    told = []
    buffer = fit_online(agent, env, 8, lambda _, losses: told.append(losses), buffer_size=64, batch_size=16, warm_up=16)
    assert agent.updates == 7
    assert len(buffer) == 64
    assert all(np.isfinite(float(value)) for losses in told for value in losses.values())
