"""Recurrent users: windows, what they read and what is hidden from them, patterns, and steps that cost one step."""

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log
from test_learned_fit import task_of

from recgym import embeddings, users
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users.fitted.fit_options import SequentialOptions
from recgym.users.fitted.recurrent import AnswerNet, Recurrent
from recgym.users.fitted.sequential_training import SequentialLearner, windows

ALL = slice(None)


@pytest.fixture(scope="module")
def moody():
    """Users answer 1 while the last three answers were the same, whatever the item: no factorisation can know it."""
    random = np.random.default_rng(0)
    people, items, rewards = [], [], []
    for user in range(150):
        own = [float(random.random() < 0.5) for _ in range(3)]
        for _ in range(21):
            own.append(1.0 - own[-1] if len(set(own[-2:])) == 1 else own[-1])  # two of a kind, then the other
        people += [user] * len(own)
        items += random.permutation(30)[: len(own)].tolist()
        rewards += own
    times = np.tile(np.arange(24), 150)
    return InteractionLog.from_events(people, items, rewards, times, item_ids=np.arange(30), reward_range=(0.0, 1.0))


@pytest.fixture(scope="module")
def model(moody):
    catalog = embeddings.svd(moody, dim=4)
    options = {"n_members": 2, "dim": 8, "hidden": 16, "lr": 0.02, "batch_size": 16, "max_epochs": 8}
    return users.fit(moody, catalog, "sequential", **options)


def test_a_pattern_of_the_history_is_learned(model, moody):
    """Each answer is predicted from the ones before it; the last event of everyone was held out while choosing."""
    rows = np.arange(150)
    own = moody.rewards.reshape(150, 24)
    items = moody.items.reshape(150, 24)
    past = History(items[:, :20], own[:, :20], np.full(150, 20))
    mean, spread = model.predict(rows, items[:, 20], past)
    assert ((mean > 0.5) == (own[:, 20] > 0)).mean() > 0.9
    assert (spread >= 0).all() and spread.mean() > 0
    plain = users.fit(moody, embeddings.svd(moody, dim=4), dim=4, n_members=1)
    assert abs(plain.probabilities(rows, items[:, 20])[:, 1] - 0.5).mean() < 0.2


def test_a_step_costs_one_step_and_remembers_it_all(model, moody):
    """What is remembered after steps of the environment is what reading the whole history gives."""
    rows = np.arange(20)
    random = RowRandom.from_seeds(rows.tolist())
    random.begin(ALL)
    state, opening = model.start(random, ALL, 5, rows)
    items = moody.items.reshape(150, 24)[:20]
    rewards = moody.rewards.reshape(150, 24)[:20]
    slate = np.random.default_rng(1).integers(30, size=(20, 2))
    slate[3, 1] = 30  # an empty place
    state, response = model.respond(random, ALL, state, slate)
    read = [np.hstack([items, slate]), np.hstack([rewards, response.rewards])]
    whole = model.answers.of_history(read[0], model.level_of(read[1]), np.full(20, 26))
    assert np.allclose(state.memory[:3], whole[:3], atol=1e-5)
    left = model.answers.of_history(read[0][3:4, :25], model.level_of(read[1][3:4, :25]), np.array([25]))
    assert np.allclose(state.memory[3], left[0], atol=1e-5)
    assert state.memory.shape == (20, 2 * 16) and np.array_equal(opening.items, items[:, -5:])


def test_padding_of_a_history_does_not_matter(model):
    items, levels = np.array([[5, 6, 7]]), np.array([[0, 1, 1]])
    padded = np.array([[30, 30, 5, 6, 7]]), np.array([[0, 0, 0, 1, 1]])
    one = model.answers.of_history(items, levels, np.array([3]))
    assert np.allclose(one, model.answers.of_history(*padded, np.array([3])), atol=1e-6)
    assert (model.answers.of_history(*padded, np.array([0])) == 0).all()


def test_all_items_at_once_are_the_items_one_by_one(model):
    memory, people = model.answers.opening(np.arange(6)), np.arange(6)
    every = np.tile(np.arange(30), (6, 1))
    assert np.allclose(model.answers.below_all(memory, people), model.answers.below(memory, people, every), atol=1e-5)


def test_what_is_remembered_at_the_start_is_the_logged_history(model, moody):
    items, rewards = moody.items.reshape(150, 24), moody.rewards.reshape(150, 24)
    whole = model.answers.of_history(items, model.level_of(rewards), np.full(150, 24))
    assert np.allclose(model.answers.memories, whole, atol=1e-5)


def test_behaviours_need_no_order():
    """Three kinds of answer by item, and the middle one is not between the others: each item has two of three."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(120), 20)
    items = np.concatenate([random.permutation(20) for _ in range(120)])
    pairs = np.array([[1, 3], [1, 2], [2, 3]])  # e.g. view or buy, and never a cart
    rewards = pairs[items % 3, random.integers(2, size=len(items))]
    log = InteractionLog.from_events(people, items, rewards, np.tile(np.arange(20), 120))
    options = {"n_members": 1, "dim": 4, "hidden": 4, "lr": 0.05, "max_epochs": 12, "batch_size": 16}
    made = users.fit(log, embeddings.svd(log, dim=4), "sequential", **options)
    chances = made.probabilities(np.zeros(3, dtype=int), np.arange(3))
    expected = np.array([[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert np.allclose(chances, expected, atol=0.15)


def test_windows_ask_about_every_event_once():
    random = np.random.default_rng(0)
    lengths = np.append(random.integers(0, 40, size=30), [0, 1, 8, 9, 14, 15])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    made = windows(offsets, 8)
    assert np.array_equal(np.sort(made.events[made.asked]), np.arange(offsets[-1]))
    user = np.searchsorted(offsets, made.events, side="right") - 1
    real = made.events >= 0
    assert all(len(set(row[there])) == 1 for row, there in zip(user, real, strict=True))
    assert (np.diff(made.events, axis=1)[real[:, 1:]] == 1).all()
    later = ~np.isin(made.events[:, 0], offsets[:-1])
    assert not made.asked[later, :2].any()  # a quarter of them is only read


def test_held_out_levels_are_hidden_from_what_is_read(log):
    """Planted leak: other held-out answers must change nothing that is trained, nor what others' losses see."""
    options = SequentialOptions(dim=4, hidden=4, max_length=8, n_members=1)
    task = task_of(log)
    other = task._replace(levels=np.where(task.held, (task.levels + 1) % task.n_levels, task.levels))
    made = []
    for one in (task, other):
        learner = SequentialLearner(one, options, 0, task.held, luck=False)
        learner.epoch(0)
        made.append((dict(learner.net.state_dict()), learner.validation_loss()))
    assert all(torch.equal(made[0][0][name], made[1][0][name]) for name in made[0][0])
    assert made[0][1] != made[1][1]


def test_an_event_is_not_among_what_it_is_predicted_from(log):
    """Planted leak: if the net read the event itself, its answer would move the loss of other events only."""
    task = task_of(log, held=np.zeros(log.n_events, dtype=bool))
    learner = SequentialLearner(task, SequentialOptions(dim=4, hidden=4, max_length=40), 0, task.held, luck=False)
    learner.net.eval()
    last = log.offsets[1] - 1  # user 0's last event: nothing comes after it
    before = learner._losses(np.array([0]), held=False)[0]
    learner.columns["read"][last] = (learner.columns["read"][last] + 1) % task.n_levels
    assert torch.equal(before, learner._losses(np.array([0]), held=False)[0])
    learner.columns["read"][last - 1] = (learner.columns["read"][last - 1] + 1) % task.n_levels
    after = learner._losses(np.array([0]), held=False)[0]
    assert torch.equal(before[:-1], after[:-1]) and not torch.equal(before[-1], after[-1])


def test_all_that_came_before_is_known_when_validating(log):
    """Of three held-out events in a row, the last is predicted with the levels of the two before it."""
    held = np.zeros(log.n_events, dtype=bool)
    last = log.offsets[1]
    held[last - 3 : last] = True
    task = task_of(log, held=held)
    learner = SequentialLearner(task, SequentialOptions(dim=4, hidden=4, max_length=40), 0, held, luck=False)
    learner.net.eval()
    before = {asked: learner._losses(np.array([0]), held=asked)[0] for asked in (True, False)}
    learner.columns["levels"][last - 2] = (learner.columns["levels"][last - 2] + 1) % task.n_levels
    after = {asked: learner._losses(np.array([0]), held=asked)[0] for asked in (True, False)}
    assert torch.equal(before[False], after[False])
    assert before[True][0] == after[True][0] and before[True][2] != after[True][2]


def test_batches_hold_every_window_once(log):
    learner = SequentialLearner(
        task_of(log),
        SequentialOptions(dim=4, hidden=4, max_length=8, batch_size=2),
        0,
        np.zeros(108, dtype=bool),
        False,
    )
    batches = learner._batches()
    assert sorted(np.concatenate(batches)) == list(range(len(learner.windows.events)))
    assert max(map(len, batches)) <= 3 and len({tuple(rows) for rows in batches}) == len(batches)


def test_logits_by_hand():
    torch.manual_seed(0)
    net = AnswerNet(5, 3, dim=2, hidden=4).eval()
    torch.nn.init.normal_(net.item_levels.weight)
    h = torch.randn(1, 4)
    wants = (net.wants.weight @ h[0] + net.wants.bias).view(3, 3)
    for item in range(5):
        q = net.items.weight[item]
        expected = [wants[level, :2] @ q + wants[level, 2] + net.item_levels.weight[item, level] for level in range(3)]
        assert torch.allclose(net.logits(h, torch.tensor([[item]]))[0, 0], torch.stack(expected), atol=1e-6)


def test_one_and_many_rows_draw_the_same(model):
    """Rounding differs with the batch; answers are levels, so they do not."""
    catalog = make_catalog(30)
    random = RowRandom.from_seeds(list(range(64)))
    random.begin(ALL)
    people = np.arange(64)
    state, _ = model.start(random, ALL, 5, people)
    slate = np.random.default_rng(0).integers(catalog.n_items, size=(64, 1))
    _, together = model.respond(random, ALL, state, slate)
    for row in range(64):
        alone = type(state)(*(part[row : row + 1] for part in state))
        _, one = model.respond(random, slice(row, row + 1), alone, slate[row : row + 1])
        assert one.rewards[0, 0] == together.rewards[row, 0]


@pytest.mark.gpu
def test_the_same_on_cuda():
    log = make_log()
    made = users.fit(log, make_catalog(), "sequential", dim=4, max_epochs=2, n_members=2, device="cuda")
    here = Recurrent.from_arrays(made.answers.arrays(), made.about, "cpu")
    memory, people = here.opening(np.arange(6)), np.arange(6)
    items = np.tile(np.arange(4), (6, 1))
    assert np.allclose(made.answers.below(memory, people, items), here.below(memory, people, items), atol=1e-5)
    assert users.fit(log, make_catalog(), dim=4, max_epochs=2, device="cuda").predict([0], [1])[0].shape == (1,)
