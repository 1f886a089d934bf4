import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.envs.render import View, as_image, as_text
from recgym.users import ReplayUsers

WORLD = {
    "users": ReplayUsers(make_log(), 5),
    "catalog": make_catalog(),
    "frame_size": 5,
    "horizon": 6,
    "action": "item",
}
VIEW = View("ann", 2, 20, -0.25, ["Alien", "Up"], [True, False], [("Jaws", 1.0), ("Alien", -0.5)])


def test_text():
    assert as_text(VIEW) == (
        "user ann   step 2 of 20   return -0.25\nshown: [+] Alien   [ ] Up\n"
        "frame, newest first:\n  -0.50  Alien\n  +1.00  Jaws"
    )


def test_text_of_a_session():
    env = RecEnv(render_mode="ansi", **WORLD)
    env.reset(options={"user": 3})
    events = env.users.log.user(3)
    text = env.render()
    assert "user u3   step 0 of 6   return +0.00" in text and "shown" not in text
    assert f"Item {events.items[0]}, the" in text
    env.step(events.items[7])
    text = env.render()
    assert f"step 1 of 6   return {events.rewards[7]:+.2f}" in text
    assert f"shown: [+] Item {events.items[7]}, the" in text
    assert f"newest first:\n  {events.rewards[7]:+.2f}  Item {events.items[7]}, the" in text
    assert f"Item {events.items[0]}, the" not in text


def test_image_size_depends_on_sizes_alone():
    one = as_image(VIEW, 10, 2)
    bare = as_image(View("b", 0, 20, 0.0, [], [], []), 10, 2)
    assert one.shape == bare.shape and one.dtype == np.uint8 and one.shape[2] == 3
    assert as_image(VIEW, 11, 2).shape[0] == as_image(VIEW, 10, 3).shape[0] == one.shape[0] + 18


def has(image, colour):
    return bool((image == np.array(colour, np.uint8)).all(axis=2).any())


def test_image_shows_good_and_bad():
    green, red = (38, 128, 72), (176, 58, 46)
    good = as_image(View("a", 1, 2, 1.0, [], [], [("x", 1.0)]), 3, 1)
    bad = as_image(View("a", 1, 2, 1.0, [], [], [("x", -1.0)]), 3, 1)
    assert (has(good, green), has(good, red)) == (True, False)
    assert (has(bad, green), has(bad, red)) == (False, True)
    columns = [
        np.flatnonzero((image == np.array(colour)).all(axis=2).any(axis=0))
        for image, colour in ((good, green), (bad, red))
    ]
    assert columns[0].min() == columns[1].max()  # both start from the middle


STORIES = {  # id -> what is drawn of its users after a reset
    "recgym/Boredom-v0": ["slates still bored: 0.00, of 0 to 5", "topics that bore: 0.00, of 0 to 10"],
    "recgym/InterestEvolution-v1": ["budget in minutes: 200.00, of 0 to 200", "may be shown next: "],
    "recgym/LongTermSatisfaction-v0": ["satisfaction: 0."],
    "recgym/Drift-v0": ["patience: "],
    "recgym/Slate-v1": ["satiation, largest of a topic: 0.00, of 0 to 5", "day: 0.00, of 0 to 30"],
}


@pytest.mark.parametrize("env_id", STORIES)
def test_worlds_of_known_laws_show_their_story(env_id):
    """Numbers in text, blue bars and a key in pictures, both in one order, of one size whatever happens."""
    import gymnasium as gym

    small = {"n_users": 30, "n_items": 60, "action": "item"}
    texts, pictures = [], []
    for mode, found in (("ansi", texts), ("rgb_array", pictures)):
        env = gym.make_vec(env_id, num_envs=1, **{**small, "render_mode": mode})
        env.reset(seed=1)
        found.append(env.render()[0])
        for _ in range(5):
            may = np.flatnonzero(env.unwrapped.action_masks()[0])
            env.step(may[:1] if env.unwrapped.k == 1 else may[None, : env.unwrapped.k])
        found.append(env.render()[0])
    for line in STORIES[env_id]:
        assert line in texts[0], texts[0]
    order = ["user ", *STORIES[env_id], "frame, newest first:"]
    assert sorted(order, key=texts[0].index) == order
    assert ("(topic " in texts[1]) == (env_id != "recgym/LongTermSatisfaction-v0")  # which has no topics
    assert texts[1].index("shown: ") < texts[1].index(STORIES[env_id][0].split(":")[0])
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)
    assert has(pictures[1], (64, 104, 176))


def test_empty_places_take_no_mark():
    """A slate of an empty place and an answered item: the mark stands at the item."""
    env = RecVectorEnv(1, render_mode="ansi", **{**WORLD, "k": 2, "repeats": "allow"})
    env.reset(options={"user": 3})
    item = int(env.users.log.user(3).items[7])
    env._sessions.slate = np.array([[env.catalog.n_items, item]])
    env._sessions.answered = np.array([[False, True]])
    assert f"shown: [+] Item {item}, the" in env.render()[0]


def test_titles_of_any_script():
    assert as_image(VIEW._replace(shown=["Амели 天気の子"], answered=[True]), 3, 1).shape[2] == 3


def test_rows_render_each_on_its_own():
    env = RecVectorEnv(3, render_mode="rgb_array", **WORLD)
    env.reset(seed=0, options={"user": np.array([0, 1, 0])})
    pictures = env.render()
    assert len(pictures) == 3
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])
    assert not np.shares_memory(pictures[0], env.render()[0])


@pytest.mark.parametrize("make", [RecEnv, lambda **options: RecVectorEnv(2, **options)])
def test_render_without_a_mode_warns(make):
    env = make(**WORLD)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"render\(\) needs a render_mode; pass render_mode='ansi' or 'rgb_array'"):
        assert env.render() is None
