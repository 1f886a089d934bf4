"""DDPG's update: worked out by hand with constant critics, and the defects of other implementations.

Two items with vectors (1, 0) and (0, 1), frames of one event, a batch of three decisions: one goes on, one is
terminated, one is truncated. All hyperparameters are spelled out, so that defaults may change.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_made import BATCH, CATALOG, PAPER, Constant, Linear, Slope

from agents.ddpg import DDPG, Config, Networks, Optimizers, ddpg_update
from agents.networks.layers import Critic, Dropout
from agents.networks.losses import imitation_loss, seen_by_critic
from recgym.catalog import Catalog
from recgym.frames import Batch, History


def by_hand(actor, critic, actor_target, critic_target, lr=0.1):
    nets = Networks(actor, critic, actor_target, critic_target)
    return nets, Optimizers(torch.optim.SGD(actor.parameters(), lr), torch.optim.SGD(critic.parameters(), lr))


def looked_up(batch=BATCH):
    return DDPG(CATALOG, frame_size=1, device="cpu", mapper="inner", **PAPER).look_up(batch)


def items():
    return torch.eye(2)


def test_the_critic_step_worked_out_by_hand():
    """Targets are 1 + 0.5 * 4 = 3, 1 (terminated), 3 (truncated); Q = 2; gradient 2 * mean(2 - y) = -2/3; step 0.1."""
    nets, optimizers = by_hand(Linear(0.0, 0.0), Constant(2.0), Linear(0.0, 0.0), Constant(4.0))
    config = Config(**PAPER, gamma=0.5, tau=0.25)
    losses = ddpg_update(looked_up(), nets, optimizers, items(), config)
    assert losses["critic_loss"].item() == pytest.approx((1 + 1 + 1) / 3)  # (2-3)^2, (2-1)^2, (2-3)^2
    assert nets.critic.value.item() == pytest.approx(2.0 + 0.1 * 2 / 3, abs=1e-6)
    assert nets.critic_target.value.item() == pytest.approx(4.0 + 0.25 * (2.0 + 0.2 / 3 - 4.0), abs=1e-6)


@pytest.mark.parametrize(("flag", "target"), [("terminated", 1.0), ("truncated", 3.0), (None, 3.0)])
def test_only_terminated_stops_bootstrapping(flag, target):
    flags = {name: np.full(3, name == flag) for name in ("terminated", "truncated")}
    nets, optimizers = by_hand(Linear(0.0, 0.0), Constant(0.0), Linear(0.0, 0.0), Constant(4.0))
    losses = ddpg_update(looked_up(BATCH._replace(**flags)), nets, optimizers, items(), Config(**PAPER, gamma=0.5))
    assert losses["critic_loss"].item() == pytest.approx(target**2)


def test_values_are_not_clamped_unless_the_range_of_rewards_is_given():
    def loss(**config):
        nets, optimizers = by_hand(Linear(0.0, 0.0), Constant(0.0), Linear(0.0, 0.0), Constant(400.0))
        batch = looked_up(BATCH._replace(terminated=np.zeros(3, dtype=bool)))
        return ddpg_update(batch, nets, optimizers, items(), Config(**(PAPER | {"gamma": 0.5} | config)))["critic_loss"]

    assert loss().item() == pytest.approx(201.0**2)
    assert loss(reward_range=(-1.0, 1.5)).item() == pytest.approx(3.0**2)  # 1.5 / (1 - 0.5)


def test_the_next_action_is_the_target_actors():
    nets, optimizers = by_hand(Linear(0.0, 9.0), Slope(0.0, 0.0), Linear(0.5, 0.0), Slope(2.0, 1.0))
    losses = ddpg_update(looked_up(), nets, optimizers, items(), Config(**PAPER, gamma=0.5))
    targets = np.array([1 + 0.5 * 1.0, 1.0, 1 + 0.5 * 1.0])  # Q'(a') = 2 * 0.5
    assert losses["critic_loss"].item() == pytest.approx((targets**2).mean())


def test_the_actor_step_raises_the_value():
    """The gradient of -mean Q is minus the slope of the critic after its own step (here it does not move)."""
    nets, optimizers = by_hand(Linear(0.2, 0.2), Slope(3.0, -4.0), Linear(0.0, 0.0), Slope(0.0, 0.0))
    optimizers.critic.param_groups[0]["lr"] = 0.0
    ddpg_update(looked_up(), nets, optimizers, items(), Config(**PAPER, tau=0.5))
    assert nets.actor.value.tolist() == pytest.approx([0.2 + 0.3, 0.2 - 0.4])
    assert nets.actor_target.value.tolist() == pytest.approx([0.25, -0.1])


@pytest.mark.parametrize("max_norm", [1.0, 1e-3])
def test_shortened_gradients_keep_their_direction(max_norm):
    nets, optimizers = by_hand(Linear(0.2, 0.2), Slope(3.0, -4.0), Linear(0.0, 0.0), Slope(0.0, 0.0))
    optimizers.critic.param_groups[0]["lr"] = 0.0
    ddpg_update(looked_up(), nets, optimizers, items(), Config(**(PAPER | {"max_norm": max_norm})))
    moved = (nets.actor.value - 0.2).tolist()
    assert moved == pytest.approx([0.1 * max_norm * 0.6, -0.1 * max_norm * 0.8], rel=1e-3)


def test_sixty_steps_against_a_fixed_critic_raise_its_value():
    agent = DDPG(CATALOG, frame_size=1, device="cpu", mapper="inner", **PAPER, critic_lr=0.0, critic_init=None)
    first = agent.update(BATCH)["actor_value"]
    for _ in range(60):
        last = agent.update(BATCH)["actor_value"]
    assert last > first + 0.01


def test_every_network_moves_at_every_update():
    agent = DDPG(CATALOG, frame_size=1, device="cpu")
    before = copy.deepcopy(agent.nets)
    agent.update(BATCH)
    for name, old, new in zip(before._fields, before, agent.nets, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True)), name


def test_the_actors_loss_leaves_no_gradient_in_the_critic():
    agent = DDPG(CATALOG, frame_size=1, device="cpu")
    agent.update(BATCH)
    critic_step = [parameter.grad.clone() for parameter in agent.nets.critic.parameters()]
    again = DDPG(CATALOG, frame_size=1, device="cpu", q_weight=100.0)
    again.update(BATCH)
    assert all(torch.equal(a, b.grad) for a, b in zip(critic_step, again.nets.critic.parameters(), strict=True))


def test_losses_without_learning_change_nothing():
    agent = DDPG(CATALOG, frame_size=1, device="cpu")
    before = copy.deepcopy(agent.nets)
    arguments = agent.look_up(BATCH), agent.nets, agent.optimizers, agent.vectors[:-1], agent.config
    measured = ddpg_update(*arguments, learn=False)
    assert all(
        torch.equal(a, b)
        for o, n in zip(before, agent.nets, strict=True)
        for a, b in zip(o.parameters(), n.parameters(), strict=True)
    )
    assert measured["critic_loss"] == ddpg_update(*arguments)["critic_loss"]


def test_only_the_learning_actor_drops_units_out():
    """Defect R7: dropout in recommendations, in measured losses and in the critic's values."""
    agent = DDPG(CATALOG, frame_size=1, device="cpu", dropout=0.5)
    history = History(BATCH.items, BATCH.rewards, np.ones(3, dtype=int))
    for _ in range(2):  # before and after learning
        assert torch.equal(agent.scores(history), agent.scores(history))
        config = agent.config, agent.vectors[:-1]
        measured = [
            ddpg_update(agent.look_up(BATCH), agent.nets, agent.optimizers, config[1], config[0], learn=False)
            for _ in range(2)
        ]
        assert measured[0] == measured[1]
        agent.update(BATCH)
    assert not any(net.training for net in (agent.nets.actor, agent.nets.actor_target, agent.nets.critic_target))
    assert not any(isinstance(module, Dropout) and module.share for module in agent.nets.critic.modules())


def test_dropout_draws_from_the_agents_own_stream():
    def losses():
        agent = DDPG(CATALOG, frame_size=1, device="cpu", dropout=0.5, actor_init=None, seed=3)
        return [agent.update(BATCH)["bc_loss"].item() for _ in range(5)]

    torch.manual_seed(1)
    first = losses()
    torch.manual_seed(2)
    assert losses() == first
    agent = DDPG(CATALOG, frame_size=1, device="cpu", dropout=0.0, actor_init=None, seed=3)
    assert [agent.update(BATCH)["bc_loss"].item() for _ in range(5)] != first


def test_normalised_values_weigh_the_same_on_any_scale():
    def moved(scale):
        nets, optimizers = by_hand(Linear(0.2, 0.2), Slope(3.0 * scale, 0.0), Linear(0.0, 0.0), Slope(0.0, 0.0))
        optimizers.critic.param_groups[0]["lr"] = 0.0
        ddpg_update(looked_up(), nets, optimizers, items(), Config(**(PAPER | {"normalise_q": True, "q_weight": 0.5})))
        return nets.actor.value.tolist()

    assert moved(1.0) == pytest.approx([0.2 + 0.1 * 0.5 / 0.2, 0.2])  # 3 / mean |3 * 0.2|, times weight and step size
    assert moved(100.0) == pytest.approx(moved(1.0))


def test_the_expected_item_worked_out_by_hand():
    config = Config(critic_action="expected_item", temperature=2.0)
    shown = seen_by_critic(torch.tensor([[0.5, 0.0]]), items(), 3.0 * items(), config)
    share = np.exp(1.0) / (np.exp(1.0) + 1.0)
    assert shown[0].tolist() == pytest.approx([3.0 * share, 3.0 * (1 - share)])


def test_imitation_worked_out_by_hand():
    action, logged = torch.tensor([[0.5, 0.0], [0.5, 0.0]]), torch.tensor([0, 1])
    loss = imitation_loss(action, logged, items(), Config(temperature=2.0, n_negatives=0), None)
    share = np.exp(1.0) / (np.exp(1.0) + 1.0)
    assert loss.tolist() == pytest.approx([-np.log(share), -np.log(1 - share)])


def test_imitation_among_drawn_items_leaves_the_logged_item_out_of_them():
    action, logged = torch.tensor([[0.5, 0.0]]), torch.tensor([0])
    generator = torch.Generator().manual_seed(0)
    config = Config(temperature=2.0, n_negatives=64)
    loss = imitation_loss(action, logged, items(), config, generator)
    # those drawn of the one other item, which scores 0, stand for it together
    assert loss.item() == pytest.approx(-np.log(np.exp(1.0) / (np.exp(1.0) + 1.0)), rel=1e-5)


def test_imitation_counts_good_rewards_more():
    """Losses of the three decisions are log 2 apart from the action's score; weights are exp(2 r) over their sum."""
    batch = looked_up(BATCH._replace(reward=np.array([1.0, 0.0, -0.8], dtype=np.float32)))
    config = {"q_weight": 0.0, "bc_weight": 1.0, "bc_reward": 2.0, "temperature": 1.0}
    nets, optimizers = by_hand(Linear(1.0, 0.0), Constant(0.0), Linear(0.0, 0.0), Constant(0.0))
    loss = ddpg_update(batch, nets, optimizers, items(), Config(**(PAPER | config)))["bc_loss"].item()
    weights = np.exp([2.0, 0.0, -1.6])
    a, b = np.log(1 + np.exp(-1.0)), np.log(1 + np.exp(1.0))  # minus the log probability of item 0 and of item 1
    assert loss == pytest.approx(np.dot(weights / weights.sum(), [b, a, b]), rel=1e-6)


def test_a_bandit_is_learned_from_its_log():
    """Item "b" earns 1, item "a" nothing; both were shown equally often: the value term must find b."""
    random = np.random.default_rng(0)
    agent = DDPG(CATALOG, frame_size=1, device="cpu", gamma=0.0, mapper="inner", bc_weight=0.0, q_weight=1.0)
    nobody = np.ones(64, dtype=bool)
    for _ in range(200):
        action = random.integers(2, size=64)
        frame = np.full((64, 1), 2), np.zeros((64, 1), dtype=np.float32)
        agent.update(Batch(action, *frame, action, action.astype(np.float32), *frame, nobody, ~nobody))
    scores = agent.scores(History(*frame, np.zeros(64, dtype=int)))
    assert (scores[:, 1] > scores[:, 0]).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_identity_environment_is_learned_from_its_log(seed):
    """The item that earns 1 is the last one of the frame. Imitation alone is no help: the log shows all alike."""
    random = np.random.default_rng(0)
    n, catalog = 64, Catalog(np.eye(6), np.arange(6))
    agent = DDPG(catalog, frame_size=1, device="cpu", gamma=0.0, bc_reward=0.0, dropout=0.0, seed=seed)
    nobody = np.ones(n, dtype=bool)
    for _ in range(600):
        seen, action = random.integers(6, size=(2, n))
        frame = seen[:, None], np.zeros((n, 1), dtype=np.float32)
        agent.update(Batch(seen, *frame, action, (seen == action).astype(np.float32), *frame, nobody, ~nobody))
    every_item = History(np.arange(6)[:, None], np.zeros((6, 1), dtype=np.float32), np.ones(6, dtype=int))
    assert (agent.scores(every_item).argmax(dim=1) == torch.arange(6)).all()


def test_two_runs_of_one_seed_are_equal_bit_for_bit_and_another_seed_is_not():
    def run(seed):
        agent = DDPG(CATALOG, frame_size=1, device="cpu", seed=seed, n_negatives=4)
        for _ in range(5):
            agent.update(BATCH)
        return torch.cat([parameter.flatten() for parameter in agent.nets.actor.parameters()])

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_making_an_agent_leaves_the_global_random_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    DDPG(CATALOG, frame_size=1, device="cpu")
    assert torch.equal(torch.rand(1), expected)


def test_exploring_adds_noise_within_the_box():
    agent = DDPG(CATALOG, frame_size=1, device="cpu", noise=5.0)
    history = History(BATCH.items, BATCH.rewards, np.ones(3, dtype=int))
    noisy = agent.act(history, explore=True)
    assert noisy.abs().max() <= 1.0
    assert not torch.equal(noisy, agent.act(history))


def test_the_critic_is_a_function_of_the_action():
    critic = Critic(3, 2)
    state = torch.zeros(1, 3)
    assert critic(state, torch.tensor([[1.0, 0.0]])) != critic(state, torch.tensor([[0.0, 1.0]]))


def test_a_wrong_mapper_is_refused():
    with pytest.raises(ValueError, match=r"mapper must be one of inner, cosine, got 'l2'"):
        DDPG(CATALOG, mapper="l2")


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        replace(Config(), gamma=0.5).gamma = 0.6
