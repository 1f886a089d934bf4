"""A trained agent as ONNX and TorchScript: the same lists, for histories of any length, without recgym."""

import json

import numpy as np
import pytest
import torch
from conftest import make_catalog

import agents
import recgym
from agents.integrations import exporting
from agents.training.train import fit
from recgym.__main__ import main
from recgym.batches import FrameBatches
from recgym.commands import export_model
from recgym.errors import DataError, RecgymError

onnxruntime = pytest.importorskip("onnxruntime")
SEQUENCE = {"max_length": 6, "width": 8}
AGENTS = [
    ("REINFORCE", {"hidden": 8}),
    ("DRR", {"hidden": 8}),
    ("BCQ", {"hidden": 8}),
    ("LSTMActorCritic", {}),
    ("SequenceModel", SEQUENCE | {"core": "gru", "item_vectors": "catalog"}),
    ("SequenceTD3BC", SEQUENCE),
]


def test_formats_are_those_of_the_command():
    assert tuple(exporting.FORMATS) == export_model.FORMATS


def test_onnx_of_a_run_needs_neither_recgym_nor_torch(trained_run, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["export-model", str(trained_run), "--out", str(out), "--k", "4"]) == 0
    assert "the best ten of 1,000 of 1,000 random histories are equal" in capsys.readouterr().out
    ids = json.loads((out / "items.json").read_text())
    agent = agents.load(trained_run, device="cpu")
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    for past in (
        [("i03", 5.0)],
        [("i03", 5.0), ("i07", 2.0), ("i20", 4.5)],
        [(f"i{item:02d}", 3.0) for item in range(9)],
    ):
        items = np.array([[ids.index(item) for item, _ in past]])
        rewards = np.array([[2 * (rating - 2.5) / 5 for _, rating in past]], dtype=np.float32)
        scores, best, of_best = session.run(None, {"items": items, "rewards": rewards})
        assert [ids[item] for item in best[0]] == recgym.recommend(agent, past, 4)
        assert of_best[0] == pytest.approx(scores[0, best[0]])
    assert "`items` | int64 (B, L)" in (out / "README.md").read_text()
    assert main(["export-model", str(trained_run), "--out", str(out), "--checks", "0", "--k", "0"]) == 0  # replaced
    assert [one.name for one in onnxruntime.InferenceSession(str(out / "model.onnx")).get_outputs()] == ["scores"]


@pytest.mark.parametrize(("name", "config"), AGENTS, ids=[name for name, _ in AGENTS])
def test_agents_rank_alike_once_exported(log, catalog, tmp_path, name, config):
    agent = getattr(agents, name)(catalog, frame_size=5, device="cpu", **config)
    fit(agent, agent.batches(log, 8) if hasattr(agent, "batches") else FrameBatches(log, 5, 8), 2)
    found = exporting.export_model(agent, tmp_path / "model", "onnx", k=3, n_checks=200)
    assert found.startswith("the best ten of 200 of 200") or "equal up to rounding" in found


def test_torchscript_too(trained_run, tmp_path):
    agent = agents.load(trained_run, device="cpu")
    exporting.export_model(agent, tmp_path / "model", "torch", k=3, n_checks=100)
    loaded = torch.jit.load(str(tmp_path / "model" / "model.pt"))
    scores, best, _ = loaded(torch.tensor([[3, 7]]), torch.tensor([[1.0, -0.2]]))
    assert scores.shape == (1, 40) and not {3, 7} & set(best[0].tolist())


def test_another_ranking_is_seen(trained_run):
    agent = agents.load(trained_run, device="cpu")

    def wrong(items, rewards):
        module = exporting.Recommender(agent)
        return module(torch.from_numpy(items), torch.from_numpy(rewards * 0)).detach()

    with pytest.raises(RecgymError, match="the exported model must rank as the agent does, got other lists in"):
        exporting.compare(agent, wrong, 100)


def test_agents_that_cannot_say_why(log, catalog, trained_run, tmp_path):
    one = agents.load(trained_run, device="cpu")
    for agent, why in (
        (agents.EASE.fit(log), "must score by a network, got EASE, which counts; serve it with"),
        (agents.Popularity.fit(log), "must score by a network, got Popularity, which counts"),
        (agents.Ensemble([one, one]), "must be one agent, got Ensemble of several; export its members"),
    ):
        with pytest.raises(DataError, match=why):
            exporting.export_model(agent, tmp_path / "model")
    with pytest.raises(DataError, match="k must be between 1 and the 40 items, got 41"):
        exporting.export_model(one, tmp_path / "model", k=41)
    with pytest.raises(DataError, match="format must be one of onnx, torch, got 'pmml'"):
        exporting.export_model(one, tmp_path / "model", "pmml")
    own = agents.DDPG(make_catalog(), frame_size=5, device="cpu", nets=one.nets)
    with pytest.raises(DataError, match="must have recgym's own networks, got DDPG with others"):
        exporting.export_model(own, tmp_path / "model")
    assert not (tmp_path / "model").exists()
