"""Our BCQ's updates against d3rlpy's with the same weights, batch and draws, as record_d3rlpy.py recorded them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import bcq
from agents.embedding_agent import Decisions
from agents.networks.twin_critics import TwinCritic

FOLDER = Path(__file__).parent
ABOUT = json.loads((FOLDER / "d3rlpy.json").read_text())
SETTINGS = ABOUT["settings"]


@pytest.fixture(scope="module")
def recorded():
    with np.load(FOLDER / "d3rlpy.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


def separate(nets):
    """Returns the networks by name, twin critics as copies of the two they are."""
    named = nets._asdict()
    for name, end in (("critics", ""), ("critics_target", "_target")):
        named[f"critic1{end}"], named[f"critic2{end}"] = named.pop(name).split()
    return named


def made(recorded):
    """Returns our networks with their weights, their batch, and plain gradient descent."""
    config = bcq.Config(
        gamma=SETTINGS["gamma"],
        tau=SETTINGS["tau"],
        smaller=SETTINGS["lam"],
        n_samples=SETTINGS["n_action_samples"],
        phi=SETTINGS["action_flexibility"],
        kl_weight=SETTINGS["beta"],
        reconstruction="vector",
        critic_action="vector",
        dropout=0.0,
        hidden=8,
        generator_hidden=10,
        max_norm=None,
    )
    nets = bcq.make_networks(recorded["state"].shape[1], recorded["action"].shape[1], config)
    alone = separate(nets)
    for name, net in alone.items():
        for i, parameter in enumerate(net.parameters()):
            parameter.data.copy_(recorded[f"before/{name}/{i}"])
    critics, targets = (TwinCritic(alone[f"critic1{end}"], alone[f"critic2{end}"]) for end in ("", "_target"))
    nets = nets._replace(critics=critics, critics_target=targets)
    groups = (nets[:1], nets[1:2], nets[2:3])
    sgd = (torch.optim.SGD([p for net in group for p in net.parameters()], ABOUT["step"]) for group in groups)
    batch = Decisions(
        state=(recorded["state"],),
        action=torch.arange(len(recorded["action"])),
        vector=recorded["action"],
        reward=recorded["reward"][:, 0],
        next_state=(recorded["next_state"],),
        terminated=recorded["terminated"][:, 0].bool(),
    )
    return config, nets, bcq.Optimizers(*sgd), batch


def test_three_updates_equal_d3rlpys(recorded, monkeypatch):
    config, nets, optimizers, batch = made(recorded)
    draws = iter(recorded[f"draw/{i}"] for i in range(3 * ABOUT["updates"]))

    def replayed(*shape, **_):
        return next(draws).reshape(shape[0] if isinstance(shape[0], tuple) else shape)

    monkeypatch.setattr(bcq.torch, "randn", replayed)
    for _ in range(ABOUT["updates"]):
        bcq.bcq_update(batch, nets, optimizers, recorded["action"], config)
    assert next(draws, None) is None
    for name, net in separate(nets).items():
        moved = 0.0
        for i, parameter in enumerate(net.parameters()):
            after, before = recorded[f"after/{name}/{i}"], recorded[f"before/{name}/{i}"]
            assert torch.allclose(parameter, after, atol=1e-6, rtol=0), (name, i, (parameter - after).abs().max())
            moved = max(moved, float((after - before).abs().max()))
        assert moved > 100 * 1e-6, name  # the comparison would see a network that did not learn
