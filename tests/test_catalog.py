import doctest

import numpy as np
import pytest

from recgym import catalog
from recgym.catalog import Catalog
from recgym.errors import DataError


def test_doctests():
    assert doctest.testmod(catalog, extraglobs={"np": np}).failed == 0


def test_one_global_scale():
    vectors = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]])
    made = Catalog(vectors, np.array([1, 2, 3]))
    assert made.scale == 5.0 and np.allclose(made.embeddings * made.scale, vectors)
    assert np.allclose(np.linalg.norm(made.embeddings, axis=1), [1.0, 0.2, 0.0])  # lengths keep their proportions
    assert made.table.dtype == np.float32 and made.n_items == 3 and made.dim == 2


def test_padding_row_is_zero_and_nothing_can_be_written():
    made = Catalog(np.ones((2, 3)), np.array(["a", "b"]))
    assert not made.table[made.n_items].any()
    assert np.shares_memory(made.table, made.embeddings)
    with pytest.raises(ValueError, match="read-only"):
        made.table[0] = 0


def test_what_was_given_is_not_changed():
    vectors = np.full((2, 2), 8.0)
    Catalog(vectors, np.array([1, 2]))
    assert (vectors == 8.0).all()


def test_titles_and_ids():
    ids = np.fromiter([("a", 1), 7, "7"], dtype=object)
    made = Catalog(np.eye(3), ids, titles=np.array(["x", "y", "z"]))
    assert made.index_of == {("a", 1): 0, 7: 1, "7": 2} and made.title(1) == "y"
    assert Catalog(np.eye(3), ids).title(1) == "7"


@pytest.mark.parametrize(
    ("vectors", "item_ids", "match"),
    [
        (np.ones(3), [1, 2, 3], r"embeddings must have shape \(n_items, d\), got \(3,\)"),
        (np.ones((0, 2)), [], r"embeddings must have shape \(n_items, d\), got \(0, 2\)"),
        (np.ones((2, 0)), [1, 2], r"got \(2, 0\)"),
        (np.ones((2, 2)), [1], r"item_ids must have shape \(2,\), one per vector, got \(1,\)"),
        ([[1.0], [np.nan], [np.inf]], ["a", "b", "c"], r"NaN or infinity in 2 of 3, e\.g\. items \['b', 'c'\]"),
        (np.ones((3, 1)), [4, 5, 4], r"item ids must be unique, got 1 that stand twice, e\.g\. \[4\]"),
        (np.zeros((2, 2)), [1, 2], "some item vector must be non-zero, got 2 zero vectors"),
    ],
)
def test_bad_catalogs(vectors, item_ids, match):
    with pytest.raises(DataError, match=match):
        Catalog(vectors, np.array(item_ids))


# -- new items ---------------------------------------------------------------------------------------------------------


def awkward(n=60, dim=7):
    """Float32 vectors whose scale is no round number."""
    return (np.random.default_rng(0).normal(size=(n, dim)) * 0.3).astype(np.float32)


def test_old_items_keep_index_vector_and_scale():
    own = Catalog(awkward(), np.arange(60), titles=np.array([f"t{i}" for i in range(60)], dtype=object))
    longer = own.extend(["x", ("y", 1)], np.array([awkward()[3] * 0.5, awkward()[4] * 0.5]))
    assert (longer.table[:60] == own.table[:60]).all() and longer.scale == own.scale  # bit for bit
    np.testing.assert_allclose(longer.embeddings[60] * longer.scale, awkward()[3] * 0.5, rtol=1e-6)
    assert longer.item_ids.tolist() == [*range(60), "x", ("y", 1)] and longer.index_of[("y", 1)] == 61
    assert longer.title(3) == "t3" and longer.title(60) == "x" and own.n_items == 60
    assert not longer.table[longer.n_items].any()
    assert own.extend([60], awkward()[:1] * 0.5, titles=["new"]).title(60) == "new"


def test_features_follow():
    own = Catalog(np.eye(2), np.array([1, 2]), features={"a": np.array([5, 6]), "b": np.ones((2, 3))})
    longer = own.extend([3], [[0.0, 0.5]], features={"a": [7], "b": np.zeros((1, 3)), "more": [1]})
    assert longer.features["a"].tolist() == [5, 6, 7] and longer.features["b"].shape == (3, 3)
    assert own.extend([3], [[0.0, 0.5]]).features["a"].tolist() == [5, 6, 0]


def test_vectors_longer_than_the_longest():
    own = Catalog(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([1, 2]))
    with pytest.raises(DataError, match=r"must not be longer than the catalog's longest, 5, got 1 of 2 .* up to 10; "):
        own.extend([3, 4], [[6.0, 8.0], [1.0, 1.0]])
    longer = own.extend([3, 4], [[6.0, 8.0], [1.0, 1.0]], longer="shorten")
    np.testing.assert_allclose(longer.embeddings, [[0.6, 0.8], [0.2, 0.0], [0.6, 0.8], [0.2, 0.2]], atol=1e-7)


def test_vectors_made_of_features():
    own = Catalog(np.eye(2), np.array([1, 2]), encode=lambda features: np.stack([features["a"], features["a"]], axis=1))
    assert own.extend([3], features={"a": [0.25]}).embeddings[2].tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("ids", "vectors", "more", "match"),
    [
        ([1], [[0.1, 0.1]], {}, r"item ids must be unique, got 1 that stand twice, e\.g\. \[1\]"),
        ([3], [[0.1]], {}, r"new vectors must have shape \(1, 2\), one per item, got \(1, 1\)"),
        ([3], [[np.nan, 0.0]], {}, "every item vector must be finite"),
        ([3], None, {}, "must have vectors, or features to make them of, got a catalog whose vectors were not made of"),
        ([3], [[0.1, 0.1]], {"features": {}}, r"must have all features of the catalog, \['a'\], got none named a"),
        (
            [3],
            [[0.1, 0.1]],
            {"features": {"a": [1, 2]}},
            r"feature 'a' of new items must have shape \(1,\), got \(2,\)",
        ),
        ([3], [[0.1, 0.1]], {"titles": ["x", "y"]}, r"titles of new items must have shape \(1,\), got \(2,\)"),
        ([3], [[0.1, 0.1]], {"longer": "cut"}, "longer must be one of"),
    ],
)
def test_bad_new_items(ids, vectors, more, match):
    own = Catalog(np.eye(2), np.array([1, 2]), features={"a": np.array([5, 6])})
    with pytest.raises(DataError, match=match):
        own.extend(ids, vectors, **more)


def test_features_are_asked_for_where_the_catalog_knows_how():
    own = Catalog(np.eye(2), np.array([1, 2]), encode=lambda features: np.eye(1, 2))
    with pytest.raises(DataError, match="got no features; pass vectors"):
        own.extend([3])


def test_a_divisor_below_the_longest():
    with pytest.raises(DataError, match=r"divisor must be at least the longest norm, 5, got 4\.0; raise it"):
        Catalog(np.array([[3.0, 4.0]]), np.array([1]), divisor=4.0)
