"""Exact search does not depend on the company; approximate search keeps its promises on recall, masks and order."""

import sys

import numpy as np
import pytest

from recgym.actions import EmbeddingActions
from recgym.actions.search import ExactSearch, top_k
from recgym.catalog import Catalog
from recgym.envs.env import RecVectorEnv
from recgym.errors import ActionError, DataError, RecgymError


def sorted_search(queries, items, k, blocked):
    scores = queries @ items.T
    scores[blocked] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 2, 10, 70])
@pytest.mark.parametrize("n", [100, 4096, 9000])
def test_tiles_find_what_a_full_sort_finds(n, k, monkeypatch):
    monkeypatch.setattr("recgym.actions.search._TILE", 1 << 12)
    monkeypatch.setattr("recgym.actions.search._NARROWEST", 700)
    random = np.random.default_rng(n + k)
    items = np.round(random.normal(size=(n, 4)) * 2).astype(np.float32)  # ties, exact in float32
    queries = np.round(random.normal(size=(33, 4)) * 2).astype(np.float32)
    blocked = random.random((33, n)) < 0.25
    blocked[0, sorted_search(queries, items, n // 2, np.zeros_like(blocked))[0]] = True  # all that it would like most
    blocked[1, 3:] = n - 3 >= k  # the first three only, or as drawn
    found = ExactSearch(items).largest(queries, k, blocked)
    expected = sorted_search(queries, items, k, blocked)
    enough = (~blocked).sum(axis=1) >= k
    assert np.array_equal(found.items[enough], expected[enough])
    assert (found.scores[~enough, -1] == -np.inf).all()
    assert np.array_equal(
        ExactSearch(items).largest(queries, k).items, sorted_search(queries, items, k, blocked & False)
    )


@pytest.mark.parametrize(("n", "d"), [(40, 12), (90, 33), (500, 128), (3000, 20)])
def test_what_is_found_depends_neither_on_the_other_rows_nor_on_how_scores_are_rounded(n, d, monkeypatch):
    """Twins of items, some moved by less than float32 can tell, are told apart as double precision tells them."""
    random = np.random.default_rng(n)
    items = random.normal(size=(n, d)).astype(np.float32)
    items[n // 2 : n // 2 * 2] = items[: n // 2]
    items[n // 2 : n // 2 * 2 : 3, 0] += np.float32(2e-7)
    queries = random.normal(size=(300, d)).astype(np.float32)
    truth = queries.astype(np.float64) @ items.T.astype(np.float64)
    blocked = random.random((300, n)) < 0.1
    ranks = np.argsort(-np.where(blocked, -np.inf, np.round(truth, 13)), axis=1, kind="stable")[:, :10]
    search = ExactSearch(items)
    assert np.allclose(search.scores(queries), truth, atol=1e-4)
    products = search._products

    def rounded_otherwise(*given):
        noise = np.random.default_rng(len(given[0])).uniform(-1, 1, (len(given[0]), len(given[1])))
        return (products(*given) + noise * d * 2.0**-25 * 0.9).astype(np.float32)  # within the bound for these vectors

    for way in (products, rounded_otherwise):
        monkeypatch.setattr(search, "_products", way)
        for size in (1, 2, 3, 7, 16, 31, 100, 295):
            some = slice(5, 5 + size)
            for k in (1, 10):
                assert np.array_equal(search.largest(queries[some], k, blocked[some]).items, ranks[some, :k])


def test_top_k_of_rows_without_anything():
    scores = np.full((3, 50), -np.inf)
    scores[1, [4, 40]] = 1.0
    assert top_k(scores, 2)[1].tolist() == [4, 40] and top_k(scores, 2).shape == (3, 2)
    assert top_k(scores, 1)[1].tolist() == [4]


# -- approximate ------------------------------------------------------------------------------------------------------

N, D = 3000, 16


@pytest.fixture(scope="module")
def clustered():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, D))[random.integers(0, 60, N)] + 0.3 * random.normal(size=(N, D))
    return Catalog(vectors, np.arange(N))


@pytest.mark.parametrize("mapper", ["cosine", "l2"])
def test_approximate_search_finds_nearly_all_and_never_what_is_blocked(clustered, mapper):
    pytest.importorskip("faiss")
    exact, about = EmbeddingActions(clustered, 10, mapper), EmbeddingActions(clustered, 10, mapper, 100)
    assert about.search.recall >= 0.95 and about.search.n_probes < about.search.n_cells
    random = np.random.default_rng(1)
    queries = (clustered.embeddings[random.integers(0, N, 200)] + 0.02 * random.normal(size=(200, D))).astype(
        np.float32
    )
    blocked = np.zeros((200, N), dtype=bool)
    np.put_along_axis(blocked, exact.to_items(queries), True, axis=1)  # the ten best of each row were seen
    for mask in (None, blocked):
        found, truth = about.to_items(queries, mask), exact.to_items(queries, mask)
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]) >= 0.93
        assert all(len(set(row)) == 10 for row in found)
        scores = np.take_along_axis(about.scores(queries), found, axis=1)
        assert (np.diff(scores, axis=1) <= 1e-6).all()  # scored again exactly, nearest first
        if mask is not None:
            assert not np.take_along_axis(mask, found, axis=1).any()


def test_where_too_little_is_open_the_search_is_exact(clustered):
    pytest.importorskip("faiss")
    exact, about = EmbeddingActions(clustered, 3, "l2"), EmbeddingActions(clustered, 3, "l2", 100)
    queries = np.random.default_rng(2).uniform(-1, 1, (4, D)).astype(np.float32)
    blocked = np.ones((4, N), dtype=bool)
    blocked[:, [7, 1500, 2900]] = False
    assert np.array_equal(about.to_items(queries, blocked), exact.to_items(queries, blocked))
    blocked[2, 7] = True
    with pytest.raises(ActionError, match="every row must have 3 items left to show, got fewer in 1 of 4 rows"):
        about.to_items(queries, blocked)


def test_small_catalogs_are_searched_exactly(clustered):
    assert isinstance(EmbeddingActions(clustered, 1, "l2", N).search, ExactSearch)
    with pytest.raises(DataError, match=r"of an approximate search must be one of \('cosine', 'l2'\), got 'inner"):
        EmbeddingActions(clustered, 1, "inner", N)


def test_an_environment_searches_approximately(clustered, world, catalog):
    pytest.importorskip("faiss")
    env = RecVectorEnv(4, **world, mapper="l2", approximate_above=10, observation="history")
    env.reset(seed=0)
    for _ in range(12):
        *_, infos = env.step(env.action_space.sample())
        assert (infos["items"] <= catalog.n_items).all()


def test_without_faiss_one_is_told_what_to_install(clustered, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RecgymError, match=r"must have faiss installed, got none; pip install recgym\[ann\]"):
        EmbeddingActions(clustered, 1, "l2", 100)


def test_a_query_by_itself_finds_what_it_finds_among_others():
    """The one row of a single environment goes a shorter way; near ties, equals and blocked ones come out alike."""
    draw = np.random.default_rng(5)
    items = draw.normal(size=(300, 8)).astype(np.float32)
    items[7] = items[3]
    items[9] = items[3] * np.float32(1 + 1e-7)
    search = ExactSearch(items)
    queries = np.concatenate([draw.normal(size=(40, 8)), items[[3, 7, 9]], np.zeros((1, 8))]).astype(np.float32)
    blocked = draw.random((len(queries), 300)) < 0.3
    blocked[0] = True
    for mask in (None, blocked):
        together = search.largest(queries, 1, mask)
        for row in range(0 if mask is None else 1, len(queries)):
            alone = search.largest(queries[row : row + 1], 1, None if mask is None else mask[row : row + 1])
            assert alone.items.shape == alone.scores.shape == (1, 1)
            assert alone.items[0, 0] == together.items[row, 0]
    assert search.largest(queries[:1], 1, blocked[:1]).scores[0, 0] == -np.inf  # nothing is allowed
