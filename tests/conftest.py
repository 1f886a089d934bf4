"""A small world of known events, with item vectors so far apart that rounding cannot change a nearest item."""

import os
import random
import zlib

import hypothesis
import numpy as np
import pytest
from numpy.random import bit_generator

from recgym.catalog import Catalog
from recgym.log import InteractionLog
from recgym.users import ReplayUsers

N_ITEMS, DIM = 40, 12


def make_catalog(n_items=N_ITEMS, dim=DIM, seed=1):
    """Random directions on a coarse grid: inner products differ by multiples of 1/16, or are equal exactly."""
    vectors = np.random.default_rng(seed).integers(-4, 5, size=(n_items, dim)).astype(np.float64)
    vectors[:, 0] = np.arange(n_items) % 5 + 1  # no zero vector
    titles = np.array([f"Item {i}, the" for i in range(n_items)])
    return Catalog(vectors, np.array([f"i{i:02d}" for i in range(n_items)]), titles=titles)


def make_log(lengths=(14, 18, 9, 25, 30, 12), n_items=N_ITEMS, seed=2):
    """Users of the given lengths, each with different items, and rewards that tell user and place apart."""
    random = np.random.default_rng(seed)
    items = np.concatenate([random.permutation(n_items)[:length] for length in lengths]).astype(np.int32)
    rewards = (random.integers(1, 11, size=len(items)) / 5 - 1).astype(np.float32)  # -0.8 to 1 in steps of 0.2
    return InteractionLog(
        items=items,
        rewards=rewards,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=np.array([f"u{u}" for u in range(len(lengths))]),
        item_ids=np.array([f"i{i:02d}" for i in range(n_items)]),
        times=np.arange(len(items), dtype=np.int64) * 60,
        reward="scaled",
        reward_range=(-0.8, 1.0),
        name="toy",
    )


hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def entropy(request, monkeypatch):
    """What a test leaves unseeded, an environment or a space, is seeded by the test's name: it passes always or never.

    `RECGYM_TEST_ENTROPY` draws other numbers, to look for a test that passes by luck.
    """
    name = request.node.nodeid + os.environ.get("RECGYM_TEST_ENTROPY", "")
    monkeypatch.setattr(bit_generator, "randbits", random.Random(zlib.crc32(name.encode())).getrandbits)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Caches go to a folder of this run, unless one is chosen; each process that tests are spread over has its own."""
    if "RECGYM_CACHE" not in os.environ:
        os.environ["RECGYM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    elif worker := os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ["RECGYM_CACHE"] = os.path.join(os.environ["RECGYM_CACHE"], worker)


@pytest.fixture
def log():
    return make_log()


@pytest.fixture
def catalog():
    return make_catalog()


@pytest.fixture
def users(log):
    return ReplayUsers(log, frame_size=5)


@pytest.fixture
def world(catalog, users):
    """Options that make an environment of the small world."""
    return {"users": users, "catalog": catalog, "frame_size": 5, "horizon": 6}


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A run folder of an agent that has learned a little of the small world, with titles and features."""
    import dataclasses

    from agents import DDPG
    from agents.training import checkpoint
    from agents.training.train import fit
    from recgym.batches import FrameBatches

    log = make_log()
    even = np.arange(N_ITEMS) % 2 == 0
    features = {"kind": np.where(even, "even|all", "odd|all"), "year": 1980 + np.arange(N_ITEMS)}
    agent = DDPG(dataclasses.replace(make_catalog(), features=features), frame_size=5, device="cpu", hidden=16)
    fit(agent, FrameBatches(log, 5, 8), 5)
    folder = tmp_path_factory.mktemp("trained") / "run"
    checkpoint.save(folder, 5, agent)
    return folder
