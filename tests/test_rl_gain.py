"""The table of what RL gains: rows of a small world, kept once, and the page that is made of them."""

from dataclasses import replace
from types import SimpleNamespace

from benchmarks import rl_gain


def test_rows_are_made_once_and_make_the_page(tmp_path, monkeypatch):
    small = {"n_users": 40, "n_items": 30, "horizon": 4}
    world = replace(rl_gain.WORLDS["Boredom"], options=small, n_steps=6, looks=1, n_valid=2, seeds=1)
    monkeypatch.setattr(rl_gain, "WORLDS", {"Boredom": world})
    monkeypatch.setattr(rl_gain, "_TEST", 4)
    monkeypatch.setattr(rl_gain, "PATH", path := tmp_path / "rows.csv")
    rl_gain.run("Boredom")
    made = rl_gain.rows()
    assert [(row["policy"], row["seed"]) for row in made] == [
        (policy, "0") for policy in ("SlateQ", "SlateQ, gamma 0", "greedy", "random", "rotating", "varied")
    ]
    greedy = next(row for row in made if row["policy"] == "greedy")
    assert float(greedy["over_low"]) == float(greedy["over_high"]) == 0.0
    monkeypatch.setattr(rl_gain, "trained", None)
    rl_gain.run("Boredom")  # nothing is made twice
    assert rl_gain.rows() == made
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- rl-gain -->\nold\n<!-- /rl-gain -->\nafter\n")
    rl_gain.write_page(page, path)
    text = page.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith("\nafter\n")
    assert f"| Boredom | {rl_gain.said_of(next(row for row in made if row['policy'] == 'random'))} |" in text


def test_variety_needs_no_truth():
    env = rl_gain.env_of(
        replace(rl_gain.WORLDS["Boredom"], options={"n_users": 40, "n_items": 30}), 4, "all", "Disabled"
    )
    history = SimpleNamespace(items=env.reset(seed=0)[0]["item_history"])
    shown = rl_gain.varied(env)(history).argmax(axis=1)
    topic, table = env.users.items.topic, env.catalog.table
    assert not (topic[shown][:, None, None] == topic[history.items[:, None, -2:]]).any()
    near = table[history.items].sum(axis=1) @ table[:-1].T
    assert (rl_gain.varied(env, pause=0)(history) == near).all()
