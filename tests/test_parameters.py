"""Every parameter of a simulated part or world is checked at the id: a typo never changes the dynamics in silence."""

import inspect
from importlib import import_module

import gymnasium as gym
import numpy as np
import pytest

from recgym.envs.registry import make_vector_env, registered
from recgym.errors import DataError
from recgym.users.behaviours.base import Part

SMALL = {"n_users": 30, "n_items": 60}
LATENT = {**SMALL, "dim": 4, "n_topics": 5}
BAD = [
    ("Boredom-v0", {"scope": "Everything"}, r"scope must be one of \('topic', 'everything'\), got 'Everything'"),
    ("Boredom-v0", {"scope": "all"}, r"scope must be one of"),
    ("Boredom-v0", {"scope": ""}, r"scope must be one of"),
    *[
        ("Boredom-v0", {name: value}, rf"{name} must be an integer of at least 1, got {value}")
        for name in ("limit", "window", "lasts")
        for value in (0, -3, 2.5)
    ],
    ("Boredom-v0", {"n_topics": 61}, r"n_items must be at least n_topics = 61, got 60; lower n_topics"),
    ("Slate-v1", {"days": -3}, r"days must be a number of at least 1, got -3; choose one of these"),
    ("Slate-v1", {"days": "ten"}, r"days must be a number of at least 1, got 'ten'"),
    ("Slate-v1", {"satiation": -1.0}, r"weight must be a number of at least 0, got -1.0"),
    ("Drift-v0", {"inertia": 5}, r"inertia must be a number from 0 to 1, got 5"),
    ("Drift-v0", {"deviation": -1}, r"deviation must be a number of at least 0, got -1"),
    ("Drift-v0", {"start_patience": "ten"}, r"start_patience must be a number of at least 1, got 'ten'"),
    ("Drift-v0", {"start_patience": True}, r"start_patience must be a number of at least 1, got True"),
    ("InterestEvolution-v1", {"quality_noise": -1}, r"quality_noise must be a number of at least 0, got -1"),
    ("InterestEvolution-v1", {"n_candidates": "ten"}, r"n_candidates must be an integer of at least 1, got 'ten'"),
    ("InterestEvolution-v1", {"k": 11}, r"k must be at most n_candidates = 10, got 11; lower k or raise n_candidates"),
    ("LongTermSatisfaction-v0", {"sensitivity": -1}, r"sensitivity must be a number of at least 0, got -1"),
    ("LongTermSatisfaction-v0", {"first": "zero"}, r"first must be one of \('normal', 'uniform'\), got 'zero'"),
    ("LongTermSatisfaction-v0", {"setting": "RecSim"}, r"setting must be one of \('recgym', 'recsim'\), got 'RecSim'"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_a_wrong_parameter_is_refused_when_the_id_is_made(name, options, message):
    small = SMALL if name.startswith(("Interest", "Long")) else LATENT
    with pytest.raises(DataError, match=message):
        gym.make(f"recgym/{name}", disable_env_checker=True, **{**small, **options})


FILES = ("boredom", "evolution", "influence", "patience", "penalties", "ratings", "returning", "satiation")
PARTS = {
    name: part
    for file in (*FILES, "satisfaction", "watching")
    for name, part in vars(import_module(f"recgym.users.behaviours.{file}")).items()
    if inspect.isclass(part) and issubclass(part, Part) and part is not Part
}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_parts_check_themselves(name):
    """A number that is none, in any of a part's parameters."""
    part = PARTS[name]
    for field in part.__dataclass_fields__:
        for value in (float("nan"), "ten", None, True):
            with pytest.raises(DataError, match=rf"{field} must be"):
                part(**{field: value})


def test_recsims_setting_earns_what_recsim_does():
    """RecSim 0.2.4 over 60 steps: a random item 946 +- 28, the most bait of 20 1110 +- 27, the least 765 +- 21."""
    given = registered("recgym/LongTermSatisfaction-v0") | {"setting": "recsim", "n_items": 2_000, "split": "all"}
    env = make_vector_env(500, **given, action="item", observation="history", autoreset_mode="Disabled")
    bait, everyone, random = env.users.items.quality, np.arange(500), np.random.default_rng(0)
    for choose, expected, within in (
        (lambda bait: random.integers(0, 20, 500), 946, 28),
        (lambda bait: bait.argmax(axis=1), 1110, 27),
        (lambda bait: bait.argmin(axis=1), 765, 21),
    ):
        env.reset(seed=5)
        total = np.zeros(500)
        for _ in range(60):
            candidates = env.candidates()
            total += env.step(candidates[everyone, choose(bait[candidates])])[1]
        error = 1.96 * total.std() / 500**0.5
        assert abs(total.mean() - expected) < within + error and error < 25
