from dataclasses import replace

import numpy as np
import pytest

from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.evaluation.scoring import recommend
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.scorers import Popularity, RecentPopularity, Scorer, Uniform

DAY = 86_400
LOG = InteractionLog(
    items=np.array([0, 0, 0, 1, 1, 2], dtype=np.int32),
    rewards=np.ones(6, dtype=np.float32),
    offsets=np.array([0, 3, 6]),
    user_ids=np.arange(2),
    item_ids=np.array(list("abcd")),
    times=np.array([0, 1, 2, 9 * DAY, 20 * DAY, 20 * DAY + 5], dtype=np.int64),
    reward="raw",
    name="six events",
)


def history(n, time=None):
    items = np.full((n, 1), 4)
    time = None if time is None else np.array(time)
    return History(items, np.zeros((n, 1), dtype=np.float32), np.zeros(n, dtype=int), time=time)


@pytest.mark.parametrize(
    "scorer", [Uniform(LOG.item_ids, reward="raw"), Popularity.fit(LOG), RecentPopularity.fit(LOG)]
)
def test_floors_are_scorers_of_the_logs_items(scorer):
    assert isinstance(scorer, Scorer)
    assert scorer.reward == "raw"
    assert scorer.scores(history(3)).shape == (3, 4)


def test_uniform_repeats_by_seed_and_call_and_differs_by_row():
    first, second = Uniform(LOG.item_ids, seed=3), Uniform(LOG.item_ids, seed=3)
    one, two = first.scores(history(2)), first.scores(history(2))
    np.testing.assert_array_equal(one, second.scores(history(2)))
    np.testing.assert_array_equal(two, second.scores(history(2)))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, Uniform(LOG.item_ids, seed=4).scores(history(2)))


def test_popularity_is_the_number_of_events():
    np.testing.assert_array_equal(Popularity.fit(LOG).scores(history(2)), [[3, 2, 1, 0]] * 2)


def test_recent_popularity_counts_the_days_before_the_moment_asked():
    scores = RecentPopularity.fit(LOG, days=7).scores(history(4, time=[3, 9 * DAY, 10 * DAY, 21 * DAY]))
    np.testing.assert_array_equal(np.floor(scores), [[3, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]])


def test_recent_popularity_never_counts_the_moment_itself_or_later():
    scores = RecentPopularity.fit(LOG, days=7).scores(history(2, time=[20 * DAY, 20 * DAY + 5]))
    np.testing.assert_array_equal(np.floor(scores), [[0, 0, 0, 0], [0, 1, 0, 0]])


def test_recent_popularity_without_times_looks_back_from_the_end_of_the_log():
    scores = RecentPopularity.fit(LOG, days=7).scores(history(2))
    np.testing.assert_array_equal(np.floor(scores), [[0, 1, 1, 0]] * 2)


def test_all_time_counts_break_ties_and_rank_an_empty_window():
    scores = RecentPopularity.fit(LOG, days=7).scores(history(2, time=[-5, 21 * DAY]))
    assert np.argsort(-scores[0]).tolist() == [0, 1, 2, 3]
    assert scores[1, 1] > scores[1, 2]  # one event each in the window, two against one in all


def test_recent_popularity_needs_times_and_days():
    with pytest.raises(ValueError, match=r"needs the time of every event, got the log 'six events' without times"):
        RecentPopularity.fit(replace(LOG, times=None))
    with pytest.raises(ValueError, match=r"days must be above 0, got 0"):
        RecentPopularity.fit(LOG, days=0)


class Whole:
    """Has all that a scorer has, even before there is one."""

    item_ids, reward = LOG.item_ids, LOG.reward

    def scores(self, history):
        return np.zeros((len(history.items), 4))


@pytest.mark.parametrize("asked", [recommend, SoftmaxPolicy])
def test_what_is_no_scorer_is_refused_in_words(asked):
    what = r"a scorer must have item_ids, reward and scores\(history\), got "
    with pytest.raises(DataError, match=what + r"function \(without item_ids, reward, scores\); give a fitted one"):
        asked(lambda history: None)
    with pytest.raises(DataError, match=what + r"the class Popularity itself \(without item_ids, reward\)"):
        asked(Popularity)
    with pytest.raises(DataError, match=what + r"InteractionLog \(without scores\)"):
        asked(LOG)
    with pytest.raises(DataError, match=what + r"the class Whole itself; give a fitted one"):
        asked(Whole)
    scorer = Popularity(np.array("a"), np.ones(1))
    with pytest.raises(DataError, match=r"item_ids must be one id per item, .* got ndarray of shape \(\)"):
        asked(scorer)


def test_a_class_is_no_function_of_a_history():
    with pytest.raises(DataError, match=r"or be a function of a history, got the class Popularity itself"):
        evaluate_ranking(Popularity, LOG)


def test_chance_needs_ids():
    with pytest.raises(DataError, match=r"item_ids must be one id per item, .* got InteractionLog of shape \(\); give"):
        Uniform(LOG)
