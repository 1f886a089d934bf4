import json

import numpy as np
import pytest
import torch

from recgym.datasets.synthetic import synthetic
from recgym.embeddings import dssm, load_vectors, save_vectors
from recgym.embeddings.towers import Options, Tower, dssm_loss, fit_towers
from recgym.errors import DataError
from recgym.log import InteractionLog

QUICK = {"dim": 16, "n_epochs": 10, "batch_size": 256, "lr": 3e-3}


@pytest.fixture(scope="module")
def log():
    return synthetic(n_users=400, n_items=120)


def options(**more):
    plain = {"dim": 4, "loss": "cosine", "n_negatives": 2, "n_epochs": 1, "batch_size": 8, "lr": 1e-3}
    plain |= {"margin": 0.0, "sharpness": 10.0, "unknown": 0.1, "seed": 0, "device": "cpu"}
    return Options(**plain | more)


def area(users, items, log, n=4000):
    """Returns how often a consumed item of a user lies nearer than one that is not (the area under the ROC curve)."""
    random = np.random.default_rng(1)
    events = random.integers(log.n_events, size=n)
    who, positive = log.event_users()[events], log.items[events]
    negative = random.integers(log.n_items, size=n)
    fair = np.array([item not in log.user(user).items for user, item in zip(who, negative, strict=True)])
    near = (users[who] * (items[positive] - items[negative])).sum(axis=1)[fair]
    return (near > 0).mean()


def test_losses_by_hand():
    cosine = torch.tensor([[0.5, -0.25], [0.75, -0.5], [0.125, 0.25]])  # consumed; two drawn
    assert dssm_loss(cosine, options()).item() == pytest.approx((0.5 + 1.25) / 2 + (0.75 + 0 + 0.125 + 0.25) / 4)
    assert dssm_loss(cosine, options(margin=0.2)).item() == pytest.approx(0.875 + (0.55 + 0 + 0 + 0.05) / 4)
    sigmoid = 1 / (1 + np.exp(-2.0 * cosine.double().numpy()))
    expected = -np.log(sigmoid[0]).mean() - np.log(1 - sigmoid[1:]).mean()
    assert dssm_loss(cosine, options(loss="bce", sharpness=2.0)).item() == pytest.approx(expected, rel=1e-5)


def test_a_device_is_named_as_for_agents(log):
    assert dssm(log, dim=4, n_epochs=1, device="auto").table.shape == (121, 4)
    with pytest.raises(DataError, match=r'device must be one that is here, got \'gpu\' \(.*\); use "cpu" or "auto"'):
        dssm(log, dim=4, n_epochs=1, device="gpu")


@pytest.mark.parametrize("loss", ["cosine", "bce"])
def test_users_lie_near_what_they_consumed(loss, log, tmp_path):
    catalog = dssm(log, loss=loss, folder=tmp_path, **QUICK)
    users, items = np.load(tmp_path / "users.npy"), np.load(tmp_path / "items.npy")
    np.testing.assert_allclose(catalog.embeddings * catalog.scale, items, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1.0, atol=1e-5)
    counts = np.bincount(log.items, minlength=log.n_items)[:, None]
    popularity = area(np.ones((log.n_users, 1)), counts, log)
    assert popularity > 0.6  # chance: 0.5
    assert area(users, items, log) > popularity + 0.05  # though lengths tell nothing of it


def test_what_is_written_comes_back(log, tmp_path):
    catalog = dssm(log, dim=4, n_epochs=1, folder=tmp_path)
    for name, ids in (("items", log.item_ids), ("users", log.user_ids)):  # bound to their vectors by a hash
        assert json.loads((tmp_path / f"{name}.json").read_text())["item_ids"] == ids.tolist()
    shuffled = log.select_items(np.arange(log.n_items)[::-1])
    read, _ = load_vectors(tmp_path / "items.npy", shuffled)
    assert read.item_ids.tolist() == log.item_ids.tolist()[::-1]
    np.testing.assert_allclose(read.embeddings[::-1], catalog.embeddings, atol=1e-6)


def test_negatives_exclude_what_the_user_consumed(monkeypatch, log):
    seen = []
    from recgym.embeddings import towers as module

    plain = module.Unconsumed.items

    def watched(self, users, uniforms):
        items = plain(self, users, uniforms)
        seen.append((users, items))
        return items

    monkeypatch.setattr(module.Unconsumed, "items", watched)
    dssm(log, dim=4, n_epochs=1, n_negatives=2)
    users, items = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*seen, strict=True))
    assert len(users) > 1000
    taken = {*zip(log.event_users().tolist(), log.items.tolist(), strict=True)}
    assert not taken & {*zip(users.tolist(), items.tolist(), strict=True)}


def test_the_same_on_every_call_and_another_with_another_seed(log):
    torch.manual_seed(3)
    stream = torch.get_rng_state()
    first, again, other = (dssm(log, dim=4, n_epochs=1, seed=seed).embeddings for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert torch.equal(stream, torch.get_rng_state())  # nobody else's numbers change


def test_loss_falls(log):
    none = np.zeros((log.n_users, 0)), np.zeros((log.n_items, 0))
    told = []
    towers = fit_towers(log, *none, options(n_epochs=3, batch_size=256), told.append)
    assert towers.losses == told and told[2] < told[0]


# -- features ----------------------------------------------------------------------------------------------------------


def test_new_items_get_vectors_by_their_features(log):
    """Items left out of training find, by their genres alone, the company they keep."""
    held = np.arange(0, 120, 6)
    train = log.select_events(~np.isin(log.items, held), drop_empty=False)
    known = train.select_items(np.setdiff1d(np.arange(120), held))
    catalog = dssm(known, features=["genres"], unknown=0.3, **QUICK)
    new = {name: column[held] for name, column in log.item_features.items()}
    longer = catalog.extend(log.item_ids[held], features=new)
    assert longer.n_items == 120 and (longer.table[:100] == catalog.table[:100]).all()
    genres = longer.features["genres"].astype(float)
    alike = longer.embeddings[100:] @ longer.embeddings[:100].T
    nearest = np.argsort(-alike, axis=1)[:, :5]
    shared = (genres[100:, None] * genres[nearest]).sum(axis=2).mean()
    by_chance = (genres[100:, None] * genres[None, :100]).sum(axis=2).mean()
    assert shared > 1.5 * by_chance


def test_indices_are_hidden_in_training_where_there_are_features(log, monkeypatch):
    asked = {}
    plain = Tower.forward

    def watched(self, index, features):
        if self.training:
            asked.setdefault(self.known.num_embeddings - 1, []).append(index)
        return plain(self, index, features)

    monkeypatch.setattr(Tower, "forward", watched)
    genres = log.item_features["genres"].astype(float)
    fit_towers(log, np.zeros((log.n_users, 0)), genres, options(unknown=0.3, batch_size=512))
    share = {n: (torch.cat(index) == n).float().mean().item() for n, index in asked.items()}
    assert share[log.n_users] == 0.0 and share[log.n_items] == pytest.approx(0.3, abs=0.02)


def test_items_without_events(log):
    part = log.select_events(log.items != 7)
    assert np.flatnonzero(~dssm(part, dim=4, n_epochs=1).embeddings.any(axis=1)).tolist() == [7]  # nothing is known
    catalog = dssm(part, dim=4, n_epochs=1, features=True)
    assert catalog.embeddings[7].any()  # but its features
    again = catalog.extend(["x"], features={name: column[7:8] for name, column in catalog.features.items()})
    np.testing.assert_allclose(again.embeddings[-1], catalog.embeddings[7], atol=1e-6)


def test_a_tower_knows_nothing_of_the_last_index():
    tower = Tower(3, 2, 4).eval()
    features = torch.randn(2, 2)
    known, unknown = tower(torch.tensor([0, 1]), features), tower(torch.tensor([3, 3]), features)
    assert not torch.allclose(known, unknown)
    assert not tower.known.weight[3].any()
    torch.testing.assert_close(known.norm(dim=1), torch.ones(2))


# -- what is wrong is said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"loss": "hinge"}, r"loss must be one of \('cosine', 'bce'\), got 'hinge'"),
        ({"n_negatives": 0}, "n_negatives must be an integer of at least 1, got 0"),
        ({"unknown": 1.0}, r"unknown must lie in 0\.\.1, 1 excluded, got 1\.0"),
        ({"features": ["era"]}, r"features must be some of \['genre', 'genres'\], got \['era'\]"),
    ],
)
def test_bad_options(more, match, log):
    with pytest.raises(DataError, match=match):
        dssm(log, **more)


def test_users_who_consumed_everything_teach_nothing():
    log = InteractionLog.from_events([1, 1, 2, 2], ["a", "b", "a", "b"], np.ones(4))
    with pytest.raises(DataError, match=r"two events must be of users who lack some item, got 0 of 4; give a larger"):
        dssm(log, dim=2)
    log = InteractionLog.from_events([1, 1, 1, 2, 3], ["a", "b", "c", "a", "b"], np.ones(5))
    assert dssm(log, dim=2, n_epochs=2).n_items == 3


@pytest.mark.parametrize("name", ["v.npy", "v.safetensors"])
@pytest.mark.parametrize("ids", [[10, 20, 30], ["a", "b", "c"], [("a", 1), 7, "7"]], ids=["numbers", "text", "mixed"])
def test_vectors_with_their_ids(name, ids, tmp_path):
    log = InteractionLog.from_events([1, 1, 2], ids, np.ones(3), item_ids=[ids[2], ids[0], ids[1]])
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]], dtype=np.float32)
    save_vectors(tmp_path / name, ids, vectors)
    catalog, _ = load_vectors(tmp_path / name, log)
    assert catalog.item_ids.tolist() == [ids[2], ids[0], ids[1]]
    np.testing.assert_allclose(catalog.embeddings * catalog.scale, vectors[[2, 0, 1]], atol=1e-7)


def test_vectors_of_another_ending_or_shape(tmp_path):
    with pytest.raises(DataError, match=r"written as \.npy or \.safetensors, got 'v\.pkl'"):
        save_vectors(tmp_path / "v.pkl", [1], np.ones((1, 2)))
    with pytest.raises(DataError, match=r"embeddings must have shape \(2, d\), one row per id, got \(1, 2\)"):
        save_vectors(tmp_path / "v.npy", [1, 2], np.ones((1, 2)))
    assert not list(tmp_path.iterdir())
