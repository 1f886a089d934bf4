"""The speed of learners is measured on the same work."""

import numpy as np
import pytest
import torch

from benchmarks import speed_agents


def test_everyone_takes_turns_and_the_best_counts(monkeypatch):
    clock, called = [0.0], []
    monkeypatch.setattr(speed_agents.time, "perf_counter", lambda: clock[0])
    costs = {"a": iter([1.0] * 3 + [5.0, 1.0, 3.0, 3.0]), "b": iter([2.0] * 8)}

    def update(who):
        called.append(who)
        clock[0] += next(costs[who], 2.0)

    contestants = {who: lambda who=who: update(who) for who in costs}
    assert speed_agents.best_of_turns(contestants, rounds=2) == {"a": 2.0, "b": 2.0}
    assert "".join(called) == "aabb" + "aabb" * 2


@pytest.mark.parametrize("name", ["TD3", "DDPG"])
def test_the_floor_has_the_products_of_an_update(name):
    """Multiplications of the two networks' layers, counted by hand: per row, state to action and to value."""
    actor = 1290 * 256 + 256 * 256 + 256 * 128
    critic = 1418 * 256 + 256 * 256 + 256
    twins = 2 if name == "TD3" else 1
    critics_step = actor + twins * (critic + (2 * critic + 256 * 256 + 256))
    actor_step = (2 * actor + 256 * 256 + 256 * 128) + (critic + 256 + 256 * 256 + 256 * 128)
    counted = []
    original = torch.mm
    update = speed_agents.products(name, 4, torch.float32)
    torch.mm = lambda left, right, out: counted.append(left.shape[0] * left.shape[1] * right.shape[1]) or out
    try:
        update()
        first = sum(counted) / 4
        update()
    finally:
        torch.mm = original
    second = sum(counted) / 4 - first
    assert first == critics_step + (actor_step if name == "DDPG" else 0)
    assert second == critics_step + actor_step


def test_both_sides_learn_from_the_same_decisions():
    log, catalog = speed_agents.world()
    before, after, action, reward, ends = speed_agents.transitions(log, catalog)
    assert before.shape == after.shape == (20_000, 1290)
    np.testing.assert_array_equal(before[0, 128:1280], after[0, :1152])
    np.testing.assert_array_equal(after[0, 1152:1280], action[0])
    assert after[0, -1] == reward[0]
    assert not ends.any()


@pytest.mark.slow
def test_all_of_it_runs():
    made = speed_agents.rows([], quick=True)
    tasks = {(row["agent"], row["metric"]) for row in made}
    assert ("recgym", "TD3 updates, times stable-baselines3's") in tasks
    assert ("recgym bf16", "BCQ updates") in tasks
    assert all(row["value"] > 0 and row["n"] == 16 for row in made)
