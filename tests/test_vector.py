import pickle
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import pytest
from conftest import make_catalog, make_log
from gymnasium.vector import AutoresetMode

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.errors import ActionError, DataError
from recgym.testing import assert_same
from recgym.users import Opening, ReplayUsers, Response

PAD = 40


def toy(k=1, users=None, **options):
    users = users or ReplayUsers(make_log(), 5)
    return RecEnv(users=users, catalog=make_catalog(), frame_size=5, k=k, **{"action": "item", "horizon": 6, **options})


def rows(n=4, **options):
    world = {"users": ReplayUsers(make_log(), 5), "catalog": make_catalog(), "frame_size": 5, "horizon": 6}
    return RecVectorEnv(n, **{"action": "item", "observation": "history", **world, **options})


@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize("k", [1, 3])
def test_row_equals_the_single_env_seeded_alike(action, k):
    env = rows(5, autoreset_mode="SameStep", action=action, k=k)
    single = toy(action=action, k=k, observation="history")
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(30)]
    for row in range(5):
        observation, _ = env.reset(seed=100)
        one, _ = single.reset(seed=100 + row)
        assert_same({name: part[row] for name, part in observation.items()}, one, "openings")
        for action_batch in actions:
            observation, rewards, terminated, truncated, infos = env.step(action_batch)
            one, reward, *flags, info = single.step(action_batch[row])
            assert (rewards[row], terminated[row], truncated[row]) == (reward, *flags)
            if any(flags):
                assert_same(infos["final_obs"][row], one, "last observations")
                assert infos["final_info"]["items"][row].tolist() == info["items"].tolist()
                one, info = single.reset()
            assert_same({name: part[row] for name, part in observation.items()}, one, "observations")
            assert infos["user"][row] == info["user"]


def test_partial_reset_leaves_neighbours_alone():
    plain, disturbed = (rows(4, autoreset_mode="Disabled") for _ in range(2))
    plain.reset(seed=1)
    disturbed.reset(seed=1)
    mask = np.array([False, True, False, False])
    kept = mask.copy()
    plain.step(np.array([30, 31, 32, 33]))
    disturbed.step(np.array([30, 31, 32, 33]))
    _, infos = disturbed.reset(options={"reset_mask": mask})
    assert infos["_user"].tolist() == mask.tolist() == kept.tolist()
    assert infos["user_id"][0] is None and infos["items"][0].tolist() == [0]
    masks = plain.action_masks(), disturbed.action_masks()
    assert np.array_equal(masks[0][[0, 2, 3]], masks[1][[0, 2, 3]]) and disturbed.action_masks()[1].sum() == 35
    for _ in range(4):
        actions = np.array([5, 6, 7, 8])
        one, other = plain.step(actions), disturbed.step(actions)
        for a, b in zip(one[:4], other[:4], strict=True):
            assert_same(
                [np.delete(part, 1, 0) for part in (a.values() if isinstance(a, dict) else [a])],
                [np.delete(part, 1, 0) for part in (b.values() if isinstance(b, dict) else [b])],
                "neighbours",
            )


def test_seeds_as_a_list_and_going_on_without():
    env = rows(3, autoreset_mode="Disabled")
    one, _ = env.reset(seed=[7, 8, 9])
    two, _ = env.reset(seed=7)
    assert_same(one, two, "openings")
    third, _ = env.reset()
    fourth, _ = env.reset(seed=[None, 8, None])
    assert not np.array_equal(third["item_history"], two["item_history"])
    assert_same(fourth["item_history"][1], two["item_history"][1], "the row seeded anew")
    env.reset(seed=7)
    again, _ = env.reset()
    assert_same(again, third, "second sessions of one seed")


def test_rows_without_a_seed_get_luck_of_their_own_at_the_first_reset():
    """As in SyncVectorEnv: fresh entropy for every None, and from then on the row's own stream."""
    starts = []
    for _ in range(3):
        env = rows(30)
        starts.append(env.reset(seed=[5, *[None] * 29])[1]["user"])
        keys = [tuple(key) for key in env._sessions.random.key.tolist()]
        assert len(set(keys)) == 30 and keys[0] == (5, 0)
        env.reset(seed=[None] * 30)
        assert [tuple(key) for key in env._sessions.random.key.tolist()] == keys
    assert len({tuple(users[1:]) for users in starts}) == 3 and len({users[0] for users in starts}) == 1


@pytest.mark.parametrize(
    ("seed", "match"),
    [
        ([1, 2], r"seeds must be one per row \(3\), got \[1, 2\]; give an int or a full list"),
        ([1, -2, None], r"every seed must be a whole number of at least 0, or None, got \[-2\] \(1 of 3\)"),
        ([1, 2.5, "a"], r"every seed must be .*, got \[2.5, 'a'\] \(2 of 3\); give e.g. 0"),
        ("abc", r"seeds must be one per row \(3\), got 'abc'"),
    ],
)
def test_lists_that_hold_no_seeds(seed, match):
    with pytest.raises(DataError, match=match):
        rows(3).reset(seed=seed)


def test_unseeded_environments_differ():
    starts = [tuple(rows(40).reset()[1]["user"]) for _ in range(3)]
    assert len(set(starts)) == 3
    env = toy()
    first = [env.reset()[1]["user"] for _ in range(20)]
    env.reset(seed=env.np_random_seed)
    assert [env.reset()[1]["user"] for _ in range(19)] == first[1:]


def test_asked_users():
    env = rows(3)
    assert env.reset(options={"user": 4})[1]["user"].tolist() == [4, 4, 4]
    assert env.reset(options={"user": np.array([1, 5, 0])})[1]["user_id"].tolist() == ["u1", "u5", "u0"]


def test_next_step_ignores_the_action_of_an_ended_row():
    env = rows(2, horizon=2)
    env.reset(seed=0)
    env.step(np.array([30, 31]))
    assert env.step(np.array([32, 33]))[3].all()
    _, rewards, terminated, truncated, infos = env.step(np.array([-5, 10**6]))
    assert rewards.tolist() == [0, 0] and not (terminated | truncated).any()
    assert infos["items"].tolist() == [[PAD], [PAD]]
    embedding = rows(2, horizon=1, action="embedding")
    embedding.reset(seed=0)
    embedding.step(np.zeros((2, 12), np.float32))
    embedding.step(np.full((2, 12), np.nan, np.float32))
    with pytest.raises(ActionError, match="must be finite"):
        embedding.step(np.full((2, 12), np.nan, np.float32))


def test_returned_arrays_are_the_callers():
    for observation in ("history", "frame"):
        env, twin = rows(3, observation=observation), rows(3, observation=observation)
        results = env.reset(seed=2), twin.reset(seed=2)
        for step in range(12):
            for part in results[0][0].values() if observation == "history" else [results[0][0]]:
                part[:] = 0
            for name in ("user", "items", "answered"):
                results[0][-1][name][:] = 0
            actions = np.array([step, step + 1, step + 2])
            results = env.step(actions), twin.step(actions)
            assert_same(results[0], results[1], "steps after the caller wrote into what it was given")


# -- other user models ------------------------------------------------------------------------------------------------


class Leaver:
    """A user model of another kind: three candidates a step, 0.5 for even items, leaves after two misses."""

    n_items, user_ids, servable, reward_range = PAD, np.arange(2), np.arange(2), (0.0, 0.5)
    item_ids = make_catalog().item_ids

    def start(self, random, rows, frame_size, users=None):
        user = random.integers(rows, 1, 0, 2)[:, 0] if users is None else users
        frame = np.full((len(user), frame_size), PAD), np.zeros((len(user), frame_size))
        return Patience(np.full(len(user), 2)), Opening(user, *frame)

    def candidates(self, random, rows, state):
        return random.integers(rows, 3, 1, PAD)

    def respond(self, random, rows, state, slate, candidates=None):
        answered = (slate % 2 == 0) & (slate != PAD)
        left = state.left - ~answered.any(axis=1)
        rewards = np.full(slate.shape, 0.5, np.float32)
        nothing = np.zeros(len(slate), dtype=bool)
        return Patience(left), Response(answered, rewards, answered, slate, rewards, left <= 0, nothing)


class Patience(NamedTuple):
    left: object


def test_a_model_with_candidates_and_leaving_plugs_in():
    world = {"users": Leaver(), "catalog": make_catalog(), "frame_size": 5}
    env = RecVectorEnv(6, action="embedding", autoreset_mode="SameStep", observation="history", **world)
    env.reset(seed=0)
    ends = 0
    for _ in range(60):
        masks = env.action_masks()
        assert (masks.sum(axis=1) <= 3).all()
        _, rewards, terminated, truncated, infos = env.step(np.zeros((6, 12), np.float32))
        shown = (
            np.where(terminated | truncated, infos["final_info"]["items"][:, 0], infos["items"][:, 0])
            if ("final_info" in infos)
            else infos["items"][:, 0]
        )
        assert masks[np.arange(6), shown].all()
        assert (rewards == np.where(shown % 2 == 0, 0.5, 0)).all()
        ends += terminated.sum()
    assert ends > 10


def test_items_that_are_no_candidates_earn_nothing():
    env = RecEnv(users=Leaver(), catalog=make_catalog(), frame_size=5, action="item", repeats="allow")
    env.reset(seed=0)
    listed = np.flatnonzero(env.action_masks())
    unlisted = next(item for item in range(0, PAD, 2) if item not in listed)
    _, reward, _, _, info = env.step(unlisted)
    assert reward == 0.0 and not info["answered"][0]


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("make", [toy, lambda: rows(3), lambda: rows(3, action="embedding", autoreset_mode="SameStep")])
def test_copies_go_on_from_the_middle_of_a_session(copy, make):
    env = make()
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]
    env.reset(seed=3)
    for action in actions[:3]:
        env.step(action)
    twin = copy(env)
    env.step(actions[3])  # the twin must not notice

    def go_on(one):
        steps = []
        for action in actions[4:]:
            steps.append(one.step(action))
            if isinstance(one, RecEnv) and (steps[-1][2] or steps[-1][3]):
                steps.append(one.reset())
        return steps

    twin.step(actions[3])
    assert_same(go_on(twin), go_on(env), "an environment and its copy")


def test_deepcopy_shares_the_parameters():
    env = rows(2)
    env.reset(seed=0)
    twin = deepcopy(env)
    assert twin.users is env.users and twin.catalog is env.catalog and twin.metadata is not env.metadata


def test_metadata_is_the_instances_own():
    one, two = rows(1, autoreset_mode="SameStep"), rows(1, autoreset_mode=AutoresetMode.DISABLED)
    assert one.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP == one.autoreset_mode
    assert two.metadata["autoreset_mode"] == AutoresetMode.DISABLED == two.autoreset_mode
    assert "autoreset_mode" not in RecVectorEnv.metadata and "autoreset_mode" not in toy().metadata


def test_close_twice():
    for env in (toy(), rows(2)):
        env.close()
        env.close()
