import numpy as np
import pytest
from conftest import make_catalog

from recgym.actions import EmbeddingActions, ItemActions, top_k
from recgym.catalog import Catalog
from recgym.errors import ActionError, DataError


def naive(actions, embeddings, mapper, k, blocked):
    """The k nearest by the definition of each distance, one row at a time."""
    slates = []
    for row, action in enumerate(actions):
        keys = []
        for item, vector in enumerate(embeddings.astype(np.float64)):
            if blocked is not None and blocked[row, item]:
                continue
            norm = np.sqrt((vector**2).sum())
            score = {
                "inner": (action * vector).sum(),
                "cosine": (action * vector).sum() / (norm or 1.0),
                "l2": -((action - vector) ** 2).sum(),
            }[mapper]
            keys.append((-round(score, 5), item))
        slates.append([item for _, item in sorted(keys)[:k]])
    return slates


@pytest.mark.parametrize("mapper", ["inner", "cosine", "l2"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("block", [False, True])
def test_nearest_items_are_those_of_the_definition(mapper, k, block):
    random = np.random.default_rng(k)
    vectors = random.normal(size=(50, 6))
    vectors[7] = 0
    catalog = Catalog(vectors, np.arange(50))
    actions = random.uniform(-1, 1, size=(9, 6)).astype(np.float32)
    blocked = random.random((9, 50)) < 0.6 if block else None
    items = EmbeddingActions(catalog, k, mapper).to_items(actions, blocked)
    assert items.shape == (9, k) and items.dtype == np.int64
    assert items.tolist() == naive(actions, catalog.embeddings, mapper, k, blocked)


def test_the_three_mappers_differ():
    catalog = Catalog(np.array([[1.0, 0.0], [0.3, 0.1], [0.5, 0.5]]), np.arange(3))
    action = np.array([[0.3, 0.1]])
    chosen = {mapper: int(EmbeddingActions(catalog, 1, mapper).to_items(action)[0, 0]) for mapper in ("inner", "l2")}
    assert chosen == {"inner": 0, "l2": 1}
    assert EmbeddingActions(catalog, 1, "cosine").to_items(np.array([[0.2, 0.19]])).tolist() == [[2]]


def test_equal_scores_go_to_the_lower_index():
    catalog = Catalog(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), np.arange(4))
    mapper = EmbeddingActions(catalog, 2)
    assert mapper.to_items(np.array([[1.0, 0.0]])).tolist() == [[1, 2]]
    assert mapper.to_items(np.array([[1.0, 0.0]]), np.array([[False, True, False, False]])).tolist() == [[2, 3]]
    assert mapper.to_items(np.zeros((1, 2))).tolist() == [[0, 1]]


def test_only_candidates_are_chosen():
    catalog = make_catalog()
    mapper = EmbeddingActions(catalog, 2)
    action = catalog.embeddings[[3, 4]] / 1.0
    candidates = np.array([[5, 9, 11], [8, 4, 40]])  # 40 is padding
    items = mapper.to_items(action, None, candidates)
    scores = mapper.scores(action)
    assert sorted(items[1].tolist()) == [4, 8]
    assert items[0].tolist() == sorted([5, 9, 11], key=lambda item: (-scores[0, item], item))[:2]
    blocked = np.zeros((2, 40), dtype=bool)
    blocked[1, 4] = True
    with pytest.raises(ActionError, match=r"every row must have 2 items left to show, got fewer in 1 of 2 rows; end"):
        mapper.to_items(action, blocked, candidates)


def test_nothing_left_is_an_error_for_one_item_too():
    mapper = EmbeddingActions(make_catalog())
    with pytest.raises(ActionError, match="every row must have 1 items left to show, got fewer in 1 of 1 rows"):
        mapper.to_items(np.ones((1, 12)), np.ones((1, 40), dtype=bool))


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in (3, 64, 700, 2900) for k in (1, 2, 3, 10, 33, 300) if k <= n])
@pytest.mark.parametrize("kind", ["continuous", "ties", "masked"])
def test_top_k_equals_a_stable_full_sort(n, k, kind):
    random = np.random.default_rng(n + k)
    scores = random.normal(size=(13, n)).astype(np.float32)
    if kind == "ties":
        scores = np.round(scores)
    if kind == "masked":
        scores[:, random.permutation(n)[: n - k]] = -np.inf
    before = scores.copy()
    assert np.array_equal(top_k(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])
    assert np.array_equal(scores, before)


def test_item_actions_pass_through():
    assert ItemActions(9).to_items(np.array([3, 8], dtype=np.uint8)).tolist() == [[3], [8]]
    assert ItemActions(9, 3).to_items(np.array([[3, 8, 0]])).tolist() == [[3, 8, 0]]
    assert ItemActions(9).single_space.n == 9 and ItemActions(9, 2).single_space.nvec.tolist() == [9, 9]


ITEM_ERRORS = [
    (1, np.array([0, 40]), r"must lie in 0\.\.39, got \[40\] \(1 of 2 do not\); give item indices, not ids"),
    (1, np.array([-1, -2]), r"must lie in 0\.\.39, got \[-1, -2\] \(2 of 2 do not\)"),
    (1, np.array([1.0, 2.0]), "item actions must be integers, got dtype float64; give item indices"),
    (1, np.array([True, False]), "item actions must be integers, got dtype bool"),
    (1, np.array(["a", "b"]), "item actions must be integers, got dtype <U1"),
    (1, np.array([[1], [2]]), r"item actions must have shape \(B,\), got \(2, 1\); give 1 item"),
    (2, np.array([[1, 2, 3]]), r"item actions must have shape \(B, 2\), got \(1, 3\); give 2 item"),
    (2, np.array([1, 2]), r"item actions must have shape \(B, 2\), got \(2,\)"),
]


@pytest.mark.parametrize(("k", "actions", "message"), ITEM_ERRORS)
def test_bad_item_actions(k, actions, message):
    with pytest.raises(ActionError, match=message):
        ItemActions(40, k).to_items(actions)


EMBEDDING_ERRORS = [
    (
        np.full((2, 12), np.nan),
        r"must be finite, got NaN, infinity or numbers beyond 1e\+30 in 2 of 2 rows, e\.g\. rows",
    ),
    (np.full((3, 12), -np.inf), r"must be finite.* in 3 of 3 rows"),
    (
        np.array([[0.0] * 12, [2e30] + [0.0] * 11]),
        r"must be finite.* in 1 of 2 rows, e\.g\. rows \[1\]; mend the policy",
    ),
    (np.ones((2, 11)), r"embedding actions must have shape \(B, 12\), got \(2, 11\); give one vector per row"),
    (np.ones(12), r"embedding actions must have shape \(B, 12\), got \(12,\)"),
    (np.ones((2, 12), dtype=int), "embedding actions must be floats, got dtype int64; give a float32 vector"),
    (np.full((1, 12), None), "embedding actions must be floats, got dtype object"),
]


@pytest.mark.parametrize(("actions", "message"), EMBEDDING_ERRORS)
def test_bad_embedding_actions(actions, message):
    with pytest.raises(ActionError, match=message):
        EmbeddingActions(make_catalog()).to_items(actions)


def test_extreme_but_finite_actions_choose_an_item():
    for mapper in ("inner", "cosine", "l2"):
        actions = np.array([[1e30] * 12, [-1e30] * 12, [1e-40] * 12])
        items = EmbeddingActions(make_catalog(), 3, mapper).to_items(actions)
        assert ((items >= 0) & (items < 40)).all()


def test_unknown_mapper():
    with pytest.raises(
        DataError, match=r"mapper must be one of \('inner', 'cosine', 'l2', 'box'\), got 'dot'; choose one"
    ):
        EmbeddingActions(make_catalog(), mapper="dot")


@pytest.mark.parametrize("mapper", ["inner", "cosine", "l2"])
def test_items_of_a_row_do_not_depend_on_the_others(mapper):
    """Even items closer to each other than float32 can tell are chosen alike by batches of any size."""
    random = np.random.default_rng(0)
    vectors = np.repeat(random.normal(size=(750, 32)), 2, axis=0)
    vectors[::4, 0] += 1e-6
    catalog = Catalog(vectors, np.arange(1500))
    actions = random.uniform(-1, 1, size=(64, 32)).astype(np.float32)
    candidates = random.integers(0, 1500, size=(64, 1400))
    nearest = EmbeddingActions(catalog, 5, mapper)
    together, among = nearest.to_items(actions), nearest.to_items(actions, candidates=candidates)
    for size in (1, 2, 3, 5, 8, 17, 32):
        some = slice(7, 7 + size)
        assert np.array_equal(nearest.to_items(actions[some]), together[some])
        assert np.array_equal(nearest.to_items(actions[some], candidates=candidates[some]), among[some])
