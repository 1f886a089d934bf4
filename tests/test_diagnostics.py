import csv
import doctest
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

import agents
from agents.ddpg import DDPG, Config
from agents.training import diagnosis, train
from agents.training.anomaly import AnomalyDetector
from agents.training.diagnosis import diagnose, logged_values, pairwise_distances
from agents.training.diagnostics import Diagnostics
from agents.training.train import Run
from recgym.batches import FrameBatches

ALL = (
    *("coverage@5", "gini@5", "return", "q", "pairwise_euclidean", "pairwise_cosine"),
    *("nearest_euclidean", "nearest_cosine", "error_real", "error_generated", "error_distance"),
)


def decisions(n=20, **more):
    return next(iter(FrameBatches(make_log(), 5, n, gamma=0.5, **more)))


def test_doctests():
    assert doctest.testmod(diagnosis).failed == 0


# -- by hand -----------------------------------------------------------------------------------------------------------


class Pointing:
    """An agent that always does one thing."""

    device = torch.device("cpu")
    frame_size = 5

    def __init__(self, action, favourite):
        self.action, self.favourite = torch.tensor(action), favourite

    def scores(self, history):
        scores = np.zeros((len(history.items), 40))
        scores[:, self.favourite] = 1.0
        return scores

    def act(self, history, *, explore=False):
        return self.action.expand(len(history.items), *self.action.shape)

    def values_of(self, batch):
        return torch.as_tensor(2.0 * np.asarray(batch.returns) + 1.0)


def test_a_diagnosis_by_hand():
    catalog, batch = make_catalog(), decisions()
    wanted = catalog.embeddings[3] * 2.0
    agent = Pointing(wanted, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    detector = AnomalyDetector(12).eval()
    found = diagnose(agent, catalog, batch, detector, k=5)
    metrics = found.metrics
    assert set(metrics) == {*ALL, "q_return_correlation"}
    gap = np.linalg.norm(catalog.embeddings - wanted, axis=1).min()
    assert metrics["nearest_euclidean"] == pytest.approx(gap, abs=1e-5)
    assert metrics["nearest_cosine"] == pytest.approx(0.0, abs=1e-6)  # it points at item 3 exactly
    for kind in ("euclidean", "cosine"):
        assert metrics[f"pairwise_{kind}"] == pytest.approx(0.0, abs=1e-6)  # whoever asks
    assert metrics["q_return_correlation"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["q"] == pytest.approx(2 * metrics["return"] + 1, abs=1e-5)
    assert set(found.lists.ravel()) <= {*range(1, 11)} and metrics["coverage@5"] <= 0.25
    for row, seen in zip(found.lists, batch.items, strict=True):
        assert not set(row) & set(seen)  # nothing is recommended twice
    direction = torch.tensor(wanted / np.linalg.norm(wanted))[None]
    with torch.no_grad():
        assert metrics["error_generated"] == pytest.approx(detector.reconstruction_error(direction).item(), rel=1e-4)


def test_an_agent_that_draws_is_left_as_it_was():
    agent = Pointing(make_catalog().embeddings[3], [3])
    agent.generator = torch.Generator().manual_seed(4)
    agent.act = lambda history: torch.randn(len(history.items), 12, generator=agent.generator)
    before = agent.generator.get_state()
    assert diagnose(agent, make_catalog(), decisions(), None).metrics["pairwise_cosine"] > 0.5
    assert torch.equal(before, agent.generator.get_state())


def test_actions_that_are_items_have_no_distance_to_them():
    found = diagnose(Pointing(np.int64(3), [3]), make_catalog(), decisions(), AnomalyDetector(12).eval())
    assert not {name for name in found.metrics if name.startswith(("nearest", "error"))}
    assert (found.actions == make_catalog().embeddings[3]).all()


def test_pairwise_distances_equal_scipys():
    from scipy.spatial.distance import cdist

    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    others = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    for kind in ("euclidean", "cosine"):
        np.testing.assert_allclose(pairwise_distances(vectors, kind, others), cdist(vectors, others, kind), atol=1e-5)
        np.testing.assert_allclose(pairwise_distances(vectors, kind), cdist(vectors, vectors, kind), atol=1e-5)


# -- every agent -------------------------------------------------------------------------------------------------------

MADE = {
    **{name: {"hidden": 8} for name in ("DDPG", "TD3", "TD3BC", "SAC", "DQN", "REINFORCE", "LSTMActorCritic")},
    "BCQ": {},
    "DRR": {"n_users": 6},
    "SequenceModel": {},
    "SQN": {},
    "SequenceREINFORCE": {},
    "SequenceTD3BC": {},
}


@pytest.mark.parametrize("name", MADE)
def test_every_agent_is_diagnosed_and_left_as_it_was(name):
    catalog, batch = make_catalog(), decisions()
    agent = getattr(agents, name)(catalog, frame_size=5, device="cpu", **MADE[name])
    before = agent.generator.get_state()
    detector = AnomalyDetector(12).eval()
    metrics = diagnose(agent, catalog, batch, detector, k=5).metrics
    assert torch.equal(before, agent.generator.get_state())
    assert all(np.isfinite(value) for value in metrics.values())
    assert ("q" in metrics) == (name not in ("REINFORCE", "SequenceModel", "SequenceREINFORCE"))
    assert ("nearest_cosine" in metrics) == (name in ("DDPG", "TD3", "TD3BC", "SAC", "BCQ", "DRR"))


def test_values_are_those_of_the_logged_actions():
    catalog, batch = make_catalog(), decisions()
    agent = agents.DQN(catalog, frame_size=5, device="cpu", hidden=8)
    expected = agent.nets.critic(*agent.look_up(batch).frames).detach()
    rows = torch.arange(len(batch.action))
    torch.testing.assert_close(logged_values(agent, batch), expected[rows, torch.as_tensor(batch.action).long()])
    agent = DDPG(catalog, frame_size=5, device="cpu", hidden=8)
    made = agent.look_up(batch)
    torch.testing.assert_close(logged_values(agent, batch), agent.nets.critic(*made.state, made.vector).detach())
    assert logged_values(SimpleNamespace(), batch) is None


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_report_writes_rows_and_pictures(tmp_path):
    catalog, told = make_catalog(), {}
    agent = DDPG(catalog, frame_size=5, device="cpu", hidden=8)
    look = Diagnostics(agent, catalog, make_log(), tmp_path, report=told.__setitem__, n=30, k=5)
    look(4, {})
    assert not (tmp_path / "losses.png").exists()
    (tmp_path / "losses.csv").write_text("step,metric,value\n1,critic_loss,0.5\n2,critic_loss,0.25\n2,bc_loss,3\n")
    look(8, {})
    with open(tmp_path / "diagnostics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"4", "8"} and set(ALL) <= {row["metric"] for row in rows}
    assert set(told) == {4, 8} and set(ALL) <= set(told[8])
    for name in ("diagnostics.png", "losses.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("agents.training.diagnostics.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'draw with matplotlib, got no such module; pip install "recgym\[bench\]"'):
        Diagnostics(None, make_catalog(), make_log(), tmp_path)


def test_a_command_diagnoses_and_trains_as_it_would_without(monkeypatch, tmp_path):
    monkeypatch.setattr(train.datasets, "load", lambda name: make_log((14, 18, 9, 25, 30, 12, 16, 20)))
    options = {"batch_size": 8, "frame_size": 5, "dim": 4, "test_size": 0.25, "device": "cpu", "save_every": 2}
    options |= {"steps": 5, "log_every": 1}
    for diagnose_too in (False, True):
        run = Run(**options, folder=tmp_path / str(diagnose_too), diagnose=diagnose_too, tensorboard=diagnose_too)
        train.train_agent(DDPG, run, Config(hidden=8))
    ends = [tmp_path / name / "step-000000005" / "tensors.safetensors" for name in ("False", "True")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    found = {path.name for path in (tmp_path / "True").iterdir()}
    assert {"diagnostics.csv", "diagnostics.png", "losses.png"} <= found
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "True")).Reload()
    assert [event.step for event in events.Scalars("gini@10")] == [2, 4, 5]
