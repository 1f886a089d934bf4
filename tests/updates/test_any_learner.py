"""What must hold for every learner: any networks, any type of reward, sequences of any length, the end of a story."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log
from hand_made import CATALOG
from torch import nn

import agents
from agents.base import to_tensor
from agents.networks.encoded import in_events
from agents.networks.layers import follow
from recgym.batches import FrameBatches, SequenceBatches
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog

VECTORS = ["BCQ", "DDPG", "DRR", "SAC", "TD3", "TD3BC"]
SEQUENCES = ["SQN", "SequenceModel", "SequenceREINFORCE", "SequenceTD3BC"]
EVERY = [*VECTORS, "DQN", "LSTMActorCritic", "REINFORCE", *SEQUENCES]
every_learner = pytest.mark.parametrize("name", EVERY)


def make(name, catalog=None, **options):
    small = {"width": 8} if name in SEQUENCES else {"hidden": 16}
    small |= {"generator_hidden": 16, "n_samples": 3} if name == "BCQ" else {}
    catalog = make_catalog() if catalog is None else catalog
    return getattr(agents, name)(catalog, frame_size=5, device="cpu", **small | options)


def batches(seed=0, **options):
    return FrameBatches(make_log(), frame_size=5, batch_size=8, seed=seed, **options)


@every_learner
def test_frozen_layers_stay_and_the_others_learn(name):
    agent, batch = make(name), next(iter(batches()))
    layer = next(net for net in agent.nets if len(list(net.parameters())) > 1 or net is agent.nets[-1])
    kept = next(iter(layer.parameters()))
    kept.requires_grad_(False)
    before, others = kept.clone(), copy.deepcopy(agent.nets)
    for _ in range(2):
        agent.update(batch)
    assert torch.equal(kept, before)
    assert any(
        not torch.equal(a, b)
        for old, new in zip(others, agent.nets, strict=True)
        for a, b in zip(old.parameters(), new.parameters(), strict=True)
    )


def test_targets_have_the_running_means_of_their_networks():
    """Actor and critic normalise over the batch, as those of the DDPG paper do."""

    class Normalised(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.norm, self.network = nn.BatchNorm1d(5), network

        def forward(self, vectors, rewards, *rest):
            return self.network(vectors, self.norm(rewards), *rest)

    agent = make("DDPG")
    actor, critic = Normalised(agent.nets.actor), Normalised(agent.nets.critic)
    nets = type(agent.nets)(actor, critic, copy.deepcopy(actor), copy.deepcopy(critic))
    agent = make("DDPG", nets=nets)
    agent.update(next(iter(batches())))
    for net, target in ((nets.actor, nets.actor_target), (nets.critic, nets.critic_target)):
        assert net.norm.running_mean.abs().sum() > 0 and not net.training
        assert torch.equal(net.norm.running_mean, target.norm.running_mean)
    plain, slow = nn.BatchNorm1d(1), nn.BatchNorm1d(1)  # a share of the way for what is learned, all of it for counts
    plain.weight.data.fill_(3.0)
    plain.running_mean.fill_(4.0)
    follow([plain], [slow], tau=0.25)
    assert slow.weight.item() == 1.5 and slow.running_mean.item() == 4.0


@every_learner
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_rewards_may_be_of_any_numeric_type(name, kind):
    agent, batch = make(name), next(iter(batches(gamma=0.5)))
    whole = {field: np.rint(getattr(batch, field)).astype(kind) for field in ("rewards", "reward", "next_rewards")}
    given = batch._replace(**whole, returns=batch.returns.astype(np.float64), terminated=batch.terminated.astype(kind))
    same = make(name)
    single = {field: column.astype(np.float32) for field, column in whole.items()}
    assert agent.update(given) == same.update(batch._replace(**single))
    history = History(batch.items, whole["rewards"], np.full(8, 5))
    assert torch.equal(agent.scores(history), same.scores(history._replace(rewards=single["rewards"])))


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("core", ["transformer", "gru"])
def test_sequences_longer_than_a_core_takes_are_cut_to_their_newest_events(name, core):
    log, options = make_log(), {"core": core, "max_length": 8, "dropout": 0.0}
    agent, other = make(name, **options), make(name, **options)
    whole, cut = (next(iter(SequenceBatches(log, 4, length, gamma=0.5, shuffle=False))) for length in (None, 8))
    assert whole.items.shape[1] > 8
    assert agent.update(whole) == other.update(cut)
    frames = next(iter(FrameBatches(log, frame_size=12, batch_size=4, min_history=2)))
    assert all(loss.isfinite() for loss in agent.update(frames).values())


@pytest.mark.parametrize(
    ("name", "options"),
    [("SQN", {"n_negatives": 0, "advantage_weight": 0.0}), ("SequenceTD3BC", {"policy_delay": 1, "value_after": 0})],
)
def test_critics_learn_from_the_last_event_of_a_session_that_is_over(name, options):
    """Items 0, 1, 2; only the last earns 1, so Q([0, 1], 2) is 1, and nothing is known where only the log ended."""
    log = InteractionLog.from_events(
        np.repeat(np.arange(8), 3), np.tile([0, 1, 2], 8), np.tile([0.0, 0.0, 1.0], 8), np.arange(24)
    )
    ended = InteractionLog(**{**vars(log), "users": {"over": np.ones(8, dtype=bool)}})
    question = next(iter(FrameBatches(log, frame_size=2, batch_size=1)))._replace(action=np.array([2]))
    found = []
    for given in (ended, log):
        catalog = Catalog(np.eye(3), log.item_ids)
        agent = make(name, catalog, width=16, dropout=0.0, gamma=0.5, max_norm=None, **options)
        given_batches = agent.batches(given, 8)
        for _ in range(250):
            agent.update(next(iter(given_batches)))
        found.append(agent.values_of(question).item())
    assert found[0] == pytest.approx(1.0, abs=0.15) and abs(found[1]) < 0.5


def test_batches_know_whose_story_is_over(log):
    over = np.arange(log.n_users) % 2 == 0
    for column in ("over", "terminated"):
        known = InteractionLog(**{**vars(log), "users": {column: over}})
        for batch in FrameBatches(known, 5, 8, drop_last=False):
            last = batch.terminated | batch.truncated
            assert (batch.terminated == (last & over[batch.user])).all()
        ends = np.concatenate([batch.terminated for batch in SequenceBatches(known, 4, shuffle=False)])
        assert ends.tolist() == over.tolist()
        assert not any(batch.terminated.any() for batch in FrameBatches(known, 5, 8, end_of_log="truncate"))
    with pytest.raises(DataError, match=r"end_of_log='known' needs a bool column users\['over'\].*got \[\]; split"):
        FrameBatches(log, 5, 8, end_of_log="known")


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_batch_with_nothing_to_learn_has_finite_losses(name):
    agent = make(name)
    batch = next(iter(batches()))
    n_items = agent.catalog.n_items
    nothing = batch._replace(items=np.full_like(batch.items, n_items), rewards=np.zeros_like(batch.rewards))
    assert all(loss.isfinite() for loss in agent.update(nothing).values())
    assert all(p.isfinite().all() for net in agent.nets for p in net.parameters())


def test_what_comes_to_a_processor_is_waited_for(monkeypatch):
    """A copy from CUDA that does not block returns memory which is filled later."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: asked.append(non_blocking) or self)
    for device in ("cpu", "cuda"):
        to_tensor(torch.zeros(1), torch.device(device))
        to_tensor(np.zeros(1), torch.device(device))
    assert asked == [False, False, True, True]


def test_an_item_with_a_zero_vector_is_no_padding():
    catalog = Catalog(np.vstack([np.zeros(2), np.eye(2)]), np.arange(3))
    agent = agents.DDPG(catalog, frame_size=2, device="cpu", encoder="gru", width=4, hidden=4, actor_init=None)
    frames = History(np.array([[0, 1], [3, 1]]), np.zeros((2, 2)), np.array([2, 1]))
    vectors, rewards = agent.state_of(frames)
    assert in_events(vectors, rewards)[2].tolist() == [2, 1]
    first, second = agent.scores(frames)
    assert not torch.equal(first, second)


def test_reinforce_over_sequences_learns_online_with_returns():
    buffer = make("SequenceREINFORCE", gamma=0.9).make_buffer(10, 5)
    assert buffer.gamma == 0.9 and buffer.columns.returns is not None
    assert make("SequenceREINFORCE").make_buffer(10, 5).columns.returns is None


def test_a_baseline_is_below_all_returns():
    from agents.training.off_policy import baseline_of

    assert baseline_of(torch.tensor([0.5, 1.0]), "lowest").item() == -1.0
    assert baseline_of(torch.tensor([0.5, -4.0]), "lowest").item() == -4.0
    assert baseline_of(torch.tensor([1.0, 3.0]), None).item() == 2.0 and baseline_of(torch.ones(1), 0.5) == 0.5
    with pytest.raises(DataError, match="baseline must be a number, 'lowest' or None, got 'highest'; leave it out"):
        agents.REINFORCE(CATALOG, baseline="highest")


@pytest.mark.parametrize("name", ["REINFORCE", "SequenceREINFORCE"])
def test_what_a_decision_counts_does_not_depend_on_which_units_drop_out(name):
    weights = []
    for seed in (0, 1):
        agent = make(name, dropout=0.5)
        agent.generator.manual_seed(seed)
        batch = next(iter(batches()))
        weights.append(agent.update(batch)["weight"])
    assert weights[0] == weights[1]
