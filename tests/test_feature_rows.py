"""Feature rows 9, 10 and 14 (the candidate part) of the source systems, each shown at work in one place."""

import gymnasium as gym
import numpy as np
import torch
from conftest import make_catalog, make_log

import recgym
from agents.networks.state_encoders import make_encoder
from agents.training.replay import ReplayBuffer
from recgym.batches import FrameBatches
from recgym.envs.registry import make_vector_env
from recgym.envs.spaces import states
from recgym.frames import Batch, encode_frame

SMALL = {"n_users": 60, "n_items": 50, "dim": 6}
TABLE = make_catalog().table


def test_row_9_windows_of_a_log_as_state_action_reward_next_state_done():
    log = make_log()
    batch = next(iter(FrameBatches(log, frame_size=5, batch_size=200, shuffle=False, drop_last=False)))
    ours = batch.user == 0
    user, n = log.user(0), np.count_nonzero(ours)
    assert n == 14 - 5
    state, next_state = (
        encode_frame(TABLE, items, rewards)[ours]
        for items, rewards in ((batch.items, batch.rewards), (batch.next_items, batch.next_rewards))
    )
    for place in range(n):
        window = slice(place, place + 5)
        assert np.array_equal(state[place, :-5].reshape(5, 12), TABLE[user.items[window]])
        assert np.array_equal(state[place, -5:], user.rewards[window])
        assert batch.action[ours][place] == user.items[place + 5]
        assert batch.reward[ours][place] == user.rewards[place + 5]
    assert np.array_equal(state[1:], next_state[:-1])
    ends = batch.terminated[ours] | batch.truncated[ours]
    assert ends.tolist() == [False] * (n - 1) + [True] and not batch.terminated.any()  # the log ends, not the user


def test_row_9_the_three_forms_of_a_batch():
    batch = next(iter(FrameBatches(make_log(), frame_size=5, batch_size=32)))
    assert TABLE[batch.action].shape == (32, 12)  # continuous states, continuous actions
    one_hot = np.eye(40, dtype=np.float32)[batch.action]  # continuous states, discrete actions
    assert one_hot.shape == (32, 40) and np.array_equal(one_hot.argmax(axis=1), batch.action)
    assert batch.items.dtype.kind == "i" and batch.items.shape == (32, 5)  # ids only


def test_row_9_the_environment_walks_the_same_windows():
    env = make_vector_env(1, **SMALL, action="item", advance="log", frame_size=5, autoreset_mode="Disabled", horizon=99)
    observation, infos = env.reset(seed=0)
    user = int(infos["user"][0])
    log = env.users.log
    only = log.select_users([user])
    batch = next(iter(FrameBatches(only, frame_size=5, batch_size=1000, shuffle=False, drop_last=False)))
    for place in range(len(batch.action)):
        expected = encode_frame(env.catalog.table, batch.items, batch.rewards)[place]
        assert np.array_equal(observation[0], expected)
        observation, rewards, terminated, truncated, _ = env.step(batch.action[place : place + 1])
        if batch.action[place] not in batch.items[: place + 1]:
            assert rewards[0] == batch.reward[place]
        assert bool(truncated[0]) == bool(batch.truncated[place]) and not terminated[0]


def test_states_are_gathered_as_encode_frame_lays_them_out():
    random = np.random.default_rng(0)
    for n_rows in (1, 31, 32, 33, 100):
        items = random.integers(0, 41, size=(n_rows, 4)).astype(np.int32)
        rewards = random.normal(size=(n_rows, 4)).astype(np.float32)
        assert np.array_equal(states(TABLE, items, rewards), encode_frame(TABLE, items, rewards))


def test_row_10_sequences_of_any_length_through_an_encoder_into_a_replay_buffer():
    longest = 17
    env = gym.make_vec(
        "recgym/Synthetic-Seq-v1", num_envs=8, autoreset_mode="SameStep", frame_size=longest, action="item", **SMALL
    )
    observation, infos = env.reset(seed=0)
    assert observation["length"].tolist() == [1] * 8  # a story begins with one event
    encoder = make_encoder("gru", dim=6, frame_size=longest, width=9)
    buffer, lengths = ReplayBuffer(100, longest), []
    log, table = env.unwrapped.users.log, torch.tensor(env.unwrapped.catalog.table)
    for step in range(12):
        items, length = torch.tensor(observation["item_history"]), torch.tensor(observation["length"])
        with torch.no_grad():
            state = encoder(table[items.long()], torch.tensor(observation["reward_history"]), length)
        assert state.shape == (8, 9)
        answers = [log.items[log.offsets[u] + 1 + step] if log.lengths[u] > 1 + step else 0 for u in infos["user"]]
        before, action = observation, np.array(answers)
        observation, rewards, terminated, truncated, infos = env.step(action)
        after = {name: observation[name].copy() for name in ("item_history", "reward_history")}
        for row in np.flatnonzero(terminated | truncated):  # the last observation, not the next session's first
            for name, part in after.items():
                part[row] = infos["final_obs"][row][name]
        frames = (
            before["item_history"],
            before["reward_history"],
            action,
            rewards,
            after["item_history"],
            after["reward_history"],
        )
        buffer.add(Batch(infos["user"], *frames, terminated, truncated))
        lengths.append(observation["length"])
    assert len(set(np.concatenate(lengths).tolist())) > 5 and len(buffer) == 96
    sampled = buffer.sample(32)
    assert sampled.items.shape == (32, longest) and (sampled.items[:, -1] < 50).all()


def test_row_10_the_two_observations_tell_the_same_and_padding_changes_no_state():
    made = [
        gym.make_vec("recgym/Synthetic-Seq-v1", num_envs=4, observation=name, frame_size=size, action="item", **SMALL)
        for name, size in (("sequence", 12), ("sequence_embeddings", 12), ("sequence", 30))
    ]
    starts = [env.reset(seed=5)[0] for env in made]
    encoder = make_encoder("gru", dim=6, frame_size=30, width=7).eval()
    for action in (3, 9, 27, 41):
        plain, vectors, longer = starts
        table = made[0].unwrapped.catalog.table
        assert np.array_equal(table[plain["item_history"]], vectors["embeddings"])
        assert np.array_equal(plain["length"], vectors["length"]) and np.array_equal(plain["length"], longer["length"])
        given = [torch.tensor(part) for part in (vectors["embeddings"], plain["reward_history"], plain["length"])]
        more = [
            torch.tensor(part) for part in (table[longer["item_history"]], longer["reward_history"], longer["length"])
        ]
        assert torch.allclose(encoder(*given), encoder(*more), atol=1e-6)
        starts = [env.step(np.full(4, action))[0] for env in made]


def test_row_10_the_oldest_events_give_way_at_the_longest_length():
    env = make_vector_env(
        1, **SMALL, observation="sequence", action="item", frame_size=3, min_history=1, opening="least", horizon=40
    )
    env.reset(seed=0)
    user = int(env.unwrapped._sessions.user[0])
    events = env.users.log.user(user)
    for place in range(1, 6):
        observation, *_ = env.step(events.items[place : place + 1])
        newest = events.items[max(0, place - 2) : place + 1].tolist()
        assert observation["length"].tolist() == [min(3, place + 1)]
        assert observation["item_history"][0, 3 - len(newest) :].tolist() == newest


def test_row_14_interactive_environment_of_candidates_and_the_latest_positives():
    env = gym.make("recgym/Synthetic-DRR-v1", frame_size=5, **SMALL)  # an embedding action, scored against candidates
    for user in env.unwrapped.users.servable[:4]:
        observation, info = env.reset(seed=0, options={"user": int(user)})
        assert observation["user"] == info["user"] == user and (observation["item_history"] == 50).all()
        liked = env.unwrapped.users.log.user(user).items
        memory: list[int] = []
        over = False
        while not over:
            allowed = env.unwrapped.action_masks()
            action = env.unwrapped.catalog.embeddings[next((i for i in liked if allowed[i]), 0)]
            observation, reward, terminated, truncated, info = env.step(action)
            assert allowed[info["items"][0]]  # a candidate that was not shown before
            assert reward == float(info["items"][0] in liked)
            memory += [int(info["items"][0])] if reward else []
            real = [item for item in observation["item_history"].tolist() if item != 50]
            assert real == memory[-5:] and set(
                observation["reward_history"][-len(real) :].tolist() if real else [1.0]
            ) == {1.0}
            over = terminated or truncated


def test_registered_for_every_rating_data_set():
    for name in recgym.envs.registry.DATASETS:
        for kind in ("Frame", "Seq", "DRR"):
            assert f"recgym/{name}-{kind}-v0" in gym.registry
