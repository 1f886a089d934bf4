import sys

import numpy as np
import pytest
import torch

from agents.ddpg import DDPG
from recgym.datasets.synthetic import synthetic
from recgym.embeddings import FeatureCode, features, text
from recgym.errors import DataError
from recgym.frames import History
from recgym.log import InteractionLog

KNOWN = {
    "genre": np.array(["War|Drama", "Comedy", "Drama", "", "Comedy|War"], dtype=object),
    "year": np.array([1990.0, 2000.0, np.nan, 1990.0, 2000.0]),
    "shop": np.array([7, 7, 9, 7, 9]),
    "audio": np.array([[0.0, 10.0], [2.0, 10.0], [0.0, 10.0], [2.0, 10.0], [1.0, 10.0]]),
    "flags": np.array([[True, False], [False, False], [True, True], [False, True], [True, False]]),
}


def log_of(known):
    n = len(next(iter(known.values())))
    return InteractionLog(
        items=np.arange(n, dtype=np.int32),
        rewards=np.ones(n, dtype=np.float32),
        offsets=np.array([0, n]),
        user_ids=np.array(["u"]),
        item_ids=np.arange(n),
        item_features=known,
    )


# -- the code ----------------------------------------------------------------------------------------------------------


def test_each_kind_of_feature_by_hand():
    found = FeatureCode.fit(KNOWN, categorical=["shop"]).vectors(KNOWN)
    half = np.sqrt(0.5)
    genre = [[0, half, half], [1, 0, 0], [0, 1, 0], [0, 0, 0], [half, 0, half]]  # Comedy, Drama, War
    year = [[-1], [1], [0], [-1], [1]]  # mean 1995, spread 5, the unknown one in the middle
    shop = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 1]]
    spread = np.sqrt(0.8)  # of 0, 2, 0, 2, 1; the other number is always 10 and says nothing
    audio = [[-1 / spread, 0], [1 / spread, 0], [-1 / spread, 0], [1 / spread, 0], [0, 0]]
    flags = [[1, 0], [0, 0], [half, half], [0, 1], [1, 0]]
    expected = np.concatenate([genre, year, shop, np.array(audio) * half, flags], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_statistics_are_learned_once_and_used_for_new_items():
    code = FeatureCode.fit(KNOWN, ["genre", "year"])
    new = {"genre": np.array(["Comedy|Noir", "Noir", "Zebra"]), "year": np.array([2010.0, np.nan, 1995.0])}
    np.testing.assert_allclose(code.vectors(new), [[1, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    alone = code.vectors({name: column[:1] for name, column in new.items()})
    assert (alone == code.vectors(new)[:1]).all()  # nothing is learned from the items asked about


def test_numbers_are_no_labels_unless_said():
    assert FeatureCode.fit(KNOWN, ["shop"]).vectors(KNOWN).shape == (5, 1)
    assert FeatureCode.fit(KNOWN, ["shop"], categorical=["shop"]).vectors(KNOWN).shape == (5, 2)


def test_labels_beyond_the_most_frequent_have_no_flag():
    code = FeatureCode.fit(KNOWN, ["genre"], max_labels=2)
    assert code.columns["genre"].labels == ("Comedy", "Drama")  # all stand twice: by name
    assert FeatureCode.fit(KNOWN, ["genre"], separator=None).columns["genre"].width == 4


def test_principal_directions_keep_what_varies():
    code = FeatureCode.fit(KNOWN, categorical=["shop"])
    turned = FeatureCode.fit(KNOWN, categorical=["shop"], dim=4)
    plain, found = code.vectors(KNOWN), turned.vectors(KNOWN)
    assert found.shape == (5, 4)
    centred = plain - plain.mean(axis=0)  # five items vary in at most four directions: nothing is lost
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-5)
    assert (np.diff(found.var(axis=0)) <= 1e-6).all()  # most first


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: FeatureCode.fit(KNOWN, ["genre", "era"]), r"must be some of \['audio', .*\], got \['genre', 'era'\]"),
        (lambda: FeatureCode.fit({}), r"features must be some of \[\], got none"),
        (lambda: FeatureCode.fit(KNOWN, ["year"], categorical=["era"]), "features must be some of"),
        (lambda: FeatureCode.fit(KNOWN, dim=6), "dim must lie between 1 and 5, .* got 6"),
        (lambda: FeatureCode.fit(KNOWN).vectors({"year": [1.0]}), "got none named genre, shop, audio, flags; give"),
        (lambda: FeatureCode.fit(KNOWN, ["audio"]).vectors({"audio": [1.0]}), r"'audio' must be 2 numbers an item"),
        (
            lambda: FeatureCode.fit(KNOWN, ["year"]).vectors({"year": ["x"]}),
            r"'year' must be 1 numbers an item, got <U1",
        ),
        (lambda: FeatureCode.fit(KNOWN, ["flags"]).vectors({"flags": np.ones((1, 3))}), "'flags' must have 2 flags"),
        (
            lambda: FeatureCode.fit(KNOWN, ["year", "shop"]).vectors({"year": [1.0], "shop": [1, 2]}),
            r"as long as each other, got \[1, 2\]",
        ),
    ],
)
def test_what_is_wrong_is_said(make, match):
    with pytest.raises(DataError, match=match):
        make()


# -- the catalog -------------------------------------------------------------------------------------------------------


def test_the_catalog_of_features_and_an_item_that_is_new():
    catalog = features(log_of(KNOWN), categorical=["shop"])
    code = FeatureCode.fit(KNOWN, categorical=["shop"])
    np.testing.assert_allclose(catalog.embeddings * catalog.scale, code.vectors(KNOWN), atol=1e-6)
    twin = {name: column[1:2] for name, column in KNOWN.items()}
    longer = catalog.extend(["new"], features=twin)
    np.testing.assert_allclose(longer.embeddings[5], longer.embeddings[1], rtol=1e-6)  # like features, like vectors
    assert (longer.table[:5] == catalog.table[:5]).all() and not longer.table[6].any()
    assert longer.extend(["newer"], features=twin).n_items == 7  # it still knows how


def test_normalised_vectors_of_old_and_new_items():
    catalog = features(log_of(KNOWN), ["genre", "year"], normalise=True)
    longer = catalog.extend([9], features={name: column[4:] for name, column in KNOWN.items()})
    norms = np.linalg.norm(longer.embeddings, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def test_features_say_something_of_taste():
    log = synthetic(n_users=300, n_items=120)
    catalog = features(log, ["genres"])
    vectors = catalog.embeddings
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    genres = log.item_features["genres"]
    shared = (genres & genres[alike.argmax(axis=1)]).any(axis=1).mean()
    assert shared > 0.95


def test_an_agent_goes_on_with_items_it_has_never_met():
    log = synthetic(n_users=60, n_items=50)
    catalog = features(log, dim=12)
    old = DDPG(catalog, frame_size=3, device="cpu", hidden=16)
    twin = {name: column[7:8] for name, column in catalog.features.items()}
    longer = catalog.extend(["new"], features=twin)
    scale = float(np.mean(np.square(catalog.embeddings))) ** -0.5  # what its networks know vectors by
    new = DDPG(longer, frame_size=3, device="cpu", hidden=16, nets=old.nets, input_scale=scale)
    items, rewards = np.array([[1, 2, 3], [50, 4, 7]]), np.array([[0.5, 1.0, 1.0], [0.0, 1.0, 0.4]], dtype=np.float32)
    length = np.array([3, 2])
    before = old.scores(History(items, rewards, length))
    after = new.scores(History(np.where(items == 50, 51, items), rewards, length))
    torch.testing.assert_close(after[:, :50], before)
    torch.testing.assert_close(after[:, 50], before[:, 7])


# -- text --------------------------------------------------------------------------------------------------------------


class Lengths:
    """A model of sentences that needs no network."""

    def encode(self, texts, batch_size=2):
        parts = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
        return torch.tensor([[len(one), one.count("a")] for part in parts for one in part], dtype=torch.bfloat16)


def test_text_by_an_object_or_a_function():
    model = Lengths()
    assert text(np.array(["banana", "fig", 7], dtype=object), model).tolist() == [[6, 3], [3, 0], [1, 0]]
    assert text(["banana"], model.encode, batch_size=1).tolist() == [[6, 3]]


def test_text_vectors_of_new_items():
    log = InteractionLog.from_events([1, 1], ["b", "f"], [1.0, 1.0], titles={"b": "banana", "f": "fig"})
    from recgym.embeddings import load_vectors

    catalog, _ = load_vectors(text(log.titles, Lengths()), log)
    longer = catalog.extend(["k"], text(["kaki"], Lengths()), titles=["kaki"])
    np.testing.assert_allclose(longer.embeddings[2] * longer.scale, [4, 1], atol=1e-6)


def test_a_named_model_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r'text vectors of a named model need.*pip install "recgym\[text\]"'):
        text(["a"])


def test_a_named_model_is_asked_for_by_its_name(monkeypatch):
    class Library:
        @staticmethod
        def SentenceTransformer(name):
            return Lengths() if name == "tiny" else None

    monkeypatch.setitem(sys.modules, "sentence_transformers", Library)
    assert text(["aa"], "tiny").tolist() == [[2, 2]]


@pytest.mark.parametrize("wrong", [lambda texts: [1.0], lambda texts: [[np.nan]], lambda texts: [[1.0], [2.0]]])
def test_a_model_that_returns_something_else(wrong):
    with pytest.raises(DataError, match=r"must return one finite vector per text, \(1, d\), got"):
        text(["a"], wrong)


@pytest.mark.parametrize("known", [[1, 2, 1], [1.0, 2.0, np.nan], [True, False, True], np.array([1, 2, 1], np.int8)])
@pytest.mark.parametrize("new", [1, 1.0, True, np.float32(1), "1"])
def test_one_category_has_one_name_however_it_is_written(known, new):
    code = FeatureCode.fit({"cat": np.array(known)}, categorical=["cat"])
    own = code.vectors({"cat": np.array(known)})
    np.testing.assert_array_equal(code.vectors({"cat": np.array([new])})[0], own[0])
    assert np.abs(own[0]).sum() > 0
    assert code.vectors({"cat": [None]}).sum() == 0  # what is missing is no name
