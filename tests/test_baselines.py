import time
from dataclasses import replace

import numpy as np
import pytest

from agents import VSKNN, NewestItems, Recency, RepeatPopularity, baselines
from agents.baselines import EASE, ItemKNN, consumed
from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.scorers import Scorer

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


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_ease_of_more_than_a_block_of_items_equals_the_closed_form_and_its_rows_lie_in_memory_as_they_are_read():
    random = np.random.default_rng(0)
    rows = [random.choice(1100, size=8, replace=False) for _ in range(900)]
    users = np.repeat(np.arange(900), 8)
    log = InteractionLog.from_events(users, np.concatenate(rows), np.ones(7200), item_ids=np.arange(1100))
    x, found = consumed(log).toarray().astype(np.float64), EASE.fit(log, 20.0).weights
    p = np.linalg.inv(x.T @ x + 20.0 * np.eye(1100))
    expected = -p / np.diag(p)[None, :]
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert found.flags.c_contiguous


def test_one_history_is_scored_at_once_by_ease_of_12000_items():
    random = np.random.default_rng(0)
    scorer = EASE(np.arange(12_000), np.zeros((12_000, 12_000), dtype=np.float32))  # rows in memory as fit leaves them
    given = history_of(random.integers(12_000, size=(1, 20)), 12_000)
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        scorer.scores(given)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 5e-3


def history_of(items, n_items):
    return History(items, np.zeros(items.shape, dtype=np.float32), (items < n_items).sum(axis=1))


def test_a_catalog_that_does_not_fit_is_refused_before_anything_is_done(monkeypatch):
    message = r"EASE needs 6.9 GB and some 115 minutes .* 41,000 items, got a limit of 4.0 GB; use ItemKNN"
    log = replace(LOG, item_ids=np.arange(41_000))
    with pytest.raises(DataError, match=message):
        EASE.fit(log, memory_limit="4GB")
    monkeypatch.setattr(baselines, "memory_of_process", lambda: 4_000_000_000)
    with pytest.raises(DataError, match=message):
        EASE.fit(log)
    assert EASE.fit(LOG).weights.shape == (5, 5)
    with pytest.raises(DataError, match="positive definite in 32 bits"):
        EASE.fit(InteractionLog.from_events([1, 1], [5, 6], np.ones(2)), 1e-30)


def test_the_memory_of_a_process_is_what_its_limits_leave(monkeypatch):
    resource = pytest.importorskip("resource")
    whole = baselines.memory_of_process()
    assert 100e6 < whole < 1e14
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (50_000_000, -1))
    assert baselines.memory_of_process() == 50_000_000


# -- one's own items, and the newest ----------------------------------------------------------------------------------


def test_recency_puts_ones_own_items_first_the_newest_foremost():
    scorer = Recency.fit(LOG)
    assert isinstance(scorer, Scorer)
    scores = scorer.scores(history([2, 4, 2, 1], []))
    assert np.argsort(-scores[0], kind="stable").tolist() == [1, 2, 4, 0, 3]  # then the more popular of the others
    np.testing.assert_allclose(scores[1], np.bincount(LOG.items) / 5)
    np.testing.assert_array_equal(np.argsort(-scorer.scores(history([1, 2], [3]))), [[2, 1, 0, 3, 4], [3, 0, 1, 2, 4]])


def test_repeat_popularity_counts_ones_own_events_and_forgets():
    rows = history([1, 1, 1, 2, 3])
    assert RepeatPopularity.fit(LOG, np.inf).scores(rows)[0].argmax() == 1  # three times
    fast = RepeatPopularity.fit(LOG, 0.25)
    assert np.argsort(-fast.scores(rows)[0]).tolist() == [3, 2, 1, 0, 4]
    half = RepeatPopularity.fit(LOG, 1.0).scores(rows)[0]
    np.testing.assert_allclose(half[1:4], 1 + np.array([1 / 16 + 1 / 8 + 1 / 4, 1 / 2, 1]))
    assert fast.scores(history([4] + [1] * 3000))[0].argsort().tolist()[-2:] == [4, 1]  # never forgotten wholly
    with pytest.raises(DataError, match="half_life must be above 0 events, got 0"):
        RepeatPopularity.fit(LOG, 0)


def test_newest_items_are_those_that_came_last_and_none_that_are_yet_to_come():
    times = np.array([0, 10, 0, 20, 30, 5, 40, 1, 2, 50])
    log = replace(LOG, times=times, item_ids=np.array(list("abcdef")))
    scorer = NewestItems.fit(log)
    np.testing.assert_array_equal(scorer.born, [0, 10, 5, 40, 50, -np.inf])
    at = History(np.full((2, 1), 6), np.zeros((2, 1)), np.zeros(2, int), time=np.array([60, 40]))
    scores = scorer.scores(at)
    assert np.argsort(-scores[0]).tolist()[:3] == [4, 3, 1]
    assert np.argsort(-scores[1]).tolist()[:3] == [1, 2, 0] and np.isinf(scores[1, 3:]).all()
    by_id = NewestItems.fit(LOG, by="id").scores(history([0]))
    assert np.argsort(-by_id[0]).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(DataError, match="newest items by time need times, got 'log' without; load them, or pass"):
        NewestItems.fit(LOG)
    with pytest.raises(DataError, match="by must be 'time' or 'id', got 'age'"):
        NewestItems.fit(LOG, by="age")


def naive_vsknn(rows, present, n_items, k, n_recent):
    """Sessions (newest last) and the present one as plain lists."""
    weight = {item: (place + 1) / len(present) for place, item in enumerate(present)}
    sharing = [(number, set(row)) for number, row in enumerate(rows) if set(row) & set(weight)][-n_recent:]
    alike = sorted(((sum(weight.get(item, 0) for item in row), number, row) for number, row in sharing), reverse=True)
    scores = np.zeros(n_items)
    for likeness, _, row in alike[:k]:
        scores[list(row)] += likeness
    return scores


@pytest.mark.parametrize(("k", "n_recent"), [(3, 1000), (100, 4), (2, 6)])
@pytest.mark.parametrize("timed", [True, False])
def test_session_neighbours_equal_a_plain_loop(k, n_recent, timed):
    random = np.random.default_rng(1)
    rows = [random.integers(9, size=random.integers(1, 6)).tolist() for _ in range(25)]
    order = random.permutation(25) if timed else np.arange(25)  # when each session was
    lengths = [len(row) for row in rows]
    log = InteractionLog(
        np.concatenate(rows).astype(np.int32), np.ones(sum(lengths), np.float32), np.cumsum([0, *lengths]),
        np.arange(25), np.arange(9), times=np.repeat(order, lengths) if timed else None,
    )  # fmt: skip
    by_time = [rows[number] for number in np.argsort(order)]
    scorer = VSKNN.fit(log, k, n_recent)
    asked = [[1, 2, 1], [8], [], [0, 3, 5, 7]]
    items = np.array([[9] * (4 - len(row)) + row for row in asked])
    expected = [naive_vsknn(by_time, row, 9, k, n_recent) for row in asked]
    np.testing.assert_allclose(scorer.scores(history_of(items, 9)), expected, rtol=1e-5)
    with pytest.raises(DataError, match="k and n_recent must be at least 1, got k=0, n_recent=4"):
        VSKNN.fit(log, 0, 4)
