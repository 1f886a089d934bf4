"""What a user model is asked about held-out events, and the sequences it makes."""

from dataclasses import replace

import numpy as np
import pytest

from recgym import DataError, InteractionLog, datasets, embeddings, users
from recgym.fidelity.held_out import questions
from recgym.fidelity.replayed import replay, session_lengths

SMALL = {"dim": 4, "max_epochs": 3, "n_members": 3}


@pytest.fixture(scope="module")
def parts():
    return datasets.load("synthetic", n_users=150, n_items=40).split_ratio(0.3)


@pytest.fixture(scope="module")
def model(parts):
    return users.fit(parts[0], embeddings.svd(parts[0], dim=8), **SMALL)


# -- questions ---------------------------------------------------------------------------------------------------------


def test_questions_come_with_what_was_before_and_nothing_after():
    log = InteractionLog.from_events(
        ["a", "a", "a", "a", "b", "b", "c", "c", "c"], [0, 1, 2, 3, 3, 2, 1, 0, 2], [1.0, 2, 3, 4, 5, 6, 7, 8, 9]
    )
    train = log.select_events(np.array([True, True, False, False, True, True, True, True, False]))
    held_out = log.select_events(np.array([False, False, True, True, False, False, False, False, True]))
    asked = questions(train, held_out)
    assert asked.users.tolist() == [0, 0, 2]
    assert asked.items.tolist() == [2, 3, 2]
    assert asked.outcome.tolist() == [3.0, 4.0, 9.0]
    history = asked.history(np.arange(3), 3)
    assert history.items.tolist() == [[4, 0, 1], [0, 1, 2], [4, 1, 0]]
    assert history.rewards.tolist() == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [0.0, 7.0, 8.0]]
    assert history.length.tolist() == [2, 3, 2]
    assert history.user.tolist() == [0, 0, 2]


def test_users_without_training_events_are_asked_about_with_what_they_did_since():
    log = InteractionLog.from_events(["a", "b", "b"], [0, 1, 0], [1.0, 2.0, 3.0])
    asked = questions(log.select_users(np.array([0])), log.select_users(np.array([1])))
    assert asked.users.tolist() == [-1, -1]
    assert asked.history(np.arange(2), 2).items.tolist() == [[2, 2], [2, 1]]


def test_questions_need_one_catalog(parts):
    with pytest.raises(DataError, match=r"share items and rewards, got 40 and 40 items, rewards 'scaled' and 'raw'"):
        questions(parts[0], replace(parts[1], reward="raw"))


# -- simulated sequences -----------------------------------------------------------------------------------------------


def test_twins_are_shown_the_same_items(parts, model):
    asked = questions(*parts)
    twins = replay(model, asked, n_users=1000, longest=3)
    assert (twins.lengths == np.minimum(parts[1].lengths, 3)).all()
    first = np.cumsum(twins.lengths) - twins.lengths
    assert (twins.real[first] == parts[1].rewards[parts[1].offsets[:-1]]).all()
    assert set(twins.simulated) <= set(model.levels.astype(float))
    some = replay(model, asked, n_users=20, longest=3)
    assert len(some.lengths) == 20
    assert set(some.users) <= set(asked.users)


def test_twins_answer_with_the_probabilities_of_the_model(parts, model):
    asked = questions(*parts)
    drawn = np.mean([replay(model, asked, n_users=1000, longest=99, seed=seed).simulated for seed in range(40)], axis=0)
    expected = model.predict(asked.users, asked.items)[0]
    assert drawn.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert np.corrcoef(drawn, expected)[0, 1] > 0.7


def test_sessions_last_as_long_as_training_sessions(parts, model):
    lasted = session_lengths(model, parts[0], n_users=150, longest=200)
    assert len(lasted) == 150
    assert lasted.min() >= 1
    assert lasted.mean() == pytest.approx(parts[0].lengths.mean(), rel=0.25)
    assert (session_lengths(model, parts[0], n_users=150, longest=2) <= 2).all()
