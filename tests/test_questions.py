"""What is asked: repeats, pasts, sets, groups, and that no candidate tells the target."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from recgym.datasets import synthetic
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking
from recgym.evaluation.questions import Questions
from recgym.log import InteractionLog, shares
from recgym.log.shares import id_order, repeat_share, seen_before, tied_share
from recgym.scorers import Popularity

N = 12


def log_of(*rows, n_items=N, times=None, **more):
    """A log of users 0, 1, ... with these items each."""
    lengths = [len(row) for row in rows]
    return InteractionLog(
        items=np.array([item for row in rows for item in row], dtype=np.int32),
        rewards=np.ones(sum(lengths), dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=np.arange(len(rows)),
        item_ids=np.arange(n_items),
        times=times,
        **more,
    )


def constant(history):
    return np.zeros((len(history.items), N))


def seen(history):
    """Scores 1 for what stands in the history, else 0."""
    scores = np.zeros((len(history.items), N + 1))
    np.put_along_axis(scores, history.items, 1.0, axis=1)
    return scores[:, :N]


def with_repeats(n_users=100, length=20, share=0.4, seed=0):
    """A log in which each event after the first repeats an earlier item with probability `share`."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n_users):
        row = [int(random.integers(100))]
        while len(row) < length:
            fresh = [item for item in range(100) if item not in row]
            row.append(int(random.choice(row) if random.random() < share else random.choice(fresh)))
        rows.append(row)
    return log_of(*rows, n_items=100)


# -- repeats -----------------------------------------------------------------------------------------------------------


def test_shares_are_counted():
    log = log_of([1, 2, 1, 1], [3], [4, 5], times=np.array([0, 0, 5, 5, 5, 5, 6]))
    assert seen_before(log).tolist() == [False, False, True, True, False, False, False]
    assert repeat_share(log) == 2 / 4  # of the events after a user's first
    assert tied_share(log) == 2 / 4  # user 0's first pair and last pair; not those of two users
    assert id_order(replace(log, times=None)) is None and tied_share(replace(log, times=None)) is None
    assert id_order(log_of([0, 1, 2, 3], times=np.array([3, 4, 5, 9]))) == pytest.approx(1.0)
    assert id_order(log_of([3, 2, 1, 0], times=np.array([3, 4, 5, 9]))) == pytest.approx(-1.0)
    assert doctest.testmod(shares).failed == 0


def test_on_a_log_with_repeats_seen_is_one_earns_what_a_hand_computes_and_a_constant_earns_chance():
    log = with_repeats()
    assert repeat_share(log) == pytest.approx(0.4, abs=0.03)

    def known(history):
        scores = np.zeros((len(history.items), 101))
        np.put_along_axis(scores, history.items, 1.0, axis=1)
        return scores[:, :100]

    def nothing(history):
        return np.zeros((len(history.items), 100))

    asked = evaluate_ranking(known, log, 1)  # "auto" asks
    by_hand = []
    for user in range(log.n_users):
        row = log.user(user).items.tolist()
        hits = [(row[p] in row[:p]) / len(set(row[:p])) for p in range(10, 20)]  # each of the seen ones is as likely
        by_hand.append(np.mean(hits))
    np.testing.assert_allclose(asked.values["hit_rate@1"], by_hand)
    assert "all items ranked, seen items ranked too" in asked.protocol
    assert f"{repeat_share(log):.1%} of events repeat an item" in asked.protocol
    masked = evaluate_ranking(known, log, 1, repeats="mask")
    n_asked = sum(row[p] not in row[:p] for row in np.split(log.items, 100) for p in range(10, 20))
    assert masked.n_positions.sum() == n_asked
    assert f"({1000 - n_asked:,} of 1,000 questions for an item seen before not asked)" in masked.protocol
    chance = {}
    for user in range(100):
        row = log.user(user).items.tolist()
        chance[user] = [1 / (100 - len(set(row[:p]))) for p in range(10, 20) if row[p] not in row[:p]]
    expected = [np.mean(values) for values in chance.values() if values]
    for scorer in (known, nothing):  # what is seen is masked, so both say nothing
        np.testing.assert_allclose(
            evaluate_ranking(scorer, log, 1, repeats="mask").values["hit_rate@1"], expected, atol=1e-12
        )
    np.testing.assert_allclose(evaluate_ranking(nothing, log, 7).values["hit_rate@7"], 0.07)
    for repeats in ("ask", "mask"):
        found = evaluate_ranking(nothing, log, 1, repeats=repeats, n_negatives=9).values["hit_rate@1"]
        np.testing.assert_allclose(found, 0.1)


def test_the_default_masks_where_hardly_anything_repeats():
    fresh = log_of([0, 1, 2, 3], [4, 5, 6, 7])
    assert "seen items masked, ties" in evaluate_ranking(constant, fresh).protocol
    assert "no times" in evaluate_ranking(constant, fresh).protocol
    one = log_of(list(range(12)), list(range(11)), [0, 1, 0])  # 1 of 23
    assert "(1 of 22 questions for an item seen before not asked)" in evaluate_ranking(constant, one).protocol
    two = log_of(list(range(12)), list(range(9)), [0, 1, 0, 1])  # 2 of 22
    assert "seen items ranked too" in evaluate_ranking(constant, two).protocol
    for old, new in ((True, "mask"), (False, "ask")):
        assert evaluate_ranking(seen, two, mask_seen=old).protocol == evaluate_ranking(seen, two, repeats=new).protocol
    with pytest.raises(DataError, match="repeats must be one of"):
        evaluate_ranking(seen, two, repeats="maybe")
    with pytest.raises(DataError, match="some user must take an item for the first time, got 1 questions"):
        evaluate_ranking(seen, log_of([3, 3]), repeats="mask")


def test_where_nothing_repeats_values_are_those_of_before():
    """Pinned before masking changed: with targets always spared, as it was, and no target seen, nothing may differ."""
    log = synthetic(n_users=60, n_items=40)
    popular = evaluate_ranking(Popularity.fit(log), log, 3)
    found = {metric: float(values.mean()) for metric, values in popular.values.items()} | popular.totals
    assert found == {
        **{"hit_rate@3": 0.21138888888888893, "ndcg@3": 0.14863271934027977, "mrr": 0.20937477110546465},
        **{"coverage@3": 0.475, "gini@3": 0.8015833333333333},
    }
    sampled = evaluate_ranking(Popularity.fit(log), log, 3, n_negatives=5, n_last=3)
    assert sampled.values["hit_rate@3"].mean() == 0.7416666666666667
    assert sampled.values["mrr"].mean() == 0.5500308641975309


@pytest.mark.parametrize("repeats", ["ask", "mask", "auto"])
@pytest.mark.parametrize("trial", range(8))
def test_no_option_lets_candidates_tell_the_target(repeats, trial):
    """Whatever is scored from the history alone, over all targets there may be the first k places hold k of them."""
    random = np.random.default_rng(trial)
    past = random.integers(N, size=random.integers(2, 9)).tolist()
    levels = random.integers(3, size=N).astype(float)  # ties
    scorers = [
        seen,
        lambda history: -seen(history),
        constant,
        lambda history: np.tile(levels, (len(history.items), 1)),
        lambda history: seen(history) + levels,
    ]
    k = int(random.integers(1, 4))
    log = log_of(*([*past, target] for target in range(N)))
    fresh = [item for item in range(N) if item not in past]
    masked = repeats == "mask" or (repeats == "auto" and repeat_share(log) <= 0.05)
    for scorer in scorers:
        found = evaluate_ranking(scorer, log, k, n_last=1, repeats=repeats)
        assert found.users.tolist() == (fresh if masked else list(range(N)))
        assert found.values[f"hit_rate@{k}"].sum() == pytest.approx(min(k, len(found.users)))


def test_sampled_candidates_do_not_tell_the_target_either():
    """Targets are drawn without regard to the history, so nothing can be known of them: everybody earns chance."""
    random = np.random.default_rng(5)
    rows = [[*random.integers(N, size=5).tolist(), int(random.integers(N))] for _ in range(3000)]
    log = log_of(*rows)
    for scorer in (seen, lambda history: -seen(history)):
        hits = evaluate_ranking(scorer, log, 1, n_last=1, n_negatives=4, repeats="ask").values["hit_rate@1"]
        assert hits.mean() == pytest.approx(0.2, abs=0.025)
        np.testing.assert_allclose(
            evaluate_ranking(scorer, log, 1, n_last=1, n_negatives=4, repeats="mask").values["hit_rate@1"], 0.2
        )


# -- pasts, sets and groups --------------------------------------------------------------------------------------------


ROWS = ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [9, 8, 7, 6, 5])
TIMES = np.tile(np.arange(5) * 10, 3)


def after_the_last(history):
    last = history.items[:, -1]
    scores = -((np.arange(N)[None] - last[:, None] - 1) % N).astype(float)
    return np.where(last[:, None] < N, scores, 0.0)


def split(log, n):
    """The parts of `split_last`, the newest without its past."""
    train, test = log.split_last(n)
    return train, replace(test, past=None)


def test_a_tail_is_ranked_after_its_past():
    log = log_of(*ROWS, times=TIMES)
    train, test = split(log, 2)
    whole = evaluate_ranking(after_the_last, log, 1, n_last=2)
    by_itself = evaluate_ranking(after_the_last, log.split_last(2)[1], 1, n_last=2)
    assert by_itself.protocol == whole.protocol and (by_itself.values["mrr"] == whole.values["mrr"]).all()
    found = evaluate_ranking(after_the_last, test, 1, n_last=2, past=train)
    assert found.users.tolist() == whole.users.tolist() and found.protocol == whole.protocol
    for metric, values in whole.values.items():
        np.testing.assert_array_equal(found.values[metric], values)
    some = evaluate_ranking(after_the_last, test, 1, past=train.select_users(np.array([2, 1])))  # 0 has no past
    assert some.n_positions.tolist() == [1, 2, 2]
    negatives = evaluate_ranking(constant, test, 1, past=train, n_negatives=7)
    np.testing.assert_allclose(negatives.values["hit_rate@1"], 1 / 8)  # 12 less the 5 that a user takes


def test_what_is_no_past_is_refused():
    log = log_of(*ROWS, times=TIMES)
    train, test = split(log, 2)
    with pytest.raises(DataError, match="events of past must come before those of 'log', got 3 of 3 users"):
        evaluate_ranking(constant, train, past=test)
    with pytest.raises(DataError, match="past must have the items and the reward transform of 'log', got 3 items"):
        evaluate_ranking(constant, test, past=log_of([1], n_items=3))
    with pytest.raises(DataError, match="past must have events of users of 'log', got none of 3"):
        evaluate_ranking(constant, test, past=replace(train, user_ids=np.array([7, 8, 9])))
    with pytest.raises(DataError, match=r"histories must be whole, got 'log', .*; pass past=train"):
        evaluate_ranking(constant, test)


def test_held_out_items_of_a_user_are_one_set():
    """recall@2 and ndcg@2 of LightGCN's protocol, by hand."""
    train, test = log_of([0, 1], [5]), log_of([2, 3, 3, 11], [6])
    ranked = np.array([0.0, 9, 8, 1, 7, 0, 6, 0, 0, 0, 0, 0])  # unseen of user 0: 2, 4, 6, 3, ...; of user 1: 1, 2, ...

    def scorer(history):
        assert history.items.tolist() == [[0, 1], [N, 5]]
        return np.tile(ranked, (2, 1))

    found = evaluate_ranking(scorer, test, 2, past=train, sets=True)
    assert list(found.values) == ["recall@2", "ndcg@2"] and found.n_positions.tolist() == [3, 1]
    np.testing.assert_allclose(found.values["recall@2"], [1 / 3, 0.0])
    np.testing.assert_allclose(found.values["ndcg@2"], [1 / (1 + 1 / np.log2(3)), 0.0])
    assert found.totals["coverage@2"] == 3 / N  # 2 and 4; 1 and 2
    assert "0.0% of held-out items stand in the past" in found.protocol
    later = replace(train, times=np.array([5, 6, 7])), replace(test, times=np.arange(5))  # a split that knows no order
    unordered = evaluate_ranking(scorer, later[1], 2, past=later[0], sets=True)
    np.testing.assert_array_equal(unordered.values["ndcg@2"], found.values["ndcg@2"])
    chance = evaluate_ranking(constant, test, 2, past=train, sets=True)
    np.testing.assert_allclose(chance.values["recall@2"], [2 / 10, 2 / 11])
    again = log_of([0, 2], [5])
    masked = evaluate_ranking(constant, again, 2, past=train, sets=True, repeats="mask")
    assert masked.users.tolist() == [0] and "(2 of 3 questions" in masked.protocol
    assert evaluate_ranking(constant, again, 2, past=train, sets=True).users.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"held-out sets need the events .* got 'log' with at most 0 of them per user"):
        evaluate_ranking(constant, log_of([2, 3]), sets=True)
    with pytest.raises(DataError, match="sets are ranked among all items, got n_negatives=3; drop one"):
        evaluate_ranking(constant, test, sets=True, past=train, n_negatives=3)


def test_a_set_of_one_item_is_a_question():
    log = log_of(*ROWS)
    train, test = split(log, 1)
    one = evaluate_ranking(after_the_last, test, 3, past=train)
    as_set = evaluate_ranking(after_the_last, test, 3, past=train, sets=True)
    np.testing.assert_array_equal(as_set.values["recall@3"], one.values["hit_rate@3"])
    np.testing.assert_array_equal(as_set.values["ndcg@3"], one.values["ndcg@3"])


def test_clicks_and_purchases_are_told_apart():
    behaviour = np.array(["pv", "pv", "buy", "pv", "buy"] * 3)
    log = log_of(*ROWS, extra={"behaviour": behaviour})
    found = evaluate_ranking(after_the_last, log, 1, by="behaviour")
    assert list(found.groups) == ["buy", "pv"]
    assert found.groups["buy"].n_positions.tolist() == found.groups["pv"].n_positions.tolist() == [2, 2, 2]
    together = sum(part.values["mrr"] * part.n_positions for part in found.groups.values())
    np.testing.assert_allclose(together, found.values["mrr"] * found.n_positions)
    alone = evaluate_ranking(after_the_last, log, 1, n_last=1).values["mrr"]  # a purchase
    np.testing.assert_allclose(found.by_question["mrr"].reshape(3, 4)[:, -1], alone)
    assert "buy, 6 questions" in repr(found) and repr(found).count("positions of each user") == 1
    train, test = split(log, 2)
    tail = evaluate_ranking(after_the_last, test, 1, by="behaviour", past=train)
    assert tail.groups["pv"].n_positions.tolist() == [1, 1, 1]
    with pytest.raises(DataError, match=r"by must name an event column of 'log', got 'kind' and \['behaviour'\]"):
        evaluate_ranking(constant, log, by="kind")


# -- questions of one's own --------------------------------------------------------------------------------------------


def test_given_candidates_are_ranked_as_they_stand():
    log = log_of(*ROWS)
    ranked = np.arange(N, dtype=float)
    candidates = np.array([[3, 3, 5, N], [9, 4, 2, 1]])  # one twice, one padding; one the target itself
    asked = Questions(log, np.array([0, 1]), np.array([5, 5]), np.array([4, 9]), candidates)
    found = evaluate_ranking(lambda history: np.tile(ranked, (len(history.items), 1)), asked, 1)
    assert found.by_question["mrr"].tolist() == [1 / 2, 1.0] and found.totals == {}
    tied = evaluate_ranking(constant, asked, 1)
    np.testing.assert_allclose(tied.by_question["hit_rate@1"], [1 / 4, 1 / 4])
    split_up = evaluate_ranking(constant, asked, 1, batch_size=1)
    np.testing.assert_array_equal(split_up.by_question["mrr"], tied.by_question["mrr"])


def test_several_questions_after_one_history_are_scored_once():
    calls = []

    def spy(history):
        calls.append(len(history.items))
        return np.tile(np.arange(N, dtype=float), (len(history.items), 1))

    users, positions = np.array([0, 0, 0, 1]), np.array([2, 2, 3, 5])
    found = evaluate_ranking(spy, Questions(log_of(*ROWS), users, positions, np.array([11, 10, 11, 3])), 2)
    assert calls == [3]
    assert found.by_question["hit_rate@2"].tolist() == [1, 1, 1, 0] and found.n_positions.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.array([1])}, r"a value per user in every column, got 2 users and others in \['targets'\]"),
        ({"users": np.array([1, 0])}, "in the order of users and positions"),
        ({"positions": np.array([5, 4]), "users": np.array([1, 1])}, "in the order of users and positions"),
        ({"targets": np.array([1, N])}, r"targets must be item indices 0 to 11, .* got 1 to 12"),
        ({"candidates": np.array([[0], [N + 1]])}, "got 0 to 13"),
        ({"users": np.empty(0, int), "positions": np.empty(0, int), "targets": np.empty(0, int)}, "must be a question"),
    ],
)
def test_questions_that_do_not_fit_are_refused(change, message):
    given = {"users": np.array([0, 1]), "positions": np.array([4, 4]), "targets": np.array([4, 9])}
    with pytest.raises(DataError, match=message):
        Questions(log_of(*ROWS), **(given | change))


def test_a_masked_target_is_refused():
    asked = Questions(log_of(*ROWS), np.array([0]), np.array([3]), np.array([1]), masked=True)
    with pytest.raises(DataError, match="no target may be one of them, got 1 of 1 questions where it is"):
        evaluate_ranking(constant, asked)
