import doctest
import hashlib
import sys

import numpy as np
import pytest

from recgym.datasets.synthetic import FIRST_ITEM_ID, FIRST_USER_ID, GENRES, synthetic, synthetic_truth
from recgym.embeddings.matrix import interactions
from recgym.errors import DataError
from recgym.rewards import transform_rewards

SIZE = {"n_users": 600, "n_items": 300}


@pytest.fixture(scope="module")
def log():
    return synthetic(**SIZE)


@pytest.fixture(scope="module")
def truth():
    return synthetic_truth(**SIZE)


def stars_of(log):
    return np.rint(log.rewards * 2.5 + 2.5).astype(int)


def test_doctests():
    assert doctest.testmod(sys.modules["recgym.datasets.synthetic"]).failed == 0


def test_same_seed_same_log_for_ever(log):
    again, other = synthetic(**SIZE), synthetic(**SIZE, seed=1)
    assert (
        (again.items == log.items).all() and (again.rewards == log.rewards).all() and (again.times == log.times).all()
    )
    assert not np.array_equal(other.items, log.items)
    small = synthetic(n_users=50, n_items=60, seed=3, reward="raw")
    content = b"".join(column.tobytes() for column in (small.offsets, small.items, small.rewards, small.times))
    assert hashlib.sha256(content).hexdigest()[:16] == "08f6d1c871602fdb"


def test_rewards_are_transformed_stars(log):
    raw = synthetic(**SIZE, reward="raw")
    assert set(np.unique(raw.rewards).tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert (transform_rewards(raw.rewards, "scaled") == log.rewards).all()
    assert raw.reward_range == (1.0, 5.0) and np.allclose(log.reward_range, (-0.6, 1.0)) and log.reward == "scaled"


def test_everyone_has_events_for_a_frame_and_answers(log):
    assert log.n_users == 600 and log.n_items == 300 and log.lengths.min() >= 20
    assert 40 < log.lengths.mean() < 80
    for user in range(0, 600, 50):
        items, _, times = log.user(user)
        assert len(set(items.tolist())) == len(items) and (np.diff(times) > 0).all()
    assert synthetic(n_users=60, n_items=40).lengths.min() > 10


def test_ids_are_not_indices(log):
    assert log.item_ids[0] == FIRST_ITEM_ID and log.user_ids[0] == FIRST_USER_ID
    assert log.titles[5] == f"{log.item_features['genre'][5]} {log.item_ids[5]}"
    genres = log.item_features["genres"]
    assert genres.shape == (300, len(GENRES)) and set(genres.sum(axis=1).tolist()) == {1, 2}


def test_long_tails():
    log = synthetic(n_users=600)
    counts = np.sort(np.bincount(log.items, minlength=log.n_items))[::-1]
    assert counts[:400].sum() > 0.5 * log.n_events  # a fifth of the items
    assert np.median(log.lengths) < 0.85 * log.lengths.mean()


def test_ratings_follow_the_truth(log, truth):
    """The mean of what is given is the truth's expectation, in every tenth of the events ranked by it."""
    users = log.event_users()
    expected = truth.expected_stars(np.arange(log.n_users))[users, log.items]
    residual = stars_of(log) - expected
    assert abs(residual.mean()) < 4 * residual.std() / np.sqrt(log.n_events)
    for part in np.array_split(np.argsort(expected), 10):
        assert abs(residual[part].mean()) < 4.5 * residual[part].std() / np.sqrt(len(part))


def test_choices_follow_the_truth(log, truth):
    """A user's first event has had nothing left out: its probability under the law is that of a true law."""
    users = np.arange(log.n_users)
    first = log.offsets[:-1]
    law = truth.choice_probabilities(users, truth.focus[first])
    assert np.allclose(law.sum(axis=1), 1.0) and np.allclose(truth.choice_probabilities(users).sum(axis=1), 1.0)
    surprise = -np.log(law[users, log.items[first]])
    entropy = -(law * np.log(law)).sum(axis=1)
    spread = np.sqrt((law * (np.log(law) + entropy[:, None]) ** 2).sum(axis=1).mean() / len(users))
    assert abs((surprise - entropy).mean()) < 4 * spread
    assert abs(truth.choice_probabilities(users).mean(axis=0) - np.eye(300)[log.items[first]].mean(axis=0)).max() < 0.03


def test_focus_moves_slowly_and_shows(log, truth):
    assert truth.focus.shape == (log.n_events,)
    same_user = np.diff(log.event_users()) == 0
    assert 0.75 < (np.diff(truth.focus)[same_user] == 0).mean() < 0.97
    assert 0.5 < (truth.genre[log.items] == truth.focus).mean() < 0.9


def test_best_items(truth):
    users = np.arange(20)
    best = truth.best_items(users, k=5)
    mean = truth.mean_stars(users)
    assert (np.take_along_axis(mean, best, axis=1)[:, 0] == mean.max(axis=1)).all()
    assert (np.sort(mean, axis=1)[:, -5:][:, ::-1] == np.take_along_axis(mean, best, axis=1)).all()


def test_tastes_matter():
    """Next-item hit rate at 10 of held-out users: popularity < EASE < the true law of choice, well apart."""
    log, truth = synthetic(n_users=2000, n_items=500), synthetic_truth(n_users=2000, n_items=500)
    train, test = log.split_users(200)
    popularity = np.bincount(train.items, minlength=500).astype(float)
    gram = (interactions(train).T @ interactions(train)).toarray() + 100.0 * np.eye(500)
    inverse = np.linalg.inv(gram)
    ease = np.where(np.eye(500) == 1, 0.0, -inverse / np.diag(inverse))
    hits = {"popularity": [], "ease": [], "truth": []}
    for user in range(test.n_users):
        items = test.user(user).items
        source = int(test.user_ids[user]) - FIRST_USER_ID
        for position in range(len(items) - 5, len(items)):
            seen, answer = items[:position], items[position]
            focus = truth.focus[log.offsets[source] + position]
            law = truth.choice_probabilities([source], [focus])[0]
            for name, scores in (("popularity", popularity), ("ease", ease[seen].sum(axis=0)), ("truth", law)):
                left = scores.copy()
                left[seen] = -np.inf
                hits[name].append((left > left[answer]).sum() < 10)
    rate = {name: np.mean(values) for name, values in hits.items()}
    assert rate["popularity"] * 1.3 < rate["ease"] and rate["ease"] * 1.3 < rate["truth"], rate


@pytest.mark.parametrize(("n_users", "n_items"), [(0, 100), (10, 31)])
def test_too_small(n_users, n_items):
    match = f"n_users must be at least 1 and n_items at least 32, got n_users={n_users}, n_items={n_items}"
    with pytest.raises(DataError, match=match):
        synthetic(n_users, n_items)
