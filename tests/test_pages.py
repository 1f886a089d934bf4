import gymnasium as gym
import pytest

from recgym import registry
from recgym.pages import page
from recgym.registry import KINDS

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
    assert "## Users: DRRUsers" in text and "- protocol = `'fair'`: See above." in text
    assert "Args:" not in text


def test_a_page_without_data_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path))
    registry._loaded.cache_clear()  # a world that is loaded needs no data any more
    text = page("recgym/Coat-Frame-v0")
    assert "Unknown here: Coat must lie in a folder" in text and "`-Frame-v0`" in text


def test_unknown_ids_are_refused():
    with pytest.raises(gym.error.NameNotFound):
        page("recgym/Nothing-v0")
