"""Trainings that know how long to go on: by the size of the log, until held-out users are ranked no better."""

import warnings

import numpy as np
import pytest
from conftest import make_catalog, make_log

import agents
from agents.training.auto import Watch
from recgym.batches import FrameBatches, SequenceBatches
from recgym.errors import DataError
from recgym.log import InteractionLog


def cycle(n_users, seed):
    """Everybody goes round the items in order, each from another place: the next item is known, popularity is not."""
    starts = np.random.default_rng(seed).integers(12, size=n_users)
    items = (starts[:, None] + np.arange(8)) % 12
    users = np.repeat(np.arange(n_users), 8)
    return InteractionLog.from_events(users, items.ravel(), np.ones(8 * n_users), item_ids=np.arange(12))


def test_auto_ends_by_itself_at_the_best_it_was():
    train, validation = cycle(64, 0), cycle(16, 1)
    catalog = make_catalog(12)
    catalog = type(catalog)(catalog.embeddings, train.item_ids)
    agent, steps = agents.SequenceModel(catalog, core="gru", n_layers=1, width=16, device="cpu", lr=0.01), []
    made = SequenceBatches(train, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it ends above popularity
        best = agents.fit(agent, made, "auto", lambda step, losses: steps.append(step), validation=validation)
    assert 0 < best == agent.updates <= steps[-1] < 500  # 100 epochs of 4 are fewer than the 500 that are the least
    watch = Watch(agent, made, validation)
    assert watch.most == 500 and watch.every == 50
    watch(50, {})
    assert watch.history[0][1] > 0.9 > watch.floor


def test_a_training_below_popularity_says_so():
    log = make_log((20,) * 12)
    train, validation = log.select_users(np.arange(8)), log.select_users(np.arange(8, 12))
    agent = agents.DDPG(make_catalog(), frame_size=5, device="cpu", hidden=8, actor_lr=0.0, critic_lr=0.0)
    watch = Watch(agent, FrameBatches(train, 5, 8), validation)
    watch.floor = 2.0  # no ranking is as good
    watch(watch.every, {})
    with pytest.warns(
        UserWarning, match=r"should rank better than popularity, got ndcg@10 0\.\d+ against 2\.0+ on 4 h"
    ):
        assert watch.settle(99) == watch.every
    assert agent.updates == 0


def test_auto_needs_users_it_does_not_learn_from():
    log, agent = make_log(), agents.DDPG(make_catalog(), frame_size=5, device="cpu", hidden=8)
    with pytest.raises(DataError, match=r"n_steps='auto' needs batches of a log and held-out users, got valid"):
        agents.fit(agent, FrameBatches(log, 5, 8), "auto")
    with pytest.raises(DataError, match="got list without log and length; split first"):
        agents.fit(agent, list(FrameBatches(log, 5, 8)), "auto", validation=log)
    with pytest.raises(DataError, match="validation must have the agent's items, got 12 items that differ from its 40"):
        agents.fit(agent, FrameBatches(log, 5, 8), "auto", validation=cycle(4, 0))
