import inspect

import gymnasium as gym
import pytest

from recgym.envs import registry
from recgym.envs.option_docs import world_options
from recgym.envs.pages import page
from recgym.envs.registry import KINDS, world_of

IDS = [env_id for kind in KINDS for env_id in kind.ids()]


@pytest.mark.parametrize("env_id", [env_id for env_id in IDS if "ML2" not in env_id])
def test_every_id_has_a_page(env_id):
    text = page(env_id)
    assert text.startswith(f"# {env_id}\n")
    for part in ("## Spaces", "## The environment", "**Ends.**", "reward = ", "## Versions", "- world: "):
        assert part in text, part


def test_a_page_has_spaces_users_and_options():
    text = page("recgym/Synthetic-DRR-v1")
    assert '| observation["user"] | `Discrete(5000)` |' in text
    assert "| action | `Box(-1, 1, (128,), float32)` |" in text
    assert "## Users: DRRUsers" in text and '- protocol = `\'fair\'`: `"fair"` or `"published"`' in text
    assert "Args:" not in text


def test_a_page_without_data_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    registry._loaded.cache_clear()  # a world that is loaded needs no data any more
    text = page("recgym/Coat-Frame-v0")
    assert "Unknown here: Coat must lie in a folder" in text and "`-Frame-v0`" in text


def test_unknown_ids_are_refused():
    with pytest.raises(gym.error.NameNotFound):
        page("recgym/Nothing-v0")


@pytest.mark.parametrize("env_id", IDS)
def test_every_option_stands_on_the_page_with_default_and_meaning(env_id):
    """Without data, and without a word of "see there"."""
    spec = gym.spec(env_id)
    world = world_of(spec.kwargs["world"])
    options = world_options(world, spec.kwargs)
    for name, option in options.items():
        assert len(option.meaning) > 1 and not option.meaning.lower().startswith(("see ", "as in ", "as of ")), name
    named = {*inspect.signature(world).parameters} - {"data", "options", "load_options"}
    assert named <= set(options)
    if "dataset" in spec.kwargs:
        assert {"split", "test_size", "dataset"} <= set(options)
        own = "path" if spec.kwargs["dataset"] == "table" else "min_events" if "ML" in env_id else None
        assert own is None or own in options
    if env_id.startswith(("recgym/Boredom", "recgym/Table-Seq")):
        text = page(env_id)
        assert "- horizon = `" in text and f"- k = `{spec.kwargs.get('k', 1)}`: " in text
        assert text.count("Box(-1, 1, (170,), float32)") == (1 if "Boredom" in env_id else 0)


def test_a_page_fits_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path))
    registry._loaded.cache_clear()
    assert "Unknown here: users must have been fitted on this machine" in page("recgym/Synthetic-Sim-v1")
    registry._loaded.cache_clear()
