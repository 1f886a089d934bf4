"""A saved agent needs nothing else: folders, rankers, other catalogs, and folders that are not what they say."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

import agents
from agents import checkpoint
from agents.training.train import fit
from recgym.batches import FrameBatches, histories
from recgym.catalog import Catalog
from recgym.errors import DataError, StoreError
from recgym.ids import as_ids
from recgym.storage.manifests import file_hash, sealed

AGENTS = {
    "DDPG": {},
    "BCQ": {"mapper": "cosine"},
    "SequenceModel": {"item_vectors": "catalog", "width": 8},
    "REINFORCE": {"head": "vectors", "hidden": 8},
}


def trained(log, catalog, name, steps=3, **config):
    agent = getattr(agents, name)(catalog, frame_size=5, device="cpu", **AGENTS.get(name, {}) | config)
    batches = agent.batches(log, 8) if hasattr(agent, "batches") else FrameBatches(log, 5, 8)
    fit(agent, batches, steps)
    return agent


def asked(log, n=24):
    """Histories of 0 to 5 events."""
    return histories(log, np.arange(n) % log.n_users, np.arange(n) % 6)


def longer(catalog, n=3):
    vectors = np.random.default_rng(0).normal(size=(n, catalog.dim))
    return catalog.extend([f"new{i}" for i in range(n)], vectors, longer="shorten")


# -- whole folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_a_folder_needs_nothing_else(log, catalog, tmp_path, name):
    agent = trained(log, catalog, name)
    agents.save(agent, tmp_path / "saved")
    checkpoint.save(tmp_path / "run", 3, agent)
    for folder in ("saved", "run", "run/step-000000003"):
        loaded = agents.load(tmp_path / folder, device="cpu")
        assert torch.equal(loaded.scores(asked(log)), agent.scores(asked(log)))
        assert loaded.catalog.table.tobytes() == catalog.table.tobytes()
        assert loaded.catalog.item_ids.tolist() == catalog.item_ids.tolist()
        assert loaded.constants == agent.constants
    agents.save(loaded, tmp_path / "saved")  # replaces what recgym wrote
    assert (tmp_path / "run" / "catalog" / "manifest.json").exists()


@pytest.mark.parametrize(
    "make",
    [agents.EASE.fit, agents.ItemKNN.fit, agents.Popularity.fit, agents.RecentPopularity.fit],
    ids=lambda make: make.__self__.__name__,
)
def test_rankers_are_saved_by_the_same_verbs(log, tmp_path, make):
    agents.save(make(log), tmp_path)
    loaded = agents.load(tmp_path)
    np.testing.assert_array_equal(loaded.scores(asked(log)), make(log).scores(asked(log)))
    assert loaded.item_ids.tolist() == log.item_ids.tolist()
    assert loaded.reward == log.reward


def test_ensembles_and_streams_are_saved_too(log, catalog, tmp_path):
    both = agents.Ensemble([trained(log, catalog, "DDPG"), agents.EASE.fit(log)])
    agents.save(both, tmp_path / "both")
    assert torch.equal(agents.load(tmp_path / "both", device="cpu").scores(asked(log)), both.scores(asked(log)))
    uniform = agents.Uniform(log.item_ids, seed=3)
    uniform.scores(asked(log))
    agents.save(uniform, tmp_path / "uniform")
    np.testing.assert_array_equal(agents.load(tmp_path / "uniform").scores(asked(log)), uniform.scores(asked(log)))


@pytest.mark.parametrize("ids", [np.arange(40) * 7, [(n, "a") for n in range(40)], ["é", 3, None, *range(10, 47)]])
def test_a_catalog_comes_back_bit_for_bit(tmp_path, ids):
    vectors = np.random.default_rng(0).normal(size=(40, 3)) * 17
    features = {"year": np.arange(40), "tags": np.array([f"t{n % 3}" for n in range(40)], dtype=object)}
    made = Catalog(vectors, as_ids(ids), titles=np.array([f"T{n}" for n in range(40)]), features=features)
    loaded = Catalog.load(made.save(tmp_path / "catalog"))
    assert loaded.table.tobytes() == made.table.tobytes()
    assert loaded.item_ids.tolist() == made.item_ids.tolist()
    assert loaded.item_ids.dtype == made.item_ids.dtype
    assert (loaded.scale, loaded.reward, loaded.hash) == (made.scale, made.reward, made.hash)
    assert loaded.titles.tolist() == made.titles.tolist()
    assert {name: column.tolist() for name, column in loaded.features.items()} == {
        name: column.tolist() for name, column in features.items()
    }


# -- a growing catalog -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DDPG", "BCQ", "SequenceModel"])
def test_an_extended_catalog_moves_no_old_score(log, catalog, tmp_path, name):
    agent, grown = trained(log, catalog, name), longer(catalog)
    agents.save(agent, tmp_path / "saved")
    old = agent.scores(asked(log))
    history = asked(log)
    history = history._replace(items=np.where(history.items == 40, 43, history.items))  # padding is n_items
    for extended in (agent.extend(grown), agents.load(tmp_path / "saved", catalog=grown, device="cpu")):
        scores = extended.scores(history)
        assert torch.equal(scores[:, :40], old)
        assert scores[1:, 40:].std() > 0  # new ones are ranked by their vectors
        agents.save(extended, tmp_path / "extended")
        assert torch.equal(agents.load(tmp_path / "extended", device="cpu").scores(history), scores)
    again = extended.extend(longer(grown.extend(["one more"], [catalog.embeddings[0] * catalog.scale]), 0))
    history = history._replace(items=np.where(history.items == 43, 44, history.items))
    assert torch.equal(again.scores(history)[:, :43], scores)


def test_agents_with_a_row_per_item_refuse_to_be_extended(log, catalog, tmp_path):
    grown = longer(catalog)
    for name, config, part in (("REINFORCE", {}, "bias"), ("SequenceModel", {"item_vectors": "learned"}, "weight")):
        agent = trained(log, catalog, name, **config)
        with pytest.raises(DataError, match=rf"by their vectors alone to be extended, got {name}, whose .*{part} has"):
            agent.extend(grown)
    agents.save(agents.EASE.fit(log), tmp_path)
    with pytest.raises(StoreError, match=r"must hold an agent that can be extended, got EASE, .*fit a new one"):
        agents.load(tmp_path, catalog=grown)
    other = Catalog(np.roll(catalog.embeddings, 1, axis=0), catalog.item_ids)
    with pytest.raises(DataError, match=r"must begin with the agent's 40 items and their very vectors"):
        trained(log, catalog, "DDPG").extend(other)


# -- newcomers and users -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_an_empty_history_gets_what_is_popular(log, catalog, name):
    agent = trained(log, catalog, name)
    counts = np.bincount(log.items, minlength=log.n_items)
    scores = agent.scores(asked(log)).numpy()
    np.testing.assert_allclose(scores[0], np.log1p(counts), rtol=1e-6)
    assert not np.allclose(scores[1], scores[0])
    agent.popularity = None
    np.testing.assert_array_equal(agent.scores(asked(log)).numpy()[1:6], scores[1:6])


def test_an_agent_with_vectors_for_users_keeps_to_one_log(log, catalog, tmp_path):
    agent = trained(log, catalog, "REINFORCE", encoder="drr", n_users=4)
    assert agent.user_ids.tolist() == log.user_ids[:4].tolist()
    agents.save(agent, tmp_path)
    assert agents.load(tmp_path, device="cpu").user_ids.tolist() == agent.user_ids.tolist()
    other = log.select_users([2, 3])
    with pytest.raises(DataError, match=r"must learn from one log's, got another one"):
        fit(agent, agent.batches(other, 2), 1)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_an_older_release_needs_its_catalog(log, catalog, tmp_path):
    agent = trained(log, catalog, "DDPG")
    checkpoint.save(tmp_path / "old", 1, agent)
    shutil.rmtree(tmp_path / "old" / "catalog")
    with pytest.raises(StoreError, match=r"must have its catalog in it or in the folder of its run, got none; pass"):
        agents.load(tmp_path / "old")
    assert torch.equal(
        agents.load(tmp_path / "old", catalog=catalog, device="cpu").scores(asked(log)), agent.scores(asked(log))
    )
    with pytest.raises(StoreError, match=r"must be of this catalog, [0-9a-f]{16}, got one of [0-9a-f]{16}"):
        agents.load(tmp_path / "old", catalog=make_catalog(seed=5))


def rewritten(folder, name, change):
    """Changes a JSON file of a folder and its hash: what a folder of bad will could hold."""
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    manifest = json.loads((folder / "manifest.json").read_text())
    if name != "manifest.json":
        manifest["files"][name] = {"size": path.stat().st_size, "sha256": file_hash(path)}
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("state.json", lambda _: [1, 2]),
        ("state.json", lambda _: {"pairs": []}),
        ("manifest.json", lambda m: m | {"about": m["about"] | {"agent": "os:system"}}),
        ("manifest.json", lambda m: m | {"about": m["about"] | {"agent": "agents.base:np"}}),
        ("manifest.json", lambda m: m | {"about": m["about"] | {"agent": "agents.gone:Gone"}}),
        ("manifest.json", lambda m: m | {"about": m["about"] | {"config": {"hidden": -1}}}),
        ("manifest.json", lambda m: m | {"about": m["about"] | {"config": {"no_such": 1}}}),
        ("manifest.json", lambda m: m | {"about": {}}),
        ("catalog/items.json", lambda _: {}),
        ("catalog/items.json", lambda c: c | {"reward": "binary:4"}),
    ],
)
def test_bad_folders_are_refused_as_such(log, catalog, tmp_path, name, change):
    agents.save(trained(log, catalog, "DDPG", steps=0), tmp_path)
    if name.startswith("catalog/"):
        rewritten(tmp_path / "catalog", name.removeprefix("catalog/"), change)
        rewritten(tmp_path, "catalog/manifest.json", dict)
        change = dict
    rewritten(tmp_path, name, change)  # hashes agree all the way up: only what is in it is wrong
    with pytest.raises(StoreError, match=r"must"):
        agents.load(tmp_path, device="cpu")


def test_what_others_pickle_is_loaded_only_on_request(catalog, tmp_path):
    from stable_baselines3 import TD3

    from agents.integrations.sb3 import SB3Agent
    from recgym.envs.env import RecEnv
    from recgym.users import ReplayUsers

    env = RecEnv(users=ReplayUsers(make_log(), frame_size=5), catalog=catalog, frame_size=5)
    agent = SB3Agent(TD3("MlpPolicy", env, device="cpu", buffer_size=10, policy_kwargs={"net_arch": [8]}), catalog)
    agents.save(agent, tmp_path)
    with pytest.raises(StoreError, match=r"must be loaded with allow_pickle=True, got False; it holds Stable"):
        agents.load(tmp_path)
    loaded = agents.load(tmp_path, allow_pickle=True, device="cpu")
    assert torch.equal(loaded.scores(asked(make_log())), agent.scores(asked(make_log())))
