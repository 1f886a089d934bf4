"""Lists for people: short, odd and empty histories, users, candidates, scores and batches."""

import numpy as np
import pytest
from conftest import make_catalog, make_log

import agents
import recgym
from agents.training.train import fit
from recgym.batches import FrameBatches
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking
from recgym.evaluation.scoring import best_lists, recommend, recommend_batch
from recgym.scorers import Popularity

IDS = np.array(["a", "b", "c", "d", "e"])
SCORER = Popularity(IDS, np.array([5, 4, 3, 2, 1]), "raw")


class Flat:
    """Scores everything alike, but for what it is told."""

    item_ids, reward = IDS, "raw"

    def __init__(self, scores=(0, 0, 0, 0, 0), popularity=None):
        self.given, self.popularity = np.array(scores, dtype=np.float32), popularity

    def scores(self, history):
        return np.tile(self.given, (len(history.items), 1))


def test_lists_can_be_narrowed_and_have_scores():
    assert recommend(SCORER, [("b", 1.0)], k=2, exclude=["a", "nobody", []]) == ["c", "d"]
    assert recommend(SCORER, [("b", 1.0)], k=2, candidates=["e", "d", "b"]) == ["d", "e"]
    assert recommend(SCORER, k=2, with_scores=True) == [("a", 5.0), ("b", 4.0)]
    with pytest.raises(DataError, match=r"k must be between 1 and the 1 items left to recommend, got 2"):
        recommend(SCORER, [("b", 1.0)], k=2, candidates=["e", "b"])
    with pytest.raises(DataError, match=r"every item of the candidates must be one the scorer knows, got 1 of 2 unkn"):
        recommend(SCORER, k=1, candidates=["e", "z"])


def test_a_batch_is_what_each_would_get():
    histories = [[], [("b", 1.0)], [("a", 1.0), ("e", 2.0), ("c", 0.0)]]
    found = recommend_batch(SCORER, histories, 2)
    assert found == [recommend(SCORER, one, 2) for one in histories] == [["a", "b"], ["a", "c"], ["b", "d"]]
    assert recommend_batch(SCORER, [], 2) == []
    scored = recommend_batch(SCORER, histories, 2, with_scores=True, exclude_seen=False)
    assert scored[2] == [("a", 5.0), ("b", 4.0)]
    asked = []
    scorer = Flat([1, 2, 3, 4, 5])
    scorer.scores = lambda history: asked.append(history) or np.tile(scorer.given, (len(history.items), 1))
    recommend_batch(scorer, histories, 1)
    (history,) = asked
    assert history.items.tolist() == [[5, 5, 5], [5, 5, 1], [0, 4, 2]]
    assert history.length.tolist() == [0, 1, 3]
    assert history.rewards[2].tolist() == [1.0, 2.0, 0.0]


def test_unknown_items_are_an_error_or_skipped_and_counted():
    with pytest.raises(DataError, match=r"got 2 of 3 unknown, e.g. \['z', \[\]\]; leave them out, pass unknown='skip'"):
        recommend(SCORER, [("z", 1.0), ("a", 1.0), ([], 1.0)], k=1)
    with pytest.warns(UserWarning, match=r"items of the history were skipped: 2 of 3 unknown, e.g. \['z', 'y'\]"):
        assert recommend(SCORER, [("z", 1.0), ("a", 1.0), ("y", 1.0)], k=1, unknown="skip") == ["b"]
    with pytest.raises(DataError, match=r"unknown must be one of .*got 'drop'"):
        recommend(SCORER, k=1, unknown="drop")


@pytest.mark.parametrize(
    ("history", "k", "message"),
    [
        (["a", "b"], 1, r"a history must be pairs of item id and rating, got 'a' \(2 of 2 entries\)"),
        ([3], 1, r"a history must be pairs of item id and rating, got 3"),
        ([("a", float("nan"))], 1, r"every rating of a history must be a finite number, got nan \(1 of 1\)"),
        ([("a", None)], 1, r"every rating of a history must be a finite number, got None"),
        ([], 2.5, r"k must be a whole number, got 2.5"),
        ([], True, r"k must be a whole number, got True"),
    ],
)
def test_what_is_no_history_is_named(history, k, message):
    with pytest.raises(DataError, match=message):
        recommend(SCORER, history, k)


@pytest.mark.parametrize(
    ("transform", "fine", "wrong", "bounds"),
    [
        ("scaled", [0, 0.5, 5], 500, "0 and 5, as rewards are 'scaled', got 500"),
        ("scaled:10", [10], 10.5, "0 and 10"),
        ("recnn", [5], -1, "0 and 5"),
        ("log1p", [0, 400_000], -0.5, "0 and inf"),
        ("binary:4", [-3, 500], None, None),
    ],
)
def test_ratings_beyond_the_scale_of_the_log_are_refused(transform, fine, wrong, bounds):
    scorer = Popularity(IDS, np.array([5, 4, 3, 2, 1]), transform)
    assert recommend(scorer, [("a", rating) for rating in fine], 1) == ["b"]
    if wrong is not None:
        with pytest.raises(DataError, match=rf"every rating of a history must lie between {bounds}.* \(1 of 2\); give"):
            recommend_batch(scorer, [[("a", fine[0]), ("b", wrong)], []], 1)


def test_equal_scores_go_by_popularity_never_by_id():
    assert recommend(Flat([0, 0, 7, 0, 0], [1, 5, 0, 9, 3]), k=4) == ["c", "d", "b", "e"]
    assert recommend(Flat(popularity=[1, 5, 0, 9, 3]), [("d", 1.0)], k=2) == ["b", "e"]
    with pytest.raises(DataError, match=r"scores must tell items apart, got 0 for all 5 that may be recommended; give"):
        recommend(Flat(), k=2)


@pytest.mark.parametrize(
    "name", ["SequenceModel", "SQN", "SequenceTD3BC", "SequenceREINFORCE", "DDPG", "EASE", "ItemKNN"]
)
def test_a_newcomer_gets_what_is_popular(name):
    log, catalog = make_log(), make_catalog()
    if name in ("EASE", "ItemKNN"):
        scorer = getattr(agents, name).fit(log)
    else:
        scorer = getattr(agents, name)(catalog, frame_size=5, device="cpu", **({} if name == "DDPG" else {"width": 8}))
        fit(scorer, scorer.batches(log, 4) if hasattr(scorer, "batches") else FrameBatches(log, 5, 8), 2)
    counts = np.bincount(log.items, minlength=log.n_items)
    top = recommend(scorer, [], k=5)
    assert [counts[log.item_ids.tolist().index(item)] for item in top] == sorted(counts, reverse=True)[:5]


def test_users_are_known_by_their_ids():
    """F10: index 0 of a split is another person than index 0 of the training log."""
    log, catalog = make_log(), make_catalog()
    agent = agents.DQN(catalog, frame_size=5, device="cpu", encoder="drr", n_users=6, hidden=8)
    fit(agent, agent.batches(log, 4) if hasattr(agent, "batches") else FrameBatches(log, 5, 8), 1)
    named = []
    scores = agent.scores
    agent.scores = lambda history: named.append(history.user) or scores(history)
    part = log.select_users([4, 2])
    evaluate_ranking(agent, part)
    assert set(np.concatenate(named).tolist()) == {4, 2}
    named.clear()
    recommend(agent, [("i03", 0.5)], 1, user="u3")
    recommend_batch(agent, [[("i03", 0.5)]] * 2, 1, users=["u5", "stranger"])
    recommend(agent, [("i03", 0.5)], 1)
    assert [None if user is None else user.tolist() for user in named] == [[3], [5, -1], None]
    with pytest.raises(DataError, match=r"users must be one per history, got 1 for 2 histories"):
        recommend_batch(agent, [[], []], 1, users=["u1"])
    assert recgym.recommend_batch is recommend_batch


def test_best_lists_are_those_of_a_whole_sort():
    random = np.random.default_rng(0)
    for n_items, n_different in [(5, 3), (40, 100), (700, 3), (700, 50), (3_000, 50), (3_000, 10**6)] * 5:
        scores = random.integers(0, n_different, (3, n_items)).astype(np.float32)
        allowed = random.random(scores.shape) < random.choice([0.02, 0.5, 1.0])
        fame, k = (
            random.integers(0, 5, n_items),
            [min(n, int(row.sum())) for n, row in zip((1, 0, 12), allowed, strict=True)],
        )
        for row, found in enumerate(best_lists(scores, allowed, k, fame)):
            may = np.flatnonzero(allowed[row])
            assert found.tolist() == may[np.lexsort((-fame[may], -scores[row, may]))][: k[row]].tolist()
