"""A Minari export is read back by Minari and compared value by value; its environment replays it."""

import gymnasium as gym
import numpy as np
import pytest
from test_export import F, naive_rows, played, stop_after

from recgym import export
from recgym.__main__ import main
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError, StoreError
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.export import episodes
from recgym.scorers import Popularity

minari = pytest.importorskip("minari", reason="Minari needs recgym[minari]")
pytest.importorskip("h5py", reason="Minari needs recgym[minari]")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def assert_episodes(dataset, expected, group):
    """Every episode holds the rows of one value of `group`, with the last frame at its end."""
    assert dataset.total_episodes == len(np.unique(expected[group]))
    assert dataset.total_steps == len(expected[group])
    for episode, key in zip(dataset, np.unique(expected[group]), strict=True):
        mine = {name: column[expected[group] == key] for name, column in expected.items()}
        for name, key in (("items", "item_history"), ("rewards", "reward_history")):
            whole = np.concatenate([mine[name], mine[f"next_{name}"][-1:]]).astype(episode.observations[key].dtype)
            np.testing.assert_array_equal(episode.observations[key], whole, err_msg=name)
            np.testing.assert_array_equal(episode.observations[key][1:], mine[f"next_{name}"].astype(whole.dtype))
        np.testing.assert_array_equal(episode.actions, mine["action"])
        np.testing.assert_allclose(episode.rewards, mine["reward"], atol=1e-6)
        np.testing.assert_array_equal(episode.terminations, mine["terminated"])
        np.testing.assert_array_equal(episode.truncations, mine["truncated"])
        for name in set(episode.infos) & set(mine):
            np.testing.assert_array_equal(episode.infos[name][1:], mine[name], err_msg=name)
            assert not np.any(episode.infos[name][0])
        for step in range(len(mine[group])):
            assert dataset.observation_space.contains({n: o[step] for n, o in episode.observations.items()})
            assert dataset.action_space.contains(episode.actions[step])


def assert_recovered(dataset):
    """The environment of a set replays its first episodes."""
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space and env.action_space == dataset.action_space
    users = list(dataset.storage.get_episode_metadata(range(3)))
    for episode, about in zip(dataset.iterate_episodes(range(3)), users, strict=True):
        observation, _ = env.reset(seed=0, options={"user": int(about["options"]["user"])})
        for step, action in enumerate(episode.actions):
            for name, part in observation.items():
                np.testing.assert_array_equal(part, episode.observations[name][step])
            observation, reward, terminated, truncated, _ = env.step(action)
            assert reward == episode.rewards[step]
            assert (terminated, truncated) == (episode.terminations[step], episode.truncations[step])
        assert truncated


def test_a_log_comes_back_value_by_value(log, catalog, root, monkeypatch):
    monkeypatch.setattr(episodes, "_PART", 4)
    export.to_minari(log, root, "recgym/toy/train-v0", catalog, frame_size=F)
    expected = naive_rows(log, F, F)
    expected |= {"terminated": np.zeros(len(expected["last"]), dtype=bool), "truncated": expected["last"]}
    dataset = minari.load_dataset("recgym/toy/train-v0")
    assert_episodes(dataset, expected, "user")
    options = list(dataset.storage.get_episode_metadata(range(6)))
    assert [int(episode["options"]["user"]) for episode in options] == list(range(6))
    assert [int(episode["id"]) for episode in options] == list(range(6))
    np.testing.assert_array_equal(np.load(root / "recgym/toy/train-v0/embeddings.npy"), catalog.table)
    assert list(minari.list_local_datasets()) == ["recgym/toy/train-v0"]


@pytest.mark.parametrize("k", [1, 3])
def test_a_collected_log_comes_back_value_by_value(k, world, log, root):
    options = world | {"action": "item", "observation": "history", "k": k, "autoreset_mode": "Disabled"}
    env = RecVectorEnv(4, **options)
    env.made_of = options
    logged, expected = played(env, SoftmaxPolicy(Popularity.fit(log)), 9)
    export.to_minari(logged, root, "recgym/toy/collected-v0", world["catalog"], frame_size=F)
    dataset = minari.load_dataset("recgym/toy/collected-v0")
    assert_episodes(dataset, expected, "session")
    assert {"propensity", "item_rewards", "extra_slate_propensity"} <= set(dataset[0].infos)


@pytest.mark.parametrize("more", [[], ["--min-history", "0"], ["--min-history", "4"]])
def test_the_recovered_environment_replays_the_log(more, root):
    command = ["export", "--dataset", "synthetic", "--format", "minari", "--out", str(root), "--dim", "8"]
    assert main([*command, "--split", "test", "--test-size", "0.004", *more]) == 0
    assert_recovered(minari.load_dataset("recgym/synthetic/test-v0"))


def test_decisions_that_begin_after_a_frame_have_no_environment(root):
    command = ["export", "--dataset", "synthetic", "--format", "minari", "--out", str(root), "--dim", "8"]
    assert main([*command, "--split", "test", "--test-size", "0.004", "--frame-size", "5", "--min-history", "6"]) == 0
    assert minari.load_dataset("recgym/synthetic/test-v0").env_spec is None


def test_a_relative_folder_is_as_good_as_an_absolute_one(log, root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "sets"))
    assert export.to_minari(log, "sets", "recgym/toy/api-v0", frame_size=F) == root / "sets/recgym/toy/api-v0"
    command = ["export", "--dataset", "synthetic", "--format", "minari", "--out", "sets/", "--dim", "8"]
    assert main([*command, "--split", "test", "--test-size", "0.004"]) == 0
    assert list(minari.list_local_datasets()) == ["recgym/synthetic/test-v0", "recgym/toy/api-v0"]
    assert [path.name for path in root.iterdir()] == ["sets"]


@pytest.mark.parametrize("folder, name", [("my log (2)", "my-log-2"), ("a.b-v1", "a-b-v1"), (".", "home")])
def test_a_saved_log_of_any_name_gets_an_id_that_minari_reads(folder, name, log, root, monkeypatch):
    log.save(root / "home")
    monkeypatch.chdir(root / "home")
    if folder != ".":
        log.save(folder)
    command = ["export", "--dataset", folder, "--format", "minari", "--out", str(root / "sets"), "--frame-size", "5"]
    assert main([*command, "--dim", "4"]) == 0
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "sets"))
    assert list(minari.list_local_datasets()) == [f"recgym/{name}/train-v0"]
    assert_recovered(minari.load_dataset(f"recgym/{name}/train-v0"))


def test_an_interrupted_export_goes_on(log, catalog, root, monkeypatch):
    monkeypatch.setattr(episodes, "_PART", 2)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            export.to_minari(log, root, "recgym/toy/train-v0", catalog, frame_size=F)
    assert not minari.list_local_datasets()
    with monkeypatch.context() as patched:
        asked = stop_after(patched, 10**6)
        export.to_minari(log, root, "recgym/toy/train-v0", catalog, frame_size=F)
    assert min(first for first in asked if first) >= naive_rows(log, F, F)["user"].searchsorted(4)
    whole = export.to_minari(log, root, "recgym/toy/whole-v0", catalog, frame_size=F)
    assert whole.is_dir()
    for one, other in zip(*(minari.load_dataset(f"recgym/toy/{n}-v0") for n in ("train", "whole")), strict=True):
        assert one.id == other.id
        np.testing.assert_array_equal(one.observations["item_history"], other.observations["item_history"])
        np.testing.assert_array_equal(one.rewards, other.rewards)


def test_the_size_is_predicted_to_a_fifth(log, root):
    from conftest import make_log

    for log in (make_log((35,) * 100), make_log((140,) * 50, n_items=200)):
        path = export.to_minari(log, root, "recgym/toy/size-v0")
        found = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert abs(export.predicted_size(log, "minari") - found) < 0.2 * found


@pytest.mark.parametrize("wrong", ["recgym/toy", "-v0", "7", "recgym/toy-v", "toy-v\u00b2"])
def test_an_id_without_version_is_refused(wrong, log, root):
    with pytest.raises(DataError, match=f"a Minari id must end in -v and a number, got '{wrong}'"):
        export.to_minari(log, root, wrong, frame_size=F)


@pytest.mark.parametrize("wrong", ["recgym/my log/train-v0", "../toy-v0", "recgym//toy-v0 -v1"])
def test_an_id_that_minari_cannot_read_is_refused(wrong, log, root):
    with pytest.raises(DataError, match="must have letters, digits, '-' and '_' only between its '/', got '"):
        export.to_minari(log, root / "sets", wrong, frame_size=F)
    assert not list(root.iterdir())


def test_the_spec_names_an_environment_by_id(log, root):
    env = gym.make("recgym/Synthetic-Frame-v0", n_users=60, n_items=40, dim=8, disable_env_checker=True)
    export.to_minari(log, root, "recgym/toy/spec-v0", env=env.spec, frame_size=F)
    recovered = minari.load_dataset("recgym/toy/spec-v0").recover_environment()
    assert recovered.spec.id == "recgym/Synthetic-Frame-v0"


def test_what_was_not_written_as_it_was_is_refused(log, tmp_path, monkeypatch):
    make = episodes._storage

    def lossy(*arguments):
        storage = make(*arguments)
        update = storage.update_episodes

        def wrong(made):
            made[2].rewards[1] += 1.0
            update(made)
            made[2].rewards[1] -= 1.0

        storage.update_episodes = wrong
        return storage

    monkeypatch.setattr(episodes, "_storage", lossy)
    with pytest.raises(StoreError, match="must hold what was written, got other rewards in episode 2; the disk or the"):
        export.to_minari(log, tmp_path, "recgym/toy/train-v0", frame_size=5)
    assert not (tmp_path / "recgym" / "toy" / "train-v0").exists()
