import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.env import RecEnv, RecVectorEnv
from recgym.render import View, as_image, as_text
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
