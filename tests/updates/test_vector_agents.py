"""What must hold for every agent whose action is a vector, whichever its algorithm."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log
from hand_made import BATCH, CATALOG, everything
from torch import nn

from agents import BCQ, DDPG, DRR, SAC, TD3, TD3BC, checkpoint, fit, fit_online
from agents.embedding_agent import moved_by_one
from agents.networks.layers import Actor
from agents.networks.twin_critics import Pair
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.frames import Batch, History
from recgym.users import ReplayUsers

AGENTS = [DDPG, TD3, TD3BC, SAC, BCQ, DRR]
SMALL = {DDPG: {}, TD3: {}, TD3BC: {}, SAC: {}, DRR: {}, BCQ: {"generator_hidden": 16, "n_samples": 3}}
HISTORY = History(BATCH.items, BATCH.rewards, np.ones(3, dtype=int))
every_agent = pytest.mark.parametrize("agent_class", AGENTS)


def tiny(agent_class, **config):
    return agent_class(CATALOG, frame_size=1, device="cpu", **SMALL[agent_class] | config)


def on_toy_log(agent_class, seed=0, **config):
    config = {"hidden": 16, "n_negatives": 4} | SMALL[agent_class] | config  # negatives are drawn from the stream too
    return agent_class(make_catalog(), frame_size=5, device="cpu", seed=seed, **config)


def toy_batches(**options):
    return FrameBatches(make_log(), frame_size=5, batch_size=8, seed=1, **options)


# -- learning ----------------------------------------------------------------------------------------------------------


@every_agent
def test_every_network_moves_within_two_updates(agent_class):
    agent = tiny(agent_class)
    before = copy.deepcopy(agent.nets)
    agent.update(BATCH)
    agent.update(BATCH)
    for name, old, new in zip(before._fields, before, agent.nets, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True)), name


@every_agent
def test_losses_without_learning_change_nothing(agent_class):
    agent = tiny(agent_class, n_negatives=2)
    agent.update(BATCH)
    before, stream = everything(agent), agent.generator.get_state()
    measured = agent.losses(BATCH)
    assert measured == agent.losses(BATCH)
    assert torch.equal(before, everything(agent))
    assert torch.equal(stream, agent.generator.get_state())
    assert agent.updates == 1
    assert not any(module.training for net in agent.nets for module in net.modules())
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in measured.values())
    dropless, name = tiny(agent_class, dropout=0.0), "generator_loss" if agent_class is BCQ else "critic_loss"
    assert dropless.losses(BATCH)[name] == dropless.update(BATCH)[name]  # the first that the update measures


@every_agent
def test_a_bandit_is_learned_from_its_log(agent_class):
    """Item "b" earns 1, item "a" nothing; both were shown equally often: the values must find b."""
    more = {TD3BC: {"alpha": 20.0}, BCQ: {"bc_reward": 0.0, "kl_weight": 0.01, "n_samples": 10, "generator_hidden": 32}}
    random = np.random.default_rng(0)
    agent = tiny(agent_class, gamma=0.0, hidden=64, **more.get(agent_class, {"bc_weight": 0.0}))
    nobody = np.ones(64, dtype=bool)
    for _ in range(250):
        action = random.integers(2, size=64)
        frame = np.full((64, 1), 2), np.zeros((64, 1), dtype=np.float32)
        agent.update(Batch(action, *frame, action, action.astype(np.float32), *frame, nobody, ~nobody))
    scores = agent.scores(History(*frame, np.zeros(64, dtype=int)))
    assert (scores[:, 1] > scores[:, 0]).all()


@pytest.mark.parametrize("agent_class", [TD3, TD3BC, SAC, BCQ])  # DDPG and DRR have it in their own files
def test_the_identity_environment_is_learned_from_its_log(agent_class):
    """The item that earns 1 is the last one of the frame. Imitation alone is no help: the log shows all alike."""
    more = {
        TD3BC: {},
        BCQ: {"bc_reward": 0.0, "kl_weight": 0.01, "n_samples": 20, "generator_hidden": 32, "latent_clip": 2.0},
    }
    random = np.random.default_rng(0)
    n, catalog = 64, Catalog(np.eye(6), np.arange(6))
    config = {"gamma": 0.0, "dropout": 0.0, "hidden": 64} | more.get(agent_class, {"bc_reward": 0.0})
    agent = agent_class(catalog, frame_size=1, device="cpu", **config)
    nobody = np.ones(n, dtype=bool)
    for _ in range(500):
        seen, action = random.integers(6, size=(2, n))
        frame = seen[:, None], np.zeros((n, 1), dtype=np.float32)
        agent.update(Batch(seen, *frame, action, (seen == action).astype(np.float32), *frame, nobody, ~nobody))
    every_item = History(np.arange(6)[:, None], np.zeros((6, 1), dtype=np.float32), np.ones(6, dtype=int))
    assert (agent.scores(every_item).argmax(dim=1) == torch.arange(6)).all()


@every_agent
def test_policy_steps_against_fixed_critics_raise_their_value(agent_class):
    more = {BCQ: {"generator_lr": 0.0, "phi": 1.0}, DRR: {"encoder_lr": 0.0}}
    agent = tiny(agent_class, critic_lr=0.0, critic_init=None, dropout=0.0, **more.get(agent_class, {}))
    name = "actor_value"
    first = agent.losses(BATCH)[name]
    for _ in range(60):
        agent.update(BATCH)
    assert agent.losses(BATCH)[name] > first + 1e-3


@every_agent
def test_what_was_lived_through_is_learned_from(agent_class):
    """Online, an item that is not answered leaves the frame as it is, so frames do not overlap."""
    log, catalog = make_log(), make_catalog()
    users = ReplayUsers(log, frame_size=5)
    options = {"observation": "history", "autoreset_mode": "SameStep", "horizon": 4, "frame_size": 5}
    env = RecVectorEnv(6, users=users, catalog=catalog, **options)
    agent, told = on_toy_log(agent_class), []
    buffer = fit_online(agent, env, 6, lambda _, losses: told.append(losses), batch_size=8, warm_up=12)
    assert len(buffer) == 36
    assert agent.updates == 5
    assert all(float(value) == float(value) for losses in told for value in losses.values())  # none is NaN


# -- repeating ---------------------------------------------------------------------------------------------------------


@every_agent
def test_two_runs_of_one_seed_are_equal_bit_for_bit_and_another_seed_is_not(agent_class):
    def run(seed):
        agent = on_toy_log(agent_class, seed)
        fit(agent, toy_batches(later=0.5), 5)
        return everything(agent)

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))


@every_agent
@pytest.mark.parametrize("stop", [1, 7])
def test_an_interrupted_run_ends_with_the_very_same_weights(agent_class, tmp_path, stop):
    """An odd number of steps: whoever learns at every second one must know whose turn it is."""
    whole, batches = on_toy_log(agent_class), toy_batches()
    fit(whole, batches, 12)
    agent, batches = on_toy_log(agent_class), toy_batches()
    fit(agent, batches, stop)
    checkpoint.save(tmp_path, stop, agent, batches)
    resumed, batches = on_toy_log(agent_class), toy_batches()
    fit(resumed, batches, 2)  # it has a history of its own; loading must leave none of it
    assert checkpoint.load(tmp_path, resumed, batches) == stop
    fit(resumed, batches, 12, first_step=stop)
    assert torch.equal(everything(resumed), everything(whole))
    assert resumed.updates == 12


@every_agent
def test_scores_are_a_function_of_the_history(agent_class):
    agent = on_toy_log(agent_class)
    history = History(np.array([[1, 2, 3, 4, 5], [40, 40, 40, 40, 7]]), np.zeros((2, 5), dtype=np.float32), [5, 1])
    first = agent.scores(history)
    assert first.shape == (2, 40)
    assert torch.equal(first, agent.scores(history))
    explored = [agent.act(history, explore=True) for _ in range(2)]
    assert not torch.equal(*explored)
    assert all(action.shape == (2, 12) and action.abs().max() <= 1.0 for action in explored)


# -- own networks and optimizers ---------------------------------------------------------------------------------------


@every_agent
def test_own_optimizers_are_used(agent_class):
    def plain(nets, config):
        made = agent_class.make_optimizers(nets, config)
        return type(made)(*(torch.optim.SGD(optimizer.param_groups[0]["params"], 0.0) for optimizer in made))

    agent = tiny(agent_class, optimizers=plain)
    assert all(isinstance(optimizer, torch.optim.SGD) for optimizer in agent.optimizers)
    before = everything(agent)
    agent.update(BATCH)
    agent.update(BATCH)
    assert torch.equal(before, everything(agent))  # their step size is 0


@every_agent
def test_own_networks_are_used_and_come_back_from_a_checkpoint(agent_class, tmp_path):
    def wide():
        config = agent_class.make_config(**SMALL[agent_class])
        nets = agent_class.make_networks(3, 2, config)
        return nets._replace(**{name: copy.deepcopy(nets[0 if name == "actor" else i]) for i, name in named(nets)})

    def named(nets):
        return [(i, name) for i, name in enumerate(nets._fields) if name.startswith("critic")]

    nets = wide()
    agent = tiny(agent_class, nets=nets)
    assert all(a is b for a, b in zip(agent.nets, nets, strict=True))
    agent.update(BATCH)
    checkpoint.save(tmp_path, 1, agent)
    again = checkpoint.load_agent(tmp_path, CATALOG, device="cpu", nets=wide())
    assert torch.equal(everything(again), everything(agent))


def test_networks_of_another_kind_learn_too():
    """A critic without hidden layers, in TD3."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 1)

        def forward(self, *parts):
            return self.layer(torch.cat(parts, dim=1)).squeeze(1)

    made = TD3.make_networks(3, 2, TD3.make_config())
    nets = made._replace(critics=Pair(Linear(), Linear()), critics_target=Pair(Linear(), Linear()))
    agent = tiny(TD3, nets=nets, critic_lr=0.05)
    first = agent.update(BATCH)["critic_loss"]
    for _ in range(50):
        last = agent.update(BATCH)["critic_loss"]
    assert last < first


# -- lookups, precision and compiling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0.0, 0.7])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_overlapping_frames_are_looked_up_once_and_give_the_same(later, device):
    agent = on_toy_log(DDPG)
    for batch in toy_batches(later=later, device=device, drop_last=False):
        assert moved_by_one(batch.items, batch.next_items)
        apart = batch._replace(next_items=copy.deepcopy(batch.next_items))
        assert not moved_by_one(apart.items, apart.next_items)
        once, twice = agent.look_up(batch), agent.look_up(apart)
        assert torch.equal(once.next_state[0], twice.next_state[0])
        assert torch.equal(once.state[0], twice.state[0])
        assert once.state[0].untyped_storage().nbytes() < twice.state[0].untyped_storage().nbytes()
        assert once.next_state[0].data_ptr() == once.state[0].data_ptr() + 12 * 4  # views one item apart
        assert torch.equal(once.state[0], agent.table[torch.as_tensor(np.asarray(batch.items))].flatten(1))


def test_frames_of_other_memory_or_order_are_not_taken_for_overlapping():
    frames = np.arange(12).reshape(3, 4)
    assert not moved_by_one(frames[:, 1:], frames[:, :3])
    assert not moved_by_one(frames[:, :3], frames[:, :3])
    assert not moved_by_one(frames[:, :2], frames[:, 2:])
    assert not moved_by_one(frames[:, :3], frames[:, 1:].astype(np.int32))
    assert not moved_by_one(frames[:, :3], frames[:, ::-1][:, :3])


@every_agent
def test_bf16_learns_nearly_what_fp32_learns(agent_class):
    """Its numbers have 8 binary digits: losses agree to a few parts in a hundred, weights stay fp32."""
    losses = {}
    for precision in ("fp32", "bf16"):
        agent = on_toy_log(agent_class, precision=precision, dropout=0.0, critic_init=None, actor_init=None)
        fit(agent, toy_batches(), 12, lambda _, found, p=precision: losses.setdefault(p, []).append(found))
        assert all(parameter.dtype == torch.float32 for net in agent.nets for parameter in net.parameters())
        assert agent.inputs.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        history = History(np.array([[1, 2, 3, 4, 5]]), np.zeros((1, 5), dtype=np.float32), [5])
        assert agent.scores(history).dtype == torch.float32
    for full, half in zip(losses["fp32"], losses["bf16"], strict=True):
        assert full.keys() == half.keys()
        for name in full:
            assert half[name].item() == pytest.approx(full[name].item(), rel=0.1, abs=0.1), name
    assert any(full != half for full, half in zip(losses["fp32"], losses["bf16"], strict=True))


def test_tf32_is_fp32_where_there_is_no_cuda():
    agents = [on_toy_log(TD3, precision=precision) for precision in ("fp32", "tf32")]
    for agent in agents:
        fit(agent, toy_batches(), 3)
    assert torch.equal(*map(everything, agents))


@pytest.mark.slow
@pytest.mark.parametrize("agent_class", [DDPG, TD3])
def test_compiled_networks_learn_what_plain_ones_learn(agent_class):
    """Compiling may add up in another order: after 10 updates by plain gradient descent weights agree to 1e-4."""

    def plain(nets, config):
        made = agent_class.make_optimizers(nets, config)
        return type(made)(*(torch.optim.SGD(optimizer.param_groups[0]["params"], 0.1) for optimizer in made))

    weights = []
    for compiled in (False, True):
        agent = on_toy_log(agent_class, compile=compiled, optimizers=plain, actor_init=None, critic_init=None)
        assert all((net._compiled_call_impl is not None) == compiled for net in agent.nets)
        fit(agent, toy_batches(), 10)
        weights.append(everything(agent))
    assert torch.allclose(*weights, atol=1e-4, rtol=0)


@every_agent
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "fp16"}, r"precision must be one of fp32, tf32, bf16, got 'fp16'"),
        ({"mapper": "l2"}, r"mapper must be one of inner, cosine, got 'l2'"),
        ({"critic_action": "item"}, r"critic_action must be one of expected_item, vector, got 'item'"),
        ({"frame_size": 0}, r"frame_size must be at least 1, got 0"),
    ],
)
def test_unknown_options_are_refused(agent_class, option, message):
    with pytest.raises(ValueError, match=message):
        agent_class(CATALOG, device="cpu", **option)


@every_agent
def test_frames_of_another_size_are_refused(agent_class):
    agent = on_toy_log(agent_class)
    batch = next(iter(FrameBatches(make_log(), frame_size=4, batch_size=8)))
    with pytest.raises(DataError, match=r"frames must have 5 events as the agent's frame_size says, got 4; give both"):
        agent.update(batch)


def test_a_name_that_is_no_option_is_refused():
    with pytest.raises(TypeError, match="gama"):
        TD3(CATALOG, device="cpu", gama=0.9)


def test_networks_are_the_sizes_the_papers_name():
    assert isinstance(tiny(TD3).nets.actor, Actor)
    assert tiny(SAC).nets.critics.weight2.shape == (2, 256, 256)
    assert tiny(BCQ, generator_hidden=750).nets.generator.decoder_second.weight.shape == (750, 750)
