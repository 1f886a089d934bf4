"""Feature row 25: the nearest items by RecNN's eight distances, for inspection."""

import numpy as np
import pytest

from recgym.actions.distances import METRICS, distances
from recgym.catalog import Catalog
from recgym.errors import DataError

VECTORS = np.array([[0.9, 0.1, 0.0], [0.2, 0.4, 0.3], [-0.5, 0.5, 0.1], [0.1, 0.0, 0.8]])
CATALOG = Catalog(VECTORS / np.linalg.norm(VECTORS, axis=1).max(), np.array(["a", "b", "c", "d"]))
POINT = np.array([0.3, 0.2, 0.4])


def by_hand(metric, x, y):
    """The distance by its definition."""
    gap = np.abs(x - y)
    one, other = (x - x.mean(), y - y.mean()) if metric == "correlation" else (x, y)
    return {
        "euclidean": np.sqrt((gap**2).sum()),
        "minkowski": np.sqrt((gap**2).sum()),
        "cosine": 1 - one @ other / np.sqrt((one @ one) * (other @ other)),
        "correlation": 1 - one @ other / np.sqrt((one @ one) * (other @ other)),
        "canberra": sum(g / (abs(a) + abs(b)) for g, a, b in zip(gap, x, y, strict=True) if g),
        "chebyshev": gap.max(),
        "braycurtis": gap.sum() / np.abs(x + y).sum(),
        "cityblock": gap.sum(),
    }[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_feature_row_25_each_of_the_eight_distances(metric):
    expected = {name: by_hand(metric, POINT, vector) for name, vector in zip("abcd", CATALOG.embeddings, strict=True)}
    found = distances(CATALOG, POINT, metric, k=3)
    assert [name for name, _ in found] == sorted(expected, key=expected.get)[:3]
    assert [value for _, value in found] == pytest.approx(sorted(expected.values())[:3], abs=1e-5)


def test_an_undefined_distance_comes_last():
    catalog = Catalog(np.array([[0.0, 0.0], [-1.0, 0.1]]), np.array(["zero", "far"]))
    assert [name for name, _ in distances(catalog, [1.0, 0.0], "cosine", k=2)] == ["far", "zero"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "l2"}, r"metric must be one of \('euclidean', .*got 'l2'; choose one"),
        ({"vector": [1.0, 2.0]}, r"vector must be 3 finite numbers, got shape \(2,\); give one item vector"),
        ({"vector": [1.0, np.nan, 2.0]}, "vector must be 3 finite numbers"),
        ({"k": 5}, r"k must lie in 1\.\.4, got 5; ask for fewer items"),
    ],
)
def test_errors(given, message):
    with pytest.raises(DataError, match=message):
        distances(CATALOG, **{"vector": POINT, **given})
