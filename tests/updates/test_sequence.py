"""Sequence models: the loss worked out by hand, what a batch asks, and that nothing of the answer leaks in."""

import numpy as np
import pytest
import torch
from hand_made import Fixed
from torch.nn import functional

from agents.networks.softmax_loss import softmax_loss
from agents.sequence import Config, Networks, Optimizers, Questions, SequenceModel, sequence_update
from recgym.batches.sequence_batches import SequenceBatch
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import Batch, History

CORES = ("transformer", "gated", "gru", "lstm", "convolution")
PLAIN = Config(max_norm=None, dropout=0.0)


def model(n_items=6, **config):
    config = {"width": 16, "max_length": 8, "dropout": 0.0, "lr": 1e-2, "n_layers": 1} | config
    return SequenceModel(Catalog(np.eye(n_items), np.arange(n_items)), device="cpu", **config)


def sequences(items, length=None, n_items=6):
    """Sequences (B, L+1) as a batch of L steps, padded on the left where `length` (in steps) says so."""
    items = np.asarray(items)
    length = np.full(len(items), items.shape[1] - 1) if length is None else np.asarray(length)
    mask = np.arange(items.shape[1] - 1) >= items.shape[1] - 1 - length[:, None]
    rewards = np.zeros(mask.shape, dtype=np.float32)
    ins, targets = np.where(mask, items[:, :-1], n_items), np.where(mask, items[:, 1:], n_items)
    return SequenceBatch(np.arange(len(items)), ins, rewards, targets, rewards, mask, length)


# -- the softmax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_items"), [(5, 7), (1, 1), (3, 400_000)])  # one chunk; one row; a row at a time
def test_the_loss_in_parts_is_cross_entropy(n, n_items):
    torch.manual_seed(0)
    hidden, items = (torch.randn(rows, 4, dtype=torch.float64, requires_grad=True) for rows in (n, n_items))
    targets, weights = torch.randint(n_items, (n,)), torch.rand(n, dtype=torch.float64)
    loss = softmax_loss(hidden, items, targets, weights)
    (3.0 * loss).backward()
    found = hidden.grad.clone(), items.grad.clone()
    hidden.grad = items.grad = None
    expected = (weights * functional.cross_entropy(hidden @ items.T, targets, reduction="none")).sum()
    (3.0 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert torch.allclose(found[0], hidden.grad, atol=1e-5)
    assert torch.allclose(found[1], items.grad, atol=1e-5)


def test_the_gradient_of_the_loss_is_numeric():
    torch.manual_seed(0)
    hidden, items = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    targets, weights = torch.randint(5, (4,)), torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *given: softmax_loss(*given, targets, weights), (hidden, items))


def test_the_loss_bears_large_scores():
    loss = softmax_loss(torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([1]), torch.ones(1))
    assert loss.item() == pytest.approx(2e4)


# -- what a batch asks -------------------------------------------------------------------------------------------------


def test_sequences_ask_for_what_came_next_at_each_step():
    asked = model().ask(sequences([[6, 6, 1, 2, 3], [0, 1, 2, 3, 4], [6, 6, 6, 6, 5]], [2, 4, 0]))
    assert asked.items.tolist() == [[1, 2, 6, 6], [0, 1, 2, 3], [6, 6, 6, 6]]
    assert asked.targets.tolist() == [[2, 3, 6, 6], [1, 2, 3, 4], [6, 6, 6, 6]]


def test_what_a_log_asks_is_every_event_with_one_before_it(log, catalog):
    agent = SequenceModel(catalog, device="cpu", width=8, max_length=9)
    for batch in agent.batches(log, 4):
        asked = agent.ask(batch)
        for row, user in enumerate(batch.user.tolist()):
            items, rewards = log.user(user).items[-10:], log.user(user).rewards[-10:]
            n = len(items) - 1
            assert asked.items[row].tolist() == [*items[:-1], *[40] * (asked.items.shape[1] - n)]
            assert asked.targets[row].tolist() == [*items[1:], *[40] * (asked.items.shape[1] - n)]
            assert asked.rewards[row, :n].tolist() == rewards[1:].tolist()


def test_frames_ask_for_their_action():
    frame = np.array([[6, 1, 2], [0, 1, 2], [6, 6, 6]]), np.zeros((3, 3), dtype=np.float32)
    never, reward = np.zeros(3, dtype=bool), np.array([0.5, 1.0, 1.0], dtype=np.float32)
    action, length = np.array([3, 4, 5]), np.array([2, 3, 0])
    asked = model().ask(Batch(action, *frame, action, reward, *frame, never, never, length))
    assert asked.items.tolist() == [[1, 2, 6], [0, 1, 2], [6, 6, 6]]
    assert asked.targets.tolist() == [[6, 3, 6], [6, 6, 4], [6, 6, 6]]  # nothing is asked of an empty frame
    assert asked.rewards[asked.targets < 6].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("core", CORES)
def test_training_and_recommending_see_the_same(core):
    """The loss of a sequence's last event is what the scores of the history before it say of that event."""
    agent = model(core=core)
    items = np.array([[6, 6, 0, 3, 1], [2, 4, 0, 5, 3]])
    before = History(items[:, :-1], np.zeros((2, 4)), np.array([2, 4]))
    log_probs = agent.scores(before).log_softmax(dim=1)[[0, 1], [1, 3]]
    frame = items[:, :-1], np.zeros((2, 4), dtype=np.float32)
    never, reward = np.zeros(2, dtype=bool), np.zeros(2, dtype=np.float32)
    batch = Batch(items[:, -1], *frame, items[:, -1], reward, *frame, never, never, np.array([2, 4]))
    assert agent.losses(batch)["loss"].item() == pytest.approx(-log_probs.mean().item(), rel=1e-5)


def test_cosine_scores_know_no_lengths():
    agent = model(cosine=20.0)
    history = History(np.array([[6, 0, 3, 1]]), np.zeros((1, 4)), np.array([3]))
    scores = agent.scores(history)
    assert scores.abs().max() <= 20.0 + 1e-4
    with torch.no_grad():
        agent.nets.network.weight[4] *= 7.0  # an item that is in no history
    assert torch.allclose(agent.scores(history), scores, atol=1e-5)
    batch = sequences([[0, 1, 2, 3, 4], [2, 3, 4, 5, 0]])
    losses = [agent.update(batch)["loss"].item() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    with pytest.raises(DataError, match="cosine must be above 0, got 0"):
        model(cosine=0.0)


# -- the step ----------------------------------------------------------------------------------------------------------


def asked_by_hand():
    targets = torch.tensor([[2, 0], [1, 3]])  # 3 is padding: three questions
    rewards = torch.tensor([[1.0, 0.0], [-1.0, 9.0]])
    return Questions(torch.tensor([[0, 2], [1, 3]]), targets, rewards)


def test_one_step_worked_out_by_hand():
    """Scores are 0, h, 2h with h = 1. The gradient in h is the mean item number under softmax less the target."""
    nets = Networks(Fixed())
    optimizers = Optimizers(torch.optim.SGD(nets.network.parameters(), 0.1))
    losses = sequence_update(asked_by_hand(), nets, optimizers, PLAIN)
    shares = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert losses["loss"].item() == pytest.approx(-np.log(shares[[2, 0, 1]]).mean(), rel=1e-6)
    gradient = shares @ [0, 1, 2] - np.mean([2, 0, 1])
    assert nets.network.hidden.item() == pytest.approx(1.0 - 0.1 * gradient, rel=1e-6)


def test_good_next_items_count_more_where_asked():
    nets = Networks(Fixed())
    optimizers = Optimizers(torch.optim.SGD(nets.network.parameters(), 0.0))
    config = Config(bc_reward=2.0, dropout=0.0)
    loss = sequence_update(asked_by_hand(), nets, optimizers, config, learn=False)["loss"].item()
    shares = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    weights = np.exp([2.0, 0.0, -2.0])
    assert loss == pytest.approx(-np.dot(weights / weights.sum(), np.log(shares[[2, 0, 1]])), rel=1e-6)


def test_drawn_items_leave_the_next_item_out_of_them():
    nets, config = Networks(Fixed()), Config(n_negatives=50, dropout=0.0)
    optimizers = Optimizers(torch.optim.SGD(nets.network.parameters(), 0.0))
    generator = torch.Generator().manual_seed(3)
    loss = sequence_update(asked_by_hand(), nets, optimizers, config, generator=generator)["loss"].item()
    drawn = torch.randint(3, (50,), generator=torch.Generator().manual_seed(3)).numpy()
    others = {target: np.exp(drawn[drawn != target]).mean() for target in (2, 0, 1)}  # of two items, by their draws
    own = [np.exp(target) / (np.exp(target) + 2 * others[target]) for target in (2, 0, 1)]
    assert loss == pytest.approx(-np.log(own).mean(), rel=1e-5)


# -- what is learned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", CORES)
def test_a_rule_that_looks_back_is_learned(core):
    """The next item is the one before the newest: the newest itself tells nothing."""
    random, agent = np.random.default_rng(0), model(core=core, width=32)
    for _ in range(80):
        items = np.tile(random.integers(6, size=(32, 2)), 4)
        agent.update(sequences(items))
    right = agent.scores(History(items[:, :-1], None, np.full(32, 7))).argmax(dim=1).numpy() == items[:, -1]
    assert right.mean() > 0.9


@pytest.mark.parametrize("core", CORES)
def test_nothing_can_be_learned_of_events_drawn_at_random(core):
    """A loss below log 6 would mean that answers leak into the input."""
    random, agent = np.random.default_rng(0), model(core=core)
    losses = [agent.update(sequences(random.integers(6, size=(64, 9))))["loss"].item() for _ in range(60)]
    assert np.mean(losses[-20:]) > np.log(6) - 0.005


def test_item_vectors_of_the_catalog_are_learned_through_a_map():
    agent = model(item_vectors="catalog")
    assert agent.nets.network.weight.shape == (6, 16)
    before = agent.nets.network.table().detach().clone()
    for _ in range(100):
        agent.update(sequences(np.arange(9)[None] % 6 + np.zeros((8, 1), dtype=int)))
    assert not torch.equal(agent.nets.network.table(), before)
    assert agent.scores(History(np.array([[3, 4]]), None, np.array([2]))).argmax().item() == 5


# -- histories ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", CORES)
def test_padding_never_counts_and_only_the_newest_events_do(core):
    agent = model(core=core, max_length=4)
    short = agent.scores(History(np.array([[1, 2]]), None, np.array([2])))
    padded = agent.scores(History(np.array([[6, 6, 6, 6, 6, 1, 2]]), None, np.array([2])))
    assert torch.allclose(short, padded, atol=1e-6)
    long = agent.scores(History(np.array([[5, 0, 1, 2, 3, 4]]), None, np.array([6])))
    assert torch.allclose(long, agent.scores(History(np.array([[1, 2, 3, 4]]), None, np.array([4]))), atol=1e-6)
    assert not torch.allclose(long, agent.scores(History(np.array([[2, 3, 4]]), None, np.array([3]))), atol=1e-6)


def test_an_empty_history_scores_all_items_alike():
    assert not model().scores(History(np.full((1, 2), 6), None, np.array([0]))).any()


def test_wrong_options_are_refused():
    with pytest.raises(
        ValueError, match=r"max_length must be a whole number of at least 1, got 0; leave it out for 200"
    ):
        model(max_length=0)
    with pytest.raises(ValueError, match=r"core must be one of transformer, gated, gru, lstm, convolution, got 'mlp'"):
        model(core="mlp")
