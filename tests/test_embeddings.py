import doctest
import json
import os
import pickle
import sys

import gymnasium
import numpy as np
import pytest
import torch
from conftest import make_log
from safetensors.numpy import save_file

import recgym.embeddings
from recgym.datasets.synthetic import synthetic
from recgym.embeddings import als, krylov, load_vectors, save_vectors, svd
from recgym.embeddings.matrix import interactions
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog


@pytest.fixture(scope="module")
def log():
    return synthetic(n_users=400, n_items=150)


@pytest.mark.parametrize("name", ["svd", "als", "vectors", "matrix", "features", "text", "dssm"])
def test_doctests(name):
    module = sys.modules[f"recgym.embeddings.{name}"]
    assert doctest.testmod(module, extraglobs={"InteractionLog": InteractionLog, "np": np}).failed == 0


def test_names_are_functions():
    assert recgym.embeddings.svd is svd and callable(recgym.embeddings.als) and callable(recgym.embeddings.load_vectors)


def neighbours_share_genres(catalog, log):
    """Returns how often an item's nearest other item has a genre in common with it."""
    vectors = catalog.embeddings / np.maximum(np.linalg.norm(catalog.embeddings, axis=1, keepdims=True), 1e-9)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    genres = log.item_features["genres"]
    return (genres & genres[alike.argmax(axis=1)]).any(axis=1).mean()


@pytest.mark.parametrize("fit", [svd, als])
@pytest.mark.parametrize("dim", [16, 32])
def test_fitted_vectors(fit, dim, log):
    catalog, again = fit(log, dim), fit(log, dim)
    assert catalog.embeddings.shape == (150, dim) and (catalog.embeddings == again.embeddings).all()
    assert (catalog.item_ids == log.item_ids).all() and catalog.reward == "scaled"
    assert (catalog.titles == log.titles).all() and catalog.features.keys() == log.item_features.keys()
    assert np.isclose(np.linalg.norm(catalog.embeddings, axis=1).max(), 1.0)
    counts = np.bincount(log.items, minlength=150)
    norms = np.linalg.norm(catalog.embeddings, axis=1)
    assert np.corrcoef(norms, np.log(counts + 1))[0, 1] > 0.25  # inner products know of popularity
    by_chance = (log.item_features["genres"] @ log.item_features["genres"].T).mean()
    assert neighbours_share_genres(catalog, log) > 2.5 * by_chance


@pytest.mark.parametrize("fit", [svd, als])
def test_normalised_vectors_have_length_one(fit, log):
    catalog = fit(log.select_events(log.items != 3), 16, normalise=True)
    norms = np.linalg.norm(catalog.embeddings, axis=1)
    assert np.allclose(np.delete(norms, 3), 1.0, atol=1e-6)


@pytest.mark.parametrize("dim", [10, 60, 75, 76, 120])  # sparse solver up to half the smaller side, dense above
@pytest.mark.parametrize("users", [400, 120])
def test_svd_equals_numpys(dim, users, log):
    part = log.select_users(np.arange(users))
    matrix = interactions(part).toarray()
    damped = matrix / np.maximum((matrix > 0).sum(axis=0), 1) ** 0.3
    values, right = np.linalg.svd(damped, full_matrices=False)[1:]
    expected = right[:dim].T * values[:dim] ** 0.5
    expected /= np.linalg.norm(expected, axis=1).max()
    found = svd(part, dim, power=0.5).embeddings
    assert np.allclose(found @ found.T, expected @ expected.T, atol=2e-5)
    assert (found[np.abs(found).argmax(axis=0), np.arange(dim)] > 0).all()


@pytest.mark.parametrize("repeats", [False, True])
def test_the_decomposition_of_large_logs_is_numpys_and_sums_do_not_depend_on_cores(repeats, log, monkeypatch):
    users, items = log.event_users(), log.items
    if repeats:
        users, items = np.append(users, users[::3]), np.append(items, items[::3])
    log = InteractionLog.from_events(users, items, np.ones(len(users)), item_ids=np.arange(150))
    monkeypatch.setattr(krylov, "_CHUNK", 500)
    matrix = krylov.Damped(log, 0.3)
    dense = interactions(log).toarray()
    dense = dense / np.maximum((dense > 0).sum(axis=0), 1) ** 0.3
    values, right = np.linalg.svd(dense, full_matrices=False)[1:]
    found, vectors = krylov.largest(matrix, 16)
    assert found == pytest.approx(values[:16], rel=1e-4) and np.abs(vectors.T @ vectors - np.eye(16)).max() < 1e-5
    cosines = np.linalg.svd(right[:16] @ vectors, compute_uv=False)
    assert np.degrees(np.arccos(np.minimum(cosines.min(), 1.0))) < 1.0
    images = matrix.gram(vectors)
    assert np.allclose(images, dense.T @ (dense @ vectors), rtol=1e-4, atol=1e-4 * values[0])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert (krylov.Damped(log, 0.3).gram(vectors) == images).all()  # to the bit


def test_large_logs_get_the_same_vectors_by_another_way(log, monkeypatch):
    small = svd(log, 16).embeddings
    monkeypatch.setattr(sys.modules["recgym.embeddings.svd"], "_LARGE", 1)
    large = svd(log, 16).embeddings
    assert not (large == small).all() and np.abs(large @ large.T - small @ small.T).max() < 1e-3
    assert np.abs(svd(log, 60).embeddings - svd(log, 60).embeddings).max() == 0  # a fifth is 30: the dense way


def test_svd_without_damping_and_power_one_rebuilds_the_matrix(log):
    found = svd(log, 150, damping=0.0, power=1.0)
    vectors = found.embeddings * found.scale
    gram = (interactions(log).T @ interactions(log)).toarray()
    assert np.allclose(vectors @ vectors.T / np.trace(vectors @ vectors.T), gram / np.trace(gram), atol=1e-6)


def test_als_solves_its_equation():
    """Given the users it ends with, no other item factors do better: the gradient vanishes."""
    module = sys.modules["recgym.embeddings.als"]
    log = synthetic(n_users=60, n_items=40)
    extra = (5.0 * interactions(log)).astype(np.float32)
    other = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    found = np.zeros((60, 6), dtype=np.float32)
    for _ in range(30):
        found = module._solved(extra, other, found, penalty=2.0)
    dense = extra.toarray().astype(np.float64)
    for user in range(60):
        left = other.T @ (other * (1 + dense[user])[:, None]) + 2.0 * np.eye(6)
        exact = np.linalg.solve(left, other.T @ ((1 + dense[user]) * (dense[user] > 0)))
        assert np.allclose(found[user], exact, atol=1e-4)


def test_repeated_events_are_damped():
    log = InteractionLog.from_events([1, 1, 1, 2], ["a", "a", "b", "a"], np.ones(4))
    assert np.allclose(interactions(log).toarray(), [[1 + np.log(2), 1], [1, 0]])


@pytest.mark.parametrize("fit", [svd, als])
@pytest.mark.parametrize("normalise", [False, True])
def test_items_without_events_have_zero_vectors(fit, normalise, log):
    embeddings = fit(log.select_events(log.items != 7), 16, normalise=normalise).embeddings
    assert np.flatnonzero(~embeddings.any(axis=1)).tolist() == [7]


def test_svd_reads_no_reward(log):
    flipped = InteractionLog(log.items, -log.rewards, log.offsets, log.user_ids, log.item_ids)
    assert (svd(flipped, 16).embeddings == svd(log, 16).embeddings).all()


@pytest.mark.parametrize("fit", [svd, als])
@pytest.mark.parametrize("dim", [0, 151, "8", 8.0, True])
def test_bad_dim(fit, dim, log):
    match = f"dim must lie between 1 and 150, the smaller of 400 users and 150 items, got {dim!r}; pass dim=150 or less"
    with pytest.raises(DataError, match=match):
        fit(log, dim)


# -- vectors made elsewhere --------------------------------------------------------------------------------------------


@pytest.fixture
def small():
    return InteractionLog.from_events(
        [1, 1, 2, 2, 3],
        [30, 10, 20, 10, 40],
        [1.0, 0.5, -0.5, 1.0, 0.2],
        item_ids=[10, 20, 30, 40],
        titles={10: "ten", 40: "forty"},
    )


VECTORS = {10: [1.0, 0.0], 20: [0.0, 1.0], 30: [0.5, 0.5], 40: [-1.0, 0.0]}


def written(folder, kind):
    ids, rows = np.array([40, 10, 30, 20]), np.array([VECTORS[i] for i in (40, 10, 30, 20)], dtype=np.float32)
    path = folder / f"vectors.{kind.removesuffix('-text')}"
    if kind == "dict":
        return {int(one): row for one, row in zip(ids, rows, strict=True)}
    if kind == "array":
        return np.array(list(VECTORS.values()))
    if kind == "tensors":
        return {int(one): torch.tensor(row, requires_grad=True) for one, row in zip(ids, rows, strict=True)}
    if kind == "npy":
        np.save(path, np.array(list(VECTORS.values())))
    elif kind == "npz":
        np.savez(path, embeddings=rows, item_ids=ids)
    elif kind == "safetensors":
        save_file({"embeddings": rows, "item_ids": ids}, path)
    elif kind == "safetensors-text":
        save_file({"embeddings": rows}, path, metadata={"item_ids": "[40, 10, 30, 20]"})
    elif kind == "pkl":
        path.write_bytes(pickle.dumps({int(one): torch.tensor(row) for one, row in zip(ids, rows, strict=True)}))
    return path


KINDS = ["dict", "array", "tensors", "npy", "npz", "safetensors", "safetensors-text", "pkl"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_catalog(kind, small, tmp_path):
    catalog, log = load_vectors(written(tmp_path, kind), small, allow_pickle=kind == "pkl")
    assert catalog.item_ids.tolist() == log.item_ids.tolist() == [10, 20, 30, 40]
    assert catalog.embeddings.tolist() == list(VECTORS.values())
    assert catalog.title(3) == "forty" and log is small


def test_pickle_needs_leave_by_name(small, tmp_path):
    with pytest.raises(
        DataError, match=r"a pickle can run any code when opened, got 'vectors\.pkl'; .*allow_pickle=True"
    ):
        load_vectors(written(tmp_path, "pkl"), small)


def test_item_without_vector_is_an_error_r10(small):
    """Source defect R10: a rated item without an embedding became NaN, and the first batch died of it."""
    match = (
        r"every item of the log must have a vector, got 2 of 4 items without one, e\.g\. \[10, 40\] \(3 of 5 events\); "
        r"the vectors have ids like \[30, 20\]"
    )
    with pytest.raises(DataError, match=match):
        load_vectors({30: [1.0], 20: [2.0]}, small)


def test_ids_of_another_kind_match_nothing(small):
    with pytest.raises(
        DataError, match=r"got 4 of 4 items without one.*the vectors have ids like \['10', '20', '30'\]"
    ):
        load_vectors({str(one): vector for one, vector in VECTORS.items()}, small, missing="drop")


def test_missing_drop(small):
    with pytest.warns(UserWarning, match=r"2 of 4 items without one, e\.g\. \[10, 40\] \(3 of 5 events\): drop"):
        catalog, log = load_vectors({30: [1.0, 0.0], 20: [0.0, 1.0]}, small, missing="drop")
    assert catalog.item_ids.tolist() == log.item_ids.tolist() == [20, 30]
    assert catalog.embeddings.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert log.user_ids.tolist() == [1, 2] and log.items.tolist() == [1, 0] and log.rewards.tolist() == [1.0, -0.5]
    assert small.n_items == 4 and small.n_events == 5  # what was given stays


def test_missing_mean(small):
    with pytest.warns(UserWarning, match="give them the mean vector"):
        catalog, log = load_vectors({30: [1.0, 0.0], 20: [0.0, 1.0]}, small, missing="mean")
    assert catalog.embeddings.tolist() == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]] and log is small


@pytest.mark.parametrize("unrated", ["drop", "keep"])
def test_vectors_without_ratings(small, unrated):
    more = {**VECTORS, 50: [0.0, -1.0], 60: [0.25, 0.0]}
    with pytest.warns(UserWarning, match=rf"2 of 6 vectors belong to no item of the log, e\.g\. \[50, 60\]: {unrated}"):
        catalog, log = load_vectors(more, small, unrated=unrated)
    kept = [10, 20, 30, 40] if unrated == "drop" else [10, 20, 30, 40, 50, 60]
    assert catalog.item_ids.tolist() == log.item_ids.tolist() == kept and log.n_items == catalog.n_items
    assert catalog.embeddings.tolist() == [more[item_id] for item_id in kept]
    assert [catalog.title(item) for item in range(4)] == ["ten", "20", "30", "forty"]
    assert log.items.tolist() == small.items.tolist()


def test_kept_vectors_get_empty_features():
    log = synthetic(n_users=20, n_items=40)
    vectors = {item_id: [1.0, 2.0] for item_id in [*log.item_ids.tolist(), 5]}
    with pytest.warns(UserWarning, match="1 of 41 vectors"):
        catalog, log = load_vectors(vectors, log, unrated="keep")
    assert catalog.features["genres"].shape == (41, 16) and not catalog.features["genres"][40].any()
    assert catalog.title(40) == "5"


def test_half_precision_tensors(small):
    vectors = {one: torch.tensor(vector, dtype=torch.bfloat16) for one, vector in VECTORS.items()}
    assert load_vectors(vectors, small)[0].embeddings.tolist() == list(VECTORS.values())


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        ({10: [1.0], 20: [1.0, 2.0]}, {}, r"all vectors must have one shape \(d,\), got \[\(1,\), \(2,\)\]"),
        ({10: 1.0}, {}, r"all vectors must have one shape \(d,\), got \[\(\)\]"),
        ({}, {}, r"all vectors must have one shape \(d,\), got \[\]"),
        ({**VECTORS, 10: [np.nan, 0]}, {}, r"every item vector must be finite, got NaN or infinity in 1 of 4"),
        (
            np.ones((3, 2)),
            {},
            r"vectors without ids must have shape \(4, d\), one row per item of the log, got \(3, 2\)",
        ),
        (VECTORS, {"missing": "skip"}, r"missing must be one of .* got missing='skip', unrated='drop'"),
        (VECTORS, {"unrated": "error"}, "got missing='error', unrated='error'"),
    ],
)
def test_bad_sources(source, options, match, small):
    with pytest.raises(DataError, match=match):
        load_vectors(source, small, **options)


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "pkl"])
def test_damaged_files(suffix, small, tmp_path):
    path = tmp_path / f"vectors.{suffix}"
    path.write_bytes(b"not what it says")
    with pytest.raises(DataError, match=rf"vectors\.{suffix} must be a readable (pickle|file of vectors), got \w+"):
        load_vectors(path, small, allow_pickle=True)


def test_files_that_hold_something_else(small, tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(DataError, match=r"other\.npz must be a readable file of vectors, got KeyError"):
        load_vectors(tmp_path / "other.npz", small)
    np.savez(tmp_path / "short.npz", embeddings=np.ones((2, 3)), item_ids=[1, 2, 3])
    with pytest.raises(DataError, match=r"embeddings must have shape \(3, d\), one row per id, got \(2, 3\)"):
        load_vectors(tmp_path / "short.npz", small)
    np.savez(tmp_path / "twice.npz", embeddings=np.ones((3, 3)), item_ids=[1, 2, 1])
    with pytest.raises(DataError, match="vector ids must be unique, got 1 that stand twice"):
        load_vectors(tmp_path / "twice.npz", small)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy must be a readable file of vectors, got ValueError"):
        load_vectors(tmp_path / "objects.npy", small)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"list\.pkl must hold a dict of item id to vector, got list"):
        load_vectors(tmp_path / "list.pkl", small, allow_pickle=True)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"a file of vectors must end in one of \.npy, .* got 'table\.csv'"):
        load_vectors(tmp_path / "table.csv", small)
    with pytest.raises(MissingDataError, match=r"none\.npy must be a file of item vectors, got no such file"):
        load_vectors(tmp_path / "none.npy", small)


@pytest.mark.parametrize("fit", [svd, als], ids=["svd", "als"])
def test_fitting_leaves_a_log_with_repeats_as_it_was(fit):
    log = InteractionLog.from_events([0, 0, 0, 1, 1, 1], [5, 5, 3, 3, 3, 4], [1.0] * 6, [1, 2, 3, 4, 5, 6])
    before = log.items.copy(), log.offsets.copy()
    fit(log, dim=2)
    assert (log.items == before[0]).all() and (log.offsets == before[1]).all()


def test_ids_and_vectors_are_one_or_refused(tmp_path, monkeypatch):
    """A crash between the two files, at any of their renames, leaves the old pair or the new one."""
    log = make_log()
    path, ids = tmp_path / "v.npy", log.item_ids
    old, new = np.arange(80, dtype=np.float32).reshape(40, 2) + 1, -np.arange(80, dtype=np.float32).reshape(40, 2) - 1

    def loaded():
        catalog, _ = load_vectors(path, log)
        return (catalog.embeddings * catalog.scale).round().astype(np.float32)

    path.with_suffix(".json").write_text(json.dumps(ids.tolist()))  # as earlier releases wrote it
    np.save(path, old)
    np.testing.assert_array_equal(loaded(), old)
    replace, seen = os.replace, set()
    for n in range(3):
        save_vectors(path, ids, old)
        calls = iter(range(9))

        def dying(*names, calls=calls, n=n):
            if next(calls) == n:
                raise KeyboardInterrupt
            replace(*names)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", dying)
            with pytest.raises(KeyboardInterrupt):
                save_vectors(path, ids[::-1], new[::-1])
        found = loaded()
        seen.add(bool((found == old).all()))
        assert (found == old).all() or (found == new).all()
    assert seen == {True, False}
    other = tmp_path / "other.npy"
    save_vectors(other, ids, old * 2)
    other.replace(path)
    with pytest.raises(DataError, match=r"vectors that are not those whose ids stand in v\.json"):
        loaded()
    save_vectors(tmp_path / "v.safetensors", ids, old)
    content = bytearray((tmp_path / "v.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "v.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="ids or vectors that are not those that were written"):
        load_vectors(tmp_path / "v.safetensors", log)


def test_vectors_of_a_small_log_are_as_wide_as_they_can_be():
    log = synthetic(n_users=30, n_items=50)
    for fit in (svd, als):
        assert fit(log).dim == 30 and fit(log, dim=4).dim == 4
    env = gymnasium.make("recgym/Synthetic-Frame-v0", n_users=30, n_items=50)
    assert env.action_space.shape == (28,)  # two of thirty are held out
