"""A trained agent goes to another machine: other matrix kernels, no data, other libraries' models, other devices.

Lists must be equal item by item. The one exception: where two items stand in each other's place, their scores on the
training side must lie within 1e-5 of the list's largest score in size, which is what rounding of float32 products of
this length can move; and no more than 5 of the 1,000 lists may hold such a pair.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import agents
from recgym import datasets, embeddings
from recgym.batches import histories
from recgym.errors import StoreError

ROOT = Path(__file__).parents[2]
TRAVELLERS = ("DDPG", "BCQ", "SequenceModel", "REINFORCE", "EASE", "ItemKNN")

SERVE = """
import json, sys
import agents, recgym
asked = json.load(open(sys.argv[2]))
found = {}
for name in sys.argv[3:]:
    agent = agents.load(f"{sys.argv[1]}/{name}", device="cpu")
    found[name] = recgym.recommend_batch(agent, asked, 10, with_scores=True)
json.dump(found, open(sys.argv[2] + ".out", "w"))
"""


def kernels(core, capability):
    """The environment of a process with other kernels: OpenBLAS's in NumPy, ATen's and MKL's in torch; and no data."""
    nowhere = {"RECGYM_DATA": "/nowhere", "RECGYM_CACHE": "/nowhere/cache", "OMP_NUM_THREADS": "1"}
    instructions = "SSE4_2" if capability == "default" else "AVX2"
    own = {"OPENBLAS_CORETYPE": core, "ATEN_CPU_CAPABILITY": capability, "MKL_ENABLE_INSTRUCTIONS": instructions}
    return os.environ | nowhere | own | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Agents trained here and saved, each in its folder, and 1,000 histories as a service would be sent them."""
    folder = tmp_path_factory.mktemp("trained")
    log = datasets.load("synthetic", n_users=1000, n_items=300)
    catalog = embeddings.svd(log, dim=16)
    for name in TRAVELLERS:
        if name in ("EASE", "ItemKNN"):
            agent = getattr(agents, name).fit(log)
        else:
            agent = getattr(agents, name)(catalog, frame_size=5, device="cpu")
            from agents.training.train import batches_for

            agents.fit(agent, batches_for(agent, log, 5, 64, 0, 0.5), 30)
        agents.save(agent, folder / name)
    past = histories(log, np.arange(1000), np.arange(1000) % 8)
    asked = [
        [(log.item_ids[item].item(), 1.0 + item % 5) for item in items[len(items) - length :]]
        for items, length in zip(past.items, past.length, strict=True)
    ]
    return folder, asked


def served(folder, asked, place, environment):
    place.write_text(json.dumps(asked))
    command = [sys.executable, "-c", SERVE, str(folder), str(place), *TRAVELLERS]
    subprocess.run(command, check=True, env=environment, cwd=place.parent)
    return json.loads(Path(f"{place}.out").read_text())


def test_another_machine_recommends_the_same(trained, tmp_path):
    folder, asked = trained
    here = served(folder, asked, tmp_path / "here", kernels("Haswell", "avx2"))
    there = served(folder, asked, tmp_path / "there", kernels("Nehalem", "default"))
    for name in TRAVELLERS:
        moved = 0
        for own, other in zip(here[name], there[name], strict=True):
            size = max(abs(score) for _, score in own)
            different = [place for place in range(10) if own[place][0] != other[place][0]]
            for place in different:  # what stands there must have had the same score but for rounding
                assert abs(own[place][1] - other[place][1]) <= 1e-5 * size, (name, own, other)
            moved += bool(different)
        assert moved <= 5, (name, moved)


def test_d3rlpy_agents_travel_on_request(tmp_path):
    d3rlpy = pytest.importorskip("d3rlpy")
    from agents.integrations.d3rlpy import D3rlpyAgent, d3rlpy_dataset

    log = datasets.load("synthetic", n_users=40, n_items=40)
    catalog = embeddings.svd(log, dim=4)
    algorithm = d3rlpy.algos.TD3Config().create(device="cpu:0")
    algorithm.build_with_dataset(d3rlpy_dataset(log, catalog, frame_size=3))
    agent = D3rlpyAgent(algorithm, catalog, frame_size=3)
    agents.save(agent, tmp_path)
    with pytest.raises(StoreError, match=r"must be loaded with allow_pickle=True, got False; it holds d3rlpy's"):
        agents.load(tmp_path)
    loaded = agents.load(tmp_path, allow_pickle=True, device="cpu")
    past = histories(log, np.arange(20), np.arange(20) % 4)
    assert torch.equal(loaded.scores(past), agent.scores(past))
