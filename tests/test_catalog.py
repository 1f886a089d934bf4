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
