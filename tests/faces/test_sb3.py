"""Stable-Baselines3 trains in our environments and on our logs, and what it learns is evaluated like anything else."""

import doctest
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.dummy_vec_env import DummyVecEnv

from agents.integrations import sb3
from agents.integrations.sb3 import (
    FrameExtractor,
    IndexReplayBuffer,
    SB3Agent,
    SB3VecEnv,
    fit_offline,
    item_features,
    make_vec_env,
)
from recgym import evaluate_ranking, evaluate_sessions, recommend
from recgym.batches import FrameBatches, histories
from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.envs.spaces import OBSERVATIONS
from recgym.errors import DataError
from recgym.frames import encode_frame
from recgym.testing import assert_same
from recgym.users import ReplayUsers

F, B = 5, 4
SMALL = {"net_arch": [16, 16]}  # SB3 writes into what it is given: hand out copies
ACTIONS = [("item", 1), ("embedding", 1), ("embedding", 3)]


def native(world, **options):
    return RecVectorEnv(B, **world, autoreset_mode="SameStep", **options)


def draw(venv, random):
    venv.action_space.seed(int(random.integers(1 << 30)))
    return np.stack([venv.action_space.sample() for _ in range(venv.num_envs)])


# -- the vector environment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observation", ["frame", "history"])
@pytest.mark.parametrize(("action", "k"), ACTIONS)
def test_rows_equal_single_environments_one_after_the_other(world, action, k, observation):
    options = {"action": action, "k": k, "observation": observation}
    ours = SB3VecEnv(native(world, **options))
    theirs = DummyVecEnv([lambda: RecEnv(**world, **options)] * B)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    random, ended = np.random.default_rng(0), 0
    ours.seed(7), theirs.seed(7)
    assert_same(ours.reset(), dict(theirs.reset()) if observation == "history" else theirs.reset(), "first observation")
    for _ in range(40):
        assert_same(ours.reset_infos, theirs.reset_infos, "reset infos")
        actions = draw(ours, random)
        (obs, rewards, dones, infos), (obs2, rewards2, dones2, infos2) = ours.step(actions), theirs.step(actions)
        assert_same(obs, dict(obs2) if observation == "history" else obs2, "observations")
        assert_same((rewards, dones), (rewards2, dones2), "rewards and ends")
        assert_same(infos, infos2, "infos")
        ended += dones.sum()
    assert ended > B


def test_it_is_the_native_environment(world):
    """The same numbers as the batch gives by itself, and an end is a truncation only where nobody left."""
    users = ReplayUsers(world["users"].log, F, end_of_log="terminal")
    ours, env = SB3VecEnv(native(world | {"users": users})), native(world | {"users": users})
    random, kinds = np.random.default_rng(1), set()
    ours.seed(3)
    assert_same(ours.reset(), env.reset(seed=3)[0], "first observation")
    for _ in range(200):
        actions = draw(ours, random)
        obs, rewards, dones, infos = ours.step(actions)
        obs2, rewards2, terminated, truncated, infos2 = env.step(actions)
        assert_same((obs, dones), (obs2, terminated | truncated), "observations and ends")
        np.testing.assert_array_equal(rewards, rewards2.astype(np.float32))
        for row in np.flatnonzero(dones):
            assert_same(infos[row]["terminal_observation"], infos2["final_obs"][row], "last observation")
            assert infos[row]["user"] == infos2["final_info"]["user"][row]
            assert ours.reset_infos[row]["user"] == infos2["user"][row]
            kinds.add(infos[row]["TimeLimit.truncated"])
        assert [info["TimeLimit.truncated"] for info in infos] == (truncated & ~terminated).tolist()
    assert True in kinds


def test_wrappers_of_sb3(world):
    venv = VecMonitor(VecCheckNan(SB3VecEnv(native(world, action="item")), raise_exception=True))
    venv.seed(0)
    venv.reset()
    total, length, random = np.zeros(B), np.zeros(B, dtype=int), np.random.default_rng(0)
    n_ended = 0
    for _ in range(30):
        _, rewards, dones, infos = venv.step(draw(venv, random))
        total, length = total + rewards, length + 1
        for row in np.flatnonzero(dones):
            n_ended += 1
            assert infos[row]["episode"]["r"] == pytest.approx(total[row], abs=1e-5)
            assert infos[row]["episode"]["l"] == length[row]
            total[row], length[row] = 0.0, 0
    assert n_ended >= B


def test_attributes_methods_and_options(world):
    venv = SB3VecEnv(native(world, action="item", render_mode="rgb_array"))
    venv.set_options([{"user": user} for user in (3, 1, 4, 1)])
    venv.reset()
    assert [info["user"] for info in venv.reset_infos] == [3, 1, 4, 1]
    venv.seed(0)
    first = venv.reset()
    venv.seed(0)
    assert_same(first, venv.reset(), "two resets of one seed")
    masks = venv.env_method("action_masks", indices=[0, 2])
    np.testing.assert_array_equal(masks, venv.action_masks()[[0, 2]])
    assert venv.get_attr("frame_size") == [F] * B and venv.get_attr("action_space", indices=1) == [venv.action_space]
    assert venv.has_attr("action_masks") and not venv.has_attr("nonsense")
    assert venv.env_is_wrapped(gym.Wrapper) == [False] * B
    assert venv.render().ndim == 3
    venv.set_attr("horizon", 9)
    assert venv.env.horizon == 9
    venv.close()


def test_what_a_batch_cannot_do_is_said(world):
    venv = SB3VecEnv(native(world))
    with pytest.raises(DataError, match="rows of a batch share their attributes, got 'horizon' for 1 of 4 rows"):
        venv.set_attr("horizon", 3, indices=0)
    with pytest.raises(DataError, match="a method by row must be one of action_masks, render, got 'reset'"):
        venv.env_method("reset")
    venv.set_options([{"user": 1}, {}, {}, {}])
    with pytest.raises(DataError, match="reset options must be the same in all rows, got"):
        venv.reset()
    with pytest.raises(DataError, match="SB3 needs an environment with autoreset_mode='SameStep', got 'NextStep'"):
        SB3VecEnv(RecVectorEnv(B, **world))


@pytest.mark.parametrize("native", [True, False])
def test_a_registered_environment_by_id(native):
    options = {"n_users": 60, "n_items": 40, "dim": 8, "action": "item"}
    venv = make_vec_env("recgym/Synthetic-Frame-v0", 3, 5, native=native, **options)
    users = [info["user"] for _ in [venv.reset()] for info in venv.reset_infos]
    env = gym.make("recgym/Synthetic-Frame-v0", disable_env_checker=True, **options)
    assert users == [env.reset(seed=5 + row)[1]["user"] for row in range(3)]


# -- training ----------------------------------------------------------------------------------------------------------


def weights(model):
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.policy.parameters()])


@pytest.mark.parametrize("features", ["SB3's own", "items'"])
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("algorithm", [TD3, SAC, PPO, DQN])
def test_algorithms_train(algorithm, observation, features, world):
    """On every observation, with SB3's own policy as it is and with item vectors."""
    catalog, owns = world["catalog"], features == "SB3's own"
    action = {TD3: "embedding", SAC: "embedding", PPO: "item", DQN: "item"}[algorithm]
    venv = VecMonitor(SB3VecEnv(native(world, action=action, observation=observation)))
    extractor = {} if owns else item_features(catalog)
    options = {"policy_kwargs": SMALL | extractor, "seed": 0, "device": "cpu"}
    if algorithm is PPO:
        options |= {"n_steps": 16, "batch_size": 32, "n_epochs": 2}
    else:
        options |= {"learning_starts": 50, "batch_size": 16, "buffer_size": 1_000, "train_freq": 5}
        ours = {"replay_buffer_class": IndexReplayBuffer, "replay_buffer_kwargs": {"catalog": catalog}}
        options |= {} if owns else ours
    model = algorithm("MlpPolicy" if observation == "frame" else "MultiInputPolicy", venv, **options)
    before = weights(model)
    model.learn(120)
    after = weights(model)
    assert torch.isfinite(after).all() and not torch.equal(before, after)
    assert len(model.ep_info_buffer) > 0 and model.num_timesteps >= 120


def test_a_saved_model_acts_the_same(world, tmp_path):
    kwargs = {"catalog": world["catalog"]}
    options = {"replay_buffer_class": IndexReplayBuffer, "replay_buffer_kwargs": kwargs, "buffer_size": 500}
    venv = SB3VecEnv(native(world))
    model = TD3("MlpPolicy", venv, policy_kwargs=dict(SMALL), learning_starts=20, seed=0, device="cpu", **options)
    model.learn(100)
    model.save(tmp_path / "model.zip")
    again = TD3.load(tmp_path / "model.zip", env=venv, device="cpu")
    observation = venv.reset()
    np.testing.assert_array_equal(model.predict(observation)[0], again.predict(observation)[0])
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    again.load_replay_buffer(tmp_path / "buffer.pkl")
    assert again.replay_buffer.size() == model.replay_buffer.size() > 0


# -- the replay buffer -------------------------------------------------------------------------------------------------


def filled(world, venv, buffers, n_steps=60):
    """Gives every buffer the same steps of the environment."""
    random = np.random.default_rng(0)
    venv.seed(0)
    obs = venv.reset()
    for _ in range(n_steps):
        actions = draw(venv, random)
        next_obs, rewards, dones, infos = venv.step(actions)
        after = {n: p.copy() for n, p in next_obs.items()} if isinstance(next_obs, dict) else next_obs.copy()
        for row in np.flatnonzero(dones):
            last = infos[row]["terminal_observation"]
            if isinstance(after, dict):
                for name, part in last.items():
                    after[name][row] = part
            else:
                after[row] = last
        for buffer in buffers:
            buffer.add(obs, after, actions, rewards, dones, infos)
        obs = next_obs


def both_sampled(one, other, size=200):
    samples = []
    for buffer in (one, other):
        np.random.seed(3)  # noqa: NPY002, the stream SB3 draws from
        samples.append(buffer.sample(size))
    return samples


@pytest.mark.parametrize("capacity", [1_000, 100])
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize(("action", "k"), ACTIONS)
def test_samples_equal_those_of_sb3_to_the_bit(world, action, k, observation, capacity):
    advance = "log" if capacity == 1_000 else "answer"
    users = ReplayUsers(world["users"].log, F, end_of_log="terminal", advance=advance)
    venv = SB3VecEnv(native(world | {"users": users}, action=action, k=k, observation=observation))
    shape = (capacity, venv.observation_space, venv.action_space, "cpu", B)
    ours = IndexReplayBuffer(*shape, catalog=world["catalog"], keep="vector", entering=k)
    theirs = (ReplayBuffer if observation == "frame" else DictReplayBuffer)(*shape)
    filled(world, venv, [ours, theirs])
    assert ours.size() == theirs.size() and ours.full == theirs.full == (capacity == 100)
    assert set(np.unique(ours.entered)) <= ({1} if advance == "log" else set(range(k + 1))) | {0}
    mine, other = both_sampled(ours, theirs)
    for name in mine._fields:
        one, two = getattr(mine, name), getattr(other, name)
        for key in one if isinstance(one, dict) else [None]:
            a, b = (one, two) if key is None else (one[key], two[key])
            assert (a is None and b is None) or torch.equal(a.float(), b.float()), (name, key)
    assert mine.dones.any() or advance == "answer"
    assert not mine.dones.all()


def test_the_item_shown_stands_for_the_vector(world):
    venv = SB3VecEnv(native(world))
    shape = (1_000, venv.observation_space, venv.action_space, "cpu", B)
    ours, theirs = IndexReplayBuffer(*shape, catalog=world["catalog"]), ReplayBuffer(*shape)
    filled(world, venv, [ours, theirs])
    mine, other = both_sampled(ours, theirs)
    vectors = torch.tensor(world["catalog"].embeddings)
    nearest = (other.actions @ vectors.T).argmax(dim=1)  # of all items: a shown one differs only where that was seen
    unmasked = (vectors[nearest] == mine.actions).all(dim=1)
    assert 0.5 < unmasked.float().mean() < 1.0
    assert all((vectors == action).all(dim=1).any() for action in mine.actions)
    assert torch.equal(mine.observations, other.observations)


def test_a_decision_takes_a_hundred_bytes():
    options = {"n_users": 200, "n_items": 150, "action": "embedding"}
    venv = make_vec_env("recgym/Synthetic-Frame-v0", 2, **options)
    shape = (10_000, venv.observation_space, venv.action_space, "cpu", 2)
    ours, theirs = IndexReplayBuffer(*shape, catalog=venv.env.catalog), ReplayBuffer(*shape)
    large = (theirs.observations.nbytes + theirs.next_observations.nbytes + theirs.actions.nbytes) / 10_000
    assert ours.nbytes / 10_000 == 99 and large == 10_832


def test_normalised_rewards_and_observations(world):
    """VecNormalize changes what is sampled, not what is kept."""
    venv = VecNormalize(SB3VecEnv(native(world)))
    shape = (1_000, venv.observation_space, venv.action_space, "cpu", B)
    ours, theirs = IndexReplayBuffer(*shape, catalog=world["catalog"], keep="vector"), ReplayBuffer(*shape)
    filled(world, venv.venv, [ours, theirs])
    venv.obs_rms.mean[:], venv.ret_rms.var = 0.25, 4.0
    np.random.seed(1)  # noqa: NPY002
    mine = ours.sample(50, env=venv)
    np.random.seed(1)  # noqa: NPY002
    other = theirs.sample(50, env=venv)
    assert torch.equal(mine.observations, other.observations) and torch.equal(mine.rewards, other.rewards)


@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize(("min_history", "end_of_log"), [(None, "truncate"), (2, "terminal")])
def test_a_buffer_filled_from_a_log_holds_the_log(world, log, action, min_history, end_of_log):
    catalog, venv = world["catalog"], SB3VecEnv(native(world, action=action))
    spaces = venv.observation_space, venv.action_space
    options = {"min_history": min_history, "end_of_log": end_of_log}
    buffer = IndexReplayBuffer.from_log(log, *spaces, catalog=catalog, device="cpu", **options)
    batch = next(iter(FrameBatches(log, F, 1_000, shuffle=False, drop_last=False, **options)))
    found = buffer._get_samples(np.arange(buffer.size()))
    assert len(batch.action) == buffer.size()
    np.testing.assert_array_equal(found.observations, encode_frame(catalog.table, batch.items, batch.rewards))
    after = encode_frame(catalog.table, batch.next_items, batch.next_rewards)
    np.testing.assert_array_equal(found.next_observations, after)
    actions = batch.action[:, None] if action == "item" else catalog.embeddings[batch.action]
    np.testing.assert_array_equal(found.actions, actions)
    np.testing.assert_array_equal(found.rewards[:, 0], batch.reward)
    np.testing.assert_array_equal(found.dones[:, 0], batch.terminated)
    assert found.dones.any() == (end_of_log == "terminal")


@pytest.mark.parametrize("algorithm", [TD3, SAC])
def test_training_on_a_log_equals_training_from_sb3s_own_memory(algorithm, world, log):
    """The same decisions in SB3's buffer of frames, the same seed: the same weights."""
    catalog, models, losses = world["catalog"], [], []
    for indices in (True, False):
        options = {"policy_kwargs": dict(SMALL), "buffer_size": 78, "seed": 0, "device": "cpu"}
        model = algorithm("MlpPolicy", SB3VecEnv(RecVectorEnv(1, **world, autoreset_mode="SameStep")), **options)
        np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
        if indices:
            fit_offline(model, log, catalog, 20, lambda step, metrics: losses.append(metrics), batch_size=16)
        else:
            batch = next(iter(FrameBatches(log, F, 78, shuffle=False)))
            states = encode_frame(catalog.table, batch.items, batch.rewards)
            after = encode_frame(catalog.table, batch.next_items, batch.next_rewards)
            for row in range(78):
                infos = [{"TimeLimit.truncated": bool(batch.truncated[row])}]
                action = catalog.embeddings[batch.action[row]][None]
                one = slice(row, row + 1)
                model.replay_buffer.add(states[one], after[one], action, batch.reward[one], batch.truncated[one], infos)
            model.set_logger(sb3.Logger(folder=None, output_formats=[]))
            for _ in range(20):
                model.train(gradient_steps=1, batch_size=16)
        models.append(model)
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert len(losses) == 20 and all(np.isfinite(row["train/critic_loss"]) for row in losses)


def test_training_on_a_log_learns_what_is_liked():
    """Users love one item and hate all others: after a while TD3's vector scores it first."""
    from conftest import make_catalog, make_log

    log, catalog = make_log((20,) * 40, n_items=25), make_catalog(25)
    loved = 7
    log = sb3_replace(log, rewards=np.where(log.items == loved, 1.0, -0.8).astype(np.float32))
    env = RecVectorEnv(1, users=ReplayUsers(log, F), catalog=catalog, frame_size=F, autoreset_mode="SameStep")
    extractor = item_features(catalog)
    model = TD3(
        "MlpPolicy", SB3VecEnv(env), buffer_size=1, gamma=0.0, policy_kwargs=SMALL | extractor, seed=0, device="cpu"
    )
    fit_offline(model, log, catalog, 300, batch_size=64)
    history = histories(log, np.arange(40), np.full(40, 10))
    values = [
        torch.min(
            *model.critic(torch.tensor(SB3Agent(model, catalog)._observation(history)), vector.expand(40, -1))
        ).mean()
        for vector in torch.tensor(catalog.embeddings)
    ]
    assert int(torch.stack(values).argmax()) == loved


def test_the_target_of_a_dqn_moves_while_it_learns_from_a_log(world, log):
    """Everything earns 1 for ever, so Q is 1 / (1 - gamma) = 5; against a target that stands it stays near 1."""
    log = sb3_replace(log, rewards=np.ones(log.n_events, np.float32), reward_range=None)
    venv = SB3VecEnv(native(world, action="item"))
    policy = {"net_arch": [16, 16]}
    options = {"gamma": 0.8, "target_update_interval": 50, "learning_rate": 3e-3, "policy_kwargs": policy, "seed": 0}
    model, losses = DQN("MlpPolicy", venv, device="cpu", **options), []
    fit_offline(model, log, world["catalog"], 800, lambda step, metrics: losses.append(metrics), batch_size=64)
    history = histories(log, np.arange(4), np.full(4, 6))
    assert SB3Agent(model, world["catalog"]).scores(history).amax() > 3.0
    assert all(np.isfinite(row["train/loss"]) for row in losses)


def sb3_replace(log, **changes):
    from dataclasses import replace

    return replace(log, **changes)


def test_an_ended_report_ends_the_training(world, log):
    model = TD3("MlpPolicy", SB3VecEnv(native(world)), buffer_size=1, policy_kwargs=dict(SMALL), device="cpu")
    assert fit_offline(model, log, world["catalog"], 50, lambda step, losses: step == 3, batch_size=8) == 3
    buffer = model.replay_buffer
    assert fit_offline(model, log, world["catalog"], 2, batch_size=8) == 2
    assert model.replay_buffer is buffer  # filled once


def test_a_buffer_of_something_else_is_refused(world, log):
    from conftest import make_catalog

    venv, catalog = SB3VecEnv(native(world)), world["catalog"]
    shape = (100, venv.observation_space, venv.action_space, "cpu", B)
    with pytest.raises(
        DataError, match="observations must be frames of item vectors of width 5, or histories, got Box"
    ):
        IndexReplayBuffer(*shape, catalog=make_catalog(dim=5))
    with pytest.raises(DataError, match="vector actions must have the catalog's width 12, got Box"):
        IndexReplayBuffer(100, shape[1], gym.spaces.Box(-1, 1, (3,)), "cpu", B, catalog=catalog)
    with pytest.raises(DataError, match=r"keep must be 'item' or 'vector', entering at least 1 and .* got keep='both'"):
        IndexReplayBuffer(*shape, catalog=catalog, keep="both")
    with pytest.raises(DataError, match="frames must hold vectors of the catalog, got others in 4 rows"):
        filled(world, venv, [IndexReplayBuffer(*shape, catalog=make_catalog(seed=9))])
    slates = SB3VecEnv(native(world, k=3))
    with pytest.raises(DataError, match="with keep='item', infos must name the one item that was shown, got none or a"):
        filled(world, slates, [IndexReplayBuffer(*shape, catalog=catalog, entering=3)])
    with pytest.raises(DataError, match="at most entering=1 events may enter a frame in one step, got more in"):
        filled(world, slates, [IndexReplayBuffer(*shape, catalog=catalog, keep="vector")])
    with pytest.raises(DataError, match="log and catalog must have the same items in the same order, got 40 and 20"):
        IndexReplayBuffer.from_log(log, *shape[1:3], catalog=make_catalog(20))
    with pytest.raises(DataError, match="a log teaches off-policy models only, got PPO; use TD3, SAC or DQN"):
        fit_offline(PPO("MlpPolicy", venv, n_steps=8, batch_size=8, device="cpu"), log, catalog, 1)


# -- evaluation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observation", ["frame", "history", "user_history", "sequence"])
@pytest.mark.parametrize("algorithm", [TD3, SAC, PPO, DQN])
def test_any_model_is_evaluated(algorithm, observation, world, log):
    catalog = world["catalog"]
    action = {TD3: "embedding", SAC: "embedding", PPO: "item", DQN: "item"}[algorithm]
    venv = SB3VecEnv(native(world, action=action, observation=observation))
    policy = "MlpPolicy" if observation == "frame" else "MultiInputPolicy"
    extractor = item_features(catalog)
    sizes = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"buffer_size": 1}
    model = algorithm(policy, venv, policy_kwargs=SMALL | extractor, seed=0, device="cpu", **sizes)
    agent = SB3Agent(model, catalog)
    history = histories(log, np.arange(6), np.arange(1, 7))
    scores = agent.scores(history)
    assert scores.shape == (6, catalog.n_items)
    best = np.asarray(scores.argmax(dim=1))
    acted = np.asarray(agent.act(history))
    if action == "item":
        np.testing.assert_array_equal(acted, best)
    else:
        np.testing.assert_allclose(acted @ catalog.embeddings.T, scores, atol=1e-6)
        norms = np.linalg.norm(catalog.embeddings, axis=1)
        cosine = SB3Agent(model, catalog, "cosine").scores(history)
        np.testing.assert_allclose(cosine, np.asarray(scores) / norms, atol=1e-5)
    ranking = evaluate_ranking(agent, log.select_users(np.arange(4)), k=5)
    assert "hit_rate@5" in ranking.values
    env = RecVectorEnv(3, **world, action="item", observation="history", autoreset_mode="SameStep")
    assert evaluate_sessions(agent, env).values["session_return"].shape == (6,)
    if observation != "user_history":
        assert len(recommend(agent, [("i03", 4.0)], k=3)) == 3
        return
    with pytest.raises(DataError, match="this model sees the user, got histories without one; give History"):
        recommend(agent, [("i03", 4.0)], k=3)


def test_a_model_of_normalised_observations_gets_them(world, log):
    venv = VecNormalize(SB3VecEnv(native(world)))
    model = TD3("MlpPolicy", venv, buffer_size=1, policy_kwargs=dict(SMALL), seed=0, device="cpu")
    venv.obs_rms.mean[:], venv.obs_rms.var[:] = 0.25, 4.0
    history = histories(log, np.arange(6), np.full(6, 6))
    states = encode_frame(world["catalog"].table, history.items[:, -F:], history.rewards[:, -F:])
    expected = model.predict(venv.normalize_obs(states))[0]
    np.testing.assert_array_equal(SB3Agent(model, world["catalog"]).act(history), expected)


def test_exploring_draws_from_the_policy(world, log):
    venv = SB3VecEnv(native(world, action="item"))
    agent = SB3Agent(PPO("MlpPolicy", venv, n_steps=8, batch_size=8, seed=0, device="cpu"), world["catalog"])
    history = histories(log, np.arange(6), np.arange(1, 7))
    assert any(not torch.equal(agent.act(history), agent.act(history, explore=True)) for _ in range(5))


def test_a_model_of_something_else_is_refused(world):
    from conftest import make_catalog

    slates = PPO("MlpPolicy", SB3VecEnv(native(world, action="item", k=2)), n_steps=8, batch_size=8, device="cpu")
    assert SB3Agent(slates, world["catalog"]).k == 2
    with pytest.raises(DataError, match=r"actions must be vectors of width 12 or items, each of 39, got MultiDiscrete"):
        SB3Agent(slates, make_catalog(n_items=39))
    model = TD3("MlpPolicy", SB3VecEnv(native(world)), buffer_size=1, device="cpu")
    with pytest.raises(DataError, match="observations must be frames of item vectors of width 7"):
        SB3Agent(model, make_catalog(dim=7))
    with pytest.raises(DataError, match="mapper must be 'inner' or 'cosine', got 'l2'"):
        SB3Agent(model, world["catalog"], "l2")


def test_features_of_context():
    """A frame or history is followed by what context adds; candidates are their vectors, hours one-hot."""
    small = {"n_users": 60, "n_items": 40, "dim": 6, "frame_size": F, "action": "item", "advance": "log"}
    context = ["time", "candidates", "candidate_vectors"]
    for observation in ("frame", "history"):
        plain, env = (
            make_vec_env("recgym/Synthetic-Frame-v0", B, **small, observation=observation, **more).env
            for more in ({"pool": "growing"}, {"pool": "growing", "context": context})
        )
        one, two = (FrameExtractor(e.single_observation_space, e.catalog.table) for e in (plain, env))
        seen = [{n: torch.tensor(p) for n, p in e.reset(seed=0)[0].items()} if isinstance(e.reset(seed=0)[0], dict)
                else torch.tensor(e.reset(seed=0)[0]) for e in (plain, env)]  # fmt: skip
        for given in (seen[1], preprocess_obs(seen[1], env.single_observation_space)):
            found = two(given)
            assert torch.equal(found[:, : F * 7], one(seen[0])) and found.shape == (B, two.features_dim)
            assert two.features_dim == F * 7 + 24 + 7 + 1 + 2 * 40 * 6
            vectors = torch.tensor(env.catalog.table)[seen[1]["candidates"].long()].flatten(1) * two.scale
            place = F * 7 + sum(w for n, w in {"candidate_vectors": 240}.items() if n < "candidates")
            assert torch.allclose(found[:, place : place + 240], vectors, atol=1e-6)


def test_all_observations_give_the_same_features(world):
    """Also where indices are one-hot already, as SB3's policies hand them on, and under the names of `-v0`."""
    frames, table = native(world), world["catalog"].table
    flat = frames.reset(seed=0)[0]
    one = FrameExtractor(frames.single_observation_space, table)(torch.tensor(flat))
    assert one.shape == (B, F * 13)
    for observation, more in (("history", 0), ("user_history", 16), ("sequence", 1), ("sequence_embeddings", 1)):
        for old_keys in (False, True):
            env = native(world, observation=observation, old_keys=old_keys)
            extractor = FrameExtractor(env.single_observation_space, table)
            parts = {n: torch.tensor(p) for n, p in env.reset(seed=0)[0].items()}
            for given in (parts, preprocess_obs(parts, env.single_observation_space)):
                two = extractor(given)
                assert torch.equal(one, two[:, : F * 13]) and two.shape == (B, extractor.features_dim)
            assert extractor.features_dim == F * 13 + more
            if observation.startswith("sequence"):
                assert torch.allclose(two[:, -1], parts["length"] / F)
            elif more:
                assert torch.equal(two[:, -more:], extractor.users(parts["user"]))
    assert float(one[:, : F * 12].square().mean()) == pytest.approx(1.0, abs=0.4)
    plain = FrameExtractor(frames.single_observation_space, table, 1.0)(torch.tensor(flat))
    np.testing.assert_array_equal(plain, flat)


def test_the_example_runs():
    assert doctest.testmod(sb3).failed == 0 and inspect.getdoc(sb3).count(">>>") > 3
