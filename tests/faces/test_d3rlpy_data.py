"""d3rlpy trains on a log through a lazy data set, whose every value is the log's."""

import doctest

import numpy as np
import pytest
import torch
from test_export import F, naive_rows

from recgym import collect, evaluate_ranking, evaluate_sessions
from recgym.batches import histories
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.policies import SoftmaxPolicy
from recgym.frames import encode_frame
from recgym.scorers import Popularity

pytest.importorskip("d3rlpy", reason="d3rlpy needs recgym[d3rlpy]")
import d3rlpy
from d3rlpy.dataset import BasicTransitionPicker, create_infinite_replay_buffer

from agents.integrations import d3rlpy as d3rlpy_data
from agents.integrations.d3rlpy import D3rlpyAgent, d3rlpy_dataset

QUIET = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}


def in_memory(log, catalog, action, end_of_log):
    """The same decisions as d3rlpy's own data set, every frame in memory."""
    naive, episodes = naive_rows(log, F, F), []
    states = encode_frame(catalog.table, naive["items"], naive["rewards"].astype(np.float32))
    for user in np.unique(naive["user"]):
        mine = naive["user"] == user
        item = naive["action"][mine]
        episodes.append(
            d3rlpy.dataset.Episode(
                states[mine],
                catalog.embeddings[item] if action == "embedding" else item[:, None].astype(np.int32),
                naive["reward"][mine][:, None].astype(np.float32),
                end_of_log == "terminal",
            )
        )
    return create_infinite_replay_buffer(episodes)


def assert_transitions(one, two):
    for name in ("observation", "action", "reward", "next_action", "terminal", "interval", "rewards_to_go"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    if not one.terminal:
        np.testing.assert_array_equal(one.next_observation, two.next_observation)


@pytest.mark.parametrize("end_of_log", ["truncate", "terminal"])
@pytest.mark.parametrize("action", ["embedding", "item"])
def test_every_transition_is_the_one_d3rlpy_would_keep(log, catalog, action, end_of_log):
    lazy = d3rlpy_dataset(log, catalog, action=action, frame_size=F, end_of_log=end_of_log)
    eager = in_memory(log, catalog, action, end_of_log)
    assert lazy.transition_count == eager.transition_count == 78 - (6 if end_of_log == "truncate" else 0)
    assert lazy.size() == eager.size() == 6
    info = lazy.dataset_info
    assert (
        info.observation_signature.shape == [(F * 13,)] and info.action_signature == eager.dataset_info.action_signature
    )
    for number in range(lazy.transition_count):
        ours, theirs = lazy.buffer[number], eager.buffer[number]
        assert_transitions(lazy.transition_picker(*ours), BasicTransitionPicker()(*theirs))
        assert ours[1] == theirs[1]
    for ours, theirs in zip(lazy.episodes, eager.episodes, strict=True):
        for name in ("observations", "actions", "rewards", "terminated", "transition_count"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        assert len(ours) == len(theirs) and ours.compute_return() == pytest.approx(theirs.compute_return(), abs=1e-5)


def test_batches_are_drawn_as_d3rlpy_draws_them(log, catalog):
    lazy, eager = d3rlpy_dataset(log, catalog, frame_size=F), in_memory(log, catalog, "embedding", "truncate")
    np.random.seed(4)  # noqa: NPY002, the stream d3rlpy seeds
    ours = lazy.sample_transition_batch(50)
    np.random.seed(4)  # noqa: NPY002
    theirs = eager.sample_transition_batch(50)
    for name in ("observations", "actions", "rewards", "next_observations", "next_actions", "terminals", "intervals"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_a_collected_log(world, log, catalog):
    env = RecVectorEnv(4, **world, action="item", observation="history")
    logged = collect(SoftmaxPolicy(Popularity.fit(log)), env, 8)
    lazy = d3rlpy_dataset(logged, catalog, frame_size=F)
    assert lazy.size() == 8
    for episode, user in zip(lazy.episodes, range(8), strict=True):
        shown = slice(logged.offsets[user], logged.offsets[user + 1])
        rewards = logged.rewards[shown][logged.extra["position"][shown] == 0]
        np.testing.assert_array_equal(episode.rewards[:, 0], rewards)
        np.testing.assert_array_equal(lazy.transition_picker(episode, 1).rewards_to_go[:, 0], rewards[1:])


@pytest.mark.parametrize("algorithm", ["TD3PlusBC", "BCQ", "IQL", "CalQL"])
def test_algorithms_train_and_are_evaluated(algorithm, log, catalog, world):
    encoder = d3rlpy.models.VectorEncoderFactory([16])
    names = ["actor_encoder_factory", "critic_encoder_factory"]
    config = getattr(d3rlpy.algos, f"{algorithm}Config")(batch_size=16, **dict.fromkeys(names, encoder))
    made, data = config.create(device="cpu"), d3rlpy_dataset(log, catalog, frame_size=F)
    metrics = made.fit(data, n_steps=20, n_steps_per_epoch=20, **QUIET)
    assert all(np.isfinite(value) for value in metrics[-1][1].values())
    error = d3rlpy.metrics.TDErrorEvaluator()(made, data)
    assert np.isfinite(error)
    agent = D3rlpyAgent(made, catalog, F)
    assert "hit_rate@5" in evaluate_ranking(agent, log.select_users(np.arange(4)), k=5).values
    env = RecVectorEnv(3, **world, action="item", observation="history", autoreset_mode="SameStep")
    assert len(evaluate_sessions(agent, env).values["session_return"]) == 6
    history = histories(log, np.arange(3), np.array([5, 6, 7]))
    states = encode_frame(catalog.table, history.items[:, -F:], history.rewards[:, -F:])
    torch.manual_seed(0)  # BCQ's policy draws
    scores = agent.scores(history)
    torch.manual_seed(0)
    np.testing.assert_allclose(scores, made.predict(states) @ catalog.embeddings.T, atol=1e-5)
    assert agent.act(history, explore=True).shape == (3, catalog.dim)


def test_discrete_algorithms_and_fitted_q_evaluation(log, catalog):
    data = d3rlpy_dataset(log, catalog, action="item", frame_size=F)
    made = d3rlpy.algos.DiscreteCQLConfig(batch_size=16).create(device="cpu")
    made.fit(data, n_steps=10, n_steps_per_epoch=10, **QUIET)
    judged = d3rlpy.ope.DiscreteFQE(made, d3rlpy.ope.FQEConfig(batch_size=16), device="cpu")
    judged.fit(data, n_steps=10, n_steps_per_epoch=10, **QUIET)
    assert 0 <= made.predict(data.episodes[0].observations[:1])[0] < catalog.n_items


def test_bad_input_is_refused(log, catalog, world):
    from conftest import make_catalog

    with pytest.raises(DataError, match="log and catalog must have the same items in the same order, got 40 and 20"):
        d3rlpy_dataset(log, make_catalog(20))
    with pytest.raises(DataError, match="action must be 'embedding' or 'item', got 'both'"):
        d3rlpy_dataset(log, catalog, action="both")
    with pytest.raises(DataError, match="a data set made from a log cannot grow, got an episode to append"):
        d3rlpy_dataset(log, catalog).buffer.append(None, 0)
    env = RecVectorEnv(4, **world, action="item", observation="history", k=2)
    logged = collect(SoftmaxPolicy(Popularity.fit(log)), env, 4)
    with pytest.raises(DataError, match="d3rlpy takes one item a decision, got slates of 2"):
        d3rlpy_dataset(logged, catalog)
    made = d3rlpy.algos.TD3PlusBCConfig().create(device="cpu")
    with pytest.raises(DataError, match="must take frames of 5 events and give vectors of width 12, got observations"):
        D3rlpyAgent(made, catalog, F)


def test_the_example_runs():
    names = vars(d3rlpy_data).copy()
    for example in doctest.DocTestParser().get_examples(d3rlpy_data.__doc__):  # d3rlpy writes into the output
        exec(example.source, names)
    assert names["agent"].item_ids is names["catalog"].item_ids
