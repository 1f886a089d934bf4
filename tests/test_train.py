import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_log

from agents import DQN, checkpoint, dqn
from agents.base import resolve_device
from agents.ddpg import DDPG, Config
from agents.training import saving, train
from agents.training.callbacks import CsvRows, Evaluation, MLflow, Progress, TensorBoard, WandB, every, together
from agents.training.train import Run, fit, fit_online
from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError, StoreError
from recgym.log import InteractionLog
from recgym.users import ReplayUsers


class Counting:
    """An agent that only remembers what it was given."""

    def __init__(self):
        self.seen = []

    def update(self, batch):
        self.seen.append(batch)
        return {"loss": torch.tensor(float(len(self.seen)))}


# -- fit ---------------------------------------------------------------------------------------------------------------


def test_fit_goes_through_the_batches_epoch_after_epoch_and_reports_every_update():
    agent, told = Counting(), []
    assert fit(agent, "abc", 7, lambda step, losses: told.append((step, losses["loss"].item()))) == 7
    assert "".join(agent.seen) == "abcabca"
    assert told == [(step, float(step)) for step in range(1, 8)]


def test_fit_goes_on_from_a_step():
    agent, steps = Counting(), []
    assert fit(agent, "abc", 7, lambda step, _: steps.append(step), first_step=5) == 7
    assert steps == [6, 7]
    assert fit(agent, "abc", 7, first_step=7) == 7
    assert len(agent.seen) == 2


def test_a_report_ends_the_training():
    assert fit(Counting(), "abc", 100, lambda step, _: step == 4) == 4


def test_a_used_up_iterator_is_refused():
    with pytest.raises(ValueError, match=r"an epoch must have a batch, got none"):
        fit(Counting(), iter("abc"), 7)


def test_an_interrupted_fit_stands_at_its_next_batch(log):
    batches, expected = (FrameBatches(log, frame_size=5, batch_size=8, seed=1) for _ in range(2))
    fit(Counting(), batches, 3)
    for _ in range(3):
        next(iter(expected))
    np.testing.assert_array_equal(next(iter(batches)).items, next(iter(expected)).items)


def test_fit_trains_on_numpy_and_torch_batches_alike(log, catalog):
    def weights(device):
        agent = DDPG(catalog, frame_size=5, device="cpu")
        fit(agent, FrameBatches(log, frame_size=5, batch_size=8, device=device), 3)
        return torch.cat([parameter.flatten() for parameter in agent.nets.actor.parameters()])

    assert torch.equal(weights(None), weights("cpu"))


# -- reports -----------------------------------------------------------------------------------------------------------


def test_every_calls_at_multiples_and_at_the_last_step():
    steps = []
    report = every(3, lambda step, _: steps.append(step), last=7)
    for step in range(1, 8):
        report(step, {})
    assert steps == [3, 6, 7]


def test_together_calls_all_and_ends_if_any_says_so():
    called = []
    report = together(
        lambda step, _: called.append("a") or step == 2, lambda step, _: called.append("b"), lambda *_: False
    )
    assert [report(1, {}), report(2, {})] == [False, True]
    assert called == ["a", "b", "a", "b"]


def test_csv_rows_go_on_in_the_file_of_an_earlier_run(tmp_path):
    path = tmp_path / "new" / "losses.csv"
    CsvRows(path)(1, {"loss": torch.tensor(0.5), "value": 2})
    CsvRows(path)(2, {"loss": 0.25})
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["step", "metric", "value"], ["1", "loss", "0.5"], ["1", "value", "2.0"], ["2", "loss", "0.25"]]


def test_csv_rows_of_steps_that_were_lost_are_dropped(tmp_path):
    """A killed run had written rows after its last checkpoint, the very last one in part."""
    path = tmp_path / "losses.csv"
    rows = CsvRows(path, 0)
    for step in (2, 4, 6):
        rows(step, {"loss": step / 2, "value": step})
    with path.open("a") as file:
        file.write("8,lo")
    CsvRows(path, 4)(6, {"loss": 0.25})
    with path.open(newline="") as file:
        found = [(row["step"], row["metric"], row["value"]) for row in csv.DictReader(file)]
    kept = [("2", "loss", "1.0"), ("2", "value", "2.0"), ("4", "loss", "2.0"), ("4", "value", "4.0")]
    assert found == [*kept, ("6", "loss", "0.25")]
    before = path.stat().st_ino, path.read_bytes()
    CsvRows(path, 6)
    assert (path.stat().st_ino, path.read_bytes()) == before  # nothing to drop, nothing written
    CsvRows(path, 0)
    assert path.read_text().splitlines() == ["step,metric,value"]
    assert [found.name for found in tmp_path.iterdir()] == ["losses.csv"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_steps_and_losses_to_who_looks(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "80")
    report = Progress(4, first_step=1, refresh=2)
    for step in range(2, 5):
        report(step, {"loss": torch.tensor(0.125), "of a name too long for a line": torch.tensor(1.0)})
    shown = capsys.readouterr().err
    assert ("4/4" in shown and "loss 0.125" in shown and "too long" not in shown) if terminal else not shown


def test_tensorboard_gets_scalars(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    TensorBoard(tmp_path)(3, {"loss": torch.tensor(0.5)})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]


def test_tensorboard_shows_nothing_of_steps_that_were_lost(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    killed = TensorBoard(tmp_path)
    for step in (2, 4, 6):
        killed(step, {"loss": step})
    TensorBoard(tmp_path, first_step=4)(5, {"loss": 0.5})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 2.0), (4, 4.0), (5, 0.5)]


def test_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"TensorBoard logging needs tensorboard.*recgym\[logging\]"):
        TensorBoard(tmp_path)


def test_evaluation_ends_a_training_that_stands_still():
    values, told = iter([1.0, 3.0, 2.0, 3.0, 9.0]), []
    evaluation = Evaluation(lambda: {"hit": next(values)}, lambda step, m: told.append((step, m["hit"])), "hit", 2)
    assert fit(Counting(), "abc", 100, every(10, evaluation)) == 40
    assert told == [(10, 1.0), (20, 3.0), (30, 2.0), (40, 3.0)]
    assert evaluation.best == 3.0
    assert [step for step, _ in evaluation.history] == [10, 20, 30, 40]


def test_evaluation_without_a_metric_never_ends_a_training():
    evaluation = Evaluation(lambda: {"hit": 0.0}, patience=1)
    assert fit(Counting(), "abc", 9, every(2, evaluation)) == 9
    assert len(evaluation.history) == 4


# -- fit_online --------------------------------------------------------------------------------------------------------


def one_wish(n_users=16, n_items=8):
    """Every user likes items 0 to 3 (reward 1) and dislikes 4 to 7 (-0.8), whatever came before."""
    random = np.random.default_rng(0)
    items = np.concatenate([np.r_[random.permutation(n_items)] for _ in range(n_users)]).astype(np.int32)
    return InteractionLog(
        items=items,
        rewards=np.where(items < 4, 1.0, -0.8).astype(np.float32),
        offsets=np.arange(n_users + 1) * n_items,
        user_ids=np.arange(n_users),
        item_ids=np.arange(n_items),
        reward="scaled",
        reward_range=(-0.8, 1.0),
    )


def online_env(log, catalog, **options):
    options = {"observation": "history", "autoreset_mode": "SameStep", "horizon": 2, "frame_size": 2} | options
    return RecVectorEnv(8, users=ReplayUsers(log, frame_size=options["frame_size"]), catalog=catalog, **options)


def test_fit_online_learns_what_users_like():
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)
    env = online_env(log, catalog)
    agent = DDPG(catalog, frame_size=2, device="cpu", bc_weight=0.0, gamma=0.0, noise=0.5, mapper="inner", hidden=32)
    rewards = []
    fit_online(agent, env, 500, lambda _, m: rewards.append(m["reward"]), batch_size=64, warm_up=64)
    assert np.mean(rewards[:50]) < 0.45  # chance: as many liked items as disliked ones
    assert np.mean(rewards[-50:]) > 0.75


def test_fit_online_keeps_what_really_happened():
    """Every kept decision's next frame is the frame with the item answered, also where sessions end."""
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)
    agent = DDPG(catalog, frame_size=2, device="cpu", noise=1.0, mapper="inner", hidden=8)
    buffer = fit_online(agent, online_env(log, catalog), 9, batch_size=8, warm_up=1000)
    n = len(buffer)
    assert n == 72
    kept = {name: column[:n] for name, column in buffer.columns._asdict().items() if column is not None}
    assert (kept["action"] < 8).all()
    answered = kept["next_items"][:, -1] == kept["action"]
    expected = np.concatenate([kept["items"][:, 1:], kept["action"][:, None]], axis=1)
    np.testing.assert_array_equal(kept["next_items"][answered], expected[answered])
    np.testing.assert_array_equal(kept["next_items"][~answered], kept["items"][~answered])
    np.testing.assert_allclose(kept["reward"][answered], np.where(kept["action"] < 4, 1.0, -0.8)[answered], rtol=1e-6)
    assert answered.any()
    ends = kept["terminated"] | kept["truncated"]
    np.testing.assert_array_equal(np.flatnonzero(ends.reshape(9, 8).all(axis=1)), [1, 3, 5, 7])  # horizon 2
    starts = kept["items"].reshape(9, 8, 2)
    np.testing.assert_array_equal(starts[1], kept["next_items"].reshape(9, 8, 2)[0])  # within a session
    same = (kept["user"].reshape(9, 8)[0] == kept["user"].reshape(9, 8)[1]).all()
    assert same


def test_fit_online_is_deterministic_and_ends_when_told():
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)

    def run():
        agent = DDPG(catalog, frame_size=2, device="cpu", hidden=8, mapper="inner")
        buffer = fit_online(agent, online_env(log, catalog), 50, lambda step, _: step == 20, batch_size=8, warm_up=8)
        assert buffer.added == 20 * 8
        return torch.cat([parameter.flatten() for parameter in agent.nets.actor.parameters()])

    assert torch.equal(run(), run())


@pytest.mark.parametrize(
    "option",
    [{"observation": "frame"}, {"autoreset_mode": "NextStep"}],
    ids=lambda option: next(iter(option)),
)
def test_fit_online_refuses_environments_it_would_misread(option):
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)
    with pytest.raises(ValueError, match=r"needs an environment with observation='history', autoreset_mode='SameStep'"):
        fit_online(DDPG(catalog, frame_size=2, device="cpu"), online_env(log, catalog, **option), 1)


def test_fit_online_refuses_an_agent_of_other_items():
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)
    for other in (Catalog(np.eye(9), np.arange(9)), Catalog(catalog.embeddings, log.item_ids[::-1])):
        agent = DDPG(other, frame_size=2, device="cpu", hidden=8)
        with pytest.raises(
            DataError, match=r"must have the same items in the same order, got \d and 8 items that diff"
        ):
            fit_online(agent, online_env(log, catalog), 1)


def test_fit_online_takes_actions_of_numpy_and_torch_alike():
    log = one_wish()
    catalog = Catalog(np.vstack([np.eye(4), -np.eye(4)]), log.item_ids)

    class OfNumPy(DDPG):
        def act(self, history, *, explore=False):
            return super().act(history, explore=explore).numpy()

    def lived(agent_class):
        agent = agent_class(catalog, frame_size=2, device="cpu", hidden=8)
        return fit_online(agent, online_env(log, catalog), 12, batch_size=8, warm_up=8).columns.action

    np.testing.assert_array_equal(lived(OfNumPy), lived(DDPG))


def test_histories_of_observations_know_their_length():
    history = train.as_history({"items": np.array([[8, 8, 3], [1, 2, 3]]), "rewards": np.zeros((2, 3))}, 8)
    assert history.length.tolist() == [1, 3]


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Makes a run on the toy log, which has no name on the command line."""
    monkeypatch.setattr(train.datasets, "load", lambda name: make_log((14, 18, 9, 25, 30, 12, 16, 20)))
    options = {"batch_size": 8, "frame_size": 5, "dim": 4, "test_size": 0.25, "device": "cpu", "save_every": 4}
    options["validate_every"] = 4
    return lambda **more: Run(**options | {"folder": tmp_path / "run", "log_every": 2} | more)


def test_a_command_trains_saves_logs_and_ranks(toy, tmp_path, capsys):
    ranking = train.train_agent(DDPG, toy(steps=6), Config(hidden=8))
    assert [path.name for path in checkpoint.saved(tmp_path / "run")] == ["step-000000004", "step-000000006"]
    rows = (tmp_path / "run" / "losses.csv").read_text()
    assert "\n2,critic_loss," in rows
    assert "\n6,actor_loss," in rows
    assert len(ranking.users) == 2
    assert "hit_rate@10" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["agent"], record["config"]["hidden"]) == ("agents.ddpg:DDPG", 8)
    assert record["data"] == {"dataset": "synthetic"}
    assert record["split"] == {"test_size": 0.25, "validation_size": 0.05, "seed": 0}
    assert record["metrics"]["test"]["mrr"]["mean"] == pytest.approx(ranking.values["mrr"].mean())
    assert record["metrics"]["best on validation"]["step"] in (4, 6)
    validation = (tmp_path / "run" / "validation.csv").read_text()
    assert "\n4,mrr," in validation
    assert "\n6,mrr," in validation
    for folder in ("", "best", "step-000000004"):  # whole: they need no data
        assert saving.load(tmp_path / "run" / folder, device="cpu").catalog.dim == 4


def test_the_best_agent_is_kept_and_a_resumed_run_remembers_how_good_it_was(log, catalog, tmp_path):
    agent = DDPG(catalog, frame_size=5, device="cpu", hidden=8)
    batches, values = FrameBatches(log, frame_size=5, batch_size=8), iter([1.0, 3.0, 2.0, 2.5, 4.0])
    kept = {"metric": "hit", "patience": None, "agent": agent, "folder": tmp_path / "best"}
    fit(agent, batches, 3, Evaluation(lambda: {"hit": next(values)}, **kept))
    assert saving.load(tmp_path / "best", device="cpu").updates == 2
    fit(agent, batches, 5, Evaluation(lambda: {"hit": next(values)}, **kept), first_step=3)
    about = json.loads((tmp_path / "best" / "manifest.json").read_text())["about"]
    assert about["validation"] == {"step": 5, "hit": 4.0}
    assert saving.load(tmp_path / "best", device="cpu").updates == 5
    with pytest.raises(DataError, match=r"keeping the best agent needs agent and metric, got none; pass both"):
        Evaluation(dict, folder=tmp_path)


def test_a_command_resumes_to_the_same_end(toy, tmp_path):
    whole = train.train_agent(DDPG, toy(steps=9), Config(hidden=8))
    train.train_agent(DDPG, toy(steps=5, folder=tmp_path / "parts"), Config(hidden=8))
    resumed = train.train_agent(DDPG, toy(steps=9, folder=tmp_path / "parts", resume=True), Config(hidden=8))
    np.testing.assert_array_equal(whole.values["mrr"], resumed.values["mrr"])
    ends = [(tmp_path / name / "step-000000009" / "tensors.safetensors").read_bytes() for name in ("run", "parts")]
    assert ends[0] == ends[1]


def test_rows_after_the_last_checkpoint_of_a_killed_run_are_dropped(toy, tmp_path):
    train.train_agent(DDPG, toy(steps=5), Config(hidden=8))
    path = tmp_path / "run" / "losses.csv"
    CsvRows(path)(6, {"critic_loss": 9.0})  # as a run that was killed before it could save
    train.train_agent(DDPG, toy(steps=9, resume=True), Config(hidden=8))
    with path.open(newline="") as file:
        rows = [(int(row["step"]), row["metric"], row["value"]) for row in csv.DictReader(file)]
    assert len({row[:2] for row in rows}) == len(rows)
    assert sorted({step for step, *_ in rows}) == [2, 4, 6, 8]
    assert [step for step, *_ in rows] == sorted(step for step, *_ in rows)
    assert (6, "critic_loss", "9.0") not in rows


@pytest.mark.parametrize(("agent_class", "config"), [(DDPG, Config(hidden=8)), (DQN, dqn.Config(hidden=8, n_users=6))])
def test_held_out_users_are_nobody_the_agent_knows(toy, agent_class, config):
    named = []

    class Watched(agent_class):
        def scores(self, history):
            named.append(history.user)
            return super().scores(history)

    train.train_agent(Watched, toy(steps=1), config)
    assert named
    assert all(user is None for user in named)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"steps": 0}, r"steps must be an integer of at least 1, got 0; raise it"),
        ({"save_every": 0}, r"save_every must be an integer of at least 1, got 0; raise it"),
        ({"log_every": -1}, r"log_every must be an integer of at least 1, got -1"),
        ({"keep": 0}, r"keep must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, r"batch_size must be an integer of at least 1, got 0"),
        ({"frame_size": 0}, r"frame_size must be an integer of at least 1, got 0"),
        ({"dim": 0}, r"dim must be an integer of at least 1, got 0"),
        ({"later": 1.5}, r"later must lie in 0\.\.1, got 1\.5"),
        ({"test_size": -0.1}, r"test_size must lie in 0\.\.1, got -0\.1"),
        ({"seed": -1}, r"seed must be a whole number of at least 0"),
        ({"device": "gpu"}, r'device must be one that is here, got \'gpu\' \(.*\); use "cpu" or "auto"'),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_a_run_that_cannot_go_is_refused_before_anything_is_loaded(option, message):
    with pytest.raises(DataError, match=message):
        Run(**option)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_here_is_refused(catalog):
    for make in (
        lambda: Run(device="cuda"),
        lambda: DDPG(catalog, device="cuda"),
        lambda: DQN(catalog, device="cuda:1"),
    ):
        with pytest.raises(DataError, match=r'device must be one that is here, got \'cuda.*; use "cpu" or "auto"'):
            make()
    assert resolve_device("auto") == resolve_device(torch.device("cpu")) == torch.device("cpu")


def test_a_command_does_not_write_over_a_run(toy):
    train.train_agent(DDPG, toy(steps=4), Config(hidden=8))
    with pytest.raises(StoreError, match=r"run must be free, got a run with checkpoints; pass --resume"):
        train.train_agent(DDPG, toy(steps=4), Config(hidden=8))


def test_resuming_before_the_first_checkpoint_begins_at_the_beginning(toy):
    train.train_agent(DDPG, toy(steps=4, resume=True), Config(hidden=8))


def test_every_option_stands_in_the_help():
    command = [sys.executable, "-m", "agents.ddpg", "--help"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}
    ).stdout
    for option in ("--dataset", "--steps", "--device", "--resume", "--gamma", "--temperature", "--bc-weight"):
        assert option in shown, option


@pytest.mark.parametrize(
    ("module", "maker", "told"),
    [
        ("wandb", WandB, ({"loss": 0.5, "hit_rate@10": 0.25},)),
        ("mlflow", MLflow, ({"loss": 0.5, "hit_rate_at_10": 0.25},)),
    ],
)
def test_trackers_are_told_every_report(module, maker, told, monkeypatch):
    calls = []

    def log(*values, **options):
        calls.append((values, options["step"]))

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(init=lambda: SimpleNamespace(log=log), log_metrics=log))
    maker()(7, {"loss": torch.tensor(0.5), "hit_rate@10": 0.25})
    assert calls == [(told, 7)]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'needs {module}, got no such module; pip install "recgym\[{module}\]"'):
        maker()
