"""Scorers that rank together."""

import numpy as np
import pytest

from agents import EASE, Ensemble, Popularity
from recgym.evaluation.scoring import recommend
from recgym.frames import History

HISTORY = History(np.array([[0, 1], [2, 3]]), np.zeros((2, 2), dtype=np.float32), np.array([2, 2]))


def popularity(*counts, reward="scaled"):
    return Popularity(np.arange(len(counts)), np.array(counts, dtype=np.float32), reward)


def test_scores_are_mean_log_probabilities():
    first, second = [3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 5.0, 1.0]
    found = Ensemble([popularity(*first), popularity(*second)]).scores(HISTORY)
    shares = np.exp([first, second]) / np.exp([first, second]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), np.tile(np.log(shares).mean(axis=0), (2, 1)), rtol=1e-6)


def test_one_member_ranks_as_it_does_alone():
    alone = popularity(3, 1, 9, 0, 5)
    assert recommend(Ensemble([alone]), [(2, 1.0)], k=4) == recommend(alone, [(2, 1.0)], k=4) == [4, 0, 1, 3]


def test_members_may_be_of_any_kind(log):
    both = Ensemble([EASE.fit(log), Popularity.fit(log)])
    assert len(recommend(both, [(log.item_ids[0], 1.0)], k=5)) == 5


def test_members_must_fit_together():
    with pytest.raises(ValueError, match="members must have at least one scorer, got none; give some"):
        Ensemble([])
    with pytest.raises(ValueError, match="got 3 items and 'scaled' in member 1, 2 and 'scaled' in the"):
        Ensemble([popularity(1, 2), popularity(1, 2, 3)])
    with pytest.raises(ValueError, match="got 2 items and 'raw' in member 1, 2 and 'scaled' in the first"):
        Ensemble([popularity(1, 2), popularity(1, 2, reward="raw")])
