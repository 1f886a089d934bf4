"""Fitting matrix factorisations: the gradient, what is recovered, validation, resuming, and what the model saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

from recgym import datasets, embeddings, users
from recgym.errors import DataError, MissingDataError, OptionError, StoreError
from recgym.log import InteractionLog
from recgym.users.fitted import fit_options as tasks
from recgym.users.fitted import training_loop as loop
from recgym.users.fitted.factor_training import BIAS_SHARE, FactorsLearner
from recgym.users.fitted.fit_options import FactorOptions, held_out_of, levels_of, missed_of

QUICK = {"dim": 4, "max_epochs": 3, "n_members": 2}


def task_of(log, **changes):
    how = {"device": "cpu", "folder": None, "about": {}, "progress": False}
    return tasks.task_of(log, FactorOptions(), weights=None, misses=0, seed=0, **how)._replace(**changes)


def planted(n_users=200, n_items=60, n_events=30, slope=2.0, seed=0):
    """A log whose answers follow from two factors: 0 or 1."""
    random = np.random.default_rng(seed)
    p, q = random.normal(size=(n_users, 2)), random.normal(size=(n_items, 2))
    items = np.concatenate([random.permutation(n_items)[:n_events] for _ in range(n_users)])
    chance = 1 / (1 + np.exp(-slope * (p @ q.T)))
    people = np.repeat(np.arange(n_users), n_events)
    rewards = (random.random(len(people)) < chance[people, items]).astype(np.float32)
    times = np.tile(np.arange(n_events), n_users)
    log = InteractionLog.from_events(people, items, rewards, times, item_ids=np.arange(n_items))
    return log, chance


def test_the_written_gradient_is_that_of_the_stated_loss(log):
    """One update by hand: the same loss through autograd."""
    options = FactorOptions(dim=3, batch_size=10_000)
    task = task_of(log, weights=np.linspace(0.5, 1.5, log.n_events, dtype=np.float32))
    learner = FactorsLearner(task, options, np.ones(log.n_events, dtype=bool), np.array([2.0, 5.0]), members=True)
    n, own = log.n_events, {name: tensor.clone().requires_grad_() for name, tensor in learner.tensors.items()}
    people, items = torch.as_tensor(log.event_users()).long(), torch.as_tensor(log.items.copy()).long()
    p, q = own["users"].view(-1, 2, 3), own["items"].view(-1, 2, 3)
    score = own["users biases"][people] + own["items biases"][items] + (p[people] * q[items]).sum(2)
    edges = torch.cat([torch.full((1, 2), -torch.inf), own["thresholds"], torch.full((1, 2), torch.inf)])
    levels = torch.as_tensor(task.levels)
    chance = torch.sigmoid(edges[levels + 1] - score) - torch.sigmoid(edges[levels] - score)
    weights = torch.as_tensor(task.weights)[:, None] * learner.luck
    loss = (-weights * chance.log()).mean(0)
    pull = torch.tensor([2.0, 5.0]) / (2 * n)
    for name in ("users", "items"):
        off = own[f"{name} biases"] - learner.anchors[name]
        loss = loss + pull * (own[name].view(-1, 2, 3).square().sum((0, 2)) + BIAS_SHARE * off.square().sum(0))
    loss.sum().backward()
    learner._update(torch.arange(n))
    for name, tensor in learner.tensors.items():
        assert torch.allclose(tensor.grad, own[name].grad, rtol=1e-3, atol=1e-7), name


def test_planted_tastes_are_recovered_and_chances_are_calibrated():
    log, truth = planted()
    model = users.fit(log, _catalog(log), dim=2)
    everyone = np.repeat(np.arange(200), 60)
    chance = model.probabilities(everyone, np.tile(np.arange(60), 200))[:, 1].reshape(200, 60)
    unseen = np.ones((200, 60), dtype=bool)
    unseen[log.event_users(), log.items] = False
    assert np.corrcoef(chance[unseen], truth[unseen])[0, 1] > 0.75
    assert abs(chance[unseen].mean() - truth[unseen].mean()) < 0.03
    mean, spread = model.predict(everyone, np.tile(np.arange(60), 200))
    assert np.allclose(mean.reshape(200, 60), chance, atol=1e-5)  # rewards are 0 and 1
    assert (spread > 0).all()


def test_validation_chooses_pull_and_epochs():
    log, _ = planted()
    noise = replace(log, rewards=np.random.default_rng(0).permutation(log.rewards))
    told = [users.fit(one, _catalog(log), l2=(3.0, 1e4), n_members=1, patience=2).about for one in (log, noise)]
    assert [about["chosen l2"] for about in told] == [3.0, 1e4]
    assert 1 < told[0]["n_epochs"] < 30 and told[0]["validation log-loss"] < 0.6 < told[1]["validation log-loss"] < 0.7


def test_an_item_without_events_is_where_the_members_differ_most():
    log, _ = planted(n_items=60)
    log = replace(log, item_ids=np.arange(61))
    model = users.fit(log, _catalog(log), dim=2, n_members=6, max_epochs=8)
    spread = model.predict(np.arange(200), np.full(200, 60))[1].mean()
    assert spread > 1.3 * model.predict(np.repeat(np.arange(200), 60), np.tile(np.arange(60), 200))[1].mean()


def test_events_to_validate_with_are_the_last_ones_where_there_is_an_order(log):
    held = held_out_of(log, 0.1, 0)
    for user in range(log.n_users):
        own = held[log.offsets[user] : log.offsets[user + 1]]
        assert own.any() and (np.diff(own.astype(int)) >= 0).all()
    drawn = held_out_of(replace(log, times=None), 0.1, 0)
    assert drawn.sum() == 11 and not np.array_equal(drawn, held)


def test_where_the_share_rounds_to_nothing_the_last_event_of_everyone_validates():
    people = np.repeat(np.arange(30), np.r_[1, np.full(29, 4)])  # one with a single event, which stays for training
    log = InteractionLog.from_events(people, np.arange(117) % 9, np.arange(117) % 2, np.arange(117))
    held = held_out_of(log, 0.1, 0)
    assert np.flatnonzero(held).tolist() == (log.offsets[2:] - 1).tolist()
    longer = np.append(people, np.full(6, 29))  # one with ten events, for whom the share is one
    log = InteractionLog.from_events(longer, np.arange(123) % 9, np.arange(123) % 2, np.arange(123))
    assert np.flatnonzero(held_out_of(log, 0.1, 0)).tolist() == [122]  # as it always was


@pytest.mark.parametrize("model", ["mf", "sequential"])
def test_users_of_two_events_are_fitted(model):
    items, people = np.tile([0, 1, 2, 3], 20), np.repeat(np.arange(40), 2)
    log = InteractionLog.from_events(people, items, (items % 2).astype(float), np.tile([0, 1], 40))
    made = users.fit(log, embeddings.svd(log, dim=2), model, dim=2, max_epochs=1, n_members=1)
    assert np.isfinite(made.predict(people, items)[0]).all()


def test_users_of_one_event_leave_nothing_to_validate_with():
    log = InteractionLog.from_events(range(5), range(5), [0, 1, 0, 1, 0], range(5))
    with pytest.raises(DataError, match="two events or more, of which the last validates, got one at most of 5 users"):
        held_out_of(log, 0.1, 0)
    assert held_out_of(replace(log, times=None), 0.1, 0).sum() == 1  # as the message says


def test_held_out_answers_are_not_fitted_in_the_search(log):
    """Planted leak: other answers in the held-out events must not change what is trained, only the loss."""
    task = task_of(log)
    other = task._replace(levels=np.where(task.held, 0, task.levels))
    made = []
    for one in (task, other):
        learner = FactorsLearner(one, FactorOptions(dim=3), ~one.held, np.array([4.0]), members=False)
        learner.epoch(0)
        made.append((learner.arrays(), learner.validation_loss()))
    for name in ("users", "items", "thresholds"):
        assert np.array_equal(made[0][0][name], made[1][0][name])
    assert made[0][1] != made[1][1]


def test_weights_count(catalog):
    log = make_log()
    heavy = np.where(log.rewards > 0, 0.1, 1.0)  # seldom seen where liked, so that these weigh more
    seen = replace(log, propensities=heavy)
    options = {**QUICK, "n_members": 1, "max_epochs": 15}
    plain, weighed = (users.fit(seen, catalog, weights=weights, **options) for weights in (None, "propensity"))
    everyone = np.repeat(np.arange(log.n_users), log.n_items)
    pairs = everyone, np.tile(np.arange(log.n_items), log.n_users)
    assert weighed.predict(*pairs)[0].mean() > plain.predict(*pairs)[0].mean() + 0.1


def test_the_same_seed_gives_the_same_users_and_another_one_others(log, catalog):
    one, two, other = (users.fit(log, catalog, seed=seed, **QUICK).answers.arrays() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["items"], other["items"])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("model", ["mf", "sequential"])
@pytest.mark.parametrize("at", [2, 5])
def test_an_interrupted_fit_goes_on_where_it_was(log, catalog, tmp_path, monkeypatch, model, at):
    """Interrupted in the search (after 2 of 3 epochs) and among the members (after 5)."""
    options = {"model": model, **QUICK, "patience": 9} | ({"hidden": 8} if model == "sequential" else {})
    whole = users.fit(log, catalog, **options).answers.arrays()
    keep, done = loop._keep, []

    def kept(*arguments):
        keep(*arguments)
        done.append(None)
        if len(done) == at:
            raise Interrupted

    monkeypatch.setattr(loop, "_keep", kept)
    with pytest.raises(Interrupted):
        users.fit(log, catalog, folder=tmp_path, **options)
    resumed = users.fit(log, catalog, folder=tmp_path, **options).answers.arrays()
    assert len(done) < 2 * 9
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_the_state_of_another_fit_is_refused_and_a_damaged_one_set_aside(log, catalog, tmp_path, caplog):
    users.fit(log, catalog, folder=tmp_path, **QUICK)
    with pytest.raises(StoreError, match=r"must hold the state of this fit, got one that differs in seed; give it the"):
        users.fit(log, catalog, folder=tmp_path, seed=1, **QUICK)
    state = tmp_path / "validation" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    users.fit(log, catalog, folder=tmp_path, **QUICK)
    assert "must have the recorded SHA-256" in caplog.text and (tmp_path / "validation.damaged").exists()


def test_a_leak_shows(log, catalog):
    """A model fitted on everyone has seen the test users, one fitted on the training users has not."""
    train, test = log.split_users(0.3)
    honest, leaky = users.fit(train, catalog, **QUICK), users.fit(log, catalog, **QUICK)
    assert honest.saw(test) == (0.0, 0.0, False) and honest.saw(train) == (1.0, 1.0, True)
    assert leaky.saw(test).users == leaky.saw(test).events == 1.0
    before, after = log.split_ratio(0.2)
    model = users.fit(before, catalog, **QUICK)
    assert model.saw(after).users == 1.0 and model.saw(after).events < 0.05
    partly = log.select_events(np.arange(log.n_events) % 4 > 0)
    assert 0.5 < users.fit(partly, catalog, **QUICK).saw(log).events < 0.9


@pytest.mark.parametrize("model", ["mf", "sequential"])
def test_what_was_taken_only(model):
    """A log of what was liked: missed items are drawn, and some shown items are not answered."""
    log, truth = planted()
    log = log.select_events(log.rewards > 0)
    options = {"max_epochs": 8, "n_members": 1} | ({"lr": 0.02} if model == "sequential" else {})
    made = users.fit(log, _catalog(log), model, misses=3, **options)
    assert made.levels.tolist() == [0.0, 1.0] and made.misses
    of_all = made.means_of_all(np.arange(log.n_users))[:, :, 0]
    unseen = np.ones(of_all.shape, dtype=bool)
    unseen[log.event_users(), log.items] = False
    assert np.corrcoef(of_all[unseen], truth[log.user_ids][unseen])[0, 1] > 0.3
    missed = missed_of(log, 3, 0)
    assert not any(set(missed[event]) & set(log.user(user).items) for event, user in enumerate(log.event_users()))
    assert (missed >= 0).mean() > 0.2


def test_many_different_rewards_become_groups():
    random = np.random.default_rng(0)
    log = InteractionLog.from_events(np.repeat(range(20), 30), np.tile(range(30), 20), random.normal(size=600))
    levels = levels_of(log)
    assert len(levels) == 16 and (np.diff(levels) > 0).all() and abs(levels.mean() - log.rewards.mean()) < 0.02


def _catalog(log):
    return embeddings.svd(log, dim=4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "als"}, DataError, r"model must be one of \('mf', 'sequential'\), got 'als'"),
        ({"weights": "ips"}, DataError, r"weights must be one of \(None, 'propensity'\), got 'ips'"),
        ({"weights": "propensity"}, DataError, "needs a log with propensities, got one without; pass weights=None"),
        ({"device": "tpu"}, DataError, "device must be one of"),
        (
            {"hidden": 3},
            OptionError,
            r"options of model 'mf' must be among n_members, .*, got hidden; drop those \(unexp",
        ),
        ({"dim": 0}, DataError, "dim must be an integer of at least 1, got 0"),
        ({"held_out": 1.0}, DataError, "held_out must lie between 0 and 1, got 1.0; give the share"),
        ({"held_out": "x"}, DataError, "held_out must lie between 0 and 1, got 'x'"),
        ({"lr": 0}, DataError, r"lr must be a number above 0, got 0; give e\.g\. 0\.02"),
        ({"lr": "fast"}, DataError, "lr must be a number above 0, got 'fast'"),
        ({"l2": "x"}, DataError, "l2 must be one or more numbers above 0, got 'x'"),
        ({"l2": [1.0], "model": "sequential"}, DataError, r"l2 must be a number of at least 0, got \[1\.0\]; give one"),
        (
            {"weight_decay": -1.0, "model": "sequential"},
            DataError,
            "weight_decay must be a number of at least 0, got -1",
        ),
        (
            {"dropout": 1.0, "model": "sequential"},
            DataError,
            "dropout must be at least 0 and below 1, got 1.0; give the",
        ),
        (
            {"seed": -1},
            DataError,
            r"seed must be a whole number of at least 0 and below 2\*\*62, got -1; give e\.g\. 0",
        ),
        ({"seed": 2**62, "model": "sequential"}, DataError, "seed must be a whole number of at least 0 and below"),
        ({"gap_seconds": "1h", "sessions": "never"}, DataError, "gap_seconds must be at least 0, got '1h'; give the"),
        ({"l2": (0.0, 1.0)}, DataError, "l2 must be one or more numbers above 0, got"),
        ({"l2": ()}, DataError, "l2 must be one or more numbers above 0, got"),
        ({"misses": -1}, DataError, "misses must be a whole number of at least 0, got -1"),
        ({"misses": 1}, DataError, "with misses every reward must be above 0, .* got -0.8"),
        ({"sessions": "gap"}, DataError, r"sessions must be one of \('one', 'interval', 'never', 'auto'\), got 'gap'"),
        ({"gap_seconds": 10**9, "sessions": "interval"}, DataError, "some session must be known to be over, got none"),
    ],
)
def test_bad_options(log, catalog, options, error, message):
    with pytest.raises(error, match=message):
        users.fit(log, catalog, **options)


def test_a_device_that_is_not_there(log, catalog, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DataError, match="device 'cuda' needs a GPU that torch can use, got none; pass device='auto'"):
        users.fit(log, catalog, device="cuda")
    assert users.fit(log, catalog, device="auto", **QUICK).about["model"] == "mf"


def test_bad_logs(log, catalog):
    same = replace(log, rewards=np.ones_like(log.rewards))
    with pytest.raises(
        DataError, match=r"at least two different rewards to learn answers from, got \[1.0\] in all of 108"
    ):
        users.fit(same, catalog)
    with pytest.raises(DataError, match="users and catalog must have the same items"):
        users.fit(log, make_catalog(39))


def test_coat_from_chosen_ratings_to_random_ones():
    """The floor that the project promises; nothing was chosen on these ratings."""
    try:
        log, random = (datasets.load("coat", part=part, reward="binary:3") for part in ("self-selected", "random"))
    except MissingDataError:
        pytest.skip("the data of coat is not on this machine")
    model = users.fit(log, _catalog(log))
    mean, _ = model.predict(random.event_users(), random.items)
    assert area(mean, random.rewards > 0) > 0.775


def area(scores, positive):
    """Returns the area under the ROC curve, all pairs counted, ties by half."""
    above = scores[positive][:, None] - scores[~positive]
    return ((above > 0) + 0.5 * (above == 0)).mean()
