"""`-Session-v1`: sessions of people, answered from the log, ended where the log says so."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from fakes import as_folder, tianchi_layout
from gymnasium.utils.env_checker import check_env

import recgym  # noqa: F401  registers the ids
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.log.session_split import events_before, split_sessions
from recgym.users import ReplayUsers
from recgym.worlds.logs import load_parts
from recgym.worlds.session import by_frequency, world

SMALL = {"n_users": 120, "n_items": 90, "dim": 12}


def small(**options):
    return world(dataset="synthetic-shop", **SMALL, **options)


def replay(users, session):
    """Returns the opening frame and what follows when the logged events themselves are shown."""
    from recgym.rng import RowRandom

    random = RowRandom.from_seeds([0])
    state, opening = users.start(random, slice(None), users.frame_size, np.array([session]))
    events, over = [], None
    while over is None:
        item = users.log.items[state.next]
        state, response = users.respond(random, slice(None), state, item[:, None])
        events.append((int(item[0]), float(response.rewards[0, 0]), bool(response.answered[0, 0])))
        if response.left[0] or response.ended[0]:
            over = "left" if response.left[0] else "ended"
    return opening.items[0].tolist(), events, over


@pytest.fixture
def sessions():
    items = [0, 1, 2, 3, 4, 5, 6]
    log = InteractionLog.from_events(["ann"] * 5 + ["bob"] * 2, items, [1] * 7, [0, 60, 9000, 9060, 30_000, 5, 29_000])
    return split_sessions(log)  # ann: 0 1 | 2 3 | 4, bob: 5 | 6


def session_users(sessions, **options):
    given = {"advance": "log", "min_history": 1, "opening": "least", "over": sessions.users["over"]} | options
    return ReplayUsers(sessions, 3, **given)


def test_frames_hold_the_persons_earlier_sessions(sessions):
    users = session_users(sessions, reach=events_before(sessions))
    assert users.servable.tolist() == [0, 1, 2, 4]  # bob's first event has no history
    assert replay(users, 0) == ([7, 7, 0], [(1, 1.0, True)], "left")
    assert replay(users, 1) == ([7, 0, 1], [(2, 1.0, True), (3, 1.0, True)], "left")
    assert replay(users, 2) == ([1, 2, 3], [(4, 1.0, True)], "ended")  # nothing says that ann's last is over
    assert replay(users, 4) == ([7, 7, 5], [(6, 1.0, True)], "ended")


def test_frames_of_one_session_only(sessions):
    users = session_users(sessions)
    assert users.servable.tolist() == [0, 1]
    assert replay(users, 1) == ([7, 7, 2], [(3, 1.0, True)], "left")
    cold = session_users(sessions, min_history=0)
    assert cold.servable.tolist() == [0, 1, 2, 3, 4]
    assert replay(cold, 1) == ([7, 7, 7], [(2, 1.0, True), (3, 1.0, True)], "left")


@pytest.mark.parametrize("reach", [[0, 2, 4, 0], [0, 2, 4, 0, 9], [0, -1, 4, 0, 1]])
def test_frames_reach_back_into_the_log_only(sessions, reach):
    with pytest.raises(
        DataError, match=r"reach must be one number per user \(5,\), from 0 to the events before each, got"
    ):
        session_users(sessions, reach=np.array(reach))


def test_every_event_but_a_persons_first_is_asked_for_once():
    """Those with a single event are not served, where DBRL crashed: defect D7."""
    _, users = small(split="all")
    log = users.log
    asked = sum(len(replay(users, session)[1]) for session in users.servable[:40])
    before = events_before(log)
    assert asked == sum(log.lengths[s] - (before[s] == 0) for s in users.servable[:40])
    skipped = np.setdiff1d(np.arange(log.n_users), users.servable)
    assert (log.lengths[skipped] == 1).all() and (before[skipped] == 0).all()


def test_defect_d9_a_log_that_ends_is_no_user_who_left():
    """DBRL said done at the end of every log, and knew no ends of sessions in its test part; here both parts do."""
    _, users = small(split="test", test_size=0.25)
    assert users.log.users["over"].any()
    _, users = small()
    assert {replay(users, s)[2] for s in users.servable[:30] if users.log.users["over"][s]} == {"left"}
    for end_of_log, over in (("truncate", "ended"), ("terminal", "left")):
        _, users = small(end_of_log=end_of_log)
        assert {replay(users, session)[2] for session in users.servable[:30]} == {over}
    _, users = small(mode="one")
    assert replay(users, 3)[2] == "ended" and users.log.n_users == 114


def test_all_sessions_of_a_person_are_on_one_side():
    sides = {split: small(split=split, test_size=0.25)[1].log for split in ("train", "test", "all")}
    people = {split: set(log.users["person"].tolist()) for split, log in sides.items()}
    assert people["train"] and people["test"] and not people["train"] & people["test"]
    assert people["train"] | people["test"] == people["all"]
    assert sides["train"].n_users + sides["test"].n_users == sides["all"].n_users
    assert sides["train"].n_users > len(people["train"])


def test_items_by_training_frequency_keep_their_vectors():
    plain, _ = small(test_size=0.25, split="test")
    catalog, users = small(test_size=0.25, split="test", item_order="frequency")
    train = small(test_size=0.25, item_order="frequency")[1].log
    counts = np.bincount(train.items, minlength=train.n_items)
    assert (np.diff(counts) <= 0).all() and catalog.item_ids.tolist() == users.item_ids.tolist()
    for index, item_id in enumerate(catalog.item_ids.tolist()):
        assert np.allclose(catalog.embeddings[index], plain.embeddings[plain.index_of[item_id]], atol=1e-6)
        assert catalog.title(index) == plain.title(plain.index_of[item_id])
    whole = load_parts(dataset="synthetic-shop", test_size=0.25, **SMALL)
    assert by_frequency(whole).train.item_ids[counts.argmax()] == catalog.item_ids[0]


def test_behaviours_of_a_table_are_rewards(tmp_path):
    path = tmp_path / "shop.csv"
    rows = [f"{who},{place},{what},{60 * place}" for who in "abc" for place, what in enumerate(["pv", "cart", "buy"])]
    path.write_text("\n".join(["customer,product,action,second", *rows]))
    columns = {"user": "customer", "item": "product", "time": "second", "path": str(path), "dim": 2, "frame_size": 2}
    env = gym.make("recgym/Table-Session-v1", behaviour="action", action="item", **columns)
    env.reset(seed=0)
    log = env.unwrapped.users.log
    assert log.extra["action"].tolist() == ["pv", "cart", "buy"] * 2 and log.reward_range == (1.0, 3.0)
    outcomes = [env.step(1), env.step(2)]
    assert [step[1] for step in outcomes] == [2.0, 3.0] and [step[3] for step in outcomes] == [False, True]
    given = gym.make(
        "recgym/Table-Session-v1", behaviour="action", transform="label:pv=0,cart=0,buy=9", action="item", **columns
    )
    given.reset(seed=0)
    assert [given.step(1)[1], given.step(2)[1]] == [0.0, 9.0]


def test_tianchi(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    as_folder(tmp_path / "tianchi", tianchi_layout())
    env = gym.make("recgym/Tianchi-Session-v1", dim=2, frame_size=2, split="all", action="item", dedupe=True)
    log = env.unwrapped.users.log
    assert log.users["person"].tolist() == [7, 7, 8, 9] and log.users["over"].tolist() == [True, True, True, False]
    _, info = env.reset(seed=0, options={"user": 1})
    assert info["user_id"] == 1 and env.step(2)[1:4] == (3.0, True, False)  # user 7 comes back and buys
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("recgym/Tianchi-Session-v1", dim=2, frame_size=2, split="all").unwrapped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": "all"}, "history must be one of"),
        ({"end_of_log": "never"}, r"end_of_log must be one of \('known', 'truncate', 'terminal'\), got 'never'"),
        ({"item_order": "random"}, "item_order must be one of"),
        ({"behaviour": "action"}, "options of synthetic-shop must be among"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(DataError, match=message):
        small(**options)
