"""What all agents whose action is an item must do alike: act, measure, resume, repeat, take others' networks."""

import copy
from dataclasses import fields
from importlib import import_module

import numpy as np
import pytest
import torch
from conftest import make_log

from agents import checkpoint, dqn, lstm_ac, reinforce, sequence, sequence_reinforce, sequence_td3_bc, sqn
from agents.base import Agent
from agents.networks.state_encoders import ENCODERS
from agents.training import train
from agents.training.train import fit
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.envs.env import RecVectorEnv
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.users import ReplayUsers

SMALL = {
    reinforce.REINFORCE: {"hidden": 16},
    dqn.DQN: {"hidden": 16},
    sequence.SequenceModel: {"width": 8, "max_length": 6, "n_negatives": 7, "lr": 3e-3},
    sequence_reinforce.SequenceREINFORCE: {"width": 8, "max_length": 6, "lr": 3e-3},
    sequence_td3_bc.SequenceTD3BC: {
        "width": 8,
        "hidden": 16,
        "max_length": 6,
        "value_after": 2,
        "policy_delay": 1,
        "lr": 3e-3,
    },
    sqn.SQN: {"width": 8, "max_length": 6, "n_negatives": 7, "advantage_after": 2, "lr": 3e-3},
    lstm_ac.LSTMActorCritic: {"hidden": 16, "width": 16},
}
LOSS = {
    reinforce.REINFORCE: "bc_loss",
    dqn.DQN: "critic_loss",
    sequence.SequenceModel: "loss",
    sequence_reinforce.SequenceREINFORCE: "bc_loss",
    sequence_td3_bc.SequenceTD3BC: "bc_loss",
    sqn.SQN: "policy_loss",
    lstm_ac.LSTMActorCritic: "bc_loss",
}
AGENTS = pytest.mark.parametrize("agent_class", list(SMALL), ids=lambda agent_class: agent_class.__name__)


def make(agent_class, catalog, seed=0, **options):
    return agent_class(catalog, frame_size=5, seed=seed, device="cpu", **(SMALL[agent_class] | options))


def batches_of(log, device=None):
    return FrameBatches(log, frame_size=5, batch_size=8, seed=1, min_history=1, device=device)


def weights(agent):
    return torch.cat([value.flatten() for net in agent.nets for value in net.state_dict().values()])


@AGENTS
def test_it_is_an_agent(agent_class, catalog):
    assert isinstance(make(agent_class, catalog), Agent)


@AGENTS
def test_resuming_after_an_odd_number_of_steps_changes_no_bit(agent_class, log, catalog, tmp_path):
    whole, batches = make(agent_class, catalog), batches_of(log)
    fit(whole, batches, 7)
    first, batches = make(agent_class, catalog), batches_of(log)
    fit(first, batches, 3)
    checkpoint.save(tmp_path, 3, first, batches)
    torch.manual_seed(99)  # another process
    second, batches = make(agent_class, catalog), batches_of(log)
    assert checkpoint.load(tmp_path, second, batches) == 3
    fit(second, batches, 7, first_step=3)
    assert torch.equal(weights(whole), weights(second))
    assert whole.updates == second.updates == 7
    assert whole.act(as_history(log), explore=True).tolist() == second.act(as_history(log), explore=True).tolist()
    again = checkpoint.load_agent(tmp_path, catalog, device="cpu")
    assert type(again) is agent_class


@AGENTS
def test_one_seed_gives_one_run_whatever_the_global_stream_and_another_seed_another(agent_class, log, catalog):
    def run(seed, elsewhere):
        torch.manual_seed(elsewhere)
        agent = make(agent_class, catalog, seed)
        fit(agent, batches_of(log), 5)
        return weights(agent)

    assert torch.equal(run(0, 1), run(0, 2))
    assert not torch.equal(run(0, 1), run(1, 1))


@AGENTS
def test_making_an_agent_leaves_the_global_stream_alone(agent_class, catalog):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make(agent_class, catalog)
    assert torch.equal(torch.rand(1), expected)


@AGENTS
def test_batches_on_the_device_teach_the_same(agent_class, log, catalog):
    first, second = make(agent_class, catalog), make(agent_class, catalog)
    fit(first, batches_of(log), 3)
    fit(second, batches_of(log, "cpu"), 3)
    assert torch.equal(weights(first), weights(second))


@AGENTS
def test_measuring_changes_nothing_and_has_no_dropout(agent_class, log, catalog):
    agent = make(agent_class, catalog, dropout=0.5)
    batch = next(iter(batches_of(log)))
    before, state = weights(agent), copy.deepcopy(agent.generator.get_state())
    first = agent.losses(batch)
    assert first == agent.losses(batch)
    assert torch.equal(weights(agent), before)
    assert torch.equal(agent.generator.get_state(), state)
    assert agent.updates == 0
    assert not any(loss.requires_grad for loss in first.values())
    assert not any(net.training for net in agent.nets)
    agent.update(batch)
    assert not torch.equal(weights(agent), before)
    assert not any(net.training for net in agent.nets)


@AGENTS
def test_dropout_is_for_learning(agent_class, log, catalog):
    batch, history = next(iter(batches_of(log))), as_history(log)
    agent, without = make(agent_class, catalog, dropout=0.5), make(agent_class, catalog, dropout=0.0)
    assert torch.equal(agent.scores(history), agent.scores(history))
    assert torch.equal(agent.scores(history), without.scores(history))
    agent.update(batch)
    without.update(batch)
    assert not torch.equal(weights(agent), weights(without))


@AGENTS
def test_a_hundred_steps_lower_the_loss_of_one_batch(agent_class, log, catalog):
    agent = make(agent_class, catalog, dropout=0.0)
    batch = next(iter(batches_of(log)))
    name = LOSS[agent_class]
    first = agent.losses(batch)[name]
    fit(agent, [batch], 100)
    assert agent.losses(batch)[name] < 0.7 * first


@AGENTS
def test_networks_and_optimizers_of_ones_own(agent_class, log, catalog):
    module = import_module(agent_class.__module__)
    other = make(agent_class, catalog, seed=7)

    def radam(nets, config):
        assert config == other.config
        own = (getattr(nets, name) for name in module.Optimizers._fields)
        return module.Optimizers(*(torch.optim.RAdam(net.parameters(), lr=0.1) for net in own))

    agent = make(agent_class, catalog, nets=copy.deepcopy(other.nets), optimizers=radam)
    history = as_history(log)
    assert torch.equal(agent.scores(history), other.scores(history))
    assert all(isinstance(optimizer, torch.optim.RAdam) for optimizer in agent.optimizers)
    before = weights(agent)
    agent.update(next(iter(batches_of(log))))
    assert not torch.equal(weights(agent), before)


@AGENTS
def test_it_shows_the_best_item_not_yet_seen(agent_class, log, catalog):
    agent, history = make(agent_class, catalog), as_history(log)
    scores = agent.scores(history)
    assert scores.shape == (len(history.items), catalog.n_items)
    shown = agent.act(history)
    for row, item in enumerate(shown.tolist()):
        allowed = np.setdiff1d(np.arange(catalog.n_items), history.items[row])
        assert item == allowed[scores[row, allowed].argmax()]
    twice = make(agent_class, catalog, mask_seen=False)
    assert torch.equal(twice.act(history), scores.argmax(dim=1))


@AGENTS
def test_exploring_draws_items_by_the_softmax_of_their_scores(agent_class, log):
    agent = make(agent_class, Catalog(np.eye(4), np.arange(4)), temperature=0.5)
    fit(agent, FrameBatches(few_items(), frame_size=5, batch_size=8, min_history=1), 3)
    one = History(np.full((4000, 2), 3), np.ones((4000, 2), dtype=np.float32), np.full(4000, 2))
    scores = agent.scores(one)[0]
    expected = torch.softmax(scores[:3] / 0.5, dim=0)  # item 3 was seen
    shares = torch.bincount(agent.act(one, explore=True), minlength=4) / 4000
    assert shares[3] == 0
    assert torch.allclose(shares[:3], expected, atol=0.04)


@AGENTS
def test_lower_precision_is_close_and_an_unknown_one_refused(agent_class, log, catalog):
    batch = next(iter(batches_of(log)))
    exact, rough = make(agent_class, catalog), make(agent_class, catalog, precision="bf16")
    name = LOSS[agent_class]
    assert exact.update(batch)[name].item() == pytest.approx(rough.update(batch)[name].item(), rel=0.05)
    assert weights(rough).dtype == torch.float32
    with pytest.raises(ValueError, match=r"precision must be one of fp32, tf32, bf16, got 'fp8'; choose one of them"):
        make(agent_class, catalog, precision="fp8")


@AGENTS
def test_wrong_options_are_refused(agent_class, catalog):
    with pytest.raises(ValueError, match=r"frame_size must be at least 1, got 0; give the events an agent looks at"):
        agent_class(catalog, frame_size=0)
    with pytest.raises(ValueError, match=r"temperature must be above 0, got 0.0; leave it out for"):
        make(agent_class, catalog, temperature=0.0)
    with pytest.raises(TypeError, match="got 'learning_rate'; did you mean"):
        make(agent_class, catalog, learning_rate=1.0)


@AGENTS
def test_a_command_trains_it_on_its_own_batches_and_resumes_to_the_same_end(agent_class, tmp_path, monkeypatch):
    monkeypatch.setattr(train.datasets, "load", lambda name: make_log((14, 18, 9, 25, 30, 12, 16, 20)))
    options = {"batch_size": 4, "frame_size": 5, "dim": 4, "test_size": 0.25, "device": "cpu", "save_every": 3}
    module = import_module(agent_class.__module__)
    config = module.Config(**SMALL[agent_class])

    def run(folder, **more):
        return train.train_agent(agent_class, train.Run(**options, folder=tmp_path / folder, **more), config)

    whole = run("whole", steps=7)
    run("parts", steps=5)
    resumed = run("parts", steps=7, resume=True)
    np.testing.assert_array_equal(whole.values["mrr"], resumed.values["mrr"])
    ends = [(tmp_path / name / "step-000000007" / "tensors.safetensors").read_bytes() for name in ("whole", "parts")]
    assert ends[0] == ends[1]


@AGENTS
def test_every_option_stands_in_the_help(agent_class, capsys):
    import tyro

    module = import_module(agent_class.__module__)
    with pytest.raises(SystemExit, match="0"):
        tyro.cli(module.main, config=(tyro.conf.OmitArgPrefixes,), args=["--help"])
    shown = capsys.readouterr().out
    for field in fields(module.Config):
        assert f"--{field.name.replace('_', '-')}" in shown, field.name


def test_what_is_looked_up_is_the_batchs(log, catalog):
    agent = make(dqn.DQN, catalog, n_users=log.n_users)
    batch = next(iter(FrameBatches(log, frame_size=5, batch_size=40, shuffle=False, min_history=0, gamma=0.9)))
    found = agent.look_up(batch)
    scale = np.mean(np.square(catalog.embeddings)) ** -0.5
    assert np.mean(np.square(agent.table[:-1].numpy())) == pytest.approx(1.0)
    np.testing.assert_allclose(found.frames.vectors, catalog.table[batch.items] * scale, rtol=1e-6)
    np.testing.assert_allclose(found.next_frames.vectors, catalog.table[batch.next_items] * scale, rtol=1e-6)
    for name, column in (("rewards", batch.rewards), ("length", batch.length), ("user", batch.user)):
        np.testing.assert_array_equal(getattr(found.frames, name), column)
    np.testing.assert_array_equal(found.next_frames.rewards, batch.next_rewards)
    np.testing.assert_array_equal(found.next_frames.length, (batch.next_items != log.n_items).sum(axis=1))
    for name in ("action", "reward", "returns", "terminated", "next_items"):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
    assert make(dqn.DQN, catalog).look_up(batch).frames.user is None


@pytest.mark.parametrize(
    ("agent_class", "options"),
    [
        (dqn.DQN, {"conservative": 0.0, "gamma": 0.0, "temperature": 0.1}),
        (reinforce.REINFORCE, {"bc_weight": 0.0, "baseline": 0.0, "correction": "off_policy"}),
        (lstm_ac.LSTMActorCritic, {"bc_weight": 0.0, "gamma": 0.0, "off_policy": False}),
    ],
    ids=["DQN", "REINFORCE", "LSTMActorCritic"],
)
def test_what_users_like_is_learned_in_an_environment(agent_class, options):
    """Users like the first half of the items: from a buffer of what the agent has shown, its rewards rise."""
    random = np.random.default_rng(0)
    items = np.concatenate([random.permutation(8) for _ in range(12)])
    rewards = np.where(items < 4, 1.0, -0.8)
    log = InteractionLog.from_events(np.repeat(np.arange(12), 8), items, rewards, times=np.arange(96))
    catalog = Catalog(np.eye(8), log.item_ids)
    users = ReplayUsers(log, frame_size=2)
    shown = {"action": "item", "observation": "history", "autoreset_mode": "SameStep"}
    env = RecVectorEnv(8, users=users, catalog=catalog, horizon=2, frame_size=2, **shown)
    agent = agent_class(catalog, frame_size=2, device="cpu", hidden=32, dropout=0.0, **options)
    earned = []
    report = lambda step, metrics: earned.append(metrics["reward"])  # noqa: E731
    train.fit_online(agent, env, 300, report, batch_size=64, warm_up=64)
    assert np.mean(earned[-50:]) > np.mean(earned[:50]) + 0.2


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("agent_class", [reinforce.REINFORCE, dqn.DQN], ids=lambda agent_class: agent_class.__name__)
def test_any_encoder_with_any_agent(agent_class, encoder, log, catalog):
    agent = make(agent_class, catalog, encoder=encoder, width=8, n_users=log.n_users)
    before = weights(agent)
    fit(agent, batches_of(log), 2)
    assert not torch.equal(weights(agent), before)
    history = as_history(log)
    longer = History(np.pad(history.items, ((0, 0), (9, 0)), constant_values=40), None, history.length, history.user)
    longer = longer._replace(rewards=np.pad(history.rewards, ((0, 0), (9, 0))))
    assert torch.allclose(agent.scores(history), agent.scores(longer), atol=1e-5)


def as_history(log, n=4):
    """The first n events of each user."""
    rows = log.offsets[:-1, None] + np.arange(n)
    return History(log.items[rows].astype(np.int64), log.rewards[rows], np.full(log.n_users, n), np.arange(log.n_users))


def few_items():
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(10), 6)
    return InteractionLog.from_events(users, random.permutation(60) % 4, np.ones(60), times=np.arange(60))
