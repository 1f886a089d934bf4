"""`-Playlist-v1`: rewards against distances taken one by one, and the source's defects, which are not here."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from fakes import as_folder, nowplaying_layout
from gymnasium.utils.env_checker import check_env
from scipy.spatial.distance import pdist

import recgym  # noqa: F401  registers the ids
from recgym.actions import EmbeddingActions
from recgym.catalog import Catalog
from recgym.errors import ActionError, DataError
from recgym.log import InteractionLog
from recgym.rng import RowRandom
from recgym.users.playlist import PlaylistUsers
from recgym.worlds.playlist import world

SMALL = {"n_users": 120, "n_items": 90}
ALL = slice(None)


@pytest.fixture(scope="module")
def songs():
    return world(**SMALL)


def spread(vectors):
    """Returns the standard deviation of the distances of all pairs, each computed by itself."""
    apart = [
        np.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
        for place, one in enumerate(vectors)
        for other in vectors[:place]
    ]
    return float(np.std(apart)) if apart else 0.0


def expected(users, user, before, pick):
    """Returns the reward by the book, for the songs before the pick (at most F - 1 of them)."""
    own = users.spread[user]
    heard = [users.table[song] for song in before][-(users.frame_size - 1) :]
    return abs(own - spread(heard)) - abs(own - spread([*heard, users.table[pick]]))


def heard_by(state, row, n_items):
    return [song for song in state.recent[row].tolist() if song != n_items]


def test_rewards_by_the_book(songs):
    _, users = songs
    random = RowRandom.from_seeds(list(range(40)))
    random.begin(ALL)
    state, _ = users.start(random, ALL, 10)
    assert (np.array([len(heard_by(state, row, users.n_items)) for row in range(40)]) >= 3).all()
    draw = np.random.default_rng(0)
    for _ in range(4):
        slate = draw.integers(users.n_items, size=(40, 2))
        slate[draw.random((40, 2)) < 0.2] = users.n_items  # an empty place
        following, response = users.respond(random, ALL, state, slate)
        for row in range(40):
            heard = heard_by(state, row, users.n_items)
            for place, pick in enumerate(slate[row].tolist()):
                played = pick != users.n_items
                assert response.answered[row, place] == response.enters[row, place] == played
                worth = expected(users, state.user[row], heard, pick) if played else 0.0
                assert response.rewards[row, place] == pytest.approx(worth, abs=1e-6)
                heard = (heard + [pick] * played)[-10:]
            assert heard_by(following, row, users.n_items) == heard
        state = following
    assert not response.left.any() and not response.ended.any()


def test_openings_are_stretches_of_the_log(songs):
    _, users = songs
    random = RowRandom.from_seeds(list(range(300)))
    random.begin(ALL)
    _, opening = users.start(random, ALL, 10)
    lengths = set()
    for user, items in zip(opening.user, opening.items, strict=True):
        stretch = [item for item in items.tolist() if item != users.n_items]
        own = users.log.user(user).items.tolist()
        assert items.tolist() == [users.n_items] * (10 - len(stretch)) + stretch  # padded on the left
        assert any(own[begin : begin + len(stretch)] == stretch for begin in range(len(own)))
        lengths.add(len(stretch))
    assert lengths >= {3, 4, 10} and min(lengths) == 3
    assert not opening.rewards.any()


def test_a_session_can_open_with_all_that_was_heard():
    log = InteractionLog.from_events([0] * 4, [0, 1, 2, 3], [1] * 4)
    users = PlaylistUsers(log, np.arange(4.0)[:, None], 5)
    random = RowRandom.from_seeds(list(range(30)))
    openings = {tuple(items) for items in users.start(random, ALL, 5)[1].items.tolist()}
    assert openings == {(4, 4, 0, 1, 2), (4, 0, 1, 2, 3)}


def test_own_spread_is_over_different_songs(songs):
    _, users = songs
    for user in (0, 5, 17):
        vectors = users.table[np.unique(users.log.user(user).items)]
        assert users.spread[user] == pytest.approx(pdist(vectors).std()) and users.spread[user] > 0


def test_defect_w1_the_reward_follows_the_pick():
    """In the source nothing an agent did reached its loss; here a greedy pick earns more than chance."""
    _, users = world(**SMALL)
    random = RowRandom.from_seeds(list(range(32)))
    random.begin(ALL)
    state, _ = users.start(random, ALL, 10)
    draw, greedy, chance = np.random.default_rng(1), [], []
    for _ in range(6):
        picks = draw.integers(users.n_items, size=(32, 25))
        worth = np.stack(
            [users.respond(random, ALL, state, picks[:, i : i + 1])[1].rewards[:, 0] for i in range(25)], 1
        )
        assert (worth.max(axis=1) > worth.min(axis=1)).all()
        greedy.append(worth.max(axis=1)), chance.append(worth[:, 0])
        state, _ = users.respond(random, ALL, state, picks[np.arange(32), worth.argmax(axis=1)][:, None])
    assert np.mean(greedy) > 0.02 > 0 > np.mean(chance)


def test_defect_w2_the_box_is_relaxed_until_a_song_fits():
    """The source asked for equality in all features but one, so it always fell back to a random song."""
    draw = np.random.default_rng(2)
    catalog = Catalog(draw.normal(size=(200, 9)), np.arange(200))
    mapper = EmbeddingActions(catalog, 3, "box")
    actions = draw.uniform(-1, 1, size=(50, 9)).astype(np.float32)
    half_widths = np.abs(actions[:, None] - catalog.embeddings[None]).max(axis=2)  # (50, 200)
    assert np.array_equal(mapper.to_items(actions), np.argsort(half_widths, axis=1, kind="stable")[:, :3])
    exact = mapper.to_items(catalog.embeddings)
    assert exact[:, 0].tolist() == list(range(200))  # every song can be asked for, the last one too
    blocked = np.zeros((50, 200), dtype=bool)
    blocked[np.arange(50), half_widths.argmin(axis=1)] = True
    assert np.array_equal(mapper.to_items(actions, blocked)[:, 0], np.argsort(half_widths, axis=1, kind="stable")[:, 1])
    one = np.stack([mapper.to_items(action[None])[0] for action in actions])
    assert np.array_equal(one, mapper.to_items(actions))  # a row does not depend on the others


def test_defect_w2_a_box_around_nan_is_an_error():
    env = gym.make_vec("recgym/Synthetic-Playlist-v1", num_envs=2, **SMALL)
    env.reset(seed=0)
    with pytest.raises(ActionError, match="embedding actions must be finite, got NaN, infinity or numbers beyond"):
        env.step(np.full((2, 9), np.nan, dtype=np.float32))


def test_defect_w3_pairs_count_once_and_the_pick_joins_the_list():
    vectors = np.array([[0.0], [1.0], [3.0], [7.0]])
    log = InteractionLog.from_events(["a"] * 4, [0, 1, 2, 3], [1] * 4)
    users = PlaylistUsers(log, vectors, 3)
    assert users.spread[0] == pytest.approx(np.std([1, 3, 7, 2, 6, 4]))  # not n * n entries, half of them zero
    random = RowRandom.from_seeds([0])
    state = type(users.start(random, ALL, 3)[0])(np.array([0]), np.array([[0, 1, 2]]))
    state, response = users.respond(random, ALL, state, np.array([[3]]))
    before, after = np.std([2.0]), np.std([2.0, 6.0, 4.0])
    own = users.spread[0]
    assert response.rewards[0, 0] == pytest.approx(abs(own - before) - abs(own - after))
    assert state.recent.tolist() == [[1, 2, 3]]


def test_defect_w3_a_repeat_is_not_rewarded_for_being_one():
    env = gym.make_vec("recgym/Synthetic-Playlist-v1", num_envs=8, action="item", observation="history", **SMALL)
    observation, _ = env.reset(seed=4)
    _, rewards, *_, infos = env.step(observation["item_history"][:, -1].astype(np.int64))  # heard a moment ago
    assert not rewards.any() and not infos["answered"].any()
    allowed = gym.make_vec("recgym/Synthetic-Playlist-v1", num_envs=8, action="item", repeats="allow", **SMALL)
    allowed.reset(seed=4)
    users, state = allowed.unwrapped.users, allowed.unwrapped._sessions.state
    again = state.recent[:, -1]
    rewards = allowed.step(again)[1]
    for row in range(8):
        worth = expected(users, state.user[row], heard_by(state, row, users.n_items), again[row])
        assert rewards[row] == pytest.approx(worth, abs=1e-6)


def test_defect_w4_padding_is_no_song(songs):
    _, users = songs
    state, _ = users.start(RowRandom.from_seeds([0]), ALL, 10)
    full, part = state.recent.copy(), state.recent.copy()
    full[:] = [7, 8, 9, *range(7)]
    part[:, :7], part[:, 7:] = users.n_items, [4, 5, 6]
    worth = [
        users.respond(None, ALL, state._replace(recent=recent), np.array([[20]]))[1].rewards[0, 0]
        for recent in (full, part)
    ]
    assert worth[1] == pytest.approx(expected(users, state.user[0], [4, 5, 6], 20), abs=1e-6)
    assert worth[0] == pytest.approx(expected(users, state.user[0], [8, 9, *range(7)], 20), abs=1e-6)


def test_defect_w4_rows_stay_aligned_and_listeners_are_split(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    as_folder(tmp_path / "nowplaying", nowplaying_layout())
    sides = {split: world(dataset="nowplaying", split=split, test_size=1, frame_size=3) for split in ("train", "test")}
    logs = {split: users.log for split, (_, users) in sides.items()}
    assert not set(logs["train"].user_ids) & set(logs["test"].user_ids)  # who is split, not rows
    catalog = sides["train"][0]
    vectors = catalog.embeddings * catalog.scale
    known = catalog.features["tempo"][np.unique(logs["train"].items)]  # standardised on the songs of the train part
    assert np.allclose(vectors[:, 6], (catalog.features["tempo"] - known.mean()) / known.std(), atol=1e-5)
    assert np.array_equal(catalog.table, sides["test"][0].table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("recgym/NowPlaying-Playlist-v1", frame_size=3, split="all", repeats="allow").unwrapped)


def test_rewards_stay_in_their_range(songs):
    _, users = songs
    low, high = users.reward_range
    assert low == -high and high == np.float32(high)
    longest = np.linalg.norm(users.table[:-1] - users.table[:-1].mean(axis=0), axis=1).max()
    assert high == pytest.approx(longest)
    far = PlaylistUsers(
        InteractionLog.from_events([0] * 4 + [1] * 3, [0, 1, 2, 0, 0, 1, 2], [1] * 7),
        np.array([[0.0], [1e-6], [100.0]]),
        3,
    )
    random = RowRandom.from_seeds(list(range(50)))
    random.begin(ALL)
    state, _ = far.start(random, ALL, 3)
    for _ in range(6):
        state, response = far.respond(random, ALL, state, random.integers(ALL, 1, 9, 3))
        random.step += 1
        assert (np.abs(response.rewards) <= np.float32(far.reward_range[1])).all()


def test_click_models_say_what_is_played():
    env = gym.make_vec(
        "recgym/Synthetic-Playlist-v1", num_envs=64, k=3, action="item", clicks="cascade", attraction=0.5, **SMALL
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    infos = env.step(env.action_space.sample())[4]
    played = infos["answered"].sum(axis=1)
    assert set(played) == {0, 1} and not infos["item_rewards"][~infos["answered"]].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"min_history": 1},
            "min_history must lie in 2..frame_size and frame_size be at least 3, got 1 and 10; a list",
        ),
        ({"frame_size": 2, "min_history": 2}, "frame_size be at least 3, got 2 and 2"),
        ({"min_history": 200, "frame_size": 200}, "some listener must have at least min_history=200 events, got 114"),
        ({"features": ["tempo", "mood"]}, r"features must be some of those of the songs, .* with 1 that are not"),
        ({"features": []}, "features must be some of those of the songs"),
        ({"dim": 8}, "options of synthetic-songs must be among n_users, n_items, seed, got dim; drop those"),
        ({"dataset": "synthetic"}, "features must be some of those of the songs"),
        ({"split": "none"}, "split must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        world(**{**SMALL, **options})


def test_bad_vectors(songs):
    _, users = songs
    with pytest.raises(DataError, match=r"vectors must be finite and have shape \(90, m\), one row per song, got"):
        PlaylistUsers(users.log, users.table)
    with pytest.raises(DataError, match="with 9 numbers that are not; give every song its features"):
        PlaylistUsers(users.log, np.where(np.arange(90)[:, None] == 3, np.nan, users.table[:-1]))
    with pytest.raises(DataError, match="the frame size must be the users' own, got 4 and 10; give both the same"):
        users.start(RowRandom.from_seeds([0]), ALL, 4)
