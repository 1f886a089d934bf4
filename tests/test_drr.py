"""DRR's users: candidates, memory, ends; and the leaks of the published protocol, repaired and on request."""

import numpy as np
import pytest
from conftest import make_catalog

from recgym.envs.env import RecVectorEnv
from recgym.envs.registry import make_vector_env
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users import DRRUsers
from recgym.users.sampling import draw_in_turn

PAD, ALL = 40, slice(None)
SMALL = {"world": "drr", "n_users": 150, "n_items": 300, "dim": 8, "frame_size": 5, "observation": "user_history"}


def liked_log(*users):
    """A log of the items each user likes."""
    items = [item for user in users for item in user]
    return InteractionLog(
        items=np.array(items, dtype=np.int32),
        rewards=np.ones(len(items), dtype=np.float32),
        offsets=np.cumsum([0, *(len(user) for user in users)]).astype(np.int64),
        user_ids=np.arange(len(users)),
        item_ids=make_catalog().item_ids,
    )


ANNA, BOB = [3, 9, 4, 21, 30, 7], [9, 1, 33]


def others_of(state, pad=PAD):
    """The candidates that are not liked (B, n + m), padded where they are."""
    return np.where((state.shown[:, :, None] == state.liked[:, None]).any(axis=2), pad, state.shown)


def opened(model, n=300, user=None):
    random = RowRandom.from_seeds(list(range(n)))
    random.begin(ALL)
    return random, *model.start(random, ALL, model.frame_size, None if user is None else np.full(n, user))


def test_fair_candidates_are_different_few_liked_and_none_known():
    log = liked_log(ANNA, BOB)
    known = liked_log([*ANNA, 11, 12], BOB)
    model = DRRUsers(log, 3, known=known, n_candidates=20, share=0.2)
    random, state, _ = opened(model)
    listed = model.candidates(random, ALL, state)
    assert {len(set(row[row < PAD])) for row in listed} == {20} and (listed[:, :20] < PAD).all()
    for user, liked in ((0, ANNA), (1, BOB)):
        rows = state.user == user
        assert rows.any() and np.isin(state.liked[rows], [*liked, PAD]).all()
        assert ((state.liked[rows] < PAD).sum(axis=1) == min(4, len(liked))).all()
        assert not np.isin(others_of(state)[rows], liked).any()
    assert not np.isin(others_of(state)[state.user == 0], [11, 12]).any()  # liked in the other part
    shares = [(state.liked[state.user == 0] == item).any(axis=1).mean() for item in ANNA]
    assert max(shares) - min(shares) < 0.3  # drawn evenly: 4 of 6 each
    assert np.unique(others_of(state)[others_of(state) < PAD]).size == PAD - len({*ANNA, 11, 12} & {*BOB, *BOB})


@pytest.mark.parametrize("protocol", ["fair", "published"])
def test_no_place_among_the_candidates_tells_what_is_liked(protocol):
    options = {"n_candidates": 20, "share": 0.2} if protocol == "fair" else {}
    model = DRRUsers(liked_log(ANNA, BOB), 3, known=liked_log(ANNA, BOB), protocol=protocol, **options)
    random, state, _ = opened(model, n=4_000, user=0)
    listed = model.candidates(random, ALL, state)
    assert (np.diff((listed == PAD).astype(int), axis=1) >= 0).all()  # padding last
    liked = (listed[:, :, None] == state.liked[:, None]).any(axis=2) & (listed < PAD)
    real = (listed < PAD).sum(axis=1)
    place = np.arange(listed.shape[1]) / np.maximum(real - 1, 1)[:, None]
    assert abs(place[liked].mean() - 0.5) < 0.015
    again, same, _ = opened(model, n=4_000, user=0)
    assert np.array_equal(model.candidates(again, ALL, same), listed)


def test_a_liked_item_earns_one_and_enters_the_memory():
    users = DRRUsers(liked_log(ANNA, BOB), 3, known=liked_log(ANNA, BOB), n_candidates=20, share=0.2)
    env = RecVectorEnv(
        2, users=users, catalog=make_catalog(), frame_size=3, action="item", observation="user_history", horizon=30
    )
    observation, _ = env.reset(seed=0, options={"user": np.array([0, 1])})
    assert observation["user"].tolist() == [0, 1] and (observation["item_history"] == PAD).all()
    liked = env._sessions.state.liked
    miss = [
        next(i for i in np.flatnonzero(mask) if i not in row)
        for mask, row in zip(env.action_masks(), liked, strict=True)
    ]
    observation, rewards, *_ = env.step(np.array([liked[0, 0], miss[1]]))
    assert rewards.tolist() == [1.0, 0.0]
    assert observation["item_history"].tolist() == [[PAD, PAD, liked[0, 0]], [PAD] * 3]
    assert observation["reward_history"].tolist() == [[0, 0, 1], [0, 0, 0]]
    for place in (1, 2):
        _, rewards, terminated, truncated, _ = env.step(np.array([liked[0, place], liked[1, place - 1]]))
        assert rewards.tolist() == [1.0, 1.0] and not (terminated | truncated).any()
    _, _, terminated, truncated, _ = env.step(np.array([liked[0, 3], liked[1, 2]]))
    assert truncated.all() and not terminated.any()  # all that they like among the candidates was shown


def test_no_memory_outlives_its_session():
    env = make_vector_env(8, **SMALL, action="item", autoreset_mode="Disabled")
    env.reset(seed=1)
    for place in range(3):
        observation, _rewards, *_ = env.step(env._sessions.state.liked[:, place] % env.catalog.n_items)
    assert (observation["item_history"] < env.catalog.n_items).any()
    observation, _ = env.reset()
    assert (observation["item_history"] == env.catalog.n_items).all()


def test_g2_every_user_has_an_observation_of_their_own():
    env = make_vector_env(6, **SMALL, split="test", action="embedding", repeats="mask")
    observation, infos = env.reset(seed=3, options={"user": env.users.servable[:6]})
    assert np.array_equal(observation["user"], infos["user"]) and len(set(observation["user"])) == 6
    assert len({tuple(row) for row in observation["item_history"]}) == 6
    candidates = {tuple(row) for row in np.asarray(env.action_masks())}
    assert len(candidates) == 6
    env.action_space.seed(3)
    vectors = [env.action_space.sample()[:1] for _ in range(5)]
    shown = [env.step(np.repeat(vector, 6, axis=0))[4]["items"] for vector in vectors]
    assert any(len(np.unique(items)) > 1 for items in shown)  # one vector, six sets of candidates


def parts_of(protocol):
    worlds = {split: make_vector_env(2, **SMALL, split=split, protocol=protocol) for split in ("train", "test", "all")}
    return {split: env.users for split, env in worlds.items()}


def test_g5_what_is_held_out_comes_later_and_is_no_candidate_beside_the_liked():
    users = parts_of("fair")
    train, test, both = (users[split].log for split in ("train", "test", "all"))
    assert train.n_events + test.n_events == both.n_events and test.n_events > 0
    for user in range(both.n_users):
        if len(train.user(user).times) and len(test.user(user).times):
            assert train.user(user).times.max() <= test.user(user).times.min()
    for split in ("train", "test"):
        _, state, opening = opened(users[split])
        pairs = set(zip(both.event_users().tolist(), both.items.tolist(), strict=True))
        others = others_of(state, 300)
        assert not any((u, i) in pairs for u, row in zip(state.user, others, strict=True) for i in row.tolist())
        last = [train.user(u).items[-5:] for u in opening.user]
        for row, items in zip(opening.items, last, strict=True):
            assert row[row < 300].tolist() == (items.tolist() if split == "test" else [])


def test_g5_published_holds_out_at_random_and_tests_against_training_likes():
    users = parts_of("published")
    train, test = users["train"].log, users["test"].log
    mixed = [
        train.user(u).times.max() > test.user(u).times.min()
        for u in range(train.n_users)
        if len(train.user(u).times) and len(test.user(u).times)
    ]
    assert np.mean(mixed) > 0.5
    _, state, _ = opened(users["test"])
    pairs = set(zip(train.event_users().tolist(), train.items.tolist(), strict=True))
    others = others_of(state, 300)
    assert any((u, i) in pairs for u, row in zip(state.user, others, strict=True) for i in row.tolist())


def random_policy_earns(**options):
    env = make_vector_env(64, **SMALL, action="item", autoreset_mode="SameStep", **options)
    env.reset(seed=0)
    random, earned = np.random.default_rng(0), []
    for _ in range(30):
        masks = env.action_masks()
        earned.append(env.step((random.random(masks.shape) * masks).argmax(axis=1))[1])
    return np.mean(earned)


def test_g6_chance_earns_a_tenth_and_half_as_published():
    assert 0.02 < random_policy_earns() < 0.12
    assert 0.45 < random_policy_earns(protocol="published", horizon=500) < 0.55


def test_published_sessions_last_as_many_steps_as_there_are_liked_items():
    users = DRRUsers(liked_log(ANNA, BOB), 3, known=liked_log(ANNA, BOB), protocol="published")
    random, state, _ = opened(users)
    assert np.array_equal(np.sort(state.liked[state.user == 1])[0][:3], sorted(BOB))
    assert ((others_of(state) < PAD).sum(axis=1) <= np.where(state.user == 0, 6, 3)).all()
    assert ((others_of(state) < PAD).sum(axis=1) < np.where(state.user == 0, 6, 3)).any()  # with replacement
    for step in range(1, 7):
        state, response = users.respond(random, ALL, state, np.full((300, 1), PAD))
        assert np.array_equal(response.ended, step >= np.where(state.user == 0, 6, 3))


def test_candidates_that_run_out_end_the_session():
    users = DRRUsers(liked_log(ANNA, BOB), 3, known=liked_log(ANNA, BOB), n_candidates=6, share=0.2)
    env = RecVectorEnv(1, users=users, catalog=make_catalog(), frame_size=3, k=2, horizon=30, repeats="mask")
    env.reset(seed=0, options={"user": 0})
    for _ in range(3):
        _, _, _, truncated, infos = env.step(np.zeros((1, 12), np.float32))
    assert truncated.all() and len(set(infos["items"][0])) == 2


def test_numbers_in_turn_are_different_and_a_rows_own():
    random = RowRandom.from_seeds(list(range(50)))
    n = np.arange(50) % 9
    drawn = draw_in_turn(random, ALL, 1, 12, n, 10, allowed=lambda numbers: numbers != 5)
    for row, count in zip(drawn, n, strict=True):
        assert (row[count:] == -1).all() and len(set(row[:count])) == count and not {5, -1} & set(row[:count])
    few = draw_in_turn(random, np.array([7, 8]), 1, 12, n[[7, 8]], 10, allowed=lambda numbers: numbers != 5)
    assert np.array_equal(few, drawn[[7, 8]])
    assert np.array_equal(
        np.sort(draw_in_turn(random, ALL, 2, 12, np.full(50, 12), 12)), np.tile(np.arange(12), (50, 1))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "leaky"}, r"protocol must be one of \('fair', 'published'\), got 'leaky'"),
        ({"share": 1.0}, "share must leave room for a liked item and another among 200 candidates, got 1.0; give e.g."),
        ({"n_candidates": 4, "share": 0.1}, "share must leave room for a liked item and another among 4 candidates"),
        ({"min_liked": 7}, "some user must like at least 7 items in the part served, got 6 at most; lower min_liked"),
    ],
)
def test_errors(options, message):
    with pytest.raises(DataError, match=message):
        DRRUsers(liked_log(ANNA, BOB), 3, known=liked_log(ANNA, BOB), **options)
