from dataclasses import replace

import numpy as np
import pytest

from agents.baselines import EASE, ItemKNN, consumed
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.policies import Scorer

# Four users: items 0 and 1 go together, item 2 goes with 3, item 4 is alone; user 3 took item 0 twice.
USERS = [[0, 1], [0, 1, 2], [2, 3], [0, 0, 4]]
LOG = InteractionLog(
    items=np.concatenate(USERS).astype(np.int32),
    rewards=np.linspace(-0.8, 1.0, 10, dtype=np.float32),
    offsets=np.array([0, 2, 5, 7, 10]),
    user_ids=np.arange(4),
    item_ids=np.array(list("abcde")),
)


def history(*rows):
    width = max(1, *(len(row) for row in rows))
    items = np.array([[5] * (width - len(row)) + list(row) for row in rows])
    return History(items, np.zeros(items.shape, dtype=np.float32), np.array([len(row) for row in rows]))


def dense():
    matrix = np.zeros((4, 5))
    for user, taken in enumerate(USERS):
        matrix[user, taken] = 1.0
    return matrix


def test_repeats_count_once():
    np.testing.assert_array_equal(consumed(LOG).toarray(), dense())


@pytest.mark.parametrize("scorer", [EASE.fit(LOG), ItemKNN.fit(LOG)], ids=["ease", "item-knn"])
def test_rankers_are_scorers_that_take_any_history(scorer):
    assert isinstance(scorer, Scorer)
    scores = scorer.scores(history([0], [], [2, 3]))
    assert scores.shape == (3, 5)
    assert not scores[1].any()  # nothing known: nothing to say
    np.testing.assert_allclose(scores[0], scorer.scores(history([0]))[0], rtol=1e-6)  # padding is nothing
    assert scores[0].argmax() == 1
    np.testing.assert_array_equal(scorer.scores(history([0, 0])), scorer.scores(history([0])))


def test_ease_equals_the_closed_form_written_out():
    x, lam = dense(), 2.0
    p = np.linalg.inv(x.T @ x + lam * np.eye(5))
    expected = -p / np.diag(p)[None, :]
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(EASE.fit(LOG, 2.0).weights, expected, rtol=1e-4, atol=1e-6)


def test_ease_is_the_best_linear_reconstruction_with_a_zero_diagonal():
    x, lam = dense(), 2.0
    best = EASE.fit(LOG, lam).weights.astype(np.float64)

    def loss(weights):
        return ((x - x @ weights) ** 2).sum() + lam * (weights**2).sum()

    random = np.random.default_rng(0)
    for _ in range(20):
        nudge = 1e-2 * random.normal(size=best.shape)
        np.fill_diagonal(nudge, 0.0)
        assert loss(best + nudge) > loss(best)


def test_similarities_equal_the_formula():
    x, shrinkage = dense(), 3.0
    together = x.T @ x
    root = np.sqrt(np.diag(together))
    expected = together / (np.outer(root, root) + shrinkage)
    np.fill_diagonal(expected, 0.0)
    found = ItemKNN.fit(LOG, k=5, shrinkage=shrinkage).similarity.toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_only_the_nearest_neighbours_of_an_item_are_kept():
    one = ItemKNN.fit(LOG, k=1, shrinkage=0.0).similarity.toarray()  # row i holds the neighbours of item i
    assert (np.count_nonzero(one, axis=1) <= 1).all()
    assert one[0].argmax() == 1  # 2 / sqrt(3 * 2) beats 1 / sqrt(3 * 2) and 1 / sqrt(3 * 1)
    assert one[3].argmax() == 2
    scores = ItemKNN.fit(LOG, k=1, shrinkage=0.0).scores(history([2]))[0]
    assert np.flatnonzero(scores).tolist() == np.flatnonzero(one[:, 2]).tolist()  # whose nearest is item 2
    assert 3 in np.flatnonzero(scores)


def test_fitting_leaves_the_log_as_it_was():
    """User 3 took item 0 twice: adding up repeats in place would write into the log's own columns."""
    items, offsets = LOG.items.copy(), LOG.offsets.copy()
    EASE.fit(LOG)
    ItemKNN.fit(LOG)
    np.testing.assert_array_equal(LOG.items, items)
    np.testing.assert_array_equal(LOG.offsets, offsets)


def test_rewards_are_not_looked_at():
    flipped = replace(LOG, rewards=-LOG.rewards)
    np.testing.assert_array_equal(EASE.fit(LOG).weights, EASE.fit(flipped).weights)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"k must be at least 1 and shrinkage at least 0, got k=0, shrinkage=10\.0"):
        ItemKNN.fit(LOG, k=0)
    with pytest.raises(ValueError, match=r"k must be at least 1 and shrinkage at least 0, got k=5, shrinkage=-1"):
        ItemKNN.fit(LOG, k=5, shrinkage=-1)
    with pytest.raises(ValueError, match=r"regularization must be above 0, got 0"):
        EASE.fit(LOG, 0.0)


@pytest.mark.parametrize("ranker", [EASE, ItemKNN])
def test_fitting_leaves_a_log_with_repeats_as_it_was(ranker):
    log = InteractionLog.from_events([0, 0, 0, 1, 1, 1], [5, 5, 3, 3, 3, 4], [1.0] * 6, [1, 2, 3, 4, 5, 6])
    before = log.items.copy(), log.offsets.copy()
    ranker.fit(log)
    assert (log.items == before[0]).all() and (log.offsets == before[1]).all()
