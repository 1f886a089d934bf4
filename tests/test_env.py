import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.catalog import Catalog
from recgym.envs.env import RecEnv
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.testing import assert_same
from recgym.users import ReplayUsers

PAD = 40


def toy(k=1, users=None, **options):
    users = users or ReplayUsers(make_log(), 5)
    return RecEnv(users=users, catalog=make_catalog(), frame_size=5, k=k, **{"action": "item", "horizon": 6, **options})


def later_items(env, user):
    """Items the user can still answer, and their rewards."""
    events = env.users.log.user(user)
    return events.items[5:].tolist(), events.rewards[5:].tolist()


def unrated_items(env, user):
    return sorted(set(range(PAD)) - set(env.users.log.user(user).items.tolist()))


# -- one session worked out by hand -----------------------------------------------------------------------------------


def test_hit_miss_and_frame_by_hand():
    env = toy(observation="history", miss_reward=-0.1)
    observation, info = env.reset(options={"user": 3})
    events, (answers, rewards), misses = env.users.log.user(3), later_items(env, 3), unrated_items(env, 3)
    assert observation["item_history"].tolist() == events.items[:5].tolist()
    assert observation["reward_history"].tolist() == events.rewards[:5].tolist()
    assert (info["user"], info["user_id"], info["items"].tolist()) == (3, "u3", [PAD])
    assert info["item_ids"].tolist() == [None] and info["answered"].tolist() == [False]

    observation, reward, terminated, truncated, info = env.step(answers[2])
    assert reward == pytest.approx(rewards[2]) and (terminated, truncated) == (False, False)
    assert observation["item_history"].tolist() == [*events.items[1:5].tolist(), answers[2]]
    assert observation["reward_history"].tolist() == [*events.rewards[1:5].tolist(), rewards[2]]
    assert info["items"].tolist() == [answers[2]] and info["item_ids"].tolist() == [f"i{answers[2]:02d}"]
    assert info["answered"].tolist() == [True]

    before = observation
    observation, reward, _, _, info = env.step(misses[0])
    assert reward == -0.1 and info["answered"].tolist() == [False]
    assert_same(observation, before, "a frame before and after a miss")

    observation, reward, _, _, info = env.step(answers[2])
    assert reward == 0.0 and info["answered"].tolist() == [False]  # a repeat earns nothing, not even the miss
    assert_same(observation, before, "a frame before and after a repeat")


def test_frame_observation_is_vectors_then_rewards_oldest_first():
    env = toy()
    observation, _ = env.reset(options={"user": 4})
    events = env.users.log.user(4)
    vectors = np.concatenate([env.catalog.embeddings[item] for item in events.items[:5]])
    assert np.array_equal(observation, np.concatenate([vectors, events.rewards[:5]]))
    item, reward = events.items[9], events.rewards[9]
    observation, *_ = env.step(item)
    vectors = np.concatenate([env.catalog.embeddings[item] for item in [*events.items[1:5], item]])
    assert np.array_equal(observation, np.concatenate([vectors, events.rewards[1:5], [reward]]).astype(np.float32))


def test_slate_rewards_add_up_and_answers_enter_in_slate_order():
    env = toy(k=4, observation="history", miss_reward=-0.25)
    env.reset(options={"user": 4})
    (answers, rewards), misses = later_items(env, 4), unrated_items(env, 4)
    observation, reward, _, _, info = env.step([answers[3], misses[0], answers[0], answers[3]])
    assert reward == pytest.approx(rewards[3] - 0.25 + rewards[0])
    assert observation["item_history"].tolist()[-3:] == [env.users.log.user(4).items[4], answers[3], answers[0]]
    assert info["answered"].tolist() == [True, False, True, False]
    assert info["items"].tolist() == [answers[3], misses[0], answers[0], answers[3]]


def test_log_advance_moves_whatever_is_shown():
    env = toy(users=ReplayUsers(make_log(), 5, advance="log"), observation="history", miss_reward=-0.5)
    env.reset(options={"user": 0})
    events, misses = env.users.log.user(0), unrated_items(env, 0)
    observation, reward, *_ = env.step(misses[0])
    assert reward == -0.5 and observation["item_history"].tolist() == events.items[1:6].tolist()
    assert observation["reward_history"].tolist() == events.rewards[1:6].tolist()  # the log's, not the miss's
    observation, reward, *_ = env.step(events.items[6])
    assert (
        reward == pytest.approx(events.rewards[6])
        and observation["item_history"].tolist() == events.items[2:7].tolist()
    )


# -- ends -------------------------------------------------------------------------------------------------------------


def run(env, actions):
    """Flags of every step until the end."""
    flags = []
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        flags.append((terminated, truncated))
        if terminated or truncated:
            break
    return flags


def test_horizon_truncates():
    env = toy(horizon=3)
    env.reset(options={"user": 3})
    assert run(env, unrated_items(env, 3)) == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize(("end_of_log", "last"), [("truncate", (False, True)), ("terminal", (True, False))])
@pytest.mark.parametrize("advance", ["answer", "log"])
def test_end_of_log(advance, end_of_log, last):
    users = ReplayUsers(make_log(), 5, advance=advance, end_of_log=end_of_log)
    env = toy(users=users, horizon=30)
    env.reset(options={"user": 2})  # 9 events: 4 after the frame
    assert run(env, later_items(env, 2)[0]) == [(False, False)] * 3 + [last]


def test_leaving_on_the_last_step_is_terminated_alone():
    env = toy(users=ReplayUsers(make_log(), 5, end_of_log="terminal"), horizon=4)
    env.reset(options={"user": 2})
    assert run(env, later_items(env, 2)[0])[-1] == (True, False)


def test_running_out_of_unseen_items_truncates():
    log, catalog = make_log((9, 8), n_items=9), make_catalog(9)
    env = RecEnv(users=ReplayUsers(log, 5), catalog=catalog, frame_size=5, horizon=50)
    env.reset(seed=0, options={"user": 1})
    flags = run(env, [np.zeros(12, np.float32)] * 10)
    assert flags == [(False, False)] * (len(flags) - 1) + [(False, True)] and len(flags) <= 4
    env.reset()  # and a new session has items again
    env.step(np.zeros(12, np.float32))


# -- repeats ----------------------------------------------------------------------------------------------------------


def test_mask_tells_what_was_seen():
    env = toy()
    env.reset(options={"user": 3})
    opening = set(env.users.log.user(3).items[:5].tolist())
    assert set(np.flatnonzero(~env.action_masks())) == opening
    shown = unrated_items(env, 3)[0]
    env.step(shown)
    assert env.action_masks().shape == (PAD,)
    assert set(np.flatnonzero(~env.action_masks())) == opening | {shown}


def test_vectors_never_choose_what_was_seen_unless_allowed():
    action = np.full(12, 0.5, np.float32)
    seen = {}
    for repeats in ("mask", "zero", "allow"):
        env = toy(action="embedding", repeats=repeats, horizon=10)
        env.reset(options={"user": 3})
        seen[repeats] = [env.step(action)[4]["items"][0] for _ in range(8)]
    assert len(set(seen["mask"])) == 8 and not set(seen["mask"]) & set(env.users.log.user(3).items[:5])
    assert len(set(seen["zero"])) == 1 and len(set(seen["allow"])) == 1


def test_repeats_allowed_are_answered_again():
    env = toy(repeats="allow")
    env.reset(options={"user": 3})
    (answers, rewards) = later_items(env, 3)
    assert [env.step(answers[0])[1] for _ in range(3)] == pytest.approx([rewards[0]] * 3)
    assert env.action_masks().all()


@pytest.mark.parametrize("repeats", ["mask", "zero", "allow"])
@pytest.mark.parametrize("advance", ["answer", "log"])
def test_an_item_earns_once_per_slate_and_its_second_place_is_empty(repeats, advance):
    users = ReplayUsers(make_log(), 5, advance=advance)
    env = toy(3, users, repeats=repeats, miss_reward=-0.5, observation="history")
    env.reset(options={"user": 3})
    (answers, rewards), miss = later_items(env, 3), unrated_items(env, 3)[0]
    observation, reward, *_, info = env.step([answers[0], answers[0], miss])
    assert reward == pytest.approx(rewards[0] - 0.5)
    assert info["item_rewards"].tolist() == pytest.approx([rewards[0], 0.0, -0.5])
    assert info["answered"].tolist() == [True, False, False]
    assert observation["item_history"].tolist()[-2:] == [env.users.log.user(3).items[4], answers[0]]  # entered once
    assert env.step([miss, miss, miss])[1] == (-0.5 if repeats == "allow" else 0.0)
    if repeats == "allow" and advance == "answer":
        assert env.step([miss, answers[0], answers[0]])[1] == pytest.approx(rewards[0] - 0.5)  # in a later slate, again


@pytest.mark.parametrize("env_id", ["recgym/InterestEvolution-v1", "recgym/Slate-v1", "recgym/Synthetic-Session-v1"])
def test_showing_one_item_in_all_places_is_like_showing_it_with_nothing(env_id):
    import gymnasium as gym

    options = {"k": 3, "action": "item", "observation": "history", "num_envs": 32, "horizon": 12}
    twice, once = (gym.make_vec(env_id, **options) for _ in range(2))
    twice.reset(seed=3), once.reset(seed=3)
    earned = 0.0
    for step in range(10):
        state, listed = twice.unwrapped.user_state, twice.unwrapped.candidates()
        item = listed[:, step % 10] if listed is not None else np.arange(32) * 7 + step
        if "Session" in env_id:
            log = twice.unwrapped.users.log
            item = log.items[np.minimum(state.next, log.n_events - 1)]  # what the log says next
        full = np.repeat(item[:, None].astype(np.int64), 3, axis=1)
        alone = np.full_like(full, twice.unwrapped.catalog.n_items)
        alone[:, 0] = item
        once.unwrapped.mapper.to_items = lambda actions, *_, alone=alone: alone
        a, b = twice.step(full), once.step(full)
        assert (a[1] == b[1]).all() and (a[4]["answered"] == b[4]["answered"]).all()
        earned += a[1].sum()
    assert earned > 0


def test_what_the_log_brought_in_is_seen():
    env = toy(users=ReplayUsers(make_log(), 5, advance="log"))
    env.reset(options={"user": 0})
    env.step(unrated_items(env, 0)[0])
    assert not env.action_masks()[env.users.log.user(0).items[5]]


def test_numeric_ids_in_infos():
    log = make_log()
    numbered = InteractionLog(
        log.items, log.rewards, log.offsets, np.arange(6) * 10, np.arange(40) * 3, reward_range=(-0.8, 1.0)
    )
    catalog = Catalog(make_catalog().embeddings, np.arange(40) * 3)
    env = RecEnv(users=ReplayUsers(numbered, 5), catalog=catalog, frame_size=5, action="item")
    _, info = env.reset(options={"user": 2})
    assert info["user_id"] == 20 and type(info["user_id"]) is int and info["item_ids"].tolist() == [-1]
    assert env.step(7)[4]["item_ids"].tolist() == [21]


def test_short_users_see_padding_on_the_left():
    users = ReplayUsers(make_log((4, 20)), 5, min_history=2)
    env = toy(users=users, observation="history", repeats="mask")
    observation, _ = env.reset(options={"user": 0})
    events = users.log.user(0)
    assert observation["item_history"].tolist() == [PAD, PAD, PAD, *events.items[:2].tolist()]
    assert observation["reward_history"][:3].tolist() == [0, 0, 0] and env.observation_space.contains(observation)
    assert set(np.flatnonzero(~env.action_masks())) == set(events.items[:2].tolist())
    observation, *_ = env.step(events.items[2])
    assert observation["item_history"].tolist() == [PAD, PAD, *events.items[:3].tolist()]
    flat = toy(users=users)
    observation, _ = flat.reset(options={"user": 0})
    assert not observation[: 3 * 12].any() and flat.observation_space.contains(observation)


def test_candidates_in_infos():
    """As indices and as vectors, in single and vector environments alike; refused where there are none."""
    import gymnasium as gym

    small = {"n_users": 30, "n_items": 60, "action": "item"}
    for told in ("index", "vector"):
        options = {**small, "n_candidates": 5, "candidate_infos": told}
        env = gym.make_vec("recgym/InterestEvolution-v1", num_envs=3, **options)
        one = gym.make("recgym/InterestEvolution-v1", disable_env_checker=True, **options).unwrapped
        _, infos = env.reset(seed=4)
        _, info = one.reset(seed=4)
        for _ in range(4):
            listed = env.candidates()
            expected = listed if told == "index" else env.catalog.table[listed]
            assert np.array_equal(infos["candidates"], expected) and infos["_candidates"].all()
            assert np.array_equal(info["candidates"], expected[0]) and np.array_equal(one.candidates(), listed[0])
            _, *_, infos = env.step(listed[:, :2])
            _, *_, info = one.step(listed[0, :2])
    with pytest.raises(
        DataError, match="candidate_infos='index' needs users who have candidates, got users to whom any"
    ):
        gym.make("recgym/Boredom-v0", disable_env_checker=True, **small, candidate_infos="index").reset(seed=0)
    with pytest.raises(DataError, match="candidate_infos must be one of"):
        gym.make("recgym/Boredom-v0", disable_env_checker=True, **small, candidate_infos="all")
