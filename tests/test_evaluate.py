"""Ranking, sessions and lists against plain loops, and the messages of what they refuse."""

import math

import numpy as np
import pytest

from recgym.catalog import Catalog
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking, evaluate_sessions
from recgym.evaluation.scoring import recommend, top_items
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.scorers import Popularity
from recgym.users.replay import ReplayUsers

N_ITEMS = 7


@pytest.fixture
def log():
    """Five users over seven items; user 2 takes item 1 twice, user 4 has one event only."""
    events = {0: [0, 1, 2, 3], 1: [3, 2, 6], 2: [1, 4, 1, 5, 1], 3: [6, 5, 4, 3, 2, 1, 0], 4: [2]}
    users = [user for user, items in events.items() for _ in items]
    items = [item for items in events.values() for item in items]
    ratings = [1.0 + place % 5 for place in range(len(items))]
    return InteractionLog(
        items=np.array(items, dtype=np.int32),
        rewards=np.array(ratings, dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64),
        user_ids=np.array([f"u{user}" for user in events]),
        item_ids=np.array([f"i{item}" for item in range(N_ITEMS)]),
    )


class Last:
    """Scores items by how near they are to the last one of the history: personal, with many ties."""

    reward = "raw"

    def __init__(self, n_items=N_ITEMS):
        self.item_ids = np.array([f"i{item}" for item in range(n_items)])

    def scores(self, history):
        last = history.items[:, -1:]
        return -np.abs(np.arange(len(self.item_ids))[None] - last).astype(np.float32)


def naive_values(log, score, k, n_last, mask_seen):
    """Mean over positions of hit rate, ndcg and reciprocal rank, the tied ranks spelled out."""
    discount = [1 / math.log2(2 + place) if place < k else 0.0 for place in range(N_ITEMS)]
    by_user = {}
    for user in range(log.n_users):
        items = log.user(user).items.tolist()
        for position in range(max(1, len(items) - n_last), len(items)):
            past, target = items[:position], items[position]
            if mask_seen and target in past:
                continue
            scores = score(past)
            candidates = [i for i in range(N_ITEMS) if not mask_seen or i not in past]
            above = sum(scores[i] > scores[target] for i in candidates)
            tied = sum(scores[i] == scores[target] for i in candidates)
            places = range(above, above + tied)
            value = [sum(f(place) for place in places) / tied for f in (lambda p: p < k, discount.__getitem__)]
            by_user.setdefault(user, []).append([*value, sum(1 / (1 + place) for place in places) / tied])
    return {user: np.mean(values, axis=0) for user, values in by_user.items()}


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize(("n_last", "k", "batch_size"), [(1, 2, 256), (3, 2, 2), (100, 3, 1)])
def test_ranking_equals_a_plain_loop(log, n_last, k, batch_size, mask_seen):
    ranking = evaluate_ranking(Last(), log, k, n_last=n_last, mask_seen=mask_seen, batch_size=batch_size)
    expected = naive_values(log, lambda past: [-abs(i - past[-1]) for i in range(N_ITEMS)], k, n_last, mask_seen)
    assert ranking.users.tolist() == list(expected)  # user 4 has no past, user 2's newest item was seen before
    for place, metric in enumerate([f"hit_rate@{k}", f"ndcg@{k}", "mrr"]):
        np.testing.assert_allclose(ranking.values[metric], [value[place] for value in expected.values()], atol=1e-12)


def test_each_user_is_asked_about_their_own_history(log):
    """A scorer that answers with the item after the last one is right for user 0 and wrong for user 3."""

    def next_one(history):
        return np.eye(N_ITEMS + 1)[(history.items[:, -1] + 1) % N_ITEMS][:, :N_ITEMS]

    ranking = evaluate_ranking(next_one, log, 1, n_last=2, mask_seen=False)
    assert ranking.values["hit_rate@1"][0] == 1.0
    assert ranking.values["hit_rate@1"][3] == 0.0


def test_history_ends_before_the_target(log):
    seen = []

    def spy(history):
        seen.append(History(*(None if part is None else np.array(part) for part in history)))
        return np.zeros((len(history.items), N_ITEMS))

    evaluate_ranking(spy, log, n_last=2)
    history = seen[0]
    assert history.user.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert history.length.tolist() == [2, 3, 1, 2, 3, 4, 5, 6]
    assert history.items[1].tolist() == [7, 7, 7, 0, 1, 2]  # padded on the left, item 3 not in it
    assert history.rewards[1].tolist() == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]


def test_min_history_leaves_out_early_positions(log):
    ranking = evaluate_ranking(Last(), log, n_last=10, min_history=3)
    assert dict(zip(ranking.users.tolist(), ranking.n_positions.tolist(), strict=True)) == {0: 1, 2: 2, 3: 4}


@pytest.mark.parametrize("k", [1, 3])
def test_a_constant_scorer_earns_chance_among_the_candidates(log, k):
    def constant(history):
        return np.zeros((len(history.items), N_ITEMS))

    masked = evaluate_ranking(constant, log, k, n_last=1, repeats="mask")  # user 2 took the newest item before
    chance = [k / (N_ITEMS - 3), k / (N_ITEMS - 2), k / (N_ITEMS - 6)]
    np.testing.assert_allclose(masked.values[f"hit_rate@{k}"], np.minimum(chance, 1.0))
    np.testing.assert_allclose(evaluate_ranking(constant, log, k, n_last=1).values[f"hit_rate@{k}"], k / N_ITEMS)


def test_sampled_negatives_are_unseen_the_same_for_all_and_independent_of_the_batch(log):
    def values(scorer, **options):
        return evaluate_ranking(scorer, log.select_users(np.array([0, 1, 2])), 1, n_negatives=2, **options).values

    once = values(Last())
    for metric, column in values(Last(), batch_size=1).items():
        np.testing.assert_array_equal(column, once[metric])
    assert not all(np.array_equal(values(Last(), seed=1)[m], once[m]) for m in once)
    perfect = values(lambda history: np.where(np.arange(N_ITEMS) == 3, 1.0, 0.0)[None].repeat(len(history.items), 0))
    assert perfect["hit_rate@1"][0] >= 1 / 3  # user 0 takes item 3 last, and item 3 is never drawn against it


def test_sampled_constant_scorer_earns_chance(log):
    ranking = evaluate_ranking(
        lambda history: np.zeros((len(history.items), N_ITEMS)), log.select_users(np.array([0, 1])), 1, n_negatives=3
    )
    np.testing.assert_allclose(ranking.values["hit_rate@1"], 0.25)
    assert "sampled: 1 + 3 items" in ranking.protocol
    assert ranking.totals == {}


def test_torch_scores_are_taken(log):
    torch = pytest.importorskip("torch")
    plain = evaluate_ranking(Last(), log)
    tensors = evaluate_ranking(lambda h: torch.tensor(Last().scores(h), requires_grad=True), log)
    for metric, column in plain.values.items():
        np.testing.assert_array_equal(tensors.values[metric], column)


def test_coverage_counts_what_would_be_shown(log):
    favourite = np.where(np.arange(N_ITEMS) == 6, 1.0, 0.0)
    ranking = evaluate_ranking(
        lambda history: favourite[None].repeat(len(history.items), 0), log, 1, n_last=1, repeats="mask"
    )
    # user 3 has seen item 6 and gets one of the others; the rest have not seen it and get it
    assert ranking.totals["coverage@1"] == pytest.approx(2 / N_ITEMS)


def test_summary_difference_and_table(log):
    personal, popular = evaluate_ranking(Last(), log, 2), evaluate_ranking(Popularity.fit(log), log, 2)
    summary = personal.summary()
    assert list(summary) == ["hit_rate@2", "ndcg@2", "mrr", "coverage@2", "gini@2"]
    assert summary["mrr"] == personal.mean_interval("mrr")
    assert np.isnan(summary["coverage@2"].low)
    difference = personal.difference(popular, "mrr")
    assert difference.mean == pytest.approx(personal.values["mrr"].mean() - popular.values["mrr"].mean())
    assert f"mrr                {summary['mrr']}" in repr(personal)
    with pytest.raises(DataError, match="same units under the same protocol"):
        personal.difference(evaluate_ranking(Last(), log, 2, n_last=1), "mrr")
    with pytest.raises(DataError, match=r"metric must be one of \['hit_rate@2'.*got 'auc'"):
        personal.mean_interval("auc")


def nan_scorer(history):
    scores = np.zeros((len(history.items), N_ITEMS))
    scores[0, 0] = np.nan
    return scores


@pytest.mark.parametrize(
    ("scorer", "options", "message"),
    [
        (nan_scorer, {}, "got NaN"),
        (lambda history: np.zeros((1, N_ITEMS)), {}, r"scores must have shape \(\d+, 7\).*got \(1, 7\)"),
        (lambda history: np.full((len(history.items), N_ITEMS), np.inf), {}, "got plus infinity"),
        (Last(6), {}, "rank the items of 'log' in the same order, got 6 item ids against 7"),
        (
            Last(),
            {"n_negatives": 6, "repeats": "mask"},
            "n_negatives must be between 1 and the items a user never took, got 6",
        ),
        (Last(), {"min_history": 50}, "some user must have a position to ask, got 5 users of at most 7"),
        (Last(), {"k": 0}, "k must be at least 1, got 0"),
        (Last(), {"k": 2.5}, "k must be a whole number, got 2.5"),
        (3, {}, "a scorer must have item_ids, reward and scores"),
    ],
)
def test_what_is_refused(log, scorer, options, message):
    with pytest.raises(DataError, match=message):
        evaluate_ranking(scorer, log, **options)


def test_rewards_of_another_transform_are_refused(log):
    with pytest.raises(DataError, match="rewards as 'log' has them, got 'scaled' against 'raw'"):
        evaluate_ranking(Popularity(log.item_ids, np.ones(N_ITEMS), "scaled"), log)


# -- lists ------------------------------------------------------------------------------------------------------------


def test_top_items_never_lists_what_is_not_allowed():
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, size=(200, 12)).astype(np.float32)
    scores[random.random(scores.shape) < 0.2] = -np.inf
    allowed = random.random(scores.shape) < 0.5
    lists = top_items(scores, allowed, 5, np.arange(200)[:, None])
    for row in range(200):
        found = lists[row][lists[row] < 12]
        assert len(found) == min(5, allowed[row].sum())
        assert allowed[row, found].all()
        assert len(set(found.tolist())) == len(found)
        best = np.sort(scores[row, allowed[row]])[::-1][: len(found)]
        np.testing.assert_array_equal(scores[row, found], best)


def test_equal_scores_at_the_end_of_a_list_are_left_to_seeded_chance():
    scores, allowed = np.zeros((3000, 4)), np.ones((3000, 4), dtype=bool)
    keys = np.stack([np.zeros(3000, int), np.arange(3000)], axis=1)
    lists = top_items(scores, allowed, 1, keys)
    assert np.bincount(lists[:, 0], minlength=4).min() > 650  # 750 expected
    np.testing.assert_array_equal(top_items(scores[5:9], allowed[5:9], 1, keys[5:9]), lists[5:9])
    assert (top_items(scores, allowed, 1) == 0).all()


def test_recommend_ranks_what_is_left():
    scorer = Popularity(np.array(["a", "b", "c", "d"]), np.array([4, 3, 2, 1]), "raw")
    assert recommend(scorer, [("b", 5.0)], k=2) == ["a", "c"]
    assert recommend(scorer, [("b", 5.0)], k=2, exclude_seen=False) == ["a", "b"]
    assert recommend(scorer, k=4) == ["a", "b", "c", "d"]  # an empty past


def test_recommend_turns_ratings_into_rewards():
    asked = []

    class Spy(Popularity):
        def scores(self, history):
            asked.append(history)
            return super().scores(history)

    recommend(Spy(np.array([10, 20, 30]), np.ones(3), "scaled"), [(20, 5.0), (10, 0.5)], k=1)
    (history,) = asked
    assert (history.items.tolist(), history.length.tolist()) == ([[1, 0]], [2])
    np.testing.assert_allclose(history.rewards, [[1.0, -0.8]])
    recommend(Spy(np.array([10, 20, 30]), np.ones(3), "scaled"), [], k=1)
    assert (asked[1].items.tolist(), asked[1].length.tolist()) == ([[3]], [0])


@pytest.mark.parametrize(
    ("history", "k", "message"),
    [
        ([("b", 5.0), ("zz", 1.0)], 1, r"got 1 of 2 unknown, e.g. \['zz'\]"),
        ([("b", 5.0)], 4, "k must be between 1 and the 3 items left to recommend, got 4"),
        ([], 0, "k must be between 1 and the 4 items"),
    ],
)
def test_recommend_refuses(history, k, message):
    with pytest.raises(DataError, match=message):
        recommend(Popularity(np.array(["a", "b", "c", "d"]), np.arange(4), "raw"), history, k)


# -- sessions ---------------------------------------------------------------------------------------------------------


def replay_env(log, num_envs, *, autoreset_mode="Disabled", k=1, **options):
    catalog = Catalog(np.eye(N_ITEMS), log.item_ids, log.reward)
    defaults = {"frame_size": 2, "horizon": 4, "action": "item", "observation": "history"}
    users = ReplayUsers(log, 2)
    return RecVectorEnv(
        num_envs, users=users, catalog=catalog, k=k, autoreset_mode=autoreset_mode, **(defaults | options)
    )


def naive_session(log, user, score, horizon):
    """Items shown and the return, F=2: one item a step, none twice, until all answers are given."""
    items, rewards = (column.tolist() for column in log.user(user)[:2])
    answers = dict(zip(items[2:], rewards[2:], strict=True))
    frame, seen, shown, total = items[:2], set(items[:2]), [], 0.0
    while len(shown) < horizon and len(seen) < N_ITEMS and set(answers) - set(shown):
        scores = score(frame)
        item = max((i for i in range(N_ITEMS) if i not in seen), key=lambda i: (scores[i], -i))
        shown.append(item)
        seen.add(item)
        if item in answers:
            total += answers[item]
            frame = [*frame[1:], item]
    return shown, total


@pytest.mark.parametrize("autoreset_mode", ["Disabled", "SameStep"])
@pytest.mark.parametrize("num_envs", [1, 3, 9])
def test_sessions_equal_a_plain_loop(log, num_envs, autoreset_mode):
    order = np.random.default_rng(0).permutation(N_ITEMS)

    def score(frame):
        return np.abs(order - order[frame[-1]]) + 0.01 * order  # no two equal, and it heeds the last item

    def scorer(history):
        return np.stack([score(items) for items in history.items])

    found = evaluate_sessions(scorer, replay_env(log, num_envs, autoreset_mode=autoreset_mode))
    assert found.users.tolist() == [0, 1, 2, 3]  # user 4 cannot fill a frame
    for user in [0, 1, 3]:  # user 2 takes item 1 again, which the frame holds
        shown, total = naive_session(log, user, score, 4)
        assert found.returns[found.users == user] == pytest.approx(total)
        session = int(np.flatnonzero(found.users == user)[0])
        assert found.items[session, : len(shown), 0].tolist() == shown
        assert (found.items[session, len(shown) :] == N_ITEMS).all()
        assert found.lengths[session] == len(shown)


def test_sessions_never_show_what_is_blocked(log):
    for seed in range(5):
        found = evaluate_sessions(
            lambda history: np.full((len(history.items), N_ITEMS), -np.inf), replay_env(log, 3), seed=seed
        )
        for user, items, length in zip(found.users, found.items[:, :, 0], found.lengths.astype(int), strict=True):
            opening = log.user(user).items[:2].tolist()
            shown = items[:length].tolist()
            assert len(set(shown + opening)) == len(shown) + len(set(opening))
            assert max(shown) < N_ITEMS


def test_equal_scores_show_the_same_items_whatever_the_batch(log):
    def constant(history):
        return np.zeros((len(history.items), N_ITEMS))

    one, three = (evaluate_sessions(constant, replay_env(log, n), seed=3) for n in (1, 3))
    np.testing.assert_array_equal(one.items, three.items)
    np.testing.assert_array_equal(one.returns, three.returns)
    other = evaluate_sessions(constant, replay_env(log, 3), seed=4)
    assert not np.array_equal(other.items, three.items)


def test_slates_show_the_best_k_in_order(log):
    ranked = np.array([0.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    found = evaluate_sessions(
        lambda history: np.tile(ranked, (len(history.items), 1)), replay_env(log, 2, k=2, horizon=1)
    )
    assert found.items.shape == (4, 1, 2)
    assert found.items[0, 0].tolist() == [2, 3]  # user 0 has seen 0 and 1
    assert found.returns[0] == log.user(0).rewards[2:4].sum()


def test_fewer_and_more_sessions_than_users(log):
    few = evaluate_sessions(Popularity.fit(log), replay_env(log, 2), n_sessions=2, seed=1)
    assert len(few.returns) == 2
    assert set(few.users.tolist()) <= {0, 1, 2, 3}
    many = evaluate_sessions(Popularity.fit(log), replay_env(log, 2), n_sessions=6)
    assert many.users.tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"autoreset_mode": "NextStep"}, {}, r"autoreset_mode 'Disabled' or 'SameStep', got .*'NextStep'"),
        ({"action": "embedding"}, {}, r"action='item', observation='history'.*got \('embedding'"),
        ({"observation": "frame"}, {}, r"got \('item', 'frame'"),
        ({}, {"n_sessions": 0}, "n_sessions must be at least 1, got 0"),
    ],
)
def test_sessions_refuse(log, options, call, message):
    with pytest.raises(DataError, match=message):
        evaluate_sessions(Popularity.fit(log), replay_env(log, 2, **options), **call)


def test_sessions_refuse_a_scorer_of_other_items_and_nan(log):
    with pytest.raises(DataError, match='items of "the environment\'s catalog" in the same order'):
        evaluate_sessions(Last(6), replay_env(log, 2))
    with pytest.raises(DataError, match="got NaN"):
        evaluate_sessions(nan_scorer, replay_env(log, 2))
